"""The tiles of a large array, made when they are asked for: a terabyte has millions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_unet.engine.arrays.source import Place
from napari_unet.ops.tiling import Tile, TileGeometry, plan_tiles


@dataclass(frozen=True, slots=True)
class PlacedTile:
    """One tile of one image.

    Attributes
    ----------
    number
        Position in the grid.
    place
        Which image: the position along the leading axes.
    tile
        Where it lies in that image.
    """

    number: int
    place: Place
    tile: Tile

    @property
    def pixels(self) -> int:
        """How many pixels it answers for."""
        return math.prod(span.stop - span.start for span in self.tile.inner)


@dataclass(frozen=True)
class TileGrid:
    """All tiles of an array: image by image, and within it row by row.

    Attributes
    ----------
    leading_shape
        Length of the leading axes; empty if there is a single image.
    shape
        Of an image: rows and columns, or planes, rows and columns.
    geometries
        What the network demands, axis by axis.
    inner_sizes
        Upper limits for the sides of a tile, multiples of the stride of each axis.
    """

    leading_shape: tuple[int, ...]
    shape: tuple[int, ...]
    geometries: tuple[TileGeometry, ...]
    inner_sizes: tuple[int, ...]

    @cached_property
    def axes(self) -> tuple[tuple[Tile, ...], ...]:
        """The tiles along each axis alone; the tiles of the image are all their combinations."""
        return tuple(
            tuple(plan_tiles((length,), geometry, size))
            for length, geometry, size in zip(
                self.shape, self.geometries, self.inner_sizes, strict=True
            )
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """How many tiles along the leading axes (one each) and the axes of the image."""
        return (*self.leading_shape, *(len(axis) for axis in self.axes))

    @cached_property
    def sides(self) -> tuple[int, ...]:
        """Inner sides of a tile; the last one of an axis may be longer by the surplus.

        These are the sides of a chunk: every tile begins at a chunk and fills all it touches.
        """
        return tuple(
            axis[0].inner[0].stop if len(axis) == 1 else axis[1].inner[0].start
            for axis in self.axes
        )

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, number: int) -> PlacedTile:
        position = [int(i) for i in np.unravel_index(number, self.counts)]
        leading = len(self.leading_shape)
        along = [axis[i] for axis, i in zip(self.axes, position[leading:], strict=True)]
        tile = Tile(
            number, tuple(each.inner[0] for each in along), tuple(each.outer[0] for each in along)
        )
        return PlacedTile(number, tuple(position[:leading]), tile)

    def positions(
        self, numbers: Sequence[int]
    ) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], ...]:
        """Return where tiles stand along each axis of `counts`, ready for indexing."""
        return tuple(np.unravel_index(np.asarray(numbers, np.intp), self.counts))
