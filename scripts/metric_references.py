"""Recompute the scores that the tests of object measures were written from.

Usage: pip install py-ctcmetrics csbdeep numba && pip install --no-deps stardist
       python scripts/metric_references.py

The two packages are other people's implementations of the same measures: SEG by the maintainers of
a Python edition of the Cell Tracking Challenge's program, matching by the authors of StarDist. They
bring more packages than the tests should need, so their values stand in the tests as numbers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tifffile

# Off the ratios of small numbers: StarDist lets a pair count at the threshold, we above it.
THRESHOLDS = (0.3, 0.51, 0.61, 0.71, 0.81, 0.91)


def image_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Make pairs of a prediction and a truth: rectangles that are moved, lost, split and merged.

    From integers alone, so that no change in a random number generator can alter them.
    """
    return [_pair(seed) for seed in (1, 2, 3)]


def _pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    truth, prediction = np.zeros((2, 96, 120), np.int32)
    state = seed
    for label in range(1, 25):
        row, column = 2 + 24 * ((label - 1) // 6), 2 + 20 * ((label - 1) % 6)
        numbers = []
        for _ in range(6):
            state = (1103515245 * state + 12345) % 2**31
            numbers.append(state >> 16)
        height, width = 9 + numbers[0] % 12, 7 + numbers[1] % 10
        truth[row : row + height, column : column + width] = 7 * label
        down, right = numbers[2] % 5 - 2, numbers[3] % 5 - 2
        moved = np.s_[row + down : row + down + height, column + right : column + right + width]
        kind = numbers[4] % 8
        if kind == 0:  # lost
            continue
        prediction[moved] = label
        if kind == 1:  # split
            prediction[row + height // 2 :, column : column + width][: height // 2] = 100 + label
        if kind == 2:  # merged with the one before
            prediction[prediction == label] = max(1, label - 1)
        if kind == 3:  # something else as well
            prediction[row + 20 : row + 22, column + 12 : column + 17] = 200 + label
    return prediction, truth


def seg_of_ctc(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Compute SEG with py-ctcmetrics."""
    from ctc_metrics.metrics.technical.seg import seg
    from ctc_metrics.utils.representations import match

    with tempfile.TemporaryDirectory() as folder:
        reference, computed = Path(folder) / "reference.tif", Path(folder) / "computed.tif"
        tifffile.imwrite(reference, truth)
        tifffile.imwrite(computed, prediction)
        labels, _, _, _, overlaps = match(str(reference), str(computed))
    return float(seg([labels], [overlaps]))


def matching_of_stardist(
    pairs: list[tuple[np.ndarray, np.ndarray]], threshold: float, by_image: bool
) -> tuple[float, ...]:
    """Compute accuracy (our average precision), panoptic quality, tp, fp, fn with StarDist."""
    from stardist.matching import matching_dataset

    scores = matching_dataset(
        [truth for _, truth in pairs],
        [prediction for prediction, _ in pairs],
        thresh=threshold,
        by_image=by_image,
        show_progress=False,
    )
    return scores.accuracy, scores.panoptic_quality, scores.tp, scores.fp, scores.fn


def main() -> None:
    """Print the values."""
    pairs = image_pairs()
    print("SEG", [round(seg_of_ctc(*pair), 12) for pair in pairs])
    for threshold in THRESHOLDS:
        for by_image in (False, True):
            values = matching_of_stardist(pairs, threshold, by_image)
            print(threshold, by_image, [round(float(value), 12) for value in values])


if __name__ == "__main__":
    main()
