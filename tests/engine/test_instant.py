"""The instant learner: features kept by tiles, a classifier fitted to strokes, its answer."""

import numpy as np
import pytest
import torch

from napari_unet import UNet
from napari_unet.engine import feature_tiles, stroke_samples
from napari_unet.engine.events import TilePredicted
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.instant import InstantLearner
from napari_unet.engine.predict import assemble, predict
from napari_unet.model.head import set_head
from napari_unet.model.starter import Starter, adapted
from napari_unet.ops.errors import InputError

SHAPE = (70, 90)


@pytest.fixture
def starter():
    torch.manual_seed(0)
    return Starter("test", UNet(3, 2, 4, 2, batch_norm=True).eval(), penalty=1.0, scale=10.0)


@pytest.fixture
def learner(starter):
    return InstantLearner(starter, device="cpu")


@pytest.fixture
def image():
    """Bright left half, dark right half, a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.05, SHAPE)
    return SourceImage((np.indices(SHAPE)[1] < 45) + noise)


@pytest.fixture
def strokes():
    painted = np.zeros(SHAPE, np.uint8)
    painted[10:60, 10], painted[10:60, 80] = 2, 1
    return painted


def answer(learner, image, classes=2, **options):
    return assemble(learner.predict(image, **options), classes, SHAPE)


def test_one_stroke_a_class_is_enough_for_two_halves(learner, image, strokes):
    learner.learn([AnnotatedImage(image, strokes)], 2)
    probability = answer(learner, image)
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-5)
    left = probability[1] > 0.5
    assert left[:, :40].mean() > 0.95
    assert left[:, 50:].mean() < 0.1  # features of random weights are noisy


def test_tiles_of_any_size_give_one_answer(starter, image, strokes, monkeypatch):
    answers = []
    for inner in (16, 256):
        monkeypatch.setattr(feature_tiles, "_INNER", inner)
        learner = InstantLearner(starter, device="cpu")
        learner.learn([AnnotatedImage(image, strokes)], 2)
        answers.append(answer(learner, image))
    assert np.abs(answers[0] - answers[1]).max() < 0.05  # the features may be in bfloat16
    assert ((answers[0] > 0.5) == (answers[1] > 0.5)).mean() > 0.99


def test_only_tiles_that_touch_the_region_are_answered(learner, image, strokes, monkeypatch):
    monkeypatch.setattr(feature_tiles, "_INNER", 16)
    learner.learn([AnnotatedImage(image, strokes)], 2)
    region = (slice(0, 10), slice(0, 20))
    tiles = [e for e in learner.predict(image, region=region) if isinstance(e, TilePredicted)]
    assert [tile.inner for tile in tiles] == [
        (slice(0, 16), slice(0, 16)),
        (slice(0, 16), slice(16, 32)),
    ]


def test_features_are_computed_once(learner, image, strokes, monkeypatch):
    learner.learn([AnnotatedImage(image, strokes)], 2)
    answer(learner, image)
    monkeypatch.setattr(
        learner.look_at(image), "_maps", lambda batch: pytest.fail("computed again")
    )
    learner.learn([AnnotatedImage(image, strokes)], 2)
    answer(learner, image)


def test_little_memory_forgets_tiles_and_changes_nothing(starter, image, strokes, monkeypatch):
    monkeypatch.setattr(feature_tiles, "_INNER", 16)
    answers = []
    for kept in (1 << 30, 1):
        monkeypatch.setattr(feature_tiles, "_KEPT_BYTES", kept)
        learner = InstantLearner(starter, device="cpu")
        learner.learn([AnnotatedImage(image, strokes)], 2)
        answers.append(answer(learner, image))
    np.testing.assert_array_equal(*answers)


def test_a_class_without_strokes_is_never_the_answer(learner, image, strokes):
    learner.learn([AnnotatedImage(image, strokes)], 3)
    probability = answer(learner, image, classes=3)
    assert (probability[2] == 0).all()


def test_colour_images_are_taken(learner, strokes):
    pixels = np.random.default_rng(1).integers(0, 20, (*SHAPE, 3), dtype=np.uint8)
    pixels[:, :45, 0] += 150  # red on the left, green on the right, as bright
    pixels[:, 45:, 1] += 150
    pixels[..., 2] = 0
    image = SourceImage(pixels)
    learner.learn([AnnotatedImage(image, strokes)], 2)
    left = answer(learner, image)[1] > 0.5
    assert left[:, :40].mean() > left[:, 50:].mean() + 0.3  # features of random weights know little


def test_strokes_of_one_class_teach_nothing(learner, image, strokes):
    with pytest.raises(InputError, match="two classes"):
        learner.learn([AnnotatedImage(image, np.where(strokes == 2, 2, 0))], 2)


def test_strokes_of_another_image_are_learned_from(learner, image, strokes):
    turned = SourceImage(image.normalized[0, ::-1, ::-1].copy())
    one, other = (
        AnnotatedImage(i, np.where(strokes == k, k, 0)) for i, k in ((turned, 2), (image, 1))
    )
    learner.look_at(image)
    learner.learn([one, other], 2)  # the right of both is dark: two classes of the same looks
    dark = answer(learner, image)[1][:, 60:]
    assert 0.3 < dark.mean() < 0.7


def test_features_of_images_that_are_not_looked_at_take_no_memory(
    learner, image, strokes, monkeypatch
):
    others = [AnnotatedImage(SourceImage(image.data + 0.01 * n), strokes) for n in range(5)]
    here = AnnotatedImage(image, strokes)
    learner.look_at(image)
    learner.learn([*others, here], 2)
    expected = answer(learner, image)
    monkeypatch.setattr(stroke_samples, "_IN_MEMORY", 0)
    for each in (*others, here):  # as somebody who looks at one after the other
        learner.look_at(each.image)
        learner.learn([*others, here], 2)
    kept = {known: isinstance(each.features, torch.Tensor) for known, each in known_of(learner)}
    assert kept == {**{each.image: False for each in others}, image: True}
    computed = []
    monkeypatch.setattr(learner, "_tiles_of", computed.append)
    learner.learn([*others, here], 2)
    assert computed == []
    np.testing.assert_array_equal(answer(learner, image), expected)


def known_of(learner):
    return list(learner._samples.items())


def test_what_is_classified_is_what_would_be_predicted(learner, image, strokes):
    mask = np.zeros(SHAPE, bool)
    mask[5:8, ::7] = True
    labels = learner.classify([AnnotatedImage(image, strokes)], mask, 2)
    assert not learner.has_learned
    learner.learn([AnnotatedImage(image, strokes)], 2)
    expected = answer(learner, image).argmax(axis=0)[mask] + 1
    assert (labels == expected).mean() > 0.95


def test_a_border_between_objects_counts_for_more(learner, image, strokes):
    strokes[30, 5:20] = 1  # background across the bright half
    borders = strokes == 1
    borders[:, 40:] = False
    darkest = []
    for drawn in (None, borders):
        learner.learn([AnnotatedImage(image, strokes, drawn)], 2)
        darkest.append(answer(learner, image)[1][30, 5:20].mean())
    assert darkest[1] < darkest[0]


def test_places_are_counted_by_class_and_image(learner, image):
    painted = np.zeros(SHAPE, np.uint8)
    painted[0:5, 0:40] = 1  # five squares of 8 pixels
    painted[60, 80] = 2
    [samples] = [learner._sampled(AnnotatedImage(image, painted), 0)]
    np.testing.assert_array_equal(samples.places(3), [5, 1, 0])


def test_many_places_bring_hidden_units_and_few_do_not(learner, image, monkeypatch):
    painted = np.zeros(SHAPE, np.uint8)
    painted[::3, :40:3], painted[::3, 50::3] = 2, 1
    lesson = AnnotatedImage(image, painted)
    learner.learn([lesson], 2)
    assert learner.head.hidden is None  # some forty squares
    monkeypatch.setattr(stroke_samples, "_PLACE", 3)
    learner.learn([lesson], 2)
    assert learner.head.hidden is not None
    left = answer(learner, image)[1] > 0.5
    assert left[:, :40].mean() > 0.95
    assert left[:, 50:].mean() < 0.05


def test_what_learned_hidden_units_is_what_answers(learner, image, monkeypatch):
    monkeypatch.setattr(stroke_samples, "_PLACE", 3)
    painted = np.zeros(SHAPE, np.uint8)
    painted[::3, :40:3], painted[::3, 50::3] = 2, 1
    learner.learn([AnnotatedImage(image, painted)], 2)
    network = adapted(learner._starter.network, 1, 2)
    set_head(network, learner.head)
    same = (predict(network, image.normalized[0]) > 0.5) == (answer(learner, image) > 0.5)
    assert same.mean() > 0.98  # the features may be in bfloat16


def test_a_stroke_more_computes_its_own_features_and_changes_no_answer(
    learner, starter, image, strokes, monkeypatch
):
    asked = []
    under = feature_tiles.FeatureTiles.under

    def counted(tiles, rows, columns):
        asked.append(len(rows))
        return under(tiles, rows, columns)

    monkeypatch.setattr(feature_tiles.FeatureTiles, "under", counted)
    more = strokes.copy()
    more[5, 60:70] = 1  # ten pixels, before those of its class and among the others' columns
    more[12, 10] = 0  # and one that was taken back
    for painted in (strokes, more, strokes):
        learner.learn([AnnotatedImage(image, painted)], 2)
        fresh = InstantLearner(starter, device="cpu")
        fresh.learn([AnnotatedImage(image, painted)], 2)
        np.testing.assert_array_equal(answer(learner, image), answer(fresh, image))
    assert asked[::2] == [100, 10, 1]
