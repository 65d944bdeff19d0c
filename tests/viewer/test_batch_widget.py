"""The Folder dock, with the mouse in a real window."""

import csv

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_unet import UNet, save_model
from napari_unet.ops.errors import InputError
from napari_unet.viewer import controller as sessions
from napari_unet.viewer.batch_widget import BatchWidget
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.status import Phase


@pytest.fixture
def viewer(make_napari_viewer, segmenter, monkeypatch):
    viewer = make_napari_viewer(show=True)
    session = SegmentationController(viewer, segmenter)
    monkeypatch.setitem(sessions._sessions, viewer, session)
    yield viewer
    session.close()


@pytest.fixture
def dock(viewer):
    dock = BatchWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Folder", area="right")
    return dock


@pytest.fixture
def folder(tmp_path):
    """A plane, a stack in a folder below, and what is no image; a model beside them."""
    plane = np.zeros((40, 48), np.uint8)
    plane[10:20, 10:24] = 200
    (tmp_path / "images" / "day1").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "images" / "a.tif", plane)
    (tmp_path / "images" / "b.tif").write_text("notes")
    tifffile.imwrite(
        tmp_path / "images" / "day1" / "stack.tif",
        np.stack([plane, plane // 2, plane]),
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 3.0},
    )
    save_model(UNet(1, 2, base_channels=2, depth=1), tmp_path / "m.safetensors")
    return tmp_path


def click(button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def cells(dock):
    model = dock.table.model()
    return [
        [model.data(model.index(row, column)) for column in range(model.columnCount())]
        for row in range(model.rowCount())
    ]


@pytest.fixture
def predicted(qtbot, dock, folder):
    dock.folder.set_path(folder / "images")
    dock.model.set_path(folder / "m.safetensors")
    click(dock.predict)
    qtbot.waitUntil(lambda: not dock.run.is_running, timeout=30_000)
    return dock


def test_the_button_says_what_is_missing(dock, folder):
    assert "folder" in dock.predict.toolTip()
    dock.folder.set_path(folder / "nowhere")
    assert "is not a folder" in dock.predict.toolTip()
    dock.folder.set_path(folder / "images")
    assert "model" in dock.predict.toolTip()
    dock.model.set_path(folder / "m.safetensors")
    assert dock.predict.isEnabled()
    dock.options.pixel_size.setText("wide")
    assert "no pixel size" in dock.predict.toolTip()
    dock.options.pixel_size.setText("")
    dock.options.axes.setText("zz")
    assert "axes" in dock.predict.toolTip()
    assert not dock.predict.isEnabled()


def test_every_control_has_a_tooltip(dock):
    options = dock.options
    for field in (
        *(dock.folder.line, dock.model.line, dock.output.line, dock.predict, dock.progress.stop),
        *(dock.open, dock.progress.bar, dock.table, options.pattern, options.channel, options.axes),
        *(
            options.pixel_size,
            options.format,
            options.recursive,
            options.overwrite,
            options.rescale,
            options.labels,
        ),
    ):
        assert field.toolTip()


def test_a_folder_is_predicted_and_what_failed_is_named(predicted, folder):
    found = cells(predicted)
    assert [row[0].replace("\\", "/") for row in found] == ["a.tif", "b.tif", "day1/stack.tif"]
    assert [row[1] for row in found] == ["done", "failed", "done"]
    assert found[0][3] == "yx 40 x 48"
    assert found[1][3].startswith("cannot be read as TIFF")
    assert found[2][3] == "zyx 3 x 40 x 48"
    output = folder / "images" / "results"
    assert tifffile.imread(output / "day1" / "stack_instances.tif").shape == (3, 40, 48)
    assert "2 done, 1 failed, of 3" in predicted.progress.message.text()
    rows = list(csv.DictReader((output / "predictions.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["done", "failed", "done"]
    assert not predicted.progress.bar.isVisible()


def test_again_it_does_only_the_rest(predicted, folder, qtbot):
    tifffile.imwrite(folder / "images" / "b.tif", np.eye(30, dtype=np.float32))
    click(predicted.predict)
    qtbot.waitUntil(lambda: not predicted.run.is_running, timeout=30_000)
    assert [row[1] for row in cells(predicted)] == ["skipped", "done", "skipped"]
    assert "2 were done before" in predicted.progress.message.text()


def test_a_double_click_opens_an_image_with_its_result(predicted, viewer):
    table = predicted.table
    place = table.visualRect(table.model().index(2, 0)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    names = [layer.name for layer in viewer.layers]
    assert names == ["stack", "stack_classes", "stack_instances"]
    image, _, objects = viewer.layers
    assert image.data.shape == objects.data.shape == (3, 40, 48)
    np.testing.assert_allclose(image.scale, (3.0, 0.5, 0.5))
    np.testing.assert_allclose(objects.scale, image.scale)
    assert [str(unit) for unit in image.units] == ["micrometer"] * 3
    assert objects.visible


def test_what_cannot_be_opened_is_said(predicted, viewer):
    assert predicted.open.toolTip() == "Choose an image in the table first."
    predicted.table.selectRow(1)
    click(predicted.open)
    assert "cannot be read" in predicted.progress.message.text()
    assert len(viewer.layers) == 0


def test_an_empty_folder_is_said(dock, folder, qtbot):
    (folder / "empty").mkdir()
    dock.folder.set_path(folder / "empty")
    dock.model.set_path(folder / "m.safetensors")
    click(dock.predict)
    qtbot.waitUntil(lambda: not dock.run.is_running, timeout=10_000)
    assert "holds no image" in dock.progress.message.text()


def test_stop_keeps_what_is_done(dock, folder, qtbot, monkeypatch):
    for number in range(20):
        tifffile.imwrite(folder / "images" / f"c{number:02}.tif", np.eye(30, dtype=np.float32))
    dock.folder.set_path(folder / "images")
    dock.model.set_path(folder / "m.safetensors")
    click(dock.predict)
    qtbot.waitUntil(lambda: dock.run.table.row(3) is not None, timeout=30_000)
    click(dock.progress.stop)
    qtbot.waitUntil(lambda: not dock.run.is_running, timeout=30_000)
    states = [row[1] for row in cells(dock)]
    assert states[3] == "done"
    if "waiting" in states:  # it may have been done before the mouse was there
        assert dock.progress.message.text().startswith("Stopped")


def test_it_waits_while_the_session_works(dock, folder, qtbot):
    dock.controller.status.phase = Phase.LEARNING
    dock.folder.set_path(folder / "images")
    dock.model.set_path(folder / "m.safetensors")
    click(dock.predict)
    assert "Waiting" in dock.progress.message.text()
    dock.controller.status.phase = Phase.IDLE
    qtbot.waitUntil(lambda: not dock.run.is_running, timeout=30_000)
    assert "2 done" in dock.progress.message.text()


def test_paths_are_looked_for(dock, folder, monkeypatch):
    chosen = str(folder / "images")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: chosen)
    monkeypatch.setattr(
        QFileDialog, "getOpenFileName", lambda *_: (str(folder / "m.safetensors"), "")
    )
    click(dock.folder.browse)
    click(dock.model.browse)
    assert dock.folder.path() == folder / "images"
    assert dock.output.path() == folder / "images" / "results"
    assert dock.predict.isEnabled()


def test_labels_may_go_into_the_images(dock):
    options = dock.options
    assert not options.labels.isEnabled()
    options.format.setCurrentIndex(options.format.findData("labels"))
    assert options.labels.isEnabled()
    assert options.settings().labels_into_image == "objects"
    options.labels.setText("nuclei")
    assert options.settings().labels_into_image == "nuclei"
    options.labels.setText("a/b")
    with pytest.raises(InputError, match="cannot be called"):
        options.settings()
