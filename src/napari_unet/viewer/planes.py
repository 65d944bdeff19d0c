"""The planes of an image layer, as the engine takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Layer

from napari_unet.engine.image import SourceImage
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import channel_count

#: The axes before rows and columns: none, (plane,), (time, plane) ...
Index = tuple[int, ...]


def why_not_clickable(layer: Layer | None) -> str | None:
    """Say why nothing can be outlined on an image layer, with the cure; None if it can."""
    if layer is None:
        return "Open an image first: drag a file into the window, or File > Open Sample > U-Net."
    if layer.ndim < 2:
        return f"'{layer.name}' has no rows and columns; open an image."
    try:
        channel_count(_sample(layer))
    except InputError as error:
        return f"'{layer.name}': {error}."
    return None


def _sample(layer: Layer) -> Any:
    """Return something with the shape and dtype of one plane."""
    data = finest(layer)
    shape = data.shape[layer.ndim - 2 :]
    return np.broadcast_to(np.zeros((), data.dtype), shape)


def finest(layer: Layer) -> Any:
    """Return the pixels of a layer; of a pyramid those of its finest level."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


class ImagePlanes:
    """The planes of an image layer: an image has one, a stack many.

    Parameters
    ----------
    layer
        Any image layer that `why_not_clickable` has nothing against.
    """

    def __init__(self, layer: Image) -> None:
        self.layer = layer
        self._data = finest(layer)

    @property
    def shape(self) -> tuple[int, ...]:
        """All axes but that of colours: (..., rows, columns)."""
        return tuple(int(length) for length in self._data.shape[: self.layer.ndim])

    @property
    def is_stack(self) -> bool:
        """Whether there is more than one plane along the axis before rows and columns."""
        return len(self.shape) > 2 and self.shape[-3] > 1

    def place(self, world: Any) -> tuple[Index, tuple[float, float]]:
        """Return the plane, and row and column on it, of a place in the world."""
        position = np.asarray(self.layer.world_to_data(world), float)[-self.layer.ndim :]
        index = tuple(round(float(value)) for value in position[:-2])
        return index, (float(position[-2]), float(position[-1]))

    def contains(self, index: Index, at: tuple[float, float] | None = None) -> bool:
        """Say whether there is such a plane, and on it such a pixel."""
        inside = all(0 <= i < n for i, n in zip(index, self.shape[:-2], strict=True))
        if at is None:
            return inside
        return inside and all(0 <= round(x) < n for x, n in zip(at, self.shape[-2:], strict=True))

    def source(self, index: Index) -> SourceImage:
        """Read a plane; may take long for a lazy array, so not on the main thread."""
        return SourceImage(np.asarray(self._data[index]))


def placement_of(layer: Layer, corner: tuple[float, ...]) -> dict[str, Any]:
    """Return where a part of a plane lies in the world, as keywords for a 2D layer.

    Parameters
    ----------
    layer
        The image.
    corner
        The first pixel of the part: all axes of the layer.
    """
    physical = layer.affine.inverse(np.asarray(layer.data_to_world(corner)))
    return {
        "scale": layer.scale[-2:],
        "translate": np.asarray(physical)[-2:],
        "rotate": layer.rotate[-2:, -2:],
        "shear": layer.shear[-1:],
        "units": layer.units[-2:],
        "affine": layer.affine.affine_matrix[-3:, -3:],
    }
