"""Tensors that are seldom needed lie in a file, where they take no memory."""

from __future__ import annotations

import tempfile
import weakref
from contextlib import ExitStack
from typing import IO

from safetensors.torch import load, save
from torch import Tensor


class KeptTensors:
    """Tensors in a nameless file, which is gone with this object, however the program ends.

    Where no file can be written, they stay in memory.

    Parameters
    ----------
    tensors
        Contiguous, on the CPU, by name; copied.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._file: IO[bytes] | None = None
        self._tensors: dict[str, Tensor] = {}
        try:
            with ExitStack() as unless_written:
                file = unless_written.enter_context(tempfile.TemporaryFile())
                file.write(save(tensors))
                file.flush()
                unless_written.pop_all()
        except OSError:
            self._tensors = {name: value.clone() for name, value in tensors.items()}
        else:
            self._file = file
            weakref.finalize(self, file.close)

    def read(self) -> dict[str, Tensor]:
        """Return them by name; they are not to be changed in place."""
        if self._file is None:
            return self._tensors
        self._file.seek(0)
        found: dict[str, Tensor] = load(self._file.read())
        return found
