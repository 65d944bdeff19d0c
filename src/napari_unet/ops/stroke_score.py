"""How good an answer is on strokes that were held out, and how sure that is.

Pixels of one stroke resemble each other, so what is drawn at random to see how far a score wanders
is whole strokes (the bootstrap; Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.labels import connected_regions

_DRAWS = 400
# Of 100 scores of other strokes like these, so many are expected to lie within the interval.
_INTERVAL = (5, 95)
# Of fewer strokes of a class, nothing can be told about how strokes differ.
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class StrokeScore:
    """Dice on held-out strokes.

    Attributes
    ----------
    dice
        Mean over the classes that have held-out strokes, 0 to 1.
    per_class
        For labels 1 to the number of classes; None for one without held-out strokes.
    interval
        Within which nine of ten scores on other strokes like these are expected; None if a class
        has fewer than two held-out strokes.
    strokes
        How many of the class that has the fewest, classes without any left out.
    """

    dice: float
    per_class: tuple[float | None, ...]
    interval: tuple[float, float] | None
    strokes: int


def score_strokes(
    predicted: NDArray[np.integer[Any]],
    annotations: NDArray[np.integer[Any]],
    held_out: NDArray[np.bool_],
    classes: int,
    seed: int = 0,
) -> StrokeScore:
    """Compare an answer with the strokes that were held out.

    Parameters
    ----------
    predicted
        Shape (N,), labels 1 to `classes`: the answer for the pixels of ``held_out``, in order.
    annotations
        Shape (Y, X), labels 1 to `classes` where `held_out`.
    held_out
        Shape (Y, X), with at least one pixel.
    classes
        How many classes there are.
    seed
        Of the strokes drawn for the interval.

    Returns
    -------
    StrokeScore
        Dice, 2 |P and T| / (|P| + |T|).
    """
    strokes, count = connected_regions(np.where(held_out, annotations, 0))
    stroke = strokes[held_out] - 1
    label = np.zeros(count, np.int64)
    label[stroke] = annotations[held_out].astype(np.int64) - 1
    # How many pixels of every stroke were said to be of each class.
    said = np.zeros((count, classes))
    np.add.at(said, (stroke, predicted.astype(np.int64) - 1), 1)
    once = _dice(np.ones((1, count)), said, label)[0]
    present = np.unique(label)
    per_class = tuple(float(once[k]) if k in present else None for k in range(classes))
    interval, fewest = None, int(np.bincount(label, minlength=classes)[present].min())
    if fewest >= _FEWEST:
        drawn = _dice(_drawn(label, np.random.default_rng(seed)), said, label)[:, present]
        low, high = np.percentile(drawn.mean(axis=1), _INTERVAL)
        interval = (float(low), float(high))
    return StrokeScore(float(once[present].mean()), per_class, interval, fewest)


def deal_strokes(
    annotations: NDArray[np.integer[Any]], most: int, seed: int = 0
) -> NDArray[np.uint8]:
    """Deal whole strokes out into parts that can be held out one after the other.

    Parameters
    ----------
    annotations
        Shape (Y, X): 0 not annotated, 1 and up the labels.
    most
        How many parts there are at most, 2 to 255.
    seed
        Of the order in which strokes are dealt.

    Returns
    -------
    ndarray of uint8, shape (Y, X)
        0 where nothing is annotated, else the part: 1 to as many as the label with the fewest
        strokes has strokes. So strokes of each label are left whichever part is held out, and a
        single part says that some label has one stroke alone.
    """
    strokes, count = connected_regions(annotations)
    label = np.zeros(count + 1, np.int64)
    label[strokes.ravel()] = annotations.ravel()
    numbers = np.arange(1, count + 1)
    of_each = [numbers[label[1:] == value] for value in np.unique(label[1:])]
    parts = min([most, *(len(members) for members in of_each)])
    rng = np.random.default_rng(seed)
    part = np.zeros(count + 1, np.uint8)
    for members in of_each:
        part[rng.permutation(members)] = np.arange(len(members)) % parts + 1
    return part[strokes]


def _drawn(label: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw strokes of each class with replacement: how often each is there, (draws, strokes)."""
    times = np.zeros((_DRAWS, len(label)))
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        share = np.full(len(members), 1 / len(members))
        times[:, members] = rng.multinomial(len(members), share, size=_DRAWS)
    return times


def _dice(
    times: NDArray[np.float64], said: NDArray[np.float64], label: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Dice of every class, shape (draws, classes), with each stroke there so many times."""
    is_of = label[:, np.newaxis] == np.arange(said.shape[1])
    both = times @ (said * is_of)
    found = times @ said
    true = times @ (said.sum(axis=1, keepdims=True) * is_of)
    dice: NDArray[np.float64] = 2 * both / np.maximum(found + true, 1)
    return dice
