"""Measures that compare pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.ops.errors import InputError


def same_shape(*arrays: NDArray[Any]) -> None:
    """Refuse arrays of different shapes.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise InputError(f"arrays of shapes {sorted(shapes)} cannot be compared; crop them alike")


def pixel_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Compute the share of pixels that differ, or the mean squared difference of maps.

    Of two binary images both are the same. The EM challenge's own program computes the squared
    difference, averaged over the pixels (Arganda-Carreras et al. 2015, section "Metrics").

    Parameters
    ----------
    prediction, truth
        Same shape; masks, or maps in [0, 1].

    Returns
    -------
    float
        0 to 1, less is better; 0 for images without pixels.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    p, t = np.asarray(prediction), np.asarray(truth)
    same_shape(p, t)
    return float(np.mean((p.astype(float) - t.astype(float)) ** 2)) if p.size else 0.0


def pixel_f_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Compute 1 - F-score of the pixels that are True: 1 - 2 TP / (2 TP + FP + FN).

    The EM challenge of 2012 described its pixel error as "1 - the maximal F-score of pixel
    similarity, or squared Euclidean distance"; True is the interior of cells there. The two differ.

    Parameters
    ----------
    prediction, truth
        Same shape, boolean or 0 and 1.

    Returns
    -------
    float
        0 to 1, less is better; 0 if neither has a True pixel.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    p, t = np.asarray(prediction) != 0, np.asarray(truth) != 0
    same_shape(p, t)
    both, total = int((p & t).sum()), int(p.sum()) + int(t.sum())
    return 1 - 2 * both / total if total else 0.0


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
    return tuple(
        None if not t else 2 * both / (p + t)
        for both, p, t in _counts(prediction, truth, classes, valid)
    )


def iou_per_class(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[float | None, ...]:
    """Compute the intersection over union |P and T| / |P or T| of each class (Jaccard index).

    Parameters, result and errors are those of `dice_per_class`.
    """
    return tuple(
        None if not t else both / (p + t - both)
        for both, p, t in _counts(prediction, truth, classes, valid)
    )


def mean_dice(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Average `dice_per_class` over the classes that `truth` has; NaN if it has none."""
    return _mean(dice_per_class(prediction, truth, classes, valid))


def mean_iou(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Average `iou_per_class` over the classes that `truth` has; NaN if it has none."""
    return _mean(iou_per_class(prediction, truth, classes, valid))


def _counts(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None,
) -> list[tuple[int, int, int]]:
    """Pixels that both, the prediction and the truth have of each class."""
    same_shape(prediction, truth, *(() if valid is None else (valid,)))
    counted = truth > 0 if valid is None else valid & (truth > 0)
    p, t = prediction[counted], truth[counted]
    return [
        (int(((p == k) & (t == k)).sum()), int((p == k).sum()), int((t == k).sum()))
        for k in range(1, classes + 1)
    ]


def _mean(values: tuple[float | None, ...]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
