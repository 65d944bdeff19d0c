"""An array of any size and with any axes, seen as the planes or volumes that a network takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.images.axes import Corrections, ImageInfo
from napari_unet.engine.images.lazy import OpenedImage
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box, read_tile

#: Position along the axes that the network does not look along (time, and planes of a 2D network).
Place = tuple[int, ...]

_AXES: Final = "tczyx"
_SPATIAL: Final = {2: "yx", 3: "zyx"}
# An axis of length 1 that means nothing.
_LEFT_OUT: Final = "-"
_COLOURS: Final = (3, 4)
# A chunk is decoded as a whole wherever a tile touches it.
_LARGEST_CHUNK: Final = 2**30


class ArrayLike(Protocol):
    """What has a shape and a dtype and can be sliced: numpy, zarr and dask arrays."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """The number type."""
        ...

    def __getitem__(self, index: Any) -> Any:
        """Read a part."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An array, and which of its axes is what.

    Attributes
    ----------
    array
        Any real dtype. Nothing is read before a window is asked for.
    axes
        A letter for each axis, from t, c, z, y and x; "yx", "zyx", "tczyx", "yxc" ... An axis "-"
        is looked at in its first place alone.
    ndim
        Along how many axes the network looks: 2 (rows, columns) or 3 (planes, rows, columns).
    path, component
        Where the array lies, if it is a zarr: its folder, and its place in a group.
    selected
        Which channels the network sees, from 0, in its order; empty takes all, of RGBA the colours.

    Raises
    ------
    InputError
        If axes and shape do not fit together, the array is empty or holds no real numbers, or
        its chunks are so large that no tile of it can be read.
    """

    array: ArrayLike
    axes: str
    ndim: int = 2
    path: Path | None = None
    component: str = ""
    selected: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_axes(self.axes, tuple(self.array.shape), self.ndim)
        dtype = np.dtype(self.array.dtype)
        if dtype.kind not in "biuf":
            raise InputError(
                f"the array has dtype {dtype}; convert it to numbers first, such as uint8 or "
                "float32"
            )
        decoded = math.prod(self.chunks) * dtype.itemsize
        if self.in_chunks and decoded > _LARGEST_CHUNK:
            raise InputError(
                f"the array has chunks of {self.chunks}, {decoded / 2**30:.1f} GiB each, and a "
                "chunk is read whole for every tile that touches it; store it again in chunks of "
                "about 512 x 512 (zarr.create_array(..., chunks=...))"
            )

    @property
    def spatial_axes(self) -> str:
        """Names of the axes along which the network looks."""
        return _SPATIAL[self.ndim]

    @property
    def leading_axes(self) -> str:
        """Names of the axes before them, without the channels."""
        return "".join(n for n in "tz" if n in self.axes and n not in self.spatial_axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each spatial axis."""
        return tuple(self._length(name) for name in self.spatial_axes)

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Length of each leading axis."""
        return tuple(self._length(name) for name in self.leading_axes)

    @property
    def channels(self) -> int:
        """Channels that the network sees: 1, or 3 of RGB and RGBA, or as many as there are."""
        if self.selected:
            return len(self.selected)
        count = self._length("c") if "c" in self.axes else 1
        return 3 if count in _COLOURS else count

    @cached_property
    def chunks(self) -> tuple[int, ...]:
        """Sides of the pieces in which the array is stored, along all its axes."""
        # Dask says how large its pieces are at most, zarr has pieces of one size.
        sides = getattr(self.array, "chunksize", None) or getattr(self.array, "chunks", None)
        if sides is None or not all(isinstance(side, int) for side in sides):
            return tuple(self.array.shape)
        return tuple(sides)

    @property
    def spatial_chunks(self) -> tuple[int, ...]:
        """Sides of the pieces along the spatial axes."""
        return tuple(self.chunks[self.axes.index(name)] for name in self.spatial_axes)

    @property
    def in_chunks(self) -> bool:
        """Whether the array is stored in pieces that are read whole, unlike one in memory."""
        return getattr(self.array, "chunks", None) is not None

    def reading_cost(self, sides: Sequence[int]) -> float:
        """Return how many pixels are read for each that is used, on average over all places.

        Parameters
        ----------
        sides
            Of the box that is read, along the spatial axes.
        """
        if not self.in_chunks:
            return 1.0
        wanted = dict(zip(self.spatial_axes, sides, strict=True)) | {"c": self.channels}
        cost = 1.0
        for name, length, chunk in zip(self.axes, self.array.shape, self.chunks, strict=True):
            used = min(wanted.get(name, 1), length)
            # A box that begins anywhere touches so many chunks on average.
            cost *= min((used - 1) / chunk + 1, -(-length // chunk)) * min(chunk, length) / used
        return cost

    def places(self) -> Iterator[Place]:
        """Go through the positions along the leading axes, the last one fastest."""
        yield from itertools.product(*map(range, self.leading_shape))

    def read(self, place: Place, box: Box) -> NDArray[np.float32]:
        """Read a box that lies within the image at a place.

        Returns
        -------
        NDArray
            Shape (C, ...) of the box, float32: the grey values as they are.

        Raises
        ------
        InputError
            If values are not finite, or the array cannot be read.
        """
        selection = dict(zip(self.leading_axes, place, strict=True))
        spans: dict[str, Any] = {**selection, **dict(zip(self.spatial_axes, box, strict=True))}
        chosen = self.selected or tuple(range(self.channels))
        spans |= {"c": slice(min(chosen), max(chosen) + 1), _LEFT_OUT: 0}
        try:
            block = np.asarray(self.array[tuple(spans[name] for name in self.axes)])
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the array cannot be read at {place} {_in_words(box)}: {error}; it may be damaged "
                "or incomplete: copy it again"
            ) from error
        kept = [name for name in self.axes if isinstance(spans[name], slice)]
        if "c" not in kept:
            block, kept = block[np.newaxis], ["c", *kept]
        block = block.transpose([kept.index(name) for name in f"c{self.spatial_axes}"])
        with np.errstate(over="ignore"):
            values = block[[channel - min(chosen) for channel in chosen]].astype(np.float32)
        if block.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(
                f"the array has values that are NaN, infinite or too large for float32 at {place} "
                f"{_in_words(box)}; replace them, for example with np.nan_to_num"
            )
        return values

    def read_mirrored(self, place: Place, outer: Box) -> NDArray[np.float32]:
        """Read a box that may reach outside the image, mirrored there; as `read`."""
        tile: NDArray[np.float32] = read_tile(_View(self, place), outer)  # type: ignore[arg-type]
        return tile

    def _length(self, name: str) -> int:
        return int(self.array.shape[self.axes.index(name)])


@dataclass(frozen=True)
class _View:
    """One image of the source, sliced as an array of shape (C, ...) is."""

    source: ArraySource
    place: Place

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.source.channels, *self.source.shape)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.float32]:
        return self.source.read(self.place, index[1:])


def open_source(
    path: Path,
    ndim: int,
    corrections: Corrections | None = None,
    choose: Callable[[ImageInfo], tuple[int, ...]] = lambda _info: (),
) -> tuple[ArraySource, OpenedImage]:
    """Open an image file or a zarr to be predicted where it lies.

    Parameters
    ----------
    path
        As for `napari_unet.engine.images.opening.open_image`.
    ndim
        Along how many axes the network looks.
    corrections
        What the user knows better than the file.
    choose
        Says which channels the network sees, as `ArraySource.selected`.

    Returns
    -------
    tuple
        The array, and the file, which is to be closed when the job is done.

    Raises
    ------
    InputError
        If it cannot be read, or does not fit.
    """
    from napari_unet.engine.images.opening import open_image

    image = open_image(path, corrections)
    stored: Any = image.stored
    in_zarr = path.is_dir()
    component = str(stored.path) if in_zarr else ""
    source = ArraySource(
        stored,
        image.stored_names,
        ndim,
        path if in_zarr else None,
        component,
        choose(image.info) if "c" in image.info.names else (),
    )
    return source, image


def _check_axes(axes: str, shape: tuple[int, ...], ndim: int) -> None:
    named = axes.replace(_LEFT_OUT, "")
    if len(set(named)) != len(named) or not set(named) <= set(_AXES):
        raise InputError(
            f"the axes {axes!r} are not possible; give a letter for each axis, of t (time), "
            "c (channel), z (plane), y and x"
        )
    if not set(_SPATIAL[ndim]) <= set(named):
        raise InputError(
            f"the network looks along {', '.join(_SPATIAL[ndim])}, and the array has the axes "
            f"{named!r}; choose a network for images or one for stacks, as it fits"
        )
    if len(axes) != len(shape):
        raise InputError(
            f"the array has {len(shape)} axes (shape {shape}), not {axes!r}; name each of them"
        )
    if 0 in shape:
        raise InputError(f"the array is empty (shape {shape}); choose one with pixels")


def _in_words(box: Box) -> str:
    return " x ".join(f"{span.start}:{span.stop}" for span in box)
