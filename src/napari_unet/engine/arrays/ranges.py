"""The grey values that become 0 and 1, measured once for the whole of a large image."""

from __future__ import annotations

import hashlib
import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.arrays.source import ArraySource, Place
from napari_unet.ops.normalize import sample_range, sampling_step
from napari_unet.ops.tiling import Box

# Up to so many pixels an image is read whole for its percentiles, which then are those of an
# in-memory prediction. At 1 GB/s that is 2 s, against minutes for the network.
_READ_WHOLE: Final = 2**31
# Beyond it, blocks on a regular lattice of at most so many along each axis speak for all.
_LATTICE: Final = 16
_LATTICE_BLOCK: Final = 512
# Pixels that are read at once.
_BLOCK_PIXELS: Final = 2**24


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of an image before its first tile.

    Attributes
    ----------
    ranges
        For each channel the grey values that become 0 and 1.
    digest
        Hexadecimal hash of the sample that they come from: another image has another one.
    """

    ranges: tuple[tuple[float, float], ...]
    digest: str


class Stopped(Exception):
    """The measurement was asked to stop."""


def measure(source: ArraySource, place: Place, stop: threading.Event | None = None) -> Measured:
    """Measure the percentiles of the image at a place, always on the same pixels.

    An image of up to 2**31 pixels is read once from end to end, and its percentiles are exactly
    those of `napari_unet.ops.normalize.percentile_normalize`; of a larger one blocks on a regular
    lattice are read.

    Raises
    ------
    Stopped
        If `stop` was set.
    InputError
        If the array cannot be read or has values that are not finite.
    """
    whole = math.prod(source.shape) <= _READ_WHOLE
    sampled = (_sample_all if whole else _sample_lattice)(source, place, stop)
    ranges = []
    for channel, (low, high) in zip(sampled.pixels, sampled.extremes, strict=True):
        ranges.append(sample_range(channel) or (low, high))
    text = hashlib.sha256(sampled.pixels.tobytes())
    text.update(repr((source.shape, sampled.extremes)).encode())
    return Measured(tuple(ranges), text.hexdigest())


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """Pixels of each channel, (C, ...), and the least and greatest value of all that was read."""

    pixels: NDArray[np.float32]
    extremes: list[tuple[float, float]]


def _sample_all(source: ArraySource, place: Place, stop: threading.Event | None) -> _Sampled:
    # As percentile_normalize does it: every step-th place along the first two axes.
    step = sampling_step(math.prod(source.shape))
    steps = [step, step, *[1] * (source.ndim - 2)]
    sampled_shape = [-(-length // s) for length, s in zip(source.shape, steps, strict=True)]
    pixels = np.empty((source.channels, *sampled_shape), np.float32)
    extremes: list[NDArray[Any]] = []
    for box in _blocks(source):
        block = _read(source, place, box, stop, extremes)
        firsts = [-span.start % s for span, s in zip(box, steps, strict=True)]
        some = block[
            (slice(None), *(slice(f, None, s) for f, s in zip(firsts, steps, strict=True)))
        ]
        corner = [-(-span.start // s) for span, s in zip(box, steps, strict=True)]
        target = (slice(c, c + n) for c, n in zip(corner, some.shape[1:], strict=True))
        pixels[(slice(None), *target)] = some
    return _Sampled(pixels, _over_all(extremes))


def _sample_lattice(source: ArraySource, place: Place, stop: threading.Event | None) -> _Sampled:
    boxes = list(_lattice(source))
    pixels_read = sum(math.prod(s.stop - s.start for s in box) for box in boxes)
    step = sampling_step(pixels_read)
    parts: list[NDArray[np.float32]] = []
    extremes: list[NDArray[Any]] = []
    for box in boxes:
        block = _read(source, place, box, stop, extremes)
        parts.append(block[:, ::step, ::step].reshape(source.channels, -1))
    return _Sampled(np.concatenate(parts, axis=1), _over_all(extremes))


def _read(
    source: ArraySource,
    place: Place,
    box: Box,
    stop: threading.Event | None,
    extremes: list[NDArray[Any]],
) -> NDArray[np.float32]:
    if stop is not None and stop.is_set():
        raise Stopped
    block = source.read(place, box)
    inner = tuple(range(1, block.ndim))
    extremes.append(np.stack([block.min(axis=inner), block.max(axis=inner)]))
    return block


def _over_all(extremes: Sequence[NDArray[Any]]) -> list[tuple[float, float]]:
    stacked = np.stack(extremes)
    lows, highs = stacked[:, 0].min(axis=0), stacked[:, 1].max(axis=0)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def _blocks(source: ArraySource) -> Iterator[Box]:
    """Cut the image into boxes of whole chunks, as large as may be read at once."""
    sides = [min(c, n) for c, n in zip(source.spatial_chunks, source.shape, strict=True)]
    for axis in reversed(range(source.ndim)):  # long rows first: they lie together
        room = max(_BLOCK_PIXELS // math.prod(sides), 1)
        sides[axis] = min(sides[axis] * room, source.shape[axis])
    yield from itertools.product(
        *(
            [slice(a, min(a + side, length)) for a in range(0, length, side)]
            for side, length in zip(sides, source.shape, strict=True)
        )
    )


def _lattice(source: ArraySource) -> Iterator[Box]:
    """Yield blocks that are spread evenly, each at the start of a chunk."""
    spans = []
    for chunk, length in zip(source.spatial_chunks, source.shape, strict=True):
        count = min(-(-length // chunk), _LATTICE)
        starts = {i * length // count // chunk * chunk for i in range(count)}
        spans.append(
            [slice(a, min(a + min(chunk, _LATTICE_BLOCK), length)) for a in sorted(starts)]
        )
    yield from itertools.product(*spans)
