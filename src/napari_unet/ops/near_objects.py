"""Squared distances to the nearest and the second-nearest object, where both are near.

Exact, for images with square pixels and a short reach: what the weight map needs. As in
Felzenszwalb and Huttenlocher 2012 (doi 10.4086/toc.2012.v008a019, section 4) the minimum is taken
along one axis after the other, but for two objects, and over all columns within the reach. That is
more arithmetic than a distance transform, of whole numbers of 16 bits in arrays that fit into the
cache: a processor does 16 or 32 of them at once.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.tiling import Box

#: Pixels. Beyond, the sum of two squares needs more than 16 bits. Up to here it is at least twice
#: as fast as distance transforms; see docs/architecture.md.
LONGEST_REACH: Final = 180.0
# Columns that are computed together, so that their arrays fit into the second-level cache.
_COLUMNS = 128
# After so many steps to the side it is looked whether all distances are found.
_LOOK_EVERY = 4

Unsigned = NDArray[np.unsignedinteger[Any]]


def two_squared_distances(
    objects: NDArray[np.integer[Any]], part: Box, reach: float
) -> tuple[Unsigned, Unsigned]:
    """Measure the squared distances of background pixels to the two nearest objects.

    Parameters
    ----------
    objects
        Shape (Y, X); 0 is background, every other value one object.
    part
        Rows and columns that are wanted, each with a start and a stop. Pixels farther than the
        reach around them do not matter.
    reach
        Pixels, 0 to `LONGEST_REACH`.

    Returns
    -------
    nearest, second : ndarray of unsigned int, shape (X, Y) of the part
        Squared distances in pixels, with the columns first. They are right where the sum of both
        distances is at most the reach. Elsewhere the sum of those that are returned is above the
        reach too; on objects `nearest` is 0 and `second` is without meaning. Where no second
        object was found, `second` is ``int(reach**2) + 1``.
    """
    radius, limit = int(reach), int(reach**2) + 1
    rows, columns = part
    around = tuple(
        slice(max(0, span.start - radius), min(length, span.stop + radius))
        for span, length in zip(part, objects.shape, strict=True)
    )
    kind = np.uint16 if objects[around].max(initial=0) < 2**16 else np.uint32
    seen: Unsigned = objects[around].astype(kind)
    first = rows.start - around[0].start
    found = _along_columns(seen, slice(first, first + rows.stop - rows.start), radius)
    for square in found[:2]:
        np.multiply(square, square, out=square)
        np.minimum(square, limit, out=square)
    # Columns come first from here on: steps to the side are steps along the first axis then, and
    # the processor loads whole lines.
    wide, high = columns.stop - columns.start, rows.stop - rows.start
    padded = np.empty((3, wide + 2 * radius, high), seen.dtype)
    padded[:2], padded[2] = limit, 0
    begin = radius - (columns.start - around[1].start)
    padded[:, begin : begin + seen.shape[1]] = found.transpose(0, 2, 1)
    result = np.empty((2, wide, high), seen.dtype)
    for start in range(0, wide, _COLUMNS):
        stop = min(start + _COLUMNS, wide)
        _across_columns(padded[:, start : stop + 2 * radius], reach, result[:, start:stop])
    return result[0], result[1]


def _along_columns(objects: Unsigned, rows: slice, radius: int) -> Unsigned:
    """Find the nearest object within each column, and the nearest pixel of any other.

    Returns
    -------
    ndarray, shape (3, rows, columns)
        Distance to the nearest, to the other, and the nearest one's number. A distance of
        ``radius + 1`` stands for none.
    """
    above = _scan(objects[: rows.stop], rows.start, radius)
    below = _scan(objects[rows.start :][::-1], len(objects) - rows.stop, radius)[:, ::-1]
    # The farther one of two different objects is a second one.
    second = np.maximum(above[0], below[0])
    second[above[2] == below[2]] = radius + 1
    np.minimum(second, above[1], out=second)
    np.minimum(second, below[1], out=above[1])
    np.copyto(above[2], below[2], where=below[0] < above[0])
    np.minimum(above[0], below[0], out=above[0])
    return above


def _scan(objects: Unsigned, first: int, radius: int) -> Unsigned:
    """Find the two nearest objects at or above each pixel, from row `first` on.

    Returns
    -------
    ndarray
        As from `_along_columns`.
    """
    width, none = objects.shape[1], objects.dtype.type(radius + 1)
    found = np.empty((3, len(objects) - first, width), objects.dtype)
    near, far, owner = np.full(width, none), np.full(width, none), np.zeros_like(objects[0])
    is_object, is_new = objects > 0, np.empty(width, bool)
    for row, (labels, here) in enumerate(zip(objects, is_object, strict=True), start=-first):
        near += 1
        far += 1
        np.not_equal(labels, owner, out=is_new)
        is_new &= here
        np.copyto(far, near, where=is_new)
        np.copyto(near, 0, where=here)
        np.copyto(owner, labels, where=here)
        if row >= 0:
            found[0, row], found[1, row], found[2, row] = near, far, owner
    np.minimum(found[:2], none, out=found[:2])
    return found


def _across_columns(columns: Unsigned, reach: float, result: Unsigned) -> None:
    """Find the two nearest objects from those within each column.

    Parameters
    ----------
    columns
        Shape (3, X + 2 int(reach), Y): squared distances within the column, and the nearest
        object's number.
    reach
        Pixels.
    result
        Shape (2, X, Y), to be filled with the squared distances.
    """
    near, far, owners = columns
    radius = int(reach)
    nearest, second = result
    owner = _nearest(near, owners, radius, nearest)
    gain = far - near
    # What nobody asks for need not be waited for.
    unwanted = (nearest == 0) | (nearest > (reach / 2) ** 2)
    second[:] = int(reach**2) + 1
    second[unwanted] = 0
    left, right = np.empty_like(owner), np.empty_like(owner)
    for step in range(radius + 1):
        for place, out in ((radius - step, left), (radius + step, right)):
            # A column's nearest object counts, or its second if the nearest is the owner itself:
            # far - gain * (1 if it is another one, else 0).
            there = slice(place, place + len(owner))
            np.bitwise_xor(owners[there], owner, out=out)
            np.minimum(out, 1, out=out)
            np.multiply(out, gain[there], out=out)
            np.subtract(far[there], out, out=out)
        np.minimum(left, right, out=left)
        left += left.dtype.type(step**2)
        np.minimum(second, left, out=second)
        if step % _LOOK_EVERY == 0 and second.max() <= step**2:
            break
    second[unwanted] = int(reach**2) + 1


def _nearest(near: Unsigned, owners: Unsigned, radius: int, nearest: Unsigned) -> Unsigned:
    """Find the nearest object if it is within half the radius, and return its number.

    Of two objects within the reach the nearest one is no farther away than half of it.
    """
    # The number travels along in the lower digits of the distance.
    digits = 8 * near.itemsize
    both = (near.astype(f"u{2 * near.itemsize}") << digits) | owners
    wide = len(nearest)
    best = both[radius : radius + wide].copy()
    one = np.empty_like(best)
    for step in range(1, radius // 2 + 1):
        left, right = both[radius - step :][:wide], both[radius + step :][:wide]
        np.minimum(left, right, out=one)
        one += one.dtype.type(step**2 << digits)
        np.minimum(best, one, out=best)
    nearest[:] = best >> digits
    return best.astype(near.dtype)
