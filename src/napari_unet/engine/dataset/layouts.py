"""Finds which labels belong to which image: two folders, two files, or the CTC's folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from napari_unet.engine.dataset.ctc import find_ctc_pairs
from napari_unet.engine.dataset.files import (
    Layout,
    Pair,
    PairData,
    checked_labels,
    read_label_file,
    read_pages,
)
from napari_unet.engine.files import read_image
from napari_unet.ops.errors import InputError

#: From the paths of an image and its labels to what reads them.
Reader = Callable[[Path, Path], Callable[[], PairData]]

IMAGE_SUFFIXES: Final = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")

_LABEL_FOLDERS: Final = ("labels", "masks", "classes", "semantic")

# What programs and people add to the name of an image when they save its labels, and to an image's.
_LABEL_WORDS: Final = (
    "cp_masks?|masks?|label_?img|labels?|lbl|gt|ground_?truth|truth|segmentation|seg|annotations?"
    "|instances?|classes|target"
)
_IMAGE_WORDS: Final = "images?|img|im|raw|orig|volume"
_LABEL_END: Final = re.compile(rf"[-_. ](?:{_LABEL_WORDS})$", re.IGNORECASE)
_LABEL_START: Final = re.compile(rf"^(?:{_LABEL_WORDS})(?:[-_. ]|(?=\d))", re.IGNORECASE)
_IMAGE_END: Final = re.compile(rf"[-_. ](?:{_IMAGE_WORDS})$", re.IGNORECASE)
_IMAGE_START: Final = re.compile(rf"^(?:{_IMAGE_WORDS})(?:[-_. ]|(?=\d))", re.IGNORECASE)


def find_pairs(images: Path, labels: Path, read_stacks: Reader | None = None) -> Layout:
    """Find the images and the labels that belong together, without reading folders' files.

    Parameters
    ----------
    images, labels
        Two folders, two image files, folders of the Cell Tracking Challenge, or twice a folder that
        holds `images` and `labels` or `masks`.
    read_stacks
        Returns what reads a stack and its labels, from their two paths: every file is a stack
        then, and not one image or several. None: of images.

    Raises
    ------
    InputError
        If a path is not there, one is a folder and the other a file, or nothing pairs up.
    """
    for path, what in ((images, "images"), (labels, "labels")):
        if not path.exists():
            raise InputError(f"{path} is not there; give the folder or the file with the {what}")
    if images.is_dir() != labels.is_dir():
        folder, file = (images, labels) if images.is_dir() else (labels, images)
        raise InputError(
            f"{folder} is a folder and {file} a file; give two folders, or two files with as many "
            "pages each"
        )
    if read_stacks is not None:
        if images.is_dir():
            return _pair_folders(*_inner_folders(images, labels), read_stacks)
        return Layout((Pair(_stem(images), "", read_stacks(images, labels)),))
    if not images.is_dir():
        return _pair_files(images, labels)
    return find_ctc_pairs(images, labels) or _pair_folders(*_inner_folders(images, labels))


def _inner_folders(images: Path, labels: Path) -> tuple[Path, Path]:
    """Find `images` and `labels` or the like in a data set's folder that was given twice."""
    if images.resolve() != labels.resolve() or not (images / "images").is_dir():
        return images, labels
    found = [labels / name for name in _LABEL_FOLDERS if (labels / name).is_dir()]
    return images / "images", found[0] if found else labels


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts names as people do: t2 before t10."""
    parts = re.findall(r"\d+|\D+", name)
    # Numbers come before words; the text itself decides between 1 and 01.
    key = [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts]
    return (*key, (-2, name))


def _pair_files(images: Path, labels: Path) -> Layout:
    """Pair the pages of two files; the group is the file if it has several."""
    pages, truths = read_pages(images), read_pages(labels)
    if len(pages) != len(truths):
        raise InputError(
            f"{images} has {len(pages)} pages, {labels} has {len(truths)}; give a page of labels "
            "for each image"
        )
    if len(pages) == 1:
        return Layout((Pair(images.stem, "", _Page(pages[0], truths[0], labels.name)),))
    digits = max(2, len(str(len(pages) - 1)))
    names = [f"{images.stem} [{number:0{digits}}]" for number in range(len(pages))]
    return Layout(
        tuple(
            Pair(name, images.stem, _Page(page, truth, f"{labels.name}, page {number}"))
            for number, (name, page, truth) in enumerate(zip(names, pages, truths, strict=True))
        )
    )


def _pair_folders(images: Path, labels: Path, read_stacks: Reader | None = None) -> Layout:
    """Pair the files of two folders by their names."""
    pictures, truths = image_files(images), image_files(labels)
    if images.resolve() == labels.resolve():
        truths = [path for path in truths if _LABEL_END.search(_stem(path))]
        pictures = [path for path in pictures if path not in truths]
    pairs, lonely_images, lonely_labels, problems = _match(pictures, truths)
    if not pairs:
        raise InputError(_nothing_found(images, labels, pictures, truths))
    if len(pictures) == len(truths) == 1 and read_stacks is None:
        return _pair_files(pictures[0], truths[0])  # they may be stacks
    problems += [f"{path.name} has no labels in {labels}" for path in lonely_images]
    problems += [f"the labels {path.name} have no image in {images}" for path in lonely_labels]
    return Layout(
        tuple(
            Pair(name, "", (read_stacks or _Files)(*pairs[name]))
            for name in sorted(pairs, key=natural_order)
        ),
        tuple(problems),
    )


def _match(
    images: Sequence[Path], labels: Sequence[Path]
) -> tuple[dict[str, tuple[Path, Path]], list[Path], list[Path], list[str]]:
    """Pair by the whole stem first, and what is left by the stem without common additions."""
    pairs: dict[str, tuple[Path, Path]] = {}
    problems: list[str] = []
    rounds: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
        (str, str),
        (_image_key, label_key),
    )
    for key_of_image, key_of_label in rounds:
        images_by, labels_by = _grouped(images, key_of_image), _grouped(labels, key_of_label)
        for key in sorted(images_by.keys() & labels_by.keys(), key=natural_order):
            mine, theirs = images_by[key], labels_by[key]
            if len(mine) == len(theirs) == 1:
                pairs[_stem(mine[0])] = (mine[0], theirs[0])
            else:
                names = ", ".join(path.name for path in (*mine, *theirs))
                problems.append(f"it is not clear which of {names} belong together; rename them")
            images = [path for path in images if path not in mine]
            labels = [path for path in labels if path not in theirs]
    return pairs, list(images), list(labels), problems


def _grouped(paths: Sequence[Path], key: Callable[[str], str]) -> dict[str, list[Path]]:
    grouped = defaultdict(list)
    for path in paths:
        grouped[key(_stem(path))].append(path)
    return grouped


def _image_key(stem: str) -> str:
    return (_IMAGE_START.sub("", _IMAGE_END.sub("", stem)) or stem).lower()


def label_key(stem: str) -> str:
    """Return what a label file is called without common additions such as `_mask`."""
    # An image's addition may stand before the label's: a_img_cp_masks.
    return _image_key(_LABEL_START.sub("", _LABEL_END.sub("", stem)) or stem)


def _stem(path: Path) -> str:
    return re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE)


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder in the natural order of their names."""
    return sorted(
        (
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ),
        key=lambda path: natural_order(path.name),
    )


def _nothing_found(
    images: Path, labels: Path, image_files: Sequence[Path], label_files: Sequence[Path]
) -> str:
    return (
        f"no image of {images} ({_some(image_files)}) has labels in {labels} "
        f"({_some(label_files)}); give files that belong together the same name, up to additions "
        "such as _mask, or the folders NN and NN_GT of the Cell Tracking Challenge"
    )


def _some(paths: Sequence[Path]) -> str:
    if not paths:
        return f"no {', '.join(IMAGE_SUFFIXES)} file"
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


@dataclass(frozen=True, slots=True)
class _Files:
    """Reads an image file and its label file."""

    image: Path
    labels: Path

    def __call__(self) -> PairData:
        image = read_image(self.image)
        return PairData(image.data, read_label_file(self.labels), pixel_size=image.size)


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """Checks a page of two files that have been read."""

    image: NDArray[Any]
    labels: NDArray[Any]
    name: str

    def __call__(self) -> PairData:
        return PairData(self.image, checked_labels(self.labels, self.name))
