"""Where the journal is written: the part that goes on, and those that wait for the disk.

Whoever appends holds the lock while the system takes the bytes, and not while they go to the disk.
"""

from __future__ import annotations

import threading
from pathlib import Path

from napari_unet.engine.journal.folder import Header
from napari_unet.engine.journal.segment import Segment


class Pen:
    """Appends lines to a journal, from any thread.

    Parameters
    ----------
    folder
        Of the project.
    header
        What it belongs to.
    last
        The number of the latest change that is in the journal.
    segment
        The part that goes on; None begins a new one with the next change.
    """

    def __init__(
        self, folder: Path, header: Header, last: int, segment: Segment | None = None
    ) -> None:
        self._folder, self._header = folder, header
        self._last = last
        self._segment = segment
        self._entries = 0
        self._lock = threading.Lock()
        # Parts that do not go on; `sync` alone closes files, so none is closed under its hands.
        self._ended: list[Segment] = []

    @property
    def last(self) -> int:
        """The number of the latest change that the system has; it outlives the program."""
        return self._last

    @property
    def size(self) -> tuple[int, int]:
        """Bytes and changes of the part that goes on."""
        with self._lock:
            return (0 if self._segment is None else self._segment.end), self._entries

    def is_in_place(self) -> bool:
        """Whether what is written goes where it should: False if the folder was removed."""
        with self._lock:
            return self._segment is None or self._segment.is_in_place()

    def append(self, lines: bytes, count: int) -> None:
        """Write the lines of so many changes, at the beginning of a new part if there is none.

        Raises
        ------
        OSError
            If they cannot be written; nothing of them is left then.
        """
        with self._lock:
            if self._segment is None:
                self._begin()
            self._put(lines, count)

    def try_append(self, line: bytes, timeout: float) -> bool:
        """Write a change if a part goes on and is in place; False if not, or not in time.

        Raises
        ------
        OSError
            If it cannot be written; nothing of it is left then.
        """
        if not self._lock.acquire(timeout=timeout):
            return False
        try:
            if self._segment is None or not self._segment.is_in_place():
                return False
            self._put(line, 1)
        finally:
            self._lock.release()
        return True

    def begin_next(self) -> None:
        """Go on in a new part.

        Raises
        ------
        OSError
            If it cannot be written; the old one goes on then.
        """
        with self._lock:
            self._begin()

    def let_go(self) -> None:
        """Write nothing more to the part that goes on: it is not in its place any more."""
        with self._lock:
            if self._segment is not None:
                self._ended.append(self._segment)
                self._segment = None

    def _begin(self) -> None:
        new = Segment.begin(self._folder, self._last + 1, self._header)
        if self._segment is not None:
            self._ended.append(self._segment)
        self._segment, self._entries = new, 0

    def _put(self, lines: bytes, count: int) -> None:
        assert self._segment is not None  # whoever calls this looked
        self._segment.append(lines)
        self._last += count
        self._entries += count

    # ------------------------------------------------------------------ the syncing thread

    def sync(self) -> int:
        """Return when what is written now is on the disk: the number of its latest change.

        Raises
        ------
        OSError
            If the system cannot do that.
        """
        with self._lock:
            last, current = self._last, self._segment
            ended = list(self._ended)
        for segment in ended:  # the earlier ones first: a journal without gaps is read further
            segment.sync()
            with self._lock:
                self._ended.remove(segment)
            segment.close()
        if current is not None:
            current.sync()
        return last

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            files = [*self._ended, *([] if self._segment is None else [self._segment])]
            self._ended, self._segment = [], None
        for segment in files:
            segment.close()
