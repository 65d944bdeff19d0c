"""The output of a large prediction: a zarr group that knows its job and which tiles are there.

A group of Zarr format 3 holds

- ``probabilities``, with an axis of classes before those that the network looks along, or
  ``classes``, the label of the most probable class (1 is background), or both;
- ``done``, one number for each tile: 1 once all its chunks lie on the disk;
- ``ranges``, the grey values that become 0 and 1, for each image and channel;
- the attribute ``napari_unet``: what job this is, so that another one is not mixed with it;
- the attribute ``ome``: axes and pixel sizes for programs that read OME-Zarr 0.5.

A tile fills whole chunks, so two tiles never write the same file, whoever computes them. A tile is
marked only after its files were written and handed to the disk. A program that is killed in between
leaves it unmarked, and it is computed again.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.arrays.grid import PlacedTile, TileGrid
from napari_unet.engine.arrays.ranges import Measured
from napari_unet.engine.arrays.source import Place
from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import class_labels

if TYPE_CHECKING:
    import zarr

OutputType = Literal["uint8", "float16", "float32"]
OUTPUT_TYPES: Final[tuple[OutputType, ...]] = ("uint8", "float16", "float32")
Content = Literal["probabilities", "classes", "both"]
CONTENTS: Final[tuple[Content, ...]] = ("probabilities", "classes", "both")

_FORMAT: Final = 1
_KEY: Final = "napari_unet"
# Tiles that one piece of `done` knows of, along each axis: it is rewritten as a whole.
_DONE_SIDE: Final = 64
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """What is stored and how it is cut.

    Attributes
    ----------
    leading_axes, spatial_axes
        Names of the axes that the network does not look along, and of those that it does.
    grid
        The tiles.
    classes, channels
        Of the network: channels of its answer and of its image.
    content
        "probabilities", "classes" or "both".
    dtype
        Of the probabilities; as "uint8" they are stored as round(255 p).
    pixel_sizes
        For any axis by name: the distance from one to the next, and its unit or None.
    """

    leading_axes: str
    spatial_axes: str
    grid: TileGrid
    classes: int
    channels: int
    content: Content = "probabilities"
    dtype: OutputType = "uint8"
    pixel_sizes: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.content not in CONTENTS:
            raise InputError(f"no output {self.content!r}; choose one of {', '.join(CONTENTS)}")
        if self.dtype not in OUTPUT_TYPES:
            raise InputError(
                f"probabilities cannot be stored as {self.dtype!r}; choose one of "
                f"{', '.join(OUTPUT_TYPES)}"
            )

    @property
    def with_probabilities(self) -> bool:
        """Whether probabilities are stored."""
        return self.content != "classes"

    @property
    def with_classes(self) -> bool:
        """Whether class labels are stored."""
        return self.content != "probabilities"

    @property
    def axes(self) -> dict[str, str]:
        """Name of each array that is stored, and of its axes."""
        before, after = self.leading_axes, self.spatial_axes
        # OME-Zarr has its axes in the order t, c, z, y, x.
        time, planes = before.replace("z", ""), before.replace("t", "")
        names = {"probabilities": f"{time}c{planes}{after}", "classes": f"{before}{after}"}
        return {
            name: axes
            for name, axes in names.items()
            if (self.with_classes if name == "classes" else self.with_probabilities)
        }


class OutputStore:
    """An output on the disk, opened for writing tiles.

    Made by `create_store` and `open_store`.

    Parameters
    ----------
    path
        Folder of the zarr group.
    layout
        What it holds.
    """

    def __init__(self, path: Path, layout: OutputLayout) -> None:
        group = open_group(path, "r+")
        self.path = path
        self.layout = layout
        self._arrays: dict[str, Any] = {
            # Chunks of zeros are files as well: what is not there has not been written.
            name: _array(group, name).with_config({"write_empty_chunks": True})
            for name in layout.axes
        }
        self._done = _array(group, "done")
        self._ranges = _array(group, "ranges")

    def finished(self) -> NDArray[np.bool_]:
        """Return for each tile of the grid whether it is there; shape (tiles,)."""
        flags: NDArray[np.bool_] = np.asarray(self._done[...]).reshape(-1) > 0
        return flags

    def ranges(self, place: Place) -> tuple[tuple[float, float], ...]:
        """Return for each channel the grey values that become 0 and 1 in the image at a place."""
        return tuple((float(low), float(high)) for low, high in np.asarray(self._ranges[place]))

    def write(self, placed: PlacedTile, probability: NDArray[np.float32]) -> None:
        """Write a tile and hand its files to the disk; it is not marked yet.

        Parameters
        ----------
        placed
            Where it lies.
        probability
            Shape (classes, ...) of its inner box, float32 in [0, 1].

        Raises
        ------
        InputError
            If it cannot be written, for example on a full disk.
        """
        with _writing(self.path):
            for name, axes in self.layout.axes.items():
                spans = self._spans(placed)
                if name == "probabilities":
                    values = self._in_order(_stored(probability, self.layout.dtype), axes)
                else:
                    values = class_labels(probability).astype(np.uint8)
                self._arrays[name][tuple(spans[axis] for axis in axes)] = values
                _hand_to_disk(self._files(name, axes, placed))

    def mark(self, numbers: Sequence[int]) -> None:
        """Note that tiles are there for good.

        Only one program may do so at a time: the one that runs the job.
        """
        if not numbers:
            return
        with _writing(self.path):
            self._done.vindex[self.layout.grid.positions(numbers)] = 1

    def _spans(self, placed: PlacedTile) -> dict[str, Any]:
        spans: dict[str, Any] = dict(zip(self.layout.leading_axes, placed.place, strict=True))
        spans |= dict(zip(self.layout.spatial_axes, placed.tile.inner, strict=True))
        spans["c"] = slice(None)
        return spans

    def _in_order(self, values: NDArray[Any], axes: str) -> NDArray[Any]:
        """Bring (classes, ...) into the order of the array, along the axes that a tile spans."""
        kept = [name for name in axes if name not in self.layout.leading_axes]
        given = f"c{self.layout.spatial_axes}"
        return values.transpose([given.index(name) for name in kept])

    def _files(self, name: str, axes: str, placed: PlacedTile) -> Iterator[Path]:
        """Yield the files of a tile's chunks, named as the specification of zarr says."""
        array = self._arrays[name]
        spans = self._spans(placed)
        along = []
        for axis, side, length in zip(axes, array.chunks, array.shape, strict=True):
            span = spans[axis]
            span = slice(span, span + 1) if isinstance(span, int) else span
            start, stop, _ = span.indices(length)
            along.append(range(start // side, -(-stop // side)))
        for chunk in itertools.product(*along):
            yield self.path / name / "c" / "/".join(map(str, chunk))


def create_store(
    path: Path,
    layout: OutputLayout,
    job: Mapping[str, Any],
    images: Mapping[Place, Measured],
) -> OutputStore:
    """Make a new output; what lies there before is replaced.

    Parameters
    ----------
    path
        Folder of the zarr group.
    layout
        What it will hold.
    job
        What the job is, fit for JSON; `read_job` returns it.
    images
        The grey values of every image.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    import zarr
    from zarr.codecs import BloscCodec

    grid = layout.grid
    with _writing(path):
        # What job it is comes last: without it an output counts as never begun.
        begun: dict[str, Any] = {_KEY: {"format": _FORMAT, "job": None}}
        group = zarr.create_group(path, overwrite=True, zarr_format=3, attributes=begun)
        for name, axes in layout.axes.items():
            is_map = name == "probabilities"
            dtype = layout.dtype if is_map else "uint8"
            shuffle: Literal["shuffle", "noshuffle"]
            shuffle = "noshuffle" if dtype == "uint8" else "shuffle"
            lengths = _lengths(layout, axes, chunk=False)
            group.create_array(
                name,
                shape=lengths,
                chunks=_lengths(layout, axes, chunk=True),
                dtype=dtype,
                fill_value=0,
                compressors=BloscCodec(cname="zstd", clevel=1, shuffle=shuffle),
                chunk_key_encoding={"name": "default", "separator": "/"},
                dimension_names=list(axes),
            )
        counts = grid.counts
        group.create_array(
            "done",
            shape=counts,
            chunks=tuple(min(n, _DONE_SIDE) for n in counts),
            dtype="uint8",
            fill_value=0,
            dimension_names=[*layout.leading_axes, *layout.spatial_axes],
        )
        ranges = np.zeros((*grid.leading_shape, layout.channels, 2))
        for place, measured in images.items():
            ranges[place] = measured.ranges
        stored = group.create_array(
            "ranges", shape=ranges.shape, dtype="float64", chunks=ranges.shape
        )
        stored[...] = ranges
        ome = _ome_attributes(layout, path.name.split(".")[0])
        group.attrs.update({"ome": ome, _KEY: {"format": _FORMAT, "job": dict(job)}})
    return OutputStore(path, layout)


def read_job(path: Path) -> dict[str, Any] | None:
    """Read which job an output belongs to.

    Returns
    -------
    dict or None
        What `create_store` was given; None if there is nothing at `path`, or an output of which
        the making was interrupted before anything was in it.

    Raises
    ------
    InputError
        If something else lies there.
    """
    if not path.exists():
        return None
    attributes = dict(open_group(path, "r").attrs)
    ours = attributes.get(_KEY)
    if not isinstance(ours, dict) or ours.get("format") != _FORMAT:
        raise InputError(
            f"{path} is there already and is not the output of such a job; choose another output, "
            "or give --overwrite to replace it"
        )
    job = ours.get("job")
    return job if isinstance(job, dict) else {}


def open_group(path: Path, mode: Literal["r", "r+"]) -> zarr.Group:
    """Open a zarr group.

    Raises
    ------
    InputError
        If it is not there or cannot be read.
    """
    import zarr

    try:
        return zarr.open_group(path, mode=mode)
    except (OSError, ValueError, KeyError) as error:
        if path.exists():
            raise InputError(
                f"{path} is there already and is no zarr group; choose another output"
            ) from error
        raise InputError(f"there is no zarr group {path}; check the path") from error


def _array(group: zarr.Group, name: str) -> Any:
    try:
        return group[name]
    except KeyError as error:
        raise InputError(
            f"the output has no array {name!r}; it is damaged: begin anew with --overwrite"
        ) from error


def _lengths(layout: OutputLayout, axes: str, *, chunk: bool) -> tuple[int, ...]:
    """Shape of an array with these axes, or of its chunks."""
    grid = layout.grid
    lengths = dict(zip(layout.leading_axes, grid.leading_shape, strict=True))
    lengths |= dict(zip(layout.spatial_axes, grid.shape, strict=True))
    lengths["c"] = layout.classes
    if chunk:
        sides = dict(zip(layout.spatial_axes, grid.sides, strict=True))
        lengths = {name: sides.get(name, 1) for name in lengths}
    return tuple(lengths[name] for name in axes)


def _ome_attributes(layout: OutputLayout, name: str) -> dict[str, Any]:
    """Return what OME-Zarr 0.5 says of an image, one level for each array."""
    kinds = {"t": "time", "c": "channel"}
    images = []
    for array, axes in layout.axes.items():
        entries = []
        for axis in axes:
            entry = {"name": axis, "type": kinds.get(axis, "space")}
            unit = layout.pixel_sizes.get(axis, (1.0, None))[1]
            entries.append(entry if unit is None else {**entry, "unit": unit})
        scale = [layout.pixel_sizes.get(axis, (1.0, None))[0] for axis in axes]
        level = {
            "path": array,
            "coordinateTransformations": [{"type": "scale", "scale": scale}],
        }
        images.append({"name": f"{name} {array}", "axes": entries, "datasets": [level]})
    return {"version": "0.5", "multiscales": images}


def _stored(probability: NDArray[np.float32], dtype: OutputType) -> NDArray[Any]:
    if dtype == "uint8":
        return (probability * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return probability.astype(dtype, copy=False)


def _hand_to_disk(files: Iterable[Path]) -> None:
    """Have the system write files out, so that not even a power cut loses what is marked."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise InputError(
                f"there is no room left for {path}; make room and give the same command again: "
                "what is done is kept"
            ) from error
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{path} cannot be written: {reason}; mend that and give the same command again: what "
            "is done is kept"
        ) from error
