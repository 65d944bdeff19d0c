"""Questions and strokes: what a user might ask of a drawn image, and how little they would paint.

An episode is one image, one question about it (which regions are the class, which are not) and a
few strokes of each answer. A starter model is good if a small classifier that sees its features
under the strokes gets the rest of the image right. So that is what it is trained for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# A class that covers less of the patch could not be painted on.
_LEAST_SHARE = 0.005
_TRIES = 12


@dataclass(frozen=True, slots=True)
class Question:
    """Which pixels belong to which class.

    Attributes
    ----------
    labels
        Shape (Y, X), uint8, 1 to `classes`; 1 is the background.
    classes
        How many there are, 2 or 3.
    """

    labels: NDArray[np.uint8]
    classes: int


def outline(instances: NDArray[np.int32], width: int) -> NDArray[np.bool_]:
    """Return the pixels within `width` of where one object ends, inside objects and out."""
    lower = ndimage.minimum_filter(instances, 2 * width + 1, mode="nearest")
    upper = ndimage.maximum_filter(instances, 2 * width + 1, mode="nearest")
    different: NDArray[np.bool_] = lower != upper
    return different


def ask(
    regions: NDArray[np.uint8], instances: NDArray[np.int32], rng: np.random.Generator
) -> Question | None:
    """Ask something about an image whose regions are known.

    Parameters
    ----------
    regions
        Shape (Y, X), 1 to K.
    instances
        Shape (Y, X), 0 where no object is.
    rng
        Decides what is asked.

    Returns
    -------
    Question or None
        None if the image has nothing to be told apart.
    """
    for _ in range(_TRIES):
        labels = _grouped(regions, instances, rng)
        classes = int(labels.max())
        shares = np.bincount(labels.ravel(), minlength=classes + 1)[1:] / labels.size
        if classes >= 2 and shares.min() >= _LEAST_SHARE:
            return Question(labels, classes)
    return None


def _grouped(
    regions: NDArray[np.uint8], instances: NDArray[np.int32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Group the regions into two or three classes, or ask for objects and their outlines."""
    kind = rng.random()
    objects = instances > 0
    if kind < 0.35 and objects.any():
        border = outline(instances, int(rng.integers(1, 3)))
        if kind < 0.12:  # objects, apart where they touch
            return (1 + (objects & ~border)).astype(np.uint8)
        if kind < 0.24:  # outlines
            return (1 + border).astype(np.uint8)
        if kind < 0.30:  # objects and outlines
            return np.where(border, 3, 1 + objects).astype(np.uint8)
        return (1 + objects).astype(np.uint8)
    present = np.unique(regions)
    if len(present) < 2:
        return np.ones(regions.shape, np.uint8)
    classes = 3 if len(present) > 2 and rng.random() < 0.2 else 2
    table = np.ones(256, np.uint8)
    if classes == 2 and rng.random() < 0.6:  # one region against the rest
        table[rng.choice(present)] = 2
    else:
        shuffled = rng.permutation(present)
        cuts = np.sort(rng.choice(np.arange(1, len(present)), classes - 1, replace=False))
        for number, part in enumerate(np.split(shuffled, cuts), start=1):
            table[part] = number
    return table[regions]


def scribble(
    question: Question, rng: np.random.Generator, strokes: int, length: tuple[int, int] = (15, 60)
) -> NDArray[np.uint8]:
    """Paint a few strokes of each class.

    Parameters
    ----------
    question
        What is painted.
    rng
        Decides where.
    strokes
        How many a class.
    length
        Shortest and longest, in pixels.

    Returns
    -------
    ndarray of uint8, shape (Y, X)
        0 is not annotated. Whatever is painted is right: strokes end where the class ends.
    """
    labels = question.labels
    painted = np.zeros_like(labels)
    rows, columns = labels.shape
    for label in range(1, question.classes + 1):
        places = np.flatnonzero(labels == label)
        for place in rng.choice(places, strokes):
            way = _walk(divmod(int(place), columns), int(rng.integers(*length)), rng)
            way = way[(way >= 0).all(1) & (way[:, 0] < rows) & (way[:, 1] < columns)]
            here = labels[way[:, 0], way[:, 1]] == label
            way = way[: len(here) if here.all() else int(np.argmin(here))]
            brush = int(rng.integers(0, 3))
            for row in range(-brush, brush + 1):
                for column in range(-brush, brush + 1):
                    y = np.clip(way[:, 0] + row, 0, rows - 1)
                    x = np.clip(way[:, 1] + column, 0, columns - 1)
                    right = labels[y, x] == label
                    painted[y[right], x[right]] = label
    return painted


def _walk(start: tuple[int, int], length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Way of a brush that turns a little at every pixel; shape (length, 2)."""
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.2, length))
    steps = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    way: NDArray[np.int64] = np.rint(np.asarray(start) + np.cumsum(steps, axis=0)).astype(np.int64)
    return np.concatenate([[start], way])
