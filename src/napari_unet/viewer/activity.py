"""Progress in napari's activity dock."""

from __future__ import annotations

from napari.utils import progress
from qtpy.QtWidgets import QLabel, QWidget

_STEPS = 100
# Of the speed of a moving picture, in percent: napari's, of 33 pictures a second, makes two.
_CALM = 6


def calm_moving_pictures(window: QWidget) -> None:
    """Let the moving pictures of a window, napari's sign that something is going on, move slowly.

    With each of their pictures all of a window that has a canvas of OpenGL is put together anew.
    Without a graphics card, or over a remote desktop, that takes a core from what is going on.
    """
    for label in window.findChildren(QLabel):
        if (movie := label.movie()) is not None:
            movie.setSpeed(_CALM)


class ActivityBar:
    """One bar in napari's activity dock; made, moved and closed on the main thread."""

    def __init__(self) -> None:
        self._bar: progress | None = None

    def show(self, description: str, fraction: float | None) -> None:
        """Show how far a job is; None if it has no known end.

        A bar that would be full at once is not made: making it takes longer than drawing a tile.
        """
        if self._bar is None and fraction is not None and fraction >= 1:
            return
        if self._bar is None:
            self._bar = progress(total=_STEPS if fraction is not None else 0, desc=description)
        if fraction is not None:
            self._bar.update(max(int(fraction * _STEPS) - self._bar.n, 0))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
