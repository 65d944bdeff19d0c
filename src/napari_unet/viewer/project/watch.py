"""Tells what changes in a layer that is painted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_unet.engine.journal import BoxChange, Painted, diff_box
from napari_unet.engine.journal.changes import pixel_bytes

Box = tuple[slice, ...]
#: (change, undoes, redoes) -> its number, 0 if it cannot be taken now.
Record = Callable[[Painted, int, int], int]

# A stroke's dabs are taken as one box if that is at most so many times as large as they are.
_LOOSE: Final = 8
# Bytes of changes that wait by themselves, while there is no folder or the disk is full; what comes
# then is put together.
_MOST_WAITING: Final = 16 * 2**20
# Bytes up to which a layer is compared as a whole when something may have been written into it.
_COMPARED: Final = 4 * 2**20
# Bytes of the pieces that a larger one is compared in, and milliseconds between two of them.
_PIECE: Final = 2**20
_PAUSE_MS: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A change that cannot be taken yet, what stands for its number, and what it takes back."""

    change: Painted
    ticket: int
    undoes: int
    redoes: int


class LayerWatch:
    """Compares a layer with what is known of it, where napari says that something happened.

    It keeps a second copy of the pixels. What is recorded is what differs, so the record is right
    however the pixels came about; napari's own history only says what was undone.

    Parameters
    ----------
    layer
        The layer.
    name
        Its id in the project.
    record
        Called with every change.
    known
        What the project knows of it; None for an empty layer.

    Attributes
    ----------
    layer, name
        As given.
    """

    def __init__(
        self, layer: Labels, name: str, record: Record, known: NDArray[Any] | None = None
    ) -> None:
        self.layer = layer
        self.name = name
        self._record = record
        self._data = layer.data
        self._shape = tuple(layer.data.shape)
        # Of zeros, memory is taken only where something is written.
        empty = np.zeros(self._shape, layer.data.dtype)
        self._known: NDArray[Any] = empty if known is None else known
        # Numbers of the changes in napari's own history; 0 for one that has none, below 0 for one
        # that waits.
        self._undo = [0] * len(layer._undo_history)
        self._redo = [0] * len(layer._redo_history)
        self._waiting: list[_Waiting] = []
        self._tickets = 0
        self._numbers: dict[int, int] = {}
        self._pending: list[Box] = []
        self._late: list[Box] = []
        self._round: Iterator[Box] = iter(())
        self.go_on()

    def go_on(self) -> None:
        """Watch the layer, again after `close`; what happened meanwhile, `compare` finds."""
        self._is_closed = False
        self.layer.events.paint.connect(self._on_painted)
        self.layer.events.set_data.connect(self._on_refreshed)
        self.layer.events.data.connect(self._on_refreshed)

    def close(self) -> None:
        """Let go of the layer."""
        self._is_closed = True
        self.layer.events.paint.disconnect(self._on_painted)
        self.layer.events.set_data.disconnect(self._on_refreshed)
        self.layer.events.data.disconnect(self._on_refreshed)

    @property
    def fits(self) -> bool:
        """Whether the layer still has the shape and type that it had."""
        data = self.layer.data
        return tuple(data.shape) == self._shape and data.dtype == self._known.dtype

    @property
    def latest(self) -> int:
        """The number of the change that napari's own undo would take back; 0 if unknown."""
        return max(self._undo[-1], 0) if self._undo and self.layer._undo_history else 0

    @property
    def latest_undone(self) -> int:
        """The number of the change that napari's own redo would make again; 0 if unknown."""
        return max(self._redo[-1], 0) if self._redo and self.layer._redo_history else 0

    def write(self, boxes: tuple[BoxChange, ...], undoes: int = 0, redoes: int = 0) -> None:
        """Write pixels into the layer, past napari's own history."""
        for box in boxes:
            self.layer.data[box.index] = box.after
        self._take([box.index for box in boxes], "history", undoes, redoes)
        self.layer.refresh()

    def catch_up(self) -> None:
        """Record what could not be taken before, each change by itself and in their order."""
        self.look()
        if self._send() and self._pending:
            boxes, self._pending = self._pending, []
            self._take(boxes, "stroke")

    def patrol(self) -> None:
        """Record what nobody told of: all of a small layer, the next piece of a large one.

        Napari tells nothing of what is undone in a layer that is hidden, and nobody does of what
        a script writes.
        """
        self.catch_up()
        if not self.fits or self.layer._staged_history:  # a stroke is in progress
            return
        if self._known.nbytes <= _COMPARED:
            self._take([tuple(slice(0, side) for side in self._shape)], "found")
            return
        box = next(self._round, None)
        if box is None:
            self._round = _strips(self._shape, self._known.itemsize)
        else:
            self._take([box], "found")

    def look(self) -> None:
        """Take in what was painted, undone or redone."""
        if self.fits:
            self._take_late()
            self._follow_history()

    def compare(self, why: str = "set") -> None:
        """Compare the whole layer; one that is large in pieces, while the window lives on."""
        if not self.fits:
            return
        if self._known.nbytes <= _COMPARED:
            self._take([tuple(slice(0, side) for side in self._shape)], why)
        else:
            self._compare_next(_strips(self._shape, self._known.itemsize), why)

    def _compare_next(self, boxes: Iterator[Box], why: str) -> None:
        """Compare a piece, and the next one when the window had its turn."""
        if self._is_closed or not self.fits:
            return
        if not self.layer._staged_history:  # no stroke is in progress
            box = next(boxes, None)
            if box is None:
                return
            self._take([box], why)
        QTimer.singleShot(_PAUSE_MS, lambda: self._compare_next(boxes, why))

    # ------------------------------------------------------------------ napari tells

    def _on_painted(self, event: Any) -> None:
        if not self.fits:
            return
        self._take_late()
        boxes = _boxes(event.value)
        self._undo.append(self._take(boxes, "stroke"))
        self._redo.clear()
        if not self._undo[-1]:
            # A stroke of the mouse is in the pixels by now; napari tells of what a program writes
            # before it does so.
            self._late = boxes
            QTimer.singleShot(0, self._take_late)

    def _take_late(self) -> None:
        """Record what was told of before it was written."""
        if self._late and self.fits:
            boxes, self._late = self._late, []
            number = self._take(boxes, "stroke")
            if number and self._undo:
                self._undo[-1] = number

    def _on_refreshed(self, _event: Any = None) -> None:
        if self.fits and self.layer.data is not self._data:
            self._data = self.layer.data
            self.compare()
        self.look()

    def _follow_history(self) -> None:
        """Record steps that napari's own undo and redo took."""
        undone, done = self.layer._redo_history, self.layer._undo_history
        while len(undone) > len(self._redo) and self._undo:
            item = undone[len(self._redo)]
            self._redo.append(self._undo.pop())
            self._take(_boxes(item), "undo", undoes=self._redo[-1])
        while len(undone) < len(self._redo) and done:
            ahead = len(self._redo) - len(undone)
            self._undo.append(self._redo.pop())
            self._take(_boxes(done[-min(ahead, len(done))]), "redo", redoes=self._undo[-1])

    def _take(self, boxes: list[Box], why: str, undoes: int = 0, redoes: int = 0) -> int:
        """Record what differs in some boxes; the number of the change, 0 if there is none."""
        changes = [change for box in boxes if (change := self._difference(box)) is not None]
        if not changes:
            return 0
        painted = Painted(self.name, why, tuple(changes))
        self._send()
        undoes, redoes = self._number(undoes), self._number(redoes)
        if not self._waiting and (number := self._record(painted, undoes, redoes)):
            return number
        return self._keep(painted, undoes, redoes)

    def _keep(self, painted: Painted, undoes: int, redoes: int) -> int:
        """Let a change wait, and return what stands for its number; 0 if too much waits."""
        room = _MOST_WAITING - sum(pixel_bytes(each.change) for each in self._waiting)
        if self._pending or pixel_bytes(painted) > room:
            self._pending.extend(change.index for change in painted.boxes)
            for change in reversed(painted.boxes):
                self._known[change.index] = change.before
            return 0
        self._tickets -= 1
        self._waiting.append(_Waiting(painted, self._tickets, undoes, redoes))
        return self._tickets

    def _send(self) -> bool:
        """Record what waits, in its order; whether nothing does any more."""
        while self._waiting:
            first = self._waiting[0]
            undoes, redoes = self._number(first.undoes), self._number(first.redoes)
            number = self._record(first.change, undoes, redoes)
            if not number:
                return False
            del self._waiting[0]
            self._numbers[first.ticket] = number
            for history in (self._undo, self._redo):
                history[:] = [number if each == first.ticket else each for each in history]
        return True

    def _number(self, number: int) -> int:
        """Return the number of a change that waited before."""
        return self._numbers.get(number, number)

    def _difference(self, box: Box) -> BoxChange | None:
        now = np.asarray(self.layer.data[box])
        tight = diff_box(self._known[box], now)
        if tight is None:
            return None
        first = tuple(span.start for span in box)
        start = tuple(a + span.start for a, span in zip(first, tight, strict=True))
        change = BoxChange(start, self._known[box][tight].copy(), now[tight].copy())
        self._known[change.index] = change.after
        return change


def _strips(shape: tuple[int, ...], item: int) -> Iterator[Box]:
    """Cut an array into boxes that are compared in a few milliseconds."""
    rest = shape[1:]
    row = item * math.prod(rest)
    if row > _PIECE and rest:
        for first in range(shape[0]):
            for box in _strips(rest, item):
                yield slice(first, first + 1), *box
        return
    step = max(_PIECE // row, 1)
    for first in range(0, shape[0], step):
        last = min(first + step, shape[0])
        yield slice(first, last), *(slice(0, side) for side in rest)


def _boxes(atoms: Any) -> list[Box]:
    """Return where the parts of a step of napari's history are, as few boxes that are not loose."""
    boxes = [box for atom in atoms if (box := _box_of(atom)) is not None]
    if len(boxes) < 2:
        return boxes
    union = tuple(
        slice(min(span.start for span in spans), max(span.stop for span in spans))
        for spans in zip(*boxes, strict=True)
    )
    return [union] if _size(union) <= _LOOSE * sum(map(_size, boxes)) else boxes


def _box_of(atom: Any) -> Box | None:
    key = getattr(atom, "slice_key", None)
    if key is not None:  # the brush, the bucket and polygons
        return tuple(_span(part) for part in key)
    indices = [np.asarray(axis) for axis in atom[0]]  # single pixels
    if not indices or not indices[0].size:
        return None
    return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in indices)


def _span(part: Any) -> slice:
    if isinstance(part, slice):
        return slice(int(part.start), int(part.stop))
    return slice(int(part), int(part) + 1)


def _size(box: Box) -> int:
    return int(np.prod([span.stop - span.start for span in box]))
