"""Drawn images whose truth is known exactly, and strokes as a user might paint them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.ops.annotations import THINNEST_BRUSH, Stroke
from napari_unet.ops.errors import InputError

# Share of the image that cells would cover if they did not press against each other.
_CELL_COVER = 0.62
# Cells whose centres are nearer than this share of the sum of their radii are not placed.
_CLOSEST = 0.62
# Tries to find room for one cell, or for one stroke.
_TRIES = 40


def touching_cells(
    shape: tuple[int, int] = (512, 512), cells: int = 60, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draw a fluorescence image of adherent cells in clusters, and its truth.

    Cells press against each other without a gap; what tells them apart is a thin darker seam. The
    image has what a microscope adds: uneven brightness of cells, texture, darker nuclei, bright
    granules, out-of-focus haze, uneven illumination, a point spread function, photon and camera
    noise.

    Parameters
    ----------
    shape
        Rows and columns.
    cells
        How many to draw; fewer where there is no room. Their size follows from the shape.
    seed
        The same seed gives the same image.

    Returns
    -------
    image : ndarray of uint8, shape (Y, X)
        Grey values.
    instances : ndarray of int32, shape (Y, X)
        0 is background, cells are 1, 2, ... without gaps; each is one 4-connected region.

    Raises
    ------
    InputError
        If the shape is empty or the number of cells is negative.
    """
    if len(shape) != 2 or min(shape) < 1 or cells < 0:
        raise InputError(
            f"cannot draw {cells} cells on shape {shape}; choose rows and columns of 1 or more"
        )
    rng = np.random.default_rng(seed)
    radius = np.sqrt(_CELL_COVER * shape[0] * shape[1] / (max(cells, 1) * np.pi))
    instances = _grow_cells(_place_cells(shape, cells, radius, rng), shape, radius, rng)
    light = _fluorescence(instances, radius, rng)
    return _photograph(light, radius, rng), instances


def _place_cells(
    shape: tuple[int, int], cells: int, radius: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Rows of (row, column, radius), in clusters: most cells settle next to an earlier one."""
    placed = np.empty((0, 3))
    for _ in range(cells):
        size = radius * rng.uniform(0.75, 1.3)
        for _ in range(_TRIES):
            if len(placed) and rng.random() < 0.8:
                row, column, other = placed[rng.integers(len(placed))]
                angle = rng.uniform(0, 2 * np.pi)
                apart = (other + size) * rng.uniform(_CLOSEST, 0.85)
                row, column = row + apart * np.sin(angle), column + apart * np.cos(angle)
            else:
                row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
            inside = 0 <= row < shape[0] and 0 <= column < shape[1]
            gaps = np.hypot(placed[:, 0] - row, placed[:, 1] - column)
            if inside and (gaps >= _CLOSEST * (placed[:, 2] + size)).all():
                placed = np.vstack([placed, [row, column, size]])
                break
    return placed


def _grow_cells(
    placed: NDArray[np.float64], shape: tuple[int, int], radius: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Irregular ellipses; where they would overlap, each pixel goes to the relatively nearest."""
    # One smooth displacement of the plane makes all outlines irregular and keeps them matching.
    wobble = [
        _smooth_noise(shape, radius / 2, rng) * radius * 0.16
        + _smooth_noise(shape, radius / 6, rng) * radius * 0.04
        for _ in range(2)
    ]
    nearest = np.ones(shape)
    owner = np.zeros(shape, np.int32)
    for number, (row, column, size) in enumerate(placed, start=1):
        reach = 2 * size
        box = (
            slice(max(0, int(row - reach)), min(shape[0], int(row + reach) + 1)),
            slice(max(0, int(column - reach)), min(shape[1], int(column + reach) + 1)),
        )
        rows, columns = np.mgrid[box]
        y, x = rows + wobble[0][box] - row, columns + wobble[1][box] - column
        angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.8, 1.25)
        along = (y * np.sin(angle) + x * np.cos(angle)) / stretch
        across = (y * np.cos(angle) - x * np.sin(angle)) * stretch
        relative = np.hypot(along, across) / size
        wins = relative < nearest[box]
        owner[box][wins] = number
        nearest[box][wins] = relative[wins]
    return _one_piece_each(owner, smallest=0.15 * np.pi * radius**2)


def _one_piece_each(owner: NDArray[np.int32], smallest: float) -> NDArray[np.int32]:
    """Keep the largest 4-connected piece of each cell, drop slivers, number without gaps."""
    result = np.zeros_like(owner)
    count = 0
    for number, box in enumerate(ndimage.find_objects(owner), start=1):
        if box is None:
            continue
        pieces, _ = ndimage.label(owner[box] == number)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        if sizes.max() >= max(1.0, smallest):
            count += 1
            result[box][pieces == sizes.argmax()] = count
    return result


def _fluorescence(
    instances: NDArray[np.int32], radius: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Light that the cells send out, about 0 to 1, before any microscope."""
    shape, count = instances.shape, int(instances.max())
    cell = instances > 0
    # Zero on the outline of each cell, also where two cells meet.
    lower = ndimage.minimum_filter(instances, 3, mode="nearest")
    upper = ndimage.maximum_filter(instances, 3, mode="nearest")
    inner = cell & (lower == upper)
    depth = ndimage.distance_transform_edt(np.pad(inner, 1, mode="edge"))[1:-1, 1:-1] / radius
    thickness = 0.28 + 0.72 * (1 - np.exp(-depth / 0.22))
    brightness = np.append(0, rng.lognormal(-0.75, 0.28, count))
    texture = 1 + 0.11 * _smooth_noise(shape, radius / 12, rng)
    texture += 0.10 * _smooth_noise(shape, radius / 4, rng)
    light = brightness[instances] * thickness * texture * (1 - 0.45 * _nuclei(instances, rng))
    specks = (rng.random(shape) < 10 * count / shape[0] / shape[1]) & (depth > 0.12)
    granules = ndimage.gaussian_filter(specks * rng.gamma(2, 1, shape), radius / 26)
    light += cell * granules * 1.4 * (radius / 26) ** 2
    return np.asarray(light * cell)


def _nuclei(instances: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float64]:
    """1 inside an ellipse near the middle of each cell, with a soft edge; 0 elsewhere."""
    nuclei = np.zeros(instances.shape)
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        mask = instances[box] == number
        rows, columns = np.nonzero(mask)
        size = np.sqrt(len(rows) / np.pi) * rng.uniform(0.36, 0.46)
        row = rows.mean() + rng.normal(0, 0.2) * size
        column = columns.mean() + rng.normal(0, 0.2) * size
        angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.8, 1.25)
        y, x = np.indices(mask.shape, dtype=float)
        y, x = y - row, x - column
        along = (y * np.sin(angle) + x * np.cos(angle)) / stretch
        across = (y * np.cos(angle) - x * np.sin(angle)) * stretch
        edge = (size - np.hypot(along, across)) / (0.12 * size + 0.3)
        nuclei[box][mask] = (1 / (1 + np.exp(-np.clip(4 * edge, -30, 30))))[mask]
    return nuclei


def _photograph(
    light: NDArray[np.float64], radius: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Add what the microscope and its camera make of the light."""
    shape = light.shape
    blurred = ndimage.gaussian_filter(light, max(0.7, radius / 22))  # point spread function
    haze = ndimage.gaussian_filter(light, radius)  # light from out of focus
    background = 0.07 + 0.015 * _smooth_noise(shape, max(shape) / 6, rng)
    y, x = (np.linspace(-1, 1, length) for length in shape)
    off_row, off_column = rng.uniform(-0.3, 0.3, 2)
    fall_off = ((y - off_row) ** 2)[:, np.newaxis] + ((x - off_column) ** 2)[np.newaxis]
    scene = (0.88 * blurred + 0.18 * haze + background) * (1 - 0.17 * fall_off)
    photons = rng.poisson(np.clip(scene, 0, None) * 260) / 260
    image = 12 + 195 * photons + rng.normal(0, 1.6, shape)
    grey: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return grey


def _smooth_noise(
    shape: tuple[int, ...], sigma: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Gaussian noise, smoothed with standard deviation `sigma`, scaled to about unit variance."""
    # A wide filter works on a coarse grid; the result is the same to the eye and far quicker.
    step = max(1, int(sigma / 3))
    coarse = tuple(-(-length // step) + 8 for length in shape)
    noise = ndimage.gaussian_filter(rng.normal(size=coarse), sigma / step)
    noise *= 2 * np.sqrt(np.pi) * sigma / step
    grids = [np.arange(length) / step + 4 for length in shape]
    if step == 1:
        return np.asarray(noise[4 : 4 + shape[0], 4 : 4 + shape[1]])
    coordinates = np.meshgrid(*grids, indexing="ij")
    return np.asarray(ndimage.map_coordinates(noise, coordinates, order=1))


def random_strokes(
    truth: NDArray[np.integer[Any]],
    per_class: int = 5,
    seed: int = 0,
    length: tuple[float, float] = (20.0, 60.0),
    radius: tuple[float, float] = (0.5, 2.5),
) -> list[Stroke]:
    """Paint strokes as a user might: random walks that stay within regions of one class.

    Parameters
    ----------
    truth
        Shape (Y, X), labels 1 and up; nothing is painted where it is 0.
    per_class
        Strokes of each label; fewer where there is no room. Strokes do not touch.
    seed
        The same seed gives the same strokes.
    length
        Shortest and longest way of the brush, in pixels; a walk that is cornered ends early.
    radius
        Thinnest and thickest brush, in pixels; it is made thinner where the region is narrow.

    Returns
    -------
    list of Stroke
        Label by label. Every pixel that they paint has the right label.
    """
    rng = np.random.default_rng(seed)
    strokes: list[Stroke] = []
    for label in (int(value) for value in np.unique(truth[truth > 0])):
        # The frame counts as outside, so that the brush stays within the image.
        room = ndimage.distance_transform_edt(np.pad(truth == label, 1))[1:-1, 1:-1]
        for _ in range(per_class):
            stroke = _walk(room, label, rng.uniform(*length), rng.uniform(*radius), rng)
            if stroke is None:
                break
            strokes.append(stroke)
            _close(room, stroke)
    return strokes


def _walk(
    room: NDArray[np.float64], label: int, length: float, radius: float, rng: np.random.Generator
) -> Stroke | None:
    """One stroke on pixels with more room than the brush takes; None if there are none."""
    # Points lie up to 0.71 from the centre of the pixel whose room counts.
    spare = 0.8
    radius = max(radius, THINNEST_BRUSH)
    allowed = np.flatnonzero(room > radius + spare)
    if not len(allowed):
        radius = THINNEST_BRUSH
        allowed = np.flatnonzero(room > radius + spare)
    if not len(allowed):
        return None
    points = [tuple(float(v) for v in np.unravel_index(rng.choice(allowed), room.shape))]
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(int(length)):
        for attempt in range(_TRIES):
            turned = angle + rng.normal(0, 0.15 + 0.08 * attempt)
            row, column = points[-1][0] + np.sin(turned), points[-1][1] + np.cos(turned)
            i, j = round(row), round(column)
            inside = 0 <= i < room.shape[0] and 0 <= j < room.shape[1]
            if inside and room[i, j] > radius + spare:
                angle = turned
                points.append((round(float(row), 2), round(float(column), 2)))
                break
        else:
            break
    return Stroke(label, round(radius, 2), tuple((p[0], p[1]) for p in points))


def _close(room: NDArray[np.float64], stroke: Stroke) -> None:
    """Take the room of a stroke, so that later ones do not touch it."""
    taken = np.ones(room.shape, bool)
    for row, column in stroke.points:
        taken[round(row), round(column)] = False
    # Diagonal neighbours are 1.4 apart, and both ways are rounded to pixels, by up to 0.7 each.
    away = ndimage.distance_transform_edt(taken) - stroke.radius - 3
    np.minimum(room, away, out=room)
