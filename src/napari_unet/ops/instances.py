"""From probabilities to classes and to separate objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import morphology, segmentation

from napari_unet.ops.distances import check_spacing
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import connected_regions

# Two maxima whose saddle is less than this much lower (pixels of distance to the background) are
# one seed: digital outlines waver by about half a pixel.
_SADDLE_DEPTH = 0.5


def class_labels(probability: NDArray[Any]) -> NDArray[np.uint8]:
    """Pick the most probable class of each pixel.

    Parameters
    ----------
    probability
        Shape (K, Y, X), or (K, Z, Y, X) of a stack, finite, K = 1 to 255.

    Returns
    -------
    ndarray of uint8, shape of the image
        Labels 1 to K, label k for channel k - 1; of equal channels the first.

    Raises
    ------
    InputError
        On another shape, or NaN.
    """
    if probability.ndim not in (3, 4) or not 1 <= len(probability) <= 255:
        raise InputError(
            f"an array of shape {probability.shape} is no probability map; "
            "give (classes, rows, columns) with at most 255 classes"
        )
    _check_finite(probability)
    labels: NDArray[np.uint8] = (np.argmax(probability, axis=0) + 1).astype(np.uint8)
    return labels


def connected_instances(
    foreground_mask: ArrayLike, min_size: int = 16, *, ndim: int = 2
) -> NDArray[np.int32]:
    """Find and number the connected regions of a mask.

    Parameters
    ----------
    foreground_mask
        Shape (Y, X), boolean or 0 and 1.
    min_size
        Pixels; smaller regions are dropped.
    ndim
        3 for a stack, shape (Z, Y, X).

    Returns
    -------
    ndarray of int32, shape of the mask
        0 is background, objects are 1, 2, ... without gaps, in reading order. Pixels that touch
        by an edge or a corner belong together.

    Raises
    ------
    InputError
        On another number of axes, NaN, or a negative minimum size.
    """
    mask = _checked(foreground_mask, "mask", ndim) != 0
    _check_size(min_size)
    return _drop_small(connected_regions(mask)[0], min_size)


def watershed_instances(
    probability: ArrayLike,
    *,
    threshold: float = 0.5,
    min_size: int = 16,
    seed_distance: float = 5.0,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.int32]:
    """Separate touching objects by a watershed that starts from their middles.

    What is at least `threshold` is flooded from the maxima of a landscape: the distance to the
    background times the probability, smoothed. So objects come apart at necks and at lines where
    the probability sags.

    Parameters
    ----------
    probability
        Shape (Y, X), finite; the foreground's probability, 0 to 1.
    threshold
        Pixels of at least this probability belong to objects; above 0, at most 1.
    min_size
        Pixels; smaller objects are dropped.
    seed_distance
        Roughly the least distance in pixels between the middles of two objects; a larger one
        splits less. The landscape is smoothed with a third of it as standard deviation.
    spacing
        Size of a pixel along each axis; three numbers for a stack, shape (Z, Y, X). Distances are
        in its unit then, and should be about 1 for a pixel of the plane. None: pixels of an image.

    Returns
    -------
    ndarray of int32, shape of the probability map
        0 is background, objects are 1, 2, ... without gaps.

    Raises
    ------
    InputError
        On another number of axes, NaN or infinity, or a parameter out of range.
    """
    spacing = check_spacing(spacing)
    plane = _checked(probability, "probability map", len(spacing)).astype(np.float32)
    _check_size(min_size)
    _check_threshold(threshold)
    if not 0 < seed_distance < np.inf:
        raise InputError(f"a seed distance of {seed_distance} is out of range; choose pixels > 0")
    mask = plane >= threshold
    if mask.all() or not mask.any():
        return _drop_small(mask.astype(np.int32), min_size)
    distance = ndimage.distance_transform_edt(mask, sampling=spacing)
    landscape = distance.astype(np.float32) * plane
    widths = [seed_distance / 3 / size for size in spacing]
    # Averaged over the mask alone: across the background it would pull seeds of thin objects out.
    inside = ndimage.gaussian_filter(mask.astype(np.float32), widths)
    smooth = ndimage.gaussian_filter(landscape, widths)
    smooth = np.where(mask, smooth / np.maximum(inside, 1e-6), 0)
    return _drop_small(_flooded(smooth, _seeds(smooth, mask), mask), min_size)


def seeded_instances(
    foreground: ArrayLike,
    interior: ArrayLike | None = None,
    *,
    threshold: float = 0.5,
    seed_threshold: float = 0.8,
    min_size: int = 16,
    smoothing: float = 1.0,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.int32]:
    """Separate touching objects by a watershed that starts where the interior is certain.

    Between touching objects the network learns background ridges and border weights, so its
    probability sags there: what is connected above a high threshold is one object's middle, and
    the rest of the foreground is flooded from these middles, lowest where the interior is certain.

    Parameters
    ----------
    foreground
        Shape (Y, X), finite; the probability to belong to any object, 0 to 1.
    interior
        Shape (Y, X), finite; the probability to lie within an object and not on its outline.
        None takes `foreground`.
    threshold
        Pixels of at least this foreground belong to objects; above 0, at most 1.
    seed_threshold
        Connected pixels of at least this smoothed interior are one seed.
    min_size
        Pixels; smaller objects are dropped.
    smoothing
        Standard deviation in pixels by which the interior is smoothed before seeds are sought.
    spacing
        Size of a pixel along each axis; three numbers for a stack, shape (Z, Y, X). `smoothing` is
        in its unit then. None: pixels of an image.

    Returns
    -------
    ndarray of int32, shape of the foreground
        0 is background, objects are 1, 2, ... without gaps. A region without a seed is an object
        of its own, so nothing of the foreground is lost but what is below `min_size`.

    Raises
    ------
    InputError
        On another number of axes, NaN or infinity, or a parameter out of range.
    """
    spacing = check_spacing(spacing)
    ndim = len(spacing)
    plane = _checked(foreground, "probability map", ndim).astype(np.float32)
    inner = plane
    if interior is not None:
        inner = _checked(interior, "interior map", ndim).astype(np.float32)
    if inner.shape != plane.shape:
        raise InputError(f"maps of shapes {plane.shape} and {inner.shape} are of different images")
    _check_size(min_size)
    _check_threshold(threshold)
    _check_threshold(seed_threshold)
    mask = plane >= threshold
    if mask.all() or not mask.any():
        return _drop_small(mask.astype(np.int32), min_size)
    widths = [smoothing / size for size in spacing]
    landscape = ndimage.gaussian_filter(inner, widths) if smoothing > 0 else inner
    seeds = _with_lost_regions(connected_regions((landscape >= seed_threshold) & mask)[0], mask)
    return _drop_small(_flooded(landscape, seeds, mask), min_size)


def _flooded(
    landscape: NDArray[np.float32], seeds: NDArray[np.int32], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Let seeds grow over the mask, from the heights of a landscape down."""
    flooded = segmentation.watershed(  # type: ignore[no-untyped-call]
        -landscape, seeds, mask=mask, connectivity=mask.ndim
    )
    return flooded.astype(np.int32)  # type: ignore[no-any-return]


def _seeds(landscape: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """One number for each maximum that rises over its saddles; each region of the mask has one."""
    lowered = np.maximum(landscape - _SADDLE_DEPTH, 0)
    levelled = morphology.reconstruction(lowered, landscape)  # type: ignore[no-untyped-call]
    maxima = morphology.local_maxima(levelled)  # type: ignore[no-untyped-call]
    maxima = maxima & mask
    # A region lower than the saddle depth is levelled to the ground and would be lost.
    return _with_lost_regions(connected_regions(maxima)[0], mask)


def _with_lost_regions(seeds: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give every connected region of the mask that has no seed one of its own: all of it."""
    regions, regions_count = connected_regions(mask)
    count = int(seeds.max(initial=0))
    seeded = np.zeros(regions_count + 1, bool)
    seeded[regions[seeds > 0]] = True
    seeded[0] = True
    missing = np.flatnonzero(~seeded)
    if not len(missing):
        return seeds
    table = np.zeros(regions_count + 1, np.int32)
    table[missing] = np.arange(count + 1, count + 1 + len(missing))
    return np.where(seeded[regions], seeds, table[regions])


_AXES = {2: "one plane of numbers (rows, columns)", 3: "a stack of numbers (planes, rows, columns)"}


def _checked(array: ArrayLike, what: str, ndim: int) -> NDArray[Any]:
    plane = np.asarray(array)
    if plane.ndim != ndim or plane.size == 0 or plane.dtype.kind not in "biuf":
        raise InputError(
            f"the {what} has shape {plane.shape} and dtype {plane.dtype}; "
            f"give {_AXES[ndim]} with pixels"
        )
    _check_finite(plane)
    return plane


def _check_finite(array: NDArray[Any]) -> None:
    if not np.isfinite(array).all():
        raise InputError("the probabilities have NaN or infinity; predict again, or use nan_to_num")


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise InputError(f"a threshold of {threshold} is out of range; choose above 0 to 1")


def _check_size(min_size: int) -> None:
    if min_size < 0:
        raise InputError(f"a minimum size of {min_size} is out of range; choose 0 or more pixels")


def fill_holes(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the holes of objects to the objects around them.

    Parameters
    ----------
    labels
        Shape (Y, X) or (Z, Y, X), 0 is background.

    Returns
    -------
    ndarray of int32, shape of the labels
        Background that does not reach the frame of the image, over edges of pixels, and touches
        one object alone has that object's number. The rest is as it was.
    """
    holes, count = ndimage.label(labels == 0)
    if count == 0:
        return labels
    lowest = np.full(count + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count + 1, np.int32)
    for axis in range(labels.ndim):
        first, second = (np.moveaxis(a, axis, 0) for a in (holes, labels))
        for hole, neighbour in ((first[1:], second[:-1]), (first[:-1], second[1:])):
            beside = (hole > 0) & (neighbour > 0)
            np.minimum.at(lowest, hole[beside], neighbour[beside])
            np.maximum.at(highest, hole[beside], neighbour[beside])
    table = np.where(lowest == highest, highest, 0)
    for axis in range(labels.ndim):
        for end in (0, -1):
            table[holes.take(end, axis=axis)] = 0
    table[0] = 0
    return np.where(holes > 0, table[holes], labels).astype(np.int32)


def _drop_small(labels: NDArray[np.int32], min_size: int) -> NDArray[np.int32]:
    sizes = np.bincount(labels.ravel())
    kept = sizes >= max(min_size, 1)
    kept[0] = False
    table = np.cumsum(kept, dtype=np.int32)
    table[~kept] = 0
    return table[labels]
