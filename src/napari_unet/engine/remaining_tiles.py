"""The tiles of a prediction that are still to be done, and how large they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from napari_unet.engine.device import free_memory
from napari_unet.engine.execution import ExecutionPlan
from napari_unet.model.config import UNetConfig
from napari_unet.ops.tiling import (
    Box,
    Tile,
    grow_to_grid,
    halved,
    move_box,
    plan_tiles,
    visible_first,
)

#: Output side of a tile where memory allows more. Larger tiles waste less on their halo (704 less
#: than 20 % of the work), but from 768 on the feature maps of narrow networks fall out of the cache
#: and every pixel takes longer; docs/benchmarks.md has the table.
LARGEST_INNER: Final = {2: 704, 3: 96}
#: Somebody looks and waits for the first tile.
LARGEST_ON_SCREEN: Final = {2: 512, 3: 96}
# Of the memory that is free, a tile may take this share: the window and the data need some too.
_SHARE_OF_MEMORY = 0.5
# Feature maps that are alive at once in the last decoder level, counted in maps of the first
# level's width: two concatenated, one each before and after a convolution, and a spare.
_LIVE_MAPS = 6


class RemainingTiles:
    """The tiles that are still to be predicted; they can be cut anew in the middle of the work.

    Parameters
    ----------
    shape
        Of the image.
    config
        Of the network.
    sizes
        Output sides of a tile, as `inner_sizes` returns them.
    region
        Only this part of the image, grown to the pooling grid; None is all of it.
    visible
        What is on screen; its tiles come first.

    Attributes
    ----------
    inner_size
        Output sides of the tiles as they are now.
    done
        How many are finished.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        config: UNetConfig,
        sizes: tuple[int, ...],
        region: Box | None = None,
        visible: Box | None = None,
    ) -> None:
        self.inner_size = sizes
        self.done = 0
        self._visible = visible
        self._geometries = config.geometries
        self._strides = strides(config)
        self._region = grow_to_grid(region, shape, self._strides)
        # One entry per cell of the pooling grid, which every tile border lies on at every size.
        axes = zip(shape, self._strides, strict=True)
        self._finished = np.zeros([-(-length // stride) for length, stride in axes], bool)
        self._tiles = self._cut()

    @property
    def total(self) -> int:
        """How many there are, with those that are finished."""
        return self.done + len(self._tiles)

    def next(self) -> Tile | None:
        """Return the next one; None after the last."""
        return self._tiles[0] if self._tiles else None

    def finish(self, tile: Tile) -> None:
        """Take down that a tile is done."""
        self._finished[self._cells(tile.inner)] = True
        self._tiles = [left for left in self._tiles if left is not tile]
        self.done += 1

    def halve(self) -> bool:
        """Cut what is left into tiles of half the size; False if they are as small as can be."""
        smaller = halved(self._geometries, self.inner_size)
        if smaller is None:
            return False
        self.inner_size = smaller
        self._tiles = [t for t in self._cut() if not self._finished[self._cells(t.inner)].all()]
        return True

    def _cut(self) -> list[Tile]:
        shape = [span.stop - span.start for span in self._region]
        corner = [span.start for span in self._region]
        shifted: Sequence[Tile] = [
            replace(tile, inner=move_box(tile.inner, corner), outer=move_box(tile.outer, corner))
            for tile in plan_tiles(shape, self._geometries, self.inner_size)
        ]
        return visible_first(shifted, self._visible)

    def _cells(self, box: Box) -> Box:
        axes = zip(box, self._strides, strict=True)
        return tuple(slice(s.start // stride, -(-s.stop // stride)) for s, stride in axes)


def strides(config: UNetConfig) -> tuple[int, ...]:
    """Return the side of the pooling grid's cells along each axis, in pixels."""
    return tuple(geometry.stride for geometry in config.geometries)


def inner_sizes(
    config: UNetConfig,
    plan: ExecutionPlan,
    tile_size: int | tuple[int, ...] | None,
    largest: int | None = None,
) -> tuple[int, ...]:
    """Return the output sides of a tile: as asked for, or what fits into the free memory.

    `largest` is the limit where memory allows more; None is what suits whole images.
    """
    geometries = config.geometries
    if tile_size is not None:
        asked = (tile_size,) * config.ndim if isinstance(tile_size, int) else tile_size
        axes = zip(geometries, asked, strict=True)
        return tuple(geometry.inner_size(size) for geometry, size in axes)
    per_pixel = _LIVE_MAPS * config.base_channels * plan.dtype.itemsize
    pixels = _SHARE_OF_MEMORY * free_memory(plan.device) / per_pixel
    side, largest = int(pixels ** (1 / config.ndim)), largest or LARGEST_INNER[config.ndim]
    sizes = []
    for geometry in geometries:
        fits = geometry.inner_size(max(side, geometry.input_size(geometry.stride)))
        limit = largest // geometry.stride * geometry.stride
        sizes.append(max(min(fits, limit), geometry.stride))
    return tuple(sizes)
