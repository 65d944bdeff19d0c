"""Jobs around clicks: answer them, follow an object through a stack, propose the other objects."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.click import Clicker
from napari_unet.engine.click_glimpse import Glimpse
from napari_unet.engine.click_likeness import FEWEST_ALIKE, classified_job
from napari_unet.engine.events import (
    JobEvent,
    ObjectOutlined,
    ObjectsProposed,
    PieceDone,
)
from napari_unet.model.head import Head
from napari_unet.ops.clicks import (
    Click,
    Mask,
    Outline,
    known_outlines,
    usual_extent,
)
from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import watershed_instances
from napari_unet.ops.tiling import Box

# An object has ended where the network expects less overlap, or where little of it is left.
_LEAST_OVERLAP: Final = 0.5
_LEAST_SHARE: Final = 0.1
_LEAST_SHARED: Final = 0.15
# A proposal may be this much smaller or larger in area than the smallest or largest of the objects.
_SIZE_FACTOR: Final = 2.5
_EXPECTED: Final = 0.6
# Of a proposal, that much at most may be taken by other objects already.
_MOST_TAKEN: Final = 0.3
# Seconds after which what the first look says is shown, or after what was shown before it. If it
# says so sooner, the answer is there in a moment, and drawing twice would only hold it up.
_PATIENCE: Final = 0.1
# Seconds that a window takes if what it says is worth drawing: all of them take five times as long
# at least. Where they take less, the answer is there almost as soon.
_SLOW: Final = 0.015
# Places that are looked at in one go, so that clicks of the user are not held up.
_PLACES_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class ClickRequest:
    """What a user clicked for one object.

    Attributes
    ----------
    clicks
        All clicks on one plane, the earlier ones first.
    previous
        The answer to the earlier ones; None if there is none.
    box
        A box around the object; None if none was drawn.
    usual
        The usual larger side of objects of the image, in pixels; None if it is not known.
    """

    clicks: tuple[Click, ...]
    previous: Outline | None = None
    box: Box | None = None
    usual: float | None = None


def outline_job(clicker: Clicker, request: ClickRequest) -> Iterator[JobEvent]:
    """Answer clicks.

    Parameters
    ----------
    clicker
        What outlines objects of the image.
    request
        The clicks.

    Yields
    ------
    ObjectOutlined
        The answer; before it what is seen at first, where the answer takes its time.
    """
    outlines = clicker.outlines(
        request.clicks, request.previous, request.box, request.usual, piecewise=True
    )
    yield ObjectOutlined((yield from _seen_at_first(outlines)))


def _seen_at_first(
    outlines: Generator[Outline | None, None, Outline],
) -> Generator[JobEvent, None, Outline]:
    """Tell what one window says, or the first look, if that took long: the answer will, too."""
    glimpse: Glimpse | None = None
    shown, told = False, time.perf_counter()
    while True:
        began = time.perf_counter()
        try:
            seen = next(outlines)
        except StopIteration as end:
            answer: Outline = end.value
            return answer
        now = time.perf_counter()
        if isinstance(seen, Glimpse):
            glimpse = glimpse or seen
        tells: Outline | None = None
        if seen is not None and not isinstance(seen, Glimpse):
            tells = seen if now - told > _PATIENCE else None
        elif not shown and now - began > _SLOW:
            tells = glimpse
        if tells is not None:
            shown, told = True, now
            yield ObjectOutlined(tells, is_final=False)


def look_ahead_job(
    clicker: Clicker, request: ClickRequest, stop: threading.Event
) -> Iterator[JobEvent]:
    """Look at what may be clicked on: if it is, the answer is there.

    Parameters
    ----------
    clicker
        What outlines objects of the image.
    request
        What would be asked.
    stop
        Checked after every piece of work, which is one window.

    Yields
    ------
    PieceDone
        After each piece.
    """
    with suppress(InputError):  # whoever clicks is told
        for _ in clicker.outlines(
            request.clicks, request.previous, request.box, request.usual, piecewise=True
        ):
            if stop.is_set():
                return
            yield PieceDone()


def propagate_job(
    clicker: Callable[[int], Clicker],
    start: int,
    outline: Outline,
    planes: int,
    stop: threading.Event | None = None,
) -> Iterator[JobEvent]:
    """Follow an object through a stack, both ways, until it ends.

    Parameters
    ----------
    clicker
        Returns what outlines objects on a plane.
    start
        The plane on which it is known.
    outline
        What it is there.
    planes
        How many there are.
    stop
        Checked before every plane.

    Yields
    ------
    ObjectOutlined
        For each further plane that it reaches, nearest first in each direction.
    """
    for way in (range(start + 1, planes), range(start - 1, -1, -1)):
        previous = outline
        for plane in way:
            if stop is not None and stop.is_set():
                return
            found = clicker(plane).follow(previous)
            if _has_ended(found, previous, outline):
                break
            yield ObjectOutlined(found, plane)
            previous = found


def _has_ended(found: Outline, previous: Outline, first: Outline) -> bool:
    area = int(found.mask.sum())
    if found.overlap < _LEAST_OVERLAP or area < _LEAST_SHARE * first.mask.sum():
        return True
    return found.shares(previous) < _LEAST_SHARED


def propose_job(
    clicker: Clicker,
    labels: NDArray[np.integer],
    stop: threading.Event | None = None,
    device: str = "auto",
) -> Iterator[JobEvent]:
    """Look for objects like those that were committed.

    A classifier is fitted to the objects and to the ring around them, as to strokes; each region
    that it finds is clicked on in its middle, and the outline is proposed if it looks like an
    object of their size.

    Parameters
    ----------
    clicker
        Outlines objects of the image.
    labels
        Shape (Y, X): the objects that are there.
    stop
        Checked before every step.
    device
        As for `napari_unet.engine.device.resolve_device`.

    Yields
    ------
    ObjectsProposed
        Several times; the last has all places done.

    Raises
    ------
    InputError
        If there are too few objects.
    """
    if labels.size and int(labels.min()) < 0:
        raise InputError("objects have negative numbers; number them from 1")
    areas = np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    if len(areas) < FEWEST_ALIKE:
        raise InputError(f"commit {FEWEST_ALIKE} objects first; they tell what to look for")
    likely = yield from _likely(classified_job(clicker.image, labels, 0, stop, device))
    if likely is None:
        return
    smallest, largest = areas.min() / _SIZE_FACTOR, areas.max() * _SIZE_FACTOR
    usual = usual_extent(each.extent for each in known_outlines(labels))
    taken = labels > 0
    places = _places(likely, taken, smallest)
    for begin in range(0, len(places), _PLACES_AT_ONCE):
        if stop is not None and stop.is_set():
            return
        found = []
        for place in places[begin : begin + _PLACES_AT_ONCE]:
            outline = _proposal(clicker, place, taken, (smallest, largest), usual)
            if outline is not None:
                taken[outline.box] |= outline.mask
                found.append(outline)
        done = min(begin + _PLACES_AT_ONCE, len(places))
        yield ObjectsProposed(tuple(found), done, len(places))
    if not places:
        yield ObjectsProposed((), 0, 0)


def _likely(
    job: Generator[PieceDone, None, tuple[Head, NDArray[np.float32]] | None],
) -> Generator[ObjectsProposed, None, NDArray[np.float32] | None]:
    """Return how probable each pixel is; nothing is proposed meanwhile. None if it was stopped."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            return None if end.value is None else end.value[1][0]
        yield ObjectsProposed((), 0, 0)


def _places(likely: NDArray[np.float32], taken: Mask, smallest: float) -> list[tuple[int, int]]:
    """Return the middles of regions that are likely objects, the large ones first."""
    free = np.where(taken, 0, likely)
    regions = known_outlines(watershed_instances(free, min_size=max(4, int(smallest / 2))))
    return [each.middle for each in sorted(regions, key=lambda each: -int(each.mask.sum()))]


def _proposal(
    clicker: Clicker,
    place: tuple[int, int],
    taken: Mask,
    sizes: tuple[float, float],
    usual: float | None,
) -> Outline | None:
    if taken[place]:
        return None
    found = clicker.outline([Click(*place)], usual=usual)
    free = found.mask & ~taken[found.box]
    if found.overlap < _EXPECTED or free.sum() < (1 - _MOST_TAKEN) * found.mask.sum():
        return None
    if not sizes[0] <= free.sum() <= sizes[1]:
        return None
    return Outline(found.box, free, found.overlap)
