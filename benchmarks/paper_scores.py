"""The scores of a row: the same for our network and for its peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset import LabelledSet
from napari_unet.engine.results import InstanceSettings, find_instances
from napari_unet.ops.error_map import ERROR_NAMES, count_object_errors
from napari_unet.ops.instances import seeded_instances
from napari_unet.ops.metrics import (
    average_precision,
    boundary_segments,
    match_objects,
    panoptic_quality,
    pixel_error,
    pixel_f_error,
    rand_error,
    seg,
    split_merge_error,
    v_info,
    v_rand,
    warping_error,
)

IOU_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_MAP = NDArray[np.float32]
# The challenge took the best threshold of each measure; so do the columns called "best".
_THRESHOLDS = np.round(np.arange(0.1, 0.96, 0.05), 2)
# Membranes have no width in the truth of cells, so floods may go far into them.
_FLOODED = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_SEEDS = (0.6, 0.7, 0.8, 0.9, 0.95)

Mask = NDArray[np.bool_]
Masks = Sequence[Mask]


def _rand(predictions: Masks, truths: Masks) -> float:
    """Count the pairs of all sections together, as the challenge does."""
    return rand_error(_together(predictions), _together(truths))


def _together(masks: Masks, thin: bool = False) -> NDArray[np.int64]:
    """Give the segments of all sections numbers, none of them twice."""
    parts, highest = [], 0
    for mask in masks:
        segments = boundary_segments(mask, thin=thin).astype(np.int64)
        parts.append(np.where(segments > 0, segments + highest, 0))
        highest += int(segments.max(initial=0))
    return np.concatenate(parts)


def _mean(measure: Callable[[Mask, Mask], float]) -> Callable[[Masks, Masks], float]:
    """Average a measure over the sections."""

    def averaged(predictions: Masks, truths: Masks) -> float:
        pairs = zip(predictions, truths, strict=True)
        return float(np.mean([measure(p, t) for p, t in pairs]))

    return averaged


# Interiors are True; of the V measures more is better, so they are turned round.
BOUNDARY_MEASURES: dict[str, Callable[[Masks, Masks], float]] = {
    "pixel error": _mean(pixel_error),
    "pixel F error": lambda p, t: pixel_f_error(np.concatenate(p), np.concatenate(t)),
    "Rand error": _rand,
    "warping error": _mean(split_merge_error),
    "warping error, all kinds": _mean(warping_error),
    "1 - V_rand": lambda p, t: 1 - v_rand(_together(p, thin=True), _together(t)).score,
    "1 - V_info": lambda p, t: 1 - v_info(_together(p, thin=True), _together(t)).score,
}


def _flooded(maps: Sequence[_MAP], settings: tuple[float, float]) -> NDArray[np.int64]:
    """Cut cells out as the program does: flooded from their middles; no number twice."""
    threshold, seeds = settings
    parts, highest = [], 0
    for probability in maps:
        cells = seeded_instances(
            probability, threshold=threshold, seed_threshold=seeds, smoothing=0.0
        ).astype(np.int64)
        parts.append(np.where(cells > 0, cells + highest, 0))
        highest += int(cells.max(initial=0))
    return np.concatenate(parts)


def score_flooded(
    foreground: dict[str, list[_MAP]], validation: LabelledSet, test: LabelledSet
) -> dict[str, Any]:
    """Score cells flooded from their middles, with thresholds chosen on the validation images."""
    truths = {
        "validation": _together([image.labels > 0 for image in validation.images]),
        "test": _together([image.labels > 0 for image in test.images]),
    }

    def error(part: str, settings: tuple[float, float]) -> float:
        return rand_error(_flooded(foreground[part], settings), truths[part])

    candidates = [(t, s) for t in _FLOODED for s in _SEEDS]
    chosen = min(candidates, key=lambda settings: error("validation", settings))
    cells = _flooded(foreground["test"], chosen)
    return {
        "flooded": chosen,
        "Rand error, flooded": rand_error(cells, truths["test"]),
        "1 - V_info, flooded": 1 - v_info(cells, truths["test"]).score,
    }


def score_boundaries(
    foreground: dict[str, list[_MAP]], validation: LabelledSet, test: LabelledSet
) -> dict[str, Any]:
    """Score maps of the probability to lie within a cell, as the EM challenge does.

    Returns
    -------
    dict
        "mean": every measure over all sections, at the threshold chosen on the validation images,
        and at the best one on the test images, which is what the challenge reports; "images":
        single sections at the chosen threshold; "thresholds": the chosen and the best.
    """
    truths = [image.labels > 0 for image in test.images]
    mean, thresholds, images = {}, {}, {}
    for name, measure in BOUNDARY_MEASURES.items():
        chosen = _THRESHOLDS[np.argmin(_curve(measure, foreground["validation"], validation))]
        curve = _curve(measure, foreground["test"], test)
        best = int(np.argmin(curve))
        mean[name] = float(curve[np.flatnonzero(chosen == _THRESHOLDS)[0]])
        mean[f"{name}, best threshold"] = float(curve[best])
        thresholds[name] = [float(chosen), float(_THRESHOLDS[best])]
        pairs = zip(foreground["test"], truths, strict=True)
        images[name] = [measure([p >= chosen], [t]) for p, t in pairs]
    flooded = score_flooded(foreground, validation, test)
    settings = flooded.pop("flooded")
    return {
        "mean": mean | flooded,
        "thresholds": thresholds,
        "images": images,
        "flooded": settings,  # threshold and seed threshold
    }


def _curve(
    measure: Callable[[Masks, Masks], float], maps: Sequence[_MAP], labelled: LabelledSet
) -> NDArray[np.float64]:
    """Return the measure over all sections at every threshold."""
    truths = [image.labels > 0 for image in labelled.images]
    return np.array(
        [measure([each >= threshold for each in maps], truths) for threshold in _THRESHOLDS]
    )


def score_objects(
    probabilities: Sequence[_MAP], test: LabelledSet, settings: InstanceSettings
) -> dict[str, Any]:
    """Score objects that are cut out with the given settings.

    Returns
    -------
    dict
        "mean" over the images: AP at every overlap and their mean, PQ, SEG; "images"; "settings";
        "errors": how many true objects there are, and how many objects of all images are wrong in
        which way, at an overlap of 0.5.
    """
    matches = [
        match_objects(find_instances(probability, settings), image.labels)
        for probability, image in zip(probabilities, test.images, strict=True)
    ]
    objects = [find_instances(probability, settings) for probability in probabilities]
    precision = np.array([average_precision(match, IOU_THRESHOLDS) for match in matches])
    names = [f"AP@{threshold:g}" for threshold in IOU_THRESHOLDS]
    values: dict[str, list[float]] = {
        name: column.tolist() for name, column in zip(names, precision.T, strict=True)
    }
    values["mean AP"] = precision.mean(axis=1).tolist()
    values["PQ"] = [panoptic_quality(match).pq for match in matches]
    values["SEG"] = [seg(o, i.labels) for o, i in zip(objects, test.images, strict=True)]
    return {
        "mean": {name: float(np.nanmean(column)) for name, column in values.items()},
        "images": values,
        "errors": _errors(objects, test),
        "settings": settings.sentence(),
        "instances": asdict(settings),
    }


def _errors(objects: Sequence[NDArray[np.int32]], test: LabelledSet) -> dict[str, int]:
    counts = [
        count_object_errors(found, image.labels)
        for found, image in zip(objects, test.images, strict=True)
    ]
    total = sum(len(np.unique(image.labels[image.labels > 0])) for image in test.images)
    kinds = {ERROR_NAMES[code]: sum(each[code] for each in counts) for code in counts[0]}
    return {"true objects": total, **kinds}
