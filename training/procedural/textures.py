"""Scenes of textures: regions that differ by grain alone, layers, and pictures of nothing real."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from procedural.canvas import Canvas, clouds, grain
from procedural.lines import rasterise, walk
from procedural.noise import (
    Field,
    Mask,
    fractal,
    log_uniform,
    smooth,
    spectral,
    standardised,
    texture,
)
from procedural.parts import edges
from procedural.shapes import grow, mosaic, to_border

Draw = Callable[[Canvas], None]


def textures(canvas: Canvas) -> None:
    """Two to four regions of the same brightness and contrast, told apart by texture."""
    rng = canvas.rng
    count = int(rng.integers(2, 5))
    areas = _areas(canvas, count)
    scale = log_uniform(rng, 2, 10)
    for number in range(count):
        inside = areas == number
        # Scales near each other are the harder question.
        field = texture(canvas.shape, rng, scale * log_uniform(rng, 0.6, 1.8))
        if inside.sum() > 50:
            field = (field - field[inside].mean()) / (field[inside].std() + 1e-6)
        canvas.light[inside] = np.clip(field, -3, 3)[inside]
        canvas.mark(f"texture {'ABCD'[number]}", inside)
    if rng.random() < 0.4:
        canvas.light += rng.uniform(0, 0.5) * areas
    canvas.light += clouds(canvas, rng.uniform(0, 0.5))
    if rng.random() < 0.3:
        canvas.light += rng.uniform(-2, 2) * edges(areas.astype(np.int32), rng.uniform(0.8, 2.5))


def _areas(canvas: Canvas, count: int) -> NDArray[np.int64]:
    """Divide the plane into areas 0 to count - 1."""
    rng = canvas.rng
    way = rng.integers(3)
    if way == 0:
        field = fractal(canvas.shape, log_uniform(rng, 30, 160), rng, 3, rng.uniform(0.2, 0.6))
        return np.digitize(field, np.quantile(field, np.sort(rng.uniform(0.15, 0.85, count - 1))))
    if way == 1:
        cells = mosaic(canvas.shape, rng, log_uniform(rng, 25, 120), rng.uniform(0, 0.5))
        return np.asarray(rng.integers(0, count, cells.max() + 1)[cells])
    areas = np.zeros(canvas.shape, np.int64)
    for number in range(1, count):
        areas[grow(canvas.shape, rng, log_uniform(rng, 12, 90), 0.4, 0.9).inside] = number
    return areas


def layers(canvas: Canvas) -> None:
    """Bands of tissue upon each other, each with its own level, grain and cells."""
    rng = canvas.rng
    rows, columns = canvas.shape
    angle = rng.normal(0, 0.25)
    y = np.arange(rows, dtype=np.float32)[:, None] * np.float32(np.cos(angle))
    x = np.arange(columns, dtype=np.float32)[None] * np.float32(np.sin(angle))
    depth = y + x + rng.uniform(2, 25) * fractal(canvas.shape, rng.uniform(40, 200), rng, 3)
    bounds = np.sort(rng.uniform(depth.min(), depth.max(), int(rng.integers(2, 7))))
    number = np.digitize(depth, bounds)
    names = rng.permutation([f"layer {letter}" for letter in "ABCDEFG"])
    canvas.light += rng.uniform(0, 0.2) * (depth / rows)
    for index in range(1, len(bounds) + 1):
        inside = number == index
        field = rng.uniform(-1, 1) + grain(canvas, log_uniform(rng, 0.03, 0.6))
        if rng.random() < 0.35:  # streaks along the layer
            field += 0.3 * spectral(canvas.shape, rng, log_uniform(rng, 3, 12), 0.5, np.pi / 2, 0.2)
        canvas.light[inside] = field[inside]
        canvas.mark(str(names[index - 1]), inside)
        if rng.random() < 0.4:
            cells = grow(canvas.shape, rng, log_uniform(rng, 3, 12), rng.uniform(0.2, 0.9), 0.8)
            labels = np.where(inside, cells.labels, 0).astype(np.int32)
            canvas.light[labels > 0] += rng.uniform(-1, 1)
            canvas.mark("nucleus", labels > 0)
            canvas.add_instances(labels)
    if rng.random() < 0.5:
        line = edges(number.astype(np.int32), rng.uniform(0.7, 3))
        canvas.light += rng.uniform(-1, 1) * line
    if rng.random() < 0.5:
        canvas.light, canvas.regions = canvas.light.T.copy(), canvas.regions.T.copy()
        canvas.instances = canvas.instances.T.copy()
    canvas.light += clouds(canvas, rng.uniform(0, 0.2))


def leaves(canvas: Canvas) -> None:
    """Any shapes of any texture, one over the other: what no microscope has shown yet."""
    rng = canvas.rng
    canvas.light += rng.normal(0, 0.5) + grain(canvas, rng.uniform(0, 0.5))
    for index in range(rng.integers(1, 5)):
        inside, labels = _leaf(canvas)
        field = rng.normal(0, 1) + grain(canvas, rng.choice([0, rng.uniform(0, 0.6)]))
        if labels is not None:
            spread = rng.uniform(0, 0.5) * rng.standard_normal(labels.max() + 1)
            field = field + spread.astype(np.float32)[labels]
        if rng.random() < 0.4:
            width = log_uniform(rng, 0.8, 5)
            field = field + rng.uniform(-1.5, 1.5) * edges(inside.astype(np.int32), width)
        opaque = rng.choice([1.0, rng.uniform(0.2, 0.8)])
        mixed = opaque * field + (1 - opaque) * canvas.light
        canvas.light = np.where(inside, mixed, canvas.light).astype(np.float32)
        canvas.mark(f"thing {'ABCDE'[index]}", inside)
        canvas.instances[inside] = 0
        if labels is not None:
            canvas.add_instances(labels)
    canvas.light += clouds(canvas, rng.uniform(0, 0.3))


def _leaf(canvas: Canvas) -> tuple[Mask, NDArray[np.int32] | None]:
    """Any mask, and its objects if it has some."""
    rng = canvas.rng
    way = rng.integers(6)
    if way <= 1:
        objects = grow(
            canvas.shape, rng, log_uniform(rng, 3, 70), rng.uniform(0.1, 0.7), rng.uniform(0.6, 1.2)
        )
        return objects.inside, objects.labels
    size = log_uniform(rng, 12, 120)
    if way == 2:
        walls = to_border(mosaic(canvas.shape, rng, size, rng.uniform(0, 0.5)))
        return walls < log_uniform(rng, 0.7, size / 8), None
    if way == 3:
        return fractal(canvas.shape, size, rng, 4, rng.uniform(0.2, 0.8)) > rng.normal(
            0.3, 0.5
        ), None
    if way == 4:
        waves = spectral(canvas.shape, rng, size / 3, rng.uniform(0.1, 0.6), rng.uniform(0, 3), 0.3)
        return waves > rng.uniform(0, 1.2), None
    radius = log_uniform(rng, 0.6, 6)
    side = canvas.shape[0]
    paths = [
        walk(
            rng,
            rng.uniform(0, side, 2),
            rng.uniform(0, 7),
            rng.uniform(0.2, 1) * side,
            rng.uniform(0, 0.7),
            (radius, radius),
        )
        for _ in range(int(rng.integers(3, 40)))
    ]
    return rasterise(canvas.shape, paths).inside, None


def smears(canvas: Canvas) -> None:
    """Large quiet areas with soft or hard edges: sections, drops, organs at low magnification."""
    rng = canvas.rng
    field = fractal(canvas.shape, log_uniform(rng, 60, 280), rng, 5, rng.uniform(0.25, 0.6))
    bounds = np.sort(rng.uniform(-1.2, 1.2, int(rng.integers(1, 4))))
    number = np.digitize(field, bounds)
    soft: Field = np.zeros(canvas.shape, np.float32)
    for index, bound in enumerate(bounds, start=1):
        step = rng.choice([-1, 1]) * rng.uniform(0.2, 1)
        soft += step / (
            1 + np.exp(-np.clip((field - bound) / log_uniform(rng, 0.01, 0.3), -30, 30))
        )
        canvas.mark(f"area {'ABC'[index - 1]}", number == index)
    canvas.light += soft * (1 + grain(canvas, rng.uniform(0, 0.2)))
    canvas.light += grain(canvas, rng.uniform(0, 0.1)) + 0.02 * standardised(
        smooth(canvas.shape, 2, rng)
    )


SCENES: dict[str, Draw] = {
    "textures": textures,
    "layers": layers,
    "leaves": leaves,
    "smears": smears,
}
