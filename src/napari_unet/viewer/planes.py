"""The planes of an image layer, as the engine takes them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray

from napari_unet.engine.image import SourceImage
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import channel_count
from napari_unet.ops.tiling import Box
from napari_unet.viewer.channels import ChannelChoice, Stacked, plain_count

#: The axes before rows and columns: none, (plane,), (time, plane) ...
Index = tuple[int, ...]

# Of a pyramid the finest level with at most so many pixels a plane is worked on by itself.
_MOST_PIXELS: Final = 2**26
# Planes that were looked at last are kept as the engine knows them, normalised.
_KEPT: Final = 4


def why_not_usable(layer: Layer | None) -> str | None:
    """Say why an image layer cannot be used, with the cure; None if it can."""
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


def usual_level(layer: Layer) -> int:
    """Return the level of a pyramid that can be worked on whole: 0 is the finest."""
    if not getattr(layer, "multiscale", False):
        return 0
    sizes = [math.prod(level.shape[layer.ndim - 2 : layer.ndim]) for level in layer.data]
    return next((n for n, size in enumerate(sizes) if size <= _MOST_PIXELS), len(sizes) - 1)


class LazyPlane:
    """A plane that is read when it is needed, and so not on the main thread.

    Parameters
    ----------
    data
        All planes: anything that can be indexed.
    index
        Which one.
    ndim
        How many axes a plane has: rows, columns and perhaps channels.
    """

    def __init__(self, data: Any, index: Index, ndim: int) -> None:
        self._data = data
        self._index = index
        self.shape: tuple[int, ...] = tuple(data.shape[-ndim:])
        self.dtype = np.dtype(data.dtype)
        self.ndim = ndim

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._data[self._index], dtype=dtype)


class ImagePlanes:
    """The planes of an image layer: an image has one, a stack many.

    Parameters
    ----------
    layer
        Any image layer that `why_not_usable` has nothing against; of a labels layer the
        geometry alone makes sense.
    level
        Of a pyramid; 0 is the finest.
    choice
        Which channels, of this layer or of others, are its pixels; None: as it is.

    Attributes
    ----------
    axes
        Axes of the layer that are not channels: ..., rows, columns.
    channels
        Those that were put together, in their order; empty for an image as it is.
    factors
        Pixels of the finest level to one of these, along each axis of the layer; one covers the
        whole axis of channels.
    """

    def __init__(self, layer: Layer, level: int = 0, choice: ChannelChoice | None = None) -> None:
        self.layer = layer
        self.level = level
        self.choice = choice or ChannelChoice()
        self.axes = tuple(axis for axis in range(layer.ndim) if axis != self.choice.axis)
        self.channels = self.choice.channels(layer)
        is_pyramid = bool(getattr(layer, "multiscale", False))
        self._of_layer = layer.data[level] if is_pyramid else layer.data
        self._data = self._of_layer
        if self.channels:
            self._data = Stacked([channel.pixels(level) for channel in self.channels])
        factors = layer.downsample_factors if is_pyramid else np.ones((1, layer.ndim))
        self._factors: NDArray[np.float64] = np.array(factors, float)
        self.factors: NDArray[np.float64] = self._factors[level if is_pyramid else 0].copy()
        if self.choice.axis is not None:
            self.factors[self.choice.axis] = self._of_layer.shape[self.choice.axis]
        self._known: WeakValueDictionary[Index, SourceImage] = WeakValueDictionary()
        self._latest: deque[SourceImage] = deque(maxlen=_KEPT)

    @property
    def shape(self) -> tuple[int, ...]:
        """All axes but that of channels or colours: (..., rows, columns)."""
        return tuple(int(self._of_layer.shape[axis]) for axis in self.axes)

    @property
    def layer_shape(self) -> tuple[int, ...]:
        """That of layers of results: `shape`, and 1 where the image has channels between planes.

        napari shows axes of layers side by side from the last one on, so it has to be there.
        """
        axis = self.choice.axis
        return self.shape if not axis else (*self.shape[:axis], 1, *self.shape[axis:])

    @property
    def channel_count(self) -> int:
        """How many channels a network sees."""
        return len(self.channels) or plain_count(self.layer)

    @property
    def is_stack(self) -> bool:
        """Whether there is more than one plane along the axis before rows and columns."""
        return len(self.shape) > 2 and self.shape[-3] > 1

    @property
    def count(self) -> int:
        """How many planes there are."""
        return math.prod(self.shape[:-2])

    @property
    def levels(self) -> int:
        """How many levels the image has; 1 if it is no pyramid."""
        return len(self._factors)

    def is_of(self, layer: Layer) -> bool:
        """Say whether these are the planes of a layer as it is now."""
        data = layer.data[self.level] if getattr(layer, "multiscale", False) else layer.data
        return layer is self.layer and data is self._of_layer

    def indices(self) -> Iterator[Index]:
        """Return all planes in their order."""
        return np.ndindex(*self.shape[:-2])

    def place(self, world: Any) -> tuple[Index, tuple[float, float]]:
        """Return the plane, and row and column on it, of a place in the world."""
        position = np.asarray(self.layer.world_to_data(world), float)[-self.layer.ndim :]
        # The middle of a pixel of a coarser level lies between pixels of the finest one.
        position = ((position + 0.5) / self.factors - 0.5)[list(self.axes)]
        index = tuple(round(float(value)) for value in position[:-2])
        return index, (float(position[-2]), float(position[-1]))

    def world(self, index: Index, at: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
        """Return the place in the world of row and column on a plane: all axes of the layer."""
        position = np.zeros(self.layer.ndim)
        position[list(self.axes)] = (*index, *at)
        position = (position + 0.5) * self.factors - 0.5
        return np.asarray(self.layer.data_to_world(position), float)

    def contains(self, index: Index, at: tuple[float, float] | None = None) -> bool:
        """Say whether there is such a plane, and on it such a pixel."""
        inside = all(0 <= i < n for i, n in zip(index, self.shape[:-2], strict=True))
        if at is None:
            return inside
        return inside and all(0 <= round(x) < n for x, n in zip(at, self.shape[-2:], strict=True))

    def source(self, index: Index) -> SourceImage:
        """Return a plane as the engine takes it: the same one for as long as it is in use.

        A lazy array is read when the engine first needs it.
        """
        known = self._known.get(index)
        if known is None:
            ndim = self._data.ndim - len(index)
            lazy = not isinstance(self._data, np.ndarray)
            plane = LazyPlane(self._data, index, ndim) if lazy else self._data[index]
            known = self._known[index] = SourceImage(plane, colours=not self.channels)
        if known in self._latest:
            self._latest.remove(known)
        self._latest.append(known)
        return known

    def stack(self, index: Index, spacing: Sequence[float] | None = None) -> SourceImage:
        """Return all planes at a position along the axes before them, for a network of stacks.

        It is read when the engine needs it.

        Parameters
        ----------
        index
            () of a single stack, (time,) of a series of them.
        spacing
            Size of a voxel along planes, rows and columns.
        """
        stack = LazyPlane(self._data, index, self._data.ndim - len(index))
        return SourceImage(stack, 3, spacing, colours=not self.channels)

    def index_of(self, source: SourceImage) -> Index | None:
        """Return which plane the engine means; None if it is none of these."""
        return next((index for index, known in self._known.items() if known is source), None)

    def visible_box(self) -> Box | None:
        """Return rows and columns that are on screen; None if they lie outside the canvas."""
        layer = self.layer
        shown = self._factors[layer.data_level if self.levels > 1 else 0]
        corners = np.asarray(layer.corner_pixels, float)[:, -2:] * (shown / self.factors)[-2:]
        spans = []
        for start, stop, length in zip(*corners.astype(int), self.shape[-2:], strict=True):
            start, stop = max(int(start), 0), min(int(stop) + 1, length)
            if start >= stop:
                return None
            spans.append(slice(start, stop))
        return spans[0], spans[1]

    def placement(self) -> dict[str, Any]:
        """Return where the planes lie in the world, as keywords for a layer of `shape`."""
        # The first pixel of a coarser level covers several of the finest one.
        first = tuple((self.factors - 1) / 2)
        return placement_of(self.layer, first, self.factors, len(self.layer_shape))

    def describe(self, index: Index) -> str:
        """Return which plane of how many, and which level of how many; "" for a plain image."""
        counts = self.shape[:-2]
        parts = [f"{i + 1} of {n}" for i, n in zip(index, counts, strict=True) if n > 1]
        text = f"plane {' / '.join(parts)}" if parts else ""
        if self.levels > 1:
            level = f"level {self.level + 1} of {self.levels}"
            text = f"{text}, {level}" if text else level
        return text


def placement_of(
    layer: Layer,
    corner: tuple[float, ...],
    factors: NDArray[np.float64] | None = None,
    ndim: int = 2,
) -> dict[str, Any]:
    """Return where a part of an image lies in the world, as keywords for a layer.

    Parameters
    ----------
    layer
        The image.
    corner
        The middle of the first pixel of the part: all axes of the layer.
    factors
        Pixels of the image to one of the part, along each axis; None: 1.
    ndim
        How many axes the part has: the last ones.
    """
    physical = layer.affine.inverse(np.asarray(layer.data_to_world(corner)))
    scale = np.asarray(layer.scale) * (1.0 if factors is None else factors)
    return {
        "scale": scale[-ndim:],
        "translate": np.asarray(physical)[-ndim:],
        "rotate": layer.rotate[-ndim:, -ndim:],
        "shear": layer.shear[-ndim * (ndim - 1) // 2 :],
        "units": layer.units[-ndim:],
        "affine": layer.affine.affine_matrix[-ndim - 1 :, -ndim - 1 :],
    }


def planes_of(layer: Image, choice: ChannelChoice | None = None) -> ImagePlanes:
    """Return the planes of an image layer, of a pyramid those of the level to be worked on."""
    return ImagePlanes(layer, usual_level(layer), choice)
