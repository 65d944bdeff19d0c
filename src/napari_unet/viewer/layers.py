"""The layers that a session reads and writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from napari.components import LayerList
from napari.layers import Image, Layer
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_unet.engine.files import ImageFile
from napari_unet.engine.images.axes import Axis, ImageInfo, spacing_of
from napari_unet.ops.errors import InputError
from napari_unet.viewer.planes import ImagePlanes, Index

# Okabe and Ito's palette, which people with any kind of colour vision can tell apart; label 1,
# background, is blue.
CLASS_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#999999",
    "#000000",
)
#: Under this key of its metadata a layer that a session made says what it shows.
ROLE_KEY: Final = "napari-unet"


def class_colour(label: int) -> str:
    """Return the colour of a class label (1, 2, ...) as #RRGGBB."""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def describe_image(layer: Image, planes: ImagePlanes | None = None, index: Index = ()) -> str:
    """Name an image layer and the axes that are used.

    Parameters
    ----------
    layer
        The image.
    planes, index
        Its planes and the one that is worked on; None if there is but one.
    """
    planes = planes or ImagePlanes(layer)
    rows, columns = planes.shape[-2:]
    kind = "RGB" if layer.rgb else "grey"
    if planes.channels:
        kind = f"channels {', '.join(channel.name for channel in planes.channels)}"
    text = f"{layer.name}: {rows} rows x {columns} columns, {kind}, {layer.dtype}"
    which = planes.describe(index or (0,) * (len(planes.shape) - 2))
    return f"{text}; {which}" if which else text


def add_quietly(layers: LayerList, layer: Layer, index: int | None = None) -> None:
    """Add a layer, on top unless an index is given; what is selected stays so.

    napari selects what is added. To select the former again takes as long as to add a layer: the
    controls of both are laid out, and all buttons are styled anew, twice.
    """
    active, activates = layers.selection.active, layers._activate_on_insert
    layers._activate_on_insert = False
    try:
        layers.insert(len(layers) if index is None else index, layer)
    finally:
        layers._activate_on_insert = activates
    if layers.selection.active is not active:
        layers.selection.active = active


def present_labels(data: NDArray[Any]) -> set[int]:
    """Return the labels that were painted, 0 excepted."""
    if data.dtype == np.uint8:  # twenty times faster than sorting, and the usual case
        present = np.flatnonzero(np.bincount(data.ravel(), minlength=1))
    else:
        present = np.unique(data)
    return {int(label) for label in present if label}


def annotation_colormap(classes: int) -> DirectLabelColormap:
    """Return the colours of annotations: none for label 0, the palette for the classes."""
    colours: dict[int | None, Any] = {None: "#FFFFFF", 0: "transparent"}
    colours.update({label: class_colour(label) for label in range(1, classes + 1)})
    return DirectLabelColormap(color_dict=colours)


def image_file(layer: Image, planes: ImagePlanes | None = None) -> ImageFile:
    """Return a plane of an image layer as if it had been read from a file, for its pixel size."""
    info = image_info(layer, planes or ImagePlanes(layer))
    size = info.pixel_size
    return ImageFile(
        data=layer.data,
        axes="YXC" if layer.rgb else "YX",
        pixel_size=None if size is None else (size.height, size.width),
        unit=None if size is None else size.unit,
        path=info.path,
    )


def image_info(layer: Image, planes: ImagePlanes) -> ImageInfo:
    """Return what the planes of an image layer are, as if it had been read from a file.

    Raises
    ------
    InputError
        If it has more axes than results can have: time, z, rows, columns.
    """
    shape = planes.shape
    if len(shape) > 4:
        raise InputError(
            f"'{layer.name}' has {len(shape)} axes, but results of four at most (time, z, rows, "
            "columns) can be saved; split the layer"
        )
    axes = []
    scale = (np.asarray(layer.scale) * planes.factors)[list(planes.axes)]
    units = [str(layer.units[axis]) for axis in planes.axes]
    for name, length, size, unit in zip("tzyx"[-len(shape) :], shape, scale, units, strict=True):
        known = unit not in ("pixel", "dimensionless")
        unit = {"micrometer": "µm"}.get(unit, unit)
        axes.append(Axis(name, length, float(size), unit) if known else Axis(name, length))
    path = Path(f"{file_stem(layer)}.tif")
    return ImageInfo(path, "layer", tuple(axes), str(layer.dtype), rgb=bool(layer.rgb))


def voxels(planes: ImagePlanes) -> tuple[float, ...]:
    """Return the size of a voxel along planes, rows and columns, in pixels of the plane."""
    sizes = spacing_of(image_info(planes.layer, planes))
    return tuple(size / sizes[-1] for size in sizes)


def file_stem(layer: Layer) -> str:
    """Return a layer's name as the beginning of a file name."""
    return re.sub(r"[^\w.-]+", "_", layer.name).strip("._") or "image"


def result_role(layer: Layer) -> str | None:
    """Return what a layer that a session made shows ("instances"); None for a user's layer."""
    role: str | None = layer.metadata.get(ROLE_KEY)
    return role
