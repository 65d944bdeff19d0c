"""Outlines of objects: separate or pressed together, round, angular, lobed, spindly; mosaics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from skimage import measure

from procedural.noise import Field, Mask, Shape, displaced, fractal, log_uniform, smooth

_MOST = 220
STYLES = ("round", "oval", "spindle", "lobed", "angular", "spread", "bent", "star")


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Objects that do not overlap.

    Attributes
    ----------
    labels
        Shape (Y, X), int32: 0 outside, 1 to n.
    depth
        Shape (Y, X), float32: 1 in the middle of each object, 0 at its outline and outside.
    radius
        Typical radius in pixels.
    """

    labels: NDArray[np.int32]
    depth: Field
    radius: float

    @property
    def inside(self) -> Mask:
        """Pixels within any object."""
        return self.labels > 0

    def each(self, values: NDArray[np.floating]) -> Field:
        """Spread one value per object, first that of no object, over its pixels."""
        return np.asarray(values, np.float32)[self.labels]

    def random(self, rng: np.random.Generator, spread: float, middle: float = 1.0) -> Field:
        """One random number per object, `middle` with a relative spread; 0 outside."""
        values = middle * np.exp(rng.normal(0, spread, self.labels.max() + 1))
        values[0] = 0
        return self.each(values)


def place(
    shape: Shape, rng: np.random.Generator, radius: float, cover: float, closest: float
) -> NDArray[np.float64]:
    """Scatter discs, evenly, in clusters or where smooth noise is high.

    Parameters
    ----------
    shape
        Rows and columns.
    rng
        Decides everything else.
    radius
        Middle of the radii.
    cover
        Share of the plane that they would cover if there were room.
    closest
        Least distance of two centres as a share of the sum of their radii; below 1 they overlap.

    Returns
    -------
    ndarray, shape (n, 3)
        Row, column and radius; centres may lie a radius outside.
    """
    size = np.array(shape) + radius
    wanted = int(np.clip(cover * size.prod() / (np.pi * radius**2), 1, _MOST))
    tries = wanted * 4
    centres = rng.uniform(-radius / 2, size - radius / 2, (tries, 2))
    way = rng.random()
    if way < 0.3:  # clusters
        middles = rng.uniform(0, shape, (int(rng.integers(1, 7)), 2))
        reach = radius * np.sqrt(wanted / len(middles)) * rng.uniform(0.8, 1.6)
        near = middles[rng.integers(len(middles), size=tries)] + rng.normal(0, reach, (tries, 2))
        clustered = rng.random(tries) < 0.85
        centres[clustered] = near[clustered]
    elif way < 0.5:  # crowded here, empty there
        density = smooth(shape, max(shape) / rng.uniform(2, 5), rng)
        rows, columns = np.clip(centres.astype(int), 0, np.array(shape) - 1).T
        centres = centres[density[rows, columns] > rng.uniform(-0.5, 0.5)]
    radii = radius * np.exp(rng.normal(0, rng.uniform(0.03, 0.35), len(centres)))
    outside = ((centres < -radius) | (centres > np.array(shape) + radius)).any(axis=1)
    centres, radii = centres[~outside], radii[~outside]
    room = cdist(centres, centres)
    too_close = room < closest * (radii[:, None] + radii[None])
    kept: list[int] = []
    for number in range(len(centres)):
        if len(kept) == wanted:
            break
        if not too_close[number, kept].any():
            kept.append(number)
    return np.column_stack([centres[kept], radii[kept]])


def box_around(row: float, column: float, reach: float, shape: Shape) -> tuple[slice, slice] | None:
    """Part of the plane within `reach` of a point; None if there is none."""
    top, left = max(0, int(row - reach)), max(0, int(column - reach))
    bottom, right = min(shape[0], int(row + reach) + 2), min(shape[1], int(column + reach) + 2)
    if top >= bottom or left >= right:
        return None
    return slice(top, bottom), slice(left, right)


def ellipse(
    box: tuple[slice, slice], row: float, column: float, radius: float, aspect: float, angle: float
) -> tuple[Field, Field, Field]:
    """Return distance from the centre, 1 at the outline, and the two axes, along and across."""
    y = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None] - np.float32(row)
    x = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None] - np.float32(column)
    stretch = np.sqrt(aspect) * radius
    along = (y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle))) / stretch
    across = (y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))) * (
        np.float32(aspect) / stretch
    )
    return np.hypot(along, across), along, across


def grow(
    shape: Shape,
    rng: np.random.Generator,
    radius: float,
    cover: float,
    closest: float,
    style: str | None = None,
) -> Objects:
    """Draw objects of one style; where they would overlap, the relatively nearest has the pixel.

    Parameters
    ----------
    shape
        Rows and columns.
    rng
        Decides everything else.
    radius
        Typical radius in pixels.
    cover
        Share of the plane that they should cover.
    closest
        See `place`: below 0.8 many touch, above 1.2 hardly any.
    style
        One of `STYLES`; any of them if None.
    """
    style = STYLES[rng.integers(len(STYLES))] if style is None else style
    wobble = {"spread": 0.28, "star": 0.15, "round": 0.02}.get(style, rng.uniform(0.03, 0.12))
    warp = displaced(shape, max(3.0, radius * rng.uniform(0.5, 1)), wobble * radius, rng)
    rough = rng.uniform(0, 0.06) * radius
    for part in warp:
        part += rough * smooth(shape, max(2.0, radius / 5), rng)
    owner = np.zeros(shape, np.int32)
    nearest = np.ones(shape, np.float32)
    common = rng.uniform(0, np.pi)
    aligned = rng.random() < 0.3
    for number, (row, column, size) in enumerate(place(shape, rng, radius, cover, closest), 1):
        angle = common + rng.normal(0, 0.15) if aligned else rng.uniform(0, 2 * np.pi)
        outline = _Outline.drawn(style, rng)
        box = box_around(row, column, size * outline.reach + 3 * wobble * radius, shape)
        if box is None:
            continue
        distance = outline.distance(
            (warp[0][box] - row) / size, (warp[1][box] - column) / size, angle
        )
        wins = distance < nearest[box]
        owner[box][wins] = number
        nearest[box][wins] = distance[wins]
    labels = pieces(owner, max(6, int(0.08 * np.pi * radius**2)))
    depth = np.where(labels > 0, 1 - nearest, 0).astype(np.float32)
    return Objects(labels, depth, radius)


@dataclass(frozen=True, slots=True, eq=False)
class _Outline:
    """Shape of one object of radius 1."""

    aspect: float
    bend: float
    waves: NDArray[np.float64]  # (n, 3): how many, how strong, where they begin
    corners: NDArray[np.float64]  # directions of its straight sides
    reach: float

    @classmethod
    def drawn(cls, style: str, rng: np.random.Generator) -> _Outline:
        aspect = {"round": rng.uniform(1, 1.15), "spindle": rng.uniform(2, 5)}.get(
            style, rng.uniform(1, 2)
        )
        bend = rng.uniform(0.2, 0.6) if style == "bent" else 0.0
        strength = {"lobed": 0.16, "star": 0.3, "spread": 0.14, "spindle": 0.05}.get(style, 0.03)
        counts = np.arange(2, 7) if style != "round" else np.arange(2, 4)
        waves = np.column_stack(
            [
                counts,
                rng.normal(0, strength, len(counts)) / np.sqrt(counts / 2),
                rng.uniform(0, 7, len(counts)),
            ]
        )
        sides = np.zeros(0)
        if style == "angular":
            number = rng.integers(4, 9)
            sides = np.arange(number) * 2 * np.pi / number + rng.normal(0, 0.25, number)
        reach = np.sqrt(aspect) * (1.15 + 2 * strength) + bend
        return cls(aspect, bend, waves, sides, float(reach))

    def distance(self, y: Field, x: Field, angle: float) -> Field:
        """Distance from the centre, 1 at the outline; `y` and `x` in units of the radius."""
        sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
        stretch = np.float32(np.sqrt(self.aspect))
        along = (y * sine + x * cosine) / stretch
        across = (y * cosine - x * sine) * stretch
        if self.bend:
            across += np.float32(self.bend) * (along**2 - np.float32(0.4))
        if len(self.corners):
            planes = [along * np.cos(c) + across * np.sin(c) for c in self.corners.astype("f4")]
            return np.asarray(1.1 * np.maximum(np.max(planes, axis=0), 0), np.float32)
        direction = np.arctan2(across, along)
        outline = np.ones_like(direction)
        for count, strength, begin in self.waves.astype(np.float32):
            outline += strength * np.cos(count * direction + begin)
        return np.asarray(np.hypot(along, across) / np.maximum(outline, 0.25), np.float32)


def pieces(owner: NDArray[np.int32], smallest: int) -> NDArray[np.int32]:
    """Give each connected part of equal labels its own number; leave out those below `smallest`."""
    labels = measure.label(owner, connectivity=1, background=0)
    sizes = np.bincount(labels.ravel())
    kept = sizes >= smallest
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0)
    return np.asarray(numbers[labels], np.int32)


def mosaic(shape: Shape, rng: np.random.Generator, size: float, merged: float) -> NDArray[np.int32]:
    """Fill the plane with cells, as tissue does; shape (Y, X), int32, 1 and up.

    Parameters
    ----------
    shape
        Rows and columns.
    rng
        Decides everything else.
    size
        Distance of neighbouring cells in pixels.
    merged
        Share of the cells that become one with a neighbour: 0 gives convex cells of like size, 0.6
        winding ones of very different sizes.
    """
    margin = int(2 * size) + 8
    wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    count = max(4, int(wide[0] * wide[1] / size**2))
    points = rng.uniform(0, wide, (count * 3, 2))
    if rng.random() < 0.5:  # small cells here, large ones there
        density = fractal(wide, max(wide) / rng.uniform(2, 6), rng, 2)
        rows, columns = points.astype(int).T
        points = points[density[rows, columns] > rng.normal(0.3, 0.8, len(points))]
    points = points[:count] if len(points) > 3 else rng.uniform(0, wide, (count, 2))
    if rng.random() < 0.5:  # evenly spaced, as in an epithelium
        points = _spaced(points, 0.75 * size)
    rows, columns = points.astype(int).T
    rows, columns = rows % wide[0], columns % wide[1]
    seeds = np.zeros(wide, np.int32)
    seeds[rows, columns] = np.arange(1, len(points) + 1)
    aspect = log_uniform(rng, 1, 2.5) if rng.random() < 0.4 else 1.0
    nearest = ndimage.distance_transform_edt(
        seeds == 0, sampling=(aspect, 1), return_distances=False, return_indices=True
    )
    labels = seeds[tuple(nearest)]
    labels = _merge(points, merged, rng)[labels]
    y, x = displaced(shape, size * rng.uniform(0.3, 1.2), size * rng.uniform(0, 0.16), rng)
    fine = rng.uniform(0, 0.05) * size
    y += fine * smooth(shape, max(3.0, size / 6), rng)
    x += fine * smooth(shape, max(3.0, size / 6), rng)
    if rng.random() < 0.5:
        y, x = _turned(y, x, rng.uniform(0, np.pi), shape)
    y = np.clip(np.rint(y) + margin, 0, wide[0] - 1).astype(np.intp)
    x = np.clip(np.rint(x) + margin, 0, wide[1] - 1).astype(np.intp)
    parts: NDArray[np.int32] = measure.label(labels[y, x], connectivity=1).astype(np.int32)
    return parts


def _turned(y: Field, x: Field, angle: float, shape: Shape) -> tuple[Field, Field]:
    """Turn coordinates about the middle; kept within the plane by the folding of a mirror."""
    middle = (shape[0] / 2, shape[1] / 2)
    y, x = y - middle[0], x - middle[1]
    turned = (
        y * np.cos(angle) - x * np.sin(angle) + middle[0],
        y * np.sin(angle) + x * np.cos(angle) + middle[1],
    )
    folded = [
        length - np.abs(length - np.abs(part)) for part, length in zip(turned, shape, strict=True)
    ]
    return folded[0], folded[1]


def _spaced(points: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """Leave out points that are nearer than `apart` to an earlier one on a grid of that size."""
    cells = (points / apart).astype(int)
    _, first = np.unique(cells, axis=0, return_index=True)
    kept = points[np.sort(first)]
    inner = (kept / apart) % 1
    return np.asarray(kept - 0.5 * apart * (inner - 0.5))


def _merge(
    points: NDArray[np.float64], share: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Table from seeds to cells: some seeds take the number of the seed nearest to them."""
    numbers = np.arange(len(points) + 1, dtype=np.int32)
    if share <= 0:
        return numbers
    nearest = KDTree(points).query(points, k=2)[1][:, 1]
    for number in np.flatnonzero(rng.random(len(points)) < share):
        numbers[number + 1] = numbers[nearest[number] + 1]
    return numbers


def borders(labels: NDArray[np.int32]) -> Mask:
    """Pixels whose right or lower neighbour has another label; lines one pixel wide."""
    lines = np.zeros(labels.shape, bool)
    lines[:-1] |= labels[:-1] != labels[1:]
    lines[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return lines


def to_border(labels: NDArray[np.int32]) -> Field:
    """Distance of every pixel to the nearest border between labels."""
    lines = borders(labels)
    if not lines.any():
        return np.full(labels.shape, float(max(labels.shape)), np.float32)
    return np.asarray(ndimage.distance_transform_edt(~lines), np.float32)
