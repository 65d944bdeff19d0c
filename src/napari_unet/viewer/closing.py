"""When a window is closed for good, and not merely asked to close."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtWidgets import QWidget


class WindowClosing(QObject):
    """Tells when the window of a viewer is closed.

    A window that is asked to close may stay: napari asks back, and whoever cancels goes on working.
    Only after the answer is the window hidden.

    Parameters
    ----------
    viewer
        A napari viewer; of its model without a window nothing is ever told.
    parent
        What it belongs to.
    """

    #: The window is closed. Of several that listen, the one that came last hears of it first.
    closed = Signal()

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._is_asked = False
        if (window := getattr(viewer, "window", None)) is not None:
            window._qt_window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Look at what happens to the window; Qt calls this."""
        kind = event.type()
        if kind == QEvent.Type.Close:
            self._is_asked = True
            # One that is not shown will not be hidden either.
            if isinstance(watched, QWidget) and not watched.isVisible():
                self.closed.emit()
        elif kind == QEvent.Type.Hide and self._is_asked and not event.spontaneous():
            self.closed.emit()
        elif kind == QEvent.Type.Show:
            self._is_asked = False
        return False
