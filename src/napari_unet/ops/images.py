"""Images as they come from files and layers, made into the one form that the rest works on.

That form is (C, Y, X) float32, or (C, Z, Y, X) for stacks: 1 channel if grey, 3 if RGB, or as many
as were put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.ops.errors import InputError

_RGB = 3
_RGBA = 4
# More stains than that in one image are not called its channels by their place alone.
_MOST_CHANNELS = 16
_FEWEST_PIXELS = 24


def _shape_and_type(image: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read shape and dtype without loading the pixels of a lazy array."""
    if not (hasattr(image, "shape") and hasattr(image, "dtype")):
        try:
            image = np.asarray(image)
        except ValueError as error:
            raise InputError(
                "the image is a ragged list, not an array; give every row the same length"
            ) from error
    return tuple(image.shape), np.dtype(image.dtype)


def holds_channels_last(shape: Sequence[int]) -> bool:
    """Say whether the last axis of an image can only be one of channels.

    It is if it is short, and rows and columns before it are many times longer: no image of a
    microscope is a few pixels wide.

    Parameters
    ----------
    shape
        Of the whole array, at least three axes; or the answer is no.
    """
    if len(shape) < 3:
        return False
    *_, rows, columns, last = shape
    return 0 < last <= _MOST_CHANNELS and min(rows, columns) >= max(_FEWEST_PIXELS, 8 * last)


# What an image of so many spatial axes is called, and its axes.
_KINDS = {
    2: "one plane, (rows, columns) or (rows, columns, channels)",
    3: "a stack, (planes, rows, columns) or (planes, rows, columns, channels)",
}


def channel_count(image: Any, ndim: int = 2, *, colours: bool = True) -> int:
    """Tell how many channels the network will see, from shape and dtype alone.

    Parameters
    ----------
    image
        Shape (Y, X), or (Y, X, C) with C = 1, 3 or 4, or any other that is far shorter than rows
        and columns. Lazy arrays are not computed.
    ndim
        3 for a stack, shape (Z, Y, X) or (Z, Y, X, C).
    colours
        False: the last axis holds channels of any meaning, and any number of them.

    Returns
    -------
    int
        1 for grey images, 3 for RGB and RGBA; else C.

    Raises
    ------
    InputError
        If the shape is empty or has other axes, or the dtype is not boolean, integer or real.
    """
    shape, dtype = _shape_and_type(image)
    if dtype.kind not in "biuf":
        raise InputError(
            f"the image has dtype {dtype}; convert it to numbers first, such as uint8 or float32"
        )
    if len(shape) not in (ndim, ndim + 1):
        raise InputError(f"the image has {len(shape)} axes (shape {shape}); give {_KINDS[ndim]}")
    if 0 in shape:
        raise InputError(f"the image is empty (shape {shape}); load one with at least one pixel")
    channels = 1 if len(shape) == ndim else shape[ndim]
    if not colours:
        return int(channels)
    if channels not in (1, _RGB, _RGBA) and holds_channels_last(shape):
        return int(channels)
    if channels not in (1, _RGB, _RGBA):
        raise InputError(
            f"the image has {channels} channels in its last axis (shape {shape}); "
            "pick one channel or one plane, give RGB, or say that they are no colours: "
            "SourceImage(image, colours=False)"
        )
    return 1 if channels == 1 else _RGB


def to_channels_first(
    image: ArrayLike, ndim: int = 2, *, colours: bool = True
) -> NDArray[np.float32]:
    """Bring an image into the form that normalisation and networks take.

    Parameters
    ----------
    image
        Shape (Y, X), or (Y, X, C) with C = 1, 3 (RGB), 4 (RGBA, the alpha channel is dropped), or
        any other that is far shorter than rows and columns.
        Boolean, integer or real, of any width and byte order.
    ndim
        3 for a stack, shape (Z, Y, X) or (Z, Y, X, C).
    colours
        False: the last axis holds channels of any meaning, and any number of them.

    Returns
    -------
    ndarray of float32, shape (C, Y, X) or (C, Z, Y, X); of colours C is 1 or 3
        The grey values unscaled, in native byte order, never a view of the input.

    Raises
    ------
    InputError
        On a wrong shape or dtype (see `channel_count`), on NaN or infinity, and on values that
        float32 cannot hold.
    """
    if not hasattr(image, "shape"):
        channel_count(image, ndim, colours=colours)
        image = np.asarray(image)
    channels = channel_count(image, ndim, colours=colours)
    pixels = np.asarray(image)
    if pixels.ndim == ndim:
        pixels = pixels[..., np.newaxis]
    with np.errstate(over="ignore"):
        result = np.array(np.moveaxis(pixels[..., :channels], -1, 0), np.float32, order="C")
    _check_finite(result)
    return result


def _check_finite(channels: NDArray[np.float32]) -> None:
    bad = int(channels.size - np.count_nonzero(np.isfinite(channels)))
    if bad:
        raise InputError(
            f"the image has {bad} values that are NaN, infinite or too large for float32; "
            "replace them, for example with np.nan_to_num(image, posinf=0, neginf=0)"
        )
