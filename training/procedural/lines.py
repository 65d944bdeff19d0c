"""Scenes of lines: filaments, branching neurites, vessels and networks, bundles of fibres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from procedural.canvas import Canvas, clouds, grain
from procedural.noise import Field, Shape, fractal, log_uniform, smooth, spectral, texture
from procedural.parts import debris, edges, spots
from procedural.shapes import grow, mosaic, to_border

Draw = Callable[[Canvas], None]


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A line with a thickness: points (n, 2) and radius (n,), both in pixels."""

    points: NDArray[np.float64]
    radius: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Lines on the plane: distance to the nearest, its radius there, and which one it is."""

    distance: Field
    radius: Field
    number: NDArray[np.int32]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Pixels within any line; at least one pixel wide."""
        return self.distance < np.maximum(self.radius, 0.6)

    def profile(self, soft: float = 1.0) -> Field:
        """1 in the middle of lines, 0 outside, soft at the edge; paler where less than a pixel."""
        cover = np.clip((self.radius + 0.5 - self.distance) / soft, 0, 1)
        return np.asarray(cover, np.float32)


def walk(
    rng: np.random.Generator,
    start: NDArray[np.float64],
    angle: float,
    length: float,
    wander: float,
    radius: tuple[float, float],
) -> Path:
    """Go on from a point, turning slowly; the radius changes from the first to the second.

    Parameters
    ----------
    rng
        Decides the way.
    start
        Row and column.
    angle
        Where it goes at first, in radians.
    length
        In pixels.
    wander
        How far it turns over 30 pixels, in radians.
    radius
        At the beginning and at the end.
    """
    steps = max(4, int(length / 0.7))
    knots = rng.normal(0, wander, max(3, int(length / 30) + 3)).cumsum()
    turns = np.interp(np.linspace(0, len(knots) - 1, steps), np.arange(len(knots)), knots)
    way = angle + ndimage.uniform_filter1d(turns, max(3, steps // len(knots)))
    points = start + 0.7 * np.stack([np.sin(way), np.cos(way)], axis=1).cumsum(axis=0)
    return Path(points, np.linspace(*radius, steps))


def rasterise(shape: Shape, paths: list[Path]) -> Drawn:
    """Draw lines; each pixel belongs to the nearest."""
    margin = 16
    wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    far = np.ones(wide, bool)
    radius = np.zeros(wide, np.float32)
    number = np.zeros(wide, np.int32)
    for index, path in enumerate(paths, start=1):
        place = np.rint(path.points).astype(int) + margin
        kept = ((place >= 0) & (place < wide)).all(axis=1)
        rows, columns = place[kept].T
        far[rows, columns] = False
        radius[rows, columns] = path.radius[kept]
        number[rows, columns] = index
    inner = (slice(margin, -margin), slice(margin, -margin))
    if far.all():
        return Drawn(np.full(shape, 1e3, np.float32), radius[inner], number[inner])
    distance, (rows, columns) = ndimage.distance_transform_edt(far, return_indices=True)
    near = (rows[inner], columns[inner])
    return Drawn(distance[inner].astype(np.float32), radius[near], number[near])


def tree(
    rng: np.random.Generator,
    start: NDArray[np.float64],
    angle: float,
    length: float,
    radius: float,
    wander: float,
    branches: int,
) -> list[Path]:
    """Grow a tree: each branch begins somewhere on an earlier one, thinner and shorter."""
    paths = [walk(rng, start, angle, length, wander, (radius, radius * rng.uniform(0.3, 0.9)))]
    for _ in range(branches):
        parent = paths[rng.integers(len(paths))]
        at = int(rng.uniform(0.1, 0.9) * len(parent.points))
        ahead = parent.points[min(at + 3, len(parent.points) - 1)] - parent.points[max(at - 3, 0)]
        heading = np.arctan2(*ahead) + rng.choice([-1, 1]) * rng.uniform(0.3, 1.3)
        thick = parent.radius[at] * rng.uniform(0.5, 0.95)
        far = len(parent.points) * 0.7 * rng.uniform(0.3, 0.9)
        paths.append(
            walk(
                rng, parent.points[at], heading, far, wander, (thick, thick * rng.uniform(0.3, 0.9))
            )
        )
    return paths


def _levels(canvas: Canvas, drawn: Drawn, spread: float) -> Field:
    """Brightness of each line."""
    values = np.exp(canvas.rng.normal(0, spread, drawn.number.max() + 1)).astype(np.float32)
    return np.asarray(values[drawn.number])


def filaments(canvas: Canvas) -> None:
    """Many thin lines that cross, with or without the cell around them."""
    rng = canvas.rng
    side = canvas.shape[0]
    cell = None
    if rng.random() < 0.4:
        cell = grow(canvas.shape, rng, side * rng.uniform(0.15, 0.5), 0.5, 0.8, "spread").inside
        canvas.mark("cytoplasm", cell)
        canvas.light += rng.uniform(0, 0.4) * cell * (1 + grain(canvas, 0.1))
    main, scatter = rng.uniform(0, np.pi), rng.choice([0.15, 0.6, 3.0])
    radius, wander = log_uniform(rng, 0.4, 4), rng.uniform(0.02, 0.6)
    low, high = sorted(rng.uniform(side * 0.1, side * 1.6, 2))
    paths = [
        walk(
            rng,
            rng.uniform(-20, side + 20, 2),
            main + rng.normal(0, scatter),
            rng.uniform(low, high),
            wander,
            (radius * rng.uniform(0.6, 1.4),) * 2,
        )
        for _ in range(int(log_uniform(rng, 4, 110)))
    ]
    drawn = rasterise(canvas.shape, paths)
    inside = drawn.inside if cell is None else drawn.inside & cell
    light = drawn.profile(rng.uniform(1, 2)) * _levels(canvas, drawn, rng.uniform(0, 0.6))
    if rng.random() < 0.4:  # beads, breaks
        light *= np.clip(1 + rng.uniform(0.2, 1) * smooth(canvas.shape, 3 * radius + 1, rng), 0, 3)
    canvas.light += light if cell is None else light * cell
    canvas.light += clouds(canvas, rng.uniform(0, 0.12))
    canvas.mark("filament", inside)
    if rng.random() < 0.3:  # out-of-focus lines below
        other = rasterise(canvas.shape, paths[: len(paths) // 2 + 1]).profile()
        canvas.light += 0.8 * ndimage.gaussian_filter(other[::-1], rng.uniform(2, 6))
    if rng.random() < 0.35:
        debris(canvas, 1, 4 * radius)


def neurites(canvas: Canvas) -> None:
    """Branching processes, from bodies or from outside, smooth or beaded; spines on some."""
    rng = canvas.rng
    side = canvas.shape[0]
    bodies = grow(
        canvas.shape,
        rng,
        log_uniform(rng, 5, 32),
        rng.uniform(0.01, 0.1),
        1.5,
        str(rng.choice(["lobed", "star", "oval", "angular"])),
    )
    thick, wander = log_uniform(rng, 0.6, 4), rng.uniform(0.1, 0.6)
    branches = int(rng.integers(1, 12))
    paths: list[Path] = []
    for number in range(1, min(int(bodies.labels.max()), 10) + 1):
        middle = np.argwhere(bodies.labels == number).mean(axis=0)
        for _ in range(rng.integers(1, 6)):
            way, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1) * side
            paths += tree(rng, middle, way, far, thick, wander, branches)
    for _ in range(rng.integers(0 if paths else 2, 6)):
        start = rng.uniform(0, side, 2)
        paths += tree(rng, start, rng.uniform(0, 7), side, thick, wander, branches)
    drawn = rasterise(canvas.shape, paths)
    light = drawn.profile(1.5) * _levels(canvas, drawn, 0.25) * rng.uniform(0.4, 1.1)
    canvas.mark("neurite", drawn.inside)
    if rng.random() < 0.5:  # spines and beads
        beside = (np.abs(drawn.distance - drawn.radius) < 1.5) & (drawn.distance < 8)
        bead = max(1.0, thick * rng.uniform(0.6, 1.2))
        for box, apart, _, _ in spots(canvas, beside, int(rng.integers(10, 120)), bead):
            light[box] = np.maximum(light[box], np.clip(1.5 - apart, 0, 1))
            canvas.mark("neurite", apart < 1, box)
    inside = bodies.inside
    light = np.where(inside, rng.uniform(0.7, 1.6) * (1 + grain(canvas, 0.1)), light)
    light += rng.uniform(0, 0.5) * edges(bodies.labels, 1.5) * inside
    canvas.mark("cell body", inside)
    canvas.add_instances(bodies.labels)
    if rng.random() < 0.3:  # relief, as transmitted light shows it
        light = ndimage.gaussian_filter(light, 0.8)
        light = light - np.roll(light, rng.integers(-2, 3, 2), axis=(0, 1)) + 0.3 * light
    canvas.light += light + clouds(canvas, rng.uniform(0, 0.15)) + grain(canvas, 0.04)
    if rng.random() < 0.4:
        debris(canvas, rng.uniform(0.3, 1), 5 * thick)


def vessels(canvas: Canvas) -> None:
    """Tapering trees or closed networks, filled or as walls around a lumen."""
    rng = canvas.rng
    side = canvas.shape[0]
    if rng.random() < 0.5:
        size = log_uniform(rng, 14, 110)
        distance = to_border(mosaic(canvas.shape, rng, size, rng.choice([0.0, 0.4])))
        width = (
            size
            * rng.uniform(0.06, 0.25)
            * np.exp(rng.uniform(0, 0.4) * smooth(canvas.shape, size, rng))
        )
        depth = 1 - distance / np.maximum(width, 1)
    else:
        paths: list[Path] = []
        thick = log_uniform(rng, 2, 16)
        for _ in range(rng.integers(1, 5)):
            start = rng.uniform(0, side, 2)
            start[rng.integers(2)] = rng.choice([-5, side + 5])
            heading = np.arctan2(*(side / 2 - start)) + rng.normal(0, 0.5)
            paths += tree(rng, start, heading, side * 1.3, thick, rng.uniform(0.1, 0.4), 9)
        drawn = rasterise(canvas.shape, paths)
        depth = 1 - drawn.distance / np.maximum(drawn.radius, 0.8)
    inside = depth > 0
    round_profile = np.sqrt(np.clip(depth, 0, 1) * (2 - np.clip(depth, 0, 1)))
    flat = rng.random() < 0.4
    light = inside * 1.0 if flat else round_profile
    canvas.mark("vessel", inside)
    if rng.random() < 0.25:  # walls
        lumen = depth > rng.uniform(0.3, 0.6)
        light = np.where(lumen, rng.uniform(-0.2, 0.5), light)
        canvas.mark("lumen", lumen)
    ground = grain(canvas, rng.uniform(0, 0.35)) + clouds(canvas, rng.uniform(0, 0.3))
    canvas.light += np.where(inside, light * (1 + grain(canvas, rng.uniform(0, 0.2))), ground)
    canvas.light += clouds(canvas, rng.uniform(0, 0.2))
    if rng.random() < 0.3:
        debris(canvas, 1, 8)


def fibres(canvas: Canvas) -> None:
    """Bundles that follow each other, as collagen or muscle; gaps and cells between them."""
    rng = canvas.rng
    angle, spread = rng.uniform(0, np.pi), rng.uniform(0.05, 0.4)
    waves = spectral(
        canvas.shape, rng, log_uniform(rng, 4, 40), rng.uniform(0.2, 0.8), angle, spread
    )
    fine = spectral(canvas.shape, rng, log_uniform(rng, 2.5, 8), 0.5, angle, spread)
    level = rng.normal(0.2, 0.5)
    soft = rng.uniform(0.1, 1)
    inside = waves > level
    canvas.mark("fibre", inside)
    light = np.tanh((waves - level) / soft) * 0.5 + 0.5
    light = light * (1 + rng.uniform(0, 0.3) * fine) * np.exp(0.2 * texture(canvas.shape, rng))
    if rng.random() < 0.4:  # bands across, as in muscle
        across = spectral(canvas.shape, rng, log_uniform(rng, 4, 14), 0.15, angle + np.pi / 2, 0.1)
        light += rng.uniform(0.1, 0.4) * across * inside
    canvas.light += light.astype(np.float32)
    if rng.random() < 0.5:
        nuclei = grow(
            canvas.shape, rng, log_uniform(rng, 4, 14), rng.uniform(0.03, 0.2), 1, "spindle"
        )
        level = rng.uniform(-0.6, 2)
        canvas.light = np.where(nuclei.inside, level + grain(canvas, 0.1), canvas.light)
        canvas.mark("nucleus", nuclei.inside)
        canvas.add_instances(nuclei.labels)
    if rng.random() < 0.3:
        hole = fractal(canvas.shape, rng.uniform(30, 120), rng, 3) > rng.uniform(0.6, 1.3)
        canvas.light = np.where(hole, rng.uniform(-0.2, 0.3), canvas.light)
        canvas.mark("lumen", hole)
    canvas.light += clouds(canvas, rng.uniform(0, 0.2))


SCENES: dict[str, Draw] = {
    "filaments": filaments,
    "neurites": neurites,
    "vessels": vessels,
    "fibres": fibres,
}
