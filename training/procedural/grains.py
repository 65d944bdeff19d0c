"""Scenes of small objects: dots, rods, chains and microcolonies, particles and crystals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from procedural.canvas import Canvas, clouds, grain
from procedural.lines import rasterise, walk
from procedural.noise import fractal, log_uniform, smooth
from procedural.parts import debris, edges, ghosts, spots
from procedural.shapes import grow, pieces

Draw = Callable[[Canvas], None]


def dots(canvas: Canvas) -> None:
    """Spots of one or two sizes, within faint cells or all over; many strengths."""
    rng = canvas.rng
    room = np.ones(canvas.shape, bool)
    if rng.random() < 0.5:
        cell = grow(canvas.shape, rng, log_uniform(rng, 20, 110), rng.uniform(0.2, 0.7), 0.8)
        canvas.mark("cytoplasm", cell.inside)
        canvas.light += rng.uniform(0, 0.5) * cell.inside * (1 + grain(canvas, 0.15))
        canvas.add_instances(cell.labels)
        room = cell.inside if cell.inside.any() else room
    for name in ("dot", "large dot")[: rng.integers(1, 3)]:
        radius = log_uniform(rng, 1, 4) if name == "dot" else log_uniform(rng, 3, 10)
        spread, dome = rng.uniform(0, 0.6), rng.random() < 0.6
        for box, distance, _, _ in spots(canvas, room, int(log_uniform(rng, 8, 160)), radius, 0.2):
            level = np.exp(rng.normal(0, spread))
            bright = np.exp(-0.7 * distance**2) if dome else np.clip(1.5 - distance, 0, 1)
            canvas.light[box] = np.maximum(canvas.light[box], level * bright)
            canvas.mark(name, distance < 1, box)
    canvas.light += clouds(canvas, rng.uniform(0, 0.15))
    if rng.random() < 0.3:
        blurred = ndimage.gaussian_filter(canvas.light[::-1, ::-1], rng.uniform(4, 10))
        canvas.light += rng.uniform(0.5, 2) * blurred


def rods(canvas: Canvas) -> None:
    """Bacteria and worms: rods, straight or bent, lonely or in colonies, filled or with a rim."""
    rng = canvas.rng
    side = canvas.shape[0]
    thick = rng.random() < 0.25
    radius = log_uniform(rng, 7, 24) if thick else log_uniform(rng, 1.5, 9)
    wander = rng.uniform(0, 0.6) if thick else rng.uniform(0, 0.2)
    length = radius * rng.uniform(2, 9)
    crowd = rng.random() < 0.5
    aligned = rng.uniform(0.1, 3)
    flow = fractal(canvas.shape, rng.uniform(60, 200), rng, 2)
    count = int(np.clip(rng.uniform(0.05, 0.9) * side**2 / (2.6 * radius * length), 3, 160))
    paths = []
    middle, reach = rng.uniform(0, side, 2), side * rng.uniform(0.12, 0.3)
    for _ in range(count):
        start = rng.normal(middle, reach) if crowd else rng.uniform(0, side, 2)
        row, column = np.clip(start, 0, side - 1).astype(int)
        angle = 2 * flow[row, column] + rng.normal(0, aligned)
        long = length * rng.uniform(0.5, 1.3)
        paths.append(walk(rng, start, angle, long, wander, (radius, radius)))
    drawn = rasterise(canvas.shape, paths)
    labels = pieces(np.where(drawn.inside, drawn.number, 0).astype(np.int32), int(radius**2) + 2)
    inside = labels > 0
    canvas.mark("rod", inside)
    canvas.add_instances(labels)
    depth = np.clip(1 - drawn.distance / max(radius, 1), 0, 1)
    levels = np.exp(rng.normal(0, rng.uniform(0, 0.4), labels.max() + 1))[labels]
    light = inside * levels * (1 - rng.uniform(0, 0.9) * (1 - depth))
    light -= rng.uniform(0, 0.8) * edges(labels, 0.3 * radius + 0.5) * inside
    if rng.random() < 0.5:
        light *= 1 + grain(canvas, rng.uniform(0, 0.4), max(1.5, radius / 3))
    if rng.random() < 0.4:  # halos of phase contrast
        light -= rng.uniform(0.5, 1) * ndimage.gaussian_filter(light, 2 * radius)
    if rng.random() < 0.3:
        for box, apart, _, _ in spots(canvas, inside, count, 0.5 * radius):
            light[box][apart < 1] *= rng.uniform(1.3, 2.5)
    canvas.light += light.astype(np.float32)
    if rng.random() < 0.2:  # the walls of channels that hold them
        wall = np.abs((np.arange(side) + rng.uniform(0, 40)) % rng.uniform(20, 80) - 10) < 6
        canvas.light += rng.uniform(-0.6, 0.6) * ndimage.gaussian_filter1d(wall * 1.0, 1.0)
    canvas.light += clouds(canvas, rng.uniform(0, 0.15)) + grain(canvas, rng.uniform(0, 0.1))
    if rng.random() < 0.4:
        debris(canvas, rng.uniform(0.5, 1), radius * 2)


def particles(canvas: Canvas) -> None:
    """Crystals, pollen, bubbles, beads: hard outlines, shaded sides, everything of two types."""
    rng = canvas.rng
    radius = log_uniform(rng, 5, 70)
    for name in ("particle", "other particle")[: rng.integers(1, 3)]:
        objects = grow(
            canvas.shape,
            rng,
            radius * log_uniform(rng, 0.5, 1.5),
            rng.uniform(0.05, 0.45),
            rng.uniform(0.7, 1.1),
            str(rng.choice(["round", "angular", "lobed", "star", "bent"])),
        )
        inside = objects.inside
        solid = rng.uniform(-0.5, 1.2) + grain(canvas, rng.uniform(0, 0.35))
        solid = solid * (0.7 + 0.3 * objects.random(rng, rng.uniform(0, 0.4)))
        if rng.random() < 0.5:  # lit from one side
            tilt = ndimage.gaussian_filter(objects.depth, radius / 12 + 0.7)
            solid = (
                solid + 3 * rng.uniform(-1, 1) * np.gradient(tilt, axis=rng.integers(2)) * radius
            )
        width = log_uniform(rng, 0.8, max(1.0, radius / 5))
        solid = solid + rng.uniform(-1.2, 1.2) * edges(objects.labels, width)
        if rng.random() < 0.3:
            ring = np.cos(objects.depth * rng.uniform(5, 25))
            solid = solid + rng.uniform(0.1, 0.5) * ring
        canvas.light = np.where(inside, solid, canvas.light).astype(np.float32)
        canvas.mark(name, inside)
        canvas.instances[inside] = 0
        canvas.add_instances(objects.labels)
        if rng.random() < 0.3:
            canvas.light += ghosts(canvas, objects) * ~inside
    canvas.light += clouds(canvas, rng.uniform(0, 0.2)) + 0.05 * smooth(canvas.shape, 3, rng)


SCENES: dict[str, Draw] = {"dots": dots, "rods": rods, "particles": particles}
