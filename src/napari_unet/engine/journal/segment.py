"""The file that the journal goes on in: whole lines are appended, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

from napari_unet.engine.journal.folder import (
    Header,
    header_values,
    replace_file,
    segment_name,
    sync_folder,
)
from napari_unet.engine.journal.format import encode_line


class Segment:
    """An open part of a journal.

    Parameters
    ----------
    path
        The file.
    end
        How many bytes of it are whole lines; what follows is overwritten.

    Attributes
    ----------
    path, end
        As given, and as it goes on.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path, end: int) -> None:
        self.path = path
        self.end = end
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._handle = os.open(path, flags, 0o666)
        os.ftruncate(self._handle, end)
        # Whether its name may not be on the disk yet.
        self._is_new = False

    @classmethod
    def begin(cls, folder: Path, first: int, header: Header) -> Segment:
        """Begin a new part of the journal with the line that says what it is.

        It does not wait for the disk, since whoever paints may wait for it; `sync` does.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        line = encode_line(header_values(header) | {"first": first})
        path = folder / segment_name(first)
        replace_file(path, line)  # so that there is never one without its first line
        new = cls(path, len(line))
        new._is_new = True
        return new

    def is_in_place(self) -> bool:
        """Whether the file is still where it was: a folder that was removed goes on unseen."""
        try:
            there, here = os.stat(self.path), os.fstat(self._handle)
        except OSError:
            return False
        return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)

    def append(self, lines: bytes) -> None:
        """Write whole lines at the end.

        Raises
        ------
        OSError
            If they cannot be written; nothing of them is left then.
        """
        try:
            os.lseek(self._handle, self.end, os.SEEK_SET)
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            os.ftruncate(self._handle, self.end)
            raise
        self.end += len(lines)

    def sync(self) -> None:
        """Return when everything is on the disk.

        Raises
        ------
        OSError
            If the system cannot do that.
        """
        os.fsync(self._handle)
        if self._is_new and self.is_in_place():
            sync_folder(self.path.parent)
            self._is_new = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)
