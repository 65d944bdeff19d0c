"""Layers whose channels come last: rows are rows again, and the model sees the channels."""

import dask.array as da
import numpy as np
import pytest
import torch
from qtpy.QtWidgets import QComboBox
from test_controller import wait_idle

from napari_unet import UNet, predict, save_model
from napari_unet.viewer import controller as sessions
from napari_unet.viewer.actions import Action
from napari_unet.viewer.channels_last import has_channels_last
from napari_unet.viewer.predict_widget import PredictWidget


def noise(*shape):
    return np.random.default_rng(0).random(shape).astype(np.float32)


def saved(tmp_path, channels):
    torch.manual_seed(0)
    model = UNet(channels, base_channels=2, depth=2).eval()
    return model, save_model(model, tmp_path / "model.safetensors")


@pytest.mark.parametrize("wrapped", [np.asarray, da.asarray])
def test_what_can_only_be_channels_comes_to_the_front(session, qtbot, tmp_path, wrapped):
    model, path = saved(tmp_path, 4)
    image = noise(40, 50, 4)
    layer = session.viewer.add_image(wrapped(image), name="cells", rgb=False, scale=(0.5, 0.25, 3))
    session.layers.set_image(layer)
    assert layer.data.shape == (4, 40, 50)
    np.testing.assert_array_equal(layer.scale, (3, 0.5, 0.25))
    assert layer.axis_labels[0] == "channel"
    session.network.load(path)
    wait_idle(session, qtbot)
    assert session.why_not(Action.PREDICT) is None
    session.predict(precision="fp32")
    wait_idle(session, qtbot)
    found = session.layers.results.everything.probability
    np.testing.assert_allclose(found, predict(model, image, precision="fp32"), atol=1e-5)
    assert session.viewer.layers["cells: classes"].data.shape == (40, 50)


def test_all_levels_of_a_pyramid_are_turned(session):
    levels = [noise(80, 96, 2), noise(40, 48, 2)]
    layer = session.viewer.add_image(levels, multiscale=True, rgb=False, name="cells")
    session.layers.set_image(layer)
    assert [level.shape for level in layer.data] == [(2, 80, 96), (2, 40, 48)]


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((20, 30, 5), {}, False),  # as well a narrow stack
        ((20, 30, 5), {"axis_labels": ("y", "x", "c")}, True),
        ((40, 50, 4), {"axis_labels": ("z", "y", "x")}, False),
        ((40, 50, 4), {"rotate": 30}, False),
        ((40, 50, 3), {"rgb": True}, False),
        ((5, 40, 50), {}, False),
    ],
)
def test_only_what_is_known_is_turned(session, shape, options, expected):
    layer = session.viewer.add_image(noise(*shape), **{"rgb": False, **options})
    assert has_channels_last(layer) is expected


def test_what_may_be_either_is_asked_in_the_dock(session, qtbot, tmp_path, monkeypatch):
    monkeypatch.setitem(sessions._sessions, session.viewer, session)
    model, path = saved(tmp_path, 5)
    image = noise(20, 30, 5)
    layer = session.viewer.add_image(image, name="cells")
    session.layers.set_image(layer)
    assert layer.data.shape == (20, 30, 5)
    dock = PredictWidget(session.viewer)
    qtbot.addWidget(dock)
    session.network.load(path)
    wait_idle(session, qtbot)
    assert "choose it as the channel axis" in session.why_not(Action.PREDICT)
    field: QComboBox = dock.channels.axis
    number = field.findData(-1)
    field.setCurrentIndex(number)
    field.activated.emit(number)
    assert layer.data.shape == (5, 20, 30)
    assert session.why_not(Action.PREDICT) is None
    session.predict(precision="fp32")
    wait_idle(session, qtbot)
    found = session.layers.results.everything.probability
    np.testing.assert_allclose(found, predict(model, image, precision="fp32"), atol=1e-5)
