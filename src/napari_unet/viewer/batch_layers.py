"""Open an image file with its results as layers, without reading it whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.images.axes import Corrections, ImageInfo
from napari_unet.engine.images.labels_into import CLASSES
from napari_unet.engine.images.lazy import OpenedImage
from napari_unet.engine.images.opening import image_name, open_image
from napari_unet.ops.errors import InputError

# What is smaller is read at once, so that it can be edited.
_SMALL: Final = 2**27
_NO_CORRECTIONS: Final = Corrections()


def open_with_results(
    viewer: Any, image: Path, files: Sequence[Path], corrections: Corrections = _NO_CORRECTIONS
) -> list[Any]:
    """Add an image, its objects and its classes to a viewer, and return the layers.

    Parameters
    ----------
    viewer
        The napari viewer.
    image
        The file.
    files
        What was made of it.
    corrections
        What the user knows better than the file.

    Raises
    ------
    InputError
        If the image cannot be read. A result that cannot be is left out.
    """
    opened = open_image(image, corrections)
    layers = _add_image(viewer, opened)
    for path, role in _label_images(files):
        try:
            labels = open_image(path)
        except InputError:
            continue  # moved or deleted since; the image is worth seeing without it
        layer = viewer.add_labels(
            _pixels(labels, 1),
            name=path.stem if path.suffix else f"{image_name(image)}: {role}",
            visible=role == "instances",
            **_placement(labels.info),
        )
        layers.append(layer)
    return layers


def _label_images(files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return paths of label images, and what they are."""
    found = []
    for role in ("classes", "instances"):
        for path in files:
            if path.parent.name == "labels":  # labels in the image itself
                if path.name.endswith(CLASSES) == (role == "classes"):
                    found.append((path, role))
            elif path.suffix == ".zarr":
                found.append((path / "labels" / role, role))
            elif path.stem.endswith(f"_{role}"):
                found.append((path, role))
    return found


def _add_image(viewer: Any, opened: OpenedImage) -> list[Any]:
    info = opened.info
    options: dict[str, Any] = {"name": image_name(info.path), **_placement(info)}
    data = _pixels(opened, info.channel_count)
    channel_axis = len(info.leading)
    if info.rgb:
        added = viewer.add_image(_moved(data, channel_axis), rgb=True, **options)
    elif info.channel_count > 1:
        if info.channels:
            options["name"] = [f"{image_name(info.path)}: {name}" for name in info.channels]
        added = viewer.add_image(data, channel_axis=channel_axis, **options)
    else:
        added = viewer.add_image(data, rgb=False, **options)
    return list(added) if isinstance(added, list | tuple) else [added]


def _moved(data: Any, axis: int) -> Any:
    return (np if isinstance(data, np.ndarray) else da).moveaxis(data, axis, -1)


def _pixels(opened: OpenedImage, channels: int) -> Any:
    """Return (leading axes, C, Y, X), without C if there is one: read if small, else lazy."""
    leading, sides = opened.stack_shape, opened.plane_shape
    shape = (*leading, channels, *sides)
    chunks = (*((1,) * length for length in leading), *((length,) for length in shape[-3:]))
    dtype = np.dtype(opened.info.dtype)

    def read(block_info: Any = None) -> NDArray[Any]:
        place = block_info[None]["chunk-location"][: len(leading)]
        plane = opened.read_plane(tuple(int(number) for number in place))
        return plane[:channels].reshape((*(1 for _ in leading), *plane[:channels].shape))

    data = da.map_blocks(read, chunks=chunks, dtype=dtype, meta=np.empty((0,) * len(shape), dtype))
    if channels == 1:
        data = data[(*(slice(None) for _ in leading), 0)]
    if data.nbytes > _SMALL:
        return data
    with opened:
        return data.compute()


def _placement(info: ImageInfo) -> dict[str, Any]:
    """Return pixel sizes and units as napari wants them: one for each axis but channels."""
    axes = [*info.leading, *(axis for name in "yx" for axis in info.axes if axis.name == name)]
    placed: dict[str, Any] = {"scale": [axis.size or 1.0 for axis in axes]}
    if all(axis.unit for axis in axes):
        placed["units"] = [axis.unit for axis in axes]
    return placed
