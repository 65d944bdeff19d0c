"""What a project survives: kills, full disks, folders that vanish, second windows, damaged files.

Usage: python benchmarks/faults.py [--kills 500] [--damages 200] [--seed 0] [--only NAME]

A session of strokes, objects, accepted views, undo, redo and rounds of learning (a small network
that really learns) is played into a project and interrupted. Each reopening is compared with the
same session played in memory: pixels, network, accepted views, and what can be taken back. Printed
is what was counted; the script ends with an error if anything came out otherwise than it should.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from faults_first import first_strokes
from faults_kills import killed, kills
from faults_session import LAYERS, SHAPE, Failed, Player, Session, header, play_whole, played

from napari_unet.engine.journal import LayerAdded, Project, ViewChanged
from napari_unet.engine.journal.folder import segments
from napari_unet.engine.journal.segment import Segment

# Seconds between two changes: still faster than by hand, and as fast as a program can.
_PACES = {"50 to 200 ms": (0.05, 0.1, 0.2), "0 to 50 ms": (0.0, 0.005, 0.02, 0.05)}


def main() -> None:
    """Interrupt in every way and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--damages", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="the faults whose names contain this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faults: list[tuple[str, Callable[[], object]]] = [
            *_kills_at_each_pace(folder / "kills", options.kills, options.seed),
            ("kill -9 in the first strokes", lambda: _first(folder / "first", options)),
            ("damage", lambda: damages(folder / "damages", options.damages, options.seed)),
            ("full disk", lambda: full_disk(folder / "full")),
            ("full disk, really", really_full_disk),
            ("read-only folder", lambda: read_only(folder / "read-only")),
            ("folder removed", lambda: folder_removed(folder / "removed")),
            ("two sessions", lambda: two_sessions(folder / "two")),
            ("lock of the dead", lambda: lock_of_the_dead(folder / "dead")),
            ("clock that jumps", lambda: jumping_clock(folder / "clock")),
        ]
        for title, fault in faults:
            if options.only not in title:
                continue
            start = time.perf_counter()
            try:
                outcome = fault()
            except Failed as error:
                failures += 1
                outcome = f"FAILED: {error}"
            print(f"{title}: {outcome} ({time.perf_counter() - start:.0f} s)", flush=True)
    sys.exit(1 if failures else 0)


# ---------------------------------------------------------------------------- kill -9


def _kills_at_each_pace(root: Path, count: int, seed: int) -> list[tuple[str, Callable[[], str]]]:
    return [
        (f"kill -9, a change every {name}", partial(kills, root, count, seed, paces))
        for name, paces in _PACES.items()
    ]


def _first(root: Path, options: argparse.Namespace) -> str:
    try:
        return first_strokes(root, max(options.kills // 10, 10), options.seed)
    except AssertionError as error:
        raise Failed(str(error)) from error


# ---------------------------------------------------------------------------- damage


def damages(root: Path, count: int, seed: int, length: int = 150) -> str:
    """Cut journals of so many changes and flip bits at random; what is before is recovered."""
    rng = random.Random(seed)
    whole = root / "whole"
    root.mkdir(parents=True)
    play_whole(Session(seed), whole, length)
    counted: Counter[str] = Counter()
    for number in range(count):
        folder = root / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        kind = ("cut", "bit flipped", "snapshots gone, bit flipped")[number % 3]
        if kind.startswith("snapshots"):
            for path in folder.glob("snapshot-*"):
                shutil.rmtree(path)
        _damage(rng, folder, cut=kind == "cut")
        project = Project.open(folder)
        state = project.state
        project.close()
        if differs := played(seed, state.last).differs_from(state):
            raise Failed(f"{kind}: after {state.last} changes {differs} is other")
        if state.last < length and not project.damages:
            raise Failed(f"{kind}: {length - state.last} changes are gone, and nothing says so")
        again = Project.open(folder)
        if again.damages or again.state.last != state.last:
            raise Failed(f"{kind}: what was set aside comes back: {again.damages}")
        again.close()
        counted[kind] += 1
        counted["changes found"] += state.last
        counted["damages named"] += len(project.damages)
    named, found = counted.pop("damages named"), counted.pop("changes found")
    kinds = ", ".join(f"{times} {kind}" for kind, times in counted.items())
    return (
        f"{kinds}: each opened; {found / (length * count):.0%} of all changes found, {named} named"
    )


def _damage(rng: random.Random, folder: Path, *, cut: bool) -> None:
    path = rng.choice(list(segments(folder).values()))
    contents = bytearray(path.read_bytes())
    place = rng.randrange(len(contents))
    if cut:
        del contents[place:]
    else:
        contents[place] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(contents))


# ---------------------------------------------------------------------------- disks and folders


def full_disk(folder: Path) -> str:
    """Let the disk be full for a while: nothing is lost, and it is told."""
    player = Player(Session(1), folder)
    steps = player.steps()
    _until(steps, 20)
    player.project.flush()
    with mock.patch.object(Segment, "append", side_effect=OSError(errno.ENOSPC, "No space left")):
        _until(steps, 40)
        _wait(lambda: player.project.status.problem is not None)
        told = player.project.status.problem
        waiting = player.project.status.waiting
    if not player.project.flush(30):
        raise Failed("what waited was not written when there was room again")
    player.project.close()
    _same(folder, 1, 40)
    return f"told {told!r}, {waiting} changes waited and were written when there was room"


def really_full_disk() -> str:
    """Fill a small file system; only root can make one."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return "not tried: only root can mount a small file system"
    mount = Path(tempfile.mkdtemp())
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {mount} 2>/dev/null") != 0:
        mount.rmdir()
        return "not tried: no file system can be mounted here"
    try:
        return _on_small_disk(mount)
    finally:
        os.system(f"umount {mount}")
        mount.rmdir()


def _on_small_disk(mount: Path) -> str:
    ballast = mount / "ballast"
    project = Project.create(mount / "project", header())
    project.append(LayerAdded(LAYERS[0], LAYERS[0], "", SHAPE, "uint8"))
    project.flush()
    while True:
        try:
            with ballast.open("ab") as file:
                file.write(bytes(2**12))
        except OSError:
            break
    count = 0
    while project.status.problem is None and count < 10_000:
        project.append(ViewChanged({"zoom": count, "filler": "x" * 500}))
        count += 1
        project.flush(0.05)
    told = project.status.problem
    read = Project.open(mount / "project", read_only=True)
    if read.damages:
        raise Failed(f"a full disk left damage: {read.damages}")
    ballast.unlink()
    if not project.flush(30):
        raise Failed("what waited was not written when there was room again")
    project.close()
    again = Project.open(mount / "project", read_only=True)
    if again.state.last != count + 1 or again.damages:
        raise Failed(f"{count + 1} changes were made, {again.state.last} are there")
    return f"told {told!r} after {count} changes; all are there after room was made"


def read_only(folder: Path) -> str:
    """Open a project in a folder that cannot be written."""
    play_whole(Session(2), folder, 30)
    denied = OSError(errno.EROFS, "Read-only file system")
    with mock.patch("filelock.FileLock.acquire", side_effect=denied):
        project = Project.open(folder)
    if project.read_only is None or project.append(ViewChanged({})):
        raise Failed("it was not opened read-only")
    if differs := played(2, 30).differs_from(project.state):
        raise Failed(f"{differs} is other")
    return f"opened, {project.read_only!r}"


def folder_removed(folder: Path) -> str:
    """Remove the folder in the middle of a session: what is painted is saved again."""
    player = Player(Session(3), folder)
    steps = player.steps()
    _until(steps, 30)
    player.project.flush()
    shutil.rmtree(folder)
    _until(steps, 35)
    if not player.project.flush(30) or player.project.status.made_anew != 1:
        raise Failed("the folder was not made again")
    second = Project.open(folder)
    if second.read_only is None:
        raise Failed("the folder that was made again is not locked")
    player.project.close()
    _same(folder, 3, 35)
    return "made again with everything that was painted; what can be taken back begins there"


def two_sessions(folder: Path) -> str:
    """Open a project twice: the second one reads and says so."""
    player = Player(Session(4), folder)
    _until(player.steps(), 20)
    player.project.flush()
    second = Project.open(folder)
    if second.read_only is None or second.append(ViewChanged({})):
        raise Failed("two sessions write to one project")
    if differs := played(4, 20).differs_from(second.state):
        raise Failed(f"{differs} is other")
    player.project.close()
    third = Project.open(folder)
    if third.read_only is not None:
        raise Failed("it cannot be written after the first session ended")
    third.close()
    return f"the second is told {second.read_only.split(',')[0]!r}, and may write after the first"


def lock_of_the_dead(folder: Path) -> str:
    """Open a project whose program was killed while it was open."""
    killed(5, 0, folder, random.Random(5), 0.05)
    if not (folder / "lock").exists():
        raise Failed("the killed session left no lock")
    project = Project.open(folder)
    if project.read_only is not None:
        raise Failed(f"the lock of the dead holds: {project.read_only}")
    project.close()
    return "taken over at once"


def jumping_clock(folder: Path) -> str:
    """Let the clock jump years back and forth between changes."""
    rng = random.Random(0)

    def clock() -> float:
        return rng.uniform(0, 4e9)

    with mock.patch("napari_unet.engine.journal.folder.time.time", clock):
        play_whole(Session(6), folder, 60)
    _same(folder, 6, 60)
    return "60 changes in their order"


def _same(folder: Path, seed: int, count: int) -> None:
    project = Project.open(folder, read_only=True)
    if project.damages or project.state.last != count:
        raise Failed(f"{project.state.last} of {count} changes, {project.damages}")
    if differs := played(seed, count).differs_from(project.state):
        raise Failed(f"{differs} is other")


def _until(steps: Any, count: int) -> None:
    for number in steps:
        if number == count:
            break


def _wait(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed("nothing was told in time")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
