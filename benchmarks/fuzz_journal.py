"""Feed the readers of a project what no program wrote: only the error that is documented comes out.

Usage: python benchmarks/fuzz_journal.py [--inputs 100000] [--seed 0]

Each input is a project of a few changes with something wrong in it: bytes flipped, cut, doubled or
put in; or values of its JSON replaced by hostile ones, with lengths and checksums that are right
again. It goes through the reader of lines, of changes, of snapshots and of whole folders. Counted
is what came out; the script ends with an error if anything but `JournalError` was raised, a file
outside of the folder was opened, more memory was taken than a project may, or one took too long.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from napari_unet.engine.journal import (
    Accepted,
    BoxChange,
    Header,
    JournalError,
    LayerAdded,
    ModelChanged,
    ModelFile,
    Painted,
    Project,
    ProjectState,
    SettingsChanged,
    ViewChanged,
)
from napari_unet.engine.journal.folder import segments
from napari_unet.engine.journal.format import encode_line, read_lines
from napari_unet.engine.journal.records import from_values
from napari_unet.engine.journal.snapshot import read_snapshot, write_snapshot

SHAPE = (30, 40)
# Of how many inputs one is a whole folder.
_FOLDERS = 50
# Seconds that one input may take on a busy machine, and MiB that all of them together may.
_LONGEST = 20.0
_MOST_MEMORY = 3000
_HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**53,
    2**64,
    10**400,
    1e308,
    "",
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x.safetensors",
    "0.safetensors\x00",
    "x" * 5000,
    "A" * 4000,
    [],
    [0] * 9,
    [2**31 - 1, 2**31 - 1],
    [10**6, 10**6, 10**6],
    [16, 2**20],
    [[1]],
    {},
    {"a": {"a": {}}},
    float(3),
)


def main() -> None:
    """Feed inputs and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counted, slowest = fuzz(Path(folder), options.inputs, options.seed)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.inputs} inputs in {time.perf_counter() - start:.0f} s")
    for what, count in sorted(counted.items()):
        print(f"  {what}: {count}")
    print(f"slowest input {slowest:.2f} s, largest memory {memory:.0f} MiB")
    wrong = [what for what in counted if what.startswith("WRONG")]
    if slowest > _LONGEST or memory > _MOST_MEMORY:
        wrong.append("too slow or too large")
    sys.exit("; ".join(wrong) if wrong else 0)


def fuzz(root: Path, inputs: int, seed: int) -> tuple[Counter[str], float]:
    """Feed so many inputs; return how often each outcome was, and the seconds of the slowest.

    Parameters
    ----------
    root
        An empty folder.
    inputs, seed
        How many, and of which.
    """
    whole = root / "whole"
    lines = _project(whole)
    rng = random.Random(seed)
    counted: Counter[str] = Counter()
    slowest = 0.0
    for number in range(inputs):
        start = time.perf_counter()
        if number % _FOLDERS == 0:
            what, read = "folder", lambda: _read_folder(rng, whole, root / "fuzzed")
        elif number % 2:
            what, read = "bytes", lambda: _read_bytes(_mutated_bytes(rng, b"".join(lines)))
        else:
            what, read = "values", lambda: _read_bytes(_mutated_values(rng, lines))
        try:
            outcome = read()
        except JournalError:
            outcome = "refused"
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            outcome = f"WRONG {type(error).__name__}: {error}"[:200]
        counted[f"{what}: {outcome}" if outcome[:5] != "WRONG" else outcome] += 1
        slowest = max(slowest, time.perf_counter() - start)
    return counted, slowest


def _project(folder: Path) -> list[bytes]:
    """Write a project with a change of every kind and a snapshot; return the journal's lines."""
    project = Project.create(folder, Header("ab" * 32, "cells", SHAPE, "uint16"))
    model = ModelFile("000000000001.safetensors", "0" * 64, 12)
    box = np.arange(20, dtype=np.uint8).reshape(4, 5)
    for change in (
        LayerAdded("annotations", "annotations", "strokes", SHAPE, "uint8"),
        LayerAdded("objects", "objects", "objects", (3, *SHAPE), "int32"),
        Painted("annotations", "stroke", (BoxChange((3, 4), box * 0, box),)),
        Painted("objects", "object", (BoxChange((1, 2, 3), *[box[None].astype(np.int32)] * 2),)),
        Accepted((1, 1), box),
        ModelChanged("round", None, model),
        SettingsChanged({"classes": 2, "learning": {"rate": 1e-3}}),
        ViewChanged({"zoom": 1.5, "step": [0, 1]}),
    ):
        project.append(change)
    (entry,) = project.next_undo()
    project.append(project.inverse_of(entry), undoes=entry.number)
    project.close()
    path = next(iter(segments(folder).values()))
    write_snapshot(folder, Project.open(folder, read_only=True).state)
    return [line + b"\n" for line in path.read_bytes().split(b"\n")[:-1]]


# ---------------------------------------------------------------------------- what goes in


def _mutated_bytes(rng: random.Random, contents: bytes) -> bytes:
    data = bytearray(contents)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) or 1)
        match rng.randrange(5):
            case 0 if data:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:]
            case 2:
                del data[place : place + rng.randrange(50)]
            case 3:
                data[place:place] = rng.randbytes(rng.randrange(40))
            case _:
                start = rng.randrange(len(data) or 1)
                data[place:place] = data[start : start + rng.randrange(500)]
    return bytes(data)


def _mutated_values(rng: random.Random, lines: list[bytes]) -> bytes:
    """Replace values in the JSON of some lines, and write lengths and checksums that are right."""
    chosen = list(lines)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(chosen))
        values = json.loads(chosen[place][18:])
        _replace(rng, values)
        chosen[place] = encode_line(values)
    if rng.random() < 0.2:
        rng.shuffle(chosen)
    return b"".join(chosen)


def _replace(rng: random.Random, values: Any) -> None:
    """Put something hostile somewhere into a JSON value."""
    keys = list(values) if isinstance(values, dict) else list(range(len(values)))
    if not keys:
        return
    key = rng.choice(keys)
    inside = values[key]
    if isinstance(inside, (dict, list)) and inside and rng.random() < 0.6:
        _replace(rng, inside)
    elif isinstance(values, dict) and rng.random() < 0.15:
        del values[key]
    elif isinstance(inside, str) and inside and rng.random() < 0.4:
        letters = list(inside)
        letters[rng.randrange(len(letters))] = rng.choice("A/=+z0.\x00é")
        values[key] = "".join(letters)
    elif isinstance(inside, int) and rng.random() < 0.4:
        values[key] = inside + rng.choice((-1, 1, 2, 255, 2**20))
    else:
        values[key] = copy.deepcopy(rng.choice(_HOSTILE))


# ---------------------------------------------------------------------------- what reads it


def _read_bytes(contents: bytes) -> str:
    state = ProjectState()
    for number, line in enumerate(read_lines(io.BytesIO(contents))):
        if number:
            state.take(from_values(line.values))
    for layer in state.layers.values():
        _ = layer.pixels.size
    return "read"


def _read_folder(rng: random.Random, whole: Path, folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    path = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    contents = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.5:
        values = json.loads(contents)
        _replace(rng, values)
        path.write_text(json.dumps(values))
    elif rng.random() < 0.1:
        path.unlink()
        path.symlink_to("/etc/hostname")
    else:
        path.write_bytes(_mutated_bytes(rng, contents))
    with _only_in(folder):
        for snapshot in folder.glob("snapshot-*"):
            try:
                read_snapshot(snapshot)
            except JournalError:
                continue
        project = Project.open(folder)
        project.append(ViewChanged({"zoom": 1}))
        project.close()
    again = Project.open(folder, read_only=True)
    if again.damages:
        raise AssertionError(f"damage was not set aside: {again.damages}")
    return "opened, damage named" if project.damages else "opened"


@contextmanager
def _only_in(folder: Path) -> Iterator[None]:
    """Raise if a file elsewhere is opened."""
    inside, real_open = os.path.realpath(folder), os.open

    def checked(path: Any, *args: Any, **kwargs: Any) -> int:
        handle = real_open(path, *args, **kwargs)
        if not os.path.realpath(path).startswith(inside):
            os.close(handle)
            raise AssertionError(f"{path} was opened, which is not in the folder")
        return handle

    with mock.patch("os.open", checked):
        yield


if __name__ == "__main__":
    main()
