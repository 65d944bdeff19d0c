"""What a project holds at some moment: all changes up to then, taken in one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from napari_unet.engine.journal.blocks import Blocks
from napari_unet.engine.journal.changes import (
    AcceptanceChanged,
    Accepted,
    Change,
    Entry,
    LayerAdded,
    ModelChanged,
    ModelFile,
    Painted,
    SettingsChanged,
    ViewChanged,
)
from napari_unet.engine.journal.format import JournalError

_MOST_LAYERS: Final = 1000
#: Bytes of pixels that a project may unpack to: many times what anybody paints, and less than a
#: machine has.
MOST_BYTES: Final = 4 * 2**30


@dataclass(slots=True, eq=False)
class History:
    """Which changes can be taken back, and which can be made again.

    Attributes
    ----------
    undo, redo
        Numbers of changes; the next one last.
    joined
        Those that are one step with the change before them.
    """

    undo: list[int] = field(default_factory=list)
    redo: list[int] = field(default_factory=list)
    joined: set[int] = field(default_factory=set)

    def take(self, entry: Entry) -> None:
        """Take in a change.

        Changes on different layers are independent, so one may be taken back that is not the
        latest: napari's own undo does so.
        """
        if entry.undoes:
            self._move(entry.undoes, self.undo, self.redo, 1)
        elif entry.redoes:
            self._move(entry.redoes, self.redo, self.undo, -1)
        elif entry.change.is_step:
            self.undo.append(entry.number)
            self.redo.clear()
            if entry.joins:
                self.joined.add(entry.number)

    def _move(self, number: int, source: list[int], target: list[int], ahead: int) -> None:
        """Move a change and those that are one step with it, which lie `ahead` of it."""
        if number not in source:
            if number not in target:
                target.append(number)
            return
        place = len(source) - 1 - source[::-1].index(number)
        last = place + ahead
        while 0 <= last < len(source) and source[last] in self.joined:
            last += ahead
        first, stop = sorted((place, last - ahead))
        target.extend(reversed(source[first : stop + 1]))
        del source[first : stop + 1]

    def copy(self) -> History:
        """Return a copy that does not follow."""
        return History(list(self.undo), list(self.redo), set(self.joined))


@dataclass(slots=True, eq=False)
class LayerState:
    """A layer that is painted on.

    Attributes
    ----------
    added
        What it is.
    pixels
        What is painted.
    """

    added: LayerAdded
    pixels: Blocks


@dataclass(slots=True, eq=False)
class ProjectState:
    """Everything that a project holds.

    Attributes
    ----------
    layers
        By their ids, in the order in which they were added.
    regions
        Every prediction that was ever accepted, by the number of its change.
    accepted
        Those that count.
    model
        The network; None if nothing was learned.
    settings, view
        The latest ones.
    history
        What can be taken back.
    last
        The number of the latest change; 0 if there is none.
    holds_pixels
        Whether pixels are taken in.
    """

    layers: dict[str, LayerState] = field(default_factory=dict)
    regions: dict[int, Accepted] = field(default_factory=dict)
    accepted: tuple[int, ...] = ()
    model: ModelFile | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    last: int = 0
    holds_pixels: bool = True

    def take(self, entry: Entry) -> None:
        """Take in the next change.

        Raises
        ------
        JournalError
            If it is not the next one, or does not fit what is there; nothing is changed then.
        """
        if entry.number != self.last + 1:
            raise JournalError(f"change {entry.number} stands after {self.last}")
        self._take(entry)
        self.history.take(entry)
        self.last = entry.number

    def _take(self, entry: Entry) -> None:
        change = entry.change
        match change:
            case LayerAdded():
                self._add(change)
            case Painted():
                self._paint(change)
            case Accepted():
                self.regions[entry.number] = change
                self.accepted = (*self.accepted, entry.number)
            case AcceptanceChanged():
                if not set(change.after) <= set(self.regions):
                    raise JournalError("what was never accepted cannot count")
                self.accepted = change.after
            case ModelChanged():
                self.model = change.after
            case SettingsChanged():
                self.settings = change.values
            case ViewChanged():
                self.view = change.values

    def _add(self, change: LayerAdded) -> None:
        if change.layer in self.layers or len(self.layers) >= _MOST_LAYERS:
            raise JournalError("a layer is added twice, or there are too many")
        self.layers[change.layer] = LayerState(change, Blocks(change.shape, change.dtype))

    def _paint(self, change: Painted) -> None:
        layer = self.layers.get(change.layer)
        if layer is None:
            raise JournalError("a layer is painted on that was not added")
        for box in change.boxes:
            layer.pixels.check(box)
        if not self.holds_pixels:
            return
        pixels = layer.pixels.frozen()  # so that a box that does not fit leaves nothing behind
        for box in change.boxes:
            pixels.write(box)
        layer.pixels = pixels
        if self.size > MOST_BYTES:
            raise JournalError("the pixels of a project take more memory than they may")

    @property
    def size(self) -> int:
        """Bytes of pixels in memory."""
        return sum(each.pixels.size for each in self.layers.values())

    def growth(self, change: Change) -> int:
        """Return how many bytes of pixels a change that fits adds at most."""
        if not isinstance(change, Painted):
            return 0
        pixels = self.layers[change.layer].pixels
        return sum(pixels.touched_bytes(box.index) for box in change.boxes)

    def inverse_of(self, entry: Entry) -> Change:
        """Return the change that takes back one that counts."""
        if isinstance(entry.change, Accepted):
            kept = tuple(number for number in self.accepted if number != entry.number)
            return AcceptanceChanged(self.accepted, kept)
        return entry.change.inverse()

    def again(self, entry: Entry) -> Change:
        """Return the change that makes one again that was taken back."""
        if isinstance(entry.change, Accepted):
            return AcceptanceChanged(self.accepted, (*self.accepted, entry.number))
        return entry.change

    def frozen(self) -> ProjectState:
        """Return a copy that does not follow; it shares the pixels."""
        layers = {
            name: LayerState(layer.added, layer.pixels.frozen())
            for name, layer in self.layers.items()
        }
        return ProjectState(
            layers,
            dict(self.regions),
            self.accepted,
            self.model,
            dict(self.settings),
            dict(self.view),
            self.history.copy(),
            self.last,
        )

    def without_pixels(self) -> ProjectState:
        """Return a copy that knows everything but what is painted."""
        copy = self.frozen()
        for layer in copy.layers.values():
            layer.pixels = Blocks(layer.added.shape, layer.added.dtype)
        copy.holds_pixels = False
        return copy

    def is_empty(self) -> bool:
        """Whether there is nothing to go on with."""
        painted = any(layer.pixels.blocks for layer in self.layers.values())
        return not painted and self.model is None and not self.accepted


def diff_box(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> tuple[slice, ...] | None:
    """Return the smallest box that holds all differences of two arrays; None without any."""
    changed = before != after
    if not changed.any():
        return None
    spans = []
    for axis in range(changed.ndim):
        others = tuple(other for other in range(changed.ndim) if other != axis)
        hit = np.flatnonzero(changed.any(axis=others))
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(spans)
