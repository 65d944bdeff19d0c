"""Where to paint next, in the window's session."""

import numpy as np
import pytest

from napari_unet.engine.events import TilePredicted
from napari_unet.viewer.guidance_panel import GuidancePanel

WHOLE = np.s_[0:64, 0:80]


@pytest.fixture
def predicted(session):
    """The session with a prediction that is certain but for the lower right corner."""
    second = np.full((64, 80), 0.99, np.float32)
    second[48:, 60:] = 0.5
    session.layers.results.show_tile(TilePredicted(WHOLE, np.stack([1 - second, second]), 1, 1))
    return session


def found(session):
    return session.guidance.suggested is not None and session.guidance.current is not None


def test_without_a_prediction_the_button_says_what_to_do(session):
    panel = GuidancePanel(session.guidance, session.layers)
    assert not panel.next.isEnabled()
    assert "Predict first" in panel.next.toolTip()
    session.guidance.next()
    assert session.guidance.suggested is None


def test_next_moves_the_view_to_the_uncertain_region_and_on(qtbot, predicted):
    panel = GuidancePanel(predicted.guidance, predicted.layers)
    zoom = predicted.viewer.scene.camera.zoom
    predicted.guidance.next()
    qtbot.waitUntil(lambda: found(predicted))
    box = predicted.guidance.suggested.regions[0].box
    row, column = predicted.viewer.scene.camera.center[-2:]
    assert box[0].start <= row < box[0].stop
    assert box[1].start <= column < box[1].stop
    assert predicted.viewer.scene.camera.zoom != zoom
    assert panel.regions.count() == len(predicted.guidance.suggested.regions)
    assert "expected wrong" in panel.regions.item(0).text()
    first = predicted.guidance.current
    predicted.guidance.next()
    count = len(predicted.guidance.suggested.regions)
    assert predicted.guidance.current == (first + 1) % count


def test_a_certain_prediction_needs_no_more_strokes(qtbot, session):
    sure = np.stack([np.full((64, 80), 0.999), np.full((64, 80), 0.001)]).astype(np.float32)
    session.layers.results.show_tile(TilePredicted(WHOLE, sure, 1, 1))
    panel = GuidancePanel(session.guidance, session.layers)
    session.guidance.next()
    qtbot.waitUntil(lambda: found(session))
    assert "not expected to change much" in panel.summary.text()


def test_another_image_forgets_the_regions(qtbot, predicted):
    predicted.guidance.next()
    qtbot.waitUntil(lambda: found(predicted))
    predicted.layers.set_image(predicted.viewer.add_image(np.zeros((30, 30))))
    assert predicted.guidance.suggested is None


def test_the_uncertainty_is_a_layer_that_follows_the_prediction(predicted):
    panel = GuidancePanel(predicted.guidance, predicted.layers)
    panel.uncertainty.setChecked(True)
    layer = predicted.viewer.layers["halves: uncertainty"]
    assert layer.data[60, 70] == pytest.approx(1)
    assert layer.data[5, 5] == pytest.approx(0.02, abs=1e-3)
    sure = np.stack([np.zeros((64, 80)), np.ones((64, 80))]).astype(np.float32)
    predicted.layers.results.show_tile(TilePredicted(WHOLE, sure, 1, 1))
    assert layer.data.max() == 0
    panel.uncertainty.setChecked(False)
    assert layer not in predicted.viewer.layers
