"""Results become labels of the OME-Zarr that is on screen."""

import numpy as np
import pytest
from qtpy.QtWidgets import QInputDialog, QMessageBox

from napari_unet.engine.images.axes import Axis
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.images.zarr_writing import OmeZarrWriter
from napari_unet.viewer import controller as sessions
from napari_unet.viewer.batch_layers import open_with_results
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.opening import image_layers
from napari_unet.viewer.predict_widget import PredictWidget
from napari_unet.viewer.results import find_objects

pytest.importorskip("zarr")

AXES = (Axis("z", 2, 2.0, "µm"), Axis("y", 40, 0.5, "µm"), Axis("x", 48, 0.5, "µm"))


@pytest.fixture
def path(tmp_path):
    writer = OmeZarrWriter(tmp_path / "cells.ome.zarr", AXES, np.uint8)
    for plane in range(2):
        writer.write((plane,), np.random.default_rng(plane).integers(0, 255, (40, 48), np.uint8))
    return writer.finish()


@pytest.fixture
def dock(make_napari_viewer, segmenter, monkeypatch, path, qtbot):
    viewer = make_napari_viewer()
    session = SegmentationController(viewer, segmenter)
    monkeypatch.setitem(sessions._sessions, viewer, session)
    for data, keywords in image_layers(path):
        viewer.add_image(data, **keywords)
    dock = PredictWidget(viewer)
    qtbot.addWidget(dock)
    yield dock
    session.close()


def predict_all(dock, qtbot):
    session = dock.controller
    segmenter = session.segmenter
    segmenter.use_model(segmenter.model)
    session.predict(all_planes=True)
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    dock.refresh()


def answer(monkeypatch, *names, replace=True):
    """Give these names when asked, then leave; return what was asked."""
    asked, left = [], list(names)

    def text(_parent, _title, question, *_rest):
        asked.append(question)
        return (left.pop(0), True) if left else ("", False)

    def question(_parent, _title, words):
        asked.append(words)
        buttons = QMessageBox.StandardButton
        return buttons.Yes if replace else buttons.No

    monkeypatch.setattr(QInputDialog, "getText", text)
    monkeypatch.setattr(QMessageBox, "question", question)
    return asked


def press(dock, qtbot):
    dock.save_into.click()
    qtbot.waitUntil(lambda: not dock.controller.lane.is_busy(), timeout=20_000)


def planes_of(path, name):
    with open_image(path / "labels" / name) as image:
        return np.stack([image.read_plane((plane,))[0] for plane in range(2)])


def test_objects_and_classes_go_into_the_image(dock, path, qtbot, monkeypatch):
    assert not dock.save_into.isHidden()
    assert not dock.save_into.isEnabled()
    predict_all(dock, qtbot)
    find_objects(dock.controller, dock.object_settings.settings())
    qtbot.waitUntil(lambda: not dock.controller.lane.is_busy(), timeout=20_000)
    asked = answer(monkeypatch, "a/b", "cells")
    press(dock, qtbot)
    assert "cannot be called 'a/b'" in asked[1]
    results = dock.controller.layers.results
    classes = results.everything.probability.argmax(axis=0) + 1
    np.testing.assert_array_equal(planes_of(path, "cells_classes"), classes)
    np.testing.assert_array_equal(planes_of(path, "cells"), results.instances)


def test_what_is_there_is_kept_unless_the_user_says_so(dock, path, qtbot, monkeypatch):
    predict_all(dock, qtbot)
    answer(monkeypatch, "cells")
    press(dock, qtbot)
    first = planes_of(path, "cells_classes")
    dock.controller.layers.results.everything.probability[:] = 0
    asked = answer(monkeypatch, "cells", replace=False)
    press(dock, qtbot)
    assert "Replace them?" in asked[-1]
    np.testing.assert_array_equal(planes_of(path, "cells_classes"), first)
    answer(monkeypatch, "cells", replace=True)
    press(dock, qtbot)
    assert (planes_of(path, "cells_classes") == 1).all()


def test_an_image_of_another_kind_has_no_such_button(dock):
    dock.controller.viewer.add_image(np.zeros((20, 20), np.uint8), name="plain")
    dock.controller.layers.set_image(dock.controller.viewer.layers["plain"])
    dock.refresh()
    assert dock.save_into.isHidden()


def test_the_folder_dock_opens_them_with_their_image(dock, path, qtbot, monkeypatch):
    predict_all(dock, qtbot)
    answer(monkeypatch, "cells")
    press(dock, qtbot)
    files = [path / "labels" / "cells_classes"]
    _, classes = open_with_results(dock.controller.viewer, path, files)
    np.testing.assert_array_equal(classes.data, planes_of(path, "cells_classes"))
