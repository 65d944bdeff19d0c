"""The images of 'The paper, reproduced': which are learned from, and which are tested on.

Every row of the benchmark, ours and the peers', takes its images from here. The test images are
looked at once, by the finished network; whatever is chosen, is chosen on images held out from the
training part.

The data sets lie in the folder that NAPARI_UNET_DATA names:

em       isbi2012_em, the EM challenge's sections with labels: interiors 255, membranes 0. Fold 0
         tests the last five sections, folds 1 to 3 the five before, and so on.
nuclei   The dark grey images (fluorescence) of dsb2018. Fold k tests every fifth in the order of
         their names, from the k-th on, counted from 0.
hela     deepcell_hela_phase. Fold k tests field k alone, counted from 0.
simplus  ctc_fluo_n2dh_simplus: ten frames of one simulated sequence. The first seven are learned
         from, the last three tested on. They are LATER FRAMES OF THE SAME SEQUENCE, with the same
         nuclei a little further on: an easier test than a sequence of its own.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset import Kind, LabelledImage, LabelledSet, read_labelled_set
from napari_unet.ops.errors import InputError
from napari_unet.ops.weight_map import separate_touching


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a data set lies, and how it is read and divided."""

    folder: str
    labels: str
    kind: Kind
    folds: int
    # Consecutive sections or frames: the last ones are held out for validation, not any.
    consecutive: bool = False


_SOURCES = {
    "em": _Source("isbi2012_em", "labels", "semantic", folds=4, consecutive=True),
    "nuclei": _Source("dsb2018", "masks", "instances", folds=5),
    "hela": _Source("deepcell_hela_phase", "masks", "instances", folds=5),
    "simplus": _Source("ctc_fluo_n2dh_simplus", "masks", "instances", folds=1, consecutive=True),
}
SETS = tuple(_SOURCES)
_SIMPLUS_TEST_FRAMES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """What is learned from, validation images included, and what is tested on."""

    train: LabelledSet
    test: LabelledSet


def load(name: str, folder: Path, fold: int = 0) -> Split:
    """Read a data set and divide it.

    Parameters
    ----------
    name
        One of `SETS`.
    folder
        The folder that holds all data sets.
    fold
        Which part is tested, from 0; see the top of this file.

    Returns
    -------
    Split
        No image is in both parts; both are sorted by name.

    Raises
    ------
    InputError
        If the set or the fold is not known, or the images are not there.
    """
    if name not in _SOURCES:
        raise InputError(f"there is no data set {name!r}; choose one of {', '.join(SETS)}")
    source = _SOURCES[name]
    if not 0 <= fold < source.folds:
        raise InputError(f"{name} has no fold {fold}; choose one of 0 to {source.folds - 1}")
    place = folder / source.folder
    if not place.is_dir():
        raise InputError(f"{place} is not there; let NAPARI_UNET_DATA name the folder that has it")
    # dsb2018 holds stained RGB images too, which are not asked for here.
    strict = name != "nuclei"
    everything = read_labelled_set(place / "images", place / source.labels, source.kind, strict)
    images = sorted(everything.images, key=lambda image: image.name)
    if name == "nuclei":
        images = _fluorescence(images, place / "index.csv")
    if source.consecutive:
        images = [replace(image, group=name) for image in images]
    tested = set(_tested(name, [image.name for image in images], fold))
    train = tuple(image for image in images if image.name not in tested)
    test = tuple(image for image in images if image.name in tested)
    return Split(*(replace(everything, images=part, problems=()) for part in (train, test)))


def data_folder() -> Path:
    """Return the folder of all data sets, or end with words on how to name it."""
    folder = os.environ.get("NAPARI_UNET_DATA")
    if not folder:
        sys.exit("NAPARI_UNET_DATA is not set; let it name the folder that holds the data sets")
    return Path(folder)


def foreground(image: LabelledImage, kind: Kind) -> NDArray[np.bool_]:
    """Return what a network with one output should find.

    Parameters
    ----------
    image
        An image with labels of shape (Y, X).
    kind
        Of the set that it is from. Of "instances", touching objects are parted by a gap of one
        pixel, so that they can come out as two; of "semantic", every value but 0 is foreground.

    Returns
    -------
    ndarray of bool, shape (Y, X)
    """
    labels = separate_touching(image.labels) if kind == "instances" else image.labels
    found: NDArray[np.bool_] = labels > 0
    return found


def _tested(name: str, names: Sequence[str], fold: int) -> Sequence[str]:
    """Names of the images of this fold; `names` are sorted."""
    if name == "em":
        size = len(names) // _SOURCES["em"].folds
        end = len(names) - fold * size
        return names[end - size : end]
    if name == "simplus":
        return names[-_SIMPLUS_TEST_FRAMES:]
    return names[fold :: _SOURCES[name].folds]


def _fluorescence(images: Sequence[LabelledImage], index: Path) -> list[LabelledImage]:
    """Keep the images that the index calls grey on dark."""
    with index.open(newline="", encoding="utf-8") as lines:
        wanted = {
            row["name"]
            for row in csv.DictReader(lines)
            if (row["colour"], row["background"]) == ("grey", "dark")
        }
    return [image for image in images if image.name in wanted]
