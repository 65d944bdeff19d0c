"""Kill a session in its first strokes, while the folder of its project is being made.

Part of `faults.py`; by itself: python benchmarks/faults_first.py [--kills 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import torch

_SHAPE = (96, 120)
_STROKES = 12
# Seconds: between two strokes, and from the first one to the kill.
_PAUSES = (0.0, 0.003, 0.01)
_LATEST_KILL = 0.08


def first_strokes(root: Path, kills: int, seed: int) -> str:
    """Kill sessions while they paint their first strokes; return how many each kill took."""
    rng = random.Random(seed)
    lost: Counter[int] = Counter()
    painted: Counter[int] = Counter()
    for _ in range(kills):
        shutil.rmtree(root, ignore_errors=True)
        told = _killed(root, rng.choice(_PAUSES), rng.uniform(0.0, _LATEST_KILL))
        painted[told] += 1
        lost[max(told - _found(root), 0)] += 1
    shutil.rmtree(root, ignore_errors=True)
    counts = ", ".join(f"{n} lost {times} times" for n, times in sorted(lost.items()))
    if max(lost) > 1:
        raise AssertionError(f"more than the stroke in progress was lost: {counts}")
    return f"{kills} kills after {min(painted)} to {max(painted)} strokes: {counts}"


def _found(root: Path) -> int:
    """Return how many strokes the project holds."""
    from napari_unet.engine.journal import Project, find_projects, fingerprint

    found = find_projects([root], fingerprint(_image())) if root.is_dir() else []
    return len(Project.open(found[0], read_only=True).state.history.undo) if found else 0


def _image() -> np.ndarray:
    return np.random.default_rng(0).random(_SHAPE, dtype=np.float32)


def _killed(root: Path, pause: float, seconds: float) -> int:
    """Let another process paint, kill it, and return how many strokes it said it had painted."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _paint(root, pause, writing)
        except BaseException:  # noqa: BLE001 - told, and the parent counts it
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    said = os.read(reading, 1)  # it is about to begin
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) or not said:
        sys.exit("a session ended by itself")
    while more := os.read(reading, 2**16):
        said += more
    os.close(reading)
    return len(said) - 1


def _paint(root: Path, pause: float, pipe: int) -> None:
    """Open an image that has no project, and paint."""
    os.environ |= {"NAPARI_UNET_PROJECTS": str(root), "QT_QPA_PLATFORM": "offscreen"}
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    from napari_unet.engine.segmenter import Segmenter
    from napari_unet.model.unet import UNet
    from napari_unet.viewer.controller import SegmentationController
    from napari_unet.viewer.project import project_for

    torch.set_num_threads(1)
    qt = QApplication([])
    viewer = ViewerModel()
    session = SegmentationController(viewer, Segmenter(UNet(base_channels=2, depth=1)))
    session.layers.set_image(viewer.add_image(_image(), name="image"))
    projects = project_for(session)
    while projects.bound is None or projects.bound.looked is None:
        qt.processEvents()
    layer = session.layers.add_annotations()
    layer.brush_size = 4
    os.write(pipe, b".")
    for number in range(_STROKES):
        with layer.block_history():  # as the mouse does: the pixels first
            layer.paint((6 + 7 * number, 20), 1)
        os.write(pipe, b".")
        end = time.monotonic() + pause
        qt.processEvents()
        time.sleep(max(end - time.monotonic(), 0.0))
    time.sleep(10)


def main() -> None:
    """Kill sessions and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(first_strokes(Path(name) / "projects", options.kills, options.seed))


if __name__ == "__main__":
    main()
