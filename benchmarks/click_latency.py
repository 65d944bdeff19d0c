"""How long a click takes, from the mouse to the outline, in a real window.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/click_latency.py [--clicks 30]

Bright discs of 8 to 400 pixels on noise, on images of three sizes. The robot clicks on discs, one
after the other, and drops each object. What is measured is the time from letting the button go,
which is when a click counts, until the canvas is drawn with an outline: the first one that is seen,
and the final one. The first one may be provisional: what one window says, drawn paler, until the
scale is chosen. How often it was, and how much it had in common with the final one (intersection
over union, the mean), is told beside it. The first click of an image is apart: it opens the image
(percentiles, pyramid) and measures how the network runs best. Takes 5 minutes on two cores.

It is done with three hands. The quick one presses and lets go in the moment in which the pointer
gets there, as no person can: nothing is known ahead. The hurried one presses in that moment, too,
but holds the button for a twelfth of a second. The calm one rests on the object for a quarter of a
second before. All once more while a fine-tuning runs, whose step a click may have to wait for.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from report import publish, table

from napari_unet.engine.files import ImageFile
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.app import open_window
from napari_unet.viewer.clicking.session import ClickSession
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.layers import ROLE_KEY

# Last, so that nothing there hides a module of this folder.
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
Robot = importlib.import_module("robot").Robot

_SIZES = (512, 2048, 4096)
_DISCS = 40
_LONGEST = 60.0
# Seconds between two looks for an answer.
_REST = 0.0005
_LEFT, _NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


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


@dataclass(frozen=True)
class Hand:
    """How the mouse is used: seconds of rest before the press, and of holding the button."""

    name: str
    rest: float
    hold: float


_HANDS = (Hand("quick", 0.0, 0.0), Hand("hurried", 0.0, 0.08), Hand("calm", 0.25, 0.08))


@dataclass(frozen=True)
class Answer:
    """Seconds to the first and to the final outline, and what they have in common."""

    first: float
    final: float
    shared: float
    provisional: bool


class Seen:
    """When the canvas was drawn with an outline, and with the final one, and what these are."""

    def __init__(self, robot: Any) -> None:
        self._session = controller_for(robot.viewer).findChild(ClickSession)
        self._viewer = robot.viewer
        self.first = self.final = None
        self.shown: list[Outline] = []
        canvas = robot.viewer.window._qt_viewer.canvas._scene_canvas
        canvas.events.draw.connect(self._on_drawn, position="last")
        self.stop = lambda: canvas.events.draw.disconnect(self._on_drawn)

    def _on_drawn(self, _event: Any) -> None:
        roles = {layer.metadata.get(ROLE_KEY): layer for layer in self._viewer.layers}
        layer = roles.get("clicked object")
        if layer is None or not layer.visible or not layer.data.any():
            return
        now = time.perf_counter()
        if self.first is None:
            self.first = now
            self.shown.append(_outline_in(layer))
        current = self._session.hand.current
        if self.final is None and current is not None and current.outline_on(()) is not None:
            self.final = now
            self.shown.append(_outline_in(layer))


def _outline_in(layer: Any) -> Outline:
    mask = np.asarray(layer.data) > 0
    row, column = (int(x) for x in np.round(layer.translate))
    return Outline((slice(row, row + mask.shape[0]), slice(column, column + mask.shape[1])), mask)


def measure(
    robot: Any, places: list[tuple[int, int]], clicks: int, hand: Hand = _HANDS[0]
) -> list[Answer]:
    """Click so many times."""
    session = controller_for(robot.viewer).findChild(ClickSession)
    answers = []
    for number in range(clicks):
        point = robot.canvas_point(places[number % len(places)])
        robot.move(point)
        QApplication.processEvents()
        robot.wait(hand.rest)
        QTest.mousePress(robot.canvas, _LEFT, _NO_KEY, point)
        robot.wait(hand.hold)
        seen, began = Seen(robot), time.perf_counter()
        QTest.mouseRelease(robot.canvas, _LEFT, _NO_KEY, point)
        while seen.final is None:
            QApplication.processEvents()
            time.sleep(_REST)  # as Qt's own loop does: it leaves the core to the network
            if time.perf_counter() - began > _LONGEST:
                raise TimeoutError("a click was not answered")
        seen.stop()
        first, final = seen.first - began, seen.final - began
        answers.append(Answer(first, final, seen.shown[0].shares(seen.shown[1]), first < final))
        session.hand.drop()
        robot.wait(0.05)
    return answers


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


def rows_of(side: int, clicks: int, learning: bool = True) -> list[list[str]]:
    """Measure one size of image, without and with learning."""
    image, middles = discs(side, 0)
    viewer = open_window(ImageFile(image, "YX", None, None, Path("discs.tif")))
    robot = Robot(viewer)
    robot.window.resize(1400, 900)
    robot.wait(1.5)
    robot.open_dock("Click")
    robot.press("Click objects")
    opened = measure(robot, middles, 1)[0].final
    rows = [
        _row(side, hand, measure(robot, middles, clicks, hand), None, opened) for hand in _HANDS
    ]
    if learning:
        rows += _rows_while_learning(robot, side, middles, clicks)
    viewer.close()
    return rows


def _rows_while_learning(
    robot: Any, side: int, middles: list[tuple[int, int]], clicks: int
) -> list[list[str]]:
    start_learning(robot, side)
    controller = controller_for(robot.viewer)
    if not robot.button("Click objects").isChecked():
        robot.press("Click objects")
    before, began = controller.status.step, time.perf_counter()
    robot.wait(4)
    step = (time.perf_counter() - began) / max(controller.status.step - before, 1)
    rows = [_row(side, hand, measure(robot, middles, clicks, hand), step, None) for hand in _HANDS]
    controller.stop()
    robot.wait_until(lambda: not controller.lane.is_busy(), 300)
    return rows


def _row(
    side: int,
    hand: Hand,
    answers: list[Answer],
    step: float | None,
    opened: float | None,
) -> list[str]:
    provisional = [answer.shared for answer in answers if answer.provisional]
    shared = f", {np.mean(provisional):.2f} in common" if provisional else ""
    return [
        f"{side} x {side}",
        "no" if step is None else f"yes, steps of {step * 1e3:.0f} ms",
        hand.name,
        "" if opened is None else f"{opened * 1e3:.0f}",
        _times([answer.first for answer in answers]),
        f"{len(provisional)} of {len(answers)}{shared}",
        _times([answer.final for answer in answers]),
    ]


def _times(seconds: list[float]) -> str:
    times = np.array(seconds) * 1e3
    return f"{np.median(times):.0f} / {np.percentile(times, 95):.0f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clicks", type=int, default=30)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(_SIZES))
    parser.add_argument("--alone", action="store_true", help="not while a fine-tuning runs")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = [
        row
        for side in arguments.sizes
        for row in rows_of(side, arguments.clicks, not arguments.alone)
    ]
    head = [
        "image",
        "learning",
        "hand",
        "first click, ms",
        "first outline, ms (median / 95 %)",
        "first outline was provisional",
        "final outline, ms (median / 95 %)",
    ]
    publish("From click to outline", table(head, rows), arguments.output)


if __name__ == "__main__":
    main()
