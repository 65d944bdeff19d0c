"""What prediction reports, and what is computed from its answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.guidance import Suggestion
from napari_unet.ops.tiling import Box


@dataclass(frozen=True, slots=True, eq=False)
class TilePredicted:
    """One tile of the probability map is there.

    Attributes
    ----------
    inner
        Where the tile lies in the image: a row slice and a column slice.
    probability
        Shape (classes, rows, columns) of `inner`, float32 in [0, 1], summing to 1 over classes.
    done, total
        Tiles finished so far, this one included, and tiles in all.
    plane
        Of a stack, the position along the axes before rows and columns.
    """

    inner: Box
    probability: NDArray[np.float32]
    done: int
    total: int
    plane: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanePredicted:
    """A plane of a stack, or a stack, is predicted whole; all its tiles were told of.

    Attributes
    ----------
    plane
        Its position along the axes before it.
    """

    plane: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlaneFinished:
    """A plane of a stack is done.

    Attributes
    ----------
    done, total
        Planes finished so far, this one included, and planes in all.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class PredictionFinished:
    """A prediction job ended.

    Attributes
    ----------
    tiles
        How many were predicted.
    seconds
        How long it took.
    stopped
        Whether it was asked to stop before the last tile.
    exact
        Whether it was predicted in float32, from the beginning or because the first tile demanded
        it.
    """

    tiles: int
    seconds: float
    stopped: bool
    exact: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InstancesFound:
    """Objects were cut out of a probability map.

    Attributes
    ----------
    instances
        Shape (Y, X), of a stack (..., Y, X), int32: 0 is background, objects are 1 to `count`.
    count
        How many there are.
    """

    instances: NDArray[np.int32]
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class WeightsComputed:
    """A part of a weight map is there.

    Attributes
    ----------
    window
        Where it lies in the image: a row slice and a column slice.
    weights
        Shape of `window`, float32, >= 0.
    """

    window: Box
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RegionsSuggested:
    """Regions were found where strokes are expected to help most.

    Attributes
    ----------
    regions
        Most useful first.
    expected_error
        Share of all predicted pixels that is expected to be wrong, if the probabilities are right.
    """

    regions: tuple[Suggestion, ...]
    expected_error: float
