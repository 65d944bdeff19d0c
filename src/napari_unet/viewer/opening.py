"""Files of any axes as napari layers that are read plane by plane."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from napari.layers import Image
from napari.utils.colormaps import CYMRGB, MAGENTA_GREEN
from numpy.typing import NDArray

from napari_unet.engine.images.axes import Axis, Corrections
from napari_unet.engine.images.lazy import OpenedImage
from napari_unet.engine.images.opening import image_name, open_image
from napari_unet.viewer.project.places import FILE_KEY

# Percentiles of a grey plane that are shown black and white, as a camera's own program does it:
# most images use little of what their pixels can hold, and a hot pixel would darken all the others.
_BLACK_AND_WHITE = (0.1, 99.9)
# Pixels along a side that are looked at for that.
_LOOKED_AT = 1024


def image_layers(path: str | Path) -> list[tuple[Any, dict[str, Any]]]:
    """Open a file as image layers: one of an RGB image, else one of each channel.

    Parameters
    ----------
    path
        As for `open_image`. The file stays open for as long as the data is in use.

    Returns
    -------
    list
        Data, and keywords for `napari.layers.Image`: a dask array of shape (t, z, Y, X), as far as
        there are such axes, with (..., 3) for RGB; of a pyramid a list of all levels.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    finest = open_image(path)
    coarser = range(1, len(finest.info.levels))
    levels = [finest, *(open_image(path, Corrections(level=level)) for level in coarser)]
    info = finest.info
    planes = [_Planes(level) for level in levels]
    found: list[tuple[Any, dict[str, Any]]] = []
    for channel in [None] if info.rgb else range(info.channel_count):
        arrays = [_lazy(level, channel) for level in planes]
        keywords = {
            "name": _name(finest, channel),
            "rgb": info.rgb,
            "multiscale": len(levels) > 1,
            "metadata": {FILE_KEY: str(path)},
            **_placement((*info.leading, *_rows_and_columns(finest))),
        }
        if channel is not None and info.channel_count > 1:
            colours = MAGENTA_GREEN if info.channel_count == 2 else CYMRGB
            keywords["blending"] = "additive"
            keywords["colormap"] = colours[channel % len(colours)]
        found.append((arrays if len(levels) > 1 else arrays[0], keywords))
    return found


def fit_contrast(layer: Image) -> None:
    """Show a grey image with the contrast of its middle plane; a colour image stays as it is."""
    if layer.rgb:
        return
    data = layer.data[-1] if layer.multiscale else layer.data
    plane = data[tuple(length // 2 for length in data.shape[:-2])]
    rows, columns = (slice(None, None, -(-length // _LOOKED_AT)) for length in plane.shape)
    values = np.asarray(plane[rows, columns], np.float64)
    values = values[np.isfinite(values)]
    if values.size and values.min() < values.max():
        low, high = np.percentile(values, _BLACK_AND_WHITE)
        layer.contrast_limits = (low, high) if low < high else (values.min(), values.max())


def _rows_and_columns(image: OpenedImage) -> Iterator[Axis]:
    for name in "yx":
        axis = image.info.axis(name)
        assert axis is not None
        yield axis


def _name(image: OpenedImage, channel: int | None) -> str:
    stem = image_name(image.info.path)
    if channel is None or image.info.channel_count == 1:
        return stem
    names = image.info.channels
    return f"{stem}: {names[channel] if channel < len(names) else f'channel {channel + 1}'}"


def _placement(axes: Sequence[Axis]) -> dict[str, Any]:
    sizes = [axis.size for axis in axes]
    if any(size is None for size in sizes[-2:]):
        return {"axis_labels": tuple(axis.name for axis in axes)}
    return {
        "axis_labels": tuple(axis.name for axis in axes),
        "scale": [1.0 if size is None else size for size in sizes],
        "units": [axis.unit if axis.size and axis.unit else "pixel" for axis in axes],
    }


class _Planes:
    """The planes of an open file, which is closed when nobody can ask for them any more."""

    def __init__(self, image: OpenedImage) -> None:
        self.image = image
        self._lock = threading.Lock()  # napari and the engine read on different threads
        weakref.finalize(self, image.close)

    def read(self, index: tuple[int, ...], channel: int | None) -> NDArray[Any]:
        """Read (Y, X) of a channel, or (Y, X, 3) of all colours."""
        with self._lock:
            plane = self.image.read_plane(index, None if channel is None else (channel,))
        colours: NDArray[Any] = np.moveaxis(plane, 0, -1)
        return plane[0] if channel is not None else colours


def _lazy(planes: _Planes, channel: int | None) -> Any:
    """Return a channel, or all three colours, as an array that reads a plane when it is needed."""
    image = planes.image
    stack, plane = image.stack_shape, image.plane_shape
    colours = () if channel is not None else (image.info.channel_count,)

    def read(block_info: Any = None) -> NDArray[Any]:
        index = tuple(first for first, _ in block_info[None]["array-location"][: len(stack)])
        return planes.read(index, channel)[(np.newaxis,) * len(stack)]

    dtype = np.dtype(image.info.dtype)
    chunks = (*((1,) * length for length in stack), *((n,) for n in (*plane, *colours)))
    array = da.map_blocks(read, chunks=chunks, dtype=dtype, meta=np.zeros((), dtype))
    # A single image is small enough, and then no click or stroke waits for the disk.
    return array if stack or len(image.info.levels) > 1 else array.compute()
