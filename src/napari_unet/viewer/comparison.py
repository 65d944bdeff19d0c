"""Two layers to be compared: which ones can be, why others cannot, and the job that does it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray

from napari_unet.engine.evaluate import evaluate
from napari_unet.engine.evaluation_pairs import (
    EvaluationPair,
    as_prediction,
    looks_grey,
    same_classes,
)
from napari_unet.engine.events import JobEvent, Noticed
from napari_unet.engine.score_table import EvaluationKind
from napari_unet.ops.errors import InputError
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.layers import result_role
from napari_unet.viewer.session_layers import unwrap


class ComparedPicker(LayerPicker):
    """Chooses a layer with labels, or with probabilities or labels that were opened as an image.

    Parameters
    ----------
    viewer, tooltip, current
        As for `LayerPicker`.
    results
        Whether the session's results are offered too.
    """

    def __init__(
        self, viewer: Any, tooltip: str, current: Callable[[], Any], *, results: bool
    ) -> None:
        self._results = results
        super().__init__(viewer, Layer, tooltip, current, none="(none)")

    def pick_other(self, taken: Any) -> None:
        """Choose the first layer of labels that is not taken, objects before all; or none."""
        self.combo.reset_choices()
        for layer in self._offered():
            if isinstance(layer, Labels) and layer is not taken:
                self.combo.value = layer
                break

    def _offered(self, _widget: Any = None) -> list[Layer]:
        viewer = self._viewer()
        layers = [] if viewer is None else [each for each in viewer.layers if self._fits(each)]
        return sorted(layers, key=_rank)

    def _fits(self, layer: Layer) -> bool:
        role = result_role(layer)
        if isinstance(layer, Labels):
            return role is None or (self._results and role in ("instances", "classes"))
        if not isinstance(layer, Image) or layer.rgb:
            return False
        return role is None or (self._results and role.startswith("probability"))


def _rank(layer: Layer) -> int:
    """Put what is probably meant before what could be."""
    if isinstance(layer, Labels):
        return 0 if result_role(layer) == "instances" else 1
    return 2 if layer.dtype.kind in "bui" else 3


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A copy of two layers, and how to compare them.

    Attributes
    ----------
    name, truth_name
        Of the layers.
    prediction, truth
        Shape (Y, X), or (Z, Y, X) for a stack. A prediction of probabilities may have an axis more
        than the truth, the classes, background first.
    kind, threshold
        As for `evaluate`.
    counts_from_one
        Whether 1 is background in the prediction, as the Predict dock shows classes.
    strokes
        Whether the truth holds strokes: 0 is unknown, 1 background.
    """

    name: str
    truth_name: str
    prediction: NDArray[Any]
    truth: NDArray[Any]
    kind: EvaluationKind
    threshold: float | None = None
    counts_from_one: bool = False
    strokes: bool = False


def comparison_of(
    prediction: Any, truth: Any, kind: EvaluationKind, threshold: float | None, annotations: Any
) -> Comparison:
    """Copy two layers; `annotations` is the layer on which strokes are painted, or None."""
    from_one = result_role(prediction) == "classes" or prediction.name.endswith("_classes")
    return Comparison(
        prediction.name,
        truth.name,
        np.array(prediction.data),
        np.array(truth.data),
        kind,
        threshold,
        from_one,
        unwrap(truth) is annotations,
    )


def why_not_comparable(prediction: Any, truth: Any, kind: str, annotations: Any) -> str | None:
    """Say why two layers cannot be compared, with the cure; None if they can."""
    if prediction is None or truth is None or prediction is truth:
        return "Two layers are needed: a prediction and the truth. Open or paint one more."
    for layer in (prediction, truth):
        if layer.multiscale:
            return f"'{layer.name}' is a pyramid; add one of its levels as a layer of its own."
    real = prediction.dtype.kind == "f"
    if truth.dtype.kind == "f":
        return (
            f"'{truth.name}' holds real numbers, but the truth must be labels; "
            "right-click it and choose Convert to Labels."
        )
    if truth.ndim not in (2, 3):
        return f"'{truth.name}' has {truth.ndim} axes; 2 are needed, or 3 for a stack."
    one, other = tuple(prediction.data.shape), tuple(truth.data.shape)
    has_classes = real and truth.ndim == 2 and len(one) == 3 and one[1:] == other
    if one != other and not has_classes:
        return (
            f"'{prediction.name}' has shape {one}, '{truth.name}' {other}; they must be the same: "
            "crop or predict again."
        )
    if real and (kind == "instances" or (kind == "semantic" and not has_classes)):
        wanted = "objects" if kind == "instances" else "classes"
        return (
            f"'{prediction.name}' holds probabilities; choose a layer of {wanted}, "
            "or 'the inside of cells'."
        )
    if unwrap(truth) is annotations and kind != "semantic":
        return f"'{truth.name}' holds strokes; say that labels are classes, or choose another one."
    return None


def why_no_threshold(prediction: Any, kind: str) -> str | None:
    """Say why a prediction has no threshold to choose; None if it has."""
    if kind == "boundary" and prediction is not None and prediction.dtype.kind == "f":
        return None
    return "Only probabilities, compared as 'the inside of cells', have a threshold."


def kind_of(prediction: Any) -> EvaluationKind | None:
    """Return what a layer must hold, where it tells by itself."""
    if prediction is None:
        return None
    kinds: dict[str | None, EvaluationKind] = {"instances": "instances", "classes": "semantic"}
    is_map = prediction.dtype.kind == "f"
    return "boundary" if is_map else kinds.get(result_role(prediction))


def comparison_job(comparison: Comparison, stop: threading.Event) -> Iterator[JobEvent]:
    """Compare; a plane of a stack is an image of its own.

    Raises
    ------
    InputError
        If the layers cannot be compared after all.
    """
    pairs, from_one, notes = [], comparison.counts_from_one, []
    for name, page, truth in _planes(comparison):
        if looks_grey(truth):
            raise InputError("the truth holds grey values, not labels; choose another layer")
        seen = as_prediction(page, comparison.name, comparison.kind)
        from_one |= seen.counts_from_one
        notes += [seen.note] if seen.note and seen.note not in notes else []
        pairs.append(EvaluationPair(name, seen.data, truth))
    if comparison.strokes:
        pairs = [replace(pair, valid=pair.truth > 0) for pair in pairs]
    elif comparison.kind == "semantic":
        pairs, moved = same_classes(pairs, from_one or None)
        notes += [moved] if moved else []
    yield from map(Noticed, notes)
    yield from evaluate(pairs, comparison.kind, threshold=comparison.threshold, stop=stop)


def _planes(comparison: Comparison) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    prediction, truth = comparison.prediction, comparison.truth
    if truth.ndim == 2:
        if prediction.ndim == 3:  # classes first, as NAME_probabilities.tif has them
            prediction = np.moveaxis(prediction, 0, -1)
        return [(comparison.name, prediction, truth)]
    return [
        (f"plane {number}", *planes)
        for number, planes in enumerate(zip(prediction, truth, strict=True))
    ]
