"""The program as a user meets it: a real window, the mouse, the keyboard."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import tifffile
import torch
from napari.layers import Labels
from napari.settings import get_settings
from qtpy.QtCore import QCoreApplication, QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDockWidget, QLabel
from robot import Robot

from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.unet import UNet
from napari_unet.viewer import app
from napari_unet.viewer.activity import ActivityBar
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.lane import JobLane
from napari_unet.viewer.layers import add_quietly
from napari_unet.viewer.results import save_as_tiff
from napari_unet.viewer.status import Phase


class Ring:
    """Something that is to refer to itself."""


STROKES = [(row, start, end) for row in (40, 100, 160) for start, end in ((20, 80), (130, 190))]


@pytest.fixture
def window(make_napari_viewer, monkeypatch, tmp_path):
    """The program on an image with a dark and a bright half, and a robot in front of it."""
    monkeypatch.setattr(
        app.napari, "Viewer", lambda **options: make_napari_viewer(show=True, **options)
    )
    image = np.random.default_rng(0).normal(0.2, 0.05, (200, 210)).astype(np.float32)
    image[:, 105:] += 0.6
    path = tmp_path / "halves.tif"
    tifffile.imwrite(path, image)
    viewer = app.open_window(app.image_layers(path))
    controller = controller_for(viewer)
    torch.manual_seed(0)
    config = FinetuneConfig(precision="fp32", learning_rate=1e-2)
    controller.segmenter.config = config
    controller.segmenter.use_model(UNet(base_channels=8, depth=2, batch_norm=True))
    robot = Robot(viewer)
    robot.window.resize(1400, 900)
    robot.wait(0.5)
    yield robot, controller
    controller.close()


def paint(robot, controller):
    """Three strokes in each half, class 1 in the dark one, class 2 in the bright one."""
    for row, start, end in STROKES:
        robot.press("1" if end < 105 else "2")
        robot.stroke([(row, start), (row, end)])
    robot.wait_until(lambda: controller.layers.painted == {1, 2})


def settle(robot, controller):
    robot.wait_until(
        lambda: controller.status.phase is Phase.IDLE and not controller.lane.is_busy()
    )


def test_paint_learn_look_and_save(window, tmp_path):
    robot, controller = window
    assert not robot.button("Learn").isEnabled()
    assert "Paint a few strokes" in robot.button("Learn").toolTip()
    paint(robot, controller)
    painted = np.asarray(controller.layers.annotations.data)
    assert set(np.unique(painted[:, :105])) == {0, 1}
    assert set(np.unique(painted[:, 105:])) == {0, 2}
    before = painted.copy()

    robot.press("Learn")
    robot.wait_until(lambda: controller.layers.results.predicted is not None)
    first = controller.layers.results.probability.copy()
    robot.wait_until(lambda: controller.status.step > 30)
    robot.press("Stop")
    settle(robot, controller)
    assert controller.layers.results.is_complete
    last = controller.layers.results.probability
    assert not np.array_equal(first, last)
    assert (last[1, :, 115:] > 0.5).mean() > 0.95
    assert (last[1, :, :95] < 0.5).mean() > 0.95
    np.testing.assert_array_equal(controller.layers.annotations.data, before)

    save_as_tiff(controller, tmp_path / "results")
    controller.network.save(tmp_path / "results" / "model")
    settle(robot, controller)
    assert {path.suffix for path in (tmp_path / "results").iterdir()} == {".tif", ".safetensors"}


def test_objects_are_found_from_the_dock(window):
    robot, controller = window
    paint(robot, controller)
    robot.press("Learn")
    robot.wait_until(lambda: controller.status.step > 30)
    robot.press("Stop")
    settle(robot, controller)
    robot.open_dock("Predict")
    robot.press("Find objects")
    settle(robot, controller)
    assert controller.layers.results.instances.max() >= 1


def test_strokes_painted_while_it_learns_are_taken_in_and_the_window_stays_alive(window):
    robot, controller = window
    paint(robot, controller)
    robot.press("Learn")
    robot.wait_until(lambda: controller.status.step > 2)
    step = controller.status.step
    robot.press("2")
    robot.stroke([(180, 130), (185, 190)])
    assert controller.layers.annotations.data[183, 160] == 2
    robot.wait_until(lambda: controller.status.step > step)
    trainer = controller.segmenter._network._trainer
    robot.wait_until(lambda: "7 strokes" in trainer.held_out[controller.layers.source].reason)
    robot.press("Stop")
    settle(robot, controller)


def test_stop_answers_within_a_step(window):
    robot, controller = window
    paint(robot, controller)
    robot.press("Learn")
    robot.wait_until(lambda: controller.status.step > 2)
    trainer = controller.segmenter._network._trainer
    robot.press("Stop")
    step = trainer.step  # the dock shows an earlier one: it is told of steps four times a second
    robot.wait_until(lambda: not controller.is_learning)
    assert trainer.step <= step + 1
    settle(robot, controller)


def test_the_keyboard_picks_classes_and_learns(window):
    robot, controller = window
    robot.key(Qt.Key.Key_2, Qt.KeyboardModifier.ControlModifier)
    assert controller.layers.annotations.selected_label == 2
    paint(robot, controller)
    robot.key(Qt.Key.Key_L, Qt.KeyboardModifier.ShiftModifier)
    robot.wait_until(lambda: controller.is_learning)
    robot.key(Qt.Key.Key_L, Qt.KeyboardModifier.ShiftModifier)
    settle(robot, controller)


def test_the_weight_map_is_shown_and_taken_away(window):
    robot, controller = window
    paint(robot, controller)
    robot.open_dock("Weight map")
    robot.press("Show weight map")
    robot.wait_until(
        lambda: any(layer.name.endswith("weight map") for layer in controller.viewer.layers)
    )
    robot.press("Hide weight map")
    assert not any(layer.name.endswith("weight map") for layer in controller.viewer.layers)


@pytest.mark.parametrize("job", ["learn", "predict"])
def test_closing_the_window_in_the_middle_of_a_job_ends_it(window, job):
    robot, controller = window
    paint(robot, controller)
    robot.press("Learn")
    robot.wait_until(lambda: controller.status.step > 2)
    if job == "predict":
        robot.press("Stop")
        settle(robot, controller)
        controller.predict()
    lanes = controller.findChildren(JobLane)
    started = time.monotonic()
    robot.viewer.close()
    assert not any(thread.name == "U-Net jobs" for thread in threading.enumerate())
    assert time.monotonic() - started < 10
    assert len(lanes) > 1
    for lane in lanes:  # a timer may fire while a window goes away
        lane.submit(lambda _stop: iter(()), name="late")
    assert not any(thread.name == "U-Net jobs" for thread in threading.enumerate())


def test_closing_that_is_cancelled_ends_nothing(window, monkeypatch):
    """napari asks whoever closes a window whether that is meant."""
    robot, controller = window
    paint(robot, controller)
    robot.press("Learn")
    robot.wait_until(lambda: controller.status.step > 2)
    with monkeypatch.context() as asked:
        asked.setattr(robot.window, "closeEvent", QEvent.ignore)
        assert not robot.window.close()
    step = controller.status.step
    robot.wait_until(lambda: controller.status.step > step + 2)
    assert controller.is_learning
    robot.viewer.close()
    assert not any(thread.name == "U-Net jobs" for thread in threading.enumerate())


def test_undo_takes_the_last_stroke_back(window):
    robot, controller = window
    paint(robot, controller)
    layer = controller.layers.annotations
    before = np.asarray(layer.data).copy()
    robot.stroke([(20, 120), (20, 180)])
    assert not np.array_equal(layer.data, before)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)


def test_strokes_are_answered_when_they_end_and_a_line_parts_what_is_one(window):
    robot, controller = window
    controller.segmenter.start_anew()  # from the starter that comes with the program
    paint(robot, controller)
    robot.wait_until(lambda: "at once" in controller.status.speaker)
    robot.wait(0.5)  # the last of several strokes is looked at a moment later
    settle(robot, controller)
    answer = controller.layers.results.probability.copy()
    assert (answer[1, :, 115:] > 0.5).mean() > 0.95
    assert (answer[1, :, :95] < 0.5).mean() > 0.95
    assert not controller.segmenter.is_fine_tuned

    robot.press("Part objects")
    robot.stroke([(130, 115), (130, 200)])
    robot.wait_until(lambda: controller.layers.borders.mask() is not None)
    line = (1, slice(129, 132), slice(120, 195))
    results = controller.layers.results
    robot.wait_until(lambda: results.probability[line].mean() < answer[line].mean())
    settle(robot, controller)

    robot.press("Accept view")
    assert len(controller.segmenter.accepted) == 1
    assert controller.layers.results.classes_of((slice(0, 10), slice(0, 10))).all()


def test_strokes_on_an_image_that_the_network_does_not_take_are_no_error(window):
    robot, controller = window
    controller.segmenter.start_anew()  # from the starter that comes with the program
    paint(robot, controller)
    settle(robot, controller)
    assert controller.answers_at_once()
    robot.press("Learn")
    robot.wait_until(lambda: controller.status.step > 2)
    robot.press("Stop")
    settle(robot, controller)
    controller.segmenter._network.speaker = "at once"  # whichever is better on held-out strokes
    coloured = np.random.default_rng(0).random((200, 210, 3))
    layer = controller.viewer.add_image(coloured, name="coloured", rgb=True)
    controller.layers.set_image(layer)
    robot.wait(0.3)
    for label in "12":
        robot.press(label)
        robot.stroke([(40.0 * int(label), 60), (40.0 * int(label), 120)])
    robot.wait_until(lambda: controller.layers.painted == {1, 2})
    settle(robot, controller)
    assert "takes" in robot.button("Learn").toolTip()
    assert not controller.answers_at_once()
    assert controller.status.last_error == ""


def test_a_window_that_opens_for_the_first_time_takes_most_of_the_screen(
    make_napari_viewer, monkeypatch, tmp_path
):
    """Its docks are so wide that what they say can be read; a size that was chosen stays."""
    viewers = []

    def make(**options):
        viewers.append(make_napari_viewer(show=True, **options))
        return viewers[-1]

    monkeypatch.setattr(app.napari, "Viewer", make)
    monkeypatch.setattr(app.napari, "run", lambda: None)
    path = tmp_path / "grey.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    for chosen in (None, (900, 640)):
        monkeypatch.setattr(get_settings().application, "window_size", chosen)
        app.launch(path)
        robot = Robot(viewers[-1])
        robot.wait(0.5)
        screen = robot.window.screen().availableGeometry()
        share = robot.window.width() / min(screen.width(), 1600 / 0.9)
        dock = robot.window.findChild(QDockWidget, "Fine-tune")
        if chosen is None:
            assert 0.85 <= share <= 0.95
            assert dock.width() >= 0.28 * robot.window.width()
        else:
            assert share < 0.85
        controller_for(viewers[-1]).close()


@pytest.mark.parametrize(("side", "width"), [(64, 2), (100, 2), (256, 4), (512, 8), (4096, 8)])
def test_small_images_have_a_thin_brush(make_napari_viewer, side, width):
    viewer = make_napari_viewer()
    controller = controller_for(viewer)
    controller.layers.set_image(viewer.add_image(np.zeros((side, 2 * side), np.uint8)))
    assert controller.layers.add_annotations().brush_size == width
    controller.close()


def test_napari_does_not_draw_the_window_again_and_again_while_something_goes_on(window):
    """Its sign for that is a moving picture; each of its pictures draws all of the window anew."""
    robot, controller = window
    paint(robot, controller)
    settle(robot, controller)
    movies = [label.movie() for label in robot.window.findChildren(QLabel) if label.movie()]
    assert movies
    frames = []
    for movie in movies:
        movie.frameChanged.connect(frames.append)
    bar = ActivityBar()
    bar.show("something", 0.1)
    began = time.monotonic()
    robot.wait_until(lambda: frames)  # it moves
    robot.wait(2)
    rate = len(frames) / (time.monotonic() - began)
    bar.close()
    assert rate < 5


def test_what_is_there_when_the_window_opens_is_no_garbage(make_napari_viewer):
    """Else the window is still for a third of a second whenever napari removes a layer."""
    gc.unfreeze()
    viewer = make_napari_viewer(show=True)
    controller = controller_for(viewer)
    assert gc.get_freeze_count() > len(gc.get_objects())
    there = gc.get_freeze_count()
    controller_for(viewer)
    assert gc.get_freeze_count() <= there  # once
    viewer.add_labels(np.zeros((8, 8), np.uint8))
    ring = [Ring()]
    ring[0].itself, made = ring, weakref.ref(ring[0])
    del ring
    gc.collect()
    assert made() is None  # what a session made is found
    controller.close()
    window = viewer.window._qt_window
    viewer.close()
    del controller, window
    QTest.qWait(50)
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert gc.get_freeze_count() == 0
    gc.collect()
    gc.freeze()  # as conftest has it


def test_a_layer_is_added_without_a_word_to_what_is_selected(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    first = viewer.add_labels(np.zeros((8, 8), np.uint8), name="first")
    chosen = []
    viewer.layers.selection.events.active.connect(chosen.append)
    second, third = (Labels(np.zeros((8, 8), np.uint8), name=name) for name in ("second", "third"))
    add_quietly(viewer.layers, second)
    add_quietly(viewer.layers, third, 0)
    assert [layer.name for layer in viewer.layers] == ["third", "first", "second"]
    assert viewer.layers.selection.active is first
    assert not chosen
    fourth = viewer.add_labels(np.zeros((8, 8), np.uint8), name="fourth")
    assert viewer.layers.selection.active is fourth  # other layers as before
