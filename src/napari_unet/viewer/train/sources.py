"""Where the Train dock takes labelled images from: folders, or layers of the viewer.

A source is a frozen snapshot of what the user chose; it is read on the worker thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset import LabelledImage, LabelledSet, read_labelled_set
from napari_unet.engine.dataset.kind import judge_kind
from napari_unet.engine.dataset.labelled_set import Kind
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import channel_count
from napari_unet.ops.labels import as_label_image, connected_regions

KindChoice = Literal["auto", "instances", "semantic"]
#: Called with the number of images read and of all images.
Progress = Callable[[int, int], None]

# Each class is a channel of the network; more values than this are object numbers.
_MOST_CLASSES = 255


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Two folders or files, as for `napari_unet.engine.dataset.read_labelled_set`."""

    images: Path
    labels: Path

    def read(self, kind: KindChoice, progress: Progress) -> LabelledSet:
        """Read all images and labels; InputError if none can be used."""
        return read_labelled_set(self.images, self.labels, kind, progress=progress)


@dataclass(frozen=True, slots=True, eq=False)
class LayerPair:
    """An image layer and the labels layer of the same pixels, by their arrays.

    Attributes
    ----------
    name
        The image layer's name.
    image
        Shape (..., Y, X), or (..., Y, X, C) if `rgb`; may be lazy.
    labels
        Shape (..., Y, X); may be lazy.
    rgb
        Whether the last axis of the image holds colours.
    """

    name: str
    image: Any
    labels: Any
    rgb: bool

    def planes(self) -> list[tuple[int, ...]]:
        """Return the indices of the planes, () for a single one."""
        return list(np.ndindex(tuple(self.labels.shape[:-2])))


@dataclass(frozen=True, slots=True, eq=False)
class LayerSource:
    """Pairs of layers; every plane of a stack is an image.

    Attributes
    ----------
    pairs
        The layers.
    skip_unlabelled
        Leave out the planes of stacks that have no label at all.
    """

    pairs: tuple[LayerPair, ...]
    skip_unlabelled: bool = True

    def read(self, kind: KindChoice, progress: Progress) -> LabelledSet:
        """Copy images and labels as they are now; InputError if none can be used."""
        total = sum(len(pair.planes()) for pair in self.pairs)
        images: list[LabelledImage] = []
        problems: list[str] = []
        done = 0
        for pair in self.pairs:
            skipped = 0
            for index in pair.planes():
                try:
                    image = _read_plane(pair, index)
                except InputError as error:
                    problems.append(f"{pair.name}: {error}")
                else:
                    if index and self.skip_unlabelled and not image.labels.any():
                        skipped += 1
                    else:
                        images.append(image)
                done += 1
                progress(done, total)
            if skipped:
                planes = len(pair.planes())
                problems.append(f"{pair.name}: {skipped} of {planes} planes have no labels")
        return _as_set(images, kind, problems)


Source = FolderSource | LayerSource


def _read_plane(pair: LayerPair, index: tuple[int, ...]) -> LabelledImage:
    pixels = np.array(pair.image[index])
    channels = channel_count(pixels)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError("the image has values that are NaN or infinite; replace them")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if channels == 1 else pixels[..., :channels]
    labels = as_label_image(np.array(pair.labels[index]))
    if not index:
        return LabelledImage(pair.name, pixels, labels)
    # Two digits at least, so that the planes are in order when they are sorted as text.
    place = ", ".join(f"{number:02}" for number in index)
    return LabelledImage(f"{pair.name} [{place}]", pixels, labels, group=pair.name)


def _as_set(images: list[LabelledImage], kind: KindChoice, problems: list[str]) -> LabelledSet:
    """Check what the images have in common, by the rules of folders."""
    images, odd = _same_channels(images)
    problems = [*problems, *odd]
    if not images:
        raise InputError(f"no layer can be used: {'; '.join(problems[:3])}")
    values = [image.values() for image in images]
    everything = frozenset[int]().union(*values)
    if everything == {0}:
        raise InputError("all labels are 0, background; label at least one object or class")
    decided: Kind
    if kind == "auto":
        decided, reason = judge_kind([image.labels for image in images], values)
    else:
        decided, reason = kind, f"{kind}, as asked for"
    left_out = tuple(problems)
    if decided == "semantic":
        if not 2 <= len(everything) <= _MOST_CLASSES:
            raise InputError(
                f"the labels have {len(everything)} values, but classes are 2 to {_MOST_CLASSES}; "
                "label another class, or say that they are objects"
            )
        classes = tuple(sorted(everything))
        return LabelledSet(tuple(images), decided, classes, left_out, kind_reason=reason)
    notes: tuple[str, ...] = ()
    if len(everything - {0}) == 1:
        images = [replace(each, labels=connected_regions(each.labels)[0]) for each in images]
        notes = ("the labels have one value for all objects: connected regions are numbered",)
    return LabelledSet(tuple(images), decided, (0, 1), left_out, notes, reason)


def _same_channels(images: Sequence[LabelledImage]) -> tuple[list[LabelledImage], list[str]]:
    """Keep grey or RGB images, whichever are more, and name the others."""
    counts = Counter(image.image.ndim for image in images)
    if len(counts) < 2:
        return list(images), []
    usual = 2 if counts[2] >= counts[3] else 3
    words = {2: "grey", 3: "RGB"}
    kept = [image for image in images if image.image.ndim == usual]
    odd = [
        f"{image.name} is {words[5 - usual]}, but most images are {words[usual]}; train on it alone"
        for image in images
        if image.image.ndim != usual
    ]
    return kept, odd


def spatial_shape(data: NDArray[Any], rgb: bool) -> tuple[int, ...]:
    """Return the axes that labels of an image must have: all but colours."""
    return tuple(data.shape[:-1] if rgb else data.shape)
