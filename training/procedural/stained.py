"""Scenes of stained tissue and smears, darker where there is more stain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from procedural.canvas import Canvas, clouds, grain
from procedural.noise import Field, Mask, fractal, log_uniform, natural, smooth, spectral, texture
from procedural.parts import debris, edges, nuclei_of, shading, spots
from procedural.shapes import Objects, grow, mosaic, to_border

Draw = Callable[[Canvas], None]


def stained(canvas: Canvas) -> None:
    """Tissue with fibrous ground, nuclei in crowds and rows, glands, holes, red cells."""
    rng = canvas.rng
    canvas.names[0] = "matrix"
    stain = rng.uniform(0.1, 0.45) + _stroma(canvas)
    radius = log_uniform(rng, 4, 28)
    if rng.random() < 0.5:
        _glands(canvas, stain, radius)
    if rng.random() < 0.35:  # fat, vessels, tears
        _holes(canvas, stain)
    if rng.random() < 0.2:
        red = grow(canvas.shape, rng, radius * 0.8, rng.uniform(0.05, 0.25), 0.8, "round")
        stain[red.inside] = (rng.uniform(0.3, 0.7) * (1 - 0.5 * red.depth))[red.inside]
        canvas.mark("red cell", red.inside)
        canvas.add_instances(red.labels)
    style = str(rng.choice(["oval", "oval", "round", "spindle", "lobed", "bent"]))
    objects = grow(canvas.shape, rng, radius, rng.uniform(0.08, 0.6), rng.uniform(0.65, 1), style)
    _add_nuclei(canvas, stain, objects)
    canvas.light -= np.clip(stain + clouds(canvas, 0.05), 0, 2.5)
    if rng.random() < 0.2:
        debris(canvas, rng.uniform(-1.5, -0.3), radius)


def _stroma(canvas: Canvas) -> Field:
    """Wavy fibres of connective tissue."""
    rng = canvas.rng
    angle = rng.uniform(0, np.pi) if rng.random() < 0.5 else None
    waves = spectral(canvas.shape, rng, log_uniform(rng, 5, 30), rng.uniform(0.4, 1), angle, 0.35)
    ground = 0.5 * waves + 0.5 * texture(canvas.shape, rng, log_uniform(rng, 3, 15))
    ground += smooth(canvas.shape, 60, rng)
    return np.asarray(rng.uniform(0.02, 0.12) * ground, np.float32)


def _add_nuclei(canvas: Canvas, stain: Field, objects: Objects) -> None:
    """Lay nuclei over what is there: chromatin, rims, some pale, some out of focus."""
    rng = canvas.rng
    allowed = ~canvas.where("lumen")
    middle = np.bincount(objects.labels.ravel(), allowed.ravel())
    kept = middle > 0.6 * np.bincount(objects.labels.ravel())
    labels = np.where(kept[objects.labels] & allowed, objects.labels, 0).astype(np.int32)
    nuclei = Objects(labels, objects.depth, objects.radius)
    chromatin = natural(canvas.shape, rng, max(1.8, objects.radius * rng.uniform(0.15, 0.5)))
    dark = rng.uniform(0.4, 1.2) * nuclei.random(rng, rng.uniform(0.05, 0.4))
    dark *= 1 + rng.uniform(0.05, 0.35) * chromatin
    dark += rng.uniform(0, 0.5) * edges(labels, max(0.8, objects.radius * 0.1)) * nuclei.inside
    soft = ndimage.gaussian_filter(nuclei.inside.astype(np.float32), log_uniform(rng, 0.4, 1.5))
    stain *= 1 - soft * rng.uniform(0.3, 1)
    stain += np.maximum(dark, 0) * np.clip(soft * 1.3, 0, 1)
    if rng.random() < 0.3:  # two types
        other = nuclei.random(rng, 1) > 1.3
        stain += rng.choice([-0.3, 0.4]) * rng.uniform(0.5, 1) * other
        canvas.mark("other nucleus", other & nuclei.inside)
        canvas.mark("nucleus", nuclei.inside & ~other)
    else:
        canvas.mark("nucleus", nuclei.inside)
    canvas.instances[nuclei.inside] = 0
    canvas.add_instances(labels)


def _glands(canvas: Canvas, stain: Field, radius: float) -> None:
    """Rings of epithelium around a hole, with a row of nuclei."""
    rng = canvas.rng
    size = float(np.clip(radius * rng.uniform(4, 9), 25, 110))
    glands = grow(canvas.shape, rng, size, rng.uniform(0.2, 0.9), rng.uniform(0.8, 1.1), "spread")
    stain[glands.inside] += rng.uniform(-0.1, 0.3)
    canvas.mark("epithelium", glands.inside)
    lumen = glands.depth > rng.uniform(0.35, 0.8)
    stain[lumen] = rng.uniform(0, 0.15)
    canvas.mark("lumen", lumen)
    if rng.random() < 0.6:
        cells = mosaic(canvas.shape, rng, radius * 2.5, 0)
        wall = to_border(cells)
        ring = glands.inside & ~lumen
        stain += rng.uniform(0, 0.2) * np.exp(-(wall**2)) * ring
        row = nuclei_of(canvas, Objects(np.where(ring, cells, 0), glands.depth, radius), 0.9, 0.6)
        level = rng.uniform(0.4, 1) * (1 + grain(canvas, 0.15))
        stain[row > 0] = level[row > 0] if isinstance(level, np.ndarray) else level
        canvas.mark("nucleus", row > 0)
        canvas.add_instances(row)


def _holes(canvas: Canvas, stain: Field) -> None:
    """Empty spaces: round as fat, or ragged as tears."""
    rng = canvas.rng
    if rng.random() < 0.5:
        fat = grow(canvas.shape, rng, log_uniform(rng, 12, 50), rng.uniform(0.1, 0.9), 0.7, "round")
        hole: Mask = fat.depth > rng.uniform(0.05, 0.2)
    else:
        hole = fractal(canvas.shape, log_uniform(rng, 30, 150), rng, 4) > rng.uniform(0.5, 1.2)
    stain[hole] = rng.uniform(0, 0.1)
    canvas.mark("lumen", hole)


def blood(canvas: Canvas) -> None:
    """Smears and cytology: pale round cells, some with a pale middle, few with dark nuclei."""
    rng = canvas.rng
    radius = log_uniform(rng, 6, 45)
    style = str(rng.choice(["round", "round", "oval", "angular", "spread", "spindle"]))
    objects = grow(canvas.shape, rng, radius, rng.uniform(0.1, 0.75), rng.uniform(0.65, 1), style)
    canvas.mark("cytoplasm", objects.inside)
    canvas.add_instances(objects.labels)
    stain = rng.uniform(0.15, 0.6) * shading(canvas, objects)
    if rng.random() < 0.6:
        pale = np.clip((objects.depth - rng.uniform(0.2, 0.6)) * 3, 0, 1)
        stain *= 1 - rng.uniform(0.2, 0.9) * pale
    if rng.random() < 0.6:  # folds and wrinkles
        stain += rng.uniform(0, 0.2) * np.abs(texture(canvas.shape, rng)) * objects.inside
    nucleated = nuclei_of(canvas, objects, rng.choice([0.1, 0.4, 1.0]), rng.uniform(0.25, 0.7))
    chromatin = 1 + rng.uniform(0, 0.3) * natural(canvas.shape, rng, max(2, radius / 5))
    stain = np.where(nucleated > 0, rng.uniform(0.6, 1.4) * chromatin, stain)
    canvas.mark("nucleus", nucleated > 0)
    if rng.random() < 0.3:  # parasites, platelets, inclusions
        room = objects.inside if rng.random() < 0.6 else ~objects.inside
        for box, apart, _, _ in spots(
            canvas, room, int(rng.integers(5, 60)), radius * 0.15, 0.3, 2
        ):
            stain[box][apart < 1] = rng.uniform(0.5, 1.3)
            canvas.mark("speck", apart < 1, box)
    canvas.light -= np.clip(stain + clouds(canvas, 0.03) + 0.05, 0, 2.5)
    if rng.random() < 0.3:
        debris(canvas, rng.uniform(-1, -0.2), radius)


SCENES: dict[str, Draw] = {"stained": stained, "blood": blood}
