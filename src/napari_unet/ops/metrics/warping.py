"""The warping error: what is left when the truth may be deformed, but not torn.

Source: Jain et al., "Boundary learning by optimization with topological constraints", CVPR 2010,
section 3. A pixel is simple if flipping it changes the topology of the image nowhere: neither
joins nor parts objects, opens nor closes holes. Objects are 4-connected and the border between
them 8-connected, as in the EM challenge, where a diagonal line of border parts two cells.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_unet.ops.metrics.pixels import same_shape

# The eight neighbours around a pixel, in order, so that consecutive ones touch by an edge.
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def warping_error(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Compute the warping error: the share of pixels where the warped truth is not the prediction.

    The truth is warped onto the prediction: simple pixels in which they differ are flipped until
    there is none left. What remains are the places where objects are parted, joined, lost or made
    up; a border that lies a little aside costs nothing. Pixels closest to what both agree on are
    flipped first, which settles the order and lets whole bands move.

    Parameters
    ----------
    prediction, truth
        Shape (Y, X), boolean or 0 and 1; True is the interior of cells.

    Returns
    -------
    float
        0 to 1, less is better. The EM challenge counted pixels in this way, averaged over the
        sections; its later variant counts splits and mergers instead.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    p, t = np.asarray(prediction) != 0, np.asarray(truth) != 0
    same_shape(p, t)
    if not p.size:
        return 0.0
    return float((warp(t, p) != p).mean())


def warp(source: NDArray[np.bool_], target: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Flip simple pixels of `source` towards `target` until none is left.

    Parameters
    ----------
    source, target
        Shape (Y, X), boolean; True is 4-connected, False 8-connected. Beyond the image there is
        nothing: its outermost pixels are seen as continuing outwards.

    Returns
    -------
    ndarray of bool, shape (Y, X)
        Of the same topology as `source`.
    """
    columns = source.shape[1] + 2
    # The frame continues the image, and is never flipped itself.
    image = np.pad(source, 1, mode="edge").ravel().tolist()
    goal = np.pad(target, 1, mode="edge").ravel().tolist()
    offsets = [row * columns + column for row, column in _RING]
    differs = np.pad(source != target, 1)
    depth = ndimage.distance_transform_cdt(differs, "taxicab").ravel().tolist()
    waiting = [(depth[place], place) for place in np.flatnonzero(differs.ravel()).tolist()]
    heapq.heapify(waiting)
    stuck: set[int] = set()
    while waiting:
        _, place = heapq.heappop(waiting)
        if image[place] == goal[place]:
            continue
        code = sum(image[place + offset] << bit for bit, offset in enumerate(offsets))
        if not _SIMPLE[code]:
            stuck.add(place)
            continue
        image[place] = goal[place]
        for offset in offsets:  # what was not simple before may be so now
            neighbour = place + offset
            if neighbour in stuck:
                stuck.remove(neighbour)
                heapq.heappush(waiting, (depth[neighbour], neighbour))
    warped = np.array(image, bool).reshape(source.shape[0] + 2, columns)
    return warped[1:-1, 1:-1]


def _simple_neighbourhoods() -> list[bool]:
    """Say for each of the 256 neighbourhoods whether the pixel amid it is simple.

    It is if exactly one 4-connected component of True neighbours touches it by an edge, and
    exactly one 8-connected component of False neighbours touches it at all.
    """
    simple = []
    for code in range(256):
        window = np.zeros((3, 3), bool)
        for bit, (row, column) in enumerate(_RING):
            window[1 + row, 1 + column] = code >> bit & 1
        simple.append(_components(window, 4) == 1 == _components(~window, 8))
    return simple


def _components(window: NDArray[np.bool_], connectivity: int) -> int:
    """Count the components in a 3x3 window, without its middle, that touch the middle."""
    window = window.copy()
    window[1, 1] = False
    structure: Any = None if connectivity == 4 else np.ones((3, 3))
    labels, _ = ndimage.label(window, structure)
    touching = labels[[0, 1, 1, 2], [1, 0, 2, 1]] if connectivity == 4 else labels
    return len(set(np.unique(touching).tolist()) - {0})


_SIMPLE = _simple_neighbourhoods()
