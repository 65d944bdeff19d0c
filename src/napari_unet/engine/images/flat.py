"""PNG, JPEG and NumPy files."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np

from napari_unet.engine.images.axes import Corrections, ImageInfo, guess_names
from napari_unet.engine.images.lazy import OpenedImage, describe
from napari_unet.ops.errors import InputError


def open_picture(path: Path, corrections: Corrections) -> OpenedImage:
    """Open a PNG, a JPEG, or what else Pillow reads; one picture, grey or in colour."""
    # Left to itself, imageio tries all its plugins on a damaged file, slowly and with warnings.
    data = np.asarray(iio.imread(path, plugin="pillow"))
    if data.ndim == 3 and data.shape[2] == 2:  # grey and alpha
        data = data[..., 0]
    if data.ndim not in (2, 3):
        raise InputError(
            f"{path} holds several pictures; save them as a TIFF stack, or the one to work on alone"
        )
    base = ImageInfo(path, path.suffix.lstrip(".").upper(), (), "", rgb=data.ndim == 3)
    info, drop = describe(data, "yxc"[: data.ndim], base, corrections)
    return OpenedImage(info, data, drop)


def open_numpy(path: Path, corrections: Corrections) -> OpenedImage:
    """Open a .npy file; it is mapped, not read."""
    # Never pickled objects: reading one may run code.
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    base = ImageInfo(path, "NumPy", (), "")
    if corrections.axes is not None:
        names = "?" * data.ndim
    else:
        names, rgb, notes = guess_names(data.shape, path)
        base = ImageInfo(path, "NumPy", (), "", rgb=rgb, notes=notes)
    info, drop = describe(data, names, base, corrections)
    return OpenedImage(info, data, drop)
