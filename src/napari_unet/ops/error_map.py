"""Maps of what a prediction got wrong, for looking at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.labels import as_label_image
from napari_unet.ops.metrics.contingency import Contingency, contingency, same_shape

AGREE, MISSED, SPURIOUS, SPLIT, MERGED, OTHER_CLASS = range(6)
ERROR_NAMES = {
    MISSED: "missed",
    SPURIOUS: "spurious",
    SPLIT: "split",
    MERGED: "merged",
    OTHER_CLASS: "another class",
}
# Of Okabe and Ito's palette (Color universal design, 2008): told apart with every colour vision.
ERROR_COLOURS = {
    MISSED: (86, 180, 233),  # sky blue
    SPURIOUS: (213, 94, 0),  # vermillion
    SPLIT: (240, 228, 66),  # yellow
    MERGED: (204, 121, 167),  # reddish purple
    OTHER_CLASS: (0, 158, 115),  # bluish green
}


def error_map(
    prediction: NDArray[Any], truth: NDArray[Any], threshold: float = 0.5
) -> NDArray[np.uint8]:
    """Tell in each pixel what is wrong with the object there.

    Parameters
    ----------
    prediction, truth
        Label images (Y, X), boolean or integer, 0 is background.
    threshold
        A true and a predicted object are the same if their intersection over union is above this,
        0.5 to 1.

    Returns
    -------
    ndarray of uint8, shape (Y, X)
        An object gets one code in all its pixels, in this order of rank:

        - MERGED (4): a predicted object in which more than half of each of several true objects
          lies, and these true objects;
        - SPLIT (3): a true object in which more than half of each of several predicted objects
          lies, and these predicted objects;
        - MISSED (1): a true object without its predicted one;
        - SPURIOUS (2): a predicted object without its true one;
        - AGREE (0): everything else, so that an outline which is slightly off is no error.

        Where a wrong true and a wrong predicted object overlap, MERGED is drawn first, then what
        the true object is.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.
    """
    table = contingency(prediction, truth)
    predicted, true = _object_errors(table, threshold)
    of_prediction, of_truth = predicted[table.prediction], true[table.truth]
    errors = np.where(of_truth > 0, of_truth, of_prediction)
    errors[of_prediction == MERGED] = MERGED
    return errors


def semantic_error_map(prediction: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.uint8]:
    """Tell in each pixel how the class is wrong.

    Parameters
    ----------
    prediction, truth
        Classes (Y, X), boolean or integer, 0 is background.

    Returns
    -------
    ndarray of uint8, shape (Y, X)
        AGREE (0), MISSED (1: background instead of a class), SPURIOUS (2: a class instead of
        background), OTHER_CLASS (5: one class instead of another).

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.
    """
    p, t = as_label_image(prediction, "prediction"), as_label_image(truth, "truth")
    same_shape(p, t)
    errors = np.where(p == t, AGREE, OTHER_CLASS).astype(np.uint8)
    errors[(p == 0) & (t != 0)] = MISSED
    errors[(p != 0) & (t == 0)] = SPURIOUS
    return errors


def count_object_errors(
    prediction: NDArray[Any], truth: NDArray[Any], threshold: float = 0.5
) -> dict[int, int]:
    """Count the objects that `error_map` draws in a colour, hidden ones included.

    Parameters
    ----------
    prediction, truth, threshold
        As for `error_map`.

    Returns
    -------
    dict
        MISSED and SPLIT: true objects; SPURIOUS and MERGED: predicted ones.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.
    """
    predicted, true = _object_errors(contingency(prediction, truth), threshold)
    wrong = ((MISSED, true), (SPURIOUS, predicted), (SPLIT, true), (MERGED, predicted))
    return {code: int(np.count_nonzero(codes == code)) for code, codes in wrong}


def _object_errors(
    table: Contingency, threshold: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Give each predicted and each true label, 0 included, the code of its error."""
    pairs = (table.rows > 0) & (table.columns > 0)
    p, t, overlap = table.rows[pairs], table.columns[pairs], table.pixels[pairs]
    predicted_sizes, true_sizes = table.predicted_sizes, table.true_sizes
    predicted = np.full(len(predicted_sizes), SPURIOUS, np.uint8)
    true = np.full(len(true_sizes), MISSED, np.uint8)
    predicted[0] = true[0] = AGREE

    same = overlap / (predicted_sizes[p] + true_sizes[t] - overlap) > threshold
    predicted[p[same]] = true[t[same]] = AGREE
    for code, inner, areas, outer in (
        (SPLIT, p, predicted_sizes, t),
        (MERGED, t, true_sizes, p),
    ):
        within = 2 * overlap > areas[inner]
        several = np.bincount(outer[within], minlength=max(len(true), len(predicted))) > 1
        wrong = within & several[outer]
        predicted[p[wrong]] = true[t[wrong]] = code
    return predicted, true
