"""The images of the strokes benchmark: one to paint on, two others, and the class of each pixel.

Every data set with dense truth takes part. A set gives, for a seed, one image that is painted on
and two others that are not; large images are cut to one square of 512 pixels (768 where objects
are large), so that a run stays affordable. Truth has labels as strokes have them: 1 background,
2 and up classes. Touching objects are parted by a gap of one pixel, so that they can come out as
two.

The data sets lie in the folder that NAPARI_UNET_DATA names. What is particular:

dsb2018_...             The three kinds of `index.csv`, one set each. The images chosen by one seed
                        have one size, as images from one microscope have.
isbi2012_em, vnc_...    Consecutive sections; painted on and others lie a third of the stack apart.
ctc_fluo_n2dh_simplus   Frames of ONE sequence, a third of it apart: the same nuclei later on.
axon_myelin_em          Disjoint squares of the one large field; the two small images of the set are
                        magnified differently.
chloroplast_em, stardist_samples    Disjoint squares of the images.
plantseg_nuclei3d       Planes of a volume of 100 planes, a third of it apart.
"""

from __future__ import annotations

import csv
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tifffile import imread

from napari_unet.engine.files import read_image
from napari_unet.ops.errors import InputError
from napari_unet.ops.weight_map import separate_touching

# Others beside the image that is painted on.
_OTHERS = 2
# An image in which a class covers less cannot be painted on or scored sensibly.
_LEAST_SHARE = 0.01
_CROPS_TRIED = 20
_PLANES_APART = 4


@dataclass(frozen=True, slots=True, eq=False)
class TrueImage:
    """An image and what it shows.

    Attributes
    ----------
    name
        Of the file, with the place of a cut in it.
    image
        Shape (Y, X) or (Y, X, 3), as in the file.
    truth
        Shape (Y, X), uint8: 1 background, 2 and up classes, 0 not known.
    """

    name: str
    image: NDArray[Any]
    truth: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class StrokeSet:
    """What a robot paints on, and what else is predicted.

    Attributes
    ----------
    name
        One of `SETS`.
    kind
        What it shows, in a few words.
    classes
        Names of the classes, the background first; class k (from 0) has label k + 1.
    painted
        The image that strokes are painted on.
    others
        Images of the same kind, which no learner sees before it is scored on them.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    painted: TrueImage
    others: tuple[TrueImage, ...]


Truth = Callable[[NDArray[Any]], NDArray[np.uint8]]


def _positive(labels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(1 + (labels > 0).astype(np.uint8))


def _zero(labels: NDArray[Any]) -> NDArray[np.uint8]:
    return 1 + (labels == 0).astype(np.uint8)


def _classes(labels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(1 + labels.astype(np.uint8))


def _instances(labels: NDArray[Any]) -> NDArray[np.uint8]:
    return _positive(separate_touching(labels))


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a set lies and how it is read."""

    kind: str
    folder: str
    labels: str
    truth: Truth
    classes: tuple[str, ...]
    side: int = 512
    # Neighbours are near-copies of each other, so the chosen ones lie far apart.
    consecutive: bool = False
    # Images are cut into disjoint squares, each of which counts as an image.
    squares: bool = False
    # Of the index of dsb2018: colour and background.
    index: tuple[str, str] | None = None
    # Only files whose stem is one of these; all if there are none.
    only: tuple[str, ...] = ()


_MEMBRANES = ("interior", "membrane")
_NUCLEI = ("background", "nucleus")
_SOURCES = {
    "isbi2012_em": _Source(
        "membranes, EM", "isbi2012_em", "labels", _zero, _MEMBRANES, consecutive=True
    ),
    "vnc_membranes": _Source(
        "membranes, EM", "vnc_sstem", "membranes", _positive, _MEMBRANES, consecutive=True
    ),
    "vnc_mitochondria": _Source(
        "mitochondria, EM",
        "vnc_sstem",
        "mitochondria",
        _positive,
        ("background", "mitochondrion"),
        side=768,
        consecutive=True,
    ),
    "dsb2018_fluorescence": _Source(
        "nuclei, fluorescence", "dsb2018", "masks", _instances, _NUCLEI, index=("grey", "dark")
    ),
    "dsb2018_stained": _Source(
        "nuclei, stained, RGB", "dsb2018", "masks", _instances, _NUCLEI, index=("color", "bright")
    ),
    "dsb2018_brightfield": _Source(
        "nuclei, bright field", "dsb2018", "masks", _instances, _NUCLEI, index=("grey", "bright")
    ),
    "deepcell_hela_phase": _Source(
        "cells, phase contrast", "deepcell_hela_phase", "masks", _instances, ("background", "cell")
    ),
    "ctc_fluo_n2dh_simplus": _Source(
        "nuclei, simulated", "ctc_fluo_n2dh_simplus", "masks", _instances, _NUCLEI, consecutive=True
    ),
    "pfc_neurons": _Source(
        "neurons, RGB", "pfc_neurons", "semantic", _positive, ("background", "neuron"), side=768
    ),
    "axon_myelin_em": _Source(
        "axons, EM",
        "axon_myelin_em",
        "classes",
        _classes,
        ("background", "myelin", "axon"),
        squares=True,
        only=("sem_demo",),
    ),
    "chloroplast_em": _Source(
        "chloroplasts, EM",
        "chloroplast_em",
        "masks",
        _instances,
        ("background", "chloroplast"),
        side=768,
        squares=True,
    ),
    "stardist_samples": _Source(
        "nuclei, fluorescence",
        "stardist_samples",
        "masks",
        _instances,
        _NUCLEI,
        side=256,
        squares=True,
        only=("img2d", "test2d"),
    ),
    "plantseg_nuclei3d": _Source(
        "nuclei, confocal", "plantseg_nuclei3d", "masks", _instances, _NUCLEI, consecutive=True
    ),
}
SETS = tuple(_SOURCES)


def load(name: str, folder: Path, seed: int = 0) -> StrokeSet:
    """Choose the images of a set.

    Parameters
    ----------
    name
        One of `SETS`.
    folder
        The folder that holds all data sets.
    seed
        Which image is painted on, which are the others, and where large images are cut. The same
        seed gives the same images, whatever else is in the folder of data sets.

    Returns
    -------
    StrokeSet
        In every image each class covers at least one hundredth of the pixels.

    Raises
    ------
    InputError
        If the set is not known or not there, or has fewer than two images.
    """
    if name not in _SOURCES:
        raise InputError(f"there is no set {name!r}; choose from {', '.join(SETS)}")
    source, rng = _SOURCES[name], _generator(name, seed)
    place = folder / source.folder
    if not place.is_dir():
        raise InputError(f"{place} is not there; let NAPARI_UNET_DATA name the folder that has it")
    chosen: list[TrueImage] = []
    for cut in _in_order(list(_cuts(place, source)), source.consecutive, rng):
        found = cut.read(source, rng)
        fits = not chosen or found.image.ndim == chosen[0].image.ndim
        if source.index is not None and chosen:
            fits = fits and found.image.shape == chosen[0].image.shape
        if fits and _shares(found.truth, len(source.classes)).min() >= _LEAST_SHARE:
            chosen.append(found)
        if len(chosen) == 1 + _OTHERS:
            break
    if len(chosen) < 2:
        raise InputError(f"{place} has fewer than two images with all classes; get the whole set")
    return StrokeSet(name, source.kind, source.classes, chosen[0], tuple(chosen[1:]))


def data_folder() -> Path:
    """Return the folder of all data sets, or end with words on how to name it."""
    folder = os.environ.get("NAPARI_UNET_DATA")
    if not folder:
        sys.exit("NAPARI_UNET_DATA is not set; let it name the folder that holds the data sets")
    return Path(folder)


def scribbled(folder: Path) -> Iterator[TrueImage]:
    """Read what real users drew; there is no truth beyond it, so it is for pictures only.

    Parameters
    ----------
    folder
        The folder that holds all data sets.

    Yields
    ------
    TrueImage
        Its `truth` is what was drawn: 0 almost everywhere. Where users filled single objects and
        drew no background, the two pixels around each object count as background, as nobody would
        have stopped there otherwise.

    Raises
    ------
    InputError
        If the set is not there.
    """
    place = folder / "sparse_scribbles"
    if not place.is_dir():
        raise InputError(f"{place} is not there; let NAPARI_UNET_DATA name the folder that has it")
    for path in sorted((place / "scribbles").iterdir()):
        image = _image(_file_of(place / "images", path.stem))
        drawn = _image(path)
        if path.stem not in _SCRIBBLED_CLASSES:
            drawn = _objects_and_rims(drawn)
        yield TrueImage(path.stem, image, drawn.astype(np.uint8))


# Drawn as classes, 1 the background; in the other files every object has a number of its own.
_SCRIBBLED_CLASSES = ("maize_clsm",)


def _objects_and_rims(objects: NDArray[Any]) -> NDArray[np.uint8]:
    apart = separate_touching(objects) > 0
    rim = ndimage.binary_dilation(apart, iterations=2) & ~apart
    drawn: NDArray[np.uint8] = (2 * apart + rim).astype(np.uint8)
    return drawn


@dataclass(frozen=True, slots=True)
class _Cut:
    """One image of a set, not yet read: a file, a plane of it, or a square of it."""

    image: Path
    labels: Path
    plane: int | None = None
    corner: tuple[int, int] | None = None

    def read(self, source: _Source, rng: np.random.Generator) -> TrueImage:
        if self.plane is None:
            name, image, labels = self.image.stem, _image(self.image), _labels(self.labels)
        else:
            name = f"{self.image.stem} z{self.plane}"
            image, labels = (imread(path)[self.plane] for path in (self.image, self.labels))
        corner = self.corner
        if corner is None and max(labels.shape) > source.side:
            corner = _good_corner(source.truth(labels), source, rng)
        if corner is not None:
            window = tuple(slice(start, start + source.side) for start in corner)
            image, labels = image[window], labels[window]
            name = f"{name} {corner[0]},{corner[1]}"
        return TrueImage(name, np.ascontiguousarray(image), source.truth(labels))


def _cuts(place: Path, source: _Source) -> Iterator[_Cut]:
    """Everything that may be chosen, in the order of names."""
    wanted = _indexed(place / "index.csv", source.index) if source.index else None
    for path in sorted((place / "images").iterdir()):
        if (source.only and path.stem not in source.only) or (wanted and path.stem not in wanted):
            continue
        labels = _file_of(place / source.labels, path.stem)
        if source.folder == "plantseg_nuclei3d":
            planes = range(_PLANES_APART // 2, len(imread(path)), _PLANES_APART)
            yield from (_Cut(path, labels, plane=plane) for plane in planes)
        elif source.squares:
            shape = _labels(labels).shape
            corners = [range(0, length - source.side + 1, source.side) for length in shape]
            yield from (_Cut(path, labels, corner=(y, x)) for y in corners[0] for x in corners[1])
        else:
            yield _Cut(path, labels)


def _in_order(cuts: Sequence[_Cut], consecutive: bool, rng: np.random.Generator) -> Iterator[_Cut]:
    """In the order in which they are tried: of consecutive ones, thirds of the stack apart."""
    if not consecutive:
        yield from (cuts[number] for number in rng.permutation(len(cuts)))
        return
    start, third = int(rng.integers(len(cuts))), max(len(cuts) // 3, 1)
    order = [start + step + part * third for step in range(third) for part in range(3)]
    yield from (cuts[number] for number in dict.fromkeys(n % len(cuts) for n in order))


def _good_corner(
    truth: NDArray[np.uint8], source: _Source, rng: np.random.Generator
) -> tuple[int, int]:
    """Where a square is cut: at the first random place that shows enough of every class."""
    best, best_share = (0, 0), -1.0
    for _ in range(_CROPS_TRIED):
        y, x = (int(rng.integers(max(n - source.side, 0) + 1)) for n in truth.shape)
        window = truth[y : y + source.side, x : x + source.side]
        share = float(_shares(window, len(source.classes)).min())
        if share > best_share:
            best, best_share = (y, x), share
        if share >= 2 * _LEAST_SHARE:
            break
    return best


def _shares(truth: NDArray[np.uint8], classes: int) -> NDArray[np.float64]:
    """Return the share of the pixels that each class has."""
    counts = np.bincount(truth.ravel(), minlength=classes + 1)[1:]
    shares: NDArray[np.float64] = counts / truth.size
    return shares


def _indexed(index: Path, wanted: tuple[str, str]) -> frozenset[str]:
    with index.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        return frozenset(r["name"] for r in rows if (r["colour"], r["background"]) == wanted)


def _file_of(folder: Path, stem: str) -> Path:
    found = [path for path in sorted(folder.iterdir()) if path.stem == stem]
    if not found:
        raise InputError(f"{folder} has no file for {stem}; get the whole set")
    return found[0]


def _image(path: Path) -> NDArray[Any]:
    data = read_image(path).data
    return data[..., :3] if data.ndim == 3 else data


def _labels(path: Path) -> NDArray[Any]:
    data = _image(path)
    return data if data.ndim == 2 else data[..., 0]


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), seed])
