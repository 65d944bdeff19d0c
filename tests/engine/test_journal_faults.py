"""The short form of `benchmarks/faults.py` and `benchmarks/fuzz_journal.py`."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_unet.engine.journal import JournalError, Project, ViewChanged
from napari_unet.engine.journal import writer as journal_writer
from napari_unet.engine.journal.folder import segments

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """Return the modules of the benchmarks, and forget them and what they set afterwards."""
    before, entries = set(sys.modules), journal_writer._SEGMENT_ENTRIES
    sys.path.insert(0, str(FOLDER))
    names = ("faults", "faults_kills", "faults_session", "fuzz_journal")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(FOLDER))
    journal_writer._SEGMENT_ENTRIES = entries
    for name in set(sys.modules) - before:
        if name in names:
            del sys.modules[name]


@pytest.fixture(scope="module")
def faults(modules):
    return modules["faults"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_a_killed_session_is_found_again():
    # A process of its own, since this one may have threads, which do not survive a fork.
    call = [sys.executable, str(FOLDER / "faults.py"), "--kills", "5", "--only", "kill"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kills, each opened and was right" in done.stdout


def test_what_is_before_a_damage_is_found_and_the_rest_named(faults, tmp_path):
    said = faults.damages(tmp_path / "damages", 9, seed=3, length=50)
    assert said.startswith("3 cut, 3 bit flipped")


@pytest.mark.parametrize(
    "fault", ["full_disk", "read_only", "folder_removed", "two_sessions", "jumping_clock"]
)
def test_faults(faults, tmp_path, fault):
    assert getattr(faults, fault)(tmp_path / "project")


def test_a_session_that_differs_is_noticed(modules, tmp_path):
    session = modules["faults_session"]
    session.play_whole(session.Session(7), tmp_path / "project", 30)
    state = Project.open(tmp_path / "project", read_only=True).state
    assert session.played(7, 30).differs_from(state) is None
    assert session.played(8, 30).differs_from(state) is not None


def test_of_hostile_inputs_only_the_documented_error_comes_out(modules, tmp_path):
    counted, _ = modules["fuzz_journal"].fuzz(tmp_path, 1500, seed=5)
    assert [what for what in counted if what.startswith("WRONG")] == []
    assert counted["values: refused"] > 100
    assert counted["values: read"] > 10
    assert counted["bytes: refused"] > 100
    assert sum(counted.values()) == 1500


@pytest.fixture
def folder(modules, tmp_path):
    modules["fuzz_journal"]._project(tmp_path / "project")
    return tmp_path / "project"


def test_links_are_not_followed(folder, tmp_path):
    (path,) = segments(folder).values()
    outside = tmp_path / "outside.jsonl"
    path.rename(outside)
    path.symlink_to(outside)
    before = outside.read_bytes()
    project = Project.open(folder)
    project.append(ViewChanged({"zoom": 3}))
    project.close()
    assert outside.read_bytes() == before


def test_a_name_of_weights_cannot_lead_out_of_its_folder(folder):
    from napari_unet.engine.journal.checked import Checked
    from napari_unet.engine.journal.records import read_model

    good = {
        "name": "000000000001.safetensors",
        "sha256": "0",
        "size": 1,
        "step": 1,
        "speaker": "network",
    }
    assert read_model(Checked(good)) is not None
    for name in ("../x.safetensors", "/1.safetensors", "1.safetensors\n", "a.safetensors", "1.pt"):
        with pytest.raises(JournalError, match="proper name"):
            read_model(Checked({**good, "name": name}))


def test_a_header_that_claims_terabytes_takes_no_memory(folder):
    path = folder / "project.json"
    values = json.loads(path.read_text())
    values["image"]["shape"] = [2**30, 2**30]
    path.write_text(json.dumps(values))
    project = Project.open(folder, read_only=True)
    assert project.header.shape == (2**30, 2**30)


def test_a_folder_without_a_project_is_refused(tmp_path):
    with pytest.raises(JournalError, match="no project"):
        Project.open(tmp_path)
    with pytest.raises(JournalError, match="cannot be read"):
        Project.open(tmp_path / "none")


def test_a_damaged_header_is_no_loss(folder):
    (folder / "project.json").write_text("{")
    project = Project.open(folder)
    assert project.header.name == "cells"
    assert project.state.last == 9
    project.close()
