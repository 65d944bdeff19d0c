"""Strokes as they should not be: both speeds answer with finite probabilities, or say the cure."""

import numpy as np
import pytest

from napari_unet import Segmenter
from napari_unet.engine.answer_request import AnswerRequest
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.predict import assemble
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.ops.errors import InputError

SHAPE = (64, 80)
CONFIG = FinetuneConfig(patch_size=16, precision="fp32")


def both_speeds(segmenter, image, strokes, others=()):
    """What is answered at once and after two steps; both must be probabilities."""
    segmenter.set_image(image)
    segmenter.annotate(strokes)
    request = AnswerRequest(segmenter.image, strokes, others=others)
    events = segmenter.answer_job(request)
    first = assemble(events, segmenter.classes, strokes.shape)
    segmenter.fine_tune(steps=2)
    answers = first, segmenter.predict()
    for probability in answers:
        assert np.isfinite(probability).all()
        np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-3)
    return answers


@pytest.fixture
def image():
    noise = np.random.default_rng(0).normal(0, 0.05, SHAPE)
    return (np.indices(SHAPE)[1] < 40) + noise


@pytest.fixture
def segmenter():
    return Segmenter(classes=3, config=CONFIG)


def lines():
    """A line of background and one of the first class."""
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[10:50, 60], strokes[10:50, 10] = 1, 2
    return strokes


def test_two_annotated_pixels_are_enough(segmenter, image):
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[30, 60], strokes[30, 10], strokes[31, 10] = 1, 2, 2
    for probability in both_speeds(segmenter, image, strokes):
        assert probability[1, 20:40, 5:15].mean() > probability[1, 20:40, 55:65].mean()


def test_nearly_everything_annotated(segmenter, image):
    strokes = np.where(np.indices(SHAPE)[1] < 40, 2, 1).astype(np.uint8)
    strokes[np.random.default_rng(1).random(SHAPE) < 0.1] = 0
    for probability in both_speeds(segmenter, image, strokes):
        assert (probability[1, :, :36] > 0.5).mean() > 0.95


@pytest.mark.parametrize("value", [0.0, 65535.0])
def test_strokes_on_an_image_without_any_contrast(segmenter, value):
    both_speeds(segmenter, np.full(SHAPE, value), lines())


def test_strokes_on_nothing_but_nan_say_what_to_do(segmenter):
    with pytest.raises(InputError, match="nan_to_num"):
        both_speeds(segmenter, np.full(SHAPE, np.nan), lines())


def test_strokes_on_saturated_and_on_empty_regions(segmenter, image):
    image = np.where(image > 0.5, 255, 0).astype(np.uint8)
    for probability in both_speeds(segmenter, image, lines()):
        assert (probability[1, :, 2:30] > 0.5).mean() > 0.9


def test_strokes_of_several_images_that_contradict_each_other(segmenter, image):
    swapped = np.choose(lines(), [0, 2, 1]).astype(np.uint8)
    others = (AnnotatedImage(SourceImage(image.copy()), lines()),)
    at_once, _ = both_speeds(segmenter, image, swapped, others)
    assert 0.2 < at_once[1, 10:50, 10].mean() < 0.8  # what is both is neither for certain


def test_one_class_only_says_what_to_do(segmenter, image):
    segmenter.set_image(image)
    with pytest.raises(InputError, match="paint a stroke of label 1 too"):
        segmenter.annotate(np.where(lines() == 2, 2, 0))


def test_a_class_that_appears_later_and_goes_again(segmenter, image):
    image[40:, :] += 3
    both_speeds(segmenter, image, lines())
    more = lines()
    more[55, 5:75] = 3
    at_once, fine_tuned = both_speeds(segmenter, image, more)
    assert at_once[2, 50:].mean() > 0.5
    assert fine_tuned[2, 50:].mean() > 0.5
    at_once, _ = both_speeds(segmenter, image, lines())
    assert at_once[2].max() == 0


def test_an_image_that_is_much_brighter_than_the_one_before(segmenter, image):
    both_speeds(segmenter, image, lines())
    segmenter.set_image(image * 1e4 + 1e6)
    brighter = segmenter.predict()
    assert (brighter[1, :, 2:30] > 0.5).mean() > 0.9
    assert (brighter[1, :, 50:] > 0.5).mean() < 0.1
