"""The job that finds where to paint next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import RegionsSuggested
from napari_unet.ops.guidance import suggest
from napari_unet.ops.tiling import Box

# Larger images are looked at on a coarser grid: regions are much larger than pixels.
_PIXELS = 2_000_000


def suggest_job(
    probability: NDArray[np.float32],
    annotations: NDArray[np.integer],
    count: int = 5,
    side: int = 96,
) -> Iterator[RegionsSuggested]:
    """Find where strokes are expected to help most, see `napari_unet.ops.guidance.suggest`.

    Parameters
    ----------
    probability
        Shape (classes, Y, X); NaN where nothing was predicted.
    annotations
        Shape (Y, X): 0 where nothing is painted.
    count
        How many regions at most.
    side
        Of the regions, in pixels.

    Yields
    ------
    RegionsSuggested
        Once.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    step = max(1, int(np.ceil(np.sqrt(annotations.size / _PIXELS))))
    # A thin stroke may lie between the pixels of the coarser grid.
    painted = _largest_of_cells(annotations, step)
    coarse = probability[:, ::step, ::step]
    found = suggest(coarse, painted, count=count, side=max(side // step, 1))
    regions = tuple(
        replace(each, box=_enlarged(each.box, step, annotations.shape)) for each in found
    )
    yield RegionsSuggested(regions, float(1 - np.nanmean(coarse.max(axis=0))))


def _largest_of_cells(labels: NDArray[np.integer], step: int) -> NDArray[np.integer]:
    """Return the largest label of every cell of `step` x `step` pixels."""
    padded = np.pad(labels, [(0, -length % step) for length in labels.shape])
    rows, columns = (length // step for length in padded.shape)
    cells: NDArray[np.integer] = padded.reshape(rows, step, columns, step).max(axis=(1, 3))
    return cells


def _enlarged(box: Box, step: int, shape: tuple[int, ...]) -> Box:
    rows, columns = (
        slice(span.start * step, min(span.stop * step, length))
        for span, length in zip(box, shape, strict=True)
    )
    return rows, columns
