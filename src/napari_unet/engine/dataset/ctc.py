"""The Cell Tracking Challenge's folders: sequences, gold and silver truth, tracking markers.

A data set's folder holds sequences `01`, `02` (t000.tif, t001.tif, ...) and beside each its truth:
`01_GT/SEG` (man_seg000.tif: outlines, of some frames and in some of them of some cells only),
`01_ST/SEG` (outlines that several programs agree on, of all frames) and `01_GT/TRA`
(man_track000.tif: a marker in every cell). Source: Ulman et al. 2017, Nature Methods 14, and the
challenge's naming conventions (celltrackingchallenge.net).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.engine.dataset.files import Layout, Pair, PairData, read_label_file
from napari_unet.engine.files import read_image
from napari_unet.ops.errors import InputError

_SEQUENCE: Final = re.compile(r"\d{2,3}")
_TRUTH: Final = re.compile(r"(\d{2,3})_(GT|ST)", re.IGNORECASE)
_FRAME: Final = re.compile(r"t(\d+)\.tiff?", re.IGNORECASE)
_OUTLINES: Final = re.compile(r"man_seg_?(\d+)\.tiff?", re.IGNORECASE)
_OUTLINES_3D: Final = re.compile(r"man_seg_\d+_\d+\.tiff?", re.IGNORECASE)
_MARKERS: Final = re.compile(r"man_track_?(\d+)\.tiff?", re.IGNORECASE)
# A marker lies somewhere in its cell, and cells are not round: a disc of 1.5 typical radii around
# the marker covers a cell of axes 2 : 1.
_REACH: Final = 1.5


@dataclass(frozen=True, slots=True)
class _Truth:
    """Folders with the truth of one sequence."""

    gold: Path | None = None
    silver: Path | None = None
    markers: Path | None = None

    @property
    def outlines(self) -> Path | None:
        """The folder of the best outlines."""
        return self.gold or self.silver


def find_ctc_pairs(images: Path, labels: Path) -> Layout | None:
    """Pair the frames of sequences with their truth; None if `labels` is no such folder.

    Parameters
    ----------
    images
        A sequence's folder or the data set's.
    labels
        `NN_GT`, `NN_ST` or their `SEG`, or the data set's folder. Of a data set's folder gold truth
        is taken, and silver truth for the frames without gold.

    Raises
    ------
    InputError
        If the truth is 3D, or is that of another sequence.
    """
    truths = _find_truths(labels)
    if not truths:
        return None
    sequences = _find_sequences(images)
    if len(truths) == 1 and len(sequences) == 1:
        (number,), (folder,) = truths, sequences.values()
        if not _SEQUENCE.fullmatch(folder.name) or not _SEQUENCE.fullmatch(number):
            sequences = {number: folder}  # a folder of another name holds what the truth belongs to
    shared = sorted(sequences.keys() & truths.keys())
    if not shared:
        raise InputError(
            f"{labels} holds the truth of {_listed(truths)}, {images} the images of "
            f"{_listed(sequences) or 'no sequence'}; give the folders of one sequence, such as "
            "01 and 01_GT"
        )
    layouts = [_pair_frames(each, sequences[each], truths[each]) for each in shared]
    if not any(layout.pairs for layout in layouts):
        raise InputError(
            f"no frame of {images} ({_some_files(sequences[shared[0]])}) has outlines in {labels} "
            f"({_some_files(truths[shared[0]].outlines)}); give frames t000.tif and their outlines "
            "man_seg000.tif of the same sequence"
        )
    without = sorted(sequences.keys() - truths.keys())
    notes = [
        f"sequence {each} is left out: there is no truth for it in {labels}" for each in without
    ]
    return Layout(
        tuple(pair for layout in layouts for pair in layout.pairs),
        tuple(problem for layout in layouts for problem in layout.problems),
        (*notes, *(note for layout in layouts for note in layout.notes)),
        instances=True,
    )


def annotated_pixels(
    outlines: NDArray[np.integer[Any]], markers: NDArray[np.integer[Any]]
) -> NDArray[np.bool_] | None:
    """Find the pixels that gold truth says something about.

    Parameters
    ----------
    outlines
        Shape (Y, X); 0 background, other values the cells that have been outlined.
    markers
        Shape (Y, X); a marker in every cell.

    Returns
    -------
    ndarray of bool, shape (Y, X), or None
        False around each marker that lies less than half on an outlined cell, as far as 1.5 times
        the typical radius of the outlined cells; True on every outlined cell and elsewhere. None if
        every marker has its cell.

    Raises
    ------
    InputError
        If no marker has its cell, or the shapes differ.
    """
    if markers.shape != outlines.shape:
        raise InputError(f"outlines {outlines.shape} and markers {markers.shape} differ in shape")
    drawn = outlines > 0
    total = np.bincount(markers.ravel())
    covered = np.bincount(markers[drawn], minlength=total.size)
    lonely = 2 * covered < total
    lonely[0] = False
    if not lonely.any():
        return None
    if not drawn.any():
        raise InputError("none of its marked cells is outlined; leave it out")
    areas = np.bincount(outlines[drawn])
    radius = float(np.sqrt(np.median(areas[areas > 0]) / np.pi))
    distance = ndimage.distance_transform_edt(~lonely[markers])
    valid: NDArray[np.bool_] = drawn | (distance > _REACH * radius)
    return valid


def _find_truths(labels: Path) -> dict[str, _Truth]:
    if labels.name.upper() in ("SEG", "TRA") and _TRUTH.fullmatch(labels.parent.name):
        labels = labels.parent
    match = _TRUTH.fullmatch(labels.name)
    if match:
        if not (labels / "SEG").is_dir():
            if not (labels / "TRA").is_dir():
                return {}  # a folder of another layout that happens to be called so
            raise InputError(
                f"{labels} has no folder SEG; give the truth with outlines (man_seg000.tif): "
                "tracking markers alone do not show where a cell ends"
            )
        return {match[1]: _truth_in(labels)}
    if _numbered(labels, _OUTLINES) or _numbered(labels, _OUTLINES_3D):
        return {labels.name: _Truth(gold=labels)}
    truths: dict[str, _Truth] = {}
    for folder in sorted(labels.iterdir()):
        match = _TRUTH.fullmatch(folder.name)
        if match and (folder / "SEG").is_dir():
            found, before = _truth_in(folder), truths.get(match[1], _Truth())
            truths[match[1]] = _Truth(
                before.gold or found.gold,
                before.silver or found.silver,
                before.markers or found.markers,
            )
    return truths


def _truth_in(folder: Path) -> _Truth:
    if folder.name.upper().endswith("ST"):
        return _Truth(silver=folder / "SEG")
    markers = folder / "TRA"
    return _Truth(gold=folder / "SEG", markers=markers if markers.is_dir() else None)


def _find_sequences(images: Path) -> dict[str, Path]:
    if _numbered(images, _FRAME):
        return {images.name: images}
    return {
        folder.name: folder
        for folder in sorted(images.iterdir())
        if _SEQUENCE.fullmatch(folder.name) and folder.is_dir() and _numbered(folder, _FRAME)
    }


def _pair_frames(sequence: str, images: Path, truth: _Truth) -> Layout:
    gold, silver = _outlines(truth.gold), _outlines(truth.silver)
    markers = _numbered(truth.markers, _MARKERS) if truth.markers else {}
    frames = _numbered(images, _FRAME)
    truths = silver | gold
    pairs = tuple(
        Pair(
            f"{sequence}/{frames[t].stem}",
            sequence,
            # Silver truth is of all cells; the markers say which ones gold truth lacks.
            _Frame(frames[t], truths[t], markers.get(t) if t in gold else None),
        )
        for t in sorted(frames.keys() & truths.keys())
    )
    problems = tuple(
        f"{sequence}/{truths[t].name} has no image t{t:03d}.tif"
        for t in sorted(truths.keys() - frames.keys())
    )
    skipped = len(frames) - len(pairs)
    note = (
        f"sequence {sequence}: {skipped} of {len(frames)} frames have no outlines and are left out"
    )
    return Layout(pairs, problems, (note,) if skipped else ())


@dataclass(frozen=True, slots=True)
class _Frame:
    """Reads a frame, its outlines and, where there are any, the markers of its cells."""

    image: Path
    outlines: Path
    markers: Path | None

    def __call__(self) -> PairData:
        outlines = read_label_file(self.outlines)
        valid = None
        if self.markers is not None:
            valid = annotated_pixels(outlines, read_label_file(self.markers))
        image = read_image(self.image)
        return PairData(image.data, outlines, valid, image.size)


def _outlines(folder: Path | None) -> dict[int, Path]:
    if folder is None:
        return {}
    if _numbered(folder, _OUTLINES_3D):
        raise InputError(
            f"{folder} holds planes of 3D images (man_seg_000_002.tif); only 2D sequences can be "
            "used: save planes and their outlines as 2D files in two folders"
        )
    return _numbered(folder, _OUTLINES)


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Files of a folder by the number in their names."""
    found: dict[int, Path] = {}
    for path in folder.iterdir():
        match = pattern.fullmatch(path.name)
        if match:
            found[int(match[1]) if match.groups() else len(found)] = path
    return found


def _some_files(folder: Path | None) -> str:
    names = sorted(path.name for path in folder.iterdir()) if folder is not None else []
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "empty"


def _listed(names: dict[str, Any]) -> str:
    return ", ".join(sorted(names))
