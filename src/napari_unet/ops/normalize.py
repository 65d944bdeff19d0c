"""Grey values brought to one scale, so that networks see exposure and bit depth alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError

# More pixels than this move the percentiles by less than noise, and take seconds to sort.
_SAMPLE_PIXELS = 2**22
# A hot pixel may lie far outside [0, 1]; beyond this it says nothing more to a network, and fp16
# overflows at 65504.
_LIMIT = 1e4


def percentile_normalize(
    channels: NDArray[Any], low: float = 1.0, high: float = 99.8
) -> NDArray[np.float32]:
    """Scale each channel so that its `low` and `high` percentiles become 0 and 1.

    Values outside stay outside; they are not clipped (only held within +-1e4, so that the
    result is always finite). The result is the same for an image and for any positive scaling and
    shift of its grey values, up to rounding.

    Parameters
    ----------
    channels
        Shape (C, Y, X), finite. Images over 4 million pixels use a regular subsample for the
        percentiles.
    low, high
        Percentiles, 0 <= low < high <= 100.

    Returns
    -------
    ndarray of float32, shape (C, Y, X)
        A constant channel becomes 0. A channel whose two percentiles are equal without being
        constant (a few bright spots on black) is scaled by its minimum and maximum instead.

    Raises
    ------
    InputError
        If the percentiles are out of range or out of order, or `channels` is empty or not 3D.
    """
    if not 0 <= low < high <= 100:
        raise InputError(
            f"percentiles {low} and {high} are out of order; choose 0 <= low < high <= 100"
        )
    if channels.ndim != 3 or channels.size == 0:
        raise InputError(
            f"an array of shape {channels.shape} is no (channels, rows, columns) image; "
            "bring it into that order"
        )
    result = np.empty(channels.shape, np.float32)
    for channel, scaled in zip(channels, result, strict=True):
        floor, ceiling = _range(channel, low, high)
        if ceiling == floor:
            scaled.fill(0)
            continue
        # In float64: the difference of two float32 values need not fit into float32.
        wide = (channel.astype(np.float64) - floor) / (ceiling - floor)
        np.clip(wide, -_LIMIT, _LIMIT, out=wide)
        scaled[...] = wide
    return result


def _range(channel: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    step = max(1, int(np.ceil(np.sqrt(channel.size / _SAMPLE_PIXELS))))
    sample = channel[::step, ::step].astype(np.float64)
    floor, ceiling = (float(value) for value in np.percentile(sample, [low, high]))
    if floor == ceiling:
        return float(channel.min()), float(channel.max())
    return floor, ceiling
