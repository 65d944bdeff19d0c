from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import make_unet

import napari_unet
from napari_unet import Segmenter, load_model, save_model
from napari_unet.engine.errors import NotReady
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.ops.errors import InputError

QUICK = FinetuneConfig(patch_size=20, precision="fp32")


def test_from_image_to_probability(two_halves):
    image, annotations = two_halves
    eager = replace(QUICK, learning_rate=5e-3)
    segmenter = Segmenter(make_unet(batch_norm=True, base_channels=8), config=eager)
    segmenter.set_image(image)
    segmenter.annotate(annotations)
    finished, score = segmenter.fine_tune(steps=60)
    probability = segmenter.predict()
    assert finished.steps == 60
    assert score.dice > 0.9
    assert probability.shape == (2, *image.shape)
    assert probability.dtype == np.float32
    assert (probability[1, :, 45:] > 0.5).mean() > 0.95


def test_the_default_network_fits_the_image():
    segmenter = Segmenter(classes=3)
    segmenter.set_image(np.zeros((20, 20, 3), np.uint8))
    assert segmenter.model.config.in_channels == 3
    assert segmenter.model.config.classes == 3
    segmenter.set_image(np.zeros((20, 20), np.uint8))
    assert segmenter.model.config.in_channels == 1


def test_the_same_seed_gives_the_same_network():
    networks = []
    for _ in range(2):
        segmenter = Segmenter(seed=3)
        segmenter.set_image(np.zeros((20, 20)))
        networks.append(segmenter.model.state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize(
    ("call", "cure"),
    [
        (lambda s: s.annotate(np.ones((4, 4), int)), "set_image"),
        (lambda s: s.fine_tune(seconds=1), "set_image"),
        (lambda s: s.predict(), "set_image"),
        (lambda s: s.model, "set_image"),
        (lambda s: (s.set_image(np.zeros((9, 9))), s.fine_tune(seconds=1)), "annotate"),
    ],
)
def test_the_wrong_order_is_an_error_that_says_the_cure(call, cure):
    with pytest.raises(NotReady, match=cure):
        call(Segmenter())


def test_a_budget_must_be_given(two_halves):
    image, annotations = two_halves
    segmenter = Segmenter(make_unet())
    segmenter.set_image(image)
    segmenter.annotate(annotations)
    with pytest.raises(InputError, match="seconds"):
        segmenter.fine_tune()


@pytest.mark.parametrize("classes", [0, 1, 17])
def test_a_number_of_classes_out_of_range_is_refused(classes):
    with pytest.raises(InputError, match="2 to 16"):
        Segmenter(classes=classes)


def test_a_model_that_has_learned_is_not_thrown_away(two_halves):
    image, _ = two_halves
    segmenter = Segmenter(make_unet(), config=QUICK)
    segmenter.set_image(image)
    with pytest.raises(InputError, match="grey"):
        segmenter.set_image(np.zeros((20, 20, 3)))
    assert segmenter.image.shape == image.shape


def test_changed_settings_go_on_from_the_same_weights(two_halves):
    image, annotations = two_halves
    segmenter = Segmenter(make_unet(), config=QUICK)
    segmenter.set_image(image)
    segmenter.annotate(annotations)
    segmenter.fine_tune(steps=2)
    before = segmenter.model.state_dict()
    segmenter.config = replace(QUICK, patch_size=12, optimizer="sgd", learning_rate=1e-9)
    segmenter.fine_tune(steps=1)
    for name, value in segmenter.model.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=1e-6)


def test_a_saved_model_predicts_the_same(two_halves, tmp_path):
    segmenter = Segmenter(make_unet(seed=5))
    segmenter.set_image(two_halves[0])
    path = save_model(segmenter.model, tmp_path / "model.safetensors")
    again = Segmenter(path)
    again.set_image(two_halves[0])
    np.testing.assert_array_equal(segmenter.predict(), again.predict())
    assert load_model(path).config == segmenter.model.config


def test_a_new_image_of_another_shape_has_no_annotations(two_halves):
    image, annotations = two_halves
    segmenter = Segmenter(make_unet())
    segmenter.set_image(image)
    segmenter.annotate(annotations)
    segmenter.set_image(image[:32])
    with pytest.raises(NotReady, match="annotate"):
        segmenter.fine_tune(steps=1)


def bundled_halves(two_halves, **options):
    segmenter = Segmenter(classes=2, **options)
    segmenter.set_image(two_halves[0])
    return segmenter


def test_strokes_are_answered_before_anything_is_fine_tuned(two_halves):
    segmenter = bundled_halves(two_halves)
    assert segmenter.answers_at_once
    assert not segmenter.has_learned
    segmenter.annotate(two_halves[1])
    probability = segmenter.predict()
    bright = probability[1] > 0.5
    assert bright[:, 44:].mean() > 0.95
    assert bright[:, :36].mean() < 0.05
    assert segmenter.speaker == "at once"
    assert not segmenter.is_fine_tuned


def test_fine_tuning_begins_with_what_was_answered(two_halves):
    """Two classes that are bright and dark are told apart before the first step."""
    segmenter = bundled_halves(two_halves, config=replace(QUICK, learning_rate=1e-9))
    segmenter.annotate(two_halves[1])
    _, score = segmenter.fine_tune(steps=1)
    assert score.dice > 0.95
    assert score.at_once > 0.95


def many_strokes(two_halves):
    """Fifteen strokes of each class."""
    painted = np.zeros(two_halves[0].shape, np.uint8)
    painted[2:62:4, 5:25] = 1
    painted[2:62:4, 50:70] = 2
    return painted


def test_with_few_strokes_what_was_answered_at_once_speaks(two_halves):
    segmenter = bundled_halves(two_halves, config=QUICK)
    segmenter.annotate(two_halves[1])
    segmenter.fine_tune(steps=3)
    assert segmenter.is_fine_tuned
    assert segmenter.speaker == "at once"


def test_with_many_strokes_the_better_one_speaks(two_halves):
    segmenter = bundled_halves(two_halves, config=replace(QUICK, learning_rate=1e-9))
    segmenter.annotate(many_strokes(two_halves))
    _, score = segmenter.fine_tune(steps=1)
    assert score.strokes == 3
    assert score.dice == score.at_once  # it begins with that answer
    assert segmenter.speaker == "at once"


def test_without_a_starter_nothing_is_known_before_it_is_fine_tuned(two_halves):
    segmenter = bundled_halves(two_halves, starter=None)
    segmenter.annotate(two_halves[1])
    assert not segmenter.answers_at_once
    segmenter.predict()
    assert not segmenter.has_learned


def test_strokes_on_earlier_images_are_learned_from(two_halves):
    image, annotations = two_halves
    segmenter = bundled_halves(two_halves)
    segmenter.annotate(annotations)
    segmenter.set_image(image[:, ::-1])
    assert segmenter.annotations is None
    bright = segmenter.predict()[1] > 0.5
    assert bright[:, :36].mean() > 0.9
    assert len(segmenter.annotated_images) == 1
    segmenter.start_anew()
    assert segmenter.annotated_images == ()


def test_images_of_other_channels_are_answered_anew(two_halves):
    image, annotations = two_halves
    segmenter = bundled_halves(two_halves)
    segmenter.annotate(annotations)
    segmenter.predict()
    segmenter.set_image(np.stack([image, image, 1 - image], axis=2))
    segmenter.annotate(annotations)
    assert segmenter.predict().shape == (2, 64, 80)


def test_a_model_that_is_no_starter_is_refused(two_halves, tmp_path):
    path = save_model(make_unet(), tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="no starter"):
        Segmenter(starter=path)


def test_the_public_names_are_there():
    for name in napari_unet.__all__:
        assert getattr(napari_unet, name) is not None
    with pytest.raises(AttributeError):
        napari_unet.nonsense  # noqa: B018
