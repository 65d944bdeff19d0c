"""Jobs on the planes of a stack: each plane is an image, what is on screen comes first."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.device import free_memory
from napari_unet.engine.events import (
    FileSaved,
    InstancesFound,
    JobEvent,
    Noticed,
    PlaneFinished,
    PredictionFinished,
    TilePredicted,
)
from napari_unet.engine.image import SourceImage
from napari_unet.engine.images.axes import Corrections, ImageInfo
from napari_unet.engine.images.lazy import OpenedImage
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.images.storing import LabelsIntoImage, ResultStore, result_store
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.results import InstanceSettings, find_instances
from napari_unet.ops.errors import InputError
from napari_unet.ops.stitching import continue_objects

# float32, and what normalisation needs beside it.
_BYTES_NORMALISED: Final = 8

#: The position along the axes before rows and columns: (plane,), (time, plane) ...
Plane = tuple[int, ...]


def on_plane(plane: Plane, job: Iterator[JobEvent]) -> Iterator[JobEvent]:
    """Say of the tiles of a job on one plane where they belong."""
    for event in job:
        yield replace(event, plane=plane) if isinstance(event, TilePredicted) else event


@dataclass(frozen=True, slots=True, eq=False)
class PlanesRequest:
    """Which planes to predict.

    Attributes
    ----------
    source
        Returns a plane as an image; called when its turn comes.
    planes
        All of them.
    shown
        Returns the plane that is on screen by now; the nearest ones come first.
    like
        How to predict each; its image is not looked at.
    """

    source: Callable[[Plane], SourceImage]
    planes: Sequence[Plane]
    shown: Callable[[], Plane]
    like: PredictRequest


def predict_planes(
    predict: Callable[[PredictRequest], Iterator[JobEvent]],
    request: PlanesRequest,
    stop: threading.Event | None = None,
) -> Iterator[JobEvent]:
    """Predict a stack plane by plane, the one on screen first and then those nearest to it.

    Parameters
    ----------
    predict
        Makes the job that predicts an image; it ends when `stop` is set.
    request
        Which planes, and how.
    stop
        Checked before every plane.

    Yields
    ------
    TilePredicted
        With its plane; `done` and `total` count the tiles of all planes.
    Noticed
        Each notice once, not plane after plane. The precision is checked on the first plane.
    PredictionFinished
        Last.
    """
    started = time.monotonic()
    left = list(request.planes)
    noticed: set[str] = set()
    like, tiles, stopped = request.like, 0, False
    while left and not stopped and not (stop is not None and stop.is_set()):
        plane = _nearest(left, request.shown())
        done, remaining = tiles, len(left)
        for event in predict(replace(like, image=request.source(plane))):
            match event:
                case TilePredicted():
                    tiles = done + event.done
                    total = done + event.total * remaining
                    yield replace(event, plane=plane, done=tiles, total=total)
                case Noticed():
                    if event.message not in noticed:
                        noticed.add(event.message)
                        yield event
                case PredictionFinished():
                    stopped = event.stopped
                    if like.precision == "auto":  # what was found of one plane holds for all
                        like = replace(like, precision="fp32" if event.exact else "fast")
                case _:
                    yield event
        left.remove(plane)
    yield PredictionFinished(tiles, time.monotonic() - started, stopped or bool(left))


def _nearest(planes: Sequence[Plane], shown: Plane) -> Plane:
    """Return the plane with the fewest steps from the one on screen, the next before the last."""

    def steps(plane: Plane) -> tuple[int, bool, Plane]:
        away = sum(abs(a - b) for a, b in zip(plane, shown, strict=True))
        return away, plane < shown, plane

    return min(planes, key=steps)


def find_stack_instances(
    probability: NDArray[np.float32],
    planes: Sequence[Plane],
    settings: InstanceSettings,
    stop: threading.Event | None = None,
) -> Iterator[PlaneFinished | InstancesFound]:
    """Cut objects out of planes, and join those that go on from one plane to the next.

    Planes are joined along the axis before rows and columns; a series of stacks is not joined over
    time.

    Parameters
    ----------
    probability
        Shape (classes, ..., Y, X), float32 in [0, 1].
    planes
        The planes that were predicted whole.
    settings
        As for `find_instances`.
    stop
        Checked before every plane; the planes before it keep their objects.

    Yields
    ------
    PlaneFinished
        After every plane.
    InstancesFound
        Last; shape (..., Y, X), 0 on planes that were not asked for.
    """
    shape = probability.shape[1:]
    found: NDArray[np.int32] = np.zeros(shape, np.int32)
    count = 0
    for number, plane in enumerate(sorted(planes), start=1):
        if stop is not None and stop.is_set():
            break
        where: tuple[Any, ...] = (slice(None), *plane)
        objects = find_instances(probability[where], settings)
        before: NDArray[Any] = np.zeros(shape[-2:], np.int32)
        if plane[-1] > 0:
            before = found[(*plane[:-1], plane[-1] - 1)]
        found[plane] = continue_objects(before, objects, count + 1)
        count = max(count, int(found[plane].max(initial=0)))
        yield PlaneFinished(number, len(planes))
    yield InstancesFound(found, count)


def find_volume_instances(
    probability: NDArray[np.float32],
    stacks: Sequence[Plane],
    settings: InstanceSettings,
    spacing: Sequence[float] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[PlaneFinished | InstancesFound]:
    """Cut objects out of stacks as a whole, in three dimensions.

    Parameters
    ----------
    probability
        Shape (classes, ..., Z, Y, X), float32 in [0, 1].
    stacks
        The positions along the axes before Z that were predicted whole; () of a single stack.
    settings
        As for `find_instances`; sizes are in voxels.
    spacing
        Size of a voxel along z, y and x, in pixels of the plane.
    stop
        Checked before every stack; the stacks before it keep their objects.

    Yields
    ------
    PlaneFinished
        After every stack.
    InstancesFound
        Last; shape (..., Z, Y, X), each object with a number of its own.
    """
    found: NDArray[np.int32] = np.zeros(probability.shape[1:], np.int32)
    count = 0
    for number, stack in enumerate(stacks, start=1):
        if stop is not None and stop.is_set():
            break
        where: tuple[Any, ...] = (slice(None), *stack)
        objects = find_instances(probability[where], settings, spacing)
        found[stack] = np.where(objects, objects + count, 0)
        count += int(objects.max(initial=0))
        yield PlaneFinished(number, len(stacks))
    yield InstancesFound(found, count)


def check_room(stack: SourceImage) -> None:
    """See to it that a stack that is predicted as a whole fits into the memory, with its answer.

    Raises
    ------
    InputError
        If it does not.
    """
    voxels = math.prod(stack.shape)
    needed = voxels * stack.channels * (stack.data.dtype.itemsize + _BYTES_NORMALISED)
    free = free_memory(torch.device("cpu"))
    if needed > free:
        raise InputError(
            f"the stack needs {needed / 2**30:.1f} GiB of memory to be normalised as a whole, and "
            f"{free / 2**30:.1f} GiB are free; crop it, take a coarser level, or predict it in "
            "blocks with napari-unet predict-array"
        )


def save_stack(
    stem: Path,
    info: ImageInfo,
    probability: NDArray[np.float32],
    planes: Sequence[Plane],
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
    planes: Sequence[Plane],
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
    planes: Sequence[Plane],
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
