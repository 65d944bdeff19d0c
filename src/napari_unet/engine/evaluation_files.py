"""Finds and reads what is to be evaluated: two files, two stacks, or two folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset.ctc import annotated_pixels
from napari_unet.engine.dataset.files import checked_labels, read_label_file, read_pages
from napari_unet.engine.dataset.kind import judge_kind
from napari_unet.engine.dataset.labelled_set import distinct_values
from napari_unet.engine.dataset.layouts import image_files, label_key, natural_order
from napari_unet.engine.evaluation_pairs import (
    EvaluationPair,
    as_prediction,
    merge_channels,
    same_classes,
)
from napari_unet.engine.score_table import EvaluationKind
from napari_unet.ops.errors import InputError

# `napari-unet predict` writes three files for each image; each kind takes its own.
_ENDINGS: Final[dict[EvaluationKind, str]] = {
    "instances": "_instances",
    "semantic": "_classes",
    "boundary": "_probabilities",
}
_OWN_ENDING: Final = re.compile(r"_(instances|classes|probabilities)$")
# The Cell Tracking Challenge's names: t000 an image, mask000 a result, man_seg000 its truth.
_FRAME: Final = re.compile(r"(?:man_seg_?|mask|t)(\d+)")

_Pages = list[NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationSet:
    """What was found and read.

    Attributes
    ----------
    pairs
        In the natural order of their names.
    kind
        What to compare.
    problems
        A sentence for each file that could not be used.
    notes
        How the files were understood.
    """

    pairs: tuple[EvaluationPair, ...]
    kind: EvaluationKind
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Truth:
    """A file with the truth, one page for each image of it."""

    pages: _Pages
    valid: NDArray[np.bool_] | None = None


@dataclass(slots=True)
class _Matched:
    """Which files belong together: a prediction and its truth by name."""

    pairs: dict[str, tuple[Path, Path]]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_evaluation_set(
    prediction: Path,
    truth: Path,
    kind: EvaluationKind | Literal["auto"] = "auto",
    counts_from_one: bool | None = None,
) -> EvaluationSet:
    """Read predictions and the truth that they are compared with.

    Parameters
    ----------
    prediction, truth
        Two files with as many pages each, or two folders whose files belong together by name. Of
        what `napari-unet predict` writes for an image NAME, NAME_instances, NAME_classes or
        NAME_probabilities is taken, as the kind demands. In the Cell Tracking Challenge's folders
        t000 or mask000 goes with man_seg000; where its markers show cells without an outline,
        nothing counts.
    kind
        "auto" judges from the truth whether labels are objects or classes; a truth of two values
        beside probabilities is "boundary".
    counts_from_one
        Whether 1 is background in the predicted classes, see `same_classes`; None knows it of files
        that are called NAME_classes.

    Raises
    ------
    InputError
        If nothing belongs together or can be read.
    """
    if prediction.is_dir() != truth.is_dir():
        raise InputError(
            f"one of {prediction} and {truth} is a folder, the other one is not; give two files or "
            "two folders"
        )
    folder = truth / "SEG" if (truth / "SEG").is_dir() else truth
    in_folder = truth.is_dir()
    truth_files = image_files(folder) if in_folder else [truth]
    truths, problems = _read_truths(truth_files)
    judged, reason = _judged(truths, kind)
    found = _chosen(image_files(prediction), judged) if in_folder else [prediction]
    single = _Matched({truth.stem: (prediction, truth)})
    matched = _matched(found, truth_files) if in_folder else single
    reader = _Reader(truths, judged, kind == "auto")
    pairs = reader.read(matched.pairs)
    problems += [*matched.problems, *reader.problems]
    if not pairs:
        words = problems[:3] or ["there is no TIFF, PNG or JPEG file in them"]
        raise InputError(f"nothing of {prediction} goes with {truth}: {'; '.join(words)}")
    notes = [f"compared as {reason}"] if reason else []
    notes += [*matched.notes, *reader.notes]
    if reader.kind == "semantic":
        if counts_from_one is None and reader.counts_from_one:
            counts_from_one = True
        pairs, moved = same_classes(pairs, counts_from_one)
        notes += [moved] if moved else []
    return EvaluationSet(tuple(pairs), reader.kind, tuple(problems), tuple(notes))


class _Reader:
    """Reads pairs of files, and learns on the way what they are.

    Parameters
    ----------
    truths
        What was read already.
    kind
        What to compare.
    may_change
        Whether probabilities may turn classes into borders.
    """

    def __init__(self, truths: dict[Path, _Truth], kind: EvaluationKind, may_change: bool) -> None:
        self.kind = kind
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.counts_from_one = False
        self._truths = truths
        self._may_change = may_change

    def read(self, files: dict[str, tuple[Path, Path]]) -> list[EvaluationPair]:
        """Return the pairs that can be compared, in the natural order of their names."""
        read: dict[str, tuple[Path, _Pages, _Truth]] = {}
        for name, (prediction, truth) in files.items():
            if truth not in self._truths:
                continue  # it is among the problems already
            try:
                pages = read_pages(prediction)
            except InputError as error:
                self.problems.append(str(error))
                continue
            if len(pages) != len(self._truths[truth].pages):
                pages = merge_channels(pages)
            read[name] = (prediction, pages, self._truths[truth])
        self._look_for_borders([page for _, pages, _ in read.values() for page in pages])
        in_order = sorted(read, key=natural_order)
        return [pair for name in in_order for pair in self._pairs(name, *read[name])]

    def _look_for_borders(self, pages: _Pages) -> None:
        flat = [page.ndim == 2 and page.dtype.kind == "f" for page in pages]
        if self._may_change and self.kind == "semantic" and flat and all(flat):
            fractions = any((page != np.round(page)).any() for page in pages)
            if fractions and _count_values(self._truths.values()) <= 2:
                self.kind = "boundary"
                self.notes.append(
                    "the predictions are probabilities, so that they are compared as boundary"
                )

    def _pairs(self, name: str, path: Path, pages: _Pages, truth: _Truth) -> list[EvaluationPair]:
        if len(pages) != len(truth.pages):
            counts = f"{len(pages)} pages, its truth {len(truth.pages)}"
            self.problems.append(f"{name} has {counts}; give as many pages each")
            return []
        pairs = []
        for number, (page, labels) in enumerate(zip(pages, truth.pages, strict=True)):
            title = name if len(pages) == 1 else f"{name} [{number:02}]"
            try:
                seen = as_prediction(page, path.name, self.kind)
                pairs.append(EvaluationPair(title, seen.data, labels, truth.valid))
            except InputError as error:
                self.problems.append(str(error))
                continue
            self.counts_from_one |= seen.counts_from_one or path.stem.endswith("_classes")
            if seen.note and seen.note not in self.notes:
                self.notes.append(seen.note)
        return pairs


def _read_truths(files: Sequence[Path]) -> tuple[dict[Path, _Truth], list[str]]:
    truths: dict[Path, _Truth] = {}
    problems = []
    for path in files:
        try:
            pages: _Pages = [checked_labels(page, path.name) for page in read_pages(path)]
            truths[path] = _Truth(pages, _annotated(path, pages))
        except InputError as error:
            problems.append(str(error))
    return truths, problems


def _annotated(path: Path, pages: _Pages) -> NDArray[np.bool_] | None:
    """Find where gold truth of the Cell Tracking Challenge says something; None: everywhere."""
    match = re.fullmatch(r"man_seg(\d+)", path.stem)
    if match is None or path.parent.name != "SEG" or len(pages) != 1:
        return None
    markers = path.parent.parent / "TRA" / f"man_track{match[1]}{path.suffix}"
    return annotated_pixels(pages[0], read_label_file(markers)) if markers.is_file() else None


def _judged(
    truths: dict[Path, _Truth], kind: EvaluationKind | Literal["auto"]
) -> tuple[EvaluationKind, str]:
    if kind != "auto":
        return kind, ""
    if any(path.stem.startswith("man_seg") for path in truths):
        return "instances", "instances, as always in the Cell Tracking Challenge's folders"
    pages = [page for truth in truths.values() for page in truth.pages]
    if not pages:
        return "instances", ""
    return judge_kind(pages, [distinct_values(page) for page in pages])


def _count_values(truths: Iterable[_Truth]) -> int:
    pages = [page for truth in truths for page in truth.pages]
    return len(frozenset[int]().union(*map(distinct_values, pages)))


def _chosen(files: list[Path], kind: EvaluationKind) -> list[Path]:
    """Of the files that `predict` writes, keep those of a kind; keep all where there are none."""
    own = [path for path in files if _OWN_ENDING.search(path.stem)]
    return [path for path in own if path.stem.endswith(_ENDINGS[kind])] if own else files


def _matched(predictions: Sequence[Path], truths: Sequence[Path]) -> _Matched:
    """Pair by the whole name, then without common additions, then by the number of the frame."""
    found = _Matched({})
    for key in (_stem, _short_name, _frame):
        mine, theirs = _grouped(predictions, key), _grouped(truths, key)
        for name in sorted(mine.keys() & theirs.keys(), key=natural_order):
            both = (*mine[name], *theirs[name])
            if len(both) == 2:
                title = _title(name, both[0])
                found.pairs[title if title not in found.pairs else both[0].stem] = both
            else:
                names = ", ".join(path.name for path in both)
                found.problems.append(
                    f"it is not clear which of {names} belong together; rename them"
                )
            predictions = [path for path in predictions if path not in both]
            truths = [path for path in truths if path not in both]
    if found.pairs and all(_FRAME.fullmatch(name) for name in found.pairs):
        # Gold truth of the Cell Tracking Challenge is of some frames only.
        kept = [path for path in predictions if not _frame(path)]
        if skipped := len(predictions) - len(kept):
            found.notes.append(f"{skipped} frames have no truth and are left out")
        predictions = kept
    found.problems += [f"{path.name} has no truth" for path in predictions]
    found.problems += [f"{path.name} has no prediction" for path in truths]
    return found


def _grouped(paths: Sequence[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    grouped = defaultdict(list)
    for path in paths:
        if name := key(path):
            grouped[name].append(path)
    return grouped


def _stem(path: Path) -> str:
    stem = re.sub(r"\.ome$", "", path.stem, flags=re.IGNORECASE)
    return _OWN_ENDING.sub("", stem)


def _short_name(path: Path) -> str:
    return label_key(_stem(path))


def _frame(path: Path) -> str:
    match = _FRAME.fullmatch(_stem(path))
    return str(int(match[1])) if match else ""


def _title(key: str, prediction: Path) -> str:
    """Return how a pair is called: its key, with the capitals of the file's name."""
    stem = _stem(prediction)
    if _FRAME.fullmatch(stem):
        return stem
    start = stem.lower().find(key.lower())
    return stem if start < 0 else stem[start : start + len(key)]
