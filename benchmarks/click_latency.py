"""How long a click takes, from the mouse to the outline, in a real window.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/click_latency.py [--clicks 60]

Bright discs of 8 to 400 pixels on noise, on images of three sizes. The robot clicks on discs, one
after the other, and drops each object. What is measured is the time from the press of the mouse to
the outline in its layer, the first click of an image apart: it opens the image (percentiles,
pyramid) and measures how the network runs best. Then the same while a fine-tuning runs, whose step
a click may have to wait for.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from report import publish, table

from napari_unet.engine.files import ImageFile
from napari_unet.viewer.app import open_window
from napari_unet.viewer.clicking.session import ClickSession
from napari_unet.viewer.controller import controller_for

# Last, so that nothing there hides a module of this folder.
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
Robot = importlib.import_module("robot").Robot

_SIZES = (512, 2048, 4096)
_DISCS = 40
_LONGEST = 60.0
# Seconds between two looks for an answer.
_REST = 0.0005


def discs(side: int, seed: int) -> tuple[NDArray[np.uint16], list[tuple[int, int]]]:
    """Draw an image of bright discs and return their middles."""
    rng = np.random.default_rng(seed)
    image = rng.normal(1000, 60, (side, side)).astype(np.float32)
    middles = []
    for _ in range(_DISCS):
        radius = float(np.exp(rng.uniform(np.log(4), np.log(min(200, side / 6)))))
        row, column = (int(x) for x in rng.integers(radius, side - radius, 2))
        low = np.maximum([row - radius - 1, column - radius - 1], 0).astype(int)
        rows, columns = np.mgrid[low[0] : row + int(radius) + 2, low[1] : column + int(radius) + 2]
        rows, columns = rows[rows[:, 0] < side], columns[rows[:, 0] < side]
        inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        inside &= columns < side
        image[rows[inside], columns[inside]] += rng.uniform(400, 2000)
        middles.append((row, column))
    return image.clip(0, 65535).astype(np.uint16), middles


def measure(robot: Any, places: list[tuple[int, int]], clicks: int) -> list[float]:
    """Click so many times; the seconds of each click."""
    session = controller_for(robot.viewer).findChild(ClickSession)
    seconds = []
    for number in range(clicks):
        point = robot.canvas_point(places[number % len(places)])
        robot.move(point)
        QApplication.processEvents()
        began = time.perf_counter()
        QTest.mouseClick(
            robot.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, point
        )
        while not _is_answered(session):
            QApplication.processEvents()
            time.sleep(_REST)  # as Qt's own loop does: it leaves the core to the network
            if time.perf_counter() - began > _LONGEST:
                raise TimeoutError("a click was not answered")
        seconds.append(time.perf_counter() - began)
        session.drop()
        robot.wait(0.05)
    return seconds


def _is_answered(session: ClickSession) -> bool:
    return session.current is not None and session.current.outline_on(()) is not None


def start_learning(robot: Any, side: int) -> None:
    """Paint two strokes and begin to learn, without an end."""
    controller = controller_for(robot.viewer)
    strokes = controller.layers.annotations
    middle = side // 2
    strokes.data[middle - 60 : middle - 55, middle - 60 : middle + 60] = 1
    strokes.data[middle + 55 : middle + 60, middle - 60 : middle + 60] = 2
    controller.layers.look_at_strokes()
    controller.learn(None)
    robot.wait_until(lambda: controller.status.step > 3, 120)


def rows_of(side: int, clicks: int) -> list[list[str]]:
    """Measure one size of image, without and with learning."""
    image, middles = discs(side, 0)
    viewer = open_window(ImageFile(image, "YX", None, None, Path("discs.tif")))
    robot = Robot(viewer)
    robot.window.resize(1400, 900)
    robot.wait(1.5)
    robot.open_dock("Click")
    robot.press("Click objects")
    first = measure(robot, middles, 1)[0]
    alone = measure(robot, middles, clicks)
    rows = [_row(side, first, alone, None)]
    start_learning(robot, side)
    controller = controller_for(viewer)
    if not robot.button("Click objects").isChecked():
        robot.press("Click objects")
    before, began = controller.status.step, time.perf_counter()
    robot.wait(4)
    step = (time.perf_counter() - began) / max(controller.status.step - before, 1)
    rows.append(_row(side, None, measure(robot, middles, clicks), step))
    controller.stop()
    robot.wait_until(lambda: not controller.lane.is_busy(), 300)
    viewer.close()
    return rows


def _row(side: int, first: float | None, seconds: list[float], step: float | None) -> list[str]:
    return [
        f"{side} x {side}",
        "no" if step is None else f"yes, steps of {step * 1e3:.0f} ms",
        "" if first is None else f"{first * 1e3:.0f}",
        f"{np.median(seconds) * 1e3:.0f}",
        f"{np.percentile(seconds, 95) * 1e3:.0f}",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=60)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(_SIZES))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = [row for side in arguments.sizes for row in rows_of(side, arguments.clicks)]
    head = ["image", "learning", "first click, ms", "median, ms", "95th percentile, ms"]
    publish("From click to outline", table(head, rows), arguments.output)


if __name__ == "__main__":
    main()
