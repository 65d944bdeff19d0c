"""Finds and reads what is to be evaluated: two files, two stacks, or two folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset.files import checked_labels, read_pages
from napari_unet.engine.dataset.kind import judge_kind
from napari_unet.engine.dataset.labelled_set import distinct_values
from napari_unet.engine.dataset.layouts import image_files, label_key, natural_order
from napari_unet.engine.evaluate import EvaluationPair
from napari_unet.engine.score_table import EvaluationKind
from napari_unet.ops.errors import InputError

# `napari-unet predict` writes three files for each image; each kind takes its own.
_ENDINGS: Final[dict[str, str]] = {
    "instances": "_instances",
    "semantic": "_classes",
    "boundary": "_probabilities",
}
_OWN_ENDING: Final = re.compile(r"_(instances|classes|probabilities)$")


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
    """

    pairs: tuple[EvaluationPair, ...]
    kind: EvaluationKind
    problems: tuple[str, ...]


def read_evaluation_set(
    prediction: Path, truth: Path, kind: EvaluationKind | Literal["auto"] = "auto"
) -> EvaluationSet:
    """Read predictions and the truth that they are compared with.

    Parameters
    ----------
    prediction, truth
        Two files with as many pages each, or two folders whose files belong together by name. Of
        what `napari-unet predict` writes for an image NAME, NAME_instances, NAME_classes or
        NAME_probabilities is taken, as the kind demands. Classes that count from 1, as those files
        have them, are moved to the values of the truth, in ascending order.
    kind
        "auto" judges from the truth whether labels are objects or classes.

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
    if truth.is_dir():
        truths, problems = _read_all(_by_name(truth), _labels)
        kind = _judged(truths, kind)
        predictions, more = _read_all(_by_name(prediction, _ENDINGS[kind]), _prediction)
    else:
        truths, problems = _read_all({truth.stem: truth}, _labels)
        kind = _judged(truths, kind)
        predictions, more = _read_all({truth.stem: prediction}, _prediction)
    pairs, lonely = _paired(predictions, truths, prediction, truth)
    if not pairs:
        found = [*problems, *more, *lonely][:3] or ["there is no TIFF, PNG or JPEG file in them"]
        raise InputError(f"nothing of {prediction} goes with {truth}: {'; '.join(found)}")
    if kind == "semantic":
        pairs = _same_values(pairs)
    return EvaluationSet(tuple(pairs), kind, (*problems, *more, *lonely))


_Arrays = dict[str, list[NDArray[Any]]]


def _by_name(folder: Path, ending: str = "") -> dict[str, Path]:
    """Return the images of a folder by what they are called without common additions."""
    files = image_files(folder)
    own = [path for path in files if _OWN_ENDING.search(path.stem)]
    if ending and own:
        files = [path for path in own if path.stem.endswith(ending)]
    return {label_key(_OWN_ENDING.sub("", path.stem)): path for path in files}


def _read_all(
    files: dict[str, Path], read: Callable[[NDArray[Any], str], NDArray[Any]]
) -> tuple[_Arrays, list[str]]:
    arrays: _Arrays = {}
    problems = []
    for name, path in files.items():
        try:
            arrays[name] = [read(page, path.name) for page in read_pages(path)]
        except InputError as error:
            problems.append(str(error))
    return arrays, problems


def _labels(page: NDArray[Any], name: str) -> NDArray[Any]:
    return checked_labels(page, name)


def _prediction(page: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels, or the probability of all that is not background."""
    if page.dtype.kind != "f":
        return checked_labels(page, name)
    if page.ndim == 3:  # a channel per class, background first
        page = 1 - page[..., 0]
    if not np.isfinite(page).all():
        raise InputError(f"{name} has values that are no numbers; predict it again")
    if (page == np.round(page)).all():  # labels that were stored as real numbers
        return checked_labels(page, name)
    return page


def _judged(truths: _Arrays, kind: EvaluationKind | Literal["auto"]) -> EvaluationKind:
    if kind != "auto":
        return kind
    pages = [page for parts in truths.values() for page in parts]
    if not pages:
        return "instances"
    return judge_kind(pages, [distinct_values(page) for page in pages])[0]


def _paired(
    predictions: _Arrays, truths: _Arrays, prediction: Path, truth: Path
) -> tuple[list[EvaluationPair], list[str]]:
    pairs, problems = [], []
    for name in sorted(predictions.keys() | truths.keys(), key=natural_order):
        if name not in truths:
            problems.append(f"{name} has no truth in {truth}")
        elif name not in predictions:
            problems.append(f"{name} has no prediction in {prediction}")
        elif len(predictions[name]) != len(truths[name]):
            counts = f"{len(predictions[name])} pages, its truth {len(truths[name])}"
            problems.append(f"{name} has {counts}; give as many pages each")
        else:
            found, wrong = _pages(name, predictions[name], truths[name])
            pairs += found
            problems += wrong
    return pairs, problems


def _pages(
    name: str, predictions: Sequence[NDArray[Any]], truths: Sequence[NDArray[Any]]
) -> tuple[list[EvaluationPair], list[str]]:
    pairs, problems = [], []
    for number, (prediction, truth) in enumerate(zip(predictions, truths, strict=True)):
        title = name if len(truths) == 1 else f"{name} [{number:02}]"
        try:
            pairs.append(EvaluationPair(title, prediction, truth))
        except InputError as error:
            problems.append(str(error))
    return pairs, problems


def _same_values(pairs: Sequence[EvaluationPair]) -> list[EvaluationPair]:
    """Give the classes of the predictions the values that they have in the truth."""
    true = sorted(set().union(*(distinct_values(pair.truth) for pair in pairs)))
    if any(pair.prediction.dtype.kind == "f" for pair in pairs):
        raise InputError(
            "probabilities are no classes; evaluate NAME_classes.tif, or choose the kind boundary"
        )
    found = set().union(*(distinct_values(pair.prediction) for pair in pairs))
    if found <= set(true) or not found <= set(range(1, len(true) + 1)):
        return list(pairs)
    table = np.zeros(len(true) + 1, np.int64)
    table[1:] = true
    return [EvaluationPair(p.name, table[p.prediction], p.truth, p.valid) for p in pairs]
