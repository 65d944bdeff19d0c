"""Which labels of two label images meet, and in how many pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image, compact_labels

# Up to so many pairs of labels are counted in a table (128 MiB), which is faster than sorting.
_TABLE_SIZE = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class Contingency:
    """The pairs of labels that meet in at least one pixel.

    Attributes
    ----------
    prediction, truth
        Renumbered label images, int32: 0, then 1, 2, ... in the order of the labels.
    predicted_count, true_count
        How many objects they have; 0, the background, is not counted.
    rows, columns
        Shape (N,); the renumbered predicted and true label of each pair, 0 included.
    pixels
        Shape (N,), int64; in how many pixels the pair meets.
    """

    prediction: NDArray[np.int32]
    truth: NDArray[np.int32]
    predicted_count: int
    true_count: int
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    pixels: NDArray[np.int64]

    @property
    def predicted_sizes(self) -> NDArray[np.int64]:
        """Pixels of each predicted label, shape (predicted_count + 1,), 0 included."""
        return _sums(self.rows, self.pixels, self.predicted_count + 1)

    @property
    def true_sizes(self) -> NDArray[np.int64]:
        """Pixels of each true label, shape (true_count + 1,), 0 included."""
        return _sums(self.columns, self.pixels, self.true_count + 1)


def contingency(prediction: NDArray[Any], truth: NDArray[Any]) -> Contingency:
    """Count the pixels in which labels of two images meet.

    Parameters
    ----------
    prediction, truth
        Label images of shape (Y, X), or of stacks (Z, Y, X), boolean or integer, not negative.

    Returns
    -------
    Contingency
        See there.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.
    """
    ndim = 3 if np.ndim(prediction) == np.ndim(truth) == 3 else 2
    checked = as_label_image(prediction, "prediction", ndim), as_label_image(truth, "truth", ndim)
    same_shape(*checked)
    (predicted, predicted_count), (true, true_count) = map(compact_labels, checked)
    width = true_count + 1
    pairs = (predicted.astype(np.intp) * width + true).ravel()
    if (predicted_count + 1) * width <= _TABLE_SIZE:
        table = np.bincount(pairs)
        found = np.flatnonzero(table)
        pixels = table[found]
    else:
        found, pixels = np.unique(pairs, return_counts=True)
    return Contingency(
        predicted,
        true,
        predicted_count,
        true_count,
        found // width,
        found % width,
        pixels.astype(np.int64),
    )


def same_shape(*arrays: NDArray[Any]) -> None:
    """Refuse arrays of different shapes.

    Parameters
    ----------
    arrays
        What is to be compared pixel by pixel.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise InputError(f"arrays of shapes {sorted(shapes)} cannot be compared; crop them alike")


def _sums(index: NDArray[np.intp], pixels: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    # Exact: float64 holds every integer up to 2**53.
    return np.bincount(index, pixels, length).astype(np.int64)
