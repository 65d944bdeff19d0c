"""The folder of a project: what its files are called, and how they are read and written.

Only regular files of these names are read; symbolic links are not followed, and nothing that stands
in a file is ever taken for a path.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.format import (
    FORMAT,
    VERSION,
    JournalError,
    read_json,
    read_lines,
)

#: Beside an image, the folder that holds its projects.
FOLDER: Final = ".napari-unet"
PROJECT_FILE: Final = "project.json"
MODELS: Final = "models"
_SEGMENT = re.compile(r"journal-(\d{10})\.jsonl")
_SNAPSHOT = re.compile(r"snapshot-(\d{10})")
# Bytes of project.json; ours has 300.
_LONGEST_HEADER: Final = 2**16
# Projects in one folder that are looked at.
_MOST_PROJECTS: Final = 10_000
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Header:
    """What ``project.json`` says.

    Attributes
    ----------
    fingerprint
        Of the image, see `napari_unet.engine.journal.fingerprint.fingerprint`.
    name
        Of the image, for people.
    shape, dtype
        Of its array.
    """

    fingerprint: str
    name: str
    shape: tuple[int, ...]
    dtype: str


def project_name(stem: str, fingerprint: str) -> str:
    """Return what the folder of a project is called: the image's name and some of its hash."""
    plain = re.sub(r"[^\w.-]+", "_", stem).strip("._")[:80] or "image"
    return f"{plain}-{fingerprint[:_DIGITS]}"


def new_folder(parent: Path, stem: str, fingerprint: str) -> Path:
    """Return a folder for a project that is not there yet; it is not made."""
    path = parent / project_name(stem, fingerprint)
    number = 2
    while os.path.lexists(path):
        path = parent / f"{project_name(stem, fingerprint)}-{number}"
        number += 1
    return path


def find_projects(parents: Iterable[Path], fingerprint: str) -> list[Path]:
    """Return the projects of an image, the one that was written last first.

    Parameters
    ----------
    parents
        Folders that hold projects.
    fingerprint
        Of the image. Its name and its folder may have changed.
    """
    ending = re.compile(rf"-{re.escape(fingerprint[:_DIGITS])}(-\d+)?$")
    found: dict[Path, float] = {}
    for parent in parents:
        for path in _folders(parent):
            try:
                if ending.search(path.name) and read_header(path).fingerprint == fingerprint:
                    found[path] = max(p.lstat().st_mtime for p in segments(path).values())
            except (JournalError, OSError, ValueError):
                continue
    return sorted(found, key=lambda path: found[path], reverse=True)


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [parent / name for name in sorted(names)[:_MOST_PROJECTS]]


# ---------------------------------------------------------------------------- header


def write_header(folder: Path, header: Header) -> None:
    """Write ``project.json``.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    text = json.dumps(header_values(header), indent=2).encode("ascii") + b"\n"
    write_file(folder / PROJECT_FILE, text)


def header_values(header: Header) -> dict[str, Any]:
    """Return a header as values for JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "image": {
            "fingerprint": header.fingerprint,
            "name": header.name[:200],
            "shape": list(header.shape),
            "dtype": header.dtype,
        },
        "made": timestamp(),
    }


def read_header(folder: Path) -> Header:
    """Read ``project.json``, or if that is damaged what the journal's first line says as well.

    Raises
    ------
    JournalError
        If it cannot be read, or a newer program wrote it.
    """
    try:
        with opened(folder / PROJECT_FILE) as file:
            values = Checked(read_json(file.read(_LONGEST_HEADER)))
    except JournalError:
        values = _first_line(folder)
    return header_from(folder, values)


def _first_line(folder: Path) -> Checked:
    for path in segments(folder).values():
        with suppress(JournalError), opened(path) as file:
            for line in read_lines(file):
                return Checked(line.values)
    raise JournalError(f"{folder} is no project of napari-unet, or damaged; choose another folder")


def header_from(folder: Path, values: Checked) -> Header:
    """Read what a header says, of a folder or of a part of its journal.

    Raises
    ------
    JournalError
        If it is no header, or a newer program wrote it.
    """
    if values.get("format") != FORMAT:
        raise JournalError(f"{folder} is no project of napari-unet; choose another folder")
    if (version := values.get("version")) != VERSION:
        raise JournalError(
            f"{folder} was written in version {str(version)[:20]} of the format, and this program "
            f"reads version {VERSION}; update napari-unet"
        )
    image = values.optional("image")
    if image is None:
        raise JournalError(f"{folder} does not say which image it belongs to")
    return Header(
        image.text("fingerprint", 128),
        image.text("name", 200, ""),
        image.shape("shape"),
        image.text("dtype", 40),
    )


# ---------------------------------------------------------------------------- parts


def segment_name(first: int) -> str:
    """Return what the part of the journal is called that begins with a change."""
    return f"journal-{first:010d}.jsonl"


def snapshot_name(last: int) -> str:
    """Return what the snapshot is called that was taken after a change."""
    return f"snapshot-{last:010d}"


def segments(folder: Path) -> dict[int, Path]:
    """Return the parts of the journal by the number of the change that each begins with."""
    return _numbered(folder, _SEGMENT, directories=False)


def snapshots(folder: Path) -> dict[int, Path]:
    """Return the snapshots by the number of the change after which each was taken."""
    return _numbered(folder, _SNAPSHOT, directories=True)


def _numbered(folder: Path, pattern: re.Pattern[str], *, directories: bool) -> dict[int, Path]:
    try:
        with os.scandir(folder) as entries:
            found = {
                int(match[1]): folder / entry.name
                for entry in entries
                if (match := pattern.fullmatch(entry.name))
                and (
                    entry.is_dir(follow_symlinks=False)
                    if directories
                    else entry.is_file(follow_symlinks=False)
                )
            }
    except OSError as error:
        raise _unreadable(folder, error) from error
    return dict(sorted(found.items()))


# ---------------------------------------------------------------------------- files


@contextmanager
def opened(path: Path, root: Path | None = None) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a symbolic link is not followed.

    Parameters
    ----------
    path
        The file.
    root
        A folder that it is in; none of those between is a link either. None: the file's own.

    Raises
    ------
    JournalError
        If there is none, or it cannot be read.
    """
    try:
        # A pipe would wait for ever for who writes to it.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode) or _is_elsewhere(path, root or path.parent):
            raise JournalError(f"{path} is not a file; it is not read")
        try:
            yield file
        except OSError as error:
            raise _unreadable(path, error) from error


def _is_elsewhere(path: Path, root: Path) -> bool:
    plain = os.path.join(os.path.realpath(root), path.relative_to(root))
    return os.path.realpath(path) != plain


def write_file(path: Path, contents: bytes) -> None:
    """Write a file that is either whole or not there, and on the disk when this returns.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    replace_file(path, contents, synced=True)
    sync_folder(path.parent)


def replace_file(path: Path, contents: bytes, *, synced: bool = False) -> None:
    """Write a file that is either whole or not there.

    Parameters
    ----------
    path, contents
        The file.
    synced
        Whether its contents are on the disk before it has its name. Otherwise a power cut may
        leave an empty file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(contents)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can be asked for it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def hash_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file and its size.

    Raises
    ------
    JournalError
        If it cannot be read.
    """
    with opened(path) as file:
        digest = hashlib.sha256()
        while piece := file.read(2**20):
            digest.update(piece)
        return digest.hexdigest(), file.tell()


def timestamp() -> str:
    """Return the time in UTC; for people alone, since clocks jump."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


def _unreadable(path: Path, error: Exception) -> JournalError:
    reason = getattr(error, "strerror", None) or str(error) or "reading failed"
    return JournalError(f"{path} cannot be read: {reason.lower()}")
