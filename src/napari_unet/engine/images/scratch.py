"""Room for results that may not fit into memory, until it is known how they are stored."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet.ops.errors import InputError

# What is smaller stays in memory.
_IN_MEMORY: Final = 2**26


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike, folder: Path) -> NDArray[Any]:
    """Return an array of zeros, in memory or in a nameless file of `folder`.

    The file has no name where the system can do without, so nothing is left behind however the
    program ends.

    Raises
    ------
    InputError
        If the disk has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= _IN_MEMORY:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Without it a full disk ends the program when a page is first written to.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            # The mapping keeps the file alive.
            mapped: NDArray[Any] = np.memmap(file, dtype, "r+", shape=shape)
            return mapped
    except OSError as error:
        raise InputError(
            f"there is no room for {size / 2**30:.1f} GiB of results in {folder} "
            f"({(error.strerror or str(error)).lower()}); free some, or choose another folder"
        ) from error
