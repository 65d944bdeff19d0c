"""Small parts that many scenes share: spots within a region, nuclei of cells, debris, shading."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from procedural.canvas import Canvas
from procedural.noise import Field, Mask, log_uniform, natural, smooth
from procedural.shapes import Objects, borders, box_around, ellipse, to_border

Box = tuple[slice, slice]


def spots(
    canvas: Canvas, room: Mask, count: int, radius: float, spread: float = 0.3, aspect: float = 1.0
) -> Iterator[tuple[Box, Field, Field, Field]]:
    """Scatter ellipses whose centres lie within a mask.

    Parameters
    ----------
    canvas
        Gives the shape and the random numbers.
    room
        Shape (Y, X): where centres may lie.
    count
        How many.
    radius
        Typical one, in pixels.
    spread
        Relative scatter of radii.
    aspect
        Largest ratio of length to width.

    Yields
    ------
    box, distance, along, across
        Part of the plane; distance from the centre, 1 at the outline; the two axes.
    """
    rng = canvas.rng
    places = np.flatnonzero(room)
    if not len(places):
        return
    for place in rng.choice(places, count):
        row, column = divmod(int(place), canvas.shape[1])
        size = radius * float(np.exp(rng.normal(0, spread)))
        ratio = rng.uniform(1, max(aspect, 1))
        box = box_around(row, column, size * np.sqrt(ratio) + 1, canvas.shape)
        if box is not None:
            y, x = row + rng.uniform(-0.5, 0.5), column + rng.uniform(-0.5, 0.5)
            yield box, *ellipse(box, y, x, size, ratio, rng.uniform(0, np.pi))


def middles(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Row, column and radius of a disc of the same area, for labels 1 to n; shape (n, 3)."""
    flat = labels.ravel()
    area = np.bincount(flat)
    rows, columns = np.indices(labels.shape, dtype=np.float32)
    safe = np.maximum(area, 1)
    found = [np.bincount(flat, part.ravel()) / safe for part in (rows, columns)]
    return np.column_stack([*found, np.sqrt(area / np.pi)])[1:]


def nuclei_of(canvas: Canvas, cells: Objects, share: float, size: float) -> NDArray[np.int32]:
    """Place a nucleus in most cells; int32, numbered as its cell, 0 where none is.

    Parameters
    ----------
    canvas
        Gives the random numbers.
    cells
        The cells.
    share
        How many cells have one.
    size
        Radius of a nucleus over that of its cell, on average.
    """
    rng = canvas.rng
    nuclei = np.zeros(canvas.shape, np.int32)
    wobble = 1 + 0.12 * smooth(canvas.shape, max(3.0, cells.radius * size), rng)
    for number, (row, column, radius) in enumerate(middles(cells.labels), start=1):
        if rng.random() > share or radius < 3:
            continue
        own = radius * size * rng.uniform(0.8, 1.2)
        aspect = rng.uniform(1, 1.7)
        row, column = np.array([row, column]) + rng.normal(0, 0.15 * radius, 2)
        box = box_around(row, column, own * np.sqrt(aspect) * 1.3 + 1, canvas.shape)
        if box is None:
            continue
        distance, _, _ = ellipse(box, row, column, own, aspect, rng.uniform(0, np.pi))
        within = (distance < wobble[box]) & (cells.labels[box] == number)
        nuclei[box][within] = number
    return nuclei


def edges(labels: NDArray[np.int32], width: float) -> Field:
    """1 at the borders between labels, falling to 0 within about `width` pixels."""
    return np.asarray(np.exp(-((to_border(labels) / width) ** 2)), np.float32)


def shading(canvas: Canvas, objects: Objects) -> Field:
    """Brightness of objects: uneven levels, domes, rims, gradients, texture; 0 outside."""
    rng = canvas.rng
    light = objects.random(rng, rng.uniform(0, 0.5))
    dome = rng.choice([0.0, rng.uniform(0, 1)])
    profile = np.sqrt(np.clip(objects.depth * (2 - objects.depth), 0, 1))
    light *= 1 - dome + dome * profile
    if rng.random() < 0.35:  # rims, brighter or darker
        width = max(1.0, objects.radius * rng.uniform(0.03, 0.2))
        light *= 1 + rng.uniform(-0.6, 1.2) * edges(objects.labels, width)
    if rng.random() < 0.8:
        scale = max(1.5, objects.radius * log_uniform(rng, 0.08, 0.8))
        light *= 1 + rng.uniform(0.02, 0.35) * natural(canvas.shape, rng, scale)
    if rng.random() < 0.3:  # brighter on one side
        light *= 1 + 0.3 * smooth(canvas.shape, objects.radius * 1.5, rng)
    return np.clip(light, 0.05, 4) * objects.inside


def debris(canvas: Canvas, level: float, radius: float) -> None:
    """Lay specks, rings, scratches and haze over the ground that look like objects but are none."""
    rng = canvas.rng
    ground = canvas.regions == 1
    count = int(rng.integers(1, 12))
    size = float(np.clip(radius * rng.uniform(0.1, 0.6), 1.2, 9))
    ragged = smooth(canvas.shape, max(1.5, size / 2), rng)
    hollow = rng.random() < 0.3
    for box, distance, _, _ in spots(canvas, ground, count, size, 0.5, 3):
        near = distance + np.float32(0.25) * ragged[box]
        drawn = (near < 1) & ground[box]
        if hollow:
            drawn &= near > 0.7
        canvas.light[box][drawn] = level * rng.uniform(0.6, 1.3)
        canvas.mark("debris", drawn, box)
    if rng.random() < 0.15:  # a scratch or a hair
        line = np.abs(_across(canvas)) < rng.uniform(0.4, 2)
        canvas.light[line & ground] = level * rng.uniform(0.5, 1.5)
        canvas.mark("debris", line & ground)


def _across(canvas: Canvas) -> Field:
    """Distance from a slightly bent line through the picture."""
    rng, (rows, columns) = canvas.rng, canvas.shape
    angle = rng.uniform(0, np.pi)
    y = np.arange(rows, dtype=np.float32)[:, None] - np.float32(rng.uniform(0, rows))
    x = np.arange(columns, dtype=np.float32)[None] - np.float32(rng.uniform(0, columns))
    bent = rng.uniform(0, 12) * smooth(canvas.shape, 80, rng)
    return np.asarray(y * np.cos(angle) - x * np.sin(angle) + bent, np.float32)


def ghosts(canvas: Canvas, objects: Objects) -> Field:
    """Light of objects above or below the focus: blurred copies elsewhere; 0 where none is."""
    rng = canvas.rng
    moved = np.roll(objects.inside, rng.integers(20, canvas.shape[0] - 20, 2), axis=(0, 1))
    blurred = ndimage.uniform_filter(moved.astype(np.float32), int(objects.radius * 0.6) + 3)
    soft = ndimage.gaussian_filter(blurred, objects.radius * 0.25 + 1, truncate=2.5)
    return np.asarray(rng.uniform(0.1, 0.5) * soft, np.float32)


def seams(canvas: Canvas, objects: Objects) -> Mask:
    """Pixels where two objects touch."""
    touching = borders(objects.labels) & objects.inside
    touching[:-1] &= objects.inside[1:]
    touching[:, :-1] &= objects.inside[:, 1:]
    return touching
