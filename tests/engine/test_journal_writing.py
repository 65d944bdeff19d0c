"""When a change is in the file: before the call that made it returns, or with the next one."""

import numpy as np
import pytest
from test_journal import HEADER, SHAPE, layer, stroke

from napari_unet.engine.journal import JournalError, Project, SettingsChanged, ViewChanged, writer
from napari_unet.engine.journal import project as journal_project
from napari_unet.engine.journal import state as journal_state
from napari_unet.engine.journal.segment import Segment


@pytest.fixture
def project(tmp_path):
    project = Project.create(tmp_path / "project", HEADER)
    project.append(layer())
    yield project
    project.close()


def found(project):
    """What another program finds in the folder now."""
    return Project.open(project.folder, read_only=True).state


def test_a_small_change_is_in_the_file_when_append_returns(project, monkeypatch):
    project.flush()
    # Nothing reaches the file by way of the thread.
    monkeypatch.setattr(project._writer, "_write", lambda batch: pytest.fail("on the thread"))
    for number in range(20):
        project.append(stroke(number, number))
        assert found(project).last == project.facts.last
        assert project.status.waiting == 0


def test_of_large_changes_one_at_the_most_waits(project, monkeypatch):
    project.flush()
    monkeypatch.setattr(journal_project, "SMALL", 0)  # every stroke is large
    for number in range(20):
        project.append(stroke(number, number))
        assert found(project).last >= project.facts.last - 1
    project.flush()
    assert found(project).last == 21


def test_small_changes_go_on_in_new_parts_and_are_taken_in(project, monkeypatch):
    monkeypatch.setattr(writer, "_SEGMENT_ENTRIES", 3)
    for number in range(30):
        project.append(stroke(number, 0, value=number % 3 + 1, size=4))
    state = found(project)
    assert state.last == 31
    expected = np.zeros(SHAPE, np.uint8)
    for number in range(30):
        expected[number : number + 4, :4] = number % 3 + 1
    np.testing.assert_array_equal(state.layers["annotations"].pixels.full(), expected)


def test_values_that_are_not_fit_for_json_stop_nothing(project):
    for values in ({"zoom": float("nan")}, {"zoom": {1, 2}}):
        with pytest.raises(JournalError, match="cannot be written"):
            project.append(ViewChanged(values))
    project.append(SettingsChanged({"classes": 3}))
    assert project.flush()
    assert found(project).settings == {"classes": 3}
    assert project.status.problem is None


def test_who_paints_does_not_wait_for_a_disk_that_stalls(project, monkeypatch):
    project.flush()
    monkeypatch.setattr(writer, "_PATIENCE", 0.01)
    with project._writer._pen._lock:  # as long as this, the system takes nothing
        for number in range(5):
            project.append(stroke(number, number))
        assert project.status.waiting == 5
    assert project.flush()
    assert found(project).last == 6


def test_what_cannot_be_written_at_once_is_told_and_written_later(project, monkeypatch):
    project.flush()
    monkeypatch.setattr(writer, "_RETRY", 0.01)

    def full(_self, _lines):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "append", full)
        for number in range(5):
            project.append(stroke(number, number))
        with project._writer._changed:
            project._writer._changed.wait_for(lambda: project._writer._problem, 10)
        assert project.status.problem == "No space left on device"
        assert project.status.waiting == 5
    assert project.flush()
    assert found(project).last == 6


def test_pixels_beyond_all_memory_are_not_written_before_they_are_counted(project, monkeypatch):
    project.flush()
    for module in (writer, journal_state):
        monkeypatch.setattr(module, "MOST_BYTES", 100)
    monkeypatch.setattr(writer, "_RETRY", 0.01)
    project.append(stroke(0, 0))
    with project._writer._changed:
        assert project._writer._changed.wait_for(lambda: project._writer._problem, 10)
    assert "more memory" in project.status.problem
    assert Project.open(project.folder, read_only=True).damages == ()
