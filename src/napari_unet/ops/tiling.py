"""The overlap-tile strategy (Ronneberger et al. 2015, section 2 and figure 2).

A network without padding answers for the inner part of what it reads. Tiles are planned so that
their inner parts cover the image exactly once; what is missing around the image is mirrored.

Two rules make a tiled prediction equal the untiled one:

- Max-pooling looks at a fixed grid, so a network of depth d gives the same answer in two tiles only
  if their origins differ by multiples of 2**d. All tile origins lie on that grid.
- Mirroring depends on the image coordinate alone, never on the tile.

::

    outer    |----- halo -----|======= inner =======|surplus|----- halo -----|    read
    output                    |======= inner =======|surplus|                     computed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError

#: Rows and columns of an image, or planes, rows and columns of a stack, as slices with concrete
#: start and stop.
Box = tuple[slice, ...]


def overlap(first: Box, second: Box) -> bool:
    """Say whether two boxes share pixels."""
    pairs = zip(first, second, strict=True)
    return all(a.start < b.stop and b.start < a.stop for a, b in pairs)


def move_box(box: Box, by: Sequence[int]) -> Box:
    """Move a box by so many pixels along each axis."""
    axes = zip(box, by, strict=True)
    return tuple(slice(span.start + offset, span.stop + offset) for span, offset in axes)


def grow_to_grid(region: Box | None, shape: Sequence[int], strides: Sequence[int]) -> Box:
    """Grow a region outwards to multiples of the strides and cut it to the image.

    Parameters
    ----------
    region
        It may reach outside; None is the whole image.
    shape
        Of the image.
    strides
        Of the network, see `TileGeometry`, axis by axis.

    Raises
    ------
    InputError
        If nothing of it lies in the image.
    """
    if region is None:
        return tuple(slice(0, length) for length in shape)
    spans = []
    for span, length, stride in zip(region, shape, strides, strict=True):
        start = max(span.start, 0) // stride * stride
        stop = min(-(-span.stop // stride) * stride, length)
        if start >= stop:
            raise InputError("the region lies outside the image; choose one that overlaps it")
        spans.append(slice(start, stop))
    return tuple(spans)


@dataclass(frozen=True, slots=True)
class TileGeometry:
    """What a network demands of its tiles along an axis, in pixels.

    Attributes
    ----------
    halo
        Context lost at each side: 92 at depth 4.
    stride
        2**depth. Tile origins must be multiples of it, or max-pooling sees another grid.
    surplus
        Output beyond a multiple of `stride`: 4 at depth 4, where 572 gives 388 = 384 + 4.
    """

    halo: int
    stride: int
    surplus: int

    def input_size(self, inner: int) -> int:
        """Side of the input that gives `inner` pixels of output (384 -> 572 at depth 4).

        Parameters
        ----------
        inner
            A positive multiple of `stride`.

        Raises
        ------
        InputError
            If it is not.
        """
        if inner < self.stride or inner % self.stride:
            raise InputError(
                f"a tile of {inner} pixels does not fit the network; "
                f"choose a positive multiple of {self.stride}"
            )
        return inner + self.surplus + 2 * self.halo

    def inner_size(self, input_size: int) -> int:
        """Largest valid inner side whose input is at most `input_size` (572 -> 384 at depth 4).

        Parameters
        ----------
        input_size
            Any side of at least `input_size(stride)`.

        Raises
        ------
        InputError
            If the input is too small to give any output.
        """
        inner = (input_size - self.surplus - 2 * self.halo) // self.stride * self.stride
        if inner < self.stride:
            raise InputError(
                f"a tile of {input_size} pixels is smaller than the network's context; "
                f"choose at least {self.input_size(self.stride)}"
            )
        return inner

    def halved(self, inner: int) -> int | None:
        """Half of a valid inner side, for when memory runs out; None if it is as small as can be.

        Parameters
        ----------
        inner
            A positive multiple of `stride`.
        """
        return inner // 2 // self.stride * self.stride or None


def halved(
    geometries: Sequence[TileGeometry], inner_sizes: Sequence[int]
) -> tuple[int, ...] | None:
    """Halve the inner sides of a tile along every axis where that can be.

    Parameters
    ----------
    geometries, inner_sizes
        What the network demands, and the inner side, of each axis.

    Returns
    -------
    tuple of int or None
        The smaller sides; None if all are as small as can be.
    """
    pairs = zip(geometries, inner_sizes, strict=True)
    smaller = [geometry.halved(size) for geometry, size in pairs]
    if not any(smaller):
        return None
    return tuple(half or size for half, size in zip(smaller, inner_sizes, strict=True))


@dataclass(frozen=True, slots=True)
class Tile:
    """One window of the image, in image coordinates: (row, column) or (plane, row, column).

    Attributes
    ----------
    index
        Position in the plan, the first axis first.
    inner
        What is written: within the image. The inner boxes of a plan partition the image.
    outer
        What is read: may reach outside the image, where it is mirrored; a start may be negative.
    """

    index: int
    inner: Box
    outer: Box

    @property
    def crop(self) -> Box:
        """Where `inner` lies in the network's output, whose first pixel is that of `inner`."""
        return tuple(slice(0, span.stop - span.start) for span in self.inner)


def plan_tiles(
    image_shape: Sequence[int],
    geometry: TileGeometry | Sequence[TileGeometry],
    inner_size: int | Sequence[int],
) -> list[Tile]:
    """Cover an image or a stack with tiles of one size, as few and as equal as possible.

    Parameters
    ----------
    image_shape
        Rows and columns, or planes, rows and columns, all positive.
    geometry
        What the network demands, axis by axis or of all axes alike.
    inner_size
        Upper limit for the inner side, of each axis or of all, a multiple of ``geometry.stride``.
        Along each axis the side is made smaller where that needs no more tiles, so that little is
        computed outside the image. The last tile of an axis may also write the network's surplus.

    Returns
    -------
    list of Tile
        Plane by plane, row by row. All outer boxes have the same shape.

    Raises
    ------
    InputError
        If the image is empty or `inner_size` is not a positive multiple of the stride.
    """
    if min(image_shape) < 1:
        raise InputError(f"an image of shape {image_shape} is empty; load one with pixels")
    axes = len(image_shape)
    geometries = [geometry] * axes if isinstance(geometry, TileGeometry) else geometry
    sizes = [inner_size] * axes if isinstance(inner_size, int) else inner_size
    spans = [_plan_axis(*axis) for axis in zip(image_shape, geometries, sizes, strict=True)]
    return [
        Tile(index, inner=tuple(span[0] for span in tile), outer=tuple(span[1] for span in tile))
        for index, tile in enumerate(product(*spans))
    ]


def _plan_axis(length: int, geometry: TileGeometry, inner_limit: int) -> list[tuple[slice, slice]]:
    """Inner and outer slices along one axis."""
    geometry.input_size(inner_limit)  # raises if the limit is not valid
    # The last tile's surplus is as good as its inner part, and nobody else computes those pixels.
    covered = max(length - geometry.surplus, 1)
    tiles = _ceil_div(covered, inner_limit)
    inner = _ceil_div(_ceil_div(covered, tiles), geometry.stride) * geometry.stride
    tiles = _ceil_div(covered, inner)  # rounding up to the stride may have saved a tile
    size = geometry.input_size(inner)
    plan = []
    for start in range(0, tiles * inner, inner):
        last = start + inner == tiles * inner
        outer = slice(start - geometry.halo, start - geometry.halo + size)
        plan.append((slice(start, length if last else start + inner), outer))
    return plan


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def read_tile(channels: NDArray[Any], outer: Box) -> NDArray[Any]:
    """Read a window that may reach outside the image, mirrored there.

    The mirror is numpy's 'reflect' (the border pixel is not repeated), applied as often as needed;
    an image one pixel wide is repeated. A pixel's value depends on its image coordinate alone.

    Parameters
    ----------
    channels
        Shape (C, Y, X) or (C, Z, Y, X), any dtype. Only the part that the window shows is read.
    outer
        Rows and columns, or planes, rows and columns; start and stop may lie anywhere.

    Returns
    -------
    ndarray, dtype of `channels`
        A copy; its shape is the channels and that of the window.
    """
    places = [_mirror(span, length) for span, length in zip(outer, channels.shape[1:], strict=True)]
    firsts = [int(place.min()) for place in places]
    shown = [
        slice(first, int(place.max()) + 1) for first, place in zip(firsts, places, strict=True)
    ]
    tile: NDArray[Any] = np.asarray(channels[(slice(None), *shown)])
    for axis, (first, place) in enumerate(zip(firsts, places, strict=True), start=1):
        tile = tile.take(place - first, axis=axis)
    return tile


def _mirror(span: slice, length: int) -> NDArray[np.intp]:
    """Image coordinate shown at each position of `span`: a triangle wave of period 2(L - 1)."""
    positions = np.arange(span.start, span.stop)
    if length == 1:
        return np.zeros_like(positions)
    period = 2 * (length - 1)
    folded = positions % period
    mirrored: NDArray[np.intp] = np.minimum(folded, period - folded)
    return mirrored


def visible_first(tiles: Sequence[Tile], visible: Box | None) -> list[Tile]:
    """Order tiles so that those on screen come first, from the middle of the screen outwards.

    Parameters
    ----------
    tiles
        A plan or a part of it.
    visible
        What the screen shows, in image coordinates; it may reach outside. None keeps the order.

    Returns
    -------
    list of Tile
        The same tiles. Tiles that touch `visible` come before all others; within both groups the
        nearest to its centre comes first.
    """
    if visible is None:
        return list(tiles)
    centre = [(span.start + span.stop) / 2 for span in visible]

    def urgency(tile: Tile) -> tuple[bool, float, int]:
        hidden = not overlap(tile.inner, visible)
        offsets = [
            (span.start + span.stop) / 2 - middle
            for span, middle in zip(tile.inner, centre, strict=True)
        ]
        return hidden, sum(offset**2 for offset in offsets), tile.index

    return sorted(tiles, key=urgency)
