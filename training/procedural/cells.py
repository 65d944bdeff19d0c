"""Scenes of single cells: nuclei, cells in fluorescence, and cells seen by transmitted light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from procedural.canvas import Canvas, clouds, grain
from procedural.noise import Field, Shape, fractal, log_uniform, natural, smooth, texture
from procedural.parts import debris, edges, ghosts, nuclei_of, seams, shading, spots
from procedural.shapes import STYLES, Objects, grow

Draw = Callable[[Canvas], None]


def nuclei(canvas: Canvas) -> None:
    """Nuclei or other blobs, from lonely to tightly packed, brighter than the ground."""
    rng = canvas.rng
    radius = log_uniform(rng, 3.5, 60)
    style = str(rng.choice(["round", "oval", "oval", "bent", "lobed", "angular", "spindle"]))
    packed = rng.random() < 0.45
    cover = rng.uniform(0.4, 0.9) if packed else log_uniform(rng, 0.05, 0.5)
    alone = rng.random() < 0.4  # nothing but nuclei on black
    objects = grow(
        canvas.shape, rng, radius, cover, rng.uniform(0.6, 0.85) if packed else 1.0, style
    )
    canvas.mark("nucleus", objects.inside)
    canvas.add_instances(objects.labels)
    light = shading(canvas, objects)
    if rng.random() < 0.3:  # a dim minority beside bright ones
        light *= np.where(objects.random(rng, 1) > 1.5, rng.uniform(0.15, 0.5), 1)
    touching = seams(canvas, objects)
    if rng.random() < 0.5:
        dark = ndimage.gaussian_filter(touching.astype(np.float32), max(0.6, radius / 15))
        light *= 1 - rng.uniform(0.1, 0.9) * np.clip(dark * radius / 6, 0, 1)
    if rng.random() < 0.4 and radius > 8:
        _inner_spots(canvas, objects, light)
    canvas.light += light
    if alone:
        canvas.light *= objects.random(rng, rng.uniform(0, 0.6)) + ~objects.inside
        return
    canvas.light += clouds(canvas, rng.uniform(0, 0.08))
    if rng.random() < 0.35:
        canvas.light += ghosts(canvas, objects) * ~objects.inside
    if rng.random() < 0.35:  # the faint bodies of the cells around
        haze = ndimage.gaussian_filter(objects.inside.astype(np.float32), radius * 0.8, truncate=2)
        canvas.light += rng.uniform(0.05, 0.35) * haze * ~objects.inside
    if rng.random() < 0.3:
        debris(canvas, 1, radius)


def _inner_spots(canvas: Canvas, objects: Objects, light: Field) -> None:
    """Bright or dark specks within objects: nucleoli, chromocentres, foci."""
    rng = canvas.rng
    sign = rng.choice([-1, 1])
    size = max(1.0, objects.radius * rng.uniform(0.06, 0.2))
    deep = objects.depth > 0.25
    count = min(int(objects.labels.max() * rng.uniform(1, 6)), 120)
    named = rng.random() < 0.7
    for box, distance, _, _ in spots(canvas, deep, count, size, 0.3, 1.5):
        drawn = (distance < 1) & objects.inside[box]
        light[box][drawn] *= 1 + sign * rng.uniform(0.3, 0.7)
        if named:
            canvas.mark("nucleolus", drawn, box)


def cells(canvas: Canvas) -> None:
    """Cells in fluorescence: cytoplasm, nucleus, granules, seams where they touch."""
    rng = canvas.rng
    objects, height = _specimen(canvas)
    light = shading(canvas, objects)
    if rng.random() < 0.5:
        light += rng.uniform(0.2, 1) * height * objects.inside
    nucleus = canvas.where("nucleus")
    factor = rng.choice([rng.uniform(0.1, 0.7), rng.uniform(1.3, 3)])
    light = np.where(nucleus, light * factor * (1 + grain(canvas, 0.1)), light)
    light *= np.where(canvas.where("other cell"), rng.choice([0.3, 0.5, 2, 3]), 1)
    for name in ("granule", "vacuole", "nucleolus"):
        part = canvas.where(name)
        level = rng.uniform(1.4, 4) if name == "granule" else rng.uniform(0, 0.5)
        light = np.where(part, level * light, light)
    if rng.random() < 0.6:
        rim = edges(objects.labels, max(0.8, objects.radius * rng.uniform(0.02, 0.1)))
        light += rng.uniform(-0.8, 1.5) * rim * objects.inside * light.mean()
    canvas.light += light + clouds(canvas, rng.uniform(0, 0.1))
    if rng.random() < 0.3:
        canvas.light += ghosts(canvas, objects)
    if rng.random() < 0.3:
        debris(canvas, float(light.max()) / 2, objects.radius)


def _specimen(canvas: Canvas) -> tuple[Objects, Field]:
    """Draw the regions of cells with all that is in them; return the cells and their thickness."""
    rng = canvas.rng
    radius = log_uniform(rng, 9, 100)
    confluent = rng.random() < 0.4
    cover = rng.uniform(0.7, 1.2) if confluent else log_uniform(rng, 0.12, 0.6)
    closest = rng.uniform(0.5, 0.75) if confluent else rng.uniform(0.7, 1.1)
    objects = grow(canvas.shape, rng, radius, cover, closest, str(rng.choice(STYLES)))
    canvas.mark("cytoplasm", objects.inside)
    canvas.add_instances(objects.labels)
    flat = log_uniform(rng, 1, 5)
    height = (1 - (1 - objects.depth) ** flat) * objects.random(rng, 0.3)
    height *= 1 + rng.uniform(0, 0.3) * natural(canvas.shape, rng, max(2, radius / 6))
    height *= objects.inside
    if rng.random() < 0.25 and objects.labels.max() > 3:  # two types of cell
        other = (objects.random(rng, 1) > 1) & objects.inside
        canvas.mark("other cell", other)
        height *= np.where(other, rng.choice([0.3, 0.5, 2, 3]), 1)
        height += rng.uniform(0, 0.3) * other * texture(canvas.shape, rng, max(2, radius / 6))
    if rng.random() < 0.75 and radius > 10:
        _fill_nuclei(canvas, objects, height)
    if rng.random() < 0.5:
        _fill_granules(
            canvas, objects, height, "granule", max(1.0, radius * rng.uniform(0.02, 0.07))
        )
    if rng.random() < 0.2 and radius > 15:
        _fill_granules(canvas, objects, height, "vacuole", radius * rng.uniform(0.1, 0.22))
    return objects, height


def _fill_nuclei(canvas: Canvas, objects: Objects, height: Field) -> None:
    rng = canvas.rng
    size = rng.uniform(0.3, 0.6)
    found = nuclei_of(canvas, objects, rng.uniform(0.8, 1), size)
    canvas.mark("nucleus", found > 0)
    bulge = edges(found, max(0.8, objects.radius * rng.uniform(0.02, 0.06)))
    if rng.random() < 0.6:  # smoother than the cytoplasm
        height[found > 0] = ndimage.gaussian_filter(height, objects.radius * 0.08 + 1)[found > 0]
    height += (rng.uniform(-0.2, 0.4) + rng.uniform(0, 0.5) * bulge) * (found > 0)
    if objects.radius * size > 7 and rng.random() < 0.6:
        room = (found > 0) & (bulge < 0.5)
        count = min(int(objects.labels.max() * rng.uniform(1, 4)), 80)
        bump = rng.uniform(0.2, 0.7)
        for box, distance, _, _ in spots(canvas, room, count, objects.radius * size * 0.18):
            drawn = (distance < 1) & (found[box] > 0)
            height[box][drawn] += bump
            canvas.mark("nucleolus", drawn, box)


def _fill_granules(canvas: Canvas, objects: Objects, height: Field, name: str, size: float) -> None:
    rng = canvas.rng
    room = canvas.where("cytoplasm", "other cell")
    if rng.random() < 0.5:  # gathered around somewhere
        room &= fractal(canvas.shape, objects.radius, rng, 2) > 0.3
    bump = rng.uniform(0.2, 0.9) * rng.choice([-1, 1, 1])
    for box, distance, _, _ in spots(canvas, room, int(rng.integers(10, 140)), size, 0.35, 1.5):
        drawn = (distance < 1) & (objects.labels[box] > 0)
        height[box][drawn] += bump
        canvas.mark(name, drawn, box)


def phase(canvas: Canvas) -> None:
    """Phase contrast: thick parts dark or bright, with halos around."""
    rng = canvas.rng
    objects, height = _specimen(canvas)
    halo = log_uniform(rng, 1.8, max(6, min(objects.radius, 40)))
    gain = rng.uniform(0.6, 1) * np.exp(
        -0.5 * (rng.uniform(0.2, 0.8) * _frequency(canvas.shape)) ** 2
    )
    slow = np.exp(-0.5 * (halo * _frequency(canvas.shape)) ** 2)
    _through(canvas, objects, height, gain - rng.uniform(0.6, 1) * slow)


def dic(canvas: Canvas) -> None:
    """Differential interference contrast: relief, lit from one side."""
    rng = canvas.rng
    objects, height = _specimen(canvas)
    angle, shear = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 3)
    padded = _padded(canvas.shape)
    y = fft.fftfreq(padded[0]).astype(np.float32)[:, None]
    x = fft.rfftfreq(padded[1]).astype(np.float32)[None]
    way = y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle))
    soft = np.exp(-0.5 * (rng.uniform(0.5, 1.5) * _frequency(canvas.shape)) ** 2)
    relief = 1j * np.sin(np.float32(2 * np.pi * shear) * way) * soft
    _through(canvas, objects, height, relief + rng.uniform(0, 0.08) * soft)


def brightfield(canvas: Canvas) -> None:
    """Transparent cells a little out of focus: fringed outlines, little contrast inside."""
    rng = canvas.rng
    objects, height = _specimen(canvas)
    # Contrast transfer of a thin object out of focus: sine for phase, cosine for absorption.
    phase_shift = np.pi * log_uniform(rng, 1, 60) * (_frequency(canvas.shape) / 2 / np.pi) ** 2
    envelope = np.exp(-0.5 * (rng.uniform(0.5, 1.8) * _frequency(canvas.shape)) ** 2)
    absorbed = rng.uniform(0, 0.5) * rng.choice([0, 1])
    sign = rng.choice([-1, 1])
    transfer = (sign * np.sin(phase_shift) - absorbed * np.cos(phase_shift)) * envelope
    _through(canvas, objects, height, transfer)


def _padded(shape: Shape) -> Shape:
    return shape[0] + 64, shape[1] + 64


def _frequency(shape: Shape) -> Field:
    """Angular frequency, radians per pixel, of the padded plane."""
    rows, columns = _padded(shape)
    y, x = fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None]
    return np.asarray(2 * np.pi * np.hypot(y, x), np.float32)


def _through(
    canvas: Canvas, objects: Objects, height: Field, transfer: NDArray[np.inexact]
) -> None:
    """Take the picture of a thickness by an optical transfer function."""
    rng = canvas.rng
    ground = rng.choice([0, rng.uniform(0, 0.05)]) * texture(canvas.shape, rng)
    thick = np.pad(height + ground, 32, mode="reflect")
    seen = fft.irfft2(fft.rfft2(thick) * transfer.astype(np.complex64), thick.shape)
    canvas.light += seen[32:-32, 32:-32].astype(np.float32)
    strength = float(canvas.light.std())
    if rng.random() < 0.3:
        canvas.light += strength * rng.uniform(-1.5, 1.5) * objects.inside
    canvas.light += clouds(canvas, strength * rng.uniform(0, 0.3))
    if rng.random() < 0.4:
        debris(canvas, strength * rng.uniform(-6, 6), objects.radius / 2)


def areas(canvas: Canvas) -> None:
    """Draw a layer of cells with gaps, too small or faint to see one by one: wounds."""
    rng = canvas.rng
    gap = fractal(canvas.shape, log_uniform(rng, 25, 160), rng, 4, 0.45)
    if rng.random() < 0.4:
        ramp = np.linspace(-2, 2, canvas.shape[0], dtype=np.float32)[:, None]
        gap = np.abs(ramp + rng.uniform(-1, 1)) - rng.uniform(0.3, 1) + 0.25 * gap
        gap = gap.T if rng.random() < 0.5 else gap
    inside = gap > rng.normal(0, 0.4)
    canvas.mark("layer", inside)
    scale = log_uniform(rng, 2, 12)
    layer = texture(canvas.shape, rng, scale) * (1 + 0.3 * smooth(canvas.shape, 40, rng))
    canvas.light += np.where(inside, rng.uniform(-1, 2) + layer, grain(canvas, rng.uniform(0, 0.5)))
    canvas.light += clouds(canvas, rng.uniform(0, 0.4))
    if rng.random() < 0.3:
        debris(canvas, rng.uniform(-2, 3), 6)


SCENES: dict[str, Draw] = {
    "nuclei": nuclei,
    "cells": cells,
    "phase": phase,
    "dic": dic,
    "brightfield": brightfield,
    "areas": areas,
}
