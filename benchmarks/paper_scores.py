"""The scores of a row: the same for our network and for its peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset import LabelledSet
from napari_unet.engine.results import InstanceSettings, find_instances
from napari_unet.ops.metrics import (
    average_precision,
    boundary_segments,
    match_objects,
    panoptic_quality,
    pixel_error,
    pixel_f_error,
    rand_error,
    seg,
    v_info,
    v_rand,
    warping_error,
)

IOU_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_MAP = NDArray[np.float32]
# The challenge took the best threshold of each measure; so do the columns called "best".
_THRESHOLDS = np.round(np.arange(0.1, 0.96, 0.05), 2)

Mask = NDArray[np.bool_]
# Interiors are white; of the V measures more is better, so they are turned round.
BOUNDARY_MEASURES: dict[str, Callable[[Mask, Mask], float]] = {
    "pixel error": pixel_error,
    "pixel F error": pixel_f_error,
    "Rand error": lambda p, t: rand_error(boundary_segments(p), boundary_segments(t)),
    "warping error": warping_error,
    "1 - V_rand": lambda p, t: 1 - _thinned(v_rand, p, t),
    "1 - V_info": lambda p, t: 1 - _thinned(v_info, p, t),
}


def _thinned(measure: Callable[..., Any], prediction: Mask, truth: Mask) -> float:
    """Score the segments with their borders thinned, where the truth has an object."""
    segments = boundary_segments(prediction, thin=True)
    return float(measure(segments, boundary_segments(truth)).score)


def score_boundaries(
    foreground: dict[str, list[_MAP]], validation: LabelledSet, test: LabelledSet
) -> dict[str, Any]:
    """Score maps of the probability to lie within a cell, as the EM challenge does.

    Returns
    -------
    dict
        "mean": every measure at the threshold chosen on the validation images, and at the best
        one on the test images, which is what the challenge reports; "images"; "thresholds".
    """
    mean, thresholds, images = {}, {}, {}
    for name, measure in BOUNDARY_MEASURES.items():
        chosen = _THRESHOLDS[
            np.argmin(_curve(measure, foreground["validation"], validation).mean(axis=0))
        ]
        curve = _curve(measure, foreground["test"], test)
        at_chosen = curve[:, np.flatnonzero(chosen == _THRESHOLDS)[0]]
        best = int(np.argmin(curve.mean(axis=0)))
        mean[name] = float(at_chosen.mean())
        mean[f"{name}, best threshold"] = float(curve[:, best].mean())
        thresholds[name] = [float(chosen), float(_THRESHOLDS[best])]
        images[name] = at_chosen.tolist()
    return {"mean": mean, "thresholds": thresholds, "images": images}


def _curve(
    measure: Callable[[Mask, Mask], float], maps: Sequence[_MAP], labelled: LabelledSet
) -> NDArray[np.float64]:
    """Return the measure of every image at every threshold, (images, thresholds)."""
    return np.array(
        [
            [measure(probability >= threshold, image.labels > 0) for threshold in _THRESHOLDS]
            for probability, image in zip(maps, labelled.images, strict=True)
        ]
    )


def score_objects(
    probabilities: Sequence[_MAP], test: LabelledSet, settings: InstanceSettings
) -> dict[str, Any]:
    """Score objects that are cut out with the given settings.

    Returns
    -------
    dict
        "mean" over the images: AP at every overlap and their mean, PQ, SEG; "in all": AP with the
        counts summed over the set, as StarDist does; "images"; "settings".
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
        "settings": settings.sentence(),
    }
