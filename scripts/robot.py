"""A user made of code: paints on the canvas with the mouse and presses the docks' buttons.

It sends real mouse and key events through Qt to a real window, so it sees what a person would see.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QCursor, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QDockWidget, QPushButton

_LEFT = Qt.MouseButton.LeftButton
_NO_BUTTON = Qt.MouseButton.NoButton
_NO_KEY = Qt.KeyboardModifier.NoModifier
# Mouse positions between two points of a stroke.
_MOVES = 6


class Robot:
    """Uses one napari window.

    Parameters
    ----------
    viewer
        A viewer whose window is shown.

    Attributes
    ----------
    released_at
        When the mouse was let go at the end of the latest stroke, by `time.perf_counter`.
    """

    def __init__(self, viewer: Any) -> None:
        # Weakly, so that a robot that is still around does not keep a closed window.
        self._viewer = weakref.ref(viewer)
        self.released_at = 0.0
        # The screen's own pointer waits in the corner, away from the canvas.
        QCursor.setPos(0, 0)

    @property
    def viewer(self) -> Any:
        """The viewer."""
        return self._viewer()

    @property
    def window(self) -> Any:
        """The main window."""
        return self.viewer.window._qt_window

    @property
    def canvas(self) -> Any:
        """What is painted on."""
        return self.viewer.window._qt_viewer.canvas.native

    def wait(self, seconds: float) -> None:
        """Let the window live for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            # What Qt is to delete later it deletes in a running event loop alone; of a layer that
            # was removed, napari's controls would keep the pixels.
            QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            time.sleep(0.002)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let the window live until something is so; TimeoutError if that takes too long."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the window did not get there in time")
            self.wait(0.02)

    def canvas_point(self, position: Sequence[float]) -> QPoint:
        """Return where a world position (row, column) is on the canvas."""
        row, column = position
        camera = self.viewer.window._qt_viewer.canvas.view.camera
        x, y, _, w = camera.transform.map([column, row, 0, 1])
        return QPoint(round(x / w), round(y / w))

    def move(self, point: QPoint, buttons: Any = _NO_BUTTON) -> None:
        """Move the mouse to a place of the canvas.

        QTest moves the screen's pointer, whose events come when the screen sends them: on a busy
        machine after the button was let go, or in the middle of the next stroke.
        """
        local, screen = QPointF(point), QPointF(self.canvas.mapToGlobal(point))
        moved = QMouseEvent(QEvent.Type.MouseMove, local, screen, _NO_BUTTON, buttons, _NO_KEY)
        QApplication.sendEvent(self.canvas, moved)

    def stroke(self, points: Sequence[Sequence[float]]) -> None:
        """Press the mouse at the first position, draw through the others, let go at the last."""
        # Each position is looked up when the mouse gets there: the canvas may have moved by then.
        self.move(self.canvas_point(points[0]))
        QTest.mousePress(self.canvas, _LEFT, _NO_KEY, self.canvas_point(points[0]))
        for start, end in pairwise(points):
            for move in range(1, _MOVES + 1):
                share = move / _MOVES
                between = [a + (b - a) * share for a, b in zip(start, end, strict=True)]
                self.move(self.canvas_point(between), _LEFT)
                QApplication.processEvents()
        self.released_at = time.perf_counter()
        QTest.mouseRelease(self.canvas, _LEFT, _NO_KEY, self.canvas_point(points[-1]))
        self.wait(0.05)

    def button(self, text: str) -> QPushButton:
        """Return the visible button that begins with `text`."""
        buttons = [
            button
            for button in self.window.findChildren(QPushButton)
            if button.isVisible() and button.text().strip().startswith(text)
        ]
        if not buttons:
            raise LookupError(f"no button {text!r} is to be seen")
        return buttons[0]

    def press(self, text: str) -> None:
        """Click on a button."""
        QTest.mouseClick(self.button(text), _LEFT)
        self.wait(0.05)

    def choose(self, text: str) -> None:
        """Choose an entry in the visible list that offers it."""
        for box in self.window.findChildren(QComboBox):
            if box.isVisible() and (index := box.findText(text)) >= 0:
                box.setCurrentIndex(index)
                self.wait(0.1)
                return
        raise LookupError(f"no list offers {text!r}")

    def open_dock(self, name: str) -> None:
        """Bring a dock to the front."""
        for dock in self.window.findChildren(QDockWidget):
            if name in (dock.windowTitle(), dock.objectName(), getattr(dock, "name", "")):
                dock.show()
                dock.raise_()
        self.wait(0.3)

    def key(self, key: Any, modifier: Any = _NO_KEY) -> None:
        """Press and release a key over the canvas."""
        QTest.keyClick(self.canvas, key, modifier)
        self.wait(0.05)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole window."""
        self.wait(0.3)
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        shrink(path)


def shrink(path: Path) -> None:
    """Store a picture in 256 colours, a third of its size."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
