"""The first strokes of a project: its folder is made for them, and none is lost or put together."""

import time

import numpy as np
import pytest
from test_project import Window, home

from napari_unet.engine.journal import Project, find_projects
from napari_unet.viewer.project import session as sessions

__all__ = ["home"]
PLACES = ((8, 15), (30, 15), (52, 15))


@pytest.fixture
def window(qapp, qtbot, home, two_halves):
    window = Window(two_halves[0], qtbot)
    window.session.layers.add_annotations()
    yield window
    window.close()


def stroke(window, place, label=1):
    """Paint as the mouse does: the pixels first, and then napari tells of it."""
    layer = window.session.layers.annotations
    layer.brush_size = 5
    with layer.block_history():
        layer.paint(place, label)


def on_the_disk(window, home):
    [folder] = find_projects([home], window.projects.bound.looked.header.fingerprint)
    return Project.open(folder, read_only=True).state


@pytest.fixture
def slow_disk(monkeypatch):
    """It takes longer to make a folder than anybody waits."""
    real = Project.create

    def create(*args, **kwargs):
        time.sleep(0.3)
        return real(*args, **kwargs)

    monkeypatch.setattr(Project, "create", create)
    monkeypatch.setattr(sessions, "_PATIENCE", 0.01)


def test_the_first_stroke_is_on_the_disk_when_the_window_goes_on(window, home):
    stroke(window, PLACES[0])
    state = on_the_disk(window, home)
    np.testing.assert_array_equal(state.layers["annotations"].pixels.full(), window.strokes)
    assert len(state.history.undo) == 1


def test_strokes_before_the_folder_is_there_stay_steps_in_their_order(window, home, slow_disk):
    for place in PLACES:
        stroke(window, place)
    assert window.projects.project is None
    window.settle()
    state = on_the_disk(window, home)
    np.testing.assert_array_equal(state.layers["annotations"].pixels.full(), window.strokes)
    assert len(state.history.undo) == 3
    window.projects.steps.undo()
    window.settle()
    assert not window.strokes[52, 15]
    assert window.strokes[30, 15]


def test_what_was_undone_before_the_folder_is_there_is_an_undo(window, home, slow_disk):
    for place in PLACES[:2]:
        stroke(window, place)
    window.session.layers.annotations.undo()
    window.settle()
    history = on_the_disk(window, home).history
    assert (len(history.undo), len(history.redo)) == (1, 1)


def test_what_waits_is_written_when_the_window_is_closed(window, home, slow_disk):
    stroke(window, PLACES[0])
    stroke(window, PLACES[1])
    painted = window.strokes.copy()
    looked = window.projects.bound.looked
    window.projects.close()
    [folder] = find_projects([home], looked.header.fingerprint)
    state = Project.open(folder, read_only=True).state
    np.testing.assert_array_equal(state.layers["annotations"].pixels.full(), painted)


def test_more_than_may_wait_is_put_together_and_not_lost(window, home, slow_disk, monkeypatch):
    from napari_unet.viewer.project import watch

    monkeypatch.setattr(watch, "_MOST_WAITING", 10)
    for place in PLACES:
        stroke(window, place)
    window.settle()
    state = on_the_disk(window, home)
    np.testing.assert_array_equal(state.layers["annotations"].pixels.full(), window.strokes)
    assert len(state.history.undo) == 1
