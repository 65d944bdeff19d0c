"""Results of an image of any axes: probabilities, classes and objects, with its pixel sizes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.files import make_folder, write_atomically
from napari_unet.engine.images.axes import Axis, ImageInfo
from napari_unet.engine.images.labels_into import CLASSES, LabelImage, LabelsInImage
from napari_unet.engine.images.lazy import OpenedImage, PlaneIndex
from napari_unet.engine.images.scratch import Scratch
from napari_unet.engine.images.tiff_writing import stack_writer
from napari_unet.engine.images.zarr_writing import OmeZarrWriter, Version
from napari_unet.ops.labels import numbered_classes

ResultFormat = Literal["tiff", "ome-zarr"]
RESULT_FORMATS: Final[tuple[ResultFormat, ...]] = ("tiff", "ome-zarr")
#: What the names of result files end with.
RESULT_KINDS: Final = ("probabilities", "classes", "instances", "prediction")


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """What an earlier run of the same job has stored.

    Attributes
    ----------
    pieces
        How many planes or stacks, from the first on.
    objects
        The highest number of an object.
    read
        Returns the objects of a plane that is stored.
    """

    pieces: int = 0
    objects: int = 0
    read: Callable[[PlaneIndex], NDArray[np.int32]] | None = None


class ResultStore(Protocol):
    """Takes in answers one by one and makes files of them."""

    @property
    def begun(self) -> Begun:
        """What need not be predicted again."""
        ...

    def add(
        self, index: PlaneIndex, probability: NDArray[np.float32], objects: NDArray[np.int32] | None
    ) -> None:
        """Take in (classes, ...) and objects (...) of one plane, or of one stack."""
        ...

    def finish(self) -> tuple[Path, ...]:
        """Write the files and return their paths."""
        ...

    def discard(self) -> None:
        """Forget everything but what the same job can go on with."""
        ...


def result_store(
    stem: Path,
    info: ImageInfo,
    classes: int,
    ndim: int = 2,
    kind: ResultFormat = "tiff",
    version: Version = "0.5",
    *,
    with_objects: bool = True,
    names: Sequence[str] = (),
) -> ResultStore:
    """Begin to store the results of an image.

    Parameters
    ----------
    stem
        Folder and name without an ending; a missing folder is made.
    info
        The image.
    classes
        Channels of the probability map.
    ndim
        2 if planes are added, 3 if whole stacks are.
    kind
        "tiff": STEM_probabilities.tif, STEM_classes.tif and STEM_instances.tif; "ome-zarr":
        STEM_prediction.ome.zarr with the probabilities as its image and the others as its labels.
    version
        Of OME-Zarr.
    with_objects
        Whether objects were cut out; otherwise none are added, and there is no file of them.
    names
        What the classes are called, background first; empty numbers them.
    """
    make_folder(stem.parent)
    if kind == "tiff":
        return _TiffResults(stem, info, classes, ndim, with_objects, names)
    return _ZarrResults(stem, info, classes, ndim, version, with_objects, names)


def _axes(info: ImageInfo, names: str) -> tuple[Axis, ...]:
    return tuple(axis for name in names for axis in info.axes if axis.name == name)


class LabelsIntoImage:
    """Writes objects and classes into the OME-Zarr that the image is.

    Parameters
    ----------
    image
        The image, opened.
    name
        Of the label image of the objects; that of the classes is NAME_classes.
    classes
        How many.
    ndim
        2 if planes are added, 3 if whole stacks are.
    replace
        Whether label images of these names are replaced.
    job
        What stands for the model and the settings; the same job goes on where it was ended.
    with_objects
        Whether objects were cut out; otherwise the classes alone are written.
    names
        What the classes are called, background first; empty numbers them.

    Raises
    ------
    InputError
        If the image cannot take them in.
    """

    def __init__(
        self,
        image: OpenedImage,
        name: str,
        classes: int,
        ndim: int = 2,
        *,
        replace: bool = False,
        job: str = "",
        with_objects: bool = True,
        names: Sequence[str] = (),
    ) -> None:
        self._name, self._names = name, f"{name}{CLASSES}"
        told = tuple(names or numbered_classes(classes))
        labels = [LabelImage(self._names, str(np.min_scalar_type(classes)), told)]
        if with_objects:
            labels.insert(0, LabelImage(name, "uint32"))
        self._labels = LabelsInImage(image, labels, replace=replace, job=job)
        self._ndim, self._keeps = ndim, bool(job)
        self._pieces, self._objects = self._labels.pieces, self._labels.count

    @property
    def begun(self) -> Begun:
        """What an earlier run of the same job has written."""
        return Begun(self._pieces, self._objects, self._read)

    def _read(self, index: PlaneIndex) -> NDArray[np.int32]:
        return self._labels.read(self._name, index).astype(np.int32)

    def add(
        self, index: PlaneIndex, probability: NDArray[np.float32], objects: NDArray[np.int32] | None
    ) -> None:
        """Take in classes and objects of one plane, or of one stack."""
        classes = probability.argmax(axis=0) + 1
        for name, values in ((self._names, classes), (self._name, objects)):
            if values is None:
                continue
            if self._ndim == 2:
                self._labels.write(name, index, values)
                continue
            for plane, cut in enumerate(values):
                self._labels.write(name, (*index, plane), cut)
        self._pieces += 1
        if objects is not None:
            self._objects = max(self._objects, int(objects.max(initial=0)))
        self._labels.mark(self._pieces, self._objects)

    def finish(self) -> tuple[Path, ...]:
        """Give the label images their names and return their paths."""
        return self._labels.finish()

    def discard(self) -> None:
        """Forget what was written, if no job could go on with it."""
        if not self._keeps:
            self._labels.discard()


class _TiffResults:
    """Keeps everything until the end: how large the largest object number is decides the type."""

    begun = Begun()

    def __init__(
        self,
        stem: Path,
        info: ImageInfo,
        classes: int,
        ndim: int,
        with_objects: bool,
        names: Sequence[str],
    ) -> None:
        self._stem = stem
        self._names = tuple(names)
        self._with_objects = with_objects
        # t, z, then what is added: (classes, y, x), or (classes, z, y, x)
        self._leading = _axes(info, "tz" if ndim == 2 else "t")
        self._spatial = _axes(info, "yx" if ndim == 2 else "zyx")
        lead = tuple(axis.length for axis in self._leading)
        sides = tuple(axis.length for axis in self._spatial)
        self._probability = Scratch((*lead, classes, *sides), np.float32, stem.parent)
        self._objects = Scratch((*lead, *sides) if with_objects else (0,), np.int32, stem.parent)
        self._most = 0
        self._classes = Axis("c", classes)
        self._labels = _axes(info, "tzyx")

    def add(
        self, index: PlaneIndex, probability: NDArray[np.float32], objects: NDArray[np.int32] | None
    ) -> None:
        self._probability.put(index, probability)
        if objects is not None:
            self._objects.put(index, objects)
            self._most = max(self._most, int(objects.max(initial=0)))

    def finish(self) -> tuple[Path, ...]:
        axes = (*self._labels[:-2], self._classes, *self._labels[-2:])
        most = np.min_scalar_type(self._most)
        classes = np.min_scalar_type(self._classes.length)
        written = [
            self._write("probabilities", self._maps(), axes, np.float32, self._names),
            self._write("classes", self._most_probable(), self._labels, classes),
        ]
        if self._with_objects:
            written.append(self._write("instances", self._planes(), self._labels, most))
        self.discard()
        return tuple(written)

    def discard(self) -> None:
        self._probability.close()
        self._objects.close()

    def _write(
        self,
        kind: str,
        planes: Iterator[NDArray[Any]],
        axes: tuple[Axis, ...],
        dtype: Any,
        channels: Sequence[str] = (),
    ) -> Path:
        path = self._stem.with_name(f"{self._stem.name}_{kind}.tif")
        return write_atomically(path, stack_writer(planes, axes, dtype, channels))

    def _places(self) -> Iterator[tuple[PlaneIndex, PlaneIndex]]:
        """Go through all planes: the index before the classes, and the one behind them."""
        for lead in itertools.product(*(range(axis.length) for axis in self._leading)):
            for inner in itertools.product(*(range(axis.length) for axis in self._spatial[:-2])):
                yield lead, inner

    def _classes_of(self, lead: PlaneIndex, inner: PlaneIndex) -> Iterator[NDArray[np.float32]]:
        for label in range(self._classes.length):
            yield self._probability.get((*lead, label, *inner))

    def _maps(self) -> Iterator[NDArray[np.float32]]:
        for lead, inner in self._places():
            yield from self._classes_of(lead, inner)

    def _most_probable(self) -> Iterator[NDArray[Any]]:
        for lead, inner in self._places():
            yield np.stack(list(self._classes_of(lead, inner))).argmax(axis=0) + 1

    def _planes(self) -> Iterator[NDArray[np.int32]]:
        for lead, inner in self._places():
            yield self._objects.get((*lead, *inner))


class _ZarrResults:
    """Writes every plane as it comes."""

    begun = Begun()

    def __init__(
        self,
        stem: Path,
        info: ImageInfo,
        classes: int,
        ndim: int,
        version: Version,
        with_objects: bool,
        names: Sequence[str],
    ) -> None:
        labels = _axes(info, "tzyx")
        times = [axis for axis in labels if axis.name == "t"]
        axes = (*times, Axis("c", classes), *(axis for axis in labels if axis.name != "t"))
        self._writer = OmeZarrWriter(
            stem.with_name(f"{stem.name}_prediction.ome.zarr"),
            axes,
            np.float32,
            version=version,
            channels=names or numbered_classes(classes),
            labels=("classes", "instances") if with_objects else ("classes",),
        )
        self._times = len(times)
        self._ndim = ndim

    def add(
        self, index: PlaneIndex, probability: NDArray[np.float32], objects: NDArray[np.int32] | None
    ) -> None:
        if self._ndim == 3:  # as many planes
            for plane in range(probability.shape[1]):
                cut = None if objects is None else objects[plane]
                self._add((*index, plane), probability[:, plane], cut)
        else:
            self._add(index, probability, objects)

    def _add(
        self, index: PlaneIndex, probability: NDArray[np.float32], objects: NDArray[np.int32] | None
    ) -> None:
        time, plane = index[: self._times], index[self._times :]
        for label, values in enumerate(probability):
            self._writer.write((*time, label, *plane), values)
        self._writer.write_labels("classes", index, probability.argmax(axis=0) + 1)
        if objects is not None:
            self._writer.write_labels("instances", index, objects)

    def finish(self) -> tuple[Path, ...]:
        return (self._writer.finish(),)

    def discard(self) -> None:
        self._writer.discard()
