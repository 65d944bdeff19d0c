"""Strokes of background that part objects: when they are painted, and where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_unet.ops.annotations import BACKGROUND, annotated_box

if TYPE_CHECKING:
    from napari_unet.viewer.session_layers import SessionLayers

# Pixels around a border that may come out otherwise after it was drawn.
_AROUND_BORDER = 32


class BorderStrokes(QObject):
    """Tells borders that are drawn between objects from ordinary strokes.

    Both are painted on one layer: what becomes background while the brush parts objects is border.

    Parameters
    ----------
    layers
        The image, and the strokes on it.
    """

    #: (row slice, column slice): a border was drawn between objects; where.
    drawn = Signal(object)

    def __init__(self, layers: SessionLayers) -> None:
        super().__init__(layers)
        self._layers = layers
        # What was painted when a border began to be drawn; None while ordinary strokes are.
        self._before: NDArray[Any] | None = None

    @property
    def is_on(self) -> bool:
        """Whether the brush parts objects."""
        return self._before is not None

    def turn_on(self, wanted: bool) -> None:
        """Let what is painted from now on part objects, or be ordinary strokes again."""
        if wanted and self._layers.strokes_fit():
            self._before = self._layers.strokes()
        elif not wanted:
            self._before = None
        self._layers.changed.emit()

    def why_not(self) -> str | None:
        """Say why no border can be drawn, with the cure; None if one can."""
        if not self._layers.strokes_fit():
            return "Paint a few strokes first."
        results = self._layers.results
        predicted = results is not None and results.predicted is not None
        return None if predicted else "Predict first: what came out as one is known only then."

    def mask(self) -> NDArray[np.bool_] | None:
        """Return the pixels of the plane that were drawn to part objects; None without any."""
        layers, fit = self._layers, self._layers.strokes_fit()
        return layers.annotated.borders_of(layers.annotations, layers.plane) if fit else None

    def forget(self) -> None:
        """Paint ordinary strokes again: the layer is another one."""
        self._before = None

    def follow_plane(self) -> None:
        """Compare with what is painted on the plane that is shown now."""
        if self.is_on:
            self._before = self._layers.strokes()

    def take_in(self) -> None:
        """Note what was drawn since it was looked at last."""
        layers, before = self._layers, self._before
        if before is None:
            return
        now = layers.strokes()
        if now is None or now.shape != before.shape:
            return
        drawn = (now == BACKGROUND) & (before != BACKGROUND)
        self._before = now
        if layers.annotations is not None and (box := annotated_box(drawn, _AROUND_BORDER)):
            layers.annotated.add_border(layers.annotations, drawn, layers.plane)
            self.drawn.emit(box)
