"""Kill the program itself while a robot paints, finishes objects, learns and takes steps back.

Usage: xvfb-run -a python benchmarks/faults_window.py [--kills 50] [--seed 0]

`faults.py` interrupts the engine; here the viewer's own session is killed: layers, the thread of
the jobs, and what binds them to the project. Each session opens the image, goes on where the one
before was found, and tells what it shows after each action. After the kill the project must hold
what was shown after the last action, or after the one before it, or the one in progress.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_unet.engine.journal import Project, find_projects, fingerprint
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.starter import Starter
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.actions import Action
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.project import project_for

_SHAPE = (96, 120)
_KILLS_OF_A_PROJECT = 10
_LATEST_KILL = 3.0


def image() -> Any:
    """Return the image."""
    pixels = np.random.default_rng(0).normal(0.2, 0.05, _SHAPE)
    pixels[:, _SHAPE[1] // 2 :] += 0.6
    return pixels.astype(np.float32)


def main() -> None:
    """Kill sessions and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as root:
        for number in range(options.kills):
            home = Path(root) / str(number // _KILLS_OF_A_PROJECT)
            os.environ["NAPARI_UNET_PROJECTS"] = str(home)
            before = _pixels(home)
            told = _killed(rng.randrange(2**30), rng.uniform(0.2, _LATEST_KILL))
            counted[_judge(before, told, _pixels(home))] += 1
    print(f"{options.kills} kills of the viewer's session, each project opened")
    for what, times in counted.most_common():
        print(f"  {what}: {times}")
    sys.exit(1 if any(what.startswith("WRONG") for what in counted) else 0)


def _pixels(home: Path) -> str:
    """Return a checksum of what the latest project holds."""
    found = find_projects([home], fingerprint(image()))
    if not found:
        return _checksum(np.zeros(_SHAPE), np.zeros(_SHAPE))
    project = Project.open(found[0])
    state = project.state
    serious = [str(each) for each in project.damages if not each.is_torn]
    reason = project.read_only
    project.close()
    if serious or reason:
        return f"damaged: {serious}, {reason}"
    layers = [
        state.layers[name].pixels.full() if name in state.layers else np.zeros(_SHAPE)
        for name in ("annotations", "objects")
    ]
    return _checksum(*layers)


def _checksum(strokes: Any, objects: Any) -> str:
    both = np.stack([strokes, objects]).astype(np.int32)
    return f"{zlib.crc32(both.tobytes()):08x}"


def _judge(before: str, told: list[str], after: str) -> str:
    """Say how far what is found is behind what was shown."""
    if after.startswith("damaged"):
        return f"WRONG: {after}"
    began = [line for line in told if line.startswith("began")]
    shown = [line.split()[1] for line in told if line.startswith("shown")]
    if not shown:
        return "killed while it opened" if after == before else "WRONG: opening changed it"
    if shown[0] != before:
        return f"WRONG: went on with {shown[0]} instead of {before}"
    if after == shown[-1]:
        return "as it was shown last"
    if len(shown) > 1 and after == shown[-2]:
        return "without the last action"
    if len(began) == len(shown):
        return "with the action in progress"
    return f"WRONG: {after} is none of {shown[-4:]}"


def _killed(seed: int, seconds: float) -> list[str]:
    """Let another process work, kill it, and return what it told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(seed, writing)
        except BaseException:  # noqa: BLE001 - told, and the parent counts it
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    said = os.read(reading, 1000)  # not before it shows something
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit("a session ended by itself")
    while more := os.read(reading, 2**16):
        said += more
    os.close(reading)
    return said[: said.rfind(b"\n") + 1].decode().splitlines()


# ---------------------------------------------------------------------------- the session


class Worker:
    """A session in a viewer without a window."""

    def __init__(self, seed: int, pipe: int) -> None:
        self.rng = random.Random(seed)
        self.pipe = pipe
        self.qt = QApplication([])
        torch.manual_seed(0)
        starter = Starter("tiny", UNet(3, 2, 4, 2, batch_norm=True).eval(), 0.1, 10.0)
        config = FinetuneConfig(patch_size=20, precision="fp32")
        self.viewer = ViewerModel()
        segmenter = Segmenter(starter=starter, config=config)
        self.session = SegmentationController(self.viewer, segmenter)
        layer = self.viewer.add_image(image(), name="halves")
        self.session.layers.set_image(layer)
        self.clicks = click_session_for(self.session)
        self.clicks.scene.set_image(layer)
        self.projects = project_for(self.session)
        self.wait(lambda: self.projects.bound is not None and not self.projects.bound.is_busy)
        bound = self.projects.bound
        if bound is not None and bound.offered is not None:
            self.projects.go_on()
            self.wait(lambda: self.projects.project is not None)
        if self.session.layers.annotations is None:
            self.session.layers.add_annotations()
        self.objects = self.clicks.scene.need_objects()

    def wait(self, condition: Any, seconds: float = 30.0) -> None:
        """Let Qt work until something is so."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self.qt.processEvents()
            time.sleep(0.002)

    def tell(self, what: str) -> None:
        """Say something to who will kill this."""
        os.write(self.pipe, what.encode() + b"\n")

    def show(self) -> None:
        """Tell what the layers hold."""
        strokes = self.session.layers.annotations
        assert strokes is not None
        assert self.objects is not None
        self.tell(f"shown {_checksum(strokes.data, self.objects.layer.data)}")

    def act(self) -> None:
        """Do something, with the pauses of a fast person."""
        row, column = self.rng.randrange(5, 80), self.rng.randrange(5, 100)
        strokes = self.session.layers.annotations
        assert strokes is not None
        assert self.objects is not None
        match self.rng.choices(("stroke", "object", "undo", "learn"), (6, 2, 1, 1))[0]:
            case "stroke":
                strokes.brush_size = 4
                with strokes.block_history():
                    for step in range(10):
                        strokes.paint((row, column + step), 1 if column < 55 else 2)
            case "object":
                mask = np.zeros(_SHAPE, bool)
                mask[row : row + 10, column : column + 15] = True
                self.objects.write({(): Outline.of_mask(mask)})
            case "undo":
                self.projects.steps.undo()
            case _:
                if self.session.why_not(Action.LEARN) is None:
                    self.session.learn(0.2)

    def rest(self) -> None:
        """Let the window live for a moment."""
        end = time.monotonic() + self.rng.uniform(0.05, 0.2)
        self.wait(lambda: time.monotonic() > end)


def work(seed: int, pipe: int) -> None:
    """Work until killed."""
    worker = Worker(seed, pipe)
    worker.show()
    while True:
        worker.tell("began")
        worker.act()
        worker.qt.processEvents()
        worker.show()
        worker.rest()


if __name__ == "__main__":
    main()
