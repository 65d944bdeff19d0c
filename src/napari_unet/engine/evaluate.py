"""Evaluation: every measure that applies, for each image and in all.

Sources of the measures: `napari_unet.ops.metrics`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset.labelled_set import distinct_values
from napari_unet.engine.evaluation_pairs import EvaluationPair
from napari_unet.engine.events import EvaluationFinished, ImageEvaluated, Noticed, ThresholdTried
from napari_unet.engine.score_table import KINDS, SUMMED, EvaluationKind, ScoreTable, Values
from napari_unet.ops.error_map import (
    ERROR_NAMES,
    count_object_errors,
    error_map,
    semantic_error_map,
)
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
    split_merge_error,
    v_info,
    v_rand,
    warping_error,
)

IOU_THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)
# The challenge's program tries 0 to 1 in steps of 0.1; these are among them, and those between.
_THRESHOLDS: Final = tuple(round(0.05 * step, 2) for step in range(1, 20))

_Scored = tuple[dict[str, float | None], NDArray[np.uint8]]


def evaluate(
    pairs: Sequence[EvaluationPair],
    kind: EvaluationKind,
    *,
    threshold: float | None = None,
    stop: threading.Event | None = None,
) -> Iterator[ThresholdTried | ImageEvaluated | Noticed | EvaluationFinished]:
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
        challenge does, the threshold with the best Rand error over all images; of equals the one
        nearest to 0.5.
    stop
        Checked before every image and every threshold.

    Yields
    ------
    ThresholdTried
        After each threshold, if the best one is looked for.
    Noticed
        Which threshold was taken.
    ImageEvaluated
        After each image.
    EvaluationFinished
        Last.

    Raises
    ------
    InputError
        If there is nothing to compare, or a kind or threshold is not possible.
    """
    stop = stop or threading.Event()
    _check(pairs, kind, threshold)
    if kind == "boundary" and threshold is None and any(pair.is_map for pair in pairs):
        threshold = yield from _best_threshold(pairs, stop)
    gathered = _Gathered(pairs, kind, 0.5 if threshold is None else threshold)
    for number, pair in enumerate(pairs, start=1):
        if stop.is_set():
            break
        values, errors = gathered.add(pair)
        yield ImageEvaluated(pair.name, values, errors, number, len(pairs))
    yield EvaluationFinished(gathered.table(), len(gathered.images) < len(pairs))


def _check(pairs: Sequence[EvaluationPair], kind: EvaluationKind, threshold: float | None) -> None:
    if kind not in KINDS:
        raise InputError(f"no kind {kind!r}; choose one of {', '.join(KINDS)}")
    if not pairs:
        raise InputError("there is nothing to evaluate; give a prediction and its truth")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"a threshold of {threshold} is not possible; choose 0 to 1")
    if kind != "boundary" and (maps := [pair.name for pair in pairs if pair.is_map]):
        raise InputError(
            f"{maps[0]}: probabilities have no {kind}; give labels, or choose the kind boundary"
        )


class _Gathered:
    """The scores so far."""

    def __init__(
        self, pairs: Sequence[EvaluationPair], kind: EvaluationKind, threshold: float
    ) -> None:
        self.kind = kind
        self.images: list[tuple[str, Values]] = []
        self._threshold = threshold
        self._classes = _classes(pairs) if kind == "semantic" else ()
        self._objects = ObjectScores(IOU_THRESHOLDS)
        self._segments = _Together()

    def add(self, pair: EvaluationPair) -> _Scored:
        """Score a pair; with its error map."""
        if self.kind == "boundary":
            values, errors = _boundary(pair, self._threshold, self._segments)
        elif self.kind == "semantic":
            values, errors = _semantic(pair, self._classes)
        else:
            values, errors = _instances(pair, self._objects)
        self.images.append((pair.name, values))
        return values, errors

    def table(self) -> ScoreTable:
        """Return the scores of all images, their means, and what was counted in all."""
        names = dict.fromkeys(name for _, values in self.images for name in values)
        total: dict[str, float | None] = {}
        for name in names:
            known = [v for _, values in self.images if (v := values.get(name)) is not None]
            combine = np.sum if name.endswith("objects") else np.mean
            total[name] = float(combine(known)) if known else None
        summed: dict[str, float | None] = {}
        if self.images and self.kind == "instances":
            summed = _object_measures(self._objects)
        elif self.images and self.kind == "boundary":
            summed = {"Rand error": rand_error(*self._segments.images())}
        total |= {name + SUMMED: value for name, value in summed.items()}
        return ScoreTable(self.kind, tuple(self.images), total)


class _Together:
    """Segments of several images as those of one, so that their pairs of pixels add up."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._highest = [0, 0]

    def add(self, prediction: NDArray[Any], truth: NDArray[Any]) -> None:
        """Add an image."""
        renumbered = []
        for number, segments in enumerate((prediction, truth)):
            flat = segments.ravel().astype(np.int64)
            renumbered.append(np.where(flat > 0, flat + self._highest[number], 0))
            self._highest[number] += int(flat.max(initial=0))
        self._parts.append((renumbered[0], renumbered[1]))

    def images(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return one prediction and one truth, in a single row of pixels."""
        prediction, truth = (np.concatenate(part)[None] for part in zip(*self._parts, strict=True))
        return prediction, truth


# ---------------------------------------------------------------------- objects


def _instances(pair: EvaluationPair, together: ObjectScores) -> _Scored:
    prediction, truth = _known(pair.prediction, pair), _known(pair.truth, pair)
    match = match_objects(prediction, truth)
    together.add(match)
    alone = ObjectScores(IOU_THRESHOLDS)
    alone.add(match)
    # Classes count from 1 in these measures: 1 is background, 2 any object.
    classes = (np.where(prediction > 0, 2, 1), np.where(truth > 0, 2, 1), 2, pair.valid)
    values = {
        **_object_measures(alone),
        "Dice": dice_per_class(*classes)[1],
        "IoU": iou_per_class(*classes)[1],
        "V_rand": v_rand(prediction, truth).score,
        "V_info": v_info(prediction, truth).score,
        **_object_counts(match, prediction, truth),
    }
    return values, error_map(prediction, truth)


def _object_measures(scores: ObjectScores) -> dict[str, float | None]:
    """Return what follows from the objects found, of one image or of several."""
    precision = scores.average_precision()
    quality, covered = scores.panoptic_quality(), scores.seg()
    return {
        **{f"AP@{t:g}": float(p) for t, p in zip(IOU_THRESHOLDS, precision, strict=True)},
        "mean AP": float(precision.mean()),
        "SEG": covered if np.isfinite(covered) else None,
        "PQ": quality.pq,
        "SQ": quality.sq,
        "RQ": quality.rq,
        "F1": float(scores.f1()[0]),
        "precision": float(scores.precision()[0]),
        "recall": float(scores.recall()[0]),
    }


def _object_counts(
    match: ObjectMatch, prediction: NDArray[Any], truth: NDArray[Any]
) -> dict[str, float | None]:
    wrong = count_object_errors(prediction, truth)
    return {
        "true objects": float(match.true),
        "predicted objects": float(match.predicted),
        **{f"{ERROR_NAMES[code]} objects": float(count) for code, count in wrong.items()},
    }


def _known(labels: NDArray[Any], pair: EvaluationPair) -> NDArray[Any]:
    """Drop the objects of which at least half lies where nothing is known."""
    if pair.valid is None:
        return labels
    present, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    unknown = np.bincount(index[~pair.valid], minlength=len(present))
    dropped = 2 * unknown >= np.bincount(index.ravel())
    return np.where(dropped[index], 0, labels)


# ---------------------------------------------------------------------- classes


def _semantic(pair: EvaluationPair, classes: tuple[int, ...]) -> _Scored:
    table = np.asarray(classes)
    valid = np.ones(pair.truth.shape, bool) if pair.valid is None else pair.valid
    prediction, truth = (
        np.searchsorted(table, np.where(valid, labels, classes[0])).astype(np.int64)
        for labels in (pair.prediction, pair.truth)
    )
    # Label 0 is left out by the measures, so classes count from 1 there.
    compared = (prediction + 1, truth + 1, len(classes), valid)
    dice, iou = dice_per_class(*compared), iou_per_class(*compared)
    wrong = prediction[valid] != truth[valid]
    values: dict[str, float | None] = {
        "mean IoU": _mean(iou),
        "mean Dice": _mean(dice),
        "pixel error": float(wrong.mean()) if wrong.size else None,
    }
    for value, of_dice, of_iou in zip(classes, dice, iou, strict=True):
        values |= {f"Dice {value}": of_dice, f"IoU {value}": of_iou}
    return values, semantic_error_map(prediction, truth)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _classes(pairs: Sequence[EvaluationPair]) -> tuple[int, ...]:
    """Return all label values that occur, in the truths or the predictions."""
    found: set[int] = set()
    for pair in pairs:
        for labels in (pair.truth, pair.prediction):
            found |= distinct_values(labels if pair.valid is None else labels[pair.valid])
    if len(found) > 255:
        raise InputError(
            f"{len(found)} label values are too many to be classes; are they objects? "
            "Then choose the kind instances"
        )
    return tuple(sorted(found)) or (0,)


# ---------------------------------------------------------------------- borders


def _boundary(pair: EvaluationPair, threshold: float, together: _Together) -> _Scored:
    interior, truth = _interior(pair, threshold), pair.truth > 0
    segments, true_segments = boundary_segments(interior), boundary_segments(truth)
    thinned = boundary_segments(interior, thin=True)
    together.add(segments, true_segments)
    values: dict[str, float | None] = {
        "pixel error": pixel_error(interior, truth),
        "pixel F error": pixel_f_error(interior, truth),
        "Rand error": rand_error(segments, true_segments),
        "warping error": split_merge_error(interior, truth),
        "warping error, all kinds": warping_error(interior, truth),
        "V_rand": v_rand(thinned, true_segments).score,
        "V_info": v_info(thinned, true_segments).score,
        **_object_counts(match_objects(segments, true_segments), segments, true_segments),
    }
    if pair.is_map:
        values["threshold"] = threshold
    return values, error_map(segments, true_segments)


def _interior(pair: EvaluationPair, threshold: float) -> NDArray[np.bool_]:
    """Return what is predicted to be inside of cells; where nothing is known, the truth."""
    interior: NDArray[np.bool_] = (
        pair.prediction >= threshold if pair.is_map else (pair.prediction > 0)
    )
    return interior if pair.valid is None else np.where(pair.valid, interior, pair.truth > 0)


def _best_threshold(
    pairs: Sequence[EvaluationPair], stop: threading.Event
) -> Generator[ThresholdTried | Noticed, None, float]:
    """Find the threshold with the best Rand error, the pairs of all images counted together."""
    truths = [boundary_segments(pair.truth > 0) for pair in pairs]
    errors: dict[float, float] = {}
    for done, threshold in enumerate(_THRESHOLDS, start=1):
        if stop.is_set():
            break
        together = _Together()
        for pair, truth in zip(pairs, truths, strict=True):
            together.add(boundary_segments(_interior(pair, threshold)), truth)
        errors[threshold] = rand_error(*together.images())
        yield ThresholdTried(threshold, errors[threshold], done, len(_THRESHOLDS))
    else:
        best = min(errors, key=lambda each: (errors[each], abs(each - 0.5)))
        yield Noticed(f"the threshold with the best Rand error is {best:g}")
        return best
    return 0.5
