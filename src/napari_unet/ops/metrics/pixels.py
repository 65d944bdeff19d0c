"""Scores of pixels and of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.metrics.contingency import same_shape


def pixel_error(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Compute the share of pixels in which two binary masks disagree.

    Parameters
    ----------
    prediction, truth
        Shape (Y, X); what is not 0 is True.

    Returns
    -------
    float
        0 (equal) to 1 (each the other's negative); 0 for images without pixels. It is the mean
        squared difference of the masks, "the squared Euclidean distance between the original and
        the result labels" (page on evaluation of the ISBI 2012 EM segmentation challenge).

    Raises
    ------
    InputError
        If the shapes differ.
    """
    same_shape(prediction, truth)
    different = np.asarray(prediction, bool) != np.asarray(truth, bool)
    return float(different.mean()) if different.size else 0.0


def pixel_f_error(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Compute 1 - F-score of the pixels that are True, as the EM challenge defines pixel error.

    Parameters
    ----------
    prediction, truth
        Shape (Y, X); what is not 0 is True. In the challenge the interior of cells is positive
        (white, 255) and the membrane negative.

    Returns
    -------
    float
        (FP + FN) / (2 TP + FP + FN), 0 to 1; 0 if neither mask has a positive pixel, since there
        is nothing to disagree on.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    The ISBI 2012 challenge (page on evaluation) calls this "pixel error, defined as 1 - the maximal
    F-score of pixel similarity": pixels of all sections are counted together, and the threshold of
    the submitted probabilities that gives the best F-score is taken, from 0 to 1 in steps of 0.1.
    Here one mask is scored. So the pixel error of 0.0611 in table 1 of the U-Net paper is to be
    compared with this: the organisers' scripts for Fiji compute 1 - the maximal F-score under this
    name. With a share i of interior, a plain `pixel_error` of e is about e / (2 i) here; with the
    0.77 of the challenge's training labels, 0.0611 is some 9 % of wrong pixels.
    """
    same_shape(prediction, truth)
    p, t = np.asarray(prediction, bool), np.asarray(truth, bool)
    positive = int(p.sum()) + int(t.sum())
    return 1 - 2 * int((p & t).sum()) / positive if positive else 0.0


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
    both, predicted, expected = _class_counts(prediction, truth, classes, valid)
    return tuple(
        2 * b / (p + t) if t else None for b, p, t in zip(both, predicted, expected, strict=True)
    )


def iou_per_class(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[float | None, ...]:
    """Compute the intersection over union |P and T| / |P or T| of each class (Jaccard 1912).

    Parameters
    ----------
    prediction, truth, classes, valid
        As for `dice_per_class`.

    Returns
    -------
    tuple of float or None
        For labels 1 to `classes`, 0 to 1; None for a label that `truth` does not have there.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    both, predicted, expected = _class_counts(prediction, truth, classes, valid)
    return tuple(
        b / (p + t - b) if t else None for b, p, t in zip(both, predicted, expected, strict=True)
    )


def mean_dice(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Average the Dice coefficients of the classes that the truth has.

    Parameters
    ----------
    prediction, truth, classes, valid
        As for `dice_per_class`.

    Returns
    -------
    float
        0 to 1; NaN if no pixel is annotated.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    return _mean(dice_per_class(prediction, truth, classes, valid))


def mean_iou(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Average the intersections over unions of the classes that the truth has.

    Parameters
    ----------
    prediction, truth, classes, valid
        As for `dice_per_class`.

    Returns
    -------
    float
        0 to 1; NaN if no pixel is annotated.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    return _mean(iou_per_class(prediction, truth, classes, valid))


def _class_counts(
    prediction: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    valid: NDArray[np.bool_] | None,
) -> tuple[list[int], list[int], list[int]]:
    """Count annotated pixels of each class in both images, in the prediction, in the truth."""
    same_shape(prediction, truth, *([] if valid is None else [valid]))
    counted = truth > 0 if valid is None else valid & (truth > 0)
    predicted, expected = prediction[counted], truth[counted]
    agreed = expected[predicted == expected]
    labels = range(1, classes + 1)

    def count(values: NDArray[np.integer[Any]]) -> list[int]:
        return [int(np.count_nonzero(values == label)) for label in labels]

    return count(agreed), count(predicted), count(expected)


def _mean(scores: tuple[float | None, ...]) -> float:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else float("nan")
