"""Features under the strokes of an image: of which pixels, and what is kept between strokes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.engine.feature_tiles import FeatureTiles
from napari_unet.engine.kept_tensors import KeptTensors
from napari_unet.ops.annotations import NOT_ANNOTATED

# Of each class, so many stroke pixels at most are looked at: more say little and cost time.
_PIXELS_OF_A_CLASS = 6000
# Side of the squares that are counted as places.
_PLACE = 8
# Bytes of features under the strokes of an image that is not looked at; more lie on the disk. An
# image that was painted all over has 24 MiB of them, which are read in 20 ms.
_IN_MEMORY = 4 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class StrokeSamples:
    """Pixels under the strokes of an image, their labels and features.

    Attributes
    ----------
    rows, columns
        Shape (N,).
    labels
        Shape (N,), from 1 on.
    importance
        Shape (N,), how many times each pixel counts.
    features
        Shape (N, D), float32; or the file that they lie in.
    responses
        How many of the D are filter responses, the last ones.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    labels: NDArray[np.integer]
    importance: Tensor
    features: Tensor | KeptTensors
    responses: int

    def put_away(self) -> StrokeSamples:
        """Return the same with many features on the disk."""
        features = self.features
        if isinstance(features, KeptTensors) or features.nbytes <= _IN_MEMORY:
            return self
        return replace(self, features=KeptTensors({"features": features.contiguous()}))

    def taken_up(self) -> StrokeSamples:
        """Return the same with all features in memory."""
        return replace(self, features=self.read())

    def read(self) -> Tensor:
        """Return the features, shape (N, D)."""
        features = self.features
        return features.read()["features"] if isinstance(features, KeptTensors) else features

    def grown(
        self, tiles: FeatureTiles, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> Tensor:
        """Return the features of other pixels of the same image; those that are here are copied.

        A stroke more leaves most pixels as they were.
        """
        across = 1 + int(max(columns.max(), self.columns.max()))
        _, new, old = np.intersect1d(
            rows * across + columns,
            self.rows * across + self.columns,
            assume_unique=True,
            return_indices=True,
        )
        missing = np.ones(len(rows), np.bool_)
        missing[new] = False
        known = self.read()
        found = torch.empty(len(rows), known.shape[1])
        found[torch.from_numpy(new)] = known[torch.from_numpy(old)]
        if missing.any():
            found[torch.from_numpy(missing)] = tiles.under(rows[missing], columns[missing])
        return found

    def is_of(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> bool:
        """Say whether these are the pixels."""
        return np.array_equal(rows, self.rows) and np.array_equal(columns, self.columns)

    def places(self, classes: int) -> NDArray[np.intp]:
        """Return in how many places each class was painted, shape (classes,)."""
        columns = self.columns // _PLACE
        across = int(columns.max(initial=0)) + 1
        places = self.rows // _PLACE * across + columns
        found = np.unique(places * classes + (self.labels.astype(np.intp) - 1))
        return np.bincount(found % classes, minlength=classes)


def chosen_pixels(
    annotations: NDArray[np.integer], seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.integer]]:
    """Choose annotated pixels, of each label not too many.

    Each pixel has its turn, whatever else is annotated, so that a stroke more replaces few of those
    that were chosen before: their features are known, and the answer elsewhere stays as it was.

    Parameters
    ----------
    annotations
        Shape (Y, X), 0 where nothing is annotated.
    seed
        Of the choice.

    Returns
    -------
    tuple of ndarray
        Their rows, columns and labels, each of shape (N,).
    """
    flat = annotations.ravel()
    parts = []
    for label in np.unique(flat[flat != NOT_ANNOTATED]):
        pixels = np.flatnonzero(flat == label)
        if len(pixels) > _PIXELS_OF_A_CLASS:
            first = np.argpartition(_turns(pixels, seed), _PIXELS_OF_A_CLASS)
            pixels = np.sort(pixels[first[:_PIXELS_OF_A_CLASS]])
        parts.append(pixels)
    chosen = np.concatenate(parts) if parts else np.zeros(0, np.intp)
    rows, columns = np.divmod(chosen, annotations.shape[1])
    return rows, columns, flat[chosen]


def _turns(pixels: NDArray[np.intp], seed: int) -> NDArray[np.uint64]:
    """Return a number for each pixel that looks random (the mixer of splitmix64)."""
    mixed = pixels.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    found: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return found
