"""Sessions that are killed with kill -9 at random moments: part of `faults.py`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from faults_session import Failed, Session, play_until_killed, play_whole, played

from napari_unet.engine.journal import Project
from napari_unet.engine.journal.folder import MODELS, hash_file

# Kills of one project after the other, each session going on where the last one was found.
_KILLS_OF_A_PROJECT = 10
# Until the kill at the latest.
_LATEST_KILL = 1.5


def kills(root: Path, count: int, seed: int, paces: tuple[float, ...]) -> str:
    """Kill sessions at random moments; return how many changes each kill took."""
    lost: Counter[int] = Counter()
    torn = changes = 0
    rng = random.Random(seed)
    play_whole(Session(seed), root / "warm", 60)  # how the network runs best is measured once
    for number in range(count):
        which, place = divmod(number, _KILLS_OF_A_PROJECT)
        folder = root / str(which)
        if place == 0:
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            found = 0
        before = found
        handed = killed(seed + which, found, folder, rng, rng.choice(paces))
        found, was_torn = _reopened(seed + which, found, folder)
        lost[max(handed - found, 0)] += 1
        torn += was_torn
        changes += max(handed, found) - before
    shutil.rmtree(root, ignore_errors=True)
    taken = ", ".join(f"{n} lost {times} times" for n, times in sorted(lost.items()))
    if max(lost) > 1:
        raise Failed(f"more than the change in progress was lost: {taken}")
    return (
        f"{count} kills, each opened and was right; changes handed over and not found: {taken}; "
        f"{torn} torn last lines; {changes} changes"
    )


def killed(seed: int, count: int, folder: Path, rng: random.Random, pace: float) -> int:
    """Let another process go on with a session, kill it, and return how far it said it was."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            play_until_killed(seed, count, folder, writing, pace)
        finally:
            os._exit(1)
    os.close(writing)
    # Not before it began, or nothing is interrupted.
    said = os.read(reading, 100)
    time.sleep(rng.uniform(0, _LATEST_KILL))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while more := os.read(reading, 2**16):
        said += more
    os.close(reading)
    if not os.WIFSIGNALED(status):
        raise Failed(f"a session ended by itself, after {said.decode()!r}")
    whole = said[: said.rfind(b"\n") + 1].split()
    return int(whole[-1]) if whole else count


def _reopened(seed: int, before: int, folder: Path) -> tuple[int, bool]:
    """Open a project that was interrupted; return how far it is, and if its last line is torn."""
    project = Project.open(folder)
    try:
        state = project.state
        if project.read_only is not None or state.last < before:
            raise Failed(f"{project.read_only}, at {state.last} after {before}")
        if serious := [str(each) for each in project.damages if not each.is_torn]:
            raise Failed(f"a kill left damage: {serious}")
        if differs := played(seed, state.last).differs_from(state):
            raise Failed(f"after {state.last} changes of session {seed} {differs} is other")
        if state.model is not None:
            path = folder / MODELS / state.model.name
            if hash_file(path) != (state.model.sha256, state.model.size):
                raise Failed("the network is not what was written")
        return state.last, bool(project.damages)
    finally:
        project.close()
