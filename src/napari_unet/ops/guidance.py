"""Where to paint next: where a prediction is uncertain, and unlike what was painted already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box, overlap

# A region is worth a visit if so many of its pixels are expected to be wrong; below that, strokes
# change single pixels of outlines, which no two people draw alike.
_WORTH_A_VISIT = 0.02


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A region where strokes are expected to help most.

    Attributes
    ----------
    box
        Rows and columns of the image.
    expected_error
        Share of its pixels that are expected to be wrong, 0 to 1, if the probabilities are right.
    novelty
        How unlike everything painted and suggested before it is, 0 to 1; 1 if nothing was painted.
    is_worth_it
        Whether strokes there are expected to change more than single pixels.
    """

    box: Box
    expected_error: float
    novelty: float

    @property
    def is_worth_it(self) -> bool:
        """Whether more than single pixels are expected to be wrong."""
        return self.expected_error >= _WORTH_A_VISIT


def uncertainty(probability: NDArray[Any]) -> NDArray[np.float32]:
    """Say how near each pixel is to another class.

    Parameters
    ----------
    probability
        Shape (K, Y, X), K at least 2, 0 to 1, summing to 1 over the classes; NaN where unknown.

    Returns
    -------
    ndarray of float32, shape (Y, X)
        1 less the margin between the two most probable classes (Scheffer et al. 2001, section 2):
        1 where they are equal, 0 where one is certain, NaN where nothing is known.

    Raises
    ------
    InputError
        On another shape.
    """
    if probability.ndim != 3 or len(probability) < 2:
        raise InputError(
            f"an array of shape {probability.shape} is no probability map; "
            "give (classes, rows, columns) with at least two classes"
        )
    highest = np.partition(probability, len(probability) - 2, axis=0)[-2:]
    margin: NDArray[np.float32] = (1 - (highest[1] - highest[0])).astype(np.float32)
    return margin


def expected_error(probability: NDArray[Any]) -> NDArray[np.float32]:
    """Return how probable it is that the most probable class is wrong, shape (Y, X), 0 to 1."""
    wrong: NDArray[np.float32] = (1 - probability.max(axis=0)).astype(np.float32)
    return wrong


def suggest(
    probability: NDArray[Any],
    annotations: NDArray[np.integer],
    features: NDArray[Any] | None = None,
    *,
    count: int = 5,
    side: int = 64,
) -> list[Suggestion]:
    """Suggest where to paint next.

    Of the regions with the most pixels that are expected to be wrong, those come first that are
    also unlike what was painted, and unlike the suggestions before them (Sener and Savarese 2018:
    of a batch, each member should stand for something else).

    Parameters
    ----------
    probability
        Shape (K, Y, X), K at least 2; NaN where nothing was predicted, which is not suggested.
    annotations
        Shape (Y, X), integers: 0 where nothing is painted.
    features
        Shape (D, Y, X): what tells pixels apart. None takes the probabilities.
    count
        How many suggestions at most.
    side
        Of the regions, in pixels.

    Returns
    -------
    list of Suggestion
        Most useful first; they do not overlap. Empty if nothing was predicted.

    Raises
    ------
    InputError
        If the shapes do not fit.
    """
    shape = probability.shape[1:]
    known = features if features is not None else probability
    if annotations.shape != shape or known.shape[1:] != shape:
        raise InputError(
            f"annotations of shape {annotations.shape} and features of shape {known.shape} do not "
            f"fit a prediction of shape {probability.shape}; take those of the same image"
        )
    windows = _Windows(shape, side)
    error = expected_error(probability)
    unknown = ~np.isfinite(error) | ~np.isfinite(known).all(axis=0)
    usable = windows.mean(unknown[np.newaxis])[:, 0] == 0
    if not usable.any():
        return []
    wrong = windows.mean(np.where(unknown, 0, error)[np.newaxis])[:, 0]
    described = windows.mean(np.where(unknown, 0, known))
    described = described / np.maximum(described[usable].std(axis=0), 1e-6)
    painted = windows.mean((annotations > 0)[np.newaxis])[:, 0] > 0
    return _unlike_each_other(windows, wrong, described, usable, described[painted & usable], count)


def _unlike_each_other(
    windows: _Windows,
    wrong: NDArray[np.float64],
    described: NDArray[np.float64],
    usable: NDArray[np.bool_],
    reference: NDArray[np.float64],
    count: int,
) -> list[Suggestion]:
    """Choose windows one by one: what is wrong and unlike `reference` and those before it."""
    usual = max(float(np.median(_distances(described[usable], described[usable]))), 1e-6)
    found: list[Suggestion] = []
    while usable.any() and len(found) < count:
        novelty = np.ones(len(wrong))
        if len(reference):
            novelty = 1 - np.exp(-_distances(described, reference).min(axis=1) / usual)
        # What is uncertain counts for something even where it looks like what was painted.
        use = np.where(usable, wrong * (0.5 + 0.5 * novelty), -1)
        best = int(np.argmax(use))
        found.append(Suggestion(windows.box(best), float(wrong[best]), float(novelty[best])))
        usable = usable & ~windows.overlapping(best)
        reference = np.concatenate([reference, described[best : best + 1]])
    return found


class _Windows:
    """Squares that overlap by half and cover an image; smaller ones where the image is smaller."""

    def __init__(self, shape: tuple[int, int], side: int) -> None:
        self._spans = [
            [slice(start, min(start + side, length)) for start in _starts(length, side)]
            for length in shape
        ]
        self._boxes = [(row, column) for row in self._spans[0] for column in self._spans[1]]

    def box(self, number: int) -> Box:
        return self._boxes[number]

    def mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Average (D, Y, X) over every window: shape (windows, D)."""
        # Of the integral image, a window takes four entries, however large it is.
        total = np.pad(values.astype(np.float64), ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
        means = []
        for rows, columns in self._boxes:
            inside = total[:, rows.stop, columns.stop] - total[:, rows.start, columns.stop]
            inside = inside - total[:, rows.stop, columns.start]
            inside = inside + total[:, rows.start, columns.start]
            size = (rows.stop - rows.start) * (columns.stop - columns.start)
            means.append(inside / size)
        return np.array(means)

    def overlapping(self, number: int) -> NDArray[np.bool_]:
        """Tell for each window whether it shares pixels with this one."""
        return np.array([overlap(box, self._boxes[number]) for box in self._boxes])


def _starts(length: int, side: int) -> list[int]:
    last = max(length - side, 0)
    return [*range(0, last, max(side // 2, 1)), last]


def _distances(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean, shape (len(first), len(second))."""
    from scipy.spatial.distance import cdist  # slow to load, and a dock need not wait

    distances: NDArray[np.float64] = cdist(first, second)
    return distances
