"""Open what a folder holds, as far as it is whole, and name what is not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from napari_unet.engine.journal.changes import Entry
from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.folder import header_from, opened, segments, snapshots
from napari_unet.engine.journal.format import Damage, JournalError, line_end, read_lines
from napari_unet.engine.journal.records import from_values
from napari_unet.engine.journal.snapshot import read_snapshot
from napari_unet.engine.journal.state import ProjectState

#: What cannot be read is set aside here and never deleted.
DAMAGED: Final = "damaged"


@dataclass(frozen=True, slots=True, eq=False)
class Recovered:
    """What was found in a folder.

    Attributes
    ----------
    state
        Everything up to the first damage.
    damages
        What could not be read; empty if all is well.
    segment
        The part of the journal that goes on, if one does; otherwise a new one begins.
    end
        Where it goes on.
    """

    state: ProjectState
    damages: tuple[Damage, ...]
    segment: Path | None
    end: int


def recover(folder: Path) -> Recovered:
    """Read a project up to the first damage; nothing is written.

    Raises
    ------
    JournalError
        If the folder cannot be read at all.
    """
    damages: list[Damage] = []
    state = _latest_snapshot(folder, damages)
    parts = segments(folder)
    later = [first for first in parts if first > state.last + 1]
    begun = [first for first in parts if first <= state.last + 1]
    segment, end = None, 0
    for first in [*begun[-1:], *later]:
        path = parts[first]
        if first > state.last + 1:
            why = f"changes {state.last + 1} to {first - 1} are missing before it"
            damages.append(Damage(path.name, 0, path.lstat().st_size, why))
            break
        segment, end, damage = _replay(folder, path, first, state)
        if damage is not None:
            damages.append(damage)
            damages.extend(_unread(parts, first))
            break
    return Recovered(state, tuple(damages), segment, end)


def _unread(parts: dict[int, Path], damaged: int) -> list[Damage]:
    return [
        Damage(path.name, 0, path.lstat().st_size, "what comes before it is damaged")
        for first, path in parts.items()
        if first > damaged
    ]


def _latest_snapshot(folder: Path, damages: list[Damage]) -> ProjectState:
    for number, path in reversed(snapshots(folder).items()):
        try:
            state = read_snapshot(path)
            if state.last != number:
                raise JournalError("it was taken after another change than it says")
            return state
        except (JournalError, OSError, MemoryError) as error:
            damages.append(Damage(path.name, 0, 0, str(error)))
    return ProjectState()


def _replay(
    folder: Path, path: Path, first: int, state: ProjectState
) -> tuple[Path | None, int, Damage | None]:
    """Take in a part of the journal; return where it goes on, and what is wrong there."""
    end, number = 0, first
    try:
        with opened(path) as file:
            for line in read_lines(file):
                if end == 0:
                    header_from(folder, Checked(line.values))
                elif number > state.last:
                    state.take(from_values(line.values))
                    number += 1
                else:
                    number += 1  # the snapshot knows it
                end = line.end
            if end == 0:
                raise JournalError("it is empty")
    except (JournalError, OSError, MemoryError) as error:
        lost = max(path.lstat().st_size - end, 0)
        return (path if end else None), end, Damage(path.name, end, lost, str(error))
    return path, end, None


def set_aside(folder: Path, found: Recovered) -> None:
    """Move what could not be read into a folder of its own, so that the journal can go on.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    if not found.damages:
        return
    aside = folder / DAMAGED
    aside.mkdir(exist_ok=True)
    for damage in found.damages:
        path = folder / damage.file
        if path.is_symlink() or not path.exists():
            continue
        target = _free_name(aside, f"{damage.file}-{damage.offset}")
        if path.is_dir() or damage.offset == 0:
            os.replace(path, target)
            continue
        with path.open("r+b") as file:
            file.seek(damage.offset)
            target.write_bytes(file.read())
            file.truncate(damage.offset)
            file.flush()
            os.fsync(file.fileno())


def _free_name(folder: Path, name: str) -> Path:
    path, number = folder / name, 2
    while os.path.lexists(path):
        path = folder / f"{name}-{number}"
        number += 1
    return path


class EntryFinder:
    """Finds single entries in a folder: what was before and after each change.

    Parameters
    ----------
    folder
        Of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # By the first change of each part: where its lines begin, the header's left out.
        self._offsets: dict[int, list[int]] = {}

    def find(self, number: int) -> Entry:
        """Return an entry.

        Raises
        ------
        JournalError
            If it is not there any more, or damaged.
        """
        parts = segments(self._folder)
        first = max((each for each in parts if each <= number), default=None)
        if first is None:
            raise JournalError(f"change {number} is not in the journal any more")
        with opened(parts[first]) as file:
            offset = self._offset(file, first, number)
            for line in read_lines(file, offset):
                entry = from_values(line.values)
                if entry.number == number:
                    return entry
                break
        raise JournalError(f"change {number} is not in the journal any more")

    def _offset(self, file: BinaryIO, first: int, number: int) -> int:
        """Return where a line begins; lines are passed over by their lengths."""
        offsets = self._offsets.setdefault(first, [0])  # the header is the line before the first
        while len(offsets) <= number - first + 1:
            end = line_end(file, offsets[-1])
            if end is None:
                raise JournalError(f"change {number} is not in the journal any more")
            offsets.append(end)
        return offsets[number - first + 1]
