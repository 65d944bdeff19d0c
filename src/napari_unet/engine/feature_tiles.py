"""The starter's features of an image, tile by tile: computed where they are needed, and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import choose_plan
from napari_unet.model.linear import gather
from napari_unet.model.starter import adapted
from napari_unet.model.unet import UNet
from napari_unet.ops.tiling import Box, Tile, overlap, plan_tiles, read_tile

# Output side of a tile: small, so that the first answer is there early and little is computed
# beyond the screen.
_INNER = 256
# Bytes of feature maps that are kept; the tiles that were used least recently go first.
_KEPT_BYTES = 1 << 30


class FeatureTiles:
    """The starter's features of one image, computed where they are needed and kept.

    Parameters
    ----------
    starter
        The network.
    image
        The image.
    device
        As for `napari_unet.engine.device.resolve_device`.
    """

    def __init__(self, starter: UNet, image: SourceImage, device: str = "auto") -> None:
        network = adapted(starter, image.channels, 2)
        self._maps = choose_plan(network.config, "predict", "fast", device).for_features(network)
        self._image = image
        self.responses = network.config.responses
        geometry = network.config.geometry
        inner = max(_INNER // geometry.stride, 1) * geometry.stride
        self.tiles = plan_tiles(image.shape, geometry, inner)
        outer = self.tiles[0].outer[0]
        side = network.config.output_size(outer.stop - outer.start)
        columns = self.tiles[0].outer[1]
        self.side = (side, network.config.output_size(columns.stop - columns.start))
        self._kept: OrderedDict[int, list[Tensor]] = OrderedDict()
        self._bytes = 0

    def has(self, tile: Tile) -> bool:
        """Say whether a tile's features are there."""
        return tile.index in self._kept

    def of(self, tile: Tile) -> list[Tensor]:
        """Return the feature maps of a tile, see `UNet.feature_maps`."""
        if tile.index not in self._kept:
            batch = torch.from_numpy(read_tile(self._image.normalized, tile.outer)[None])
            maps = [part.cpu() for part in self._maps(batch)]
            self._kept[tile.index] = maps
            self._bytes += _size(maps)
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(tile.index)
        return self._kept[tile.index]

    def under(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Tensor:
        """Return the features of single pixels, shape (N, D), in the order of the pixels."""
        found: Tensor | None = None
        for tile in self.tiles:
            inside = _within(rows, tile.inner[0]) & _within(columns, tile.inner[1])
            if not inside.any():
                continue
            local_rows = torch.from_numpy(rows[inside] - tile.inner[0].start)
            local_columns = torch.from_numpy(columns[inside] - tile.inner[1].start)
            part = gather(self.of(tile), local_rows, local_columns, self.side)
            if found is None:
                found = torch.empty(len(rows), part.shape[1])
            found[torch.from_numpy(inside)] = part
        return torch.empty(0, 0) if found is None else found

    def touching(self, region: Box | None) -> list[Tile]:
        """Return the tiles that touch a region; None is all of the image."""
        return [t for t in self.tiles if region is None or overlap(t.inner, region)]


def _within(values: NDArray[np.intp], span: slice) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (values >= span.start) & (values < span.stop)
    return inside


def _size(maps: Sequence[Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in maps)
