"""Exact distances to the nearest and the second-nearest object, for many objects at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image, compact_labels
from napari_unet.ops.tiling import Box

# What a call of the distance transform costs beside its pixels, in pixels (200 us).
_CALL_PIXELS = 3000
# Pixels that a margin is larger than it must be.
_ROUNDING = 1e-6


def border_distances(
    labels: ArrayLike, reach: float = math.inf, spacing: Sequence[float] | None = None
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
    spacing
        Size of a pixel along each axis; three numbers for a stack, shape (Z, Y, X). Distances and
        `reach` are in its unit then. None: pixels of an image.

    Returns
    -------
    d1, d2 : ndarray of float64, shape of the labels
        d1 is 0 on objects, d2 on an object is the distance to the nearest other one. Infinite
        where there is no (second) object.

    Raises
    ------
    InputError
        If the labels are not 2D whole numbers >= 0 with pixels, or reach is negative or NaN.
    """
    if not reach >= 0:
        raise InputError(f"reach = {reach} is out of range; choose pixels >= 0 or infinity")
    spacing = check_spacing(spacing)
    objects, count = compact_labels(as_label_image(labels, ndim=len(spacing)))
    return two_distances(objects, count, reach, spacing)


def check_spacing(spacing: Sequence[float] | None) -> tuple[float, ...]:
    """Return the size of a pixel along each axis; (1, 1) for None.

    Raises
    ------
    InputError
        If it is not two or three finite numbers above 0.
    """
    if spacing is None:
        return (1.0, 1.0)
    if len(spacing) not in (2, 3) or not all(0 < each < math.inf for each in spacing):
        raise InputError(
            f"a spacing of {tuple(spacing)} is not possible; give the size of a pixel along rows "
            "and columns, or the distance of planes first, each above 0"
        )
    return tuple(float(each) for each in spacing)


def two_distances(
    objects: NDArray[np.int32], count: int, reach: float, spacing: Sequence[float] = (1.0, 1.0)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure as `border_distances` does, on objects numbered 1 to `count` without gaps.

    Parameters
    ----------
    objects
        Shape (Y, X) or (Z, Y, X); 0 is background.
    count
        The number of objects.
    reach, spacing
        As for `border_distances`.

    Returns
    -------
    d1, d2 : ndarray of float64, shape of `objects`
        As from `border_distances`.
    """
    nothing = np.full(objects.shape, np.inf)
    if count == 0:
        return nothing, nothing.copy()
    d1, nearest = _distance_to(objects > 0, spacing)
    if count == 1:
        return d1, nothing
    owner = objects[tuple(nearest)]
    d2 = _second_distance(objects, count, owner, d1, reach, spacing)
    d2[d1 + d2 > reach] = np.inf
    return d1, d2


def _second_distance(
    objects: NDArray[np.int32],
    count: int,
    owner: NDArray[np.int32],
    d1: NDArray[np.float64],
    reach: float,
    spacing: Sequence[float],
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
        windows = _windows(boxes, owner, d1, d2, reach, spacing)
        if _are_worth_it(windows, objects.size, bit, digits):
            _improve_by_windows(d2, objects, owner, windows, spacing)
            break
        _improve_by_digit(d2, objects, owner, bit, spacing)
    return d2


def _distance_to(
    target: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Distance to the nearest target pixel, and that pixel's position; there must be one."""
    nearest = ndimage.distance_transform_edt(
        ~target, sampling=spacing, return_distances=False, return_indices=True
    )
    here = np.ogrid[tuple(slice(length) for length in target.shape)]
    offsets = [
        (there - place) * size for there, place, size in zip(nearest, here, spacing, strict=True)
    ]
    return reduce(np.hypot, offsets), nearest


def _windows(
    boxes: list[Box],
    owner: NDArray[np.int32],
    d1: NDArray[np.float64],
    d2: NDArray[np.float64],
    reach: float,
    spacing: Sequence[float],
) -> list[Box]:
    """For each object its bounding box, grown so far that it shows the second-nearest objects.

    For a pixel whose nearest object is i, the second-nearest has a pixel within d1 + d2 of
    object i. Upper bounds of d2 will do, and no more than `reach` is wanted.
    """
    wanted = 2 * d1 <= reach
    margins = np.zeros(len(boxes) + 1)
    np.maximum.at(margins, owner[wanted], np.minimum(d1[wanted] + d2[wanted], reach))
    grown = zip(boxes, margins[1:], strict=True)
    return [grow_box(box, margin, owner.shape, spacing)[0] for box, margin in grown]


def _are_worth_it(windows: list[Box], size: int, bit: int, digits: int) -> bool:
    """Tell whether windows cost less than the digits that are left, two transforms each.

    Before the first digit they must cost half of it: one digit makes them far smaller if the reach
    is large, further digits hardly do.
    """
    limit = digits if bit == 0 else 2 * (digits - bit)
    pixels = [
        _CALL_PIXELS + math.prod(span.stop - span.start for span in window) for window in windows
    ]
    return bool(sum(pixels) < limit * size)


def _improve_by_windows(
    d2: NDArray[np.float64],
    objects: NDArray[np.int32],
    owner: NDArray[np.int32],
    windows: list[Box],
    spacing: Sequence[float],
) -> None:
    """One distance transform per object, each in its window."""
    for label, window in enumerate(windows, start=1):
        seen = objects[window]
        others = (seen != 0) & (seen != label)
        if others.any():
            mine = owner[window] == label
            distance = _distance_to(others, spacing)[0]
            np.minimum(d2[window], distance, out=d2[window], where=mine)


def _improve_by_digit(
    d2: NDArray[np.float64],
    objects: NDArray[np.int32],
    owner: NDArray[np.int32],
    bit: int,
    spacing: Sequence[float],
) -> None:
    """Two distance transforms: to the objects with and without this binary digit."""
    ones = ((objects - 1) >> bit & 1).astype(bool)
    owner_ones = ((owner - 1) >> bit & 1).astype(bool)
    for side in (False, True):
        target = (ones == side) & (objects > 0)
        mine = owner_ones != side
        if target.any() and mine.any():
            np.minimum(d2, _distance_to(target, spacing)[0], out=d2, where=mine)


def grow_box(
    box: Box, margin: float, shape: tuple[int, ...], spacing: Sequence[float] | None = None
) -> tuple[Box, Box]:
    """Grow a box as far as the image goes.

    Parameters
    ----------
    box
        A slice for each axis; an open start or stop is the image's.
    margin
        At each side, in pixels or in the unit of `spacing`; may be infinite.
    shape
        Of the image.
    spacing
        Size of a pixel along each axis; None: 1.

    Returns
    -------
    outer : Box
        The grown box.
    inner : Box
        Where `box` lies in it.
    """
    spans = [span.indices(length) for span, length in zip(box, shape, strict=True)]
    # A distance that is a whole number of pixels must not become less by rounding.
    margins = [
        int(min(margin / size + _ROUNDING, max(shape))) for size in spacing or (1.0,) * len(shape)
    ]
    grown = [
        (max(0, start - whole), min(length, stop + whole))
        for (start, stop, _), length, whole in zip(spans, shape, margins, strict=True)
    ]
    outer = tuple(slice(*span) for span in grown)
    inner = tuple(
        slice(start - first, max(start, stop) - first)
        for (start, stop, _), (first, _) in zip(spans, grown, strict=True)
    )
    return outer, inner
