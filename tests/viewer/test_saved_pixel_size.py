"""A model that learned in the window says in its file how large the pixels were."""

import pytest

from napari_unet import UNet, save_model
from napari_unet.engine.usage import LearnedFrom, Usage, load_usage
from napari_unet.viewer import controller as sessions
from napari_unet.viewer.predict_widget import PredictWidget

LEARNED = LearnedFrom(pixel_size=(2.0, 2.0), unit="µm")


def save(session, qtbot, path):
    session.network.save(path)
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    return load_usage(path).learned_from


def test_the_pixel_size_of_the_layer_goes_into_the_model(session, qtbot, tmp_path):
    layer = session.layers.image
    layer.scale, layer.units = (0.5, 0.25), ("um", "um")
    session.learn(seconds=0.2)
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    learned = save(session, qtbot, tmp_path / "m.safetensors")
    assert learned.pixel_size == pytest.approx((0.5, 0.25))
    assert learned.unit == "µm"


def test_a_layer_in_pixels_says_nothing(session, qtbot, tmp_path):
    session.learn(seconds=0.2)
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    assert save(session, qtbot, tmp_path / "m.safetensors").pixel_size is None


def test_a_network_from_a_file_keeps_its_own(session, qtbot, tmp_path):
    layer = session.layers.image
    layer.scale, layer.units = (0.5, 0.5), ("um", "um")
    session.learn(seconds=0.2)
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    save(session, qtbot, tmp_path / "first.safetensors")
    layer.scale = (2.0, 2.0)
    session.network.load(tmp_path / "first.safetensors")
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    assert save(session, qtbot, tmp_path / "again.safetensors").pixel_size == (0.5, 0.5)


def test_the_predict_dock_tells_of_another_pixel_size(session, qtbot, tmp_path, monkeypatch):
    monkeypatch.setitem(sessions._sessions, session.viewer, session)
    dock = PredictWidget(session.viewer)
    qtbot.addWidget(dock)
    layer = session.layers.image
    layer.scale, layer.units = (0.5, 0.5), ("um", "um")
    model = UNet(1, 2, base_channels=4, depth=1)
    save_model(model, tmp_path / "m.safetensors", Usage(learned_from=LEARNED).to_dict())
    session.network.load(tmp_path / "m.safetensors")
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    dock.refresh()
    assert "0.5 µm" in dock.description.text()
    assert "learned on pixels of 2 µm" in dock.description.text()
    layer.scale = (1.9, 1.9)
    dock.refresh()
    assert "learned on" not in dock.description.text()
