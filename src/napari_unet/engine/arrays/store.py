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
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.arrays.grid import PlacedTile
from napari_unet.engine.arrays.layout import OutputLayout, OutputType, array_shape, ome_attributes
from napari_unet.engine.arrays.ranges import Measured
from napari_unet.engine.arrays.source import Place
from napari_unet.engine.files import hand_to_disk
from napari_unet.engine.images.omezarr import zarr_package
from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import class_labels

_FORMAT: Final = 1
_KEY: Final = "napari_unet"
# Tiles that one piece of `done` knows of, along each axis: it is rewritten as a whole.
_DONE_SIDE: Final = 64
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
                hand_to_disk(self._files(name, axes, placed))

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
    with _writing(path):
        # What job it is comes last: without it an output counts as never begun.
        begun: dict[str, Any] = {_KEY: {"format": _FORMAT, "job": None}}
        group = zarr_package().create_group(path, overwrite=True, zarr_format=3, attributes=begun)
        for name in layout.axes:
            _create_output(group, name, layout)
        counts = layout.grid.counts
        group.create_array(
            "done",
            shape=counts,
            chunks=tuple(min(n, _DONE_SIDE) for n in counts),
            dtype="uint8",
            fill_value=0,
            dimension_names=[*layout.leading_axes, *layout.spatial_axes],
        )
        _create_ranges(group, layout, images)
        ome = ome_attributes(layout, path.name.split(".")[0])
        group.attrs.update({"ome": ome, _KEY: {"format": _FORMAT, "job": dict(job)}})
    return OutputStore(path, layout)


def _create_output(group: Any, name: str, layout: OutputLayout) -> None:
    """Make the array of the probabilities, or that of the classes."""
    from zarr.codecs import BloscCodec

    axes = layout.axes[name]
    dtype = layout.dtype if name == "probabilities" else "uint8"
    shuffle: Literal["shuffle", "noshuffle"]
    shuffle = "noshuffle" if dtype == "uint8" else "shuffle"
    group.create_array(
        name,
        shape=array_shape(layout, axes, chunk=False),
        chunks=array_shape(layout, axes, chunk=True),
        dtype=dtype,
        fill_value=0,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle=shuffle),
        chunk_key_encoding={"name": "default", "separator": "/"},
        dimension_names=list(axes),
    )


def _create_ranges(group: Any, layout: OutputLayout, images: Mapping[Place, Measured]) -> None:
    ranges = np.zeros((*layout.grid.leading_shape, layout.channels, 2))
    for place, measured in images.items():
        ranges[place] = measured.ranges
    stored = group.create_array("ranges", shape=ranges.shape, dtype="float64", chunks=ranges.shape)
    stored[...] = ranges


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
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
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


def holds_zarr(path: Path) -> bool:
    """Say whether a folder is a zarr array or group, whatever it is called."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def remove_store(path: Path) -> None:
    """Delete a zarr, if there is one.

    Raises
    ------
    InputError
        If that is not possible.
    """
    try:
        if path.exists():
            shutil.rmtree(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{path} cannot be deleted: {reason}; remove it yourself, or choose another output"
        ) from error


def open_group(path: Path, mode: Literal["r", "r+"]) -> Any:
    """Open a zarr group.

    Raises
    ------
    InputError
        If it is not there or cannot be read.
    """
    zarr = zarr_package()
    try:
        return zarr.open_group(path, mode=mode)
    except (OSError, ValueError, KeyError) as error:
        if path.exists():
            raise InputError(
                f"{path} is there already and is no zarr group; choose another output"
            ) from error
        raise InputError(f"there is no zarr group {path}; check the path") from error


def _array(group: Any, name: str) -> Any:
    try:
        return group[name]
    except KeyError as error:
        raise InputError(
            f"the output has no array {name!r}; it is damaged: begin anew with --overwrite"
        ) from error


def _stored(probability: NDArray[np.float32], dtype: OutputType) -> NDArray[Any]:
    if dtype == "uint8":
        return (probability * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return probability.astype(dtype, copy=False)


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
