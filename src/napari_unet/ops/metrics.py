"""How well a prediction agrees with the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError


def dice_per_class(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[float | None, ...]:
    """Compute the Dice coefficient 2 |P and T| / (|P| + |T|) of each class.

    Parameters
    ----------
    prediction, truth
        Shape (Y, X), labels 1 to `classes`. Where `truth` is 0 (not annotated), pixels are left
        out.
    classes
        Number of classes, background included.
    valid
        Shape (Y, X); where it is False, pixels are left out too.

    Returns
    -------
    tuple of float or None
        For labels 1 to `classes`, 0 to 1; None for a label that `truth` does not have there, since
        whether it would be found is unknown.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    shapes = {prediction.shape, truth.shape} | (set() if valid is None else {valid.shape})
    if len(shapes) > 1:
        raise InputError(f"arrays of shapes {sorted(shapes)} cannot be compared; crop them alike")
    counted = truth > 0 if valid is None else valid & (truth > 0)
    predicted, expected = prediction[counted], truth[counted]
    scores: list[float | None] = []
    for label in range(1, classes + 1):
        p, t = predicted == label, expected == label
        total = int(p.sum()) + int(t.sum())
        scores.append(2 * int((p & t).sum()) / total if t.any() else None)
    return tuple(scores)
