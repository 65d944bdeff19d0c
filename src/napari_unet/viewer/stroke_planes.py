"""What is painted on each plane of an annotation layer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
from napari.layers import Labels

from napari_unet.viewer.layers import present_labels
from napari_unet.viewer.planes import Index


class StrokePlanes:
    """The labels that are painted on each plane; only planes that were painted on are looked at.

    Parameters
    ----------
    layer
        The annotations, shape (..., Y, X).
    """

    def __init__(self, layer: Labels) -> None:
        self.layer = layer
        self._labels: dict[Index, set[int]] = {}
        # None: it is not known which planes changed, so that all are looked at.
        self._changed: set[Index] | None = None
        layer.events.paint.connect(self._on_painted)
        layer.events.set_data.connect(self._on_replaced)  # undo and redo come this way

    def close(self) -> None:
        """Listen to the layer no more."""
        self.layer.events.paint.disconnect(self._on_painted)
        self.layer.events.set_data.disconnect(self._on_replaced)

    def look(self) -> dict[Index, set[int]]:
        """Return the labels of every plane that is painted on, plane after plane."""
        data = np.asarray(self.layer.data)
        planes = data.shape[:-2]
        changed = self._changed
        if not planes:  # cheap, and sees what a script wrote without an event
            changed = {()}
        if changed is None:
            self._labels.clear()
            changed = {index for index in np.ndindex(*planes) if data[index].any()}
        for index in changed:
            self._labels[index] = present_labels(data[index])
        self._changed = set()
        self._labels = {i: found for i, found in sorted(self._labels.items()) if found}
        return self._labels

    def look_again(self, plane: Index) -> None:
        """Look at a plane anew the next time, even if nobody told of a change."""
        if self._changed is not None:
            self._changed.add(plane)

    def _on_painted(self, event: Any) -> None:
        if self._changed is None:
            return
        for where, *_ in event.value:
            self._changed.update(product(*map(_positions, where[:-2])))

    def _on_replaced(self, _event: Any = None) -> None:
        self._changed = None


def _positions(axis: Any) -> Iterable[int]:
    """Return the positions along an axis that a change touches: a slice or an array, in napari."""
    if isinstance(axis, slice):
        return range(axis.start, axis.stop)
    return map(int, np.unique(axis))
