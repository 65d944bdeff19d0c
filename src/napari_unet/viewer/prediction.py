"""The probabilities of an image, as far as they are known."""

from __future__ import annotations

import math
import tempfile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.viewer.planes import Index

# Larger results, of long stacks, are put into a temporary file, of which only what is written
# takes room.
_MOST_IN_MEMORY: Final = 2**30


class Prediction:
    """The probabilities of all planes of an image, as far as they are known.

    Parameters
    ----------
    classes
        How many, background included.
    shape
        All axes of the image but that of channels or colours.
    ndim
        2 if it comes plane by plane, 3 if it comes stack by stack.

    Attributes
    ----------
    probability
        Shape (classes, ..., Y, X), float32; 0 where nothing was predicted yet.
    predicted
        Shape (..., Y, X).
    labels
        The most probable class, 1 for background, shape (..., Y, X), uint8; 0 where nothing was
        predicted yet.
    """

    def __init__(self, classes: int, shape: tuple[int, ...], ndim: int = 2) -> None:
        self.classes = classes
        self.ndim = ndim
        self.probability: NDArray[np.float32] = blank((classes, *shape), np.float32)
        self.predicted: NDArray[np.bool_] = blank(shape, np.bool_)
        self.labels: NDArray[np.uint8] = blank(shape, np.uint8)

    def write(self, where: tuple[Any, ...], probability: NDArray[np.float32]) -> None:
        """Take in what was predicted of a region, shape (classes, ...)."""
        self.probability[:, *where] = probability
        self.predicted[where] = True
        self.labels[where] = probability.argmax(axis=0) + 1

    def of_plane(self, plane: Index) -> NDArray[np.float32]:
        """Return the probabilities of a plane, shape (classes, Y, X)."""
        where: tuple[Any, ...] = (slice(None), *plane)
        found: NDArray[np.float32] = self.probability[where]
        return found

    def planes(self, *, complete: bool = False) -> list[Index]:
        """Return the planes of which something was predicted, or all of it."""
        every = np.all if complete else np.any
        return [i for i in np.ndindex(*self.predicted.shape[:-2]) if every(self.predicted[i])]

    def pieces(self) -> list[Index]:
        """Return the planes, or the stacks, that were predicted whole."""
        places = np.ndindex(*self.predicted.shape[: -self.ndim])
        return [index for index in places if self.predicted[index].all()]


def blank(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return an array of zeros; a large one lies in a file that is gone with it."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= _MOST_IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the map keeps it open
        return np.memmap(file, dtype, "w+", shape=shape)
