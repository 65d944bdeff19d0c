"""Progress in napari's activity dock."""

from __future__ import annotations

from napari.utils import progress

_STEPS = 100


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
