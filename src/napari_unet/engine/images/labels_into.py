"""Label images that are written into an OME-Zarr that is there, beside its image.

Source: https://ngff.openmicroscopy.org/0.4 and /0.5, section labels: a label image has the axes of
its image except for the channels, and as many levels.

What is being written lies in a hidden group of the image and is given its name when it is whole,
so that other programs never see half of it. The hidden group says what job it belongs to and how
many pieces are there; the same job goes on with it.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.files import hand_to_disk
from napari_unet.engine.images.label_axes import LabelAxes, label_axes, nearest
from napari_unet.engine.images.lazy import OpenedImage, PlaneIndex
from napari_unet.engine.images.omezarr import first_multiscale, is_zarr, zarr_package
from napari_unet.engine.images.zarr_writing import (
    VERSIONS,
    set_metadata,
    unwritable,
)
from napari_unet.ops.errors import InputError

_CHUNK: Final = 512
_KEY: Final = "napari-unet"
_NAMES: Final = re.compile(r"[^\W_][\w.+\- ]{0,99}")
#: What the name of the label image of the classes ends with.
CLASSES: Final = "_classes"


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """One level of a label image, and which pixel of the level in use each of its pixels is."""

    array: Any
    sources: tuple[NDArray[np.intp], ...]


@dataclass(frozen=True, slots=True)
class LabelImage:
    """Name and number type of a label image, and what its values 1, 2 ... are called."""

    name: str
    dtype: str
    values: tuple[str, ...] = ()


class LabelsInImage:
    """Label images of an OME-Zarr that are being written into it.

    Parameters
    ----------
    image
        The image, opened; its labels have its axes but the channels, and its scales. Values are
        given for the level that is opened; the others take the nearest pixel.
    labels
        Their names and number types.
    replace
        Whether label images of these names are replaced; else they are refused.
    job
        What stands for the model and the settings: what a job of the same name has begun is gone on
        with. Empty: begin anew.

    Raises
    ------
    InputError
        If the image is no OME-Zarr of version 0.4 or 0.5, has labels of such a name, a name is not
        possible, or the folder cannot be written.
    """

    def __init__(
        self,
        image: OpenedImage,
        labels: Sequence[LabelImage],
        *,
        replace: bool = False,
        job: str = "",
    ) -> None:
        self.path = image.info.path
        self._labels = {check_label_name(label.name): label for label in labels}
        self._replace = replace
        self._image = image
        with self._writing():
            self._root, self._version, self._multiscale = _open_for_labels(self.path)
            self._axes = label_axes(image, self._multiscale)
            self._partial_name = f".{next(iter(self._labels))}.partial"
            self._begin(job)
            self._levels = {name: self._opened(name) for name in self._labels if self._is_in(name)}

    @property
    def pieces(self) -> int:
        """How many pieces an earlier run of the same job has marked."""
        return int(self._mark()["pieces"])

    @property
    def count(self) -> int:
        """The number that was given with the last mark."""
        return int(self._mark()["count"])

    def write(self, name: str, index: PlaneIndex, plane: NDArray[Any]) -> None:
        """Write (Y, X) of a label image into all levels; `index` counts along t and z."""
        leading = dict(zip((axis.name for axis in self._image.info.leading), index, strict=True))
        with self._writing():
            for level in self._levels[name]:
                for place in _put(level, self._axes, leading, plane):
                    hand_to_disk(self._files(level.array, place))

    def read(self, name: str, index: PlaneIndex) -> NDArray[Any]:
        """Read (Y, X) of what was written, at the level in use."""
        leading = dict(zip((axis.name for axis in self._image.info.leading), index, strict=True))
        array = self._levels[name][self._image.info.level].array
        places = [
            slice(None) if axis in ("y", "x") else leading.get(axis, 0)
            for axis, _ in self._axes.named()
        ]
        plane: NDArray[Any] = np.asarray(array[tuple(places)])
        return plane if self._axes.rows_first else plane.T

    def mark(self, pieces: int, count: int) -> None:
        """Note that so many pieces are written, with a number that is given back by `count`."""
        with self._writing():
            mark = {**self._mark(), "pieces": pieces, "count": count}
            self._partial.attrs[_KEY] = mark

    def finish(self) -> tuple[Path, ...]:
        """Give the label images their names and list them; return their paths."""
        with self._writing():
            if not self._replace:
                self._refuse_taken()
            group = self._root.require_group("labels")
            # The last one is the one that is looked for: before it has its name nothing is whole.
            for name in reversed(self._labels):
                if self._is_in(name):
                    self._move(name)
            self._list(group)
            shutil.rmtree(self.path / self._partial_name, ignore_errors=True)
            self._consolidate()
        return tuple(self.path / "labels" / name for name in self._labels)

    def discard(self) -> None:
        """Take away what was written so far."""
        shutil.rmtree(self.path / self._partial_name, ignore_errors=True)

    def _files(self, array: Any, place: tuple[Any, ...]) -> Iterator[Path]:
        """Yield the files of a plane's chunks, which are of 1 along the axes before it."""
        before = [str(n) for n in itertools.takewhile(lambda n: not isinstance(n, slice), place)]
        top = self.path / str(array.path) / ("" if self._version == "0.4" else "c")
        yield from (file for file in top.joinpath(*before).rglob("*") if file.is_file())

    # ------------------------------------------------------------------ what is begun

    def _begin(self, job: str) -> None:
        """Open what an earlier run has begun, or begin."""
        path = self.path / self._partial_name
        self._partial: Any = None
        if path.is_dir() and job:
            try:
                self._partial = self._root[self._partial_name]
            except (KeyError, ValueError):
                self._partial = None
        if self._partial is None or self._mark().get("job") != job:
            self._refuse_taken()
            self.discard()
            self._partial = self._root.create_group(self._partial_name)
            for label in self._labels.values():
                self._create(label)
            # Last: without it a group counts as never begun.
            self._partial.attrs[_KEY] = {"job": job, "pieces": 0, "count": 0}
        self._refuse_taken()

    def _mark(self) -> dict[str, Any]:
        mark = dict(self._partial.attrs).get(_KEY) if self._partial is not None else None
        return {"job": None, "pieces": 0, "count": 0, **(mark if isinstance(mark, dict) else {})}

    def _is_in(self, name: str) -> bool:
        """Whether a label image still waits for its name; else a run before was killed after."""
        return (self.path / self._partial_name / name).is_dir()

    def _refuse_taken(self) -> None:
        if self._replace:
            return
        for name in self._labels:
            moved = self._partial is not None and not self._is_in(name)
            if not moved and (self.path / "labels" / name).exists():
                raise InputError(
                    f"{self.path} has labels {name!r} already; give another name, or --overwrite "
                    "to replace them"
                )

    def _move(self, name: str) -> None:
        target = self.path / "labels" / name
        old = target.with_name(f".{name}.old")
        if target.exists() and self._replace:
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(self.path / self._partial_name / name, target)
        shutil.rmtree(old, ignore_errors=True)

    def _list(self, group: Any) -> None:
        """Name the label images where readers look for their names."""
        told = dict(group.attrs)
        told = told if self._version == "0.4" else told.get("ome", {})
        names = [*told.get("labels", ()), *self._labels]
        set_metadata(group, self._version, labels=list(dict.fromkeys(names)))

    def _consolidate(self) -> None:
        """Bring a list of all that the image holds up to date, if it has one."""
        inline = self._root.metadata.consolidated_metadata is not None
        if inline or (self.path / ".zmetadata").is_file() or _has_inline_list(self.path):
            import warnings

            with warnings.catch_warnings():  # zarr 3 warns of its own, which was there before
                warnings.simplefilter("ignore")
                zarr_package().consolidate_metadata(str(self.path))

    # ------------------------------------------------------------------ levels

    def _create(self, label: LabelImage) -> None:
        """Make the arrays of a label image, and say what they are."""
        node = self._partial.create_group(label.name)
        datasets = []
        shapes = [self._axes.of(self._root[d["path"]].shape) for d in self._multiscale["datasets"]]
        for number, (dataset, shape) in enumerate(
            zip(self._multiscale["datasets"], shapes, strict=True)
        ):
            self._create_level(node, str(number), shape, label.dtype)
            steps = self._axes.transformations(dataset)
            ratio = [a / b for a, b in zip(shapes[0], shape, strict=True)]
            steps = steps or [{"type": "scale", "scale": ratio}]
            datasets.append({"path": str(number), "coordinateTransformations": steps})
        multiscale = {"name": label.name, "axes": self._axes.described, "datasets": datasets}
        if whole := self._axes.transformations(self._multiscale):
            multiscale["coordinateTransformations"] = whole
        if self._version == "0.4":
            multiscale["version"] = "0.4"
        source: dict[str, Any] = {"version": self._version, "source": {"image": "../../"}}
        if label.values:
            named = enumerate(label.values, start=1)
            source["properties"] = [{"label-value": n, "class": name} for n, name in named]
        set_metadata(node, self._version, multiscales=[multiscale], **{"image-label": source})

    def _create_level(self, node: Any, name: str, shape: tuple[int, ...], dtype: str) -> None:
        chunks = tuple(
            min(length, _CHUNK) if axis in ("y", "x") else 1
            for length, (axis, _) in zip(shape, self._axes.named(), strict=True)
        )
        options: dict[str, Any] = {"shape": shape, "chunks": chunks, "dtype": dtype}
        if self._version == "0.4":
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        else:
            options["dimension_names"] = [each["name"] for each in self._axes.described]
        node.create_array(name, **options)

    def _opened(self, name: str) -> list[_Level]:
        used = self._axes.of(self._image.stored.shape)
        levels = []
        for number in range(len(self._multiscale["datasets"])):
            # Chunks of zeros are files as well: what is not there looks like a copy cut short.
            array = self._partial[name][str(number)].with_config({"write_empty_chunks": True})
            sources = (nearest(*lengths) for lengths in zip(array.shape, used, strict=True))
            levels.append(_Level(array, tuple(sources)))
        return levels

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.path, error) from error


def _put(
    level: _Level, axes: LabelAxes, leading: dict[str, int], plane: NDArray[Any]
) -> Iterator[tuple[Any, ...]]:
    """Write a plane wherever it is the nearest one, and yield these places."""
    rows = level.sources[axes.names.index("y")]
    columns = level.sources[axes.names.index("x")]
    values = plane[rows[:, np.newaxis], columns]
    values = values if axes.rows_first else values.T
    spans: list[list[Any]] = []
    for name, sources in zip(axes.names, level.sources, strict=True):
        if name in ("y", "x"):
            spans.append([slice(None)])
        else:
            spans.append([int(i) for i in np.flatnonzero(sources == leading.get(name, 0))])
    for place in itertools.product(*spans):
        level.array[place] = values
        yield place


def check_label_name(name: str) -> str:
    """Return a name of a label image.

    Raises
    ------
    InputError
        If it is no name for a folder in any system.
    """
    if _NAMES.fullmatch(name) is None or name.endswith((" ", ".", ".partial", ".old")):
        raise InputError(
            f"labels cannot be called {name!r}; give a name of letters, numbers, -, + and _, such "
            "as nuclei"
        )
    return name


def _open_for_labels(path: Path) -> tuple[Any, str, Mapping[str, Any]]:
    """Open the group of an image for writing; return it with its version and its description."""
    found = None
    if is_zarr(path):
        try:
            root = zarr_package().open_group(str(path), mode="r+", use_consolidated=False)
            found = first_multiscale(root)
        except (ValueError, KeyError):  # an array, or no metadata
            found = None
    if found is None or found[0] not in VERSIONS:
        raise InputError(_no_place(path, found and found[0]))
    return root, *found


def _has_inline_list(path: Path) -> bool:
    """Whether zarr.json lists all that lies below."""
    try:
        return '"consolidated_metadata"' in (path / "zarr.json").read_text("utf-8")
    except OSError:
        return False


def _no_place(path: Path, version: str | None) -> str:
    if version is None:
        return (
            f"{path} is no OME-Zarr image, and only into such a one labels can be written; have "
            "the results written as files of their own"
        )
    return (
        f"{path} is OME-Zarr {version}, and labels are written into {' and '.join(VERSIONS)}; "
        "convert it, or have the results written as files of their own"
    )
