"""What the comparison with a truth reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.score_table import ScoreTable, Values


@dataclass(frozen=True, slots=True)
class ThresholdTried:
    """A threshold of probabilities was tried on all images.

    Attributes
    ----------
    threshold
        The probability.
    error
        The Rand error with it.
    done, total
        Thresholds so far, this one included, and in all.
    """

    threshold: float
    error: float
    done: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class ImageEvaluated:
    """One image was evaluated.

    Attributes
    ----------
    name
        Its name.
    values
        Every measure by name; None where there is nothing to measure.
    errors
        Shape (Y, X), uint8: the error map, see `napari_unet.ops.error_map`.
    done, total
        Images so far, this one included, and in all.
    """

    name: str
    values: Values
    errors: NDArray[np.uint8]
    done: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationFinished:
    """The evaluation ended; `stopped` if it was asked to before the last image."""

    table: ScoreTable
    stopped: bool
