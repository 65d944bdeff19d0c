"""Room for results that may not fit into memory, until it is known how they are stored."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet.ops.errors import InputError

# What is smaller stays in memory.
_IN_MEMORY: Final = 2**26


class Scratch:
    """An array that is written and read in pieces: in memory, or in a nameless file.

    The file has no name where the system can do without, so nothing is left behind however the
    program ends. It is written and read, and not mapped: a full disk ends a program that writes
    into a mapping, and its pages would count as the program's memory.

    Parameters
    ----------
    shape, dtype
        Of the array.
    folder
        Where the file is made.

    Raises
    ------
    InputError
        If the disk has no room for it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, folder: Path) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._array: NDArray[Any] | None = None
        size = math.prod(shape) * self.dtype.itemsize
        if size <= _IN_MEMORY:
            self._array = np.zeros(shape, dtype)
            return
        try:
            self._file = tempfile.TemporaryFile(dir=folder)
            # Better now than after an hour.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:
            self.close()
            raise self._no_room(error) from error

    def put(self, index: tuple[int, ...], values: NDArray[Any]) -> None:
        """Write the part at an index along the first axes."""
        if self._array is not None:
            self._array[index] = values
            return
        assert self._file is not None
        try:
            self._file.seek(self._offset(index))
            self._file.write(np.ascontiguousarray(values, self.dtype).data)
        except OSError as error:
            raise self._no_room(error) from error

    def get(self, index: tuple[int, ...]) -> NDArray[Any]:
        """Read the part at an index along the first axes."""
        if self._array is not None:
            part: NDArray[Any] = self._array[index]
            return part
        assert self._file is not None
        found = np.empty(self.shape[len(index) :], self.dtype)
        self._file.seek(self._offset(index))
        content = self._file.read(found.nbytes)
        found.data.cast("B")[: len(content)] = content
        return found

    def close(self) -> None:
        """Give the room back."""
        self._array = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _offset(self, index: tuple[int, ...]) -> int:
        number = 0
        for place, length in zip(index, self.shape, strict=False):
            number = number * length + place
        return number * math.prod(self.shape[len(index) :]) * self.dtype.itemsize

    def _no_room(self, error: OSError) -> InputError:
        size = math.prod(self.shape) * self.dtype.itemsize
        return InputError(
            f"there is no room for {size / 2**30:.1f} GiB of results in {self._folder} "
            f"({(error.strerror or str(error)).lower()}); free some, or choose another folder"
        )
