"""Images, labels and probability maps in files: one plane at a time, written whole or not at all.

Results are written as TIFF that Fiji, napari and tifffile open with the right axes and pixel
size. Every file is written beside its final place and then renamed, so that an interrupted
write never leaves half a file under the final name. Stacks: `napari_unet.engine.images`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import imageio.v3 as iio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_unet.engine.images.axes import PixelSize
from napari_unet.engine.images.opening import (
    TIFF_SUFFIXES,
    UNREADABLE,
    first_line,
    open_image,
    unreadable,
)
from napari_unet.engine.images.tiff_writing import tiff_writer
from napari_unet.ops.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """An image as it lies in a file.

    Attributes
    ----------
    data
        Shape (Y, X) or (Y, X, C), any dtype, values as in the file.
    axes
        "YX" or "YXC".
    pixel_size
        Height and width of a pixel in `unit`; None if the file does not say.
    unit
        Unit of `pixel_size`, "µm" for micrometres; None if the file does not say.
    path
        Where it was read.
    channels
        Names of the channels; empty if the file has none.
    """

    data: NDArray[Any]
    axes: str
    pixel_size: tuple[float, float] | None
    unit: str | None
    path: Path
    channels: tuple[str, ...] = ()

    @property
    def size(self) -> PixelSize | None:
        """Pixel size and unit in one; None if the file does not say."""
        return None if self.pixel_size is None else PixelSize(*self.pixel_size, self.unit)


def read_image(path: str | Path) -> ImageFile:
    """Read a 2D image, grey or in colour.

    Parameters
    ----------
    path
        A TIFF file (ImageJ, OME or baseline), PNG, JPEG, .npy, or the folder of an OME-Zarr. Axes
        of length 1 are dropped; of a file with several images the first is read.

    Raises
    ------
    InputError
        If the file is not there, is not an image, is cut off or damaged, or is not 2D.
    """
    with open_image(path) as image:
        info = image.info
        if info.leading:
            raise InputError(
                f"{path} has axes {info.names.upper()} and shape {info.shape}; only 2D "
                "images, grey or RGB, can be used here: save one plane as a file of its own"
            )
        channels = info.axis("c")
        try:
            data = np.array(image.read_plane((), range(channels.length) if channels else None))
        except UNREADABLE as error:
            raise unreadable(Path(path), error) from error
    data = data[0] if channels is None else np.moveaxis(data, 0, -1)
    size = info.pixel_size
    return ImageFile(
        np.ascontiguousarray(data),
        "YX" if channels is None else "YXC",
        None if size is None else (size.height, size.width),
        None if size is None else size.unit,
        Path(path),
        () if info.rgb else info.channels,
    )


def read_labels(path: str | Path) -> NDArray[Any]:
    """Read a label image; shape (Y, X), dtype and values as in the file.

    Raises
    ------
    InputError
        As for `read_image`, and if the image has colour channels.
    """
    return labels_in(read_image(path))


def labels_in(image: ImageFile) -> NDArray[Any]:
    """Return the labels in an image file that was read; shape (Y, X).

    Raises
    ------
    InputError
        If the image has colour channels.
    """
    if image.data.ndim != 2:
        raise InputError(
            f"{image.path} has {image.data.shape[2]} channels, labels have none; save the label "
            "numbers as an 8- or 16-bit grey image"
        )
    return image.data


def write_labels(path: str | Path, labels: ArrayLike, like: ImageFile | None = None) -> Path:
    """Write a label image and return its path.

    Parameters
    ----------
    path
        Ends in .tif, .tiff or .png. Missing folders are made.
    labels
        Shape (Y, X), integers >= 0 (or bool). Stored in the smallest unsigned type that holds
        them.
    like
        The image that they belong to, for the pixel size.

    Raises
    ------
    InputError
        If the labels are not integers, or the file cannot be written.
    """
    path = Path(path)
    array = np.asarray(labels)
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise InputError(
            f"labels to save must be a 2D array of integers, not {array.ndim}D {array.dtype}"
        )
    if array.size and int(array.min()) < 0:
        raise InputError("labels to save must not be negative; number them from 0")
    array = array.astype(np.min_scalar_type(int(array.max()) if array.size else 0))
    if path.suffix.lower() in TIFF_SUFFIXES:
        return _write_tiff(path, array, "YX", like)
    if path.suffix.lower() != ".png" or array.dtype.itemsize > 2:
        raise InputError(
            f"labels cannot be saved exactly as {path.name}; use a name ending in .tif"
        )
    encoded = iio.imwrite("<bytes>", array, extension=".png")
    return write_atomically(path, lambda file: file.write(encoded))


def write_probabilities(
    path: str | Path, probabilities: ArrayLike, like: ImageFile | None = None
) -> Path:
    """Write a probability map or a weight map as float32 TIFF and return its path.

    Parameters
    ----------
    path
        Ends in .tif or .tiff. Missing folders are made.
    probabilities
        Shape (classes, Y, X), or (Y, X) for a single map.
    like
        The image that they belong to, for the pixel size.

    Raises
    ------
    InputError
        If the file cannot be written, or its name says another format.
    """
    path = Path(path)
    array = np.asarray(probabilities, dtype=np.float32)
    if array.ndim not in (2, 3):
        raise InputError(f"a map to save must be (classes, Y, X) or (Y, X), not {array.ndim}D")
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise InputError(
            f"real numbers cannot be saved exactly as {path.name}; use a name ending in .tif"
        )
    return _write_tiff(path, array, "CYX"[-array.ndim :], like)


def make_folder(path: str | Path) -> Path:
    """Make a folder, and those above it, if it is not there, and check that it can be written.

    Raises
    ------
    InputError
        If it cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"{path} is a file, not a folder; choose another folder") from error
    except OSError as error:
        raise _unwritable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"the folder {path} cannot be written; choose another one")
    return path


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file under a temporary name and rename it when it is whole; return its path.

    Parameters
    ----------
    path
        The final path. Missing folders are made; a file of that name is replaced.
    write
        Writes the contents to the open binary file that it is given.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def hand_to_disk(files: Iterable[Path]) -> None:
    """Have the system write files out, so that not even a power cut loses what is marked as done.

    Raises
    ------
    OSError
        If it cannot.
    """
    for file in files:
        descriptor = os.open(file, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> InputError:
    reason = error.strerror or first_line(error)
    return InputError(f"{path} cannot be written: {reason.lower()}; choose another folder")


def _write_tiff(path: Path, array: NDArray[Any], axes: str, like: ImageFile | None) -> Path:
    size = None if like is None else like.size
    return write_atomically(path, tiff_writer(array, axes, size))
