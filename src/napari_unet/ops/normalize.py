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
        Shape (C, Y, X) or (C, Z, Y, X), finite. Images over 4 million pixels use a regular
        subsample for the percentiles.
    low, high
        Percentiles, 0 <= low < high <= 100.

    Returns
    -------
    ndarray of float32, shape of `channels`
        A constant channel becomes 0. A channel whose two percentiles are equal without being
        constant (a few bright spots on black) is scaled by its minimum and maximum instead.

    Raises
    ------
    InputError
        If the percentiles are out of range or out of order, or `channels` is empty or has
        other axes.
    """
    if not 0 <= low < high <= 100:
        raise InputError(
            f"percentiles {low} and {high} are out of order; choose 0 <= low < high <= 100"
        )
    if channels.ndim not in (3, 4) or channels.size == 0:
        raise InputError(
            f"an array of shape {channels.shape} is no (channels, rows, columns) image; "
            "bring it into that order"
        )
    result = np.empty(channels.shape, np.float32)
    for channel, scaled in zip(channels, result, strict=True):
        scale_to_range(channel, *_range(channel, low, high), out=scaled)
    return result


def scale_to_range(
    values: NDArray[Any], floor: float, ceiling: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Scale grey values so that `floor` and `ceiling` become 0 and 1, held within +-1e4.

    Parameters
    ----------
    values
        Any shape, finite.
    floor, ceiling
        Grey values, floor <= ceiling. If they are equal, everything becomes 0.
    out
        Where the result is written, of the same shape; None makes a new array.
    """
    scaled = np.empty(values.shape, np.float32) if out is None else out
    if ceiling == floor:
        scaled.fill(0)
        return scaled
    # In float64: the difference of two float32 values need not fit into float32.
    wide = (values.astype(np.float64) - floor) / (ceiling - floor)
    np.clip(wide, -_LIMIT, _LIMIT, out=wide)
    scaled[...] = wide
    return scaled


def sampling_step(size: int) -> int:
    """Return every how many rows and columns an image of so many pixels is sampled."""
    return max(1, int(np.ceil(np.sqrt(size / _SAMPLE_PIXELS))))


def sample_range(
    sample: NDArray[Any], low: float = 1.0, high: float = 99.8
) -> tuple[float, float] | None:
    """Return the `low` and `high` percentiles of a sample; None if they are equal."""
    floor, ceiling = (float(v) for v in np.percentile(sample.astype(np.float64), [low, high]))
    return None if floor == ceiling else (floor, ceiling)


def _range(channel: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    step = sampling_step(channel.size)
    found = sample_range(channel[::step, ::step], low, high)
    return (float(channel.min()), float(channel.max())) if found is None else found
