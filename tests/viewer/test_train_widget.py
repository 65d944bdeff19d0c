"""The Train dock as a user meets it, and the trainings behind it."""

import functools
import threading
import time

import numpy as np
import pytest
import tifffile
import torch
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QMessageBox,
    QWidget,
)
from robot import Robot

from napari_unet.engine.training import pace as engine_pace
from napari_unet.engine.training.recipe import DEFAULT
from napari_unet.engine.training.run import report_path, state_path
from napari_unet.engine.training.state import load_state
from napari_unet.engine.training.train import TrainRequest
from napari_unet.model.checkpoint import load_model
from napari_unet.ops.errors import InputError
from napari_unet.ops.synthetic import touching_cells
from napari_unet.viewer import controller as sessions
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.form import RunButton
from napari_unet.viewer.status import Phase
from napari_unet.viewer.train import fields as train_fields
from napari_unet.viewer.train.sources import LayerPair, LayerSource
from napari_unet.viewer.train.widget import TrainWidget

TINY = DEFAULT.changed(
    base_channels=4, depth=1, patch_size=32, learning_rate=1e-2, averaging="none"
)


def cells(seed):
    """An image and its objects; not as many in each, or they would pass for classes."""
    return touching_cells((64, 64), 6 + seed, seed=seed)


@pytest.fixture
def quick(monkeypatch):
    """A minute takes two seconds, a network a millisecond, and scores come several times.

    No training ends early: how many scores one gets while the window works depends on the machine.
    """
    lasting = functools.partial(TrainRequest, patience=1_000_000)
    monkeypatch.setattr("napari_unet.viewer.train.jobs.TrainRequest", lasting)
    monkeypatch.setitem(train_fields.RECIPES, "default", TINY)
    monkeypatch.setattr(train_fields, "_SECONDS_PER_MINUTE", 2.0)
    monkeypatch.setattr(engine_pace, "SECONDS_BETWEEN_VALIDATIONS", 0.3)


@pytest.fixture
def viewer(make_napari_viewer, segmenter, monkeypatch, quick):
    viewer = make_napari_viewer(show=True)
    session = SegmentationController(viewer, segmenter)
    monkeypatch.setitem(sessions._sessions, viewer, session)
    yield viewer
    session.close()


@pytest.fixture
def make_dock(viewer, monkeypatch, tmp_path, qtbot):
    """Puts the dock into the window; errors are collected in `dock.told`."""
    docks = []

    def make():
        dock = TrainWidget(viewer)
        dock.told = []
        monkeypatch.setattr(
            "napari_unet.viewer.train.session.show_error", lambda text: dock.told.append(text)
        )
        viewer.window.add_dock_widget(dock, name="Train", area="right")
        dock.output.set_path(tmp_path / "cells")
        docks.append(dock)
        qtbot.waitUntil(dock.isVisible)
        return dock

    yield make
    for dock in docks:
        dock.training.close()


@pytest.fixture
def dock(make_dock, viewer):
    """The dock beside two images with labels."""
    for seed in (1, 2):
        image, labels = cells(seed)
        viewer.add_image(image, name=f"cells {seed}")
        viewer.add_labels(labels, name=f"cells {seed} mask")
    return make_dock()


@pytest.fixture
def robot(viewer):
    robot = Robot(viewer)
    robot.window.resize(1300, 850)
    robot.wait(0.2)
    return robot


@pytest.fixture
def folders(tmp_path):
    """Three images and their labels as files; a fourth image has none."""
    for seed in range(4):
        image, labels = cells(seed)
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{seed}.tif", image)
        if seed < 3:
            tifffile.imwrite(tmp_path / "labels" / f"{seed}.tif", labels.astype(np.uint16))
    return tmp_path / "images", tmp_path / "labels"


def settle(robot, dock):
    robot.wait_until(lambda: not dock.training.is_training and not dock.training.lane.is_busy())


def paired(dock):
    source = dock.pairs.source()
    return {} if source is None else {pair.name: pair.labels for pair in source.pairs}


def check(robot, dock, row):
    """Click on the box of a row of the table."""
    table = dock.pairs.table
    cell = table.visualItemRect(table.item(row, 0))
    QTest.mouseClick(
        table.viewport(),
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
        QPoint(cell.left() + 10, cell.center().y()),
    )
    robot.wait(0.05)


# ---------------------------------------------------------------- pairs of layers


def test_layers_are_paired_by_shape_and_name(dock, viewer):
    viewer.add_image(np.zeros((30, 40)), name="small")
    viewer.add_labels(np.ones((30, 40), int), name="anything")
    pairs = paired(dock)
    assert set(pairs) == {"cells 1", "cells 2", "small"}
    for name, labels in (("cells 1", "cells 1 mask"), ("small", "anything")):
        assert pairs[name] is viewer.layers[labels].data


def test_a_pair_is_unchecked_with_the_mouse(dock, robot):
    check(robot, dock, 0)
    assert set(paired(dock)) == {"cells 2"}
    check(robot, dock, 1)
    assert paired(dock) == {}
    assert "Check an image" in dock.train.toolTip()
    check(robot, dock, 0)
    assert set(paired(dock)) == {"cells 1"}


def test_labels_are_chosen_by_hand_and_stay_chosen(dock, viewer, robot):
    box = dock.pairs.table.cellWidget(0, 1)
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Down)
    robot.wait(0.05)
    assert paired(dock)["cells 1"] is viewer.layers["cells 2 mask"].data
    viewer.add_image(np.zeros((9, 9)), name="later")
    viewer.layers["cells 2 mask"].name = "other name"
    assert paired(dock)["cells 1"] is viewer.layers["other name"].data


def test_strokes_and_results_are_not_taken_by_themselves(make_dock, viewer):
    image, _ = cells(1)
    viewer.add_image(image, name="cells")
    dock = make_dock()
    dock.controller.layers.set_image(viewer.layers["cells"])
    dock.controller.layers.add_annotations()
    assert paired(dock) == {}
    assert not dock.train.isEnabled()
    assert dock.pairs.table.cellWidget(0, 1).isEnabled()  # it is offered all the same


def test_without_layers_the_reason_is_told(make_dock):
    dock = make_dock()
    grey = [button for button in dock.findChildren(RunButton) if not button.isEnabled()]
    assert dock.train in grey
    assert "Open images" in dock.train.reason_line.text()
    for button in grey:
        assert button.toolTip() == button._why_not()


# ---------------------------------------------------------------- what is read


def read(pairs, kind="auto", **options):
    return LayerSource(tuple(pairs), **options).read(kind, lambda done, total: None)


def test_each_plane_of_a_stack_is_an_image_of_one_group():
    planes = [cells(seed) for seed in range(3)]
    image, labels = (np.stack(part) for part in zip(*planes, strict=True))
    labels[1] = 0
    labelled = read([LayerPair("stack", image, labels, rgb=False)])
    assert [each.name for each in labelled.images] == ["stack [00]", "stack [02]"]
    assert {each.group for each in labelled.images} == {"stack"}
    assert labelled.problems == ("stack: 1 of 3 planes have no labels",)
    np.testing.assert_array_equal(labelled.images[1].labels, labels[2])
    everything = read([LayerPair("stack", image, labels, rgb=False)], skip_unlabelled=False)
    assert len(everything.images) == 3


def test_what_is_read_is_a_copy():
    image, labels = (part.copy() for part in cells(1))
    labelled = read([LayerPair("cells", image, labels, rgb=False)])
    labels[:] = 0
    assert labelled.images[0].labels.any()


def test_colours_are_not_planes_and_the_minority_is_left_out():
    image, labels = cells(1)
    colours = np.stack([image] * 4, axis=-1)
    labelled = read(
        [
            LayerPair("grey 1", image, labels, rgb=False),
            LayerPair("grey 2", image, labels, rgb=False),
            LayerPair("tissue", colours, labels, rgb=True),
        ]
    )
    assert [each.name for each in labelled.images] == ["grey 1", "grey 2"]
    assert "tissue is RGB" in labelled.problems[0]
    alone = read([LayerPair("tissue", colours, labels, rgb=True)])
    assert alone.channels == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image, labels: (image * np.nan, labels), "NaN"),
        (lambda image, labels: (image, labels - 5), "negative"),
        (lambda image, labels: (image, labels * 0), "all labels are 0"),
    ],
)
def test_what_cannot_be_learned_from_is_told(change, words):
    image, labels = change(cells(1)[0].astype(float), cells(1)[1])
    with pytest.raises(InputError, match=words):
        read([LayerPair("bad", image, labels, rgb=False)])


def test_one_value_for_all_objects_is_numbered():
    image, labels = cells(1)
    labelled = read([LayerPair("c", image, np.uint8(labels > 0), rgb=False)], kind="instances")
    assert labelled.images[0].labels.max() > 1


def test_kind_and_split_of_folders_are_told_after_reading(make_dock, robot, folders):
    dock = make_dock()
    robot.choose("folders")
    assert "folder with the images" in dock.train.toolTip()
    QTest.keyClicks(dock.folders.images.line, str(folders[0]))
    QTest.keyClick(dock.folders.images.line, Qt.Key.Key_Return)
    assert dock.folders.labels.path() == folders[1]  # guessed from its neighbour
    robot.wait_until(lambda: dock.training.found and not dock.training.lane.is_busy())
    assert "3 images, instances, because" in dock.summary.text()
    assert "1 of 3 images" in dock.summary.text()
    assert "3.tif has no labels" in dock.problems.item(0).text()
    assert dock.problems.isVisible()
    dock.learning.held_out.setValue(70)
    robot.wait_until(lambda: "2 of 3 images" in dock.summary.text())
    assert dock.train.isEnabled()


def test_folders_that_cannot_be_read_are_told_without_a_popup(make_dock, robot, tmp_path):
    dock = make_dock()
    robot.choose("folders")
    dock.folders.images.set_path(tmp_path / "missing")
    dock.folders.labels.set_path(tmp_path / "missing")
    robot.wait_until(lambda: bool(dock.training.reading_problem))
    assert "is not there" in dock.train.reason_line.text()
    assert not dock.train.isEnabled()
    assert dock.told == []


# ---------------------------------------------------------------- training


def test_train_look_open_the_report_and_use_the_model(dock, robot, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "napari_unet.viewer.train.widget.QDesktopServices.openUrl", lambda url: opened.append(url)
    )
    dock.learning.minutes.setValue(1)
    assert not dock.open_report.isEnabled()
    assert "train first" in dock.use_model.toolTip()
    robot.press("Train")
    assert robot.button("Stop").isEnabled()
    robot.wait_until(lambda: dock.training.validation is not None)
    assert "mean AP" in dock.score.text()
    assert "best" in dock.score.text()
    settle(robot, dock)
    assert "Final mean AP" in dock.score.text()
    assert dock.told == []
    assert {path.name for path in tmp_path.iterdir()} == {"cells.safetensors", "cells.html"}
    assert "exists" in dock.output.state.text()
    best = max(score for _, score in dock.training.history.scores)
    assert dock.training.best.value == best
    assert dock.curve._best.getData()[1] == [best]

    robot.press("Open report")
    assert opened[0].toLocalFile() == str(report_path(tmp_path / "cells.safetensors"))
    robot.press("Use this model")
    session = dock.controller
    robot.wait_until(lambda: session.segmenter.usage.kind == "instances")
    saved = load_model(tmp_path / "cells.safetensors").state_dict()
    for name, tensor in session.segmenter.model.state_dict().items():
        torch.testing.assert_close(tensor, saved[name], rtol=0, atol=0)
    robot.wait_until(lambda: not session.lane.is_busy())


def test_a_training_on_folders_says_in_its_report_how_to_repeat_it(make_dock, robot, folders):
    dock = make_dock()
    robot.choose("folders")
    dock.folders.images.set_path(folders[0])
    dock.learning.minutes.setValue(1)
    robot.press("Train")
    settle(robot, dock)
    report = dock.training.report.read_text()
    assert f"napari-unet train {folders[0]} {folders[1]}" in report
    assert "3.tif has no labels" in report


def test_nothing_held_out_gives_a_model_without_a_score(dock, robot):
    dock.learning.held_out.setValue(0)
    dock.learning.minutes.setValue(1)
    robot.press("Train")
    settle(robot, dock)
    assert dock.training.model.exists()
    assert dock.training.measured is None
    assert "there will be no score" in dock.summary.text()


def test_a_stopped_training_leaves_a_model_and_goes_on_when_asked(dock, robot, tmp_path):
    dock.learning.minutes.setValue(100)
    output = tmp_path / "cells.safetensors"
    robot.press("Train")
    robot.wait_until(lambda: dock.training.status.step > 5)
    robot.press("Stop")
    settle(robot, dock)
    assert output.exists()
    assert "unfinished" in dock.output.state.text()
    steps = load_state(state_path(output)).step

    losses = dock.training.history.losses
    shown = losses[-1][0]  # the curve of the first training stays until the second one begins
    answer(robot, "Go on")
    robot.press("Train")
    robot.wait_until(lambda: losses != [] and losses[-1][0] > shown)
    assert losses[0][0] == 1  # the curve begins where the training did
    assert dock.training.best is not None
    robot.press("Stop")
    settle(robot, dock)
    assert load_state(state_path(output)).step > steps

    shown = losses[-1][0]
    answer(robot, "Start anew")
    robot.press("Train")
    robot.wait_until(lambda: losses != [] and losses[-1][0] < shown)
    robot.press("Stop")
    settle(robot, dock)
    assert dock.training.history.losses[0][0] == 1
    assert load_state(state_path(output)).step == dock.training.history.losses[-1][0]
    assert dock.told == []


@pytest.mark.parametrize("choice", ["Cancel", "No"])
def test_a_model_is_not_replaced_without_asking(dock, robot, tmp_path, choice):
    output = tmp_path / "cells.safetensors"
    taken = output if choice == "No" else state_path(output)
    taken.write_text("precious")
    answer(robot, choice)
    robot.press("Train")
    assert not dock.training.is_training
    assert taken.read_text() == "precious"


def answer(robot, text):
    """Press a button of the question that comes next."""

    def press():
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(20, press)
            return
        [button] = [b for b in box.buttons() if b.text().replace("&", "") == text]
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(20, press)


def test_layers_that_go_or_change_their_name_do_no_harm(dock, viewer, robot):
    dock.learning.minutes.setValue(100)
    dock.controller.layers.set_image(viewer.layers["cells 1"])
    robot.press("Train")
    robot.wait_until(lambda: dock.training.status.step > 2)
    viewer.layers["cells 2"].name = "another name"
    viewer.layers["cells 1 mask"].data[:] = 0
    viewer.layers.remove(viewer.layers["cells 1"])  # the session's image, too
    viewer.layers.clear()
    step = dock.training.status.step
    robot.wait_until(lambda: dock.training.status.step > step + 2)
    robot.press("Stop")
    settle(robot, dock)
    assert dock.training.model.exists()
    assert dock.told == []


def test_the_training_waits_while_the_session_works_and_leaves_its_network_alone(dock, robot):
    session, training = dock.controller, dock.training
    before = {k: v.clone() for k, v in session.segmenter.model.state_dict().items()}
    dock.learning.minutes.setValue(100)
    robot.press("Train")
    robot.wait_until(lambda: training.status.step > 2)
    session.status.phase = Phase.LEARNING
    assert training.status.phase is Phase.PAUSED
    robot.wait(0.3)  # the step in progress, and what is on its way
    count = len(training.history.losses)
    robot.wait(0.3)
    assert len(training.history.losses) == count
    assert "Waiting" in training.status.message
    session.status.phase = Phase.IDLE
    robot.wait_until(lambda: len(training.history.losses) > count)
    assert session.history.losses == []
    robot.press("Stop")
    settle(robot, dock)
    for name, tensor in session.segmenter.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_an_error_is_shown_as_in_the_other_docks(dock, robot, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise RuntimeError("the disk is full")
        yield

    monkeypatch.setattr("napari_unet.viewer.train.jobs.train_to_file", fail)
    robot.press("Train")
    settle(robot, dock)
    assert dock.told == ["Training failed: the disk is full"]
    assert dock.training.status.last_error == dock.told[0]
    assert robot.button("Train").isEnabled()
    assert not dock.use_model.isEnabled()


def test_stop_while_the_images_are_read(dock, robot, monkeypatch):
    go_on = threading.Event()
    real = LayerSource.read

    def slow(source, kind, progress):
        go_on.wait(10)
        return real(source, kind, progress)

    monkeypatch.setattr(LayerSource, "read", slow)
    robot.press("Train")
    robot.press("Stop")
    go_on.set()
    settle(robot, dock)
    assert dock.training.history.losses == []
    assert dock.training.status.message == "Stopped before the first step"


def test_closing_the_window_keeps_the_state(dock, robot, tmp_path):
    dock.learning.minutes.setValue(100)
    robot.press("Train")
    robot.wait_until(lambda: dock.training.status.step > 5)
    started = time.monotonic()
    robot.viewer.close()
    assert time.monotonic() - started < 10
    assert not any(thread.name == "U-Net jobs" for thread in threading.enumerate())
    output = tmp_path / "cells.safetensors"
    assert load_state(state_path(output)).step > 5
    # Model and report wait for the training's end, which closing does not wait for.
    assert not output.exists()
    assert not output.with_suffix(".html").exists()


def test_a_closed_dock_is_heard_of_no_more_and_its_training_goes_on(dock, viewer, robot, qtbot):
    dock.learning.minutes.setValue(100)
    robot.press("Train")
    training = dock.training
    robot.wait_until(lambda: training.status.step > 2)
    gone = []
    dock.destroyed.connect(lambda: gone.append(True))
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    qtbot.waitUntil(lambda: bool(gone))
    count = len(training.history.losses)
    robot.wait_until(lambda: len(training.history.losses) > count)
    viewer.add_labels(np.ones((9, 9), int), name="later")
    viewer.theme = "light"
    again = TrainWidget(viewer)
    qtbot.addWidget(again)
    assert again.training is training
    assert again.train.text() == "Stop"
    again.train.click()
    robot.wait_until(lambda: not training.is_training)
    assert training.model.exists()


def test_every_control_has_a_tooltip_and_the_dock_fits_a_small_screen(dock):
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
    controls = [each for each in dock.findChildren(QWidget) if isinstance(each, kinds)]
    assert len(controls) > 10
    assert [each for each in controls if not tooltip(each, dock.widget())] == []
    assert dock.widget().minimumSizeHint().width() <= 320


def tooltip(control, page):
    """The tooltip of a control, or of what it is a part of."""
    while control is not page and not control.toolTip():
        control = control.parentWidget()
    return control.toolTip()


def test_the_colours_follow_the_theme(dock, viewer):
    dark = dock.curve._best.opts["symbolBrush"]
    viewer.theme = "light"
    assert dock.curve._best.opts["symbolBrush"] != dark
