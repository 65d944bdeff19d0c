"""Patches of densely labelled images: what each step of a training sees."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.engine.dataset import LabelledImage, LabelledSet
from napari_unet.engine.image import SourceImage
from napari_unet.engine.recipe import Recipe
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
from napari_unet.ops.tiling import TileGeometry
from napari_unet.ops.weight_map import class_weights

# How often a pixel is drawn before a class that is hard to hit counts as not there.
_DRAWS = 64


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    """An image ready to learn from: (C, Y, X) float32, (Y, X) uint8, (Y, X) float32."""

    image: Tensor
    annotations: Tensor
    weights: Tensor
    classes: tuple[int, ...]


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
        Targets, weights, patch size, batch and augmentation.
    geometry
        What the network demands of its tiles.
    generator
        Source of all random numbers.

    Raises
    ------
    InputError
        If there is nothing to tell apart: all pixels have one class.
    """

    def __init__(
        self,
        labelled_set: LabelledSet,
        recipe: Recipe,
        geometry: TileGeometry,
        generator: torch.Generator,
    ) -> None:
        self._recipe, self._geometry, self._generator = recipe, geometry, generator
        self._inner = -(-recipe.patch_size // geometry.stride) * geometry.stride
        self._lessons = _lessons(labelled_set, recipe)
        areas = torch.tensor([lesson.annotations.numel() for lesson in self._lessons])
        self._chance = areas.double().sqrt()
        self._drawn = 0

    @property
    def input_size(self) -> int:
        """Side of the network's input, in pixels."""
        return self._geometry.input_size(self._inner)

    def halve(self) -> bool:
        """Halve the patches; False if they are as small as can be."""
        stride = self._geometry.stride
        smaller = self._inner // 2 // stride * stride
        if smaller < stride:
            return False
        self._inner = smaller
        return True

    def draw(self, step: int) -> Patch:
        """Draw the patches of a step; its number decides which classes are looked for."""
        first = step * self._recipe.batch
        patches = [self._draw_one(first + number) for number in range(self._recipe.batch)]
        return Patch(*(torch.cat(parts) for parts in zip(*map(astuple, patches), strict=True)))

    def _draw_one(self, number: int) -> Patch:
        lesson = self._lessons[int(torch.multinomial(self._chance, 1, generator=self._generator))]
        row, column = self._centre(lesson, number)
        return sample_patch(
            lesson.image,
            lesson.annotations,
            lesson.weights,
            centre=(row, column),
            input_size=self.input_size,
            output_size=self._inner + self._geometry.surplus,
            config=self._recipe.augment,
            generator=self._generator,
        )

    def _centre(self, lesson: _Lesson, number: int) -> tuple[float, float]:
        """Choose what the patch is laid around, at a random place within it."""
        shape = lesson.annotations.shape
        wanted = lesson.classes[number // 2 % len(lesson.classes)] if number % 2 else None
        rows, columns = (
            torch.randint(length, (_DRAWS,), generator=self._generator) for length in shape
        )
        labels = lesson.annotations[rows, columns]
        fits = labels != NOT_ANNOTATED if wanted is None else labels == wanted
        found = int(torch.argmax(fits.to(torch.uint8)))  # the first; any if there is none
        jitter = torch.rand(2, generator=self._generator) - 0.5
        if wanted is None:
            jitter *= 0
        reach = torch.tensor([min(self._inner, length) / 2 for length in shape])
        row, column = torch.stack([rows[found], columns[found]]) + jitter * reach
        return float(row), float(column)


def _lessons(labelled_set: LabelledSet, recipe: Recipe) -> list[_Lesson]:
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
            border = instance_border_weights(item.labels, recipe.w0, recipe.sigma)
        else:
            border = semantic_border_weights(target, recipe.w0, recipe.sigma)
        lessons.append(
            _Lesson(
                torch.from_numpy(SourceImage(item.image).normalized),
                torch.from_numpy(target),
                torch.from_numpy(dense_weights(target, border, table)),
                tuple(int(label) for label in np.unique(target) if label != NOT_ANNOTATED),
            )
        )
    return [lesson for lesson in lessons if lesson.classes]


def _annotations(
    item: LabelledImage, labelled_set: LabelledSet, recipe: Recipe
) -> NDArray[np.uint8]:
    if labelled_set.kind == "instances":
        return instance_annotations(item.labels, recipe.outline, item.valid)
    return semantic_annotations(item.labels, labelled_set.class_values, item.valid)
