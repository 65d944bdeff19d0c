"""How long the window lets the user wait: strokes, Predict, Stop, and its own heartbeat.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/window_latency.py [--minutes 10]

A robot paints with the mouse on an image of 512 x 512 cells. Measured are the time from letting go
of the mouse to the answer on screen, from Predict to the picture of a fine-tuned network, and from
Stop to the end of the learning; and, while it learns, paints and predicts for some minutes, by how
much the beats of a timer come late in the window's thread. Beside that, for a fifth of the time,
those of a window of napari with the image and a layer of labels, in which nothing is computed and
strokes are painted as often.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication
from report import publish, table

from napari_unet.engine.events import TilePredicted
from napari_unet.engine.files import ImageFile
from napari_unet.ops.synthetic import touching_cells
from napari_unet.viewer.app import open_window
from napari_unet.viewer.controller import SegmentationController, controller_for

# Last, so that nothing there hides a module of this folder.
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
Robot = importlib.import_module("robot").Robot
heartbeat = importlib.import_module("heartbeat")

_SIDE = 512
_LONGEST = 60.0
_LOOK_EVERY_MS = 20
# Seconds from stroke to stroke while beats are counted.
_BETWEEN = 8.0


class Window:
    """The program on an image of cells, its robot, and when tiles were shown."""

    def __init__(self) -> None:
        image, self.labels = touching_cells((_SIDE, _SIDE), seed=0)
        self.viewer = open_window(ImageFile(image, "YX", None, None, Path("cells.tif")))
        self.robot: Any = Robot(self.viewer)
        self.controller: SegmentationController = controller_for(self.viewer)
        self.robot.window.resize(1400, 900)
        self.robot.wait(2)
        self.rng = np.random.default_rng(0)
        self.shown_at = 0.0
        results = self.controller.layers.results
        assert results is not None
        show: Callable[[TilePredicted], None] = results.show_tile

        def show_and_note(tile: TilePredicted) -> None:
            show(tile)
            self.viewer.window._qt_viewer.canvas.native.repaint()
            self.shown_at = time.perf_counter()

        results.show_tile = show_and_note  # type: ignore[method-assign]

    def stroke(self) -> None:
        """Paint a short line of the class that lies under it, anywhere."""
        row, column = (int(x) for x in self.rng.integers(30, _SIDE - 30, 2))
        self.robot.press("2" if self.labels[row, column] else "1")
        self.robot.stroke([(row, column - 8), (row, column + 8)])

    def wait_shown(self, since: float) -> float:
        """Return the seconds from `since` until a tile was shown."""
        _let_live(lambda: self.shown_at > since)
        return self.shown_at - since

    def settle(self) -> None:
        """Wait until nothing runs."""
        self.robot.wait_until(lambda: not self.controller.lane.is_busy(), 300)
        self.robot.wait(0.3)


def _let_live(until: Callable[[], bool]) -> None:
    """Let the window wait for events, as a program does, until something is so.

    A loop that asks for events again and again would take a core from what it waits for.
    """
    end = time.monotonic() + _LONGEST
    waker = QTimer()  # so that waiting ends even if nothing happens
    waker.start(_LOOK_EVERY_MS)
    while not until():
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        if time.monotonic() > end:
            raise TimeoutError("nothing was shown")


def strokes(window: Window, count: int) -> list[float]:
    """Paint so many strokes; the seconds until each was answered."""
    found = []
    for number in range(count + 4):
        window.stroke()
        if number < 4:  # both classes must be there, and the first answer measures how to run
            window.settle()
            continue
        found.append(window.wait_shown(window.robot.released_at))
        window.settle()
    return found


def predictions(window: Window, count: int) -> list[float]:
    """Press Predict so many times; the seconds until what is on screen was shown."""
    window.robot.open_dock("Predict")
    found = []
    for _ in range(count):
        began = time.perf_counter()
        window.controller.predict(visible_only=True, precision="fast")
        found.append(window.wait_shown(began))
        window.settle()
    return found


def stops(window: Window, count: int) -> tuple[list[float], float]:
    """Learn and stop so many times; the seconds that a stop took, and those of a step."""
    found, steps = [], []
    for _ in range(count):
        window.controller.learn(None)
        first = window.controller.status.step
        window.robot.wait(0.5)
        began = time.perf_counter()
        window.robot.wait(2)
        steps.append(
            (time.perf_counter() - began) / max(len(window.controller.history.losses) - first, 1)
        )
        began = time.perf_counter()
        window.controller.stop()
        _let_live(lambda: not window.controller.is_learning)
        found.append(time.perf_counter() - began)
        window.settle()
    return found, float(np.median(steps))


def beats(window: Window, minutes: float) -> list[str]:
    """Learn, paint and predict for so long; how late the window's beats came."""
    heart = heartbeat.Heartbeat()
    window.robot.open_dock("Fine-tune")
    window.controller.learn(None)
    window.robot.wait(5)
    heart.start()
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        window.stroke()
        window.robot.wait(_BETWEEN / 2)
        window.controller.predict(visible_only=True)
        window.robot.wait(_BETWEEN / 2)
    heart.stop()
    window.controller.stop()
    window.settle()
    row: list[str] = heart.row()
    return row


def beats_of_napari(minutes: float) -> list[str]:
    """Paint for so long in napari alone; how late the window's beats came."""
    image, _ = touching_cells((_SIDE, _SIDE), seed=0)
    viewer = napari.Viewer()
    viewer.add_image(image)
    layer = viewer.add_labels(np.zeros(image.shape, np.uint8))
    layer.mode, layer.brush_size = "paint", 8
    robot: Any = Robot(viewer)
    robot.window.resize(1400, 900)
    robot.wait(2)
    rng = np.random.default_rng(0)
    heart = heartbeat.Heartbeat()
    heart.start()
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        row, column = (int(x) for x in rng.integers(30, _SIDE - 30, 2))
        robot.stroke([(row, column - 8), (row, column + 8)])
        robot.wait(_BETWEEN)
    heart.stop()
    viewer.close()
    found: list[str] = heart.row()
    return found


def _row(what: str, found: list[float]) -> list[str]:
    median, high = np.percentile(found, (50, 95)) * 1e3
    return [what, str(len(found)), f"{median:.0f}", f"{high:.0f}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    alone = beats_of_napari(arguments.minutes / 5) if arguments.minutes else []
    window = Window()
    rows = [_row("stroke to answer, at once", strokes(window, arguments.count))]
    window.controller.learn(3)
    window.settle()
    rows.append(_row("Predict to picture, network", predictions(window, arguments.count)))
    found, step = stops(window, max(arguments.count // 4, 3))
    rows.append(_row(f"Stop to end, with steps of {step * 1e3:.0f} ms", found))
    text = table(["what", "times", "median, ms", "95 %, ms"], rows)
    if arguments.minutes:
        found = beats(window, arguments.minutes)
        beat = table(["window", *heartbeat.HEAD], [["learning", *found], ["napari alone", *alone]])
        text += f"\n\nBeats while learning, painting and predicting:\n\n{beat}"
    publish("Latency in the window, 512 x 512", text, arguments.output)
    window.viewer.close()


if __name__ == "__main__":
    main()
