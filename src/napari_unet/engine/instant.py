"""The instant learner: an answer at the end of a stroke, before any network has learned.

A starter network's features of the image are computed once, tile by tile, and kept. A stroke then
costs no more than a linear classifier of the features under all strokes, in closed form
(`napari_unet.model.linear`), and its answer for what is on screen.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_unet.engine.events import PredictionFinished, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import choose_plan
from napari_unet.model.linear import apply_linear, gather, solve_ridge
from napari_unet.model.starter import adapted
from napari_unet.model.unet import UNet
from napari_unet.ops.annotations import NOT_ANNOTATED
from napari_unet.ops.tiling import Box, Tile, overlap, plan_tiles, read_tile, visible_first

# Output side of a tile: small, so that the first answer is there early and little is computed
# beyond the screen.
_INNER = 256
# Bytes of feature maps that are kept; the tiles that were used least recently go first.
_KEPT_BYTES = 1 << 30
# Of each class, so many stroke pixels at most are looked at: more say little and cost time.
_PIXELS_OF_A_CLASS = 2000


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
        """Return the feature maps of a tile, see `UNet.decoder_maps`."""
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


class InstantLearner:
    """Learns from strokes at once.

    Parameters
    ----------
    starter
        The network whose features it looks at.
    penalty
        Of the ridge regression; what the starter was trained with.
    scale
        Of the logits; what the starter was trained with.
    device
        As for `napari_unet.engine.device.resolve_device`.
    """

    def __init__(
        self, starter: UNet, *, penalty: float, scale: float, device: str = "auto"
    ) -> None:
        self._starter, self._penalty, self._scale = starter, penalty, scale
        self._device = device
        self._image: SourceImage | None = None
        self._features: FeatureTiles | None = None
        self._coefficients: Tensor | None = None
        self._classes = 0

    def look_at(self, image: SourceImage) -> FeatureTiles:
        """Choose the image; what was learned on others is kept, their features are not."""
        if self._features is None or image is not self._image:
            self._image, self._features = image, FeatureTiles(self._starter, image, self._device)
        return self._features

    @property
    def has_learned(self) -> bool:
        """Whether it can answer."""
        return self._coefficients is not None

    def learn(
        self, image: SourceImage, annotations: NDArray[np.integer], classes: int, seed: int = 0
    ) -> None:
        """Learn from all strokes of an image.

        Parameters
        ----------
        image
            The image.
        annotations
            Shape (Y, X): 0 not annotated, 1 to `classes`, at least two of them.
        classes
            How many classes there are; those without strokes are never the answer.
        seed
            Of the choice among many pixels.
        """
        rows, columns, labels = _chosen_pixels(annotations, np.random.default_rng(seed))
        features = self.look_at(image).under(rows, columns)
        painted = torch.from_numpy(labels.astype(np.int64) - 1)
        counts = torch.bincount(painted, minlength=classes).float()
        present = counts > 0
        weights = (1 / counts / present.sum())[painted]
        targets = functional.one_hot(painted, classes).float() * 2 - 1
        found = solve_ridge(features, targets, weights, torch.tensor(self._penalty))
        # A class without strokes has the same low value everywhere, and keeps it.
        found = found * self._scale
        found[-1, ~present] = -torch.inf
        found[:-1, ~present] = 0
        self._coefficients, self._classes = found, classes

    def predict(
        self,
        image: SourceImage,
        visible: Box | None = None,
        region: Box | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[TilePredicted | PredictionFinished]:
        """Predict tile by tile, what is on screen first.

        Parameters
        ----------
        image
            The image.
        visible
            What is on screen; its tiles come first.
        region
            Only tiles that touch it; None is all of them.
        stop
            Checked before every tile.
        """
        started = time.monotonic()
        features, coefficients = self.look_at(image), self._coefficients
        if coefficients is None:
            raise RuntimeError("learn from strokes first")
        tiles = [t for t in features.tiles if region is None or overlap(t.inner, region)]
        done = 0
        for tile in visible_first(tiles, visible):
            if stop is not None and stop.is_set():
                break
            logits = apply_linear(features.of(tile), coefficients, features.side)
            probability = logits[0].softmax(dim=0)[(slice(None), *tile.crop)].numpy()
            done += 1
            yield TilePredicted(tile.inner, np.ascontiguousarray(probability), done, len(tiles))
        yield PredictionFinished(done, time.monotonic() - started, done < len(tiles))


def _chosen_pixels(
    annotations: NDArray[np.integer], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.integer]]:
    """Rows, columns and labels of the annotated pixels, of each label not too many."""
    flat = annotations.ravel()
    parts = []
    for label in np.unique(flat[flat != NOT_ANNOTATED]):
        pixels = np.flatnonzero(flat == label)
        if len(pixels) > _PIXELS_OF_A_CLASS:
            pixels = np.sort(rng.choice(pixels, _PIXELS_OF_A_CLASS, replace=False))
        parts.append(pixels)
    chosen = np.concatenate(parts)
    rows, columns = np.divmod(chosen, annotations.shape[1])
    return rows, columns, flat[chosen]


def _within(values: NDArray[np.intp], span: slice) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (values >= span.start) & (values < span.stop)
    return inside


def _size(maps: Sequence[Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in maps)
