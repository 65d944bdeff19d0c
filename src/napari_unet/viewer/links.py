"""Connections that do not outlive a widget."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QWidget


class Links:
    """Connections from long-lived objects to a widget, cut when the widget is destroyed.

    Neither side is kept alive. Qt cuts its own connections; these are psygnal's and napari's.

    Parameters
    ----------
    widget
        Whose methods are connected.
    """

    def __init__(self, widget: QWidget) -> None:
        self._made: list[tuple[Any, weakref.WeakMethod[Callable[..., Any]]]] = []
        widget.destroyed.connect(self.cut)

    def connect(self, signal: Any, method: Callable[..., Any]) -> None:
        """Call a bound method of the widget at every `signal`."""
        signal.connect(method)
        self._made.append((signal, weakref.WeakMethod(method)))

    def disconnect(self, signal: Any, method: Callable[..., Any]) -> None:
        """Undo one connection."""
        signal.disconnect(method)
        self._made = [(s, m) for s, m in self._made if s is not signal or m() != method]

    def cut(self, _widget: Any = None) -> None:
        """Disconnect everything."""
        for signal, reference in self._made:
            if (method := reference()) is not None:
                signal.disconnect(method)
        self._made.clear()
