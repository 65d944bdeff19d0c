"""An opened image: its description, and its planes, read when they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.images.axes import Axis, Corrections, ImageInfo, check_names
from napari_unet.ops.errors import InputError

#: Position along the leading axes (t and z, those that there are).
PlaneIndex = tuple[int, ...]


class Stored(Protocol):
    """What can be indexed with whole numbers and slices, and says its shape and dtype."""

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


class OpenedImage:
    """An image that is read plane by plane.

    Parameters
    ----------
    info
        What it holds.
    stored
        The array, as the file stores it; its axes are those of `info` after `drop`.
    drop
        Positions of stored axes of length 1 that are left out.
    close
        Called once by `close`.
    """

    def __init__(
        self,
        info: ImageInfo,
        stored: Stored,
        drop: Sequence[int] = (),
        close: Callable[[], object] | None = None,
    ) -> None:
        self.info = info
        self.stored = stored
        self._drop = frozenset(drop)
        self._close = close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._close is not None:
            self._close()
            self._close = None

    @property
    def stored_names(self) -> str:
        """Names of all axes of `stored` in one word; "-" for those that are left out."""
        kept = iter(self.info.names)
        places = range(len(self.stored.shape))
        return "".join("-" if place in self._drop else next(kept) for place in places)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Rows and columns."""
        lengths = {axis.name: axis.length for axis in self.info.axes}
        return lengths["y"], lengths["x"]

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Lengths of the leading axes; empty for a single plane."""
        return tuple(axis.length for axis in self.info.leading)

    def planes(self) -> Iterator[PlaneIndex]:
        """Go through the positions of all planes, the last axis fastest."""
        yield from itertools.product(*map(range, self.stack_shape))

    def read_plane(
        self, index: PlaneIndex = (), channels: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Read one plane.

        Parameters
        ----------
        index
            Its position along the leading axes.
        channels
            Which channels, from 0, in this order; None takes all, of RGBA the colours.

        Returns
        -------
        NDArray
            Shape (C, Y, X), dtype and values as in the file.
        """
        position = dict(zip((axis.name for axis in self.info.leading), index, strict=True))
        kept = iter(self.info.axes)
        selection: list[int | slice] = []
        names = ""
        for place in range(len(self.stored.shape)):
            if place in self._drop:
                selection.append(0)
                continue
            axis = next(kept)
            if axis.name in position:
                selection.append(position[axis.name])
                continue
            one = axis.name == "c" and channels is not None and len(channels) == 1
            selection.append(channels[0] if one and channels is not None else slice(None))
            names += "" if one else axis.name
        block = np.asarray(self.stored[tuple(selection)])
        if "c" not in names:
            return block.transpose([names.index(n) for n in "yx"])[np.newaxis]
        block = block.transpose([names.index(n) for n in "cyx"])
        if channels is not None:
            return block[list(channels)]
        return block[: self.info.channel_count]


def describe(
    stored: Stored,
    names: str,
    base: ImageInfo,
    corrections: Corrections,
    *,
    sizes: dict[str, tuple[float, str | None]] | None = None,
) -> tuple[ImageInfo, list[int]]:
    """Name the axes of a stored array, and leave out those of length 1 that mean nothing.

    Parameters
    ----------
    stored
        The array.
    names
        Axis of each of its dimensions, from the file; "?" where it is not known.
    base
        What else is known; `axes` and `dtype` are filled in.
    corrections
        What the user knows better.
    sizes
        Distance and unit by axis.

    Returns
    -------
    tuple
        The description, and the positions of the dimensions that are left out.

    Raises
    ------
    InputError
        If the axes do not fit the array, or it has no pixels or no numbers.
    """
    shape = tuple(int(length) for length in stored.shape)
    if corrections.axes is not None:
        names, base = _corrected(corrections.axes, shape, base)
    check_usable(stored, base)
    drop = [
        place
        for place, (name, length) in enumerate(zip(names, shape, strict=True))
        if length == 1 and name not in "yx"
    ]
    kept = [place for place in range(len(shape)) if place not in drop]
    names, notes = _named("".join(names[place] for place in kept), base)
    known = sizes or {}
    axes = tuple(
        Axis(name, shape[place], *known.get(name, (None, None)))
        for name, place in zip(names, kept, strict=True)
    )
    rgb = base.rgb and "c" in names
    return replace(base, axes=axes, dtype=np.dtype(stored.dtype).name, rgb=rgb, notes=notes), drop


def _corrected(names: str, shape: tuple[int, ...], base: ImageInfo) -> tuple[str, ImageInfo]:
    """Take the user's axes in place of the file's."""
    names = check_names(names)
    if len(names) == len(shape):
        # Colours are in the last axis; channels that the user names elsewhere are no colours.
        rgb = base.rgb and names.endswith("c")
        return names, replace(base, rgb=rgb, notes=())
    # Axes of length 1 need not be named.
    long = [length for length in shape if length > 1]
    if len(names) == len(long):
        spread = iter(names)
        return "".join(next(spread) if length > 1 else "?" for length in shape), replace(
            base, notes=()
        )
    raise InputError(
        f"--axes {names} names {len(names)} axes, but {base.path} has {len(shape)} "
        f"(shape {shape}); name each of them once"
    )


def check_usable(stored: Stored, base: ImageInfo) -> None:
    """Raise InputError if an array has no pixels, or values that are no real numbers."""
    shape = tuple(int(length) for length in stored.shape)
    if 0 in shape:
        raise InputError(f"{base.path} holds an image without pixels; save it again with some")
    if np.dtype(stored.dtype).kind not in "biuf":
        raise InputError(
            f"{base.path} holds values of type {np.dtype(stored.dtype)}; save it with real "
            "numbers, such as uint16 or float32 (of complex values the magnitude)"
        )


def _named(names: str, base: ImageInfo) -> tuple[str, tuple[str, ...]]:
    """Give one axis of unknown meaning a name that is free; more than one is too many."""
    unknown = [name for name in names if name not in "tczyx"]
    if not unknown:
        check_names(names)
        return names, base.notes
    free = [name for name in "zt" if name not in names]
    if len(unknown) > 1 or not free:
        raise InputError(
            f"{base.path} has axes {names} of which {', '.join(unknown)} mean nothing here; name "
            "them with --axes, such as tzcyx"
        )
    names = names.replace(unknown[0], free[0])
    check_names(names)
    note = f"the axis before rows and columns is taken as {free[0]}; --axes says otherwise"
    return names, (*base.notes, note)
