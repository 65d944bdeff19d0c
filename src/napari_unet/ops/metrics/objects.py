"""Measures that compare object by object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from napari_unet.ops.labels import as_label_image, compact_labels
from napari_unet.ops.metrics.pixels import same_shape


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMatch:
    """Which objects of a prediction and of the truth overlap, and by how much.

    Attributes
    ----------
    predicted, true
        How many objects there are.
    rows, columns
        The pairs that overlap: index of the object in the prediction and in the truth, from 0.
    iou
        Intersection over union of each pair, above 0 to 1.
    intersection
        Pixels that each pair has in common.
    true_sizes
        Pixels of each true object.
    """

    predicted: int
    true: int
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    iou: NDArray[np.float64]
    intersection: NDArray[np.int64]
    true_sizes: NDArray[np.int64]

    def matched(self, threshold: float) -> tuple[int, float]:
        """Pair objects one to one, and count the pairs.

        Above an overlap of 0.5 no object has a second partner, so that there is but one way. Up to
        0.5 the assignment with the most pairs, of the largest overlap, is taken, as StarDist does.

        Parameters
        ----------
        threshold
            Overlap that a pair needs at least. (The Data Science Bowl asks for more than this,
            which differs at exact ties alone.)

        Returns
        -------
        int
            How many pairs.
        float
            Sum of their overlaps.
        """
        enough = self.iou >= threshold
        if threshold > 0.5:
            return int(enough.sum()), float(self.iou[enough].sum())
        if not enough.any():
            return 0, 0.0
        overlap = np.zeros((self.predicted, self.true))
        overlap[self.rows[enough], self.columns[enough]] = self.iou[enough]
        # A pair more is worth more than all overlaps together.
        worth = np.where(overlap > 0, overlap / (2 * min(overlap.shape)) + 1, 0)
        chosen = linear_sum_assignment(worth, maximize=True)
        found = overlap[chosen]
        return int((found > 0).sum()), float(found.sum())


def match_objects(prediction: ArrayLike, truth: ArrayLike) -> ObjectMatch:
    """Find all pairs of objects that overlap.

    Parameters
    ----------
    prediction, truth
        Label images of the same shape (Y, X), whole numbers >= 0; 0 is background. How objects
        are numbered does not matter.

    Raises
    ------
    InputError
        If the shapes differ, or the labels are not 2D whole numbers >= 0 with pixels.
    """
    p, t = as_label_image(prediction, "prediction"), as_label_image(truth, "truth")
    same_shape(p, t)
    of_p, p_count = compact_labels(p)
    of_t, t_count = compact_labels(t)
    p_sizes, t_sizes = (
        np.bincount(objects.ravel(), minlength=count + 1)[1:]
        for objects, count in ((of_p, p_count), (of_t, t_count))
    )
    both = (of_p > 0) & (of_t > 0)
    pairs = sparse.coo_matrix(
        (np.ones(int(both.sum()), np.int64), (of_p[both] - 1, of_t[both] - 1)),
        shape=(len(p_sizes), len(t_sizes)),
    ).tocsr()
    pairs.sum_duplicates()
    found = pairs.tocoo()
    union = p_sizes[found.row] + t_sizes[found.col] - found.data
    return ObjectMatch(
        len(p_sizes),
        len(t_sizes),
        found.row.astype(np.intp),
        found.col.astype(np.intp),
        found.data / union,
        found.data.astype(np.int64),
        t_sizes,
    )


def seg(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Compute SEG of the Cell Tracking Challenge.

    Source: Maška et al., Bioinformatics 30, 2014, section 2.3: the Jaccard index of each reference
    object and the object that covers more than half of it (0 if none does), averaged over the
    reference objects. Objects of the prediction that cover no reference object cost nothing.

    Parameters
    ----------
    prediction, truth
        As for `match_objects`.

    Returns
    -------
    float
        0 to 1, more is better; NaN if the truth has no object, as the challenge leaves such
        images out.
    """
    match = match_objects(prediction, truth)
    if not match.true:
        return float("nan")
    covers = 2 * match.intersection > match.true_sizes[match.columns]
    return float(match.iou[covers].sum() / match.true)


def average_precision(
    match: ObjectMatch, thresholds: Sequence[float] = (0.5,)
) -> NDArray[np.float64]:
    """Compute the average precision of one image, TP / (TP + FP + FN), at each overlap.

    Sources: Data Science Bowl 2018 (evaluation page; mean over the images); Schmidt et al., MICCAI
    2018 (StarDist), section 3.2. Over a whole set see `ObjectScores`.

    Parameters
    ----------
    match
        Of one image.
    thresholds
        Overlaps (IoU) from which an object counts as found.

    Returns
    -------
    ndarray of float64
        One value per threshold, 0 to 1, more is better; 1 if neither has an object.
    """
    scores = ObjectScores(tuple(thresholds))
    scores.add(match)
    return scores.average_precision()


@dataclass(frozen=True, slots=True)
class PanopticQuality:
    """Panoptic quality and its two factors, all 0 to 1, more is better.

    Attributes
    ----------
    pq
        sq times rq.
    sq
        Mean overlap of the objects that were found; 0 if none was.
    rq
        F1 score of finding them.
    """

    pq: float
    sq: float
    rq: float


def panoptic_quality(match: ObjectMatch, threshold: float = 0.5) -> PanopticQuality:
    """Compute the panoptic quality of one image (Kirillov et al., CVPR 2019, equation 2).

    Parameters
    ----------
    match
        Of one image.
    threshold
        Overlap (IoU) above which an object counts as found.

    Returns
    -------
    PanopticQuality
        All 1 if neither has an object.
    """
    scores = ObjectScores((threshold,))
    scores.add(match)
    return scores.panoptic_quality()


class ObjectScores:
    """Counts of found, spurious and missed objects, summed over the images of a set.

    This is StarDist's convention; that of the Data Science Bowl is the mean of `average_precision`
    over the images.

    Parameters
    ----------
    thresholds
        Overlaps (IoU) from which an object counts as found.
    """

    def __init__(self, thresholds: Sequence[float] = (0.5,)) -> None:
        self.thresholds = tuple(thresholds)
        self._found = np.zeros(len(self.thresholds), np.int64)
        self._overlap = np.zeros(len(self.thresholds))
        self._predicted = self._true = 0

    def add(self, match: ObjectMatch) -> None:
        """Count the objects of an image."""
        for index, threshold in enumerate(self.thresholds):
            found, overlap = match.matched(threshold)
            self._found[index] += found
            self._overlap[index] += overlap
        self._predicted += match.predicted
        self._true += match.true

    @property
    def found(self) -> NDArray[np.int64]:
        """True positives at each threshold."""
        return self._found.copy()

    @property
    def spurious(self) -> NDArray[np.int64]:
        """False positives at each threshold."""
        return self._predicted - self._found

    @property
    def missed(self) -> NDArray[np.int64]:
        """False negatives at each threshold."""
        return self._true - self._found

    def average_precision(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP + FN) at each threshold; 1 if there are no objects at all."""
        return self._ratio(self._found, self._found + self.spurious + self.missed)

    def precision(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP) at each threshold; 1 if nothing was predicted."""
        return self._ratio(self._found, self._found + self.spurious)

    def recall(self) -> NDArray[np.float64]:
        """Return TP / (TP + FN) at each threshold; 1 if there is nothing to find."""
        return self._ratio(self._found, self._found + self.missed)

    def f1(self) -> NDArray[np.float64]:
        """Return 2 TP / (2 TP + FP + FN) at each threshold; 1 if there are no objects at all."""
        return self._ratio(2 * self._found, 2 * self._found + self.spurious + self.missed)

    def panoptic_quality(self) -> PanopticQuality:
        """Return the panoptic quality at the first threshold."""
        rq = float(self.f1()[0])
        found = int(self._found[0])
        if not self._predicted and not self._true:
            return PanopticQuality(1.0, 1.0, 1.0)
        sq = float(self._overlap[0]) / found if found else 0.0
        return PanopticQuality(sq * rq, sq, rq)

    @staticmethod
    def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
        return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
