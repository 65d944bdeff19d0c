"""The images and objects of the clicks benchmark.

A set is some images with an outline of each object. Objects of fewer than 30 pixels are left out.
Images are never cut for the benchmark: a learner is shown all of each.

Of the sets that the bundled network was trained with, only the part that `training/click_data.py`
keeps back takes part: every fourth image, the right half of an image, or the last planes. The other
sets were never trained with, and show kinds of image that were not, either.

The data sets lie in the folder that NAPARI_UNET_DATA names. What is particular:

dsb2018_...          Two kinds of `index.csv`, one set each. Of the third, bright field, there are
                     four images, and none is kept back.
isbi2012_em          Objects are the connected regions of what is no membrane, of 200 pixels and
                     more: sections of nerve cells.
vnc_mitochondria     Objects are the connected regions of mitochondria.
axon_myelin_em       Objects are the connected regions of axons, without their myelin.
mother_machine_bf    Only some objects are outlined, which is all that is needed here.
"""

from __future__ import annotations

import csv
import importlib
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tifffile import imread

from napari_unet.engine.files import read_image
from napari_unet.ops.clicks import Mask
from napari_unet.ops.errors import InputError

# Last, so that nothing there hides a module of this folder.
sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))
_TRAINING_SETS = importlib.import_module("click_data").SETS

#: Objects of fewer pixels are not clicked on.
SMALLEST = 30
# Sections of nerve cells of fewer pixels are mostly gaps in the outlines.
_SMALLEST_SECTION = 200
#: So many objects of an image are known to a network that adapts to them ...
KNOWN = 10
# ... and it has to have so many more.
_FEWEST_OTHERS = 5
# Networks adapt to so many images at least, as what helps on one need not help on another.
_FEWEST_IMAGES = 5


@dataclass(frozen=True, slots=True, eq=False)
class ClickImage:
    """An image with outlined objects.

    Attributes
    ----------
    name
        Of the file, with the part of it.
    image
        Shape (Y, X) or (Y, X, 3), as in the file.
    labels
        Shape (Y, X), integers: 0 is no object, and each object has a number of its own.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[Any]

    def mask(self, label: int) -> Mask:
        """Return where an object is, on the whole image."""
        return np.asarray(self.labels == label)

    def objects(self) -> list[int]:
        """Return the numbers of all objects that are large enough."""
        areas = np.bincount(self.labels.ravel())
        return [n for n in range(1, len(areas)) if areas[n] >= SMALLEST]


@dataclass(frozen=True, slots=True, eq=False)
class ClickSet:
    """Images of one kind.

    Attributes
    ----------
    name
        One of `SETS`.
    kind
        What it shows, in a few words.
    trained
        Whether other images of the set were trained with.
    images
        All of its images that take part.
    """

    name: str
    kind: str
    trained: bool
    images: tuple[ClickImage, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """An object to be clicked on.

    Attributes
    ----------
    image
        Number of the image in its set.
    label
        Number of the object in its image.
    """

    image: int
    label: int


def targets(chosen: ClickSet, count: int, seed: int) -> list[Target]:
    """Draw objects of a set at random.

    Parameters
    ----------
    chosen
        The set.
    count
        How many; if there are fewer, all of them are returned.
    seed
        Which. The same seed gives the same objects, and more of them if more are asked for.

    Returns
    -------
    list of Target
    """
    every = [Target(n, label) for n, each in enumerate(chosen.images) for label in each.objects()]
    order = _generator(chosen.name, seed).permutation(len(every))
    return [every[number] for number in order[:count]]


def targets_beside_known(
    chosen: ClickSet, count: int, seed: int
) -> tuple[dict[int, list[int]], list[Target]]:
    """Draw objects that are known, and other objects of the same images.

    Parameters
    ----------
    chosen
        The set.
    count
        How many others; if there are fewer, all of them are returned.
    seed
        Which. Images are taken at random until they have enough others, but at least five, as
        far as there are images with 15 objects.

    Returns
    -------
    known
        For each image that takes part, the numbers of `KNOWN` objects.
    others
        Objects to be clicked on, in any order.
    """
    fit = [
        n for n, each in enumerate(chosen.images) if len(each.objects()) >= KNOWN + _FEWEST_OTHERS
    ]
    known: dict[int, list[int]] = {}
    others: list[Target] = []
    rng = _generator(chosen.name, seed)
    for number in (fit[place] for place in rng.permutation(len(fit))):
        if len(known) >= _FEWEST_IMAGES and len(others) >= count:
            break
        labels = [int(label) for label in rng.permutation(chosen.images[number].objects())]
        known[number] = labels[:KNOWN]
        others += [Target(number, label) for label in labels[KNOWN:]]
    order = _generator(chosen.name, seed + 1).permutation(len(others))
    return known, [others[place] for place in order[:count]]


def data_folder() -> Path:
    """Return the folder of all data sets.

    Raises
    ------
    InputError
        If NAPARI_UNET_DATA does not name it.
    """
    folder = os.environ.get("NAPARI_UNET_DATA")
    if not folder:
        raise InputError(
            "NAPARI_UNET_DATA is not set; let it name the folder that holds the data sets"
        )
    return Path(folder)


def load(name: str, folder: Path) -> ClickSet:
    """Read all images of a set that take part.

    Parameters
    ----------
    name
        One of `SETS`.
    folder
        The folder that holds all data sets.

    Raises
    ------
    InputError
        If the set is not known, not there, or has no objects.
    """
    if name not in _SOURCES:
        raise InputError(f"there is no set {name!r}; choose from {', '.join(SETS)}")
    source = _SOURCES[name]
    place = folder / source.folder
    if not place.is_dir():
        raise InputError(f"{place} is not there; let NAPARI_UNET_DATA name the folder that has it")
    images = tuple(each for each in source.read(folder) if each.objects())
    if not images:
        raise InputError(f"{place} has no objects to click on; get the whole set")
    return ClickSet(name, source.kind, source.trained, images)


def regions(inside: Mask, smallest: int = 0) -> NDArray[np.int32]:
    """Give each 4-connected region of a mask a number; those of fewer pixels are left out.

    Parameters
    ----------
    inside
        Shape (Y, X).
    smallest
        Pixels.
    """
    labels, _ = ndimage.label(inside)
    areas = np.bincount(labels.ravel())
    found: NDArray[np.int32] = np.where((areas < smallest)[labels], 0, labels).astype(np.int32)
    return found


# ------------------------------------------------------------------------------------ reading


def _kept_back(name: str, folder: Path) -> Iterator[ClickImage]:
    """Read what was not trained with of a set that was."""
    for number, (image, labels, kept) in enumerate(_TRAINING_SETS[name](folder)):
        if kept:
            yield ClickImage(f"{number:03}", _colours(image), labels)


def _nuclei(kind: tuple[str, str], folder: Path) -> Iterator[ClickImage]:
    """Read one kind of dsb2018: its colour and background as in the index."""
    with (folder / "dsb2018" / "index.csv").open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        wanted = {row["name"] for row in rows if (row["colour"], row["background"]) == kind}
    return (each for each in _all_nuclei(folder) if each.name in wanted)


@cache
def _all_nuclei(folder: Path) -> tuple[ClickImage, ...]:
    """Read the set once for all its kinds, and call the images what the index calls them."""
    names = [path.stem for path in sorted((folder / "dsb2018" / "images").iterdir())]
    kept = _kept_back("dsb2018", folder)
    return tuple(ClickImage(names[int(each.name)], each.image, each.labels) for each in kept)


def _instances(name: str, folder: Path) -> Iterator[ClickImage]:
    """Read a set in which each object has a number."""
    for path in sorted((folder / name / "images").iterdir()):
        labels = imread(folder / name / "masks" / f"{path.stem}.tif")
        yield ClickImage(path.stem, _colours(read_image(path).data), labels)


def _foreground(name: str, masks: str, smallest: int, folder: Path) -> Iterator[ClickImage]:
    """Read a set that only says where objects are."""
    for path in sorted((folder / name / "images").iterdir()):
        inside = read_image(folder / name / masks / path.name).data > 0
        yield ClickImage(path.stem, _colours(read_image(path).data), regions(inside, smallest))


def _colours(image: NDArray[Any]) -> NDArray[Any]:
    """Drop what is no colour."""
    return image[..., :3] if image.ndim == 3 else image


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a set lies and how it is read."""

    kind: str
    folder: str
    read: Callable[[Path], Iterator[ClickImage]]
    trained: bool = False


def _of_training(kind: str, name: str) -> _Source:
    return _Source(kind, name, partial(_kept_back, name), trained=True)


def _of_nuclei(kind: str, colour: str, background: str) -> _Source:
    return _Source(kind, "dsb2018", partial(_nuclei, (colour, background)), trained=True)


_SOURCES = {
    "dsb2018_fluorescence": _of_nuclei("nuclei, fluorescence", "grey", "dark"),
    "dsb2018_stained": _of_nuclei("nuclei, stained, RGB", "color", "bright"),
    "axon_myelin_em": _of_training("axons, EM", "axon_myelin_em"),
    "chloroplast_em": _of_training("chloroplasts, EM", "chloroplast_em"),
    "stardist_samples": _of_training("nuclei, fluorescence", "stardist_samples"),
    "plantseg_nuclei3d": _of_training("nuclei, confocal", "plantseg_nuclei3d"),
    "deepcell_hela_phase": _Source(
        "cells, phase contrast", "deepcell_hela_phase", partial(_instances, "deepcell_hela_phase")
    ),
    "ctc_fluo_n2dh_simplus": _Source(
        "nuclei, simulated", "ctc_fluo_n2dh_simplus", partial(_instances, "ctc_fluo_n2dh_simplus")
    ),
    "isbi2012_em": _Source(
        "nerve cells, EM",
        "isbi2012_em",
        partial(_foreground, "isbi2012_em", "labels", _SMALLEST_SECTION),
    ),
    "vnc_mitochondria": _Source(
        "mitochondria, EM", "vnc_sstem", partial(_foreground, "vnc_sstem", "mitochondria", 0)
    ),
    "mother_machine_bf": _Source(
        "bacteria, bright field", "mother_machine_bf", partial(_instances, "mother_machine_bf")
    ),
}
SETS = tuple(_SOURCES)


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), seed])
