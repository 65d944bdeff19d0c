"""What clicks leave in a project: the object in hand, and the network that was adapted to objects.

Neither is a step that can be taken back, and each is replaced as a whole: the object in hand stands
with the view under `changes.HAND`, the rest with the settings under `changes.CLICKS`. So a program
that does not know them reads the journal nevertheless.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np

from napari_unet.engine.journal.changes import CLICKS, ModelFile
from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.folder import MODELS, hash_file
from napari_unet.engine.journal.format import (
    LARGEST_BOX,
    JournalError,
    compress,
    decompress,
    from_text,
    to_text,
)
from napari_unet.engine.journal.records import model_values, read_model
from napari_unet.engine.journal.weights import free_path
from napari_unet.model.checkpoint import save_model
from napari_unet.model.click import load_click_network
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click, Outline
from napari_unet.ops.tiling import Box

# What one object may claim: more than anybody clicks, and less than a machine has.
_MOST_PLANES: Final = 10_000
_MOST_ANSWERS: Final = 1000
#: Of one plane that are recorded.
MOST_PROPOSALS: Final = 5000


@dataclass(frozen=True, slots=True)
class PlaneInHand:
    """An object that is not finished, on one plane.

    Attributes
    ----------
    index
        Of the plane: a number for each axis before rows and columns.
    clicks
        The earlier ones first.
    answers
        Before any click, and after each; None where none is known.
    replaced
        What was known before any click, each time before the object was followed anew.
    """

    index: tuple[int, ...]
    clicks: tuple[Click, ...]
    answers: tuple[Outline | None, ...]
    replaced: tuple[Outline | None, ...] = ()


@dataclass(frozen=True, slots=True)
class HandState:
    """An object that is not finished.

    Attributes
    ----------
    label
        Its number if it was finished before and is taken up again.
    box
        What was drawn around it.
    planes
        What is known of it on each plane.
    """

    label: int | None = None
    box: Box | None = None
    planes: tuple[PlaneInHand, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposed:
    """Outlines that were proposed on one plane.

    Attributes
    ----------
    index
        Of the plane.
    outlines
        In the order in which they were found.
    """

    index: tuple[int, ...]
    outlines: tuple[Outline, ...]


# ---------------------------------------------------------------------------- to JSON


def hand_values(hand: HandState | None) -> dict[str, Any] | None:
    """Return an object in hand as values for JSON; None for none."""
    if hand is None:
        return None
    return {
        "label": hand.label,
        "box": None if hand.box is None else _box_values(hand.box),
        "planes": [
            {
                "index": list(plane.index),
                "clicks": [[c.row, c.column, c.positive] for c in plane.clicks],
                "answers": [_outline_values(each) for each in plane.answers],
                "replaced": [_outline_values(each) for each in plane.replaced],
            }
            for plane in hand.planes
        ],
    }


def proposed_values(proposed: Proposed) -> dict[str, Any]:
    """Return proposals as values for JSON."""
    outlines = [_outline_values(each) for each in proposed.outlines]
    return {"index": list(proposed.index), "outlines": outlines}


def _box_values(box: Box) -> list[int]:
    rows, columns = box
    return [int(place) for span in (rows, columns) for place in (span.start, span.stop)]


def _outline_values(outline: Outline | None) -> dict[str, Any] | None:
    if outline is None:
        return None
    return {
        "box": _box_values(outline.box),
        "mask": to_text(compress(outline.mask)),
        "overlap": float(outline.overlap),
    }


# ---------------------------------------------------------------------------- from JSON


def read_hand(values: Any, shape: tuple[int, ...]) -> HandState | None:
    """Read an object in hand.

    Parameters
    ----------
    values
        What `hand_values` returned, from JSON.
    shape
        Of the image, channels excepted; the last two axes are rows and columns.

    Returns
    -------
    HandState | None
        None if there was none.

    Raises
    ------
    JournalError
        If the values are not those of an object on such an image.
    """
    if values is None:
        return None
    checked = Checked(values)
    box = checked.get("box")
    label = None if checked.get("label") is None else checked.whole("label", 1)
    budget = [LARGEST_BOX]
    planes = tuple(
        _read_plane(plane, shape, budget) for plane in checked.objects("planes", _MOST_PLANES)
    )
    if len({plane.index for plane in planes}) < len(planes):
        raise JournalError("an object is on one plane twice")
    return HandState(label, None if box is None else _read_box(box, shape), planes)


def read_proposed(
    values: Any, left: Any, shape: tuple[int, ...]
) -> tuple[Proposed, tuple[int, ...]]:
    """Read proposals, and the numbers of those that are neither accepted nor rejected.

    Parameters
    ----------
    values
        What `proposed_values` returned, from JSON.
    left
        The numbers; None for all.
    shape
        Of the image, channels excepted; the last two axes are rows and columns.

    Raises
    ------
    JournalError
        If the values are not those of proposals on such an image.
    """
    checked, budget = Checked(values), [LARGEST_BOX]
    index = _read_index(checked, shape)
    outlines = []
    for each in _list(checked, "outlines", MOST_PROPOSALS):
        if (outline := _read_outline(each, shape, budget)) is None:
            raise JournalError("a proposal has no outline")
        outlines.append(outline)
    numbers = tuple(range(len(outlines)))
    if left is not None:
        numbers = Checked({"left": left}).wholes("left")
        if len(set(numbers)) < len(numbers) or any(n >= len(outlines) for n in numbers):
            raise JournalError("a proposal is open that was never made")
    return Proposed(index, tuple(outlines)), numbers


def _read_index(values: Checked, shape: tuple[int, ...]) -> tuple[int, ...]:
    index, leading = values.wholes("index"), shape[:-2]
    if len(index) != len(leading) or any(i >= n for i, n in zip(index, leading, strict=True)):
        raise JournalError("an object is on a plane that the image does not have")
    return index


def _read_plane(values: Checked, shape: tuple[int, ...], budget: list[int]) -> PlaneInHand:
    index = _read_index(values, shape)
    clicks = tuple(_read_click(each, shape) for each in _list(values, "clicks"))
    answers, replaced = (
        tuple(_read_outline(each, shape, budget) for each in _list(values, name))
        for name in ("answers", "replaced")
    )
    if len(answers) != len(clicks) + 1:
        raise JournalError("an object has other answers than clicks")
    return PlaneInHand(index, clicks, answers, replaced)


def _list(values: Checked, name: str, most: int = _MOST_ANSWERS) -> list[Any]:
    found = values.get(name)
    if not isinstance(found, list) or len(found) > most:
        raise JournalError(f"{name!r} is no list, or too long")
    return found


def _read_click(values: Any, shape: tuple[int, ...]) -> Click:
    match values:
        case [int() | float() as row, int() | float() as column, bool() as positive]:
            at = float(row), float(column)
            if all(-0.5 <= x <= side - 0.5 for x, side in zip(at, shape[-2:], strict=True)):
                return Click(*at, positive)
    raise JournalError("a click is not on the image")


def _read_box(values: Any, shape: tuple[int, ...]) -> Box:
    match values:
        case [int(), int(), int(), int()]:
            rows, columns = slice(values[0], values[1]), slice(values[2], values[3])
            spans = zip((rows, columns), shape[-2:], strict=True)
            if all(0 <= span.start < span.stop <= side for span, side in spans):
                return rows, columns
    raise JournalError("a box is not on the image")


def _read_outline(values: Any, shape: tuple[int, ...], budget: list[int]) -> Outline | None:
    if values is None:
        return None
    checked = Checked(values)
    box = _read_box(checked.get("box"), shape)
    sides = tuple(span.stop - span.start for span in box)
    budget[0] -= sides[0] * sides[1]
    if budget[0] < 0:
        raise JournalError("an object claims more pixels than one can have")
    overlap = checked.get("overlap")
    if not isinstance(overlap, int | float) or not isfinite(overlap):
        raise JournalError("an outline does not say how good it is")
    mask = decompress(from_text(checked.get("mask")), sides, "bool")
    return Outline(box, np.array(mask, bool), float(overlap))


# ---------------------------------------------------------------------------- the network


def save_click_network(network: UNet, folder: Path) -> ModelFile:
    """Write a network that answers clicks to a project's folder.

    Parameters
    ----------
    network
        It must not change meanwhile.
    folder
        Of the project.

    Returns
    -------
    ModelFile
        What was written; it is on the disk.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    path = save_model(network, free_path(folder / MODELS), {"answers": CLICKS})
    digest, size = hash_file(path)
    return ModelFile(path.name, digest, size)


def load_adapted(folder: Path, values: Any) -> tuple[ModelFile, UNet] | None:
    """Load the network that answers clicks from a project.

    Parameters
    ----------
    folder
        Of the project.
    values
        What `network_values` returned, from JSON; None for the network of the program.

    Raises
    ------
    InputError
        If the file is missing, damaged, or no network that answers clicks.
    """
    model = None if values is None else read_model(Checked(values))
    if model is None:
        return None
    path = folder / MODELS / model.name
    if hash_file(path) != (model.sha256, model.size):
        raise JournalError(f"{path} is damaged or was replaced; finish objects to adapt it again")
    return model, load_click_network(path)


def network_values(model: ModelFile | None) -> dict[str, Any] | None:
    """Return the file of a network as values for JSON; None for the network of the program."""
    return model_values(model)
