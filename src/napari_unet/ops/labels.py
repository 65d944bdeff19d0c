"""Label images as they come from files and layers, checked and put into one form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage import measure

from napari_unet.ops.errors import InputError

# Label values up to this are counted by a table (32 MiB), which is faster than sorting the pixels.
_TABLE_SIZE = 2**22
# Beyond this float64 does not hold every integer.
_EXACT_FLOAT = 2.0**53


_AXES = {2: "one plane (rows, columns)", 3: "a stack (planes, rows, columns)"}


def as_label_image(
    labels: ArrayLike, what: str = "label image", ndim: int = 2
) -> NDArray[np.integer[Any]]:
    """Check a label image and give it an integer dtype in native byte order.

    Parameters
    ----------
    labels
        Shape (Y, X); boolean, any integer, or real with whole values.
    what
        How to call it in error messages.
    ndim
        3 for the labels of a stack, shape (Z, Y, X).

    Returns
    -------
    ndarray of int, shape of the labels
        The integer dtype of the input; uint8 for boolean, int64 for real input. May be the input.

    Raises
    ------
    InputError
        On another number of axes, no pixels, another dtype, fractions, NaN, or negative values.
    """
    array = np.asarray(labels)
    if array.ndim != ndim or array.size == 0:
        raise InputError(f"the {what} has shape {array.shape}; give {_AXES[ndim]} with pixels")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return _whole(array, what)
    if array.dtype.kind not in "iu":
        raise InputError(f"the {what} has dtype {array.dtype}; convert it to an integer dtype")
    if array.dtype.kind == "i" and array.min() < 0:
        raise InputError(f"the {what} has negative values; use 0 and positive numbers")
    native: NDArray[np.integer[Any]] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def _whole(array: NDArray[Any], what: str) -> NDArray[np.int64]:
    if not np.isfinite(array).all() or (array != np.floor(array)).any():
        raise InputError(f"the {what} has fractions or NaN; round it to whole numbers first")
    if array.min() < 0:
        raise InputError(f"the {what} has negative values; use 0 and positive numbers")
    if float(array.max()) > _EXACT_FLOAT:
        raise InputError(f"the {what} has values beyond 2**53; renumber it from 1")
    return array.astype(np.int64)


def compact_labels(labels: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int32], int]:
    """Renumber the labels of a checked image to 1, 2, ... in the same order.

    Parameters
    ----------
    labels
        Any shape, integer, not negative; 0 stays 0.

    Returns
    -------
    objects : ndarray of int32, shape of the labels
        The renumbered image.
    count : int
        The number of objects.
    """
    highest = int(labels.max())
    if highest < _TABLE_SIZE:
        present = np.zeros(highest + 1, bool)
        present[runs(labels)[1]] = True
        present[0] = False
        if present[1:].all():
            return labels.astype(np.int32), highest
        table = np.cumsum(present, dtype=np.int32)
        table[~present] = 0
        return table[labels], int(present.sum())
    values, inverse = np.unique(labels, return_inverse=True)
    first = 0 if values[0] == 0 else 1
    return (inverse.reshape(labels.shape) + first).astype(np.int32), len(values) - 1 + first


def runs(labels: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Find the runs of equal values, of which a label image has far fewer than pixels.

    Parameters
    ----------
    labels
        Any shape with at least one pixel, read row by row; a run may go on in the next row.

    Returns
    -------
    starts : ndarray of int
        Positions at which another value begins than before; the first is 0.
    values : ndarray
        What begins there.
    """
    flat = labels.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    starts = np.concatenate([[0], changes + 1])
    return starts, flat[starts]


def connected_regions(labels: NDArray[Any]) -> tuple[NDArray[np.int32], int]:
    """Find and number the 8-connected regions of equal value, 26-connected ones in a stack.

    Parameters
    ----------
    labels
        Shape (Y, X) or (Z, Y, X), boolean or integer; 0 belongs to no region.

    Returns
    -------
    regions : ndarray of int32, shape of the labels
        1, 2, ... in reading order of their first pixels.
    count : int
        The number of regions.
    """
    regions, count = measure.label(  # type: ignore[no-untyped-call]
        labels, background=0, connectivity=labels.ndim, return_num=True
    )
    return regions.astype(np.int32), int(count)


def numbered_classes(classes: int) -> tuple[str, ...]:
    """Return what classes are called that nobody named: background, class 2, class 3 ..."""
    return ("background", *(f"class {label}" for label in range(2, classes + 1)))
