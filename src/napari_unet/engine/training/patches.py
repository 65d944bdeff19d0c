"""Patches of densely labelled images: what each step of a training sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.engine.dataset import LabelledImage, LabelledSet
from napari_unet.engine.training.recipe import Recipe
from napari_unet.model.augment import Patch, sample_patch
from napari_unet.ops.annotations import NOT_ANNOTATED
from napari_unet.ops.errors import InputError
from napari_unet.ops.targets import (
    dense_weights,
    instance_annotations,
    instance_border_weights,
    semantic_annotations,
    semantic_border_weights,
)
from napari_unet.ops.tiling import TileGeometry, halved
from napari_unet.ops.weight_map import class_weights

# Pixels of each class that are remembered as possible middles of patches: enough that none is met
# twice in a while, few enough that a thousand images fit into memory.
_MIDDLES = 4096
# Share of its side by which a patch may stick out of the image.
_OVERHANG = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """An image ready to learn from: (C, Y, X) float32, (Y, X) uint8, (Y, X) float32; or a stack.

    `middles` are pixels to lay patches around, (n, axes): some of all that are annotated first,
    then some of each class.
    """

    image: Tensor
    annotations: Tensor
    weights: Tensor
    middles: tuple[Tensor, ...]
    spacing: tuple[float, ...]


def class_count(labelled_set: LabelledSet, recipe: Recipe) -> int:
    """Return how many channels the network's answer has, background included."""
    if labelled_set.kind == "instances":
        return 3 if recipe.outline != "none" else 2
    return len(labelled_set.class_values)


class DensePatches:
    """Draws randomly deformed patches from a labelled set.

    Half of the patches of a step lie anywhere, the others around a pixel of each class in turn,
    so that a rare class is seen as well. Large images are drawn more often than small ones, by the
    square root of their pixels.

    Parameters
    ----------
    labelled_set
        The images; all are held in memory, normalised, with annotations and weights.
    recipe
        Targets, weights, patch size (less if most images are smaller), batch and augmentation.
    geometry
        What the network demands of its tiles, axis by axis or of all axes alike.
    generator
        Source of all random numbers.

    Raises
    ------
    InputError
        If there is nothing to tell apart, all pixels have one class; or if the recipe is for
        another number of axes.
    """

    def __init__(
        self,
        labelled_set: LabelledSet,
        recipe: Recipe,
        geometry: TileGeometry | Sequence[TileGeometry],
        generator: torch.Generator,
    ) -> None:
        self._recipe, self._generator = recipe, generator
        if isinstance(geometry, TileGeometry):
            geometry = [geometry] * labelled_set.ndim
        self._geometries = tuple(geometry)
        if labelled_set.ndim != recipe.ndim:
            raise InputError(
                f"the recipe {recipe.name} is for {recipe.ndim} dimensions, and the images have "
                f"{labelled_set.ndim}; choose another recipe, or read the files as the other"
            )
        self._inner = _patch_sides(labelled_set, recipe, self._geometries)
        self._lessons = _lessons(labelled_set, recipe, generator)
        areas = torch.tensor([lesson.annotations.numel() for lesson in self._lessons])
        self._chance = areas.double().sqrt()

    @property
    def input_size(self) -> int:
        """Side of the network's input, along rows and columns, in pixels."""
        return self._geometries[-1].input_size(self._inner[-1])

    def halve(self) -> bool:
        """Halve the patches; False if they are as small as can be."""
        smaller = halved(self._geometries, self._inner)
        self._inner = smaller or self._inner
        return smaller is not None

    def draw(self, step: int) -> Patch:
        """Draw the patches of a step; its number decides which classes are looked for."""
        first = step * self._recipe.batch
        patches = [self._draw_one(first + number) for number in range(self._recipe.batch)]
        return Patch.joined(patches)

    def _draw_one(self, number: int) -> Patch:
        lesson = self._lessons[int(torch.multinomial(self._chance, 1, generator=self._generator))]
        axes = list(zip(self._geometries, self._inner, strict=True))
        return sample_patch(
            lesson.image,
            lesson.annotations,
            lesson.weights,
            centre=self._centre(lesson, number),
            input_size=[geometry.input_size(inner) for geometry, inner in axes],
            output_size=[inner + geometry.surplus for geometry, inner in axes],
            config=self._recipe.augment,
            generator=self._generator,
            spacing=lesson.spacing,
        )

    def _centre(self, lesson: _Lesson, number: int) -> list[float]:
        """Choose what the patch shows: half of the patches anything, half a class in turn."""
        everything, *classes = lesson.middles
        pixels = classes[number // 2 % len(classes)] if number % 2 else everything
        chosen = pixels[int(torch.randint(len(pixels), (1,), generator=self._generator))]
        # Not always amid the patch: anywhere in its inner half.
        sides = torch.tensor(self._inner)
        jitter = (torch.rand(len(sides), generator=self._generator) - 0.5) * sides / 2
        axes = zip(chosen + jitter, self._inner, lesson.annotations.shape, strict=True)
        return [_within(float(place), side, length) for place, side, length in axes]


def _within(place: float, side: int, length: int) -> float:
    """Move a patch into the image, where there is something to learn, a little overlap aside.

    Along an axis on which the image is smaller than the patch it lies in the middle.
    """
    half = side * (0.5 - _OVERHANG)
    return min(max(place, min(half, length / 2)), max(length - half, length / 2))


def _patch_sides(
    labelled_set: LabelledSet, recipe: Recipe, geometries: Sequence[TileGeometry]
) -> tuple[int, ...]:
    """Return the inner sides of the patches.

    A patch larger than most images learns from no more pixels, and takes longer.
    """
    shapes = np.array([image.labels.shape for image in labelled_set.images])
    shapes[:, -2:] = shapes[:, -2:].max(axis=1, keepdims=True)
    usual = np.median(shapes, axis=0)
    sides = []
    for geometry, length, size in zip(geometries, usual, labelled_set.spacing, strict=True):
        side = min(round(recipe.patch_size / size), int(length) + geometry.surplus)
        # 388 is 384 and a surplus of 4, as 572 -> 388 in figure 1.
        cells = -(-(side - geometry.surplus) // geometry.stride)
        sides.append(max(cells, 1) * geometry.stride)
    return tuple(sides)


def _lessons(
    labelled_set: LabelledSet, recipe: Recipe, generator: torch.Generator
) -> list[_Lesson]:
    annotations = [_annotations(image, labelled_set, recipe) for image in labelled_set.images]
    pixels = np.sum([np.bincount(a.ravel(), minlength=256) for a in annotations], axis=0)
    pixels[NOT_ANNOTATED] = 0
    if (pixels > 0).sum() < 2:
        raise InputError(
            "all labelled pixels have the same class, so there is nothing to tell apart; "
            "check that the labels belong to the images"
        )
    table = class_weights(pixels, recipe.balance)
    lessons = []
    for item, target in zip(labelled_set.images, annotations, strict=True):
        if labelled_set.kind == "instances":
            border = instance_border_weights(
                item.labels, recipe.w0, recipe.sigma, labelled_set.spacing
            )
        else:
            w0 = recipe.w0 if recipe.class_borders else 0.0
            border = semantic_border_weights(target, w0, recipe.sigma, labelled_set.spacing)
        if not target.any():
            continue  # nothing of it is annotated
        lessons.append(
            _Lesson(
                torch.from_numpy(item.source().normalized),
                torch.from_numpy(target),
                torch.from_numpy(dense_weights(target, border, table)),
                _middles(target, generator),
                item.source().spacing,
            )
        )
    return lessons


def _middles(annotations: NDArray[np.uint8], generator: torch.Generator) -> tuple[Tensor, ...]:
    def some(mask: NDArray[np.bool_]) -> Tensor:
        pixels = np.argwhere(mask)
        chosen = torch.randperm(len(pixels), generator=generator)[:_MIDDLES]
        return torch.from_numpy(pixels[chosen.numpy()])

    labels = np.unique(annotations[annotations != NOT_ANNOTATED])
    everything = some(annotations != NOT_ANNOTATED)
    return everything, *(some(annotations == label) for label in labels)


def _annotations(
    item: LabelledImage, labelled_set: LabelledSet, recipe: Recipe
) -> NDArray[np.uint8]:
    if labelled_set.kind == "instances":
        return instance_annotations(item.labels, recipe.outline, item.valid, labelled_set.spacing)
    return semantic_annotations(item.labels, labelled_set.class_values, item.valid, item.ndim)
