"""Exact distances to the nearest and the second-nearest object, for many objects at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image, compact_labels
from napari_unet.ops.tiling import Box

# What a call of the distance transform costs beside its pixels, in pixels (200 us).
_CALL_PIXELS = 3000


def border_distances(
    labels: ArrayLike, reach: float = math.inf
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the distance to the nearest and to the second-nearest object.

    Euclidean distances between pixel centres, exact to float precision. The cost does not grow as
    objects times pixels: one distance transform of the image, and for d2 at most
    2 log2(objects) more, or one small window per object where that is less.

    Parameters
    ----------
    labels
        Instance labels, shape (Y, X), 0 is background; as in `weight_map`, but nothing is
        separated.
    reach
        Pixels. d2 is given where ``d1 + d2 <= reach`` and infinite elsewhere; a finite reach
        is faster.

    Returns
    -------
    d1, d2 : ndarray of float64, shape (Y, X)
        d1 is 0 on objects, d2 on an object is the distance to the nearest other one. Infinite
        where there is no (second) object.

    Raises
    ------
    InputError
        If the labels are not 2D whole numbers >= 0 with pixels, or reach is negative or NaN.
    """
    if not reach >= 0:
        raise InputError(f"reach = {reach} is out of range; choose pixels >= 0 or infinity")
    objects, count = compact_labels(as_label_image(labels))
    return two_distances(objects, count, reach)


def two_distances(
    objects: NDArray[np.int32], count: int, reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure as `border_distances` does, on objects numbered 1 to `count` without gaps.

    Parameters
    ----------
    objects
        Shape (Y, X); 0 is background.
    count
        The number of objects.
    reach
        As for `border_distances`.

    Returns
    -------
    d1, d2 : ndarray of float64, shape (Y, X)
        As from `border_distances`.
    """
    nothing = np.full(objects.shape, np.inf)
    if count == 0:
        return nothing, nothing.copy()
    d1, nearest = _distance_to(objects > 0)
    if count == 1:
        return d1, nothing
    owner = objects[nearest[0], nearest[1]]
    d2 = _second_distance(objects, count, owner, d1, reach)
    d2[d1 + d2 > reach] = np.inf
    return d1, d2


def _second_distance(
    objects: NDArray[np.int32],
    count: int,
    owner: NDArray[np.int32],
    d1: NDArray[np.float64],
    reach: float,
) -> NDArray[np.float64]:
    """Distance to the nearest object but `owner`; right where it is within the reach.

    Two different numbers differ in some binary digit. So the nearest among the objects that differ
    from the owner in digit 0, in digit 1, ... is the nearest of all objects but the owner. After
    every digit d2 is an upper bound, with which small windows, one per object, may do for the rest.
    """
    d2 = np.full(objects.shape, np.inf)
    boxes = ndimage.find_objects(objects)
    digits = (count - 1).bit_length()
    for bit in range(digits):
        windows = _windows(boxes, owner, d1, d2, reach)
        if _are_worth_it(windows, objects.size, bit, digits):
            _improve_by_windows(d2, objects, owner, windows)
            break
        _improve_by_digit(d2, objects, owner, bit)
    return d2


def _distance_to(target: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Distance to the nearest target pixel, and that pixel's row and column; there must be one."""
    nearest = ndimage.distance_transform_edt(~target, return_distances=False, return_indices=True)
    rows = nearest[0] - np.arange(target.shape[0], dtype=np.int32)[:, np.newaxis]
    columns = nearest[1] - np.arange(target.shape[1], dtype=np.int32)
    return np.hypot(rows, columns), nearest


def _windows(
    boxes: list[Box],
    owner: NDArray[np.int32],
    d1: NDArray[np.float64],
    d2: NDArray[np.float64],
    reach: float,
) -> list[Box]:
    """For each object its bounding box, grown so far that it shows the second-nearest objects.

    For a pixel whose nearest object is i, the second-nearest has a pixel within d1 + d2 of
    object i. Upper bounds of d2 will do, and no more than `reach` is wanted.
    """
    wanted = 2 * d1 <= reach
    margins = np.zeros(len(boxes) + 1)
    np.maximum.at(margins, owner[wanted], np.minimum(d1[wanted] + d2[wanted], reach))
    grown = zip(boxes, margins[1:], strict=True)
    return [grow_box(box, margin, owner.shape)[0] for box, margin in grown]


def _are_worth_it(windows: list[Box], size: int, bit: int, digits: int) -> bool:
    """Tell whether windows cost less than the digits that are left, two transforms each.

    Before the first digit they must cost half of it: one digit makes them far smaller if the reach
    is large, further digits hardly do.
    """
    limit = digits if bit == 0 else 2 * (digits - bit)
    pixels = [
        _CALL_PIXELS + (rows.stop - rows.start) * (columns.stop - columns.start)
        for rows, columns in windows
    ]
    return bool(sum(pixels) < limit * size)


def _improve_by_windows(
    d2: NDArray[np.float64],
    objects: NDArray[np.int32],
    owner: NDArray[np.int32],
    windows: list[Box],
) -> None:
    """One distance transform per object, each in its window."""
    for label, window in enumerate(windows, start=1):
        seen = objects[window]
        others = (seen != 0) & (seen != label)
        if others.any():
            mine = owner[window] == label
            np.minimum(d2[window], _distance_to(others)[0], out=d2[window], where=mine)


def _improve_by_digit(
    d2: NDArray[np.float64], objects: NDArray[np.int32], owner: NDArray[np.int32], bit: int
) -> None:
    """Two distance transforms: to the objects with and without this binary digit."""
    ones = ((objects - 1) >> bit & 1).astype(bool)
    owner_ones = ((owner - 1) >> bit & 1).astype(bool)
    for side in (False, True):
        target = (ones == side) & (objects > 0)
        mine = owner_ones != side
        if target.any() and mine.any():
            np.minimum(d2, _distance_to(target)[0], out=d2, where=mine)


def grow_box(box: Box, margin: float, shape: tuple[int, ...]) -> tuple[Box, Box]:
    """Grow a box as far as the image goes.

    Parameters
    ----------
    box
        Rows and columns; an open start or stop is the image's.
    margin
        Pixels at each side; may be infinite.
    shape
        Rows and columns of the image.

    Returns
    -------
    outer : Box
        The grown box.
    inner : Box
        Where `box` lies in it.
    """
    spans = [span.indices(length) for span, length in zip(box, shape, strict=True)]
    whole = int(min(margin, max(shape)))
    grown = [
        (max(0, start - whole), min(length, stop + whole))
        for (start, stop, _), length in zip(spans, shape, strict=True)
    ]
    outer = [slice(*span) for span in grown]
    inner = [
        slice(start - first, max(start, stop) - first)
        for (start, stop, _), (first, _) in zip(spans, grown, strict=True)
    ]
    return (outer[0], outer[1]), (inner[0], inner[1])
