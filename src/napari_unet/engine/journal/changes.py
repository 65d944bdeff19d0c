"""What a journal holds: one change after the other, each with what was before it.

Since every change knows both sides, each can be taken back, and taking it back is a change of its
own that is appended like any other: nothing in a journal is ever overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.format import (
    DTYPES,
    LARGEST_BOX,
    JournalError,
    compress,
    decompress,
    from_text,
    to_text,
)

Role = Literal["annotations", "objects"]
ROLES: Final = ("annotations", "objects")
# What a file of weights is called: no folder, nothing that a file system could take otherwise.
_MODEL_NAME = re.compile(r"[0-9]{1,12}\.safetensors")
_LAYER_NAME = re.compile(r"[a-z0-9-]{1,40}")
# Of one entry.
_MOST_BOXES: Final = 10_000
#: Bytes of all boxes of one entry, one side of them.
LARGEST_ENTRY: Final = LARGEST_BOX


@dataclass(frozen=True, slots=True, eq=False)
class BoxChange:
    """A box of pixels of a layer, before and after.

    Attributes
    ----------
    start
        Its first pixel, one number per axis.
    before, after
        Its pixels; same shape and dtype.
    """

    start: tuple[int, ...]
    before: NDArray[Any]
    after: NDArray[Any]

    @property
    def index(self) -> tuple[slice, ...]:
        """Where it is in the layer's array."""
        pairs = zip(self.start, self.after.shape, strict=True)
        return tuple(slice(start, start + length) for start, length in pairs)

    @property
    def size(self) -> int:
        """Bytes of either side."""
        return int(self.after.nbytes)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A network in the folder ``models`` of a project.

    Attributes
    ----------
    name
        Of the file; the state of its training, if kept, is beside it with "state" before
        "safetensors".
    sha256, size
        Of its bytes.
    step
        How many steps it made.
    speaker
        Whose answer was shown: "at once" or "network".
    """

    name: str
    sha256: str
    size: int
    step: int = 0
    speaker: str = "network"


@dataclass(frozen=True, slots=True, eq=False)
class LayerAdded:
    """A layer that is painted on begins, empty."""

    kind: ClassVar[str] = "layer"
    is_step: ClassVar[bool] = False
    layer: str
    role: Role
    name: str
    shape: tuple[int, ...]
    dtype: str

    def inverse(self) -> LayerAdded:
        """Return itself: layers stay."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """Pixels of a layer changed.

    Attributes
    ----------
    layer
        Its id.
    why
        For people: "stroke", "object", "found", ...
    boxes
        What changed.
    """

    kind: ClassVar[str] = "paint"
    is_step: ClassVar[bool] = True
    layer: str
    why: str
    boxes: tuple[BoxChange, ...]

    def inverse(self) -> Painted:
        """Return the change that takes this one back."""
        back = tuple(BoxChange(box.start, box.after, box.before) for box in reversed(self.boxes))
        return Painted(self.layer, self.why, back)


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """A prediction was accepted.

    Attributes
    ----------
    start
        Its first pixel.
    labels
        Its classes, uint8; 0 is not accepted.
    """

    kind: ClassVar[str] = "accept"
    is_step: ClassVar[bool] = True
    start: tuple[int, ...]
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class AcceptanceChanged:
    """Other accepted predictions count: numbers of the changes that accepted them."""

    kind: ClassVar[str] = "accepted"
    is_step: ClassVar[bool] = True
    before: tuple[int, ...]
    after: tuple[int, ...]

    def inverse(self) -> AcceptanceChanged:
        """Return the change that takes this one back."""
        return AcceptanceChanged(self.after, self.before)


@dataclass(frozen=True, slots=True, eq=False)
class ModelChanged:
    """The network is another one: a round of learning ended, or one was loaded or forgotten."""

    kind: ClassVar[str] = "model"
    is_step: ClassVar[bool] = True
    why: str
    before: ModelFile | None
    after: ModelFile | None

    def inverse(self) -> ModelChanged:
        """Return the change that takes this one back."""
        return ModelChanged(self.why, self.after, self.before)


@dataclass(frozen=True, slots=True, eq=False)
class SettingsChanged:
    """Settings have other values; no step of undo."""

    kind: ClassVar[str] = "settings"
    is_step: ClassVar[bool] = False
    values: Mapping[str, Any] = field(default_factory=dict)

    def inverse(self) -> SettingsChanged:
        """Return itself."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class ViewChanged:
    """The image is looked at from elsewhere; no step of undo."""

    kind: ClassVar[str] = "view"
    is_step: ClassVar[bool] = False
    values: Mapping[str, Any] = field(default_factory=dict)

    def inverse(self) -> ViewChanged:
        """Return itself."""
        return self


Change = (
    LayerAdded
    | Painted
    | Accepted
    | AcceptanceChanged
    | ModelChanged
    | SettingsChanged
    | ViewChanged
)


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A change with its place in the journal.

    Attributes
    ----------
    number
        1, 2, ...; the order of things. Clocks may jump.
    change
        What changed.
    time
        When, as the clock said, in ISO 8601; for people.
    undoes, redoes
        The number of the change that this one takes back or makes again; 0 for a new one.
    joins
        Whether it is one step with the entry before: large changes are written in parts.
    """

    number: int
    change: Change
    time: str = ""
    undoes: int = 0
    redoes: int = 0
    joins: bool = False


# ---------------------------------------------------------------------------- to JSON


def to_values(entry: Entry) -> dict[str, Any]:
    """Return an entry as values for `encode_line`."""
    values: dict[str, Any] = {"n": entry.number, "kind": entry.change.kind, "t": entry.time}
    if entry.undoes:
        values["undoes"] = entry.undoes
    if entry.redoes:
        values["redoes"] = entry.redoes
    if entry.joins:
        values["joins"] = True
    return values | _content(entry.change)


def _content(change: Change) -> dict[str, Any]:
    match change:
        case LayerAdded():
            return {
                "layer": change.layer,
                "role": change.role,
                "name": change.name[:200],
                "shape": list(change.shape),
                "dtype": change.dtype,
            }
        case Painted():
            boxes = [_box_values(box) for box in change.boxes]
            dtype = change.boxes[0].after.dtype.name if change.boxes else "uint8"
            return {"layer": change.layer, "why": change.why, "dtype": dtype, "boxes": boxes}
        case Accepted():
            return region_values(change)
        case AcceptanceChanged():
            return {"before": list(change.before), "after": list(change.after)}
        case ModelChanged():
            return {
                "why": change.why,
                "before": model_values(change.before),
                "after": model_values(change.after),
            }
        case SettingsChanged() | ViewChanged():
            return {"values": dict(change.values)}


def _box_values(box: BoxChange) -> dict[str, Any]:
    return {
        "start": list(box.start),
        "shape": list(box.after.shape),
        "before": to_text(compress(box.before)),
        "after": to_text(compress(box.after)),
    }


def region_values(region: Accepted) -> dict[str, Any]:
    """Return an accepted region as values for JSON."""
    return {
        "start": list(region.start),
        "shape": list(region.labels.shape),
        "labels": to_text(compress(region.labels)),
    }


def model_values(model: ModelFile | None) -> dict[str, Any] | None:
    """Return a model file as values for JSON."""
    if model is None:
        return None
    return {
        "name": model.name,
        "sha256": model.sha256,
        "size": model.size,
        "step": model.step,
        "speaker": model.speaker,
    }


# ---------------------------------------------------------------------------- from JSON


def from_values(values: dict[str, Any]) -> Entry:
    """Read an entry.

    Raises
    ------
    JournalError
        If the values are not those of an entry.
    """
    checked = Checked(values)
    return Entry(
        number=checked.whole("n", 1),
        change=_read_change(checked),
        time=checked.text("t", 40, ""),
        undoes=checked.whole("undoes", 0, default=0),
        redoes=checked.whole("redoes", 0, default=0),
        joins=checked.get("joins") is True,
    )


def _read_change(values: Checked) -> Change:
    kind = values.text("kind", 20)
    match kind:
        case "layer":
            return _read_layer(values)
        case "paint":
            dtype = values.choice("dtype", DTYPES)
            return Painted(
                _layer_id(values), values.text("why", 40, ""), _read_boxes(values, dtype)
            )
        case "accept":
            return read_region(values)
        case "accepted":
            return AcceptanceChanged(values.wholes("before"), values.wholes("after"))
        case "model":
            before, after = values.optional("before"), values.optional("after")
            return ModelChanged(values.text("why", 40, ""), read_model(before), read_model(after))
        case "settings":
            return SettingsChanged(values.table("values"))
        case "view":
            return ViewChanged(values.table("values"))
    raise JournalError(f"a change of the unknown kind {kind!r}; a newer program may have made it")


def _layer_id(values: Checked) -> str:
    name = values.text("layer", 40)
    if not _LAYER_NAME.fullmatch(name):
        raise JournalError("a layer has no proper id")
    return name


def _read_layer(values: Checked) -> LayerAdded:
    role = values.choice("role", ROLES)
    return LayerAdded(
        _layer_id(values),
        "annotations" if role == "annotations" else "objects",
        values.text("name", 200, ""),
        values.shape("shape"),
        values.choice("dtype", DTYPES),
    )


def _read_boxes(values: Checked, dtype: str) -> tuple[BoxChange, ...]:
    boxes = values.objects("boxes", _MOST_BOXES)
    item = np.dtype(DTYPES[dtype]).itemsize
    if sum(prod(box.shape("shape")) for box in boxes) * item > LARGEST_ENTRY:
        raise JournalError("a change claims more pixels than one can hold")
    return tuple(_read_box(box, dtype) for box in boxes)


def _read_box(values: Checked, dtype: str) -> BoxChange:
    start, shape = values.wholes("start"), values.shape("shape")
    if len(start) != len(shape):
        raise JournalError("a box begins in other axes than it has")
    before = decompress(from_text(values.get("before")), shape, dtype)
    after = decompress(from_text(values.get("after")), shape, dtype)
    return BoxChange(start, before, after)


def read_region(values: Checked) -> Accepted:
    """Read an accepted region."""
    start, shape = values.wholes("start"), values.shape("shape")
    if len(start) != len(shape):
        raise JournalError("a box begins in other axes than it has")
    return Accepted(start, decompress(from_text(values.get("labels")), shape, "uint8"))


def read_model(values: Checked | None) -> ModelFile | None:
    """Read a model file; its name cannot lead out of its folder."""
    if values is None:
        return None
    name, digest = values.text("name", 40), values.text("sha256", 64)
    if not _MODEL_NAME.fullmatch(name):
        raise JournalError("a file of weights has no proper name")
    speaker = values.choice("speaker", ("at once", "network"))
    return ModelFile(name, digest, values.whole("size", 0), values.whole("step", 0), speaker)


# ---------------------------------------------------------------------------- large changes


def split_change(change: Change) -> list[Change]:
    """Cut a change of more pixels than one entry holds into several; others stay one."""
    if isinstance(change, Accepted):
        whole = BoxChange(change.start, change.labels, change.labels)
        return [Accepted(piece.start, piece.after) for piece in _split_box(whole)]
    if not isinstance(change, Painted):
        return [change]
    pieces = [piece for box in change.boxes for piece in _split_box(box)]
    groups: list[list[BoxChange]] = [[]]
    size = 0
    for piece in pieces:
        if groups[-1] and (size + piece.size > LARGEST_ENTRY or len(groups[-1]) == _MOST_BOXES):
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += piece.size
    return [Painted(change.layer, change.why, tuple(group)) for group in groups]


def _split_box(box: BoxChange) -> list[BoxChange]:
    """Cut a box along its longest axis until every piece fits into an entry."""
    if box.size <= LARGEST_ENTRY:
        return [box]
    axis = int(np.argmax(box.after.shape))
    middle = box.after.shape[axis] // 2
    pieces = []
    for first, last in ((0, middle), (middle, None)):
        index = (*[slice(None)] * axis, slice(first, last))
        start = (*box.start[:axis], box.start[axis] + first, *box.start[axis + 1 :])
        pieces.append(BoxChange(start, box.before[index], box.after[index]))
    return [small for piece in pieces for small in _split_box(piece)]
