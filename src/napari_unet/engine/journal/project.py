"""A project: everything that was done on one image, in a folder that survives everything.

::

    project = Project.open(folder)  # or Project.create(folder, header)
    project.state  # what it holds: layers, accepted predictions, network, settings, view
    project.append(Painted(...))  # written before it returns; what is large, on a thread
    project.close()

See docs/reference/formats.md for the files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from napari_unet.engine.journal.changes import Change, Entry, pixel_bytes, split_change
from napari_unet.engine.journal.compaction import tidy
from napari_unet.engine.journal.folder import (
    MODELS,
    Header,
    read_header,
    timestamp,
    write_header,
)
from napari_unet.engine.journal.format import Damage, JournalError, encode_line
from napari_unet.engine.journal.lock import ProjectLock
from napari_unet.engine.journal.records import to_values
from napari_unet.engine.journal.recovery import EntryFinder, recover, set_aside
from napari_unet.engine.journal.segment import Segment
from napari_unet.engine.journal.state import ProjectState
from napari_unet.engine.journal.writer import SMALL, JournalWriter, WriterStatus

# Seconds to wait for changes that are to be read back.
_FLUSH: Final = 10.0


def _nothing() -> None:
    pass


class Project:
    """An open project. Its methods are called on one thread; `append` does not wait for a disk.

    Make it with `create` or `open`.

    Attributes
    ----------
    folder, header
        Where it is and what it belongs to.
    state
        What it held when it was opened.
    facts
        What it holds now, pixels excepted.
    damages
        What could not be read.
    read_only
        Why nothing is written; None if it is.
    """

    def __init__(
        self,
        folder: Path,
        header: Header,
        state: ProjectState,
        damages: tuple[Damage, ...] = (),
        read_only: str | None = None,
    ) -> None:
        self.folder = folder
        self.header = header
        self.state = state
        self.facts = state.without_pixels()
        self.damages = damages
        self.read_only = read_only
        self._finder = EntryFinder(folder)
        self._writer: JournalWriter | None = None
        self._lock: ProjectLock | None = None

    @classmethod
    def create(
        cls, folder: Path, header: Header, on_change: Callable[[], None] = _nothing
    ) -> Project:
        """Begin a project in a new folder.

        Parameters
        ----------
        folder
            Made if need be; must not hold a project.
        header
            Which image it belongs to.
        on_change
            Called on another thread when something was written or could not be.

        Raises
        ------
        JournalError
            If the folder cannot be written, or holds a project.
        """
        try:
            (folder / MODELS).mkdir(parents=True)
            lock = ProjectLock(folder)
            if (reason := lock.take()) is not None:
                raise JournalError(f"{folder} cannot be used: {reason}")
            write_header(folder, header)
        except OSError as error:
            reason = (error.strerror or "writing failed").lower()
            raise JournalError(f"{folder} cannot be written: {reason}") from error
        project = cls(folder, header, ProjectState())
        project._write(ProjectState(), None, lock, on_change)
        return project

    @classmethod
    def open(
        cls, folder: Path, on_change: Callable[[], None] = _nothing, *, read_only: bool = False
    ) -> Project:
        """Open a project as far as it is whole.

        Parameters
        ----------
        folder
            Where it is.
        on_change
            Called on another thread when something was written or could not be.
        read_only
            Write nothing.

        Raises
        ------
        JournalError
            If it holds no project at all, or one of a newer program.
        """
        header = read_header(folder)
        if read_only:
            found = recover(folder)
            reason: str | None = "it was opened to be read alone"
            return cls(folder, header, found.state, found.damages, reason)
        lock = ProjectLock(folder)
        if (reason := lock.take()) is not None:
            found = recover(folder)
            return cls(folder, header, found.state, found.damages, reason)
        try:
            found = recover(folder)
            tidy(folder)
            (folder / MODELS).mkdir(exist_ok=True)
            set_aside(folder, found)
            segment = None if found.segment is None else Segment(found.segment, found.end)
        except OSError as error:
            lock.release()
            reason = f"its folder cannot be written ({(error.strerror or 'error').lower()})"
            found = recover(folder)
            return cls(folder, header, found.state, found.damages, reason)
        except JournalError:
            lock.release()
            raise
        project = cls(folder, header, found.state.frozen(), found.damages)
        project._write(found.state, segment, lock, on_change)
        return project

    def _write(
        self,
        state: ProjectState,
        segment: Segment | None,
        lock: ProjectLock,
        on_change: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._writer = JournalWriter(
            self.folder, self.header, state, segment, on_change, lock.renew
        )

    # ------------------------------------------------------------------ writing

    @property
    def status(self) -> WriterStatus:
        """How writing goes."""
        if self._writer is None:
            return WriterStatus(self.facts.last, 0, self.read_only)
        return self._writer.status

    def can_append(self) -> bool:
        """Whether a change would be taken now: it is written to, and not too much waits."""
        return self._writer is not None and self._writer.can_take()

    def append(self, change: Change, *, undoes: int = 0, redoes: int = 0) -> int:
        """Have a change written, and return its number; 0 if it is not taken, see `can_append`.

        A small change outlives the program when this returns, and so does everything before a
        large one, unless the disk is full or stalls.

        Parameters
        ----------
        change
            What changed; its arrays must not be written to any more.
        undoes, redoes
            The number of the change that this one takes back or makes again.

        Raises
        ------
        JournalError
            If it does not fit what is there, or its values are not fit for JSON.
        """
        if self._writer is None or not self._writer.can_take():
            return 0
        self._writer.catch_up()
        first = self.facts.last + 1
        is_small = pixel_bytes(change) <= SMALL
        for part in split_change(change):
            joins = self.facts.last + 1 > first
            entry = Entry(self.facts.last + 1, part, timestamp(), undoes, redoes, joins)
            # Before it counts, so that what can never be written does not stop what follows.
            line = encode_line(to_values(entry)) if is_small else None
            self.facts.take(entry)
            self._writer.append(entry, line, self.facts.growth(part))
        return first

    def flush(self, timeout: float = _FLUSH) -> bool:
        """Wait until everything is on the disk; False if that takes longer."""
        return self._writer is None or self._writer.flush(timeout)

    def close(self, timeout: float = _FLUSH) -> bool:
        """Write what waits and let others write; False if something could not be written."""
        went_well = True
        if self._writer is not None:
            went_well = self._writer.close(timeout)
            self._writer = None
            self.read_only = "it is closed"
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        return went_well

    # ------------------------------------------------------------------ undo

    def entry(self, number: int) -> Entry:
        """Return an earlier change, read from the journal.

        Raises
        ------
        JournalError
            If it is not there any more, or damaged.
        """
        if number > self.status.written:
            self.flush()
        return self._finder.find(number)

    def next_undo(self) -> list[Entry]:
        """Return the changes of the latest step that can be taken back, the last one first.

        Raises
        ------
        JournalError
            If it is not in the journal any more.
        """
        return self._step(self.facts.history.undo, first_in_step=False)

    def next_redo(self) -> list[Entry]:
        """Return the changes of the step that can be made again, in their order.

        Raises
        ------
        JournalError
            If it is not in the journal any more.
        """
        return self._step(self.facts.history.redo, first_in_step=True)

    def _step(self, numbers: list[int], *, first_in_step: bool) -> list[Entry]:
        """Collect a step of one change, or of the parts of a large one."""
        joined = self.facts.history.joined
        found: list[Entry] = []
        for number in reversed(numbers):
            if first_in_step and found and number not in joined:
                break
            found.append(self.entry(number))
            if not first_in_step and number not in joined:
                break
        return found

    def inverse_of(self, entry: Entry) -> Change:
        """Return the change that takes one back."""
        return self.facts.inverse_of(entry)

    def again(self, entry: Entry) -> Change:
        """Return the change that makes one again."""
        return self.facts.again(entry)
