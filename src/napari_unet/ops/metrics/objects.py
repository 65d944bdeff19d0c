"""Scores of separate objects: SEG, average precision, panoptic quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError
from napari_unet.ops.metrics.contingency import contingency

# Those of the Data Science Bowl 2018.
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class PanopticQuality:
    """Panoptic quality and its factors, each 0 to 1.

    Attributes
    ----------
    pq
        `sq` * `rq`.
    sq
        Segmentation quality: the mean intersection over union of matched pairs.
    rq
        Recognition quality: the F-score of the matching.
    """

    pq: float
    sq: float
    rq: float


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMatch:
    """Which objects of a prediction and of the truth overlap, and by how much.

    Attributes
    ----------
    predicted, true
        How many objects there are.
    rows, columns
        Shape (N,); the pairs that overlap: index of the object in the prediction and in the truth,
        from 0 in the order of the labels.
    iou
        Shape (N,); intersection over union of each pair, above 0 to 1.
    intersection
        Shape (N,), int64; pixels that each pair has in common, at least 1.
    true_sizes
        Shape (true,), int64; pixels of each true object.
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

        Parameters
        ----------
        threshold
            A pair may be matched if its intersection over union is above this, 0 to 1. From 0.5 on
            no object has two such partners, so that every way of matching agrees; below, as many
            pairs as possible are matched and among these the best overlapping (Hungarian method,
            as StarDist; taking the best pair first could find fewer).

        Returns
        -------
        int
            How many pairs.
        float
            Sum of their intersections over unions.

        Raises
        ------
        InputError
            If the threshold lies outside 0 to 1.
        """
        if not 0 <= threshold <= 1:
            raise InputError(f"an IoU threshold of {threshold} is impossible; give 0 to 1")
        above = np.flatnonzero(self.iou > threshold)
        if threshold < 0.5 and above.size:
            above = self._best_pairs(above)
        return len(above), float(self.iou[above].sum())

    def _best_pairs(self, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
        from scipy.optimize import linear_sum_assignment  # slow to load, and a dock need not wait

        rows, row = np.unique(self.rows[pairs], return_inverse=True)
        columns, column = np.unique(self.columns[pairs], return_inverse=True)
        # A pair more is worth more than all overlaps together.
        gain = np.zeros((len(rows), len(columns)))
        gain[row, column] = 1 + self.iou[pairs] / (2 * min(gain.shape))
        chosen = np.zeros(gain.shape, bool)
        chosen[linear_sum_assignment(gain, maximize=True)] = True
        best: NDArray[np.intp] = pairs[chosen[row, column]]
        return best


def match_objects(prediction: NDArray[Any], truth: NDArray[Any]) -> ObjectMatch:
    """Find out which objects of two label images meet.

    Parameters
    ----------
    prediction, truth
        Label images (Y, X), boolean or integer, 0 is background. A label is an object, whether it
        is in one piece or not.

    Returns
    -------
    ObjectMatch
        For `average_precision`, `panoptic_quality`, `seg_per_object` and `ObjectScores`.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.
    """
    table = contingency(prediction, truth)
    pairs = (table.rows > 0) & (table.columns > 0)
    rows, columns, pixels = table.rows[pairs], table.columns[pairs], table.pixels[pairs]
    true_sizes = table.true_sizes
    union = table.predicted_sizes[rows] + true_sizes[columns] - pixels
    return ObjectMatch(
        table.predicted_count,
        table.true_count,
        rows - 1,
        columns - 1,
        pixels / union,
        pixels,
        true_sizes[1:],
    )


def average_precision(
    match: ObjectMatch, thresholds: Sequence[float] = IOU_THRESHOLDS
) -> NDArray[np.float64]:
    """Compute TP / (TP + FP + FN) of the objects of one image at each threshold.

    Parameters
    ----------
    match
        From `match_objects`.
    thresholds
        Intersections over union, 0 to 1; a pair counts above its threshold.

    Returns
    -------
    ndarray of float64, shape (thresholds,)
        0 to 1; 1 if neither image has an object.

    Raises
    ------
    InputError
        If a threshold lies outside 0 to 1.

    Notes
    -----
    What the Data Science Bowl 2018 (Caicedo et al. 2019, Nature Methods 16:1247) and StarDist
    (Schmidt et al. 2018, MICCAI) call average precision. Several images: `ObjectScores`.
    """
    scores = ObjectScores(thresholds)
    scores.add(match)
    return scores.average_precision()


def panoptic_quality(match: ObjectMatch, threshold: float = 0.5) -> PanopticQuality:
    """Compute the panoptic quality of one image with one class of objects.

    Parameters
    ----------
    match
        From `match_objects`.
    threshold
        A pair counts if its intersection over union is above this; the paper's is 0.5.

    Returns
    -------
    PanopticQuality
        All 1 if neither image has an object, all 0 if none is matched.

    Raises
    ------
    InputError
        If the threshold lies outside 0 to 1.

    Notes
    -----
    Kirillov et al. 2019, Panoptic segmentation, CVPR, equations 1 and 2.
    """
    scores = ObjectScores((threshold,))
    scores.add(match)
    return scores.panoptic_quality()


def seg(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Compute the SEG measure of the Cell Tracking Challenge for one image.

    Parameters
    ----------
    prediction, truth
        Label images (Y, X), boolean or integer, 0 is background.

    Returns
    -------
    float
        The mean of `seg_per_object`, 0 to 1; NaN if the truth has no object. The challenge takes
        the mean over the objects of a whole video.

    Raises
    ------
    InputError
        If the shapes differ, or one is no label image.
    """
    scores = seg_per_object(match_objects(prediction, truth))
    return float(scores.mean()) if scores.size else float("nan")


def seg_per_object(match: ObjectMatch) -> NDArray[np.float64]:
    """Compute how well each true object was segmented.

    Parameters
    ----------
    match
        From `match_objects`.

    Returns
    -------
    ndarray of float64, shape (T,)
        The Jaccard index with the predicted object that covers more than half of the true one; 0
        if there is none. Predicted objects that cover none do not count.

    Notes
    -----
    Maška et al. 2014, Bioinformatics 30:1609; Ulman et al. 2017, Nature Methods 14:1141.
    """
    scores = np.zeros(match.true)
    covering = 2 * match.intersection > match.true_sizes[match.columns]
    scores[match.columns[covering]] = match.iou[covering]
    return scores


class ObjectScores:
    """Object scores of a set of images.

    Two conventions are in use. The counts of all images summed: StarDist (`matching_dataset`), and
    panoptic quality in its paper; images with many objects weigh more. The mean over the images:
    the Data Science Bowl 2018, and StarDist with `by_image=True`; every image weighs the same.

    Parameters
    ----------
    thresholds
        Intersections over union above which an object counts as found, 0 to 1.
    """

    def __init__(self, thresholds: Sequence[float] = IOU_THRESHOLDS) -> None:
        self.thresholds = tuple(thresholds)
        self._found: list[list[int]] = []
        self._overlap = np.zeros(len(self.thresholds))
        self._objects: list[tuple[int, int]] = []
        self._seg: list[NDArray[np.float64]] = []

    def add(self, match: ObjectMatch) -> None:
        """Count the objects of one more image.

        Parameters
        ----------
        match
            From `match_objects`.

        Raises
        ------
        InputError
            If a threshold lies outside 0 to 1.
        """
        matched = [match.matched(threshold) for threshold in self.thresholds]
        self._found.append([found for found, _ in matched])
        self._overlap += [overlap for _, overlap in matched]
        self._objects.append((match.predicted, match.true))
        self._seg.append(seg_per_object(match))

    @property
    def found(self) -> NDArray[np.int64]:
        """True positives of the set at each threshold."""
        return self._summed(0)

    @property
    def spurious(self) -> NDArray[np.int64]:
        """False positives of the set at each threshold."""
        return self._summed(1)

    @property
    def missed(self) -> NDArray[np.int64]:
        """False negatives of the set at each threshold."""
        return self._summed(2)

    def average_precision(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP + FN) of the set at each threshold; 1 without any object."""
        return _ratio(self.found, self.found + self.spurious + self.missed)

    def average_precision_by_image(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP + FN) of each image, shape (images, thresholds).

        An image without any object, predicted or true, has 1. The score of the Data Science Bowl
        2018 is the mean of all, with `IOU_THRESHOLDS`.
        """
        found, spurious, missed = self._counts()
        return _ratio(found, found + spurious + missed)

    def precision(self) -> NDArray[np.float64]:
        """Return TP / (TP + FP) of the set at each threshold; 1 if nothing was predicted."""
        return _ratio(self.found, self.found + self.spurious)

    def recall(self) -> NDArray[np.float64]:
        """Return TP / (TP + FN) of the set at each threshold; 1 if there is nothing to find."""
        return _ratio(self.found, self.found + self.missed)

    def f1(self) -> NDArray[np.float64]:
        """Return 2 TP / (2 TP + FP + FN) of the set at each threshold; 1 without any object."""
        return _ratio(2 * self.found, 2 * self.found + self.spurious + self.missed)

    def panoptic_quality(self) -> PanopticQuality:
        """Return the panoptic quality of the set at the first threshold."""
        if not any(map(sum, self._objects)):
            return PanopticQuality(1.0, 1.0, 1.0)
        rq, found = float(self.f1()[0]), int(self.found[0])
        sq = float(self._overlap[0]) / found if found else 0.0
        return PanopticQuality(sq * rq, sq, rq)

    def seg(self) -> float:
        """Return SEG over all true objects of the set, as for a video; NaN without any."""
        scores = np.concatenate([*self._seg, np.empty(0)])
        return float(scores.mean()) if scores.size else float("nan")

    def _summed(self, which: int) -> NDArray[np.int64]:
        total: NDArray[np.int64] = self._counts()[which].sum(axis=0)
        return total

    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Found, spurious and missed objects, shape (images, thresholds) each."""
        found = np.array(self._found, np.int64).reshape(-1, len(self.thresholds))
        objects = np.array(self._objects, np.int64).reshape(-1, 2, 1)
        return found, objects[:, 0] - found, objects[:, 1] - found


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
