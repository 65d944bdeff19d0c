"""Write planes as TIFF with axes and pixel sizes that ImageJ, napari and tifffile understand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, Final

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet.engine.images.axes import MICROMETRE, Axis, PixelSize

# ImageJ's files hold 32-bit offsets; some room is left for the tags.
_LARGEST_IMAGEJ: Final = 2**32 - 2**25


def tiff_writer(
    array: NDArray[Any], axes: str, size: PixelSize | None
) -> Callable[[BinaryIO], object]:
    """Return a function that writes an array of few planes to an open file.

    uint8, uint16 and float32 become ImageJ TIFF. 32-bit integers, which ImageJ does not have,
    become OME-TIFF.
    """
    sizes = {} if size is None else {"y": (size.height, size.unit), "x": (size.width, size.unit)}
    described = tuple(
        Axis(name, length, *sizes.get(name, (None, None)))
        for name, length in zip(axes.lower(), array.shape, strict=True)
    )
    return stack_writer(array.reshape(-1, *array.shape[-2:]), described, array.dtype)


def stack_writer(
    planes: Iterable[NDArray[Any]],
    axes: tuple[Axis, ...],
    dtype: Any,
    channels: Sequence[str] = (),
) -> Callable[[BinaryIO], object]:
    """Return a function that writes planes to an open file, one after the other.

    Parameters
    ----------
    planes
        Shape (Y, X) each, in the order of the axes before y and x.
    axes
        In the order t, z, c, y, x for ImageJ, those that there are; lengths, sizes and units.
    dtype
        Of the file.
    channels
        What the channels are called; empty names none.
    """
    dtype = np.dtype(dtype)
    shape = tuple(axis.length for axis in axes)
    imagej = dtype.itemsize <= 2 or dtype == np.float32
    imagej = imagej and math.prod(shape) * dtype.itemsize < _LARGEST_IMAGEJ
    metadata, options = (_imagej_options if imagej else _ome_options)(axes)
    if channels:
        metadata |= _named(axes, tuple(channels), imagej)
    metadata["axes"] = "".join(axis.name for axis in axes).upper()

    def write(file: BinaryIO) -> object:
        stored = (np.ascontiguousarray(plane, dtype) for plane in planes)
        return tifffile.imwrite(
            file,
            stored,
            shape=shape,
            dtype=dtype,
            metadata=metadata,
            photometric="minisblack",
            **options,
        )

    return write


def _known(axes: tuple[Axis, ...]) -> dict[str, Axis]:
    return {axis.name: axis for axis in axes if axis.size is not None}


def _imagej_options(axes: tuple[Axis, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    metadata: dict[str, Any] = {}
    options: dict[str, Any] = {"imagej": True}
    known = _known(axes)
    if "y" in known and "x" in known:
        options["resolution"] = (1 / _size(known["x"]), 1 / _size(known["y"]))
        # TIFF text is ASCII; this is how ImageJ itself writes the micro sign.
        unit = (known["x"].unit or "").replace(MICROMETRE, r"\u00B5m")
        metadata["unit"] = unit.encode("ascii", "replace").decode()
    if "z" in known:
        metadata["spacing"] = _size(known["z"])
    if "t" in known:
        metadata["finterval"] = _size(known["t"])
        metadata["tunit"] = known["t"].unit or "s"
    return metadata, options


def _ome_options(axes: tuple[Axis, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    metadata: dict[str, Any] = {}
    for name, axis in _known(axes).items():
        key = "TimeIncrement" if name == "t" else f"PhysicalSize{name.upper()}"
        metadata[key] = _size(axis)
        if axis.unit is not None:
            metadata[f"{key}Unit"] = axis.unit
    return metadata, {"ome": True, "bigtiff": True}


def _named(axes: tuple[Axis, ...], channels: tuple[str, ...], imagej: bool) -> dict[str, Any]:
    """Return the names of channels: of every plane for ImageJ, once for OME."""
    if not imagej:
        return {"Channel": {"Name": list(channels)}}
    before = math.prod(axis.length for axis in axes[:-2] if axis.name != "c")
    return {"Labels": list(channels) * before}  # c is the last axis before y and x


def _size(axis: Axis) -> float:
    assert axis.size is not None
    return axis.size
