"""Patches to learn from, drawn around strokes: every class in turn, and where it is wrong.

Strokes are sparse, so what is not annotated is left out of the loss, and patches are drawn around
what is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.finetune_request import FinetuneRequest
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.trainer import PLACE, Trainer
from napari_unet.model.augment import Patch, sample_patch, scaled_down
from napari_unet.model.config import SECOND_LOOK_SCALE
from napari_unet.ops.annotations import BACKGROUND, check_annotations
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box, halved
from napari_unet.ops.weight_map import annotation_weights


class _Lesson:
    """One image to learn from: labels that are not held out, and their weights."""

    def __init__(
        self,
        image: SourceImage,
        learned: NDArray[np.uint8],
        trainer: Trainer,
        borders: NDArray[np.bool_] | None = None,
    ) -> None:
        config = trainer.config
        weights = annotation_weights(
            learned, config.w0, config.sigma, balance=config.balance, spacing=image.spacing
        )
        if borders is not None:
            weights[borders & (learned == BACKGROUND)] += config.w0
        self.pixels = {
            int(label): np.argwhere(learned == label) for label in np.unique(learned) if label
        }
        self.errors = {
            label: ErrorMap(pixels, trainer.patch_losses_on(image, label))
            for label, pixels in self.pixels.items()
        }
        self.image = torch.from_numpy(image.normalized)
        self.smaller = scaled_down(self.image) if trainer.model.config.second_look else None
        self.annotations = torch.from_numpy(learned)
        self.weights = torch.from_numpy(weights)
        self.spacing = image.spacing


class ErrorMap:
    """Where the annotated pixels of a label are answered worst, place by place.

    A place is a square of pixels. A pixel is drawn the more often, the larger the loss of the
    patches around its place was of late.

    Parameters
    ----------
    pixels
        Shape (N, 2), rows and columns of the pixels, or (N, 3) with planes before them.
    losses
        What is known of all places of the image, see `Trainer.patch_losses_on`; written to.
    """

    def __init__(self, pixels: NDArray[np.intp], losses: NDArray[np.float64]) -> None:
        places = np.ravel_multi_index(tuple(pixels.T // PLACE), losses.shape)
        self._pixels = np.argsort(places, kind="stable")  # those of a place beside each other
        self._places, self._counts = np.unique(places, return_counts=True)
        self._first = np.cumsum(self._counts) - self._counts
        self._losses = losses.reshape(-1)

    def remember(self, place: int, loss: float) -> None:
        """Take in the loss of a patch around a place."""
        number = self._places[place]
        before = self._losses[number]
        self._losses[number] = loss if np.isnan(before) else (before + loss) / 2

    def draw(self, share: float) -> tuple[int, int]:
        """Return a pixel and its place, for a random number of at least 0 and below 1.

        Half of the probability is the same for all, so that none is forgotten; places that were
        not looked at yet count as the average.
        """
        loss = self._losses[self._places]
        known = loss[~np.isnan(loss)]
        average = float(known.mean()) if len(known) else 0.0
        loss = np.where(np.isnan(loss), average, loss)
        relative = loss / average if average > 0 else np.ones_like(loss)
        odds = np.cumsum((1 + relative) * self._counts)
        wanted = share * odds[-1]
        place = min(int(np.searchsorted(odds, wanted, side="right")), len(odds) - 1)
        within = (wanted - odds[place]) / (1 + relative[place]) + self._counts[place]
        number = min(max(int(within), 0), int(self._counts[place]) - 1)
        return int(self._pixels[self._first[place] + number]), place


class StrokePatches:
    """Draws patches around annotated pixels, every class as often as every other.

    Of the images that have strokes of a class, the one at hand is taken as often as all others
    together. Of the pixels of a class on an image, those that were answered badly are taken more
    often.
    """

    def __init__(self, trainer: Trainer, request: FinetuneRequest) -> None:
        model, config = trainer.model, trainer.config
        classes = model.config.classes
        annotations = check_annotations(
            request.annotations, request.image.shape, classes, alone=not request.others
        )
        self._painted = {request.image: annotations}
        self._painted |= {each.image: _checked(each, classes) for each in request.others}
        here = AnnotatedImage(request.image, annotations, request.borders)
        self._lessons = [
            _Lesson(
                each.image,
                trainer.hold_out(each.image, self._painted[each.image]),
                trainer,
                each.borders,
            )
            for each in (here, *request.others)
        ]
        self._focus = _within(self._lessons[0].pixels, request.focus)
        for each in request.accepted:
            held_out = trainer.held_out.get(each.image)
            labels = each.annotations if held_out is None else each.annotations * ~held_out.mask
            self._lessons.append(_Lesson(each.image, labels.astype(np.uint8), trainer))
        self._labels = sorted({label for lesson in self._lessons for label in lesson.pixels})
        if len(self._labels) < 2:
            raise InputError("strokes of one class alone teach nothing; paint another class too")
        self._augment, self._batch = config.augment, trainer.patches.batch
        self._generator = trainer.generator
        self._drawn: list[tuple[ErrorMap, int] | None] = []
        self._geometries, self._looks = model.config.geometries, model.config.looks
        self._inner = tuple(
            -(-round(trainer.patches.side / size) // geometry.stride) * geometry.stride
            for size, geometry in zip(request.image.spacing, self._geometries, strict=True)
        )

    def annotations_of(self, image: SourceImage) -> NDArray[np.uint8]:
        """Return what is painted on an image, in its shape."""
        painted = self._painted.get(image)
        return np.zeros(image.shape, np.uint8) if painted is None else painted

    @property
    def input_size(self) -> int:
        """The side of what the network reads for a patch, in pixels."""
        return self._looks[-1].input_size(self._inner[-1])

    def halve(self) -> bool:
        """Halve the patches; False if they are as small as can be."""
        smaller = halved(self._geometries, self._inner)
        self._inner = smaller or self._inner
        return smaller is not None

    def draw(self) -> Patch:
        """Draw the patches of a step, every class in turn, so that none is forgotten meanwhile."""
        first = self._integer(len(self._labels))
        self._drawn = []
        patches = [
            self._draw_around(self._labels[(first + number) % len(self._labels)])
            for number in range(self._batch)
        ]
        return Patch.joined(patches)

    def remember(self, losses: Sequence[float]) -> None:
        """Take in how well each of the patches that were drawn last was answered."""
        for drawn, loss in zip(self._drawn, losses, strict=True):
            if drawn is not None:
                errors, place = drawn
                errors.remember(place, loss)

    def _draw_around(self, label: int) -> Patch:
        """Draw a patch with a pixel of this label somewhere in its output, not always amid it."""
        if label in self._focus and self._integer(2):
            lesson, pixels = self._lessons[0], self._focus[label]
            chosen = self._integer(len(pixels))
            self._drawn.append(None)
        else:
            lesson = self._choose([each for each in self._lessons if label in each.pixels])
            pixels, errors = lesson.pixels[label], lesson.errors[label]
            chosen, place = errors.draw(float(torch.rand(1, generator=self._generator)))
            self._drawn.append((errors, place))
        sides = torch.tensor(self._inner)
        jitter = (torch.rand(len(sides), generator=self._generator) - 0.5) * sides / 2
        centre = [
            float(place) + float(moved) for place, moved in zip(pixels[chosen], jitter, strict=True)
        ]
        axes = list(zip(self._looks, self._inner, strict=True))
        beyond = zip(self._geometries, self._inner, strict=True)
        return sample_patch(
            lesson.image,
            lesson.annotations,
            lesson.weights,
            centre=centre,
            input_size=[geometry.input_size(inner) for geometry, inner in axes],
            output_size=[inner + geometry.surplus for geometry, inner in axes],
            config=self._augment,
            generator=self._generator,
            spacing=lesson.spacing,
            smaller=lesson.smaller,
            smaller_size=[g.input_size(inner) // SECOND_LOOK_SCALE for g, inner in beyond],
        )

    def _choose(self, lessons: list[_Lesson]) -> _Lesson:
        if len(lessons) == 1:
            return lessons[0]
        if lessons[0] is self._lessons[0]:  # the image at hand
            return lessons[0] if self._integer(2) else lessons[1 + self._integer(len(lessons) - 1)]
        return lessons[self._integer(len(lessons))]

    def _integer(self, stop: int) -> int:
        return int(torch.randint(stop, (1,), generator=self._generator))


def _within(pixels: dict[int, NDArray[np.intp]], box: Box | None) -> dict[int, NDArray[np.intp]]:
    """Return the pixels of each label that lie in a box; labels without any are left out."""
    if box is None:
        return {}
    first = np.array([span.start for span in box])
    last = np.array([span.stop for span in box])
    found = {
        label: places[((places >= first) & (places < last)).all(axis=1)]
        for label, places in pixels.items()
    }
    return {label: places for label, places in found.items() if len(places)}


def _checked(painted: AnnotatedImage, classes: int) -> NDArray[np.uint8]:
    return check_annotations(painted.annotations, painted.image.shape, classes, alone=False)
