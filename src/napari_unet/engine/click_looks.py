"""What the network says of windows at several scales, and which of it to believe.

How large the object under a click is, nobody says. The same place is looked at in windows of which
each shows twice as much as the one before, and the answer that the network is surest of is shown
first. What is taken in the end, `click_choice` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_unet.ops.annotations import annotated_box
from napari_unet.ops.clicks import Click, Mask, Outline, Window, expected_overlap, region_of
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box

#: Side of each window of the first look, in pixels of the window.
FIRST_SIDE: Final = 128
#: Side of a window where an earlier answer is known: the object has `EXTENT` pixels in it.
NEXT_SIDE: Final = 96
#: What the larger side of an object measures in the window that its outline is read from.
EXTENT: Final = 40
#: No object is magnified more than this: there is nothing more to see.
LARGEST_ZOOM: Final = 8.0
# Zooms of the first look; each window shows twice as much as the one before, the last 512 pixels.
# More zooms mislead more often than they help, see docs/explanation/clicks.md.
_ZOOMS: Final = (2.0, 1.0, 0.5, 0.25)
# How fast belief falls off, in natural logarithms, where an object is smaller or larger than others
# of the image that are known.
_USUAL_WIDTH: Final = 1.0
# An object is as usual if it is no more than this much larger or smaller, and the network expects
# as much overlap with the truth.
_AS_USUAL: Final = 1.6
_SURE: Final = 0.85
# An outline leaves the window if it has so many pixels of the window's border.
_CUT_OFF_PIXELS: Final = 4
# Pixels of the window around an outline that are looked at again at the image's resolution.
_AROUND: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the network says of one window.

    Attributes
    ----------
    window
        The window.
    probability
        Shape (side, side): that a pixel is of the object.
    mask
        Same shape: the object.
    """

    window: Window
    probability: NDArray[np.float32]
    mask: Mask

    @property
    def extent(self) -> int:
        """The larger side of the object, in pixels of the window; 0 without one."""
        box = annotated_box(self.mask)
        return 0 if box is None else max(sides(box))

    @property
    def overlap(self) -> float:
        """The intersection over union with the truth that the network expects."""
        return expected_overlap(self.probability, self.mask)

    def box(self, shape: tuple[int, ...], margin: int = 0) -> Box | None:
        """Return the part of an image of that shape in which the object lies; None without one."""
        found = annotated_box(self.mask)
        if found is None:
            return None
        rows, columns = found
        top, left = self.window.outside(rows.start - margin, columns.start - margin)
        bottom, right = self.window.outside(rows.stop - 1 + margin, columns.stop - 1 + margin)
        box = (
            slice(max(0, math.floor(top)), min(shape[0], math.ceil(bottom) + 1)),
            slice(max(0, math.floor(left)), min(shape[1], math.ceil(right) + 1)),
        )
        return box if min(sides(box)) > 0 else None


def judge(window: Window, probability: NDArray[np.float32], prompt: NDArray[np.float32]) -> Look:
    """Find the object in an answer.

    Parameters
    ----------
    window
        The window.
    probability
        Shape (side, side).
    prompt
        Shape (3, side, side): positive clicks, negative clicks, the earlier answer.

    Returns
    -------
    Look
        The object is what is connected with a positive click; without any, with the earlier answer.
    """
    positive, negative, earlier = prompt > 0.25
    mask = (probability > 0.5) & ~negative
    begun = positive if positive.any() else earlier
    return Look(window, probability, regions_that_meet(mask, begun))


def surest(looks: Sequence[Look], usual: float | None = None) -> Look:
    """Choose among windows of several scales around one place.

    Parameters
    ----------
    looks
        One at least.
    usual
        The usual larger side of objects of the image, in pixels; None if it is not known.
    """
    return max(looks, key=lambda look: _belief(look, usual))


def is_usual(look: Look, shape: tuple[int, ...], usual: float) -> bool:
    """Say whether an answer can be believed without another look: the object is as usual.

    Parameters
    ----------
    look
        In a window in which objects of the usual size have `EXTENT` pixels.
    shape
        Of the image.
    usual
        The usual larger side of objects of the image, in pixels.
    """
    extent = look.extent / look.window.zoom
    return (
        usual / _AS_USUAL < extent < usual * _AS_USUAL
        and look.overlap > _SURE
        and not _cut_off(look, shape)
    )


def _belief(look: Look, usual: float | None) -> float:
    extent = look.extent
    if not extent:
        return 0.0
    return look.overlap * usual_belief(extent / look.window.zoom, usual)


def usual_belief(extent: float, usual: float | None) -> float:
    """Return how much to believe in an object of that larger side, in (0, 1].

    Parameters
    ----------
    extent
        Pixels of the image.
    usual
        The usual larger side of objects of the image; None if it is not known.
    """
    if usual is None or not extent:
        return 1.0
    return math.exp(-0.5 * (math.log(extent / usual) / _USUAL_WIDTH) ** 2)


def wider(look: Look, shape: tuple[int, ...]) -> Window | None:
    """Return the window that shows twice as much, if the object goes on beyond this one.

    Parameters
    ----------
    look
        In the coarsest window so far.
    shape
        Of the image.
    """
    window = look.window
    if window.side / window.zoom > max(shape) or _cut_off(look, shape) < _CUT_OFF_PIXELS:
        return None
    return Window(window.row, window.column, window.zoom / 2, window.side)


def _cut_off(look: Look, shape: tuple[int, ...]) -> int:
    """Count the pixels of the window's border that the object has, within the image."""
    edge = np.zeros_like(look.mask)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    rows, columns = look.window.outside(*np.nonzero(edge & look.mask))
    height, width = shape
    real = (rows > 1) & (rows < height - 2) & (columns > 1) & (columns < width - 2)
    return int(real.sum())


def read(look: Look, clicks: Sequence[Click], shape: tuple[int, ...]) -> Outline:
    """Bring an answer to the resolution of the image.

    Parameters
    ----------
    look
        The answer.
    clicks
        They are kept to: the outline has the pixel of each positive click, and of no negative one.
    shape
        Of the image.
    """
    positive = [click for click in clicks if click.positive]
    box = look.box(shape, _AROUND)
    if box is None and not positive:
        return Outline((slice(0, 1), slice(0, 1)), np.zeros((1, 1), bool), 0.0)
    box = with_clicks(box, positive)
    fine = _enlarged(look.probability, look.window, box)
    mask = fine > 0.5
    pixels = []
    for click in clicks:
        place = round(click.row) - box[0].start, round(click.column) - box[1].start
        if 0 <= place[0] < mask.shape[0] and 0 <= place[1] < mask.shape[1]:
            mask[place] = click.positive
            if click.positive:
                pixels.append(place)
    if pixels:
        mask = region_of(mask, pixels)
    else:  # begun from a box or from a neighbouring plane
        begun = _enlarged(look.mask.astype(np.float32), look.window, box) > 0.5
        mask = regions_that_meet(mask, begun)
    tight = annotated_box(mask)
    if tight is None:
        return Outline(box, mask, 0.0)
    rows, columns = (
        slice(span.start + whole.start, span.stop + whole.start)
        for span, whole in zip(tight, box, strict=True)
    )
    return Outline((rows, columns), np.ascontiguousarray(mask[tight]), look.overlap)


def _enlarged(probability: NDArray[np.float32], window: Window, box: Box) -> NDArray[np.float32]:
    """Interpolate the answer in a window at the pixels of a box of the image."""
    rows, columns = (np.arange(span.start, span.stop, dtype=np.float32) for span in box)
    inside_rows, inside_columns = window.inside(rows, columns)
    half = window.side / 2
    y = torch.from_numpy((inside_rows + 0.5) / half - 1)
    x = torch.from_numpy((inside_columns + 0.5) / half - 1)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].float()
    source = torch.from_numpy(np.ascontiguousarray(probability, np.float32))[None, None]
    found = functional.grid_sample(source, grid, padding_mode="zeros", align_corners=False)
    return found[0, 0].numpy()


def regions_that_meet(mask: Mask, other: Mask) -> Mask:
    """Return the connected regions of a mask that have pixels in common with another."""
    points = zip(*(axis.tolist() for axis in np.nonzero(mask & other)), strict=True)
    return region_of(mask, points)


def first_windows(
    row: float, column: float, shape: tuple[int, ...], apart: float = 0.0
) -> list[Window]:
    """Return windows of several scales around a place, the finest first.

    Parameters
    ----------
    row, column
        The place.
    shape
        Of the image.
    apart
        How far clicks that all have to be in a window are apart, in pixels of the image.
    """
    windows = [
        Window(row, column, zoom, FIRST_SIDE)
        for zoom in _ZOOMS
        # All clicks are in the window, and it is not much wider than the image.
        if apart * zoom < FIRST_SIDE * 0.9 and FIRST_SIDE / zoom <= 2 * (max(shape) + FIRST_SIDE)
    ]
    return windows or [Window(row, column, FIRST_SIDE * 0.7 / apart, FIRST_SIDE)]


def middle_of(clicks: Iterable[Click]) -> tuple[float, float, float]:
    """Return the mean row and column of clicks, and how far they are apart along an axis."""
    rows, columns = zip(*((click.row, click.column) for click in clicks), strict=True)
    apart = float(max(np.ptp(rows), np.ptp(columns)))
    return float(np.mean(rows)), float(np.mean(columns)), apart


def window_around(box: Box, side: int = FIRST_SIDE) -> Window:
    """Return the window of that side in which the larger side of a box has `EXTENT` pixels."""
    row, column = ((span.start + span.stop - 1) / 2 for span in box)
    return Window(row, column, min(EXTENT / max(sides(box)), LARGEST_ZOOM), side)


def with_clicks(box: Box | None, clicks: Iterable[Click]) -> Box:
    """Return the smallest box that has the pixels of a box and of positive clicks."""
    spans = [] if box is None else [[(span.start, span.stop) for span in box]]
    for click in clicks:
        if click.positive:
            pixel = round(click.row), round(click.column)
            spans.append([(place, place + 1) for place in pixel])
    rows, columns = (
        slice(min(each[axis][0] for each in spans), max(each[axis][1] for each in spans))
        for axis in (0, 1)
    )
    return rows, columns


def within(box: Box, shape: tuple[int, ...]) -> Box:
    """Return the part of a box that lies on an image.

    Raises
    ------
    InputError
        If no part does.
    """
    rows, columns = (
        slice(max(0, span.start or 0), length if span.stop is None else min(length, span.stop))
        for span, length in zip(box, shape, strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise InputError("the box lies outside of the image; draw it around an object")
    return rows, columns


def sides(box: Box) -> tuple[int, int]:
    """Return the height and the width of a box."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start
