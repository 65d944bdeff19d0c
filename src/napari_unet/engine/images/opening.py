"""Open an image file of any kind that is read here, and say in one line what is wrong with it."""

from __future__ import annotations

import os
import struct
import tokenize
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import tifffile

from napari_unet.engine.images.axes import Corrections, with_corrections
from napari_unet.engine.images.flat import open_numpy, open_picture
from napari_unet.engine.images.lazy import OpenedImage
from napari_unet.engine.images.omezarr import is_zarr, open_zarr
from napari_unet.engine.images.tiff import open_tiff
from napari_unet.ops.errors import InputError

TIFF_SUFFIXES: Final = (".tif", ".tiff")
PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg")
#: What a folder is searched for.
IMAGE_SUFFIXES: Final = (*TIFF_SUFFIXES, *PICTURE_SUFFIXES, ".npy", ".zarr")
# Endings that belong together: the name of "a.ome.tif" is "a".
_DOUBLE: Final = ".ome"
# What the readers raise on files that are cut off, damaged or something else altogether.
UNREADABLE: Final = (
    OSError,
    ValueError,
    tifffile.TiffFileError,
    SyntaxError,  # how Pillow reports a broken PNG
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,  # a damaged header may ask for a terabyte
    ArithmeticError,
    AssertionError,
    struct.error,
    tokenize.TokenError,  # from the header of a .npy file
    zlib.error,
)


def open_image(path: str | Path, corrections: Corrections | None = None) -> OpenedImage:
    """Open an image; its pixels are read later, plane by plane.

    Parameters
    ----------
    path
        A TIFF file (ImageJ, OME or baseline), the folder of an OME-Zarr or of a zarr array, a .npy
        file, PNG, JPEG, or what else Pillow reads.
    corrections
        What the user knows better than the file.

    Returns
    -------
    OpenedImage
        To be closed after use; a context manager.

    Raises
    ------
    InputError
        If it is not there, is not an image, is cut off or damaged, or its axes are not known.
    """
    path, corrections = Path(path), corrections or Corrections()
    if corrections.level < 0:
        raise InputError("the level must be 0 (the finest) or more")
    check_there(path)
    try:
        image = _opener(path)(path, corrections)
        if corrections.level and not image.info.levels:
            raise InputError(f"{path} has one level only; leave out --level")
        image.info = with_corrections(image.info, corrections)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    return image


def check_there(path: Path) -> None:
    """Raise InputError if a path is neither a file nor a zarr folder, or may not be read."""
    try:
        kind = "zarr" if is_zarr(path) else "file" if path.is_file() else "none"
    except PermissionError as error:
        raise InputError(
            f"{path} may not be read; ask for the right to read it, or copy it"
        ) from error
    if kind == "none":
        what = "is a folder" if path.is_dir() else "is not there"
        raise InputError(f"{path} {what}; give the path of an image file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read; ask for the right to read it, or copy it")


def unreadable(path: Path, error: BaseException) -> InputError:
    """Return what to tell the user when a reader gave up."""
    kind = "TIFF" if path.suffix.lower() in TIFF_SUFFIXES else "image"
    return InputError(
        f"{path} cannot be read as {kind}: {first_line(error)}; it may be damaged or not an "
        "image: open it in Fiji and save it again"
    )


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    lines = str(error).strip().splitlines()
    if lines and "pillow" in lines[0]:  # imageio's words for it name its plugin
        return "its format is not known"
    return lines[0].rstrip(".") if lines else type(error).__name__


def image_name(path: Path) -> str:
    """Return the name of an image without its endings: "a" for "a.ome.tif"."""
    name = path.stem
    return name[: -len(_DOUBLE)] if name.lower().endswith(_DOUBLE) else name


def _opener(path: Path) -> Callable[[Path, Corrections], OpenedImage]:
    if path.is_dir():
        return open_zarr
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return open_tiff
    return open_numpy if suffix == ".npy" else open_picture
