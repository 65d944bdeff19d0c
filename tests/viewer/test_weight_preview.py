import numpy as np
import pytest

from napari_unet.engine.results import WeightSettings
from napari_unet.ops.weight_map import annotation_weights, weight_map
from napari_unet.viewer.lane import JobLane
from napari_unet.viewer.weight_preview import WeightPreview


@pytest.fixture
def cells():
    """Two cells with a gap of three pixels."""
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 8:25], labels[10:30, 28:50] = 1, 2
    return labels


@pytest.fixture
def preview(qapp, model_viewer):
    lane = JobLane()
    preview = WeightPreview(model_viewer, lane)
    yield preview
    preview.hide()
    assert lane.close(timeout=10)


def shown(preview, viewer, qtbot):
    with qtbot.waitSignal(preview.computed, timeout=10_000):
        pass
    return viewer.layers["Labels: weight map"].data


def test_the_layer_is_the_weight_map(preview, model_viewer, cells, qtbot):
    preview.show(model_viewer.add_labels(cells, name="Labels"), WeightSettings())
    np.testing.assert_allclose(shown(preview, model_viewer, qtbot), weight_map(cells))


def test_it_follows_the_sliders(preview, model_viewer, cells, qtbot):
    layer = model_viewer.add_labels(cells, name="Labels")
    preview.show(layer, WeightSettings())
    shown(preview, model_viewer, qtbot)
    preview.show(layer, WeightSettings(w0=3, sigma=8, balance=0.5))
    expected = weight_map(cells, 3, 8, balance=0.5)
    np.testing.assert_allclose(shown(preview, model_viewer, qtbot), expected)


def test_it_follows_the_brush_and_its_undo(preview, model_viewer, cells, qtbot):
    layer = model_viewer.add_labels(cells.copy(), name="Labels")
    preview.show(layer, WeightSettings())
    shown(preview, model_viewer, qtbot)
    layer.paint((5, 5), 3)
    np.testing.assert_allclose(shown(preview, model_viewer, qtbot), weight_map(layer.data))
    layer.undo()
    np.testing.assert_allclose(shown(preview, model_viewer, qtbot), weight_map(cells))


def test_strokes_are_weighed_as_strokes(preview, model_viewer, cells, qtbot):
    layer = model_viewer.add_labels(cells, name="Labels")
    preview.show(layer, WeightSettings(kind="annotations"))
    np.testing.assert_allclose(shown(preview, model_viewer, qtbot), annotation_weights(cells))


def test_hiding_takes_the_layer_away_and_it_stays_away(preview, model_viewer, cells, qtbot):
    layer = model_viewer.add_labels(cells, name="Labels")
    preview.show(layer, WeightSettings())
    shown(preview, model_viewer, qtbot)
    preview.hide()
    layer.paint((5, 5), 3)
    qtbot.wait(200)
    assert [layer.name for layer in model_viewer.layers] == ["Labels"]


def test_labels_that_cannot_be_weighed_are_told(preview, model_viewer, cells, qtbot):
    layer = model_viewer.add_labels(-cells, name="Labels")
    with qtbot.waitSignal(preview.failed, timeout=10_000) as told:
        preview.show(layer, WeightSettings())
    assert "negative" in told.args[0]
