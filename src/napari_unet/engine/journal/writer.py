"""Writes a journal: small changes before the call that made them returns, large ones on a thread.

What the system was handed outlives the program, however that ends. So a small change is handed over
at once, by whoever made it: that takes a millisecond. A large one is packed on a thread, and
the next change waits for it: never more than one change is in memory alone, unless the disk is full
or stalls. Another thread has everything put on the disk (fsync), so that it outlives a power cut,
too; that takes as long as the disk takes, and no change waits for it.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from napari_unet.engine.journal.changes import Entry, pixel_bytes
from napari_unet.engine.journal.compaction import Compaction, tidy
from napari_unet.engine.journal.folder import MODELS, Header, write_header
from napari_unet.engine.journal.format import JournalError, encode_line
from napari_unet.engine.journal.pen import Pen
from napari_unet.engine.journal.records import to_values
from napari_unet.engine.journal.segment import Segment
from napari_unet.engine.journal.snapshot import write_snapshot
from napari_unet.engine.journal.state import MOST_BYTES, ProjectState

#: Bytes of pixels that wait to be written. More are not taken: whoever paints keeps them and asks
#: again, so that memory is bounded on a disk that is slow or full.
MOST_WAITING: Final = 256 * 2**20
#: Bytes of pixels, before and after, of a change that is written by whoever makes it; see
#: docs/architecture.md for how long that takes.
SMALL: Final = 2**20
# Bytes that are written at once, and of a part of the journal.
_BATCH: Final = 16 * 2**20
_SEGMENT: Final = 8 * 2**20
_SEGMENT_ENTRIES: Final = 2000
# Seconds between tries on a disk that is full.
_RETRY: Final = 2.0
_LAST_WAIT: Final = 10.0
# Seconds that a change waits for the one before it or for the system. A disk that takes longer
# stalls; for so long nobody waits for it again, and changes pile up in memory.
_PATIENCE: Final = 0.5
_STALLED: Final = 10.0


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """How it goes.

    Attributes
    ----------
    written
        The number of the latest change that is in the file.
    waiting
        How many wait to be written.
    problem
        Why they cannot be written at present; None if they can.
    made_anew
        How often the folder was removed and made again; files of weights are gone then.
    """

    written: int
    waiting: int
    problem: str | None = None
    made_anew: int = 0


class _Item(NamedTuple):
    """A change, the bytes that it holds in memory, and those by which it lets the state grow."""

    entry: Entry
    size: int
    growth: int


class JournalWriter:
    """Appends changes to a journal.

    Parameters
    ----------
    folder
        Of the project.
    header
        What it belongs to.
    state
        What it holds; belongs to the writing thread from now on.
    segment
        Where the journal goes on; None begins a new part.
    on_change
        Called on a thread when something was written or could not be.
    on_made_anew
        Called on a thread when the folder was removed and made again.
    """

    def __init__(
        self,
        folder: Path,
        header: Header,
        state: ProjectState,
        segment: Segment | None = None,
        on_change: Callable[[], None] = lambda: None,
        on_made_anew: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._header, self._state = folder, header, state
        self._pen = Pen(folder, header, state.last, segment)
        self._on_change, self._on_made_anew = on_change, on_made_anew
        self._compaction = Compaction(folder)
        self._changed = threading.Condition()
        # What is not in the file yet; and what is, but was not taken into the state yet.
        self._queue: deque[_Item] = deque()
        self._written: deque[_Item] = deque()
        self._waiting_bytes = 0
        self._state_bytes = state.size
        self._problem: str | None = None
        self._made_anew = 0
        self._is_closing = False
        self._stalled_until = -float("inf")
        # The latest change that is on the disk.
        self._synced = state.last
        self._has_ended = False
        _open_writers.add(self)
        self._thread = threading.Thread(target=self._work, name="U-Net journal", daemon=True)
        self._syncing = threading.Thread(target=self._sync_all, name="U-Net sync", daemon=True)
        self._thread.start()
        self._syncing.start()

    # ------------------------------------------------------------------ who makes changes

    @property
    def status(self) -> WriterStatus:
        """How it goes."""
        with self._changed:
            return WriterStatus(self._pen.last, len(self._queue), self._problem, self._made_anew)

    def can_take(self) -> bool:
        """Whether another change would be taken."""
        with self._changed:
            return self._waiting_bytes < MOST_WAITING and not self._is_closing

    def catch_up(self) -> None:
        """Wait for the change before this one, if it is large and not written yet."""
        with self._changed:
            if time.monotonic() < self._stalled_until:
                return
            if not self._changed.wait_for(
                lambda: not self._queue or self._problem is not None, _PATIENCE
            ):
                self._stalled_until = time.monotonic() + _STALLED

    def append(self, entry: Entry, line: bytes | None = None, growth: int = 0) -> None:
        """Have a change written. Ask `can_take` and `catch_up` before.

        Parameters
        ----------
        entry
            The change.
        line
            It as a line of the journal, to be written before this returns if nothing hinders;
            None has it written on the thread.
        growth
            Bytes of pixels by which the state grows at most.
        """
        item = _Item(entry, 200 + pixel_bytes(entry.change), growth)
        at_once = line is not None and self._may_write(growth) and self._write_at_once(line)
        with self._changed:
            (self._written if at_once else self._queue).append(item)
            self._waiting_bytes += item.size
            self._changed.notify_all()

    def _may_write(self, growth: int) -> bool:
        """Whether a change may be written now: it is its turn, and fits for sure."""
        with self._changed:
            if self._queue or self._problem is not None or time.monotonic() < self._stalled_until:
                return False
            pending = sum(item.growth for item in self._written)
            return self._state_bytes + pending + growth <= MOST_BYTES

    def _write_at_once(self, line: bytes) -> bool:
        start = time.monotonic()
        try:
            return self._pen.try_append(line, _PATIENCE)
        except OSError:
            return False  # the thread tries again, and tells why it cannot
        finally:
            if time.monotonic() - start > _PATIENCE:
                self._stalled_until = time.monotonic() + _STALLED

    def flush(self, timeout: float) -> bool:
        """Wait until everything is on the disk; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(self._is_settled, timeout)

    def _is_settled(self) -> bool:
        return not self._queue and not self._written and self._synced >= self._pen.last

    def close(self, timeout: float = _LAST_WAIT) -> bool:
        """Write what waits, and end the threads; False if that takes longer or cannot be done."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in (self._thread, self._syncing):
            thread.join(timeout)
        self._compaction.wait(timeout)
        return not self._syncing.is_alive() and self._is_settled()

    # ------------------------------------------------------------------ the writing thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._written or self._is_closing)
                # While something is queued, nothing is written past the queue.
                written, batch = list(self._written), self._next_batch()
                is_last_try = self._is_closing
            if not written and not batch:
                break
            if not self._try(written, batch) and is_last_try:
                break
            if self._problem is not None:
                self._wait_to_retry()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _wait_to_retry(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, _RETRY)

    def _next_batch(self) -> list[_Item]:
        batch: list[_Item] = []
        size = 0
        for item in self._queue:
            if batch and size + item.size > _BATCH:
                break
            batch.append(item)
            size += item.size
        return batch

    def _try(self, written: list[_Item], batch: list[_Item]) -> bool:
        """Take in what was written, and write some changes; False if that cannot be done now."""
        problem = None
        try:
            self._take_in(written)
            if batch:
                self._write(batch)
            self._begin_next_part()
        except (OSError, JournalError, MemoryError) as error:
            problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
        with self._changed:
            self._problem = problem
            self._state_bytes = self._state.size
            if problem is None:
                self._drop(self._written, len(written))
            self._changed.notify_all()
        self._on_change()
        return problem is None

    def _take_in(self, written: list[_Item]) -> None:
        for item in written:
            if item.entry.number > self._state.last:
                self._state.take(item.entry)

    def _write(self, batch: list[_Item]) -> None:
        if not self._pen.is_in_place():
            self._make_anew()
        state = self._state.frozen()
        for item in batch:
            state.take(item.entry)
        lines = b"".join(encode_line(to_values(item.entry)) for item in batch)
        self._pen.append(lines, len(batch))
        self._state = state
        with self._changed:
            self._drop(self._queue, len(batch))
            self._changed.notify_all()

    def _drop(self, items: deque[_Item], count: int) -> None:
        for _ in range(count):
            self._waiting_bytes -= items.popleft().size

    def _begin_next_part(self) -> None:
        size, entries = self._pen.size
        if size > _SEGMENT or entries > _SEGMENT_ENTRIES:
            self._pen.begin_next()
            self._compaction.begin(self._state.frozen())

    def _make_anew(self) -> None:
        """Somebody removed the folder: write it again from memory."""
        # Not its parents: who removed the folder of the image did not want it back.
        for folder in (self._folder.parent, self._folder, self._folder / MODELS):
            folder.mkdir(exist_ok=True)
        write_header(self._folder, self._header)
        tidy(self._folder)
        if self._state.last:
            write_snapshot(self._folder, self._state)
        self._pen.let_go()
        with self._changed:
            self._made_anew += 1
        self._on_made_anew()

    # ------------------------------------------------------------------ the syncing thread

    def _sync_all(self) -> None:
        """Have on the disk what was written, until all is."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._synced < self._pen.last or self._has_ended)
                is_last_try = self._is_closing
                if self._synced >= self._pen.last:
                    break
            if not self._sync():
                if is_last_try:
                    break
                self._wait_to_retry()
        self._pen.close()

    def _sync(self) -> bool:
        synced, problem = 0, None
        try:
            synced = self._pen.sync()
        except OSError as error:
            problem = error.strerror or str(error)
        with self._changed:
            if problem is None:
                self._synced = max(self._synced, synced)
            else:
                self._problem = problem
            self._changed.notify_all()
        if problem is not None:
            self._on_change()
        return problem is None


_open_writers: weakref.WeakSet[JournalWriter] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Write what waits before the interpreter goes down."""
    for writer in list(_open_writers):
        writer.close(_LAST_WAIT)
