"""Evaluation: every measure that applies, for each image and in all.

Sources of the measures: `napari_unet.ops.metrics`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import EvaluationFinished, ImageEvaluated, Noticed
from napari_unet.engine.score_table import KINDS, EvaluationKind, ScoreTable, Values
from napari_unet.ops.error_map import error_map, semantic_error_map
from napari_unet.ops.errors import InputError
from napari_unet.ops.metrics import (
    ObjectMatch,
    ObjectScores,
    boundary_segments,
    dice_per_class,
    iou_per_class,
    match_objects,
    pixel_error,
    pixel_f_error,
    rand_error,
    seg,
    split_merge_error,
    v_info,
    v_rand,
    warping_error,
)

IOU_THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)

# What each measure says; classes are named by their number at the end, "Dice 2".
EXPLANATIONS: Final[Mapping[str, str]] = {
    "AP": "Found objects among found, spurious and missed ones, at this overlap. High is good.",
    "mean AP": "Average precision, mean over the overlaps 0.5 to 0.9. High is good.",
    "AP, counts summed": "Average precision with the objects of all images counted together.",
    "SEG": "Overlap of each true object with what covers more than half of it. High is good.",
    "PQ": "Panoptic quality: how well objects are found times how well they fit. High is good.",
    "SQ": "Mean overlap of the objects that were found. High is good.",
    "RQ": "F1 score of finding objects at an overlap of 0.5. High is good.",
    "precision": "Share of the predicted objects that are true. High is good.",
    "recall": "Share of the true objects that were found. High is good.",
    "true objects": "Objects in the truth.",
    "predicted objects": "Objects in the prediction.",
    "V_rand": "Agreement of all pairs of pixels on being in one object. High is good.",
    "V_info": "Information that prediction and truth share. High is good.",
    "Rand error": "Pairs of pixels that are wrongly together or apart. Low is good.",
    "warping error": "Pixels that wrongly split or merge cells, if borders may be moved. Low is "
    "good.",
    "warping error, all kinds": "Pixels that are topologically wrong in any way. Low is good.",
    "pixel error": "Share of the pixels that differ. Low is good.",
    "pixel F error": "1 - F-score of the interior's pixels. Low is good.",
    "Dice": "Twice the common pixels over the sum of both areas. High is good.",
    "IoU": "Common pixels over the pixels of either. High is good.",
    "threshold": "Probability from which a pixel was taken as interior.",
}


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationPair:
    """A prediction and the truth that it is compared with.

    Attributes
    ----------
    name
        What to call it.
    prediction
        Shape (Y, X): labels, or for "boundary" probabilities of the interior in [0, 1] as well.
    truth
        Shape (Y, X), integers; 0 is background or border.
    valid
        Shape (Y, X); where it is False nothing is known, and nothing counts.
    """

    name: str
    prediction: NDArray[Any]
    truth: NDArray[Any]
    valid: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.prediction.shape != self.truth.shape or self.truth.ndim != 2:
            raise InputError(
                f"{self.name}: a prediction of shape {self.prediction.shape} and a truth of shape "
                f"{self.truth.shape} cannot be compared; give two planes of one size"
            )


def evaluate(
    pairs: Sequence[EvaluationPair],
    kind: EvaluationKind,
    *,
    threshold: float | None = None,
    stop: threading.Event | None = None,
) -> Iterator[ImageEvaluated | Noticed | EvaluationFinished]:
    """Compare predictions with the truth.

    Parameters
    ----------
    pairs
        What to compare.
    kind
        "instances": labels are objects. "semantic": labels are classes. "boundary": what is not 0
        is the interior of cells, and its connected regions are compared, as in the EM challenge.
    threshold
        For "boundary" and probabilities: from where a pixel is interior. None takes, as the
        challenge does, the threshold with the best Rand error over all images.
    stop
        Checked before every image.

    Yields
    ------
    ImageEvaluated
        After each image.
    Noticed
        Which threshold was taken.
    EvaluationFinished
        Last.

    Raises
    ------
    InputError
        If there is nothing to compare, or a kind or threshold is not possible.
    """
    if kind not in KINDS:
        raise InputError(f"no kind {kind!r}; choose one of {', '.join(KINDS)}")
    if not pairs:
        raise InputError("there is nothing to evaluate; give a prediction and its truth")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"a threshold of {threshold} is not possible; choose 0 to 1")
    if kind == "boundary" and threshold is None and any(_is_map(p.prediction) for p in pairs):
        threshold = _best_threshold(pairs)
        yield Noticed(f"the threshold with the best Rand error is {threshold:g}")
    classes = _classes(pairs) if kind == "semantic" else ()
    gathered = _Gathered(kind)
    for number, pair in enumerate(pairs, start=1):
        if stop is not None and stop.is_set():
            break
        values, errors = gathered.add(pair, classes, threshold)
        yield ImageEvaluated(pair.name, values, errors, number, len(pairs))
    yield EvaluationFinished(gathered.table(), len(gathered.images) < len(pairs))


class _Gathered:
    """The scores so far."""

    def __init__(self, kind: EvaluationKind) -> None:
        self.kind = kind
        self.images: list[tuple[str, Values]] = []
        self._objects = ObjectScores(IOU_THRESHOLDS)

    def add(
        self, pair: EvaluationPair, classes: tuple[int, ...], threshold: float | None
    ) -> tuple[Values, NDArray[np.uint8]]:
        """Score a pair; with its error map."""
        if self.kind == "boundary":
            values, errors = _boundary(pair, 0.5 if threshold is None else threshold)
        elif self.kind == "semantic":
            values, errors = _semantic(pair, classes)
        else:
            prediction, truth = _known(pair.prediction, pair), _known(pair.truth, pair)
            match = match_objects(prediction, truth)
            self._objects.add(match)
            values = _instances(match, prediction, truth)
            errors = error_map(prediction, truth)
        self.images.append((pair.name, values))
        return values, errors

    def table(self) -> ScoreTable:
        """Return the scores of all images, and their means."""
        names = dict.fromkeys(name for _, values in self.images for name in values)
        total: dict[str, float | None] = {}
        for name in names:
            known = [v for _, values in self.images if (v := values.get(name)) is not None]
            combine = np.sum if name.endswith("objects") else np.mean
            total[name] = float(combine(known)) if known else None
        if self.kind == "instances" and self.images:
            for overlap, value in zip(
                IOU_THRESHOLDS, self._objects.average_precision(), strict=True
            ):
                total[f"AP@{overlap:g}, counts summed"] = float(value)
            total["PQ, counts summed"] = self._objects.panoptic_quality().pq
        return ScoreTable(self.kind, tuple(self.images), total)


def _instances(match: ObjectMatch, prediction: NDArray[Any], truth: NDArray[Any]) -> Values:
    scores = ObjectScores(IOU_THRESHOLDS)
    scores.add(match)
    precision = scores.average_precision()
    quality = scores.panoptic_quality()
    covered = seg(prediction, truth)
    # Classes count from 1 in these measures: 1 is background, 2 any object.
    covered_by, covering = (np.where(labels > 0, 2, 1) for labels in (prediction, truth))
    return {
        **{f"AP@{t:g}": float(p) for t, p in zip(IOU_THRESHOLDS, precision, strict=True)},
        "mean AP": float(precision.mean()),
        "SEG": covered if np.isfinite(covered) else None,
        "PQ": quality.pq,
        "SQ": quality.sq,
        "RQ": quality.rq,
        "precision": float(scores.precision()[0]),
        "recall": float(scores.recall()[0]),
        "Dice": dice_per_class(covered_by, covering, 2)[1],
        "IoU": iou_per_class(covered_by, covering, 2)[1],
        "V_rand": v_rand(prediction, truth).score,
        "V_info": v_info(prediction, truth).score,
        "true objects": float(match.true),
        "predicted objects": float(match.predicted),
    }


def _semantic(pair: EvaluationPair, classes: tuple[int, ...]) -> tuple[Values, NDArray[np.uint8]]:
    table = np.asarray(classes)
    prediction, truth = (
        np.searchsorted(table, labels).astype(np.int64) for labels in (pair.prediction, pair.truth)
    )
    # Label 0 is left out by the measures, so classes count from 1 there.
    compared = (prediction + 1, truth + 1, len(classes), pair.valid)
    dice, iou = dice_per_class(*compared), iou_per_class(*compared)
    known = [value for value in iou if value is not None]
    valid = np.ones(truth.shape, bool) if pair.valid is None else pair.valid
    values: dict[str, float | None] = {
        "mean IoU": float(np.mean(known)) if known else None,
        "mean Dice": float(np.mean([v for v in dice if v is not None])) if known else None,
        "pixel error": pixel_error(prediction[valid] != truth[valid], np.zeros(valid.sum(), bool)),
    }
    for value, of_dice, of_iou in zip(classes, dice, iou, strict=True):
        values |= {f"Dice {value}": of_dice, f"IoU {value}": of_iou}
    return values, semantic_error_map(_known(prediction, pair), _known(truth, pair))


def _boundary(pair: EvaluationPair, threshold: float) -> tuple[Values, NDArray[np.uint8]]:
    interior, truth = _interior(pair, threshold), pair.truth > 0
    segments, true_segments = boundary_segments(interior), boundary_segments(truth)
    thinned = boundary_segments(interior, thin=True)
    values: dict[str, float | None] = {
        "pixel error": pixel_error(interior, truth),
        "pixel F error": pixel_f_error(interior, truth),
        "Rand error": rand_error(segments, true_segments),
        "warping error": split_merge_error(interior, truth),
        "warping error, all kinds": warping_error(interior, truth),
        "V_rand": v_rand(thinned, true_segments).score,
        "V_info": v_info(thinned, true_segments).score,
    }
    if _is_map(pair.prediction):
        values["threshold"] = threshold
    return values, error_map(segments, true_segments)


def _interior(pair: EvaluationPair, threshold: float) -> NDArray[np.bool_]:
    interior: NDArray[np.bool_] = (
        pair.prediction >= threshold if _is_map(pair.prediction) else pair.prediction > 0
    )
    return interior


def _is_map(prediction: NDArray[Any]) -> bool:
    return prediction.dtype.kind == "f"


def _best_threshold(pairs: Sequence[EvaluationPair]) -> float:
    """Find the threshold with the best mean Rand error, in steps of 0.05."""

    def error(threshold: float) -> float:
        return float(
            np.mean(
                [
                    rand_error(
                        boundary_segments(_interior(pair, threshold)),
                        boundary_segments(pair.truth > 0),
                    )
                    for pair in pairs
                ]
            )
        )

    return min((round(0.05 * step, 2) for step in range(1, 20)), key=error)


def _classes(pairs: Sequence[EvaluationPair]) -> tuple[int, ...]:
    """Return all label values that occur, in the truths or the predictions."""
    found: set[int] = set()
    for pair in pairs:
        for labels in (pair.truth, pair.prediction):
            if labels.dtype.kind not in "bui":
                raise InputError(
                    f"{pair.name}: classes must be whole numbers, not {labels.dtype}; give labels"
                )
            found |= {int(value) for value in np.unique(labels)}
    if len(found) > 255:
        raise InputError(
            f"{len(found)} label values are too many to be classes; are they objects? "
            "Then choose the kind instances"
        )
    return tuple(sorted(found))


def _known(labels: NDArray[Any], pair: EvaluationPair) -> NDArray[Any]:
    """Drop what lies where nothing is known."""
    return labels if pair.valid is None else np.where(pair.valid, labels, 0)
