"""The journal of a project: what is written comes back, and every step can be taken back."""

import json
import os
import shutil
import threading

import numpy as np
import pytest

from napari_unet.engine.journal import (
    AcceptanceChanged,
    Accepted,
    BoxChange,
    Header,
    JournalError,
    LayerAdded,
    ModelChanged,
    ModelFile,
    Painted,
    Project,
    SettingsChanged,
    ViewChanged,
    changes,
    compaction,
    diff_box,
    find_projects,
    fingerprint,
    new_folder,
    segment,
    writer,
)
from napari_unet.engine.journal.folder import segments, snapshots
from napari_unet.engine.journal.snapshot import read_snapshot, write_snapshot

SHAPE = (40, 50)
HEADER = Header("ab" * 32, "cells", SHAPE, "uint16")


def stroke(row, column, value=1, size=5, before=0):
    box = np.full((size, size), before, np.uint8)
    return Painted("annotations", "stroke", (BoxChange((row, column), box, box * 0 + value),))


def layer(shape=SHAPE, dtype="uint8"):
    return LayerAdded("annotations", "annotations", "strokes", shape, dtype)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cells-abababababab"


@pytest.fixture
def project(folder):
    project = Project.create(folder, HEADER)
    project.append(layer())
    yield project
    project.close()


def pixels(project, name="annotations"):
    return project.state.layers[name].pixels.full()


def reopened(project):
    project.close()
    return Project.open(project.folder, read_only=True)


def test_what_was_painted_is_there_after_reopening(project):
    project.append(stroke(3, 4, 1))
    project.append(stroke(30, 44, 2))
    expected = np.zeros(SHAPE, np.uint8)
    expected[3:8, 4:9] = 1
    expected[30:35, 44:49] = 2
    again = reopened(project)
    np.testing.assert_array_equal(pixels(again), expected)
    assert again.damages == ()
    assert again.header == HEADER


def test_everything_else_is_there_after_reopening(project):
    model = ModelFile("000000000003.safetensors", "0" * 64, 12, step=40, speaker="at once")
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    project.append(ModelChanged("round", None, model))
    accepted = project.append(Accepted((2, 3), labels))
    project.append(SettingsChanged({"classes": 3, "note": "Zürich"}))
    project.append(ViewChanged({"zoom": 2.5, "center": [0, 1, 2]}))
    state = reopened(project).state
    assert state.model == model
    assert state.accepted == (accepted,)
    np.testing.assert_array_equal(state.regions[accepted].labels, labels)
    assert state.settings == {"classes": 3, "note": "Zürich"}
    assert state.view == {"zoom": 2.5, "center": [0, 1, 2]}


def undo(project):
    for entry in project.next_undo():
        project.append(project.inverse_of(entry), undoes=entry.number)


def redo(project):
    for entry in project.next_redo():
        project.append(project.again(entry), redoes=entry.number)


def test_every_step_is_taken_back_and_made_again_after_reopening(project):
    states = [np.zeros(SHAPE, np.uint8)]
    for row, value in ((0, 1), (3, 2), (6, 1)):  # they overlap
        current = states[-1].copy()
        before = current[row : row + 5, 2:7].copy()
        current[row : row + 5, 2:7] = value
        box = BoxChange((row, 2), before, current[row : row + 5, 2:7].copy())
        project.append(Painted("annotations", "stroke", (box,)))
        states.append(current)
    for expected in states[-2::-1]:
        project.close()
        project = Project.open(project.folder)
        undo(project)
        project.close()
        np.testing.assert_array_equal(pixels(reopened(project)), expected)
    project = Project.open(project.folder)
    assert project.next_undo() == []
    for expected in states[1:]:
        redo(project)
        project.flush()
        np.testing.assert_array_equal(
            pixels(Project.open(project.folder, read_only=True)), expected
        )
    assert project.next_redo() == []
    project.close()


def test_learning_and_accepting_are_steps_as_well(project):
    first = ModelFile("000000000001.safetensors", "0" * 64, 12)
    second = ModelFile("000000000002.safetensors", "1" * 64, 12)
    project.append(ModelChanged("round", None, first))
    region = project.append(Accepted((0, 0), np.ones((2, 2), np.uint8)))
    project.append(ModelChanged("round", first, second))
    project.append(AcceptanceChanged((region,), ()))
    undo(project)
    assert project.facts.accepted == (region,)
    undo(project)
    assert project.facts.model == first
    undo(project)
    assert project.facts.accepted == ()
    undo(project)
    assert project.facts.model is None
    for _ in range(3):
        redo(project)
    assert project.facts.accepted == (region,)
    assert project.facts.model == second


def test_a_new_stroke_forgets_what_could_be_made_again(project):
    project.append(stroke(0, 0))
    undo(project)
    project.append(stroke(9, 9))
    assert project.next_redo() == []
    assert len(project.next_undo()) == 1


def test_settings_and_the_view_are_no_steps(project):
    project.append(SettingsChanged({"classes": 2}))
    project.append(ViewChanged({}))
    assert project.next_undo() == []


def test_a_change_of_another_layer_can_be_taken_back_first(project):
    one = project.append(stroke(0, 0))
    two = project.append(stroke(9, 9))
    entry = project.entry(one)
    project.append(project.inverse_of(entry), undoes=one)
    assert [e.number for e in project.next_undo()] == [two]
    assert [e.number for e in project.next_redo()] == [one]


def test_a_large_change_is_one_step(project, monkeypatch):
    monkeypatch.setattr(changes, "LARGEST_ENTRY", 100)
    before = np.zeros((20, 30), np.uint8)
    after = np.arange(600).reshape(20, 30).astype(np.uint8)
    project.append(stroke(39 - 5, 0))
    project.append(Painted("annotations", "fill", (BoxChange((5, 6), before, after),)))
    project.flush()
    assert len(project.next_undo()) > 5
    shown = Project.open(project.folder, read_only=True)
    np.testing.assert_array_equal(pixels(shown)[5:25, 6:36], after)
    undo(project)
    project.flush()
    shown = Project.open(project.folder, read_only=True)
    assert not pixels(shown)[5:25, 6:36].any()
    assert len(project.next_undo()) == 1
    redo(project)
    again = reopened(project)
    np.testing.assert_array_equal(pixels(again)[5:25, 6:36], after)
    # napari takes it back in one go, as a change of its own that is as large
    parts = len(again.facts.history.undo) - 1
    project = Project.open(project.folder)
    first = project.facts.history.undo[1]
    project.append(
        Painted("annotations", "fill", (BoxChange((5, 6), after, before),)), undoes=first
    )
    assert len(project.facts.history.undo) == 1
    assert len(project.facts.history.redo) == parts
    project.close()


def test_a_box_outside_of_its_layer_is_refused(project):
    with pytest.raises(JournalError, match="belong"):
        project.append(stroke(38, 0))
    with pytest.raises(JournalError, match="belong"):
        project.append(Painted("annotations", "", (BoxChange((0, 0), *[np.zeros((2, 2))] * 2),)))
    with pytest.raises(JournalError, match="not added"):
        project.append(Painted("other", "", stroke(0, 0).boxes))
    project.append(stroke(0, 0))
    assert reopened(project).state.last == 2


def test_stacks_keep_only_planes_that_were_painted(folder):
    project = Project.create(folder, HEADER)
    project.append(layer((1000, 700, 900), "int32"))
    box = np.full((2, 300, 5), 70_000, np.int32)
    project.append(Painted("annotations", "", (BoxChange((998, 200, 100), box * 0, box),)))
    again = reopened(project)
    kept = again.state.layers["annotations"].pixels
    assert kept.size < 2e6
    region = kept.read((slice(997, 1000), slice(190, 510), slice(99, 106)))
    assert (region[1:, 10:310, 1:6] == 70_000).all()
    assert (region == 70_000).sum() == box.size


# ---------------------------------------------------------------------------- compaction


def test_the_journal_goes_on_in_parts_and_opens_from_a_snapshot(project, monkeypatch):
    monkeypatch.setattr(writer, "_SEGMENT_ENTRIES", 3)
    monkeypatch.setattr(writer, "_BATCH", 1)
    for number in range(12):
        project.append(stroke(number, number, value=number % 3 + 1, size=2))
        project.flush()
    again = reopened(project)
    assert len(segments(project.folder)) > 2
    assert 1 <= len(snapshots(project.folder)) <= 2
    expected = np.zeros(SHAPE, np.uint8)
    for number in range(12):
        expected[number : number + 2, number : number + 2] = number % 3 + 1
    np.testing.assert_array_equal(pixels(again), expected)
    for path in snapshots(project.folder).values():
        shutil.rmtree(path)
    np.testing.assert_array_equal(pixels(Project.open(project.folder, read_only=True)), expected)


def test_undo_reaches_behind_snapshots(project, monkeypatch):
    monkeypatch.setattr(writer, "_SEGMENT_ENTRIES", 3)
    for number in range(10):
        project.append(stroke(number * 3, 0, size=2))
        project.flush()
    project.close()
    project = Project.open(project.folder)
    assert snapshots(project.folder)
    for _ in range(10):
        undo(project)
    assert project.next_undo() == []
    assert not pixels(reopened(project)).any()


def test_the_oldest_history_goes_when_there_is_too_much(project, monkeypatch):
    monkeypatch.setattr(writer, "_SEGMENT_ENTRIES", 3)
    monkeypatch.setattr(compaction, "MOST_HISTORY", 1500)
    for number in range(20):
        project.append(stroke(number, 0, size=2, value=number + 1))
        project.flush()
        project._writer._compaction.wait(10)
    again = reopened(project)
    assert min(segments(project.folder)) > 1
    assert pixels(again)[19, 0] == 20
    assert again.damages == ()
    project = Project.open(project.folder)
    for _ in range(2):
        undo(project)
    with pytest.raises(JournalError, match="not in the journal any more"):
        project.entry(2)
    project.close()


def test_a_snapshot_is_a_zarr_array(project, tmp_path):
    zarr = pytest.importorskip("zarr")
    project.append(stroke(30, 44, 2))
    state = reopened(project).state
    path = write_snapshot(tmp_path, state)
    array = zarr.open_array(path / "layers" / "annotations", mode="r")
    np.testing.assert_array_equal(array[:], state.layers["annotations"].pixels.full())
    same = read_snapshot(path)
    np.testing.assert_array_equal(same.layers["annotations"].pixels.full(), array[:])
    assert same.history.undo == state.history.undo


# ---------------------------------------------------------------------------- finding


def test_an_image_is_known_by_its_pixels_not_by_its_place():
    image = np.random.default_rng(0).integers(0, 9, (30, 40), np.uint16)
    assert fingerprint(image) == fingerprint(image.astype(">u2"))
    assert fingerprint(image) == fingerprint(np.asfortranarray(image))
    other = image.copy()
    other[29, 39] += 1
    assert fingerprint(other) != fingerprint(image)
    assert fingerprint(image.reshape(40, 30)) != fingerprint(image)
    assert fingerprint(image.astype(np.int16)) != fingerprint(image)


class Lazy:
    """An array that counts what is read of it."""

    def __init__(self, shape):
        self.shape, self.dtype, self.read = shape, np.dtype(np.uint8), 0

    def __getitem__(self, box):
        sides = [span.stop - span.start for span in box]
        self.read += int(np.prod(sides))
        return np.full(sides, sum(span.start for span in box) % 251, np.uint8)


def test_of_a_terabyte_little_is_read():
    image = Lazy((10_000, 10_000, 10_000))
    assert fingerprint(image) == fingerprint(Lazy(image.shape))
    assert image.read < 2e6


def test_projects_are_found_again_and_the_latest_is_first(tmp_path):
    paths = []
    for stem in ("cells", "cells", "renamed cells"):
        path = new_folder(tmp_path, stem, HEADER.fingerprint)
        Project.create(path, HEADER).close()
        paths.append(path)
    assert len(set(paths)) == 3
    for age, path in enumerate(paths):
        project = Project.open(path)
        project.append(layer())
        project.close()
        for file in segments(path).values():
            os.utime(file, (1000 - age, 1000 - age))
    other = Header("cd" * 32, "cells", SHAPE, "uint16")
    Project.create(new_folder(tmp_path, "cells", other.fingerprint), other).close()
    assert find_projects([tmp_path, tmp_path / "none"], HEADER.fingerprint) == paths
    assert find_projects([tmp_path], "ef" * 32) == []


def test_a_newer_format_is_refused_with_the_cure(project):
    project.close()
    path = project.folder / "project.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(JournalError, match="update napari-unet"):
        Project.open(project.folder)


def test_diff_box_is_the_smallest():
    before = np.zeros((4, 6, 7), np.uint8)
    after = before.copy()
    after[2, 1, 3] = after[2, 4, 5] = 1
    assert diff_box(before, after) == (slice(2, 3), slice(1, 5), slice(3, 6))
    assert diff_box(before, before) is None


def test_no_thread_is_left(project):
    project.append(stroke(0, 0))
    project.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("U-Net")]
    assert segment.Segment  # what a project writes to is closed with it
