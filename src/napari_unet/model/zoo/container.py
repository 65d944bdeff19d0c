"""What a package from a stranger holds: the files of a folder or a zip, read within bounds.

Nothing is unpacked, so nothing can be written outside of a folder. Names that lead out of the
package, symbolic links, encrypted entries and entries that grow too much are refused.
"""

from __future__ import annotations

import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Protocol

from napari_unet.ops.errors import InputError

#: Bytes that a file of weights or a tensor may have: beyond this no network of this kind goes, and
#: ONNX itself ends at 2 GiB.
LARGEST_FILE: Final = 2 * 2**30
# A package has a few dozen files.
_MOST_FILES = 10_000
# A zip's directory has some 100 bytes for each file.
_LONGEST_DIRECTORY = 4 * 2**20
# Deflate reaches 1032; weights and images shrink by less than 100. Small files are let through.
_LARGEST_RATIO = 200
_SMALL_FILE = 2**20
_BLOCK = 2**20
# The end of a zip: 22 bytes and a comment of up to 65535.
_LONGEST_END = 2**16 + 22
#: What reading a damaged zip may raise.
DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a kind of compression that Python does not know
    RuntimeError,
    ValueError,
    OverflowError,
    IndexError,
    OSError,
)


class Container(Protocol):
    """The files of a package."""

    @property
    def path(self) -> Path:
        """Where the package lies."""

    def names(self) -> frozenset[str]:
        """Return the files by name, with "/" between folders."""

    def read(self, name: str, limit: int) -> bytes:
        """Read a file.

        Parameters
        ----------
        name
            As the package's description gives it.
        limit
            Bytes that it may have at most.

        Raises
        ------
        InputError
            If it is missing, leads outside, is a link, is larger, or is damaged.
        """


def open_container(path: str | Path) -> Container:
    """Open a package.

    Parameters
    ----------
    path
        A folder, the description file in a folder, or a zip file.

    Raises
    ------
    InputError
        If it is none of them or cannot be read.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read; choose a package's folder or zip") from error
    if stat.S_ISDIR(mode):
        return _Folder(path)
    if not stat.S_ISREG(mode):  # reading a pipe would wait for ever
        raise InputError(f"{path} is not a file; choose a package's folder or zip")
    if path.suffix.lower() in (".yaml", ".yml"):
        return _Folder(path.parent)
    return _Zip(path)


def checked_name(name: str) -> str:
    """Return the name of a file in a package in its one form.

    Raises
    ------
    InputError
        If it leads out of the package: absolute, with "..", a drive, or an address.
    """
    pure = PurePosixPath(name)
    parts = pure.parts
    bad = any(character in name for character in "\\\0:")
    if bad or not parts or pure.is_absolute() or ".." in parts or len(name) > 1024:
        raise InputError(
            f"the package names {name[:80]!r}, which does not lie in it; choose another package"
        )
    return str(pure)


class _Folder:
    """A package that was unpacked by somebody else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> frozenset[str]:
        found: set[str] = set()
        for folder, folders, files in os.walk(self.path, followlinks=False):
            relative = Path(folder).relative_to(self.path)
            found.update((relative / file).as_posix() for file in files)
            folders[:] = [each for each in folders if not each.startswith(".")]
            if len(found) > _MOST_FILES:
                raise _too_many(self.path)
        return frozenset(found)

    def read(self, name: str, limit: int) -> bytes:
        name = checked_name(name)
        path = self.path
        try:
            for part in PurePosixPath(name).parts:
                path = path / part
                if stat.S_ISLNK(path.lstat().st_mode):
                    raise InputError(
                        f"{path} is a symbolic link, and may lead out of the package; "
                        "put the file itself there"
                    )
            if not stat.S_ISREG(path.lstat().st_mode):
                raise _missing(self.path, name)
            with path.open("rb") as file:
                return _read_within(file, limit, name)
        except FileNotFoundError as error:
            raise _missing(self.path, name) from error
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} cannot be read; choose another copy") from error


class _Zip:
    """A package in one file; its directory is read once, its files when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as archive:
            # A name may be empty, which zipfile does not foresee.
            entries = [entry for entry in archive.infolist() if entry.filename[-1:] != "/"]
        if len(entries) > _MOST_FILES:
            raise _too_many(path)
        self._entries = {checked_name(entry.filename): entry for entry in entries}
        if len(self._entries) != len(entries):
            # Which of the two another program reads, nobody knows.
            raise InputError(f"{path} holds two files of one name; choose another copy")
        for entry in self._entries.values():
            self._check(entry)

    def _check(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename[:80]
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError(f"{name!r} in {self.path} is a symbolic link; choose another package")
        if entry.flag_bits & 0x1:
            raise InputError(f"{name!r} in {self.path} is encrypted; choose another copy")
        if entry.file_size > max(_SMALL_FILE, _LARGEST_RATIO * entry.compress_size):
            raise InputError(
                f"{name!r} in {self.path} would unpack to {entry.file_size} bytes from "
                f"{entry.compress_size}; choose another package"
            )

    def names(self) -> frozenset[str]:
        return frozenset(self._entries)

    def read(self, name: str, limit: int) -> bytes:
        name = checked_name(name)
        entry = self._entries.get(name)
        if entry is None:
            raise _missing(self.path, name)
        if entry.file_size > limit:
            raise _too_large(name, limit)
        with self._opened() as archive, archive.open(entry) as file:
            return _read_within(file, limit, name)  # type: ignore[arg-type]

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        """Open the archive; everything that is wrong with it becomes an InputError."""
        try:
            _check_directory(self.path)
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except InputError:
            raise
        except DAMAGE as error:
            raise InputError(
                f"{self.path} is cut off, damaged or no zip; choose another copy of the package"
            ) from error


def _check_directory(path: Path) -> None:
    """Refuse a zip whose directory alone would fill the memory."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LONGEST_END))
        end = file.read()
    start = end.rfind(b"PK\5\6")
    if start < 0 or len(end) < start + 16:
        raise zipfile.BadZipFile("no directory")
    # 0xffffffff stands for a directory of the 64-bit form, which no package of 2 GiB needs.
    if struct.unpack_from("<L", end, start + 12)[0] > _LONGEST_DIRECTORY:
        raise _too_many(path)


def _read_within(file: BinaryIO, limit: int, name: str) -> bytes:
    """Read to the end, but never more than `limit` bytes, whatever the directory claims."""
    blocks, total = [], 0
    while block := file.read(min(_BLOCK, limit + 1 - total)):
        blocks.append(block)
        total += len(block)
        if total > limit:
            raise _too_large(name, limit)
    return b"".join(blocks)


def _missing(path: Path, name: str) -> InputError:
    return InputError(f"{path} holds no {name[:80]!r}; choose another copy of the package")


def _too_large(name: str, limit: int) -> InputError:
    return InputError(f"{name[:80]!r} has more than {limit} bytes; choose another package")


def _too_many(path: Path) -> InputError:
    return InputError(f"{path} holds more than {_MOST_FILES} files; choose a package alone")
