"""The weight map that makes touching cells come apart.

Ronneberger, Fischer, Brox 2015, equation 2::

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 sigma**2))

w_c balances the frequency of object and background pixels; d1 and d2 are the distances to the
nearest and the second-nearest object. The second term raises the thin background ridges between
objects, which decide whether two cells are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.ops.annotations import BACKGROUND
from napari_unet.ops.cores import usable_cores
from napari_unet.ops.distances import border_distances, check_spacing, grow_box, two_distances
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image, compact_labels, connected_regions, runs
from napari_unet.ops.near_objects import LONGEST_REACH, two_squared_distances
from napari_unet.ops.tiling import Box

__all__ = [
    "annotation_weights",
    "border_distances",
    "class_weights",
    "separate_touching",
    "weight_map",
]

# Beyond d1 + d2 = _RELEVANT * sigma the border term is below 1e-8 w0, which is lost when it is
# added to class weights around 1 in float32.
_RELEVANT = math.sqrt(2 * math.log(1e8))
# Rows whose border is computed together; arrays of this height fit into the second-level cache.
_ROWS = 256
# Times an object that a ridge would eat up is given precedence and the ridges are drawn anew.
_RIDGE_ROUNDS = 8


def weight_map(
    labels: ArrayLike,
    w0: float = 10.0,
    sigma: float = 5.0,
    *,
    balance: float = 1.0,
    window: Box | None = None,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Compute the per-pixel loss weights of a fully labelled image (equation 2).

    Touching objects are separated first by a background ridge, as in the paper
    (`separate_touching`). The result does not depend on how the objects are numbered.

    Parameters
    ----------
    labels
        Instance labels, shape (Y, X): 0 is background, every other value one object, connected or
        not. Any integer dtype; whole floats; True is one object.
    w0
        Height of the border term; 10 in the paper. 0 switches it off.
    sigma
        Width of the border term in pixels; 5 in the paper.
    balance
        w_c is proportional to (frequency of object or background)**-balance, and its mean over
        the image is 1. 1 gives both the same total weight, 0 gives every pixel 1.
    window
        Rows and columns, within the image, for which the weights are wanted (what is on screen);
        None for all. Its values are those of the whole map, for less work.
    spacing
        Size of a pixel along each axis; three numbers for a stack, shape (Z, Y, X). Distances and
        `sigma` are in its unit then. None: pixels of an image.

    Returns
    -------
    ndarray of float32, shape of the labels, or that of the window
        Weights > 0. The border term stands on background pixels alone, ridges included; with
        fewer than two objects there is none. Terms below 1e-8 w0 are left out.

    Raises
    ------
    InputError
        If the labels are not whole numbers >= 0 with pixels and with as many axes as `spacing`
        has, or a parameter is out of range.
    """
    _check_parameters(w0, sigma, balance)
    spacing = check_spacing(spacing)
    objects, count = compact_labels(as_label_image(labels, ndim=len(spacing)))
    objects[_ridges(objects, count, width=1)] = 0
    covered = np.count_nonzero(objects)
    table = class_weights(np.array([objects.size - covered, covered]), balance).astype(np.float32)
    window = window or _everything(spacing)
    background = objects[window] == 0
    weights: NDArray[np.float32] = np.where(background, table[0], table[1])
    _add_border(weights, background, objects, window, w0, sigma, spacing)
    return weights


def annotation_weights(
    annotations: ArrayLike,
    w0: float = 10.0,
    sigma: float = 5.0,
    *,
    balance: float = 1.0,
    window: Box | None = None,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Compute the per-pixel loss weights of sparse strokes (equation 2, on what is annotated).

    Parameters
    ----------
    annotations
        Shape (Y, X): 0 is not annotated, 1 background, 2 and up are classes.
    w0, sigma, balance, window, spacing
        As in `weight_map`. The border term stands on annotated background between separate
        strokes of the other classes, where a stroke is an 8-connected region of one label.

    Returns
    -------
    ndarray of float32, shape of the annotations, or that of the window
        0 where nothing is annotated. Without the border term the mean over annotated pixels is 1,
        and with ``balance=1`` every class that occurs has the same total.

    Raises
    ------
    InputError
        As for `weight_map`.
    """
    _check_parameters(w0, sigma, balance)
    spacing = check_spacing(spacing)
    classes = as_label_image(annotations, "annotation", len(spacing)).astype(np.intp)
    frequency = np.bincount(classes.ravel())
    frequency[0] = 0
    strokes, _ = connected_regions(np.where(classes > BACKGROUND, classes, 0))
    window = window or _everything(spacing)
    weights = class_weights(frequency, balance).astype(np.float32)[classes[window]]
    background = classes[window] == BACKGROUND
    _add_border(weights, background, strokes, window, w0, sigma, spacing)
    return weights


def _everything(spacing: Sequence[float]) -> Box:
    return (slice(None),) * len(spacing)


def _check_parameters(w0: float, sigma: float, balance: float) -> None:
    # Written so that NaN fails every test.
    if not 0 <= w0 <= 1e6:
        raise InputError(f"w0 = {w0} is out of range; choose 0 to 1e6 (the paper has 10)")
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma = {sigma} is out of range; choose pixels > 0 (the paper has 5)")
    if not 0 <= balance <= 1:
        raise InputError(f"balance = {balance} is out of range; choose 0 (none) to 1 (full)")


def class_weights(pixels: NDArray[np.integer[Any]], balance: float) -> NDArray[np.float64]:
    """Compute w_c of each class: frequency**-balance, with mean 1 over pixels.

    Parameters
    ----------
    pixels
        Number of pixels of each class; 0 where a class does not occur or does not count.
    balance
        0 weighs every pixel alike, 1 gives every class the same total.

    Returns
    -------
    ndarray of float64
        One weight per class, 0 for a class without pixels.
    """
    present = pixels > 0
    weights = np.zeros(len(pixels))
    if present.any():
        frequency = pixels[present] / pixels.sum()
        weights[present] = frequency**-balance / (frequency ** (1 - balance)).sum()
    return weights


def _add_border(
    weights: NDArray[np.float32],
    background: NDArray[np.bool_],
    objects: NDArray[np.int32],
    window: Box,
    w0: float,
    sigma: float,
    spacing: Sequence[float],
) -> None:
    """Add w0 exp(-(d1 + d2)^2 / (2 sigma^2)) to the background where it is not negligible.

    Parameters
    ----------
    weights, background
        Of the window. No object may count as background.
    objects
        The whole image.
    window, w0, sigma, spacing
        As for `weight_map`.
    """
    if weights.size == 0 or w0 == 0:
        return
    reach = _RELEVANT * sigma
    # Objects beyond the reach do not matter to the window.
    around, inside = grow_box(window, reach, objects.shape, spacing)
    seen = objects[around]
    square = len(spacing) == 2 and spacing[0] == spacing[1]
    if square and reach / spacing[0] <= LONGEST_REACH:
        _add_near_border(weights, background, seen, inside, w0, sigma / spacing[0])
        return
    seen, count = compact_labels(seen)
    if count >= 2:
        d1, d2 = two_distances(seen, count, reach, spacing)
        total = (d1 + d2)[inside]
        near = background & (total <= reach)
        weights[near] += w0 * np.exp(-0.5 * (total[near] / sigma) ** 2)


def _add_near_border(
    weights: NDArray[np.float32],
    background: NDArray[np.bool_],
    objects: NDArray[np.int32],
    inside: Box,
    w0: float,
    sigma: float,
) -> None:
    """Add the border term of square pixels, some rows at a time, on as many threads as cores.

    Parameters
    ----------
    weights, background
        Of the part `inside` of the objects.
    objects, inside
        See `grow_box`.
    w0, sigma
        As for `weight_map`, in pixels.
    """
    reach = _RELEVANT * sigma
    # Of every squared distance; the last one stands for no object.
    roots = np.sqrt(np.arange(int(reach**2) + 2))
    roots[-1] = np.inf
    rows, columns = inside

    def add(first: int) -> None:
        some = slice(first, min(first + _ROWS, len(weights)))
        part = slice(rows.start + some.start, rows.start + some.stop), columns
        nearest, second = two_squared_distances(objects, part, reach)
        near = background[some].T & (second <= reach**2)
        total = roots[nearest[near]] + roots[second[near]]
        border = np.where(total <= reach, w0 * np.exp(-0.5 * (total / sigma) ** 2), 0)
        weights[some].T[near] += border

    starts = range(0, len(weights), _ROWS)
    if len(starts) == 1:
        add(0)
        return
    with ThreadPoolExecutor(min(len(starts), usable_cores())) as threads:
        list(threads.map(add, starts))


def separate_touching(labels: ArrayLike, width: int = 1, ndim: int = 2) -> NDArray[np.integer[Any]]:
    """Draw a background ridge between touching objects.

    Morphological, as in section 3 of the paper: of two objects closer than `width` background
    pixels the larger one (of equal ones, the later in reading order) gives up the pixels within
    `width` of the other. So small objects keep their shape, and numbering does not matter.

    Parameters
    ----------
    labels
        Instance labels, shape (Y, X), 0 is background.
    width
        Least width of the ridge in pixels, along rows, columns and diagonals.
    ndim
        3 for a stack, shape (Z, Y, X): ridges are as many planes wide then.

    Returns
    -------
    ndarray of int, shape of the labels
        A copy with the ridges set to 0; the labels are kept. No object vanishes: one that the
        ridges would eat up takes precedence over its neighbours, and where that does not help
        either (single pixels side by side) it stays as it was, touching.

    Raises
    ------
    InputError
        If the labels are not 2D whole numbers >= 0 with pixels, or width is negative.
    """
    if width < 0:
        raise InputError(f"a ridge of {width} pixels is impossible; choose a width of 0 or more")
    checked = as_label_image(labels, ndim=ndim)
    objects, count = compact_labels(checked)
    separated = checked.copy()
    separated[_ridges(objects, count, width)] = 0
    return separated


def _ridges(objects: NDArray[np.int32], count: int, width: int) -> NDArray[np.bool_]:
    """Pixels of objects that become background."""
    nothing = np.zeros(objects.shape, bool)
    if count < 2 or width < 1:
        return nothing
    first, area = _first_and_area(objects, count)
    # Position in the order of precedence; background comes last, so that it never wins.
    rank = _ranks(np.lexsort((first, area[1:])))
    favoured = np.zeros(count, bool)
    for _ in range(_RIDGE_ROUNDS):
        ranked = rank[objects]
        ridges: NDArray[np.bool_] = (_lowest_around(ranked, width) < ranked) & (objects > 0)
        lost = np.bincount(objects[ridges], minlength=count + 1)
        gone = lost[1:] == area[1:]
        if not (gone & ~favoured).any():
            break
        favoured |= gone
        rank = _ranks(np.lexsort((rank[1:], ~favoured)))
    if gone.any():
        ridges[np.concatenate([[False], gone])[objects]] = False
    return ridges


def _ranks(order: NDArray[np.intp]) -> NDArray[np.integer[Any]]:
    """Rank of each label from the order of precedence; entry 0, the background, comes last."""
    kind = np.uint16 if len(order) < 2**16 else np.int32
    rank: NDArray[np.integer[Any]] = np.empty(len(order) + 1, kind)
    rank[0] = len(order)
    rank[order + 1] = np.arange(len(order))
    return rank


def _lowest_around(values: NDArray[np.integer[Any]], width: int) -> NDArray[np.integer[Any]]:
    """Minimum within `width` pixels along every axis, diagonals included."""
    for axis in range(values.ndim):
        lowest = values.copy()
        for step in range(1, width + 1):
            before = (slice(None),) * axis + (slice(None, -step),)
            after = (slice(None),) * axis + (slice(step, None),)
            np.minimum(lowest[after], values[before], out=lowest[after])
            np.minimum(lowest[before], values[after], out=lowest[before])
        values = lowest
    return values


def _first_and_area(
    objects: NDArray[np.int32], count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Position of each object's first pixel in reading order, and pixels of each label with 0."""
    starts, labels = runs(objects)
    first = np.full(count + 1, objects.size, np.intp)
    np.minimum.at(first, labels, starts)
    # float64 counts exactly up to 2**53.
    area = np.bincount(labels, np.diff(starts, append=objects.size), minlength=count + 1)
    return first[1:], area.astype(np.intp)
