"""An image known again by its pixels, wherever it lies and whatever it is called."""

from __future__ import annotations

import hashlib
from math import prod
from typing import Any, Final

import numpy as np

# Bytes: what is smaller is hashed whole, in a tenth of a second.
_WHOLE: Final = 32 * 2**20
# Of larger images so many windows of so many pixels a side are looked at.
_WINDOWS: Final = 64
_SIDE: Final = 128


def fingerprint(data: Any) -> str:
    """Return a SHA-256 of shape, dtype and pixels of an image, in hexadecimal.

    An image up to 32 MiB counts whole. Of a larger one 64 windows of 128 pixels along the last two
    axes count, whose places follow from its shape; so a stack on a server is known without reading
    all of it. The container does not matter: NumPy, Dask and Zarr give the same.

    Parameters
    ----------
    data
        Any array with `shape`, `dtype` and slices, of at least one axis.
    """
    shape = tuple(int(side) for side in data.shape)
    dtype = np.dtype(data.dtype).newbyteorder("<")
    digest = hashlib.sha256(f"{shape} {dtype.str}".encode("ascii"))
    if prod(shape) * dtype.itemsize <= _WHOLE:
        digest.update(np.ascontiguousarray(np.asarray(data), dtype=dtype).tobytes())
        return digest.hexdigest()
    for number in range(_WINDOWS):
        window = np.asarray(data[_window(number, shape)])
        digest.update(np.ascontiguousarray(window, dtype=dtype).tobytes())
    return digest.hexdigest()


def _window(number: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the place of a window: drawn by a hash, so that it is the same everywhere."""
    spans = []
    for axis, side in enumerate(shape):
        length = min(side, _SIDE if axis >= len(shape) - 2 else 1)
        draw = hashlib.sha256(f"{number} {axis}".encode("ascii")).digest()
        start = int.from_bytes(draw[:8]) % (side - length + 1)
        spans.append(slice(start, start + length))
    return tuple(spans)
