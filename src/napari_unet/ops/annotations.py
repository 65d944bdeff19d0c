"""Sparse annotations: what the user painted.

An annotation image holds 0 where nothing is annotated, 1 for background, and 2 and up for classes.
Label k belongs to probability channel k - 1. A stroke is an 8-connected region of one label.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image, connected_regions
from napari_unet.ops.tiling import Box

NOT_ANNOTATED = 0
BACKGROUND = 1

#: Pixels. A thinner brush could pass between pixel centres, which are up to sqrt(0.5) away.
THINNEST_BRUSH = 0.71


def check_annotations(
    labels: ArrayLike, shape: tuple[int, ...], classes: int, *, alone: bool = True
) -> NDArray[np.uint8]:
    """Check painted labels before anything learns from them.

    Parameters
    ----------
    labels
        Shape (Y, X) or (Z, Y, X), integers or whole floats: 0 not annotated, 1 background, 2 to
        `classes`.
    shape
        Rows and columns of the image, or planes, rows and columns of the stack.
    classes
        Number of classes of the network, background included.
    alone
        Whether nothing else is learned from, so that two classes must be there. Otherwise none
        need be.

    Returns
    -------
    ndarray of uint8, shape of the labels
        The labels; never a view of the input.

    Raises
    ------
    InputError
        If the shape differs, the labels are boolean, fractional, negative or above `classes`, or
        strokes of fewer than two labels are there.
    """
    array = np.asarray(labels)
    if array.dtype.kind == "b":
        raise InputError(
            "the annotation is a mask of True and False; "
            "use integers: 0 not annotated, 1 background, 2 and up for classes"
        )
    if array.shape != tuple(shape):
        raise InputError(
            f"the annotation has shape {array.shape}, the image {tuple(shape)}; "
            "draw on a labels layer of the image's own rows and columns"
        )
    checked = as_label_image(array, "annotation", len(shape))
    if checked.max() > classes:
        raise InputError(
            f"the annotation has label {checked.max()}, the network {classes} classes; "
            f"use labels 1 to {classes}, or make a network with more classes"
        )
    if not alone:
        return np.array(checked, np.uint8)
    present = [label for label in range(1, classes + 1) if (checked == label).any()]
    if not present:
        raise InputError(
            "nothing is annotated; paint strokes with label 1 (background) and label 2"
        )
    if len(present) == 1:
        other = 2 if present[0] == BACKGROUND else BACKGROUND
        raise InputError(
            f"only label {present[0]} is painted; paint a stroke of label {other} too, "
            "there is nothing to tell apart yet"
        )
    return np.array(checked, np.uint8)


def annotated_box(labels: NDArray[Any], margin: int = 0) -> Box | None:
    """Find the smallest box around all annotated pixels.

    Parameters
    ----------
    labels
        Shape (Y, X) or (Z, Y, X); everything but 0 is annotated.
    margin
        Pixels added at each side, as far as the image goes.

    Returns
    -------
    Box or None
        A slice for each axis; None if nothing is annotated.
    """
    annotated = np.asarray(labels) != NOT_ANNOTATED
    axes = range(annotated.ndim)
    spans = []
    for axis, length in enumerate(annotated.shape):
        others = tuple(other for other in axes if other != axis)
        indices = np.flatnonzero(annotated.any(axis=others))
        if not len(indices):
            return None
        start, stop = int(indices[0]), int(indices[-1]) + 1
        spans.append(slice(max(0, start - margin), min(length, stop + margin)))
    return tuple(spans)


def stroke_boxes(mask: NDArray[Any]) -> list[Box]:
    """Find the smallest box around each stroke.

    Parameters
    ----------
    mask
        Shape (Y, X), boolean or labels.

    Returns
    -------
    list of Box
        One for each 8-connected region of one value, in reading order of the first pixels.
    """
    regions, _ = connected_regions(mask)
    return list(ndimage.find_objects(regions))


@dataclass(frozen=True, slots=True)
class Stroke:
    """One stroke of a round brush.

    Attributes
    ----------
    label
        1 for background, 2 and up for classes; 0 erases.
    radius
        Of the brush, in pixels; it is drawn no thinner than `THINNEST_BRUSH`, so nowhere broken.
    points
        The way of the brush, one point at least: (row, column) in pixels; pixel centres are whole
        numbers.
    """

    label: int
    radius: float
    points: tuple[tuple[float, float], ...]


def draw_strokes(strokes: Iterable[Stroke], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw strokes as a round brush would.

    Parameters
    ----------
    strokes
        In the order of drawing: later ones paint over earlier ones.
    shape
        Rows and columns of the image; what lies outside is cut off.

    Returns
    -------
    ndarray of uint8, shape (Y, X)
        0 where no stroke is: pixels whose centre is within the radius of the way are painted.
    """
    canvas = np.zeros(shape, np.uint8)
    for stroke in strokes:
        radius = max(stroke.radius, THINNEST_BRUSH)
        for start, end in pairwise((stroke.points[0], *stroke.points)):
            _draw_segment(canvas, stroke.label, radius, start, end)
    return canvas


def _draw_segment(
    canvas: NDArray[np.uint8],
    label: int,
    radius: float,
    start: tuple[float, float],
    end: tuple[float, float],
) -> None:
    box = tuple(
        slice(
            max(0, int(np.ceil(min(a, b) - radius))),
            max(0, min(length, int(np.floor(max(a, b) + radius)) + 1)),
        )
        for a, b, length in zip(start, end, canvas.shape, strict=True)
    )
    rows, columns = np.mgrid[box]
    along = (end[0] - start[0], end[1] - start[1])
    length_squared = along[0] ** 2 + along[1] ** 2
    position = (rows - start[0]) * along[0] + (columns - start[1]) * along[1]
    t = np.clip(position / length_squared, 0, 1) if length_squared else np.zeros(rows.shape)
    distance = np.hypot(rows - start[0] - t * along[0], columns - start[1] - t * along[1])
    canvas[box][distance <= radius] = label


def strokes_to_json(image: str, strokes: Iterable[Stroke]) -> str:
    """Write strokes as JSON, one stroke a line.

    Parameters
    ----------
    image
        Name of the image that they belong to.
    strokes
        In the order of drawing.

    Returns
    -------
    str
        ``{"image": ..., "strokes": [{"label": ..., "radius": ..., "points": [[row, column]]}]}``
    """
    lines = [
        json.dumps({"label": s.label, "radius": s.radius, "points": [list(p) for p in s.points]})
        for s in strokes
    ]
    body = ",\n  ".join(lines)
    return f'{{"image": {json.dumps(image)}, "strokes": [\n  {body}\n]}}\n'


def strokes_from_json(text: str) -> tuple[str, list[Stroke]]:
    """Read what `strokes_to_json` wrote.

    Parameters
    ----------
    text
        The JSON text.

    Returns
    -------
    image : str
        Name of the image.
    strokes : list of Stroke
        In the order of drawing.

    Raises
    ------
    InputError
        If it is no JSON, or not of this form.
    """
    try:
        content = json.loads(text)
        strokes = [
            Stroke(
                int(item["label"]),
                float(item["radius"]),
                tuple((float(row), float(column)) for row, column in item["points"]),
            )
            for item in content["strokes"]
        ]
        image = str(content["image"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"this is no stroke set ({type(error).__name__}: {error}); "
            "give one that strokes_to_json wrote"
        ) from error
    for stroke in strokes:
        finite = np.isfinite([stroke.radius, *np.ravel(stroke.points)]).all()
        if not 0 <= stroke.label <= 255 or not stroke.points or not finite or stroke.radius < 0:
            raise InputError(
                "a stroke has no points, a label outside 0 to 255, or numbers that are not finite; "
                "give one that strokes_to_json wrote"
            )
    return image, strokes
