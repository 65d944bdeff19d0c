"""A layer's pixels in blocks, of which only those are kept that hold something."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.journal.changes import BoxChange
from napari_unet.engine.journal.format import DTYPES, JournalError

#: Pixels of a block along the last two axes; along the others it has one.
SIDE: Final = 256
# Bytes of the blocks that one change may touch: a thin column through a long stack touches many.
_MOST_TOUCHED: Final = 2 * 2**30
Place = tuple[int, ...]


class Blocks:
    """Pixels of a layer, 0 where nothing was written. A shape of terabytes costs nothing.

    Blocks are never changed once they are written but replaced, so that `blocks` can be kept while
    painting goes on.

    Parameters
    ----------
    shape, dtype
        Of the layer; `dtype` is a key of `napari_unet.engine.journal.format.DTYPES`.

    Attributes
    ----------
    shape, dtype
        As given.
    block
        The shape of a block; those at an edge have it too and are 0 beyond.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = dtype
        inner = tuple(min(side, SIDE) for side in shape[-2:])
        self.block = (*[1] * (len(shape) - len(inner)), *inner)
        self._block_size = prod(self.block) * np.dtype(DTYPES[dtype]).itemsize
        self._blocks: dict[Place, NDArray[Any]] = {}

    @property
    def blocks(self) -> Mapping[Place, NDArray[Any]]:
        """The blocks that hold something, by their place in the grid of blocks."""
        return MappingProxyType(self._blocks)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self._blocks) * self._block_size

    def frozen(self) -> Blocks:
        """Return a copy that does not follow; it shares the blocks."""
        copy = Blocks(self.shape, self.dtype)
        copy._blocks = dict(self._blocks)
        return copy

    def put(self, place: Place, block: NDArray[Any]) -> None:
        """Set a whole block.

        Raises
        ------
        JournalError
            If there is no such block, or it has another shape.
        """
        inside = len(place) == len(self.shape) and all(
            index * side < length
            for index, side, length in zip(place, self.block, self.shape, strict=True)
        )
        if not inside or block.shape != self.block or block.dtype.name != self.dtype:
            raise JournalError("a block of pixels does not belong to its layer")
        self._blocks[place] = block

    def check(self, change: BoxChange) -> None:
        """Look whether a change can be written.

        Raises
        ------
        JournalError
            If it is not within the layer, of another dtype, or touches too much.
        """
        box, pixels = change.index, change.after
        inside = len(box) == len(self.shape) and all(
            span.stop <= length for span, length in zip(box, self.shape, strict=True)
        )
        if not inside or pixels.dtype != np.dtype(DTYPES[self.dtype]):
            raise JournalError("pixels do not belong to their layer")
        if self.touched_bytes(box) > _MOST_TOUCHED:
            raise JournalError("a change touches more of a layer than one may")

    def touched_bytes(self, box: tuple[slice, ...]) -> int:
        """Return the bytes of the blocks that a box meets: what a change there adds at most."""
        return prod(len(grid) for grid in self._grids(box)) * self._block_size

    def write(self, change: BoxChange) -> None:
        """Write the pixels after a change; `check` it before."""
        box, pixels = change.index, change.after
        for place, here, there in self._touched(box):
            old = self._blocks.get(place)
            new = np.zeros(self.block, DTYPES[self.dtype]) if old is None else old.copy()
            new[there] = pixels[here]
            if new.any():
                self._blocks[place] = new
            else:
                self._blocks.pop(place, None)

    def read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return the pixels of a box."""
        found = np.zeros([span.stop - span.start for span in box], DTYPES[self.dtype])
        for place, here, there in self._touched(box):
            if (block := self._blocks.get(place)) is not None:
                found[here] = block[there]
        return found

    def full(self) -> NDArray[Any]:
        """Return all pixels; memory is taken where something was written."""
        found = np.zeros(self.shape, DTYPES[self.dtype])
        for box, pixels in self.pieces():
            found[box] = pixels
        return found

    def pieces(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Yield boxes that hold something, with their pixels; all others are 0."""
        for place, block in self._blocks.items():
            pairs = zip(place, self.block, self.shape, strict=True)
            box = tuple(slice(i * n, min((i + 1) * n, length)) for i, n, length in pairs)
            yield box, block[tuple(slice(0, span.stop - span.start) for span in box)]

    def _grids(self, box: tuple[slice, ...]) -> list[range]:
        """Return along each axis which blocks a box meets."""
        pairs = zip(box, self.block, strict=True)
        return [range(span.start // side, -(-span.stop // side)) for span, side in pairs]

    def _touched(
        self, box: tuple[slice, ...]
    ) -> Iterator[tuple[Place, tuple[slice, ...], tuple[slice, ...]]]:
        """Yield the place of each block that a box meets, where that is in the box, and in it."""
        for place in product(*self._grids(box)):
            here, there = [], []
            for index, side, span in zip(place, self.block, box, strict=True):
                first, last = max(span.start, index * side), min(span.stop, (index + 1) * side)
                here.append(slice(first - span.start, last - span.start))
                there.append(slice(first - index * side, last - index * side))
            yield place, tuple(here), tuple(there)
