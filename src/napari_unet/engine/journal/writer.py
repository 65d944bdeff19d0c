"""The threads that write a journal, so that nobody who paints waits for a disk.

One hands each change to the system at once: from then on it outlives the program, however that
ends. The other has it put on the disk (fsync), so that it outlives a power cut, too; that takes as
long as the disk takes, and no change waits for it.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from napari_unet.engine.journal.changes import Entry, Painted
from napari_unet.engine.journal.compaction import Compaction, tidy
from napari_unet.engine.journal.folder import MODELS, Header, write_header
from napari_unet.engine.journal.format import JournalError, encode_line
from napari_unet.engine.journal.records import to_values
from napari_unet.engine.journal.segment import Segment
from napari_unet.engine.journal.snapshot import write_snapshot
from napari_unet.engine.journal.state import ProjectState

#: Bytes of pixels that wait to be written. More are not taken: whoever paints keeps them and asks
#: again, so that memory is bounded on a disk that is slow or full.
MOST_WAITING: Final = 256 * 2**20
# Bytes that are written at once, and of a part of the journal.
_BATCH: Final = 16 * 2**20
_SEGMENT: Final = 8 * 2**20
_SEGMENT_ENTRIES: Final = 2000
# Seconds between tries on a disk that is full.
_RETRY: Final = 2.0
_LAST_WAIT: Final = 10.0


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


class JournalWriter:
    """Appends changes to a journal on a thread of its own.

    Parameters
    ----------
    folder
        Of the project.
    header
        What it belongs to.
    state
        What it holds; belongs to the thread from now on.
    segment
        Where the journal goes on; None begins a new part.
    on_change
        Called on the thread when something was written or could not be.
    on_made_anew
        Called on the thread when the folder was removed and made again.
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
        self._segment = segment
        self._entries = 0
        self._on_change, self._on_made_anew = on_change, on_made_anew
        self._compaction = Compaction(folder)
        self._changed = threading.Condition()
        self._queue: deque[tuple[Entry, int]] = deque()
        self._waiting_bytes = 0
        self._problem: str | None = None
        self._made_anew = 0
        self._is_closing = False
        # The latest change that is on the disk; who syncs a file or closes it holds the lock.
        self._synced = state.last
        self._is_written = False
        self._file = threading.Lock()
        _open_writers.add(self)
        self._thread = threading.Thread(target=self._work, name="U-Net journal", daemon=True)
        self._syncing = threading.Thread(target=self._sync_all, name="U-Net sync", daemon=True)
        self._thread.start()
        self._syncing.start()

    # ------------------------------------------------------------------ any thread

    @property
    def status(self) -> WriterStatus:
        """How it goes."""
        with self._changed:
            return WriterStatus(self._state.last, len(self._queue), self._problem, self._made_anew)

    def can_take(self) -> bool:
        """Whether another change would be taken."""
        with self._changed:
            return self._waiting_bytes < MOST_WAITING and not self._is_closing

    def append(self, entry: Entry) -> None:
        """Have a change written; returns at once. Ask `can_take` before."""
        size = 200
        if isinstance(entry.change, Painted):
            size += 2 * sum(box.size for box in entry.change.boxes)
        with self._changed:
            self._queue.append((entry, size))
            self._waiting_bytes += size
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything is on the disk; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(self._is_settled, timeout)

    def _is_settled(self) -> bool:
        return not self._queue and self._synced >= self._state.last

    def close(self, timeout: float = _LAST_WAIT) -> bool:
        """Write what waits, and end the thread; False if that takes longer or cannot be done."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        for thread in (self._thread, self._syncing):
            thread.join(timeout)
        self._compaction.wait(timeout)
        return not self._syncing.is_alive() and self._is_settled()

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_closing)
                batch, is_last_try = self._next_batch(), self._is_closing
            if not batch or (not self._try(batch) and is_last_try):
                break
            if self._problem is not None:
                self._wait_to_retry()
        with self._changed:
            self._is_written = True
            self._changed.notify_all()

    def _sync_all(self) -> None:
        """Have on the disk what was written, until all is."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._synced < self._state.last or self._is_written)
                last, is_last_try = self._state.last, self._is_closing
                if self._synced >= last:
                    break
            if not self._sync(last):
                if is_last_try:
                    break
                self._wait_to_retry()
        with self._file:
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def _sync(self, last: int) -> bool:
        problem = None
        try:
            with self._file:
                if self._segment is not None:
                    self._segment.sync()
        except OSError as error:
            problem = error.strerror or str(error)
        with self._changed:
            if problem is None:
                self._synced = max(self._synced, last)
            else:
                self._problem = problem
            self._changed.notify_all()
        if problem is not None:
            self._on_change()
        return problem is None

    def _wait_to_retry(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing, _RETRY)

    def _next_batch(self) -> list[Entry]:
        batch: list[Entry] = []
        size = 0
        for entry, bytes_of_it in self._queue:
            if batch and size + bytes_of_it > _BATCH:
                break
            batch.append(entry)
            size += bytes_of_it
        return batch

    def _try(self, batch: list[Entry]) -> bool:
        """Write some changes; False if they cannot be written at present."""
        problem = None
        try:
            self._write(batch)
        except (OSError, JournalError) as error:
            problem = getattr(error, "strerror", None) or str(error)
        with self._changed:
            self._problem = problem
        self._on_change()
        return problem is None

    def _write(self, batch: list[Entry]) -> None:
        segment = self._open_segment()
        state = self._state.frozen()
        for entry in batch:
            state.take(entry)
        segment.append(b"".join(encode_line(to_values(entry)) for entry in batch))
        with self._changed:
            self._state = state
            for _ in batch:
                self._waiting_bytes -= self._queue.popleft()[1]
            self._changed.notify_all()
        self._entries += len(batch)
        if segment.end > _SEGMENT or self._entries > _SEGMENT_ENTRIES:
            self._begin_segment()
            self._compaction.begin(self._state.frozen())

    def _open_segment(self) -> Segment:
        if self._segment is not None and not self._segment.is_in_place():
            self._make_anew()
        if self._segment is None:
            return self._begin_segment()
        return self._segment

    def _begin_segment(self) -> Segment:
        new = Segment.begin(self._folder, self._state.last + 1, self._header)
        self._take_segment(new)
        self._entries = 0
        return new

    def _take_segment(self, new: Segment | None) -> None:
        with self._file:
            if self._segment is not None:
                if new is not None:
                    self._segment.sync()
                self._segment.close()
            self._segment = new

    def _make_anew(self) -> None:
        """Somebody removed the folder: write it again from memory."""
        # Not its parents: who removed the folder of the image did not want it back.
        for folder in (self._folder.parent, self._folder, self._folder / MODELS):
            folder.mkdir(exist_ok=True)
        write_header(self._folder, self._header)
        tidy(self._folder)
        if self._state.last:
            write_snapshot(self._folder, self._state)
        self._take_segment(None)
        with self._changed:
            self._made_anew += 1
        self._on_made_anew()


_open_writers: weakref.WeakSet[JournalWriter] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Write what waits before the interpreter goes down."""
    for writer in list(_open_writers):
        writer.close(_LAST_WAIT)
