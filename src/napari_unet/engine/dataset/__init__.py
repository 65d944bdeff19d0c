"""Reads a densely labelled set: two folders, two stacks, or a Cell Tracking Challenge data set.

What cannot be used is named and left out, so that one damaged file does not cost an evening; with
`strict`, it is an error that names everything that has to be mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from napari_unet.engine.dataset.files import Layout, Pair
from napari_unet.engine.dataset.kind import judge_kind
from napari_unet.engine.dataset.labelled_set import Kind, LabelledImage, LabelledSet
from napari_unet.engine.dataset.layouts import find_pairs
from napari_unet.engine.dataset.split import Split, split_by_image
from napari_unet.engine.dataset.stacks import StackPair
from napari_unet.engine.images.axes import Corrections
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import channel_count
from napari_unet.ops.labels import connected_regions

__all__ = [
    "Kind",
    "LabelledImage",
    "LabelledSet",
    "Split",
    "read_labelled_set",
    "split_by_image",
]

# A class needs an output channel of the network; more than this are object numbers.
_MOST_CLASSES: Final = 255


def read_labelled_set(
    images: str | Path,
    labels: str | Path,
    kind: Literal["auto", "semantic", "instances"] = "auto",
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    ndim: int = 2,
    corrections: Corrections | None = None,
) -> LabelledSet:
    """Read images and the labels of all their pixels.

    Parameters
    ----------
    images, labels
        Two folders, whose files belong together if their names are the same, up to the ending and
        additions such as `_mask`, `-labels` or `_cp_masks`; the folder may be one and the same.
        Two files: a pair of 2D images, or two TIFF stacks whose pages belong together. Or a
        sequence and its truth in the Cell Tracking Challenge's layout (`01` and `01_GT`), or that
        data set's folder twice. A folder that holds `images` and `labels` or `masks` may be given
        twice as well.
    kind
        "semantic": label values are classes. "instances": label values are objects, and where all
        labels together have one value besides 0, the connected regions are numbered. "auto": see
        `napari_unet.engine.dataset.kind.judge_kind`.
    strict
        Raise instead of leaving out what cannot be used.
    progress
        Called with the number of pairs read and the number of all pairs, after each of them.
    ndim
        3: every file is a stack (Z, Y, X) that a network of three dimensions learns from as a
        whole; 2: its planes are images of their own.
    corrections
        What the user knows better than the files of stacks, such as the size of a voxel.

    Returns
    -------
    LabelledSet
        Images and labels in the dtype of their files (labels in real numbers as int64, boolean ones
        as uint8). All images have the same number of channels: alpha is dropped; where grey and
        RGB are mixed, RGB with equal channels becomes grey, and then the minority is left out.

    Raises
    ------
    InputError
        If nothing can be paired or used, all labels are background, the kind cannot be told, or
        `strict` and there is a problem.
    """
    if kind not in ("auto", "semantic", "instances"):
        raise InputError(f"the kind {kind!r} is not known; use auto, semantic or instances")
    stacks = partial(StackPair, corrections=corrections) if ndim == 3 else None
    layout = find_pairs(Path(images), Path(labels), stacks)
    read, unreadable = _read_pairs(layout.pairs, progress)
    kept, odd = _same_channels(read)
    problems = (*layout.problems, *unreadable, *odd)
    if strict and problems:
        raise InputError(f"{len(problems)} problems to mend: {'; '.join(problems)}")
    if not kept:
        raise InputError(f"no image of {images} can be used: {'; '.join(problems[:3])}")
    return _as_set(kept, kind, layout, problems)


def _read_pairs(
    pairs: Sequence[Pair], progress: Callable[[int, int], None] | None
) -> tuple[list[LabelledImage], list[str]]:
    read, problems = [], []
    for done, pair in enumerate(pairs, 1):
        try:
            read.append(_read_pair(pair))
        except InputError as error:
            words = str(error)
            problems.append(words if words.startswith(pair.name) else f"{pair.name}: {words}")
        if progress is not None:
            progress(done, len(pairs))
    return read, problems


def _read_pair(pair: Pair) -> LabelledImage:
    data = pair.read()
    image = data.image
    ndim = data.labels.ndim
    channels = channel_count(image, ndim)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError("the image has values that are NaN or infinite; replace them")
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.ndim > ndim:
        image = image[..., 0] if channels == 1 else image[..., :channels]
    if data.valid is not None and not data.valid.any():
        raise InputError("no pixel is annotated; leave it out")
    return LabelledImage(
        pair.name, image, data.labels, pair.group, data.valid, data.spacing, data.pixel_size
    )


def _same_channels(images: list[LabelledImage]) -> tuple[list[LabelledImage], list[str]]:
    """Make all images grey or all RGB, and name those that are neither."""
    if len({each.image.ndim for each in images}) < 2:
        return images, []
    images = [
        replace(each, image=each.image[..., 0].copy()) if _is_grey_rgb(each) else each
        for each in images
    ]
    counts, grey = Counter(each.image.ndim for each in images), images[0].ndim
    usual = grey if counts[grey] >= counts[grey + 1] else grey + 1
    is_, are = ("RGB", "grey") if usual == grey else ("grey", "RGB")
    problems = [
        f"{each.name} is {is_}, but most images ({counts[usual]} of {len(images)}) are {are}; "
        "convert it or train on it alone"
        for each in images
        if each.image.ndim != usual
    ]
    return [each for each in images if each.image.ndim == usual], problems


def _is_grey_rgb(labelled: LabelledImage) -> bool:
    image = labelled.image
    return image.ndim > labelled.ndim and not (image != image[..., :1]).any()


def _as_set(
    images: list[LabelledImage],
    kind: Literal["auto", "semantic", "instances"],
    layout: Layout,
    problems: tuple[str, ...],
) -> LabelledSet:
    values = [each.values() for each in images]
    everything = frozenset[int]().union(*values)
    if everything == {0}:
        raise InputError(
            "all labels are 0, background, in every image; label at least one object or class"
        )
    notes = layout.notes
    decided, reason = _decide(kind, layout, images, values)
    if decided == "semantic":
        if len(everything) < 2:
            raise InputError(
                f"all labels are {min(everything)}; a class needs another one to be told from"
            )
        if len(everything) > _MOST_CLASSES:
            raise InputError(
                f"the labels have {len(everything)} values, too many for classes; read them as "
                "instances"
            )
        classes = tuple(sorted(everything))
        return LabelledSet(tuple(images), decided, classes, problems, notes, reason)
    if len(everything - {0}) == 1 and not layout.instances:
        images = [replace(each, labels=connected_regions(each.labels)[0]) for each in images]
        notes = (
            *notes,
            "the labels have one value for all objects: connected regions are numbered",
        )
    return LabelledSet(tuple(images), decided, (0, 1), problems, notes, reason)


def _decide(
    kind: Literal["auto", "semantic", "instances"],
    layout: Layout,
    images: Sequence[LabelledImage],
    values: Sequence[frozenset[int]],
) -> tuple[Kind, str]:
    if kind != "auto":
        return kind, f"{kind}, as asked for"
    if layout.instances:
        return "instances", "instances, as always in the Cell Tracking Challenge's folders"
    return judge_kind([each.labels for each in images], values)
