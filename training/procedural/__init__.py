"""Drawn microscope images with exact truth, as different from each other as can be.

A network that has seen nothing but these knows what edges, rims, membranes, grain, haze and noise
look like in any image: fluorescence, phase contrast, DIC, bright field, stained tissue, electron
micrographs. Realism of any one image matters less than that a real one never lies outside of what
is drawn (domain randomisation).

`draw` is all there is: `cells`, `tissue`, `lines`, `grains`, `textures` and `stained` draw scenes
on a `canvas`, `collage` puts two of them together, `camera` takes the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from procedural import camera, cells, grains, lines, stained, textures, tissue
from procedural.canvas import NO_OBJECT, Canvas
from procedural.collage import collage_of
from procedural.noise import Field

_MODULES = (cells, tissue, lines, grains, textures, stained)
_SCENES = {name: scene for module in _MODULES for name, scene in module.SCENES.items()}
_SCENES["collage"] = collage_of(dict(_SCENES))
KINDS: tuple[str, ...] = tuple(_SCENES)
#: Kinds that are alike, by the name of the module that draws them; a collage may have any.
GROUPS: dict[str, tuple[str, ...]] = {
    module.__name__.rpartition(".")[2]: tuple(module.SCENES) for module in _MODULES
} | {"collage": ("collage",)}
# How often scenes are drawn: what users ask about most, and what varies most, comes more often.
_FREQUENCY = {"nuclei": 1.6, "cells": 1.4, "membranes": 1.8, "stained": 1.6, "leaves": 1.5} | {
    "collage": 1.3,
    "smears": 0.5,
    "areas": 0.7,
}
# Drawn in colour unless asked otherwise; the others sometimes.
_COLOURFUL = {"stained": 0.85, "blood": 0.7}
_SELDOM_COLOURFUL = 0.12
_SMALLEST = 64
# An image of which one region covers more than this share is drawn anew, a few times.
_EMPTY = 0.99
_TRIES = 3

__all__ = ["GROUPS", "KINDS", "NO_OBJECT", "Drawing", "draw"]


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A drawn image and all that is known about it.

    Attributes
    ----------
    image
        Shape (Y, X) or (Y, X, 3), float32, 0..1: as the camera saw it.
    clean
        Same shape: without blur, uneven light and noise; what denoising should find.
    regions
        Shape (Y, X), uint8, 1 to K: what each pixel is. A question to a learner groups them.
    names
        Names of the K regions.
    instances
        Shape (Y, X), int32: objects, 0 where none is. Objects that touch have different numbers.
    kind
        Which scene it is, one of `KINDS`.
    """

    image: Field
    clean: Field
    regions: NDArray[np.uint8]
    names: tuple[str, ...]
    instances: NDArray[np.int32]
    kind: str


def draw(
    seed: int, side: int = 288, kind: str | None = None, colour: bool | None = None
) -> Drawing:
    """Draw a scene and take its picture.

    Parameters
    ----------
    seed
        The same seed gives the same drawing.
    side
        Rows and columns, at least 64.
    kind
        One of `KINDS`; any if None.
    colour
        Whether it has three channels; if None, stained tissue mostly has, others seldom.

    Raises
    ------
    ValueError
        If there is no such kind or the side is too small.
    """
    if side < _SMALLEST or (kind is not None and kind not in _SCENES):
        raise ValueError(f"no drawing of {side} pixels and kind {kind!r}; kinds: {KINDS}")
    if kind is None:
        weights = np.array([_FREQUENCY.get(name, 1.0) for name in KINDS])
        chosen = np.random.default_rng((seed, side)).choice(KINDS, p=weights / weights.sum())
        kind = str(chosen)
    rng = np.random.default_rng((seed, side, KINDS.index(kind)))
    by_chance = bool(rng.random() < _COLOURFUL.get(kind, _SELDOM_COLOURFUL))
    for _ in range(_TRIES):  # a scene may happen to be empty, but few should be
        canvas = Canvas(side, rng)
        _SCENES[kind](canvas)
        regions, names, instances = canvas.finished()
        if np.bincount(regions.ravel()).max() < _EMPTY * regions.size:
            break
    light = camera.scaled(canvas.light)
    if by_chance if colour is None else colour:
        light = camera.coloured(light, regions, rng, absorbing=kind in _COLOURFUL)
    image, clean = camera.photograph(light, rng)
    return Drawing(image, clean, regions, names, instances, kind)
