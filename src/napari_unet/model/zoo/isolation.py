"""Foreign weights in a process of their own.

What is checked cannot reach files or run code, but a damaged or hostile network can still ask for
all memory, never end, or meet a fault in the library that runs it. In a process of its own it takes
nothing else with it: the user reads why, and goes on.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_unet.model.zoo.worker import as_array, receive, send, send_array
from napari_unet.ops.errors import InputError

#: Seconds that a tile may take; the largest networks need some ten on a processor.
TIME_LIMIT: Final = 600.0
_LARGEST_ANSWER = 2**34
# Of all memory; more would make the system choose what it ends.
_SHARE_OF_MEMORY = 0.8
# What the libraries reserve before they use it counts too, some gigabytes.
_RESERVED = 8 * 2**30
_ENDED = (
    "the package's network ended the process in which it ran; choose smaller tiles, or another "
    "package"
)
_LATE = (
    "the package's network took too long and was ended; choose smaller tiles, or another package"
)


class IsolatedRun:
    """A function from a tensor to a foreign network's answer, computed in another process.

    Parameters
    ----------
    form
        "onnx" or "torchscript".
    weights
        The file.
    seconds
        How long an answer may take.

    Raises
    ------
    InputError
        If the weights are refused, or the process ends over them.
    """

    def __init__(self, form: str, weights: bytes, seconds: float = TIME_LIMIT) -> None:
        self._form = form
        self._weights = weights
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = _nothing
        self._start()

    def __call__(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Return the answer to a tensor.

        Raises
        ------
        InputError
            If the network fails, takes too long or ends its process. The next call begins anew.
        """
        with self._lock:
            if self._process is None:
                self._start()
            header, contents = self._ask(
                lambda stream: send_array(stream, np.asarray(tensor, np.float32))
            )
        try:
            return as_array(header, contents)
        except EOFError as error:
            raise InputError(_ENDED) from error

    def close(self) -> None:
        """End the process."""
        self._end()
        self._process = None

    def _start(self) -> None:
        # -P: modules that lie in the working folder are not imported.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "napari_unet.model.zoo.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._end = weakref.finalize(self, _end, self._process)
        memory = int(_SHARE_OF_MEMORY * psutil.virtual_memory().total) + _RESERVED
        self._ask(
            lambda stream: send(stream, {"form": self._form, "memory": memory}, self._weights)
        )

    def _ask(self, write: Callable[[BinaryIO], None]) -> tuple[dict[str, Any], bytes]:
        process, late = self._process, threading.Event()
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None

        def give_up() -> None:
            late.set()
            process.kill()

        alarm = threading.Timer(self._seconds, give_up)
        alarm.daemon = True
        alarm.start()
        try:
            write(process.stdin)  # type: ignore[arg-type]
            header, contents = receive(process.stdout, _LARGEST_ANSWER)  # type: ignore[arg-type]
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            self.close()
            raise InputError(_LATE if late.is_set() else _ENDED) from error
        finally:
            alarm.cancel()
        if (problem := header.get("error")) is not None:
            self.close()
            raise InputError(str(problem)[:500])
        return header, contents


def _nothing() -> None:
    """End a process that was not yet begun."""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # what was not yet written goes nowhere
                continue
