"""A network that looks twice, in every job: at once, fine-tuned, saved, exported."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import make_unet

from napari_unet import Segmenter, UNet, save_model
from napari_unet.engine import feature_tiles
from napari_unet.engine.beginning import Beginning
from napari_unet.engine.exchange.export import ExportRequest, export_model
from napari_unet.engine.exchange.foreign import predict_foreign
from napari_unet.engine.exchange.graph import graph_axes
from napari_unet.engine.finetune import FinetuneRequest
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.instant import InstantLearner
from napari_unet.engine.learning_network import LearningNetwork
from napari_unet.engine.plan import choose_plan
from napari_unet.engine.predict import PredictRequest, assemble, predict
from napari_unet.engine.stroke_patches import StrokePatches
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.model.augment import AugmentConfig
from napari_unet.model.config import SECOND_LOOK_SCALE
from napari_unet.model.head import set_head
from napari_unet.model.starter import Starter, adapted
from napari_unet.model.zoo.container import open_container
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.errors import InputError

SHAPE = (90, 75)
CONFIG = FinetuneConfig(precision="fp32", patch_size=32, batch=2)


def starter():
    return Starter("test", make_unet(in_channels=3, depth=3, batch_norm=True), 1.0, 10.0)


@pytest.fixture
def picture():
    """Noise that is coarse on the left and fine on the right."""
    rng = np.random.default_rng(0)
    picture = rng.random(SHAPE)
    picture[:, :40] = np.kron(rng.random((18, 8)), np.ones((5, 5)))
    return picture


@pytest.fixture
def image(picture):
    return SourceImage(picture)


@pytest.fixture
def strokes():
    painted = np.zeros(SHAPE, np.uint8)
    painted[5:80, 10], painted[5:80, 65] = 2, 1
    return painted


@pytest.fixture
def learner(image, strokes, monkeypatch):
    """What it learned, from features in float32 on every machine."""
    monkeypatch.setattr(
        feature_tiles,
        "choose_plan",
        lambda config, *_: choose_plan(config, "predict", "fp32", "cpu"),
    )
    learner = InstantLearner(starter(), "cpu")
    learner.learn([AnnotatedImage(image, strokes)], 2)
    return learner


def test_what_answers_at_once_is_a_network_in_tiles_of_any_size(learner, image, picture):
    network = adapted(starter().network, 1, 2)
    assert network.config.second_look
    set_head(network, learner.head)
    at_once = assemble(learner.predict(image), 2, SHAPE)
    assert at_once.std() > 0.05  # an answer that could be missed
    for tile_size in (None, network.config.geometry.input_size(32)):
        found = predict(network, picture, tile_size=tile_size, precision="fp32")
        np.testing.assert_allclose(found, at_once, atol=1e-3)


def test_a_patch_brings_its_second_look_along():
    """Of grey values that rise evenly, it shows the same middle, four times as steep."""
    network = adapted(starter().network, 1, 2)
    ramp = np.indices((600, 600)).sum(axis=0, dtype=np.float32)
    strokes = np.zeros(ramp.shape, np.uint8)
    strokes[290:310, 295], strokes[290:310, 305] = 1, 2
    config = replace(CONFIG, augment=AugmentConfig.none())
    request = FinetuneRequest(SourceImage(ramp), strokes, steps=1)
    patch = StrokePatches(Trainer(network, config), request).draw()
    assert patch.image.shape[2:] == (network.config.looks[0].input_size(32),) * 2
    side = network.config.geometry.input_size(32) // SECOND_LOOK_SCALE
    assert patch.smaller.shape[2:] == (side,) * 2
    torch.testing.assert_close(patch.smaller.mean(dim=(2, 3)), patch.image.mean(dim=(2, 3)))
    torch.testing.assert_close(
        patch.smaller.diff(dim=2).mean(), SECOND_LOOK_SCALE * patch.image.diff(dim=2).mean()
    )


def test_it_is_fine_tuned_and_goes_on_from_a_file(image, strokes, tmp_path):
    segmenter = Segmenter(starter=starter(), config=CONFIG).set_image(image)
    segmenter.annotate(strokes)
    finished, _ = segmenter.fine_tune(steps=3)
    assert finished.steps == 3
    path = save_model(segmenter.model, tmp_path / "model.safetensors")
    again = Segmenter(path, config=CONFIG).set_image(image)
    again.annotate(strokes)
    assert again.model.config.second_look
    assert again.fine_tune(steps=2)[0].steps == 2


def test_a_training_from_before_goes_on_with_one_look(image, strokes):
    """A project holds its tensors alone; the network is made anew."""
    once = adapted(starter().network, 1, 2, second_look=False)
    state = Trainer(once, CONFIG, settled=True).state()
    network = LearningNetwork(Beginning(2, starter()))
    network.prepare(image)
    assert network.model.config.second_look
    network.go_on(state, 7, "network", CONFIG)
    assert not network.model.config.second_look
    assert network.speaking_model().config == once.config
    network.learn_at_once([AnnotatedImage(image, strokes)])  # which still looks twice
    network.speaker = "at once"
    assert network.speaking_model().config.second_look


def test_a_training_of_another_network_is_still_refused(image):
    other = UNet(1, 2, 4, 3, batch_norm=True, hypercolumns=True, hidden=8)
    network = LearningNetwork(Beginning(2, starter()))
    network.prepare(image)
    with pytest.raises(InputError, match="another training"):
        network.go_on(Trainer(other, CONFIG).state(), 7, "network", CONFIG)


def test_its_package_gives_our_answer_in_tiles(learner, image, picture, tmp_path):
    pytest.importorskip("onnxruntime")
    network = adapted(starter().network, 1, 2)
    set_head(network, learner.head)
    path = tmp_path / "package.zip"
    list(export_model(ExportRequest(network, path)))
    foreign = ForeignModel(open_container(path), isolated=False)
    request = PredictRequest(image, tile_size=graph_axes(network.config)[0].smallest)
    found = assemble(predict_foreign(foreign, request), 2, SHAPE)
    expected = predict(network, picture, precision="fp32")
    np.testing.assert_allclose(found, expected, atol=1e-4)
