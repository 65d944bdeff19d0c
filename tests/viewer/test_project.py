"""A session and its project: everything is saved at once, and reopening goes on."""

import gc
import shutil
import weakref

import numpy as np
import pytest
import tifffile
import torch
from napari.components import ViewerModel
from napari.layers._source import layer_source
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget
from test_controller import wait_idle

from napari_unet.engine.journal import Header, Project
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.starter import Starter
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.project import project_for
from napari_unet.viewer.project.strip import ProjectStrip, describe


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    monkeypatch.setenv("NAPARI_UNET_PROJECTS", str(folder))
    return folder


class Window:
    """A viewer with a session and its projects, on the image of two halves."""

    def __init__(self, image, qtbot, path=None, viewer=None):
        self.viewer = viewer or ViewerModel()
        config = FinetuneConfig(patch_size=20, precision="fp32")
        torch.manual_seed(0)
        network = UNet(3, 2, 4, 2, batch_norm=True).eval()
        starter = Starter("tiny", network, penalty=0.1, scale=10.0)
        segmenter = Segmenter(classes=2, starter=starter, config=config)
        self.session = SegmentationController(self.viewer, segmenter)
        if path is None:
            self.image = self.viewer.add_image(image, name="halves")
        else:
            with layer_source(path=str(path)):
                self.image = self.viewer.add_image(tifffile.imread(path), name=path.stem)
        self.projects = project_for(self.session)
        self.qtbot = qtbot
        self.look_at(self.image)

    def look_at(self, image):
        self.session.layers.set_image(image)
        self.qtbot.waitUntil(lambda: self.projects.bound.looked is not None, timeout=5000)

    @property
    def strokes(self):
        return self.session.layers.annotations.data

    def paint(self, row, column, label=1):
        layer = self.session.layers.annotations or self.session.layers.add_annotations()
        layer.brush_size = 5
        layer.paint((row, column), label)
        self.settle()

    def settle(self):
        self.qtbot.waitUntil(
            lambda: self.projects.project is not None and not self.projects.bound.is_busy
        )
        for watch in self.projects.bound.watches:
            watch.catch_up()
        self.projects.project.flush()

    def paint_enough(self):
        for row in (8, 30, 52):
            self.paint(row, 15, 1)
            self.paint(row, 60, 2)

    def go_on(self):
        before = self.projects.project
        self.projects.go_on()
        self.qtbot.waitUntil(
            lambda: self.projects.bound.project not in (None, before), timeout=10_000
        )
        wait_idle(self.session, self.qtbot)

    def learn(self):
        self.session.layers.look_at_strokes()
        self.session.learn(seconds=0.3)
        wait_idle(self.session, self.qtbot)
        self.settle()

    def close(self):
        self.projects.close()
        self.session.close()


@pytest.fixture
def opened(qapp, qtbot, home, two_halves):
    """Open the image of two halves in another window."""
    windows = []

    def open_it(**options):
        windows.append(Window(two_halves[0], qtbot, **options))
        return windows[-1]

    yield open_it
    for window in windows:
        window.close()


def weights(window):
    model = window.session.segmenter._network.training.shown_model()
    return np.concatenate([value.numpy().ravel() for value in model.state_dict().values()])


def answers(window):
    """The weights that the session answers with."""
    model = window.session.segmenter.model
    return np.concatenate([value.numpy().ravel() for value in model.state_dict().values()])


def test_opening_an_image_writes_nothing(opened, home):
    window = opened()
    window.qtbot.wait(50)
    assert not home.exists()
    assert "The first stroke begins a project" in describe(window.projects)


def test_strokes_come_back(opened):
    first = opened()
    first.paint(10, 10, 1)
    first.paint(30, 60, 2)
    assert "Saved in" in describe(first.projects)
    expected = first.strokes.copy()
    first.close()
    second = opened()
    assert second.projects.bound.offered is not None
    second.go_on()
    np.testing.assert_array_equal(second.strokes, expected)
    assert second.session.layers.painted == {1, 2}
    second.paint(50, 50, 2)
    expected = second.strokes.copy()
    second.close()
    third = opened()
    third.go_on()
    np.testing.assert_array_equal(third.strokes, expected)


def test_undo_and_redo_of_napari_are_saved(opened):
    first = opened()
    states = []
    for row in (8, 20, 32):
        first.paint(row, 20, 1)
        states.append(first.strokes.copy())
    first.session.layers.annotations.undo()
    first.session.layers.annotations.undo()
    first.session.layers.annotations.redo()
    first.close()
    second = opened()
    second.go_on()
    np.testing.assert_array_equal(second.strokes, states[1])
    second.projects.steps.redo()
    np.testing.assert_array_equal(second.strokes, states[2])


def test_steps_go_back_to_the_beginning_after_reopening(opened):
    first = opened()
    states = []
    for row in range(5, 60, 5):
        first.paint(row, row, 1 + row % 2)
        states.append(first.strokes.copy())
    first.close()
    second = opened()
    second.go_on()
    second.paint(40, 5, 2)
    for expected in states[::-1]:
        second.projects.steps.undo()
        np.testing.assert_array_equal(second.strokes, expected)
    second.projects.steps.undo()
    # The first stroke was found when the project was made; nothing is left before it.
    assert not second.strokes.any()
    assert second.projects.steps.why_not_undo() == "Nothing was done on this image yet."
    for expected in states:
        second.projects.steps.redo()
        np.testing.assert_array_equal(second.strokes, expected)


def test_more_than_a_hundred_strokes_are_taken_back(opened):
    window = opened()
    window.paint(3, 3)
    for number in range(120):
        window.session.layers.annotations.paint((number % 60, number % 75), 1 + number % 2)
    assert len(window.session.layers.annotations._undo_history) == 100
    for _ in range(121):
        window.projects.steps.undo()
    assert not window.strokes.any()


def test_what_is_written_past_napari_is_saved_as_well(opened, two_halves):
    first = opened()
    first.paint(3, 3)
    first.session.layers.annotations.data = two_halves[1].copy()
    first.close()
    second = opened()
    second.go_on()
    np.testing.assert_array_equal(second.strokes, two_halves[1])


def draw_object(window):
    """Draw a finished object; the layer of objects, and where the object is."""
    clicks = click_session_for(window.session)
    clicks.scene.set_image(window.image)
    objects = clicks.scene.need_objects()
    mask = np.zeros((64, 80), bool)
    mask[5:15, 6:20] = True
    objects.write({(): Outline.of_mask(mask)})
    window.settle()
    return objects, mask


def test_objects_come_back_and_are_taken_back(opened):
    first = opened()
    objects, mask = draw_object(first)
    mask = np.roll(mask, 30, axis=0)
    objects.write({(): Outline.of_mask(mask)})
    objects.delete(1)
    expected = np.array(objects.layer.data)
    first.close()
    second = opened()
    second.go_on()
    layer = click_session_for(second.session).scene.objects.layer
    np.testing.assert_array_equal(layer.data, expected)
    second.projects.steps.undo()
    assert set(np.unique(layer.data)) == {0, 1, 2}
    second.projects.steps.undo()
    assert set(np.unique(layer.data)) == {0, 1}


def test_learning_comes_back_and_goes_on_where_it_was(opened):
    first = opened()
    first.paint_enough()
    first.learn()
    expected, step = weights(first), first.session.segmenter._network.training.step
    first.close()
    second = opened()
    second.go_on()
    np.testing.assert_array_equal(weights(second), expected)
    assert second.session.segmenter._network.training.step == step
    assert second.session.segmenter.answers_at_once


def test_a_round_is_a_step_like_others(opened):
    first = opened()
    first.paint_enough()
    first.learn()
    once = weights(first)
    first.paint(40, 40, 2)
    first.learn()
    twice, strokes = weights(first), first.strokes.copy()
    first.close()
    second = opened()
    second.go_on()
    steps = second.projects.steps
    steps.undo()
    wait_idle(second.session, second.qtbot)
    np.testing.assert_array_equal(weights(second), once)
    np.testing.assert_array_equal(second.strokes, strokes)
    steps.undo()
    assert second.strokes[40, 40] == 0
    steps.undo()
    wait_idle(second.session, second.qtbot)
    assert not second.session.segmenter.is_fine_tuned
    for _ in range(3):
        steps.redo()
        wait_idle(second.session, second.qtbot)
    np.testing.assert_array_equal(weights(second), twice)
    np.testing.assert_array_equal(second.strokes, strokes)


def test_a_round_on_another_image_is_taken_back_to_what_was_learned_before(opened, two_halves):
    """Each image has a project of its own, which has to have what its first round began from."""
    window = opened()
    window.paint_enough()
    window.learn()
    once, first = weights(window), window.projects.project.folder
    segmenter, step = window.session.segmenter, window.session.segmenter._network.training.step
    window.look_at(window.viewer.add_image(two_halves[0][::-1] * 2, name="second"))
    window.paint_enough()
    window.learn()
    twice = weights(window)
    assert window.projects.project.folder != first
    assert not np.array_equal(once, twice)
    shutil.rmtree(first)  # it does not need the other one's
    window.projects.steps.undo()
    wait_idle(window.session, window.qtbot)
    np.testing.assert_array_equal(weights(window), once)
    assert segmenter._network.training.step == step  # it goes on there, and answers strokes at once
    assert segmenter.answers_at_once
    assert not segmenter._network.training.held_out.get(window.session.layers.source)
    window.projects.steps.redo()
    wait_idle(window.session, window.qtbot)
    np.testing.assert_array_equal(weights(window), twice)


def test_a_round_on_another_image_is_kept_though_what_was_before_is_gone(opened, two_halves):
    window = opened()
    window.paint_enough()
    window.learn()
    shutil.rmtree(window.projects.project.folder / "models")
    window.look_at(window.viewer.add_image(two_halves[0][::-1] * 2, name="second"))
    window.paint_enough()
    window.learn()
    expected = answers(window)
    assert window.projects.project.facts.model is not None
    window.projects.steps.undo()
    wait_idle(window.session, window.qtbot)
    np.testing.assert_array_equal(answers(window), expected)  # there is no way back


def test_the_button_that_undoes_learning_is_the_same_step(opened):
    window = opened()
    window.paint_enough()
    window.learn()
    window.learn()
    assert window.projects.project.facts.model.step > 0
    steps = len(window.projects.project.facts.history.undo)
    window.session.corrections.undo_learning()
    wait_idle(window.session, window.qtbot)
    window.settle()
    assert len(window.projects.project.facts.history.undo) == steps - 1
    expected = weights(window)
    window.close()
    second = opened()
    second.go_on()
    np.testing.assert_array_equal(weights(second), expected)


def test_accepted_views_come_back_and_are_taken_back(opened):
    first = opened()
    first.paint_enough()
    first.learn()
    box = (slice(2, 12), slice(3, 23))
    labels = np.ones((10, 20), np.uint8)
    first.session.segmenter.accept(first.session.layers.source, box, labels)
    first.session.changed.emit()
    first.close()
    second = opened()
    second.go_on()
    (accepted,) = second.session.segmenter.accepted
    assert accepted.box == box
    assert accepted.image is second.session.layers.source
    np.testing.assert_array_equal(accepted.labels, labels)
    second.projects.steps.undo()
    assert second.session.segmenter.accepted == ()
    second.projects.steps.redo()
    assert len(second.session.segmenter.accepted) == 1
    second.session.corrections.withdraw()
    second.projects.steps.undo()
    assert len(second.session.segmenter.accepted) == 1


def test_settings_and_the_view_come_back(opened):
    first = opened()
    first.paint(10, 10, 1)
    first.session.network.set_class_count(4)
    first.session.segmenter.config = FinetuneConfig(learning_rate=3e-3, precision="fp32")
    wait_idle(first.session, first.qtbot)
    first.viewer.scene.camera.zoom = 7.5
    first.viewer.scene.camera.center = (0, 11, 12)
    first.close()
    second = opened()
    second.go_on()
    assert second.session.network.classes == 4
    assert second.session.segmenter.config.learning_rate == 3e-3
    assert second.viewer.scene.camera.zoom == 7.5
    assert tuple(second.viewer.scene.camera.center)[-2:] == (11, 12)


def test_the_image_may_be_moved_and_renamed(opened, tmp_path, two_halves):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    tifffile.imwrite(here / "cells.tif", two_halves[0].astype(np.float32))
    first = opened(path=here / "cells.tif")
    first.paint(10, 10, 1)
    assert first.projects.project.folder.parent == here / ".napari-unet"
    expected = first.strokes.copy()
    first.close()
    here.rename(there)
    (there / "cells.tif").rename(there / "other name.tif")
    second = opened(path=there / "other name.tif")
    second.go_on()
    np.testing.assert_array_equal(second.strokes, expected)


def test_of_a_stack_each_plane_is_saved(qapp, qtbot, home):
    image = np.random.default_rng(0).normal(size=(4, 40, 50)).astype(np.float32)
    first = Window(image, qtbot)
    first.viewer.dims.set_point(0, 2)
    layer = first.session.layers.add_annotations()
    layer.paint((2, 10, 10), 1)
    first.settle()
    expected = np.array(layer.data)
    first.close()
    second = Window(image, qtbot)
    second.go_on()
    np.testing.assert_array_equal(second.strokes, expected)
    assert second.viewer.dims.current_step[0] == 2
    second.close()


def test_a_second_window_reads_and_says_so(opened):
    first = opened()
    first.paint(10, 10, 1)
    second = opened()
    second.go_on()
    assert "open in another window" in describe(second.projects)
    np.testing.assert_array_equal(second.strokes, first.strokes)
    second.session.layers.annotations.paint((40, 40), 1)
    first.paint(20, 20, 1)
    expected = first.strokes.copy()
    first.close()
    second.close()
    third = opened()
    third.go_on()
    np.testing.assert_array_equal(third.strokes, expected)


def test_a_layer_that_was_removed_comes_back_with_undo(opened, monkeypatch):
    told = []
    monkeypatch.setattr("napari_unet.viewer.project.session.show_info", told.append)
    window = opened()
    window.paint(8, 15, 1)
    window.paint(30, 60, 2)
    layer, expected = window.session.layers.annotations, window.strokes.copy()
    window.viewer.layers.remove(layer)
    window.qtbot.waitUntil(lambda: bool(told))
    assert "Undo in the docks brings 'halves: annotations' back" in told[0]
    assert window.session.layers.annotations is None

    steps = window.projects.steps
    steps.undo()
    assert layer in window.viewer.layers
    assert window.session.layers.annotations is layer
    np.testing.assert_array_equal(window.strokes, expected)
    assert window.session.layers.painted == {1, 2}
    steps.undo()  # from here on as if it had not been removed
    assert not window.strokes[30, 60]
    steps.redo()
    np.testing.assert_array_equal(window.strokes, expected)
    window.paint(52, 15, 1)
    assert len(window.projects.project.facts.layers) == 1
    painted = window.strokes.copy()
    window.close()
    again = opened()
    again.go_on()
    np.testing.assert_array_equal(again.strokes, painted)


def test_in_a_real_window_a_layer_that_came_back_can_be_painted_on(opened, make_napari_viewer):
    window = opened(viewer=make_napari_viewer())
    window.paint(8, 15, 1)
    layer = window.session.layers.annotations
    window.viewer.layers.remove(layer)
    window.projects.steps.undo()
    assert window.viewer.layers.selection.active is layer
    assert layer.mode == "paint"
    controls = window.viewer.window._qt_viewer.controls.widgets[layer]
    assert [each.mode for each in controls.button_group.buttons() if each.isChecked()] == ["paint"]


def test_undo_goes_through_a_new_layer_to_the_one_that_was_removed(opened):
    window = opened()
    window.paint(8, 15, 1)
    old, expected = window.session.layers.annotations, window.strokes.copy()
    window.viewer.layers.remove(old)
    new = window.session.layers.add_annotations()
    window.paint(30, 60, 2)
    steps = window.projects.steps
    steps.undo()
    assert not new.data.any()
    assert old not in window.viewer.layers
    steps.undo()
    assert window.session.layers.annotations is old
    np.testing.assert_array_equal(window.strokes, expected)
    assert new in window.viewer.layers


def test_a_removed_layer_that_is_put_back_goes_on_as_it_was(opened):
    window = opened()
    window.paint(8, 15, 1)
    layer = window.session.layers.annotations
    window.viewer.layers.remove(layer)
    window.viewer.layers.append(layer)
    window.session.layers.set_annotations(layer)
    window.paint(30, 60, 2)
    assert len(window.projects.project.facts.history.undo) == 2
    assert len(window.projects.project.facts.layers) == 1


def test_a_layer_that_nothing_was_painted_in_is_not_missed(opened, monkeypatch):
    told = []
    monkeypatch.setattr("napari_unet.viewer.project.session.show_info", told.append)
    window = opened()
    window.viewer.layers.remove(window.session.layers.add_annotations())
    window.qtbot.wait(20)
    window.viewer.layers.remove(window.image)
    assert not told


def test_objects_that_were_removed_come_back_with_undo(opened):
    window = opened()
    objects, _ = draw_object(window)
    layer, expected = objects.layer, np.array(objects.layer.data)
    window.viewer.layers.remove(layer)
    clicks = click_session_for(window.session)
    assert clicks.scene.objects is None
    window.projects.steps.undo()
    assert clicks.scene.objects.layer is layer
    assert layer in window.viewer.layers
    np.testing.assert_array_equal(layer.data, expected)
    window.projects.steps.undo()
    assert not layer.data.any()


def test_begin_anew_leaves_the_earlier_project_where_it_is(opened, home):
    first = opened()
    first.paint(10, 10, 1)
    first.close()
    second = opened()
    second.projects.decline()
    second.paint(50, 50, 2)
    second.close()
    assert len(list(home.iterdir())) == 2
    third = opened()
    assert len(third.projects.bound.looked.found) == 2


def test_strokes_painted_before_going_on_stay_in_their_layer(opened):
    first = opened()
    first.paint(10, 10, 1)
    expected = first.strokes.copy()
    first.close()
    second = opened()
    offered = second.projects.bound.offered
    second.paint(50, 50, 2)
    mine = second.session.layers.annotations
    second.projects.go_on(offered)
    second.qtbot.waitUntil(lambda: second.session.layers.annotations is not mine)
    np.testing.assert_array_equal(second.strokes, expected)
    assert mine in second.viewer.layers
    assert mine.data[50, 50] == 2


def test_a_project_of_another_image_is_refused(opened, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("napari_unet.viewer.project.session.show_warning", told.append)
    other = tmp_path / "other"
    Project.create(other, Header("ab" * 32, "other", (64, 80), "float64")).close()
    window = opened()
    window.projects.go_on(other)
    window.qtbot.waitUntil(lambda: bool(told))
    assert "another image" in told[0]
    assert window.projects.project is None


def test_it_can_be_switched_off(opened, home):
    window = opened()
    window.projects.set_on(False)
    layer = window.session.layers.add_annotations()
    layer.paint((10, 10), 1)
    window.qtbot.wait(50)
    assert not home.exists()
    assert "Nothing is saved" in describe(window.projects)
    window.projects.set_on(True)
    window.settle()
    assert "Saved in" in describe(window.projects)


def test_the_strip_offers_and_takes_steps_back(opened, qtbot):
    first = opened()
    first.paint(10, 10, 1)
    first.close()
    second = opened()
    strip = ProjectStrip(second.session)
    qtbot.addWidget(strip)
    assert not strip.offer.isHidden()
    assert not strip.undo.isEnabled()
    strip.go_on.click()
    qtbot.waitUntil(lambda: second.projects.project is not None)
    assert strip.offer.isHidden()
    assert strip.undo.isEnabled()
    strip.undo.click()
    assert not second.strokes.any()
    strip.redo.click()
    assert second.strokes[10, 10] == 1


def test_buttons_stay_where_they_are_when_the_first_stroke_is_saved(opened, qtbot, monkeypatch):
    monkeypatch.setattr("napari_unet.viewer.project.strip._LONGEST", 12)  # of one line
    window = opened()
    strip = ProjectStrip(window.session)
    page = QWidget()
    qtbot.addWidget(page)
    rows = QVBoxLayout(page)
    rows.addWidget(strip)
    rows.addStretch()
    page.setFixedSize(320, 500)
    page.show()
    told, heights = [], set()

    def look():
        qtbot.wait(50)
        told.append(strip.where.text())
        heights.add(strip.undo.y())

    look()
    window.paint(10, 10, 1)
    window.settle()
    look()
    window.projects.set_on(False)
    look()
    assert [text.split()[0] for text in told] == ["The", "Saved", "Nothing"]
    assert "(1 step)" in told[1]
    assert len(heights) == 1


def test_projects_do_not_keep_their_viewer_alive(qapp, qtbot, home, two_halves):
    window = Window(two_halves[0], qtbot)
    window.paint(10, 10, 1)
    reference = weakref.ref(window.viewer)
    window.close()
    del window
    gc.collect()
    assert reference() is None


def test_saving_goes_on_when_closing_is_cancelled(opened, home, make_napari_viewer, monkeypatch):
    window = opened(viewer=make_napari_viewer(show=True))
    window.paint(8, 15)
    main = window.viewer.window._qt_window
    with monkeypatch.context() as asked:
        asked.setattr(main, "closeEvent", QEvent.ignore)
        assert not main.close()
    window.paint(30, 15)
    folder = window.projects.project.folder
    painted = window.strokes.copy()
    window.viewer.close()
    state = Project.open(folder, read_only=True).state
    np.testing.assert_array_equal(state.layers["annotations"].pixels.full(), painted)
    assert painted[30, 15]


def test_objects_are_saved_without_strokes(qapp, qtbot, home, two_halves):
    viewer = ViewerModel()
    session = SegmentationController(viewer)
    image = viewer.add_image(two_halves[0], name="halves")
    clicks = click_session_for(session)
    projects = project_for(session)
    clicks.scene.set_image(image)
    qtbot.waitUntil(lambda: projects.bound is not None and projects.bound.looked is not None)
    mask = np.zeros((64, 80), bool)
    mask[5:15, 6:20] = True
    clicks.scene.need_objects().write({(): Outline.of_mask(mask)})
    qtbot.waitUntil(lambda: projects.project is not None and projects.project.facts.last > 1)
    folder = projects.project.folder
    projects.close()
    session.close()
    state = Project.open(folder, read_only=True).state
    np.testing.assert_array_equal(state.layers["objects"].pixels.full(), mask)


def test_a_large_layer_is_compared_in_pieces(opened, two_halves, monkeypatch):
    monkeypatch.setattr("napari_unet.viewer.project.watch._COMPARED", 100)
    monkeypatch.setattr("napari_unet.viewer.project.watch._PIECE", 300)
    first = opened()
    first.paint(3, 3)
    expected = np.roll(two_halves[1], 3, axis=0)
    first.session.layers.annotations.data = expected.copy()
    watch = first.projects.bound.watches[0]
    first.qtbot.waitUntil(lambda: np.array_equal(watch._known, expected))
    first.close()
    second = opened()
    second.go_on()
    np.testing.assert_array_equal(second.strokes, expected)


def test_strokes_that_part_objects_still_do_after_reopening(opened):
    first = opened()
    first.paint_enough()
    first.learn()
    layers = first.session.layers
    layers.borders.turn_on(True)
    layers.annotations.paint((20, 40), 1)
    layers.look_at_strokes()
    expected = layers.borders.mask()
    assert expected.any()
    wait_idle(first.session, first.qtbot)
    first.close()
    second = opened()
    second.go_on()
    np.testing.assert_array_equal(second.session.layers.borders.mask(), expected)


def test_what_is_undone_in_a_hidden_layer_is_saved(opened):
    window = opened()
    states = []
    for row in (8, 20, 32):
        window.paint(row, 20, 1)
        states.append(window.strokes.copy())
    layer = window.session.layers.annotations
    layer.visible = False
    layer.undo()
    layer.undo()
    layer.redo()
    window.projects._on_ticked()
    steps = window.projects.steps
    steps.undo()
    np.testing.assert_array_equal(window.strokes, states[0])
    steps.redo()
    layer.data[60, 70] = 2  # a script, which tells nobody
    expected = window.strokes.copy()
    window.projects._on_ticked()
    window.projects.project.flush()
    state = Project.open(window.projects.project.folder, read_only=True).state
    np.testing.assert_array_equal(state.layers["annotations"].pixels.full(), expected)
