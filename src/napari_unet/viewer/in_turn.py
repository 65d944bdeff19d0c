"""Calls one after the other, where what is called may let Qt handle further events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer


class InTurn(QObject):
    """Makes calls in the order in which they were asked for, and never one within another.

    napari's progress bars let Qt handle events while they are told of one: without this every
    event would be told within the one before.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._left: deque[Callable[[], None]] = deque()
        self._is_calling = False

    def call(self, what: Callable[[], None]) -> None:
        """Make a call now, or after the one that is being made."""
        self._left.append(what)
        self._call_all()

    def _call_all(self) -> None:
        if self._is_calling:
            return
        self._is_calling = True
        try:
            while self._left:
                self._left.popleft()()
        finally:
            self._is_calling = False
            if self._left:  # a call raised an error; the others are made after it
                QTimer.singleShot(0, self._call_all)
