"""How well probabilities agree with the truth: IoU, best IoU over all thresholds, AUC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: What is measured. "IoU" is at the threshold 0.5 (the likeliest class where there are more than
#: two), "best IoU" at the threshold that suits best, "AUC" is the area under the ROC curve.
MEASURES = ("IoU", "best IoU", "AUC")


def score(
    probability: NDArray[np.float32],
    truth: NDArray[np.uint8],
    annotations: NDArray[np.uint8] | None = None,
) -> dict[str, float]:
    """Score the probabilities of one image.

    Parameters
    ----------
    probability
        Shape (classes, Y, X), 0 to 1.
    truth
        Shape (Y, X): 1 background, 2 and up classes, 0 not known and not scored.
    annotations
        Shape (Y, X): painted pixels (not 0) are not scored. None: nothing is painted.

    Returns
    -------
    dict
        The three `MEASURES`, each the mean over the classes but the background; a class that the
        scored pixels do not show is left out.
    """
    scored = truth > 0
    if annotations is not None:
        scored &= annotations == 0
    known, values = truth[scored], probability[:, scored]
    answer = 1 + values.argmax(axis=0)
    found = []
    for label in range(2, len(probability) + 1):
        positive = known == label
        if positive.any() and not positive.all():
            union = (positive | (answer == label)).sum()
            iou = float((positive & (answer == label)).sum() / union)
            found.append((iou, *_over_thresholds(values[label - 1], positive)))
    means = np.mean(found, axis=0) if found else np.full(len(MEASURES), np.nan)
    return {name: float(value) for name, value in zip(MEASURES, means, strict=True)}


def mean_score(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each measure over images."""
    return {name: float(np.mean([each[name] for each in scores])) for name in MEASURES}


def _over_thresholds(
    values: NDArray[np.float32], positive: NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the best IoU over all thresholds and the area under the ROC curve; ties count half."""
    order = np.argsort(values)[::-1]
    # The last of each run of equal values: a threshold takes all of them or none.
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    taken = (ends + 1).astype(np.float64)
    count = hits[-1]
    iou = hits / (taken + count - hits)
    true_rate = np.append(0, hits / count)
    false_rate = np.append(0, (taken - hits) / (len(values) - count))
    return float(iou.max()), float(np.trapezoid(true_rate, false_rate))
