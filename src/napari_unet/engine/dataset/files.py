"""Reads label files and stacks, and describes what has been found but not yet read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet.engine.files import read_image
from napari_unet.engine.images.axes import PixelSize
from napari_unet.engine.images.opening import TIFF_SUFFIXES
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image

# What tifffile raises on files that are cut off, damaged or something else altogether.
_UNREADABLE: Final = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
_MOST_CHANNELS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class PairData:
    """An image, its labels and where they are valid (None: everywhere), as read.

    Of an image whose file says so, the size of its pixels as well.
    """

    image: NDArray[Any]
    labels: NDArray[np.integer[Any]]
    valid: NDArray[np.bool_] | None = None
    pixel_size: PixelSize | None = None
    #: Of a stack, the size of a voxel along each axis.
    spacing: tuple[float, ...] = (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its labels that have been found; `read` raises InputError if it cannot."""

    name: str
    group: str
    read: Callable[[], PairData]


@dataclass(frozen=True, slots=True)
class Layout:
    """What has been found in two folders or files.

    Attributes
    ----------
    pairs
        In natural order.
    problems
        Images without labels, labels without images, names that are ambiguous.
    notes
        What was left out and need not be mended.
    instances
        The layout itself says that labels are objects.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    instances: bool = False


def read_label_file(path: Path) -> NDArray[np.integer[Any]]:
    """Read a label image; shape (Y, X), integers >= 0.

    A grey image that was stored as RGB or RGBA is taken as grey.

    Raises
    ------
    InputError
        If it cannot be read, is a JPEG, has colours, fractions or negative values.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise InputError(
            f"{path.name} is a JPEG, which changes label values; save the labels as PNG or TIFF"
        )
    return checked_labels(read_image(path).data, path.name)


def checked_labels(data: NDArray[Any], name: str) -> NDArray[np.integer[Any]]:
    """Check labels that were read, shape (Y, X) or (Y, X, C), and give them an integer dtype.

    Raises
    ------
    InputError
        If they have colours, fractions or negative values.
    """
    if data.ndim == 3:
        colours = data[..., :3]
        if (colours != colours[..., :1]).any():
            raise InputError(
                f"the labels {name} are in colour; save the label numbers as an 8- or 16-bit grey "
                "image, one number for each class or object"
            )
        data = colours[..., 0]
    return as_label_image(data, f"label image {name}")


def read_pages(path: Path) -> list[NDArray[Any]]:
    """Read all images of a file; shape (Y, X) or (Y, X, C) each.

    Planes, sections and time points of a TIFF file become images of their own; an axis of more than
    four channels, which ImageJ makes of sections when nobody says otherwise, does so too.

    Raises
    ------
    InputError
        If the file cannot be read or is cut off.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return [read_image(path).data]
    if not path.is_file():
        raise InputError(f"{path} is not there; give the path of an image file")
    try:
        return _read_tiff_pages(path)
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{path} cannot be read as TIFF: {reason}; it may be damaged or not an image: open it "
            "in Fiji and save it again"
        ) from error


def _read_tiff_pages(path: Path) -> list[NDArray[Any]]:
    with tifffile.TiffFile(path) as tiff:
        _check_not_cut_off(tiff, path)
        try:
            return [
                page
                for series in tiff.series
                for page in _split_pages(np.asarray(series.asarray()), series.axes.upper())
            ]
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
    # Compressed in a way that tifffile cannot read alone (LZW, JPEG).
    return [np.asarray(page) for page in iio.imiter(path, plugin="pillow")]


def _split_pages(data: NDArray[Any], axes: str) -> list[NDArray[Any]]:
    """Move the channels to the end and make one list of all other axes."""
    axes = axes.replace("S", "C")
    channel = axes.find("C")
    has_colours = channel >= 0 and data.shape[channel] <= _MOST_CHANNELS
    if channel >= 0:
        data = np.moveaxis(data, channel, -1 if has_colours else 0)
    pages = data.reshape(-1, *data.shape[-3 if has_colours else -2 :])
    return [page[..., 0] if page.ndim == 3 and page.shape[2] == 1 else page for page in pages]


def _check_not_cut_off(tiff: tifffile.TiffFile, path: Path) -> None:
    """Raise if data reach past the end of the file; tifffile would fill some with zeros."""
    for page in tiff.pages:
        ends = zip(page.dataoffsets, page.databytecounts, strict=False)
        missing = max(map(sum, ends), default=0) - tiff.filehandle.size
        if missing > 0:
            raise InputError(
                f"{path} is cut off: {missing} bytes of its images are missing; copy the file again"
            )
