"""Topological disagreement of two binary images: the warping error."""

from __future__ import annotations

from functools import cache
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.ops.metrics.contingency import same_shape

# The eight neighbours (row, column) in the order of the bits of a neighbourhood.
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_EIGHT = np.ones((3, 3), bool)


def warping_error(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Compute the share of pixels that are still wrong after warping the truth.

    Parameters
    ----------
    prediction, truth
        Shape (Y, X); not 0 within cells, 0 on the borders between them.

    Returns
    -------
    float
        0 (the prediction has the topology of the truth, and lies over it) to 1.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Source: Jain et al. 2010, Boundary learning by optimization with topological constraints, CVPR.
    See `warp` for the warping and `split_merge_error` for what the EM challenge reports under this
    name.
    """
    wrong = warp(truth, prediction) != np.asarray(prediction, bool)
    return float(wrong.mean()) if wrong.size else 0.0


def split_merge_error(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Compute the share of pixels that are wrong after warping and split or merge objects.

    Parameters
    ----------
    prediction, truth
        Shape (Y, X); not 0 within cells, 0 on the borders between them.

    Returns
    -------
    float
        0 to `warping_error`.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    The "minimum splits and mergers warping error" of the ISBI 2012 challenge: of the pixels still
    wrong after warping those count whose change joins two objects or splits one; objects and holes
    that are added or lost do not count. Its page (Fiji, "Minimum Splits and Mergers Warping error")
    takes the threshold of the probabilities, 0 to 0.9 in steps of 0.1, with the least error over
    all sections, counts pixels, not connected groups of them, and divides by the number of pixels.
    So the warping error of 0.000353 in table 1 of the U-Net paper, 93 pixels a section, is to be
    compared with this, not with `warping_error`. One liberty remains: whether a pixel parts an
    object is asked of the whole image here; the organisers' program can be told to look no further
    than a radius, which calls more of them splits.
    """
    warped = warp(truth, prediction)
    wrong = warped != np.asarray(prediction, bool)
    return float(_splits_or_merges(warped, wrong).sum() / max(wrong.size, 1))


def warp(source: NDArray[Any], target: NDArray[Any]) -> NDArray[np.bool_]:
    """Deform a binary image towards another one without changing its topology.

    Parameters
    ----------
    source, target
        Shape (Y, X); what is not 0 is foreground. Foreground is 4-connected, background
        8-connected; outside the image is background.

    Returns
    -------
    ndarray of bool, shape (Y, X)
        `source` after flipping simple points that differ from `target` until none is left.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Jain et al. 2010, CVPR; simple points: Bertrand and Malandain 1994, Pattern Recognition
    Letters 15:169. What comes out depends on the order of the flips. As in the program of the EM
    challenge, the pixels that differ are swept column by column, over and over, until a sweep
    flips none. (There, pixels with a probability far from the threshold come first; here
    predictions are binary.)
    """
    same_shape(source, target)
    start, goal = (np.pad(np.asarray(image, bool).T, 1) for image in (source, target))
    state = bytearray(start.tobytes())
    wrong = bytearray((start != goal).tobytes())
    _flip_simple_points(state, wrong, start.shape[1])
    warped = np.frombuffer(state, np.bool_).reshape(start.shape)
    return warped[1:-1, 1:-1].T.copy()


def _flip_simple_points(state: bytearray, wrong: bytearray, width: int) -> None:
    """Flip in `state`, in place, the simple points that are `wrong`; a frame is never wrong."""
    offsets = [row * width + column for row, column in _NEIGHBOURS]
    simple, size = _simple_points(), len(state)
    # A pixel must be looked at again only after a neighbour was flipped: in this sweep if its turn
    # is still to come, otherwise in the next. The key is sweep * size + pixel.
    queue = np.flatnonzero(np.frombuffer(wrong, np.bool_)).tolist()
    heapify(queue)
    due = [0] * size
    while queue:
        sweep, pixel = divmod(heappop(queue), size)
        around = [pixel + offset for offset in offsets]
        if not simple[sum(state[place] << bit for bit, place in enumerate(around))]:
            continue
        state[pixel] ^= 1
        wrong[pixel] = 0
        for place in around:
            next_sweep = sweep + (place < pixel)
            if wrong[place] and due[place] < next_sweep:
                due[place] = next_sweep
                heappush(queue, next_sweep * size + place)


@cache
def _simple_points() -> bytes:
    """Tell for each of the 256 neighbourhoods whether its centre may be flipped.

    It may if the foreground around it forms one 4-connected piece that touches it by an edge, and
    the background one 8-connected piece.
    """
    table = bytearray(256)
    for code in range(256):
        pieces, _ = ndimage.label(_ring(code))
        touching = set(pieces[[0, 1, 1, 2], [1, 0, 2, 1]].tolist()) - {0}
        table[code] = len(touching) == 1 and int(_gaps()[code]) == 1
    return bytes(table)


@cache
def _gaps() -> NDArray[np.intp]:
    """Count for each of the 256 neighbourhoods the 8-connected pieces of background in it."""
    counts = np.zeros(256, np.intp)
    for code in range(256):
        free = ~_ring(code)
        free[1, 1] = False
        counts[code] = ndimage.label(free, _EIGHT)[1]
    return counts


def _ring(code: int) -> NDArray[np.bool_]:
    ring = np.zeros((3, 3), bool)
    for bit, (row, column) in enumerate(_NEIGHBOURS):
        ring[row + 1, column + 1] = code >> bit & 1
    return ring


def _splits_or_merges(image: NDArray[np.bool_], pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each of the `pixels` whether its flip would join objects of `image` or split one.

    It does if two objects are next to it. If there is one, a foreground pixel splits it if two
    gaps around the pixel are the same background: with the pixel, that background closes a ring
    around a part of the object.
    """
    padded = np.pad(image, 1)
    rows, columns = np.nonzero(np.pad(pixels, 1))
    down, right = np.array(_NEIGHBOURS).T
    around = rows[:, None] + down, columns[:, None] + right
    near = ndimage.label(padded)[0][around]
    backgrounds = _distinct(ndimage.label(~padded, _EIGHT)[0][around])
    gaps = _gaps()[(near > 0) @ (1 << np.arange(len(_NEIGHBOURS)))]
    changes: NDArray[np.bool_] = padded[rows, columns] & (gaps > backgrounds)
    changes |= _distinct(near) > 1
    return changes


def _distinct(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Count the different labels of each row, 0 excluded."""
    ordered = np.sort(labels, axis=1)
    new = np.diff(ordered, axis=1, prepend=0) > 0
    counts: NDArray[np.intp] = new.sum(axis=1)
    return counts
