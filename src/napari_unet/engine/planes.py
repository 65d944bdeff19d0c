"""Jobs on the planes of a stack: each plane is an image, what is on screen comes first."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.device import free_memory
from napari_unet.engine.events import (
    InstancesFound,
    JobEvent,
    Noticed,
    PlaneFinished,
    PlanePredicted,
    PredictionFinished,
    TilePredicted,
)
from napari_unet.engine.image import SourceImage
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
        Returns the plane that is on screen by now; the nearest ones come first. None: they come in
        their order.
    like
        How to predict each; its image is not looked at.
    """

    source: Callable[[Plane], SourceImage]
    planes: Sequence[Plane]
    shown: Callable[[], Plane] | None
    like: PredictRequest


def predict_planes(
    predict: Callable[[PredictRequest], Iterator[JobEvent]],
    request: PlanesRequest,
    stop: threading.Event | None = None,
) -> Iterator[JobEvent]:
    """Predict a stack plane by plane, the one on screen first and then those nearest to it.

    Of stacks that are looked at as a whole the same is done stack by stack.

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
    PlanePredicted
        After the last tile of each plane.
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
        plane = left[0] if request.shown is None else _nearest(left, request.shown())
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
        if not stopped:
            yield PlanePredicted(plane)
        left.remove(plane)
    yield PredictionFinished(tiles, time.monotonic() - started, stopped or bool(left))


def _nearest(planes: Sequence[Plane], shown: Plane) -> Plane:
    """Return the plane with the fewest steps from the one on screen, the next before the last."""

    def steps(plane: Plane) -> tuple[int, bool, Plane]:
        away = sum(abs(a - b) for a, b in zip(plane, shown, strict=True))
        return away, plane < shown, plane

    return min(planes, key=steps)


class PlaneObjects:
    """Cuts objects out of one plane after the other; what goes on keeps its number.

    Parameters
    ----------
    settings
        As for `find_instances`.
    joins
        Whether objects go on from a plane to the next one along the last axis before rows and
        columns. Else those of each plane are numbered from 1, and stacks may be given as well.

    Attributes
    ----------
    count
        How many objects there are.
    """

    def __init__(self, settings: InstanceSettings, *, joins: bool = True) -> None:
        self.count = 0
        self._settings = settings
        self._joins = joins
        self._last: tuple[Plane, NDArray[np.int32]] | None = None

    def go_on_after(self, plane: Plane, objects: NDArray[np.int32], count: int) -> None:
        """Take it that the objects of this plane, and so many in all, are known."""
        self._last, self.count = (plane, objects), count

    def cut_out(
        self,
        plane: Plane,
        probability: NDArray[np.float32],
        spacing: Sequence[float] | None = None,
    ) -> NDArray[np.int32]:
        """Return the objects of a plane, shape (Y, X), 0 is none.

        Parameters
        ----------
        plane
            Its position; the one before it along the last axis was given last, or was left out.
        probability
            Shape (classes, Y, X), or (classes, Z, Y, X) of a stack.
        spacing
            Of a stack the size of a voxel.
        """
        objects = find_instances(probability, self._settings, spacing)
        if not self._joins:
            self.count += int(objects.max(initial=0))
            return objects
        before = np.zeros_like(objects)
        if self._last is not None and self._last[0] == (*plane[:-1], plane[-1] - 1):
            before = self._last[1]
        joined = continue_objects(before, objects, self.count + 1)
        self.count = max(self.count, int(joined.max(initial=0)))
        self._last = plane, joined
        return joined


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
    found: NDArray[np.int32] = np.zeros(probability.shape[1:], np.int32)
    objects = PlaneObjects(settings)
    for number, plane in enumerate(sorted(planes), start=1):
        if stop is not None and stop.is_set():
            break
        where: tuple[Any, ...] = (slice(None), *plane)
        found[plane] = objects.cut_out(plane, probability[where])
        yield PlaneFinished(number, len(planes))
    yield InstancesFound(found, objects.count)


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
