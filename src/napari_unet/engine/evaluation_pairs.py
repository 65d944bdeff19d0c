"""What can be compared: labels or probabilities, and the truth in the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset.files import checked_labels
from napari_unet.engine.dataset.kind import judge_kind
from napari_unet.engine.dataset.labelled_set import distinct_values
from napari_unet.engine.score_table import EvaluationKind
from napari_unet.ops.errors import InputError

# Probabilities in 32 bits do not sum to 1 exactly.
_TOLERANCE: Final = 1e-3


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

    @property
    def is_map(self) -> bool:
        """Whether the prediction holds probabilities instead of labels."""
        return self.prediction.dtype.kind == "f"


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A prediction as it is compared.

    Attributes
    ----------
    data
        Shape (Y, X): labels, or probabilities of all that is not background.
    counts_from_one
        Whether these are classes of which 1 is known to be background.
    note
        What was done to it that the user should know; empty if nothing.
    """

    data: NDArray[Any]
    counts_from_one: bool = False
    note: str = ""


def as_prediction(data: NDArray[Any], name: str, kind: EvaluationKind) -> Prediction:
    """Check a prediction and bring it into the form in which it is compared.

    Parameters
    ----------
    data
        Shape (Y, X): labels, the probability of the interior, or its grey values of 8 or 16 bits.
        Shape (Y, X, C): probabilities of classes, background first; or labels stored as RGB.
    name
        For messages.
    kind
        What will be compared.

    Raises
    ------
    InputError
        If it is neither, or probabilities do not fit the kind.
    """
    if data.dtype.kind != "f":
        labels = checked_labels(data, name)
        if looks_grey(labels):
            if kind != "boundary":
                raise InputError(
                    f"{name} holds grey values, not labels; give labels, or choose the kind "
                    "boundary"
                )
            top = np.iinfo(labels.dtype).max
            note = f"grey values from 0 to {top} were taken as probabilities"
            return Prediction((labels / np.float32(top)).astype(np.float32), note=note)
        return Prediction(labels)
    if not np.isfinite(data).all():
        raise InputError(f"{name} has values that are no numbers; predict it again")
    if data.ndim == 2 and (data == np.round(data)).all():  # labels stored as real numbers
        return Prediction(checked_labels(data, name))
    if data.min() < -_TOLERANCE or data.max() > 1 + _TOLERANCE:
        raise InputError(
            f"{name} holds values from {data.min():.4g} to {data.max():.4g}, neither labels nor "
            "probabilities; give whole numbers, or numbers from 0 to 1"
        )
    return _of_probabilities(data, name, kind)


def _of_probabilities(data: NDArray[Any], name: str, kind: EvaluationKind) -> Prediction:
    if kind == "instances":
        raise InputError(
            f"{name} holds probabilities, not objects; give NAME_instances.tif, or choose the kind "
            "boundary"
        )
    if kind == "boundary":
        return Prediction(data if data.ndim == 2 else 1 - data[..., 0])
    if data.ndim == 2:
        raise InputError(
            f"{name} holds one probability a pixel, not classes; give NAME_classes.tif, or choose "
            "the kind boundary"
        )
    note = "of the probabilities the most probable class was taken"
    return Prediction(data.argmax(axis=-1) + 1, counts_from_one=True, note=note)


def merge_channels(pages: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Make one (Y, X, C) map of pages that are the probabilities of an image's classes.

    A file of shape (classes, Y, X) that does not name its axes is read as so many pages.

    Returns
    -------
    list of ndarray
        One map if the pages are real, of one size, and sum to 1 everywhere; otherwise the pages.
    """
    shapes = {page.shape for page in pages}
    if len(pages) < 2 or len(shapes) > 1 or any(page.dtype.kind != "f" for page in pages):
        return list(pages)
    stack = np.stack(pages, axis=-1)
    is_map = stack.ndim == 3 and np.allclose(stack.sum(axis=-1), 1, atol=_TOLERANCE)
    return [stack] if is_map else list(pages)


def same_classes(
    pairs: Sequence[EvaluationPair], counts_from_one: bool | None = None
) -> tuple[list[EvaluationPair], str]:
    """Give the classes of the predictions the values that they have in the truth.

    Parameters
    ----------
    pairs
        Predictions and truths with classes.
    counts_from_one
        True: 1 is background in the predictions, as `napari-unet predict` writes them; then class n
        is the n-th smallest value of the truth, or n - 1 where the truth counts from 0 and has not
        all classes. False: predictions have the values of the truth. None: as False if all their
        values are in the truth or 0 is among them, otherwise as True.

    Returns
    -------
    pairs, note
        The pairs, and a sentence about what was moved; empty if nothing was.

    Raises
    ------
    InputError
        If the predictions count from 1 and have classes that the truth cannot have.
    """
    true = sorted(frozenset[int]().union(*(distinct_values(pair.truth) for pair in pairs)))
    found = frozenset[int]().union(*(distinct_values(pair.prediction) for pair in pairs))
    if counts_from_one is None:
        counts_from_one = not found <= set(true) and 0 not in found and max(found) <= len(true)
    if not counts_from_one or 0 not in true:
        return list(pairs), ""
    highest = max(found)
    if 0 in found:
        raise InputError("the predictions have label 0, so that 1 is not their background")
    if highest <= len(true):
        values = true
    elif max(true) < highest:  # classes 0, 1, 2, ..., of which the truth has not all
        values = list(range(highest))
    else:
        listed = ", ".join(map(str, true[:6]))
        raise InputError(
            f"the predictions have the classes 1 to {highest}, the truth only the values {listed}; "
            "give labels with the same classes"
        )
    table = np.array([0, *values])
    moved = [replace(pair, prediction=table[pair.prediction]) for pair in pairs]
    shown = ", ".join(f"{n} is {value}" for n, value in enumerate(values[:highest], start=1))
    return moved, f"background is 1 in the prediction, so that there {shown} of the truth"


def looks_grey(labels: NDArray[Any]) -> bool:
    """Say whether these are grey values of 8 or 16 bits rather than numbers of objects or classes.

    Parameters
    ----------
    labels
        Shape (Y, X), integers that are not negative; see `judge_kind`.
    """
    if labels.dtype not in (np.uint8, np.uint16) or len(distinct_values(labels)) <= 2:
        return False
    try:
        judge_kind([labels], [distinct_values(labels)])
    except InputError:
        return True
    return False
