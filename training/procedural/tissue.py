"""Scenes of sectioned tissue: membranes in electron micrographs, epithelia, myelin, organelles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from procedural.canvas import Canvas, clouds, grain
from procedural.lines import rasterise, walk
from procedural.noise import Field, fractal, log_uniform, smooth, spectral, stripes, texture
from procedural.parts import edges, nuclei_of, spots
from procedural.shapes import Objects, grow, mosaic, pieces, to_border

Draw = Callable[[Canvas], None]
Labels = NDArray[np.int32]


def membranes(canvas: Canvas) -> None:
    """Neuropil: winding profiles of all sizes, thin dark membranes, mitochondria, vesicles."""
    rng = canvas.rng
    size = log_uniform(rng, 14, 90)
    labels = mosaic(canvas.shape, rng, size, rng.choice([0.0, rng.uniform(0.2, 0.7)]))
    width = log_uniform(rng, 1, min(8, size / 4))
    distance = to_border(labels)
    local = width * np.exp(0.2 * smooth(canvas.shape, size / 2, rng))
    cut = smooth(canvas.shape, size * 0.7, rng) > rng.uniform(1.0, 2.5)
    slanted = np.where(cut, local * rng.uniform(2, 4), local)  # cut at a slant: wide and pale
    wall = distance < np.maximum(local, 1) / 2 + 0.3
    canvas.names[0] = "cytoplasm"
    canvas.add_instances(pieces(np.where(wall, 0, labels).astype(np.int32), 8))
    levels = 1 + rng.uniform(0, 0.12) * rng.standard_normal(labels.max() + 1)
    levels[rng.random(len(levels)) < rng.uniform(0, 0.15)] -= rng.uniform(0.1, 0.4)
    light = levels.astype(np.float32)[labels] + _cytoplasm(canvas)
    if rng.random() < 0.75:
        _mitochondria(canvas, light, labels, distance, size)
    if rng.random() < 0.6:
        _vesicles(canvas, light, distance)
    if rng.random() < 0.5:
        _reticulum(canvas, light, distance)
    if rng.random() < 0.15:
        _big_nucleus(canvas, light, distance)
        wall &= distance < 1e3
    canvas.mark("membrane", wall)
    if rng.random() < 0.4:  # dark smears at membranes, as at synapses
        patches = np.clip(smooth(canvas.shape, 12, rng) - 1.2, 0, 1)
        light -= 0.6 * patches * np.exp(-distance / rng.uniform(3, 8))
    fade = np.clip(1 + rng.uniform(0, 0.5) * smooth(canvas.shape, size / 2, rng), 0.15, 1.3)
    fade = np.where(cut, fade * 0.5, fade)
    stain = np.clip(1.2 - distance / np.maximum(slanted, 1) * 1.2, 0, 1) * fade
    if width > 4 and rng.random() < 0.5:  # two leaves with a pale gap
        stain *= 1 - 0.8 * np.exp(-((distance / (0.2 * width)) ** 2))
    canvas.light += light - rng.uniform(0.5, 1.1) * np.minimum(stain, 1)
    canvas.light += clouds(canvas, rng.uniform(0, 0.1))


def _cytoplasm(canvas: Canvas) -> Field:
    """Grainy ground of electron micrographs: specks, clouds, short threads."""
    rng = canvas.rng
    fine = spectral(canvas.shape, rng, log_uniform(rng, 2.5, 8), rng.uniform(0.5, 1.2))
    coarse = fractal(canvas.shape, log_uniform(rng, 8, 40), rng, 3)
    ground = rng.uniform(0.02, 0.16) * fine + rng.uniform(0, 0.08) * coarse
    return np.asarray(ground, np.float32)


def _mitochondria(
    canvas: Canvas, light: Field, cells: Labels, distance: Field, size: float
) -> None:
    """Oval bodies with a dark skin and folds inside; each stays within its cell."""
    rng = canvas.rng
    radius = float(np.clip(size * rng.uniform(0.12, 0.4), 3.5, 26))
    room = (distance > radius * 0.8) & (cells > 0)
    level, skin = rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.5)
    folds = rng.uniform(0.05, 0.3)
    lamellae = rng.random() < 0.6
    wavelength = float(np.clip(radius * rng.uniform(0.25, 0.5), 2.5, 8))
    ragged = 0.1 * smooth(canvas.shape, radius, rng)
    clouds_inside = texture(canvas.shape, rng, wavelength)
    for box, apart, along, _ in spots(canvas, room, int(rng.integers(1, 16)), radius, 0.3, 3):
        apart = apart + ragged[box]
        home = cells[box].flat[int(np.argmin(apart))]
        # Pressed flat where the cell ends.
        apart = np.maximum(apart, 1.15 - (distance[box] - 1.5) / radius * 1.2)
        body = (apart < 1) & (cells[box] == home)
        if lamellae:
            bent = along + ragged[box] * 1.5
            inner = np.cos(bent * np.float32(2 * np.pi * radius / wavelength))
        else:
            inner = clouds_inside[box]
        drawn = level + folds * inner
        drawn = np.where(apart > 1 - max(1.2 / radius, 0.12), skin, drawn)
        light[box][body] = drawn[body]
        canvas.mark("mitochondrion", body, box)


def _vesicles(canvas: Canvas, light: Field, distance: Field) -> None:
    """Small rings or dark dots, gathered here and there."""
    rng = canvas.rng
    radius = log_uniform(rng, 1.5, 5)
    room = (distance > radius) & (canvas.regions == 1)
    room &= smooth(canvas.shape, 25, rng) > rng.uniform(-0.5, 1)
    core, skin = rng.choice([1.1, 0.9, 0.3]), rng.uniform(0.2, 0.6)
    for box, apart, _, _ in spots(canvas, room, int(rng.integers(10, 120)), radius, 0.15, 1.3):
        body = (apart < 1) & (canvas.regions[box] == 1)
        light[box][body] = np.where(apart > 0.55, skin, core)[body]
        canvas.mark("vesicle", body, box)


def _reticulum(canvas: Canvas, light: Field, distance: Field) -> None:
    """Short membranes within cells, as dark as those around them: tubes, sacs, folds."""
    rng = canvas.rng
    side, thick = canvas.shape[0], rng.uniform(0.7, 1.6)
    paths = [
        walk(rng, rng.uniform(0, side, 2), rng.uniform(0, 7), rng.uniform(8, 45), 0.9, (thick,) * 2)
        for _ in range(rng.integers(4, 60))
    ]
    drawn = rasterise(canvas.shape, paths)
    free = (distance > 4) & (canvas.regions == 1)
    light -= rng.uniform(0.2, 0.8) * drawn.profile(1.5) * free
    canvas.mark("reticulum", drawn.inside & free)


def _big_nucleus(canvas: Canvas, light: Field, distance: Field) -> None:
    """One nucleus, larger than the other profiles, that pushes their membranes away."""
    rng = canvas.rng
    radius = rng.uniform(35, 100)
    objects = grow(canvas.shape, rng, radius, 0.1, 1.2, "oval")
    body = objects.inside
    chromatin = fractal(canvas.shape, rng.uniform(8, 25), rng, 4) > rng.uniform(0, 0.8)
    light[body] = np.where(chromatin, rng.uniform(0.4, 0.8), rng.uniform(0.8, 1.1))[body]
    light -= 0.6 * edges(objects.labels, rng.uniform(1, 2.5))
    canvas.mark("nucleus", body)
    distance[body] = 2e3


def epithelium(canvas: Canvas) -> None:
    """Bright outlines of cells in a sheet, here strong and there gone; nuclei in some scenes."""
    rng = canvas.rng
    size = log_uniform(rng, 11, 110)
    labels = mosaic(canvas.shape, rng, size, 0.0 if rng.random() < 0.7 else 0.3)
    if rng.random() < 0.35:  # the sheet ends somewhere
        there = fractal(canvas.shape, rng.uniform(60, 200), rng, 2) > rng.uniform(-1.2, 0)
        kept = np.bincount(labels.ravel(), there.ravel()) > 0.5 * np.bincount(labels.ravel())
        labels = np.where(kept[labels], labels, 0).astype(np.int32)
    width = log_uniform(rng, 1, min(8, size / 5))
    distance = to_border(labels)
    wall = distance < width / 2 + 0.3
    wall &= ndimage.maximum_filter(labels, 3) > 0
    cells = pieces(np.where(wall, 0, labels).astype(np.int32), 5)
    sheet = Objects(cells, np.minimum(distance / size * 2, 1), size / 2)
    canvas.mark("cytoplasm", cells > 0)
    canvas.add_instances(cells)
    light = sheet.random(rng, rng.uniform(0, 0.8), rng.uniform(0, 0.4))
    light *= 1 + grain(canvas, rng.uniform(0, 0.3))
    if rng.random() < 0.4 and size > 14:
        nucleus = nuclei_of(canvas, sheet, rng.uniform(0.5, 1), rng.uniform(0.35, 0.65)) > 0
        dim = float(light[cells > 0].mean()) < 0.15 if (cells > 0).any() else True
        level = 0.0 if not dim and rng.random() < 0.5 else rng.uniform(0.4, 1.3)
        light = np.where(nucleus, level * (1 + grain(canvas, 0.15)), light)
        canvas.mark("nucleus", nucleus)
    canvas.mark("membrane", wall)
    strength = np.clip(1 + rng.uniform(0, 0.6) * smooth(canvas.shape, size / 2, rng), 0.08, 2.5)
    profile = np.exp(-((distance / (width / 2 + 0.5)) ** 2)) * (
        ndimage.maximum_filter(labels, 3) > 0
    )
    if rng.random() < 0.3:  # a wall with a pale middle
        profile *= 1 - 0.7 * np.exp(-((distance / (0.25 * width)) ** 2)) * (width > 3)
    if rng.random() < 0.3:  # beads
        strength = strength * np.clip(1 + 0.7 * smooth(canvas.shape, 2 * width, rng), 0, 3)
    canvas.light += light + strength * profile + clouds(canvas, rng.uniform(0, 0.1))
    if rng.random() < 0.3:  # specks of the same brightness
        for box, apart, _, _ in spots(canvas, cells > 0, int(rng.integers(5, 60)), width, 0.4):
            speck = (apart < 1) & (cells[box] > 0)
            canvas.light[box][speck] += rng.uniform(0.3, 1.2)
            canvas.mark("granule", speck, box)


def myelin(canvas: Canvas) -> None:
    """Rings of many sizes and thicknesses around axons, in a ground of small profiles."""
    rng = canvas.rng
    radius = log_uniform(rng, 7, 60)
    objects = grow(
        canvas.shape,
        rng,
        radius,
        rng.uniform(0.3, 0.9),
        rng.uniform(0.75, 1),
        str(rng.choice(["round", "oval", "oval", "bent", "angular"])),
    )
    canvas.names[0] = "matrix"
    canvas.add_instances(objects.labels)
    ratio = np.clip(rng.normal(rng.uniform(0.45, 0.8), 0.1, objects.labels.max() + 1), 0.3, 0.92)
    wobble = 0.05 * smooth(canvas.shape, radius / 2, rng)
    relative = 1 - objects.depth + wobble
    inner = objects.each(ratio)
    axon = objects.inside & (relative < inner)
    canvas.mark("myelin", objects.inside)
    canvas.mark("axon", axon)
    light = rng.uniform(0.3, 0.7) + _cytoplasm(canvas) * rng.uniform(0.5, 2)
    if rng.random() < 0.6:  # small bare profiles in the ground
        small = to_border(mosaic(canvas.shape, rng, max(8, radius * 0.5), 0.3))
        light += rng.uniform(-0.4, 0.5) * np.exp(-((small / rng.uniform(0.8, 2)) ** 2))
    ring = 1 + grain(canvas, rng.uniform(0, 0.12)) + 0.1 * objects.random(rng, 0.5)
    if rng.random() < 0.5:  # lamellae
        ring += rng.uniform(0, 0.3) * np.cos(relative * radius * 2 * np.pi / rng.uniform(2.5, 6))
    if rng.random() < 0.3:  # a gap between sheath and axon
        ring -= 0.8 * np.exp(-(((relative - inner) * radius / rng.uniform(1, 3)) ** 2))
    inside = rng.uniform(-0.1, 0.7) + 0.5 * _cytoplasm(canvas) + 0.1 * objects.random(rng, 0.5)
    canvas.light = np.where(axon, inside, np.where(objects.inside, ring, light)).astype(np.float32)
    if rng.random() < 0.5 and radius > 12:
        axons = np.where(axon, objects.labels, 0).astype(np.int32)
        _mitochondria(canvas, canvas.light, axons, to_border(axons), radius * 0.6)
    canvas.light += clouds(canvas, rng.uniform(0, 0.15))


def organelles(canvas: Canvas) -> None:
    """Fill one or a few cells: striped or smooth bodies, droplets, vacuoles, grains."""
    rng = canvas.rng
    canvas.names[0] = "matrix"
    light = 1 + _cytoplasm(canvas) * rng.uniform(0.5, 2)
    if rng.random() < 0.6:
        lines = to_border(mosaic(canvas.shape, rng, rng.uniform(90, 220), 0.2))
        thick = rng.uniform(1, 5)
        wall = lines < thick
        light = np.where(wall, rng.uniform(0, 1.3), light)
        canvas.mark("membrane", wall)
    if rng.random() < 0.4:  # a vacuole takes much of the cell
        hole = fractal(canvas.shape, rng.uniform(60, 140), rng, 3, 0.35) > rng.uniform(0, 0.8)
        light = np.where(hole, rng.uniform(0.6, 1.6) + grain(canvas, 0.03), light)
        canvas.mark("lumen", hole)
    for name in rng.permutation(["body", "droplet", "grain"])[: rng.integers(1, 4)]:
        _bodies(canvas, light, str(name))
    canvas.light += light + clouds(canvas, rng.uniform(0, 0.15))


def _bodies(canvas: Canvas, light: Field, name: str) -> None:
    """One type of organelle: all of one texture, skin and level."""
    rng = canvas.rng
    radius = log_uniform(rng, 4, 12) if name == "grain" else log_uniform(rng, 7, 45)
    style = "round" if name == "droplet" else str(rng.choice(["oval", "bent", "spindle", "lobed"]))
    objects = grow(canvas.shape, rng, radius, rng.uniform(0.08, 0.4), rng.uniform(0.7, 1), style)
    inside = objects.inside
    level = rng.uniform(0, 1.8)
    inner = np.full(canvas.shape, level, np.float32) * (1 + 0.1 * (objects.random(rng, 0.5) - 1))
    if name == "body":
        wave = stripes(canvas.shape, log_uniform(rng, 2.5, 8), rng.uniform(0, np.pi), rng)
        other = texture(canvas.shape, rng, max(2, radius / 5))
        inner += rng.uniform(0.05, 0.4) * (wave if rng.random() < 0.6 else other)
        if rng.random() < 0.4:  # pale grains within
            pale = (fractal(canvas.shape, radius, rng, 2) > 1) & (objects.depth > 0.3)
            inner = np.where(pale, level + rng.uniform(0.3, 0.8), inner)
    inner += rng.uniform(-0.7, 0.7) * edges(objects.labels, log_uniform(rng, 0.8, 2.5))
    light[inside] = inner[inside]
    canvas.mark(name, inside)
    canvas.instances[inside] = 0
    canvas.add_instances(objects.labels)


SCENES: dict[str, Draw] = {
    "membranes": membranes,
    "epithelium": epithelium,
    "myelin": myelin,
    "organelles": organelles,
}
