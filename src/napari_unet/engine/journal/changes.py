"""What a journal holds: one change after the other, each with what was before it.

Since every change knows both sides, each can be taken back, and taking it back is a change of its
own that is appended like any other: nothing in a journal is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.journal.format import LARGEST_BOX

#: Why a network is written while it learns: so that a power cut does not take all of a round.
KEPT: Final = "kept"
#: Why pixels are written that say which strokes part objects: they are no step of their own.
BORDER: Final = "border"
#: Under this name the values of a view hold the object in hand, and those of the settings the
#: network that was adapted to objects, with what else is known of clicks.
HAND: Final = "hand"
CLICKS: Final = "clicks"
#: Under this name the values of the settings hold outlines that were proposed, and those of the
#: view the numbers of those that are neither accepted nor rejected.
PROPOSALS: Final = "proposals"
OPEN: Final = "open_proposals"
Role = Literal["annotations", "objects", "borders"]
ROLES: Final[tuple[Role, ...]] = ("annotations", "objects", "borders")
#: Of one entry.
MOST_BOXES: Final = 10_000
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
    layer: str
    why: str
    boxes: tuple[BoxChange, ...]

    @property
    def is_step(self) -> bool:
        """Whether it can be taken back by itself."""
        return self.why != BORDER

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
    why: str
    before: ModelFile | None
    after: ModelFile | None

    @property
    def is_step(self) -> bool:
        """Whether it can be taken back: not what is kept in the middle of a round."""
        return self.why != KEPT

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


# ---------------------------------------------------------------------------- large changes


def pixel_bytes(change: Change) -> int:
    """Return how many bytes of pixels a change holds, both sides of them."""
    match change:
        case Painted():
            return 2 * sum(box.size for box in change.boxes)
        case Accepted():
            return int(change.labels.nbytes)
    return 0


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
        if groups[-1] and (size + piece.size > LARGEST_ENTRY or len(groups[-1]) == MOST_BOXES):
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
