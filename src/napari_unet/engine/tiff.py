"""What is special about TIFF: axes, pixel size, and data that are missing at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError

# A damaged file is reported once, by InputError; tifffile would also log every damaged tag to the
# terminal of a program that has not set up logging.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_MICROMETRE: Final = "µm"
_MICROMETRE_NAMES: Final = {
    "um",
    "µm",
    "\u03bcm",  # with the Greek letter
    r"\u00b5m",  # as ImageJ writes it
    "micron",
    "microns",
    "micrometer",
    "micrometre",
}
_BASELINE_UNITS: Final = {2: "inch", 3: "cm"}


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Height and width of a pixel, and their unit ("µm" for micrometres) if it is known."""

    height: float
    width: float
    unit: str | None


class PillowNeeded(ValueError):
    """The first page is compressed in a way that tifffile cannot read alone."""


def read_tiff(path: Path) -> tuple[NDArray[Any], str, PixelSize | None]:
    """Read the first image of a TIFF file.

    Returns
    -------
    tuple
        Data, shape (Y, X) or (Y, X, C); its axes, "YX" or "YXC"; the pixel size if the file
        tells it.

    Raises
    ------
    InputError
        If the file is cut off, or the image is not 2D.
    PillowNeeded
        If it is compressed in a way that tifffile cannot read alone (LZW, JPEG).
    """
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        _check_not_cut_off(tiff, path)
        try:
            data = np.asarray(series.asarray())
        except ValueError as error:
            if "imagecodecs" in str(error) and len(series.pages) == 1:
                raise PillowNeeded(str(error)) from error
            raise
        size = _pixel_size(tiff)
        data, axes = _channels_last(data, series.axes.upper(), path)
        return data, axes, size


def tiff_writer(
    array: NDArray[Any], axes: str, size: PixelSize | None
) -> Callable[[BinaryIO], object]:
    """Return a function that writes `array` to an open file.

    uint8, uint16 and float32 become ImageJ TIFF. 32-bit integers, which ImageJ does not have,
    become OME-TIFF.
    """
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"photometric": "minisblack"}
    if array.dtype.itemsize <= 2 or array.dtype == np.float32:
        options["imagej"] = True
        if size is not None:
            options["resolution"] = (1 / size.width, 1 / size.height)
            # TIFF text is ASCII; this is how ImageJ itself writes the micro sign.
            unit = (size.unit or "").replace(_MICROMETRE, r"\u00B5m")
            metadata["unit"] = unit.encode("ascii", "replace").decode()
    else:
        options["ome"] = True
        if size is not None:
            metadata |= {"PhysicalSizeX": size.width, "PhysicalSizeY": size.height}
            if size.unit is not None:
                metadata |= {"PhysicalSizeXUnit": size.unit, "PhysicalSizeYUnit": size.unit}
    return lambda file: tifffile.imwrite(file, array, metadata=metadata, **options)


def _check_not_cut_off(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raise if the data of the first image reach past the end of the file."""
    # tifffile fills some kinds of missing data with zeros and only logs it.
    for page in tiff.series[0].pages:
        if page is None:
            continue
        ends = zip(page.dataoffsets, page.databytecounts, strict=False)
        missing = max(map(sum, ends), default=0) - tiff.filehandle.size
        if missing > 0:
            raise InputError(
                f"{path} is cut off: {missing} bytes of the image are missing; copy the file again"
            )


def _channels_last(data: NDArray[Any], axes: str, path: Path) -> tuple[NDArray[Any], str]:
    """Drop axes of length 1 and move the channels to the end; (Y, X) or (Y, X, C)."""
    if 0 in data.shape:
        raise InputError(f"{path} holds an image without pixels; save it again with some")
    # An image that is one pixel high or wide keeps its Y and X.
    kept = [i for i, name in enumerate(axes) if name in "YX" or data.shape[i] != 1]
    data = data.reshape([data.shape[i] for i in kept])
    axes = "".join(axes[i] for i in kept).replace("S", "C")  # S: the samples of a pixel
    if axes in ("YX", "YXC"):
        return data, axes
    if axes == "CYX":
        return np.moveaxis(data, 0, -1), "YXC"
    raise InputError(
        f"{path} has axes {axes} and shape {data.shape}; only 2D images, grey or RGB, can be used: "
        "save one plane as a file of its own"
    )


def _pixel_size(tiff: tifffile.TiffFile) -> PixelSize | None:
    if tiff.ome_metadata is not None:
        return _ome_pixel_size(tiff.ome_metadata)
    tags = tiff.pages.first.tags
    height, width = (_size_from_resolution(tags, name) for name in ("YResolution", "XResolution"))
    if height is None or width is None:
        return None
    if tiff.imagej_metadata is not None:
        unit = _tidy_unit(tiff.imagej_metadata.get("unit"))
        return PixelSize(height, width, unit) if unit is not None else None
    code = tags.get("ResolutionUnit")
    unit = "inch" if code is None else _BASELINE_UNITS.get(int(code.value))
    if unit is None and height == width == 1:  # what writers put when they know nothing
        return None
    return PixelSize(height, width, unit)


def _size_from_resolution(tags: tifffile.TiffTags, name: str) -> float | None:
    """Size of a pixel from a resolution tag, which holds pixels per unit as a fraction."""
    tag = tags.get(name)
    if tag is None:
        return None
    pixels, units = tag.value
    return float(units) / float(pixels) if pixels and units else None


def _ome_pixel_size(xml: str) -> PixelSize | None:
    try:
        nodes = ElementTree.fromstring(xml).iter()
        pixels = next(node.attrib for node in nodes if node.tag.endswith("}Pixels"))
        size = float(pixels["PhysicalSizeY"]), float(pixels["PhysicalSizeX"])
    except (ElementTree.ParseError, StopIteration, KeyError, ValueError):
        return None
    # The OME schema says micrometres where nothing is said.
    return PixelSize(*size, _tidy_unit(pixels.get("PhysicalSizeXUnit", _MICROMETRE)))


def _tidy_unit(unit: object) -> str | None:
    name = str(unit or "").strip()
    if name.lower() in ("", "pixel", "pixels", "none"):
        return None
    return _MICROMETRE if name.lower() in _MICROMETRE_NAMES else name
