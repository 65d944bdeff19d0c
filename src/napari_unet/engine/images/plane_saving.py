"""Write what was predicted of an image that is in memory, plane by plane."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import FileSaved, PlaneFinished
from napari_unet.engine.images.axes import Corrections, ImageInfo
from napari_unet.engine.images.lazy import OpenedImage, PlaneIndex
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.images.storing import LabelsIntoImage, ResultStore, result_store
from napari_unet.ops.errors import InputError


def save_stack(
    stem: Path,
    info: ImageInfo,
    probability: NDArray[np.float32],
    planes: Sequence[PlaneIndex],
    instances: NDArray[np.int32] | None = None,
    stop: threading.Event | None = None,
    names: Sequence[str] = (),
) -> Iterator[PlaneFinished | FileSaved]:
    """Write the results of an image or a stack as TIFF files, with its axes and pixel sizes.

    Parameters
    ----------
    stem
        Folder and name without an ending; a missing folder is made.
    info
        The image.
    probability
        Shape (classes, ..., Y, X).
    planes
        Those that were predicted; the others stay 0 in all files.
    instances
        Shape (..., Y, X), 0 is background; None if no objects were cut out.
    stop
        Checked before every plane; nothing is written then.
    names
        What the classes are called, background first; empty numbers them.

    Yields
    ------
    PlaneFinished
        After every plane.
    FileSaved
        Last, unless it was stopped.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    with_objects, classes = instances is not None, len(probability)
    names = names if len(names) == classes else ()
    store = result_store(stem, info, classes, with_objects=with_objects, names=names)
    yield from _store_planes(store, probability, planes, instances, stop)


def save_into_image(
    path: Path,
    name: str,
    probability: NDArray[np.float32],
    planes: Sequence[PlaneIndex],
    instances: NDArray[np.int32] | None = None,
    stop: threading.Event | None = None,
    *,
    replace: bool = False,
    names: Sequence[str] = (),
) -> Iterator[PlaneFinished | FileSaved]:
    """Write objects and classes into the OME-Zarr that the image is, as its labels.

    Parameters
    ----------
    path
        The folder of the image.
    name
        Of the objects; the classes are called NAME_classes.
    probability, planes, instances, stop
        As for `save_stack`; of the level of the image that has these sides.
    replace
        Whether labels of these names are replaced.
    names
        What the classes are called, background first; empty numbers them.

    Yields
    ------
    PlaneFinished
        After every plane.
    FileSaved
        Last, unless it was stopped.

    Raises
    ------
    InputError
        If the image has other sides, cannot take them in, or has labels of that name.
    """
    shape = probability.shape[1:]
    long = [axis for axis, length in enumerate(shape[:-2]) if length > 1]
    with _level_of(path, (*(shape[axis] for axis in long), *shape[-2:])) as image:
        classes = len(probability)
        store = LabelsIntoImage(
            image,
            name,
            classes,
            replace=replace,
            with_objects=instances is not None,
            names=names if len(names) == classes else (),
        )
        yield from _store_planes(store, probability, planes, instances, stop, long)


def _level_of(path: Path, shape: tuple[int, ...]) -> OpenedImage:
    """Open an image at the level that has these sides."""
    level, levels = 0, 1
    while level < levels:
        image = open_image(path, Corrections(level=level))
        if (*image.stack_shape, *image.plane_shape) == shape:
            return image
        levels = len(image.info.levels)
        image.close()
        level += 1
    raise InputError(
        f"no level of {path} has the sides of what was predicted, {' x '.join(map(str, shape))}; "
        "save the result as files"
    )


def _store_planes(
    store: ResultStore,
    probability: NDArray[np.float32],
    planes: Sequence[PlaneIndex],
    instances: NDArray[np.int32] | None,
    stop: threading.Event | None,
    axes: Sequence[int] | None = None,
) -> Iterator[PlaneFinished | FileSaved]:
    """Hand planes to a store; `axes` are those of a plane's position that the store knows."""
    for number, plane in enumerate(planes, start=1):
        if stop is not None and stop.is_set():
            store.discard()
            return
        where: tuple[Any, ...] = (slice(None), *plane)
        place = plane if axes is None else tuple(plane[axis] for axis in axes)
        store.add(place, probability[where], None if instances is None else instances[plane])
        yield PlaneFinished(number, len(planes))
    yield FileSaved(store.finish())
