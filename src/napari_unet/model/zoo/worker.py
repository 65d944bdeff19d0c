"""The process in which foreign weights are loaded and run; see `napari_unet.model.zoo.isolation`.

It reads a form ("onnx" or "torchscript"), the weights and then tensors from standard input, and
writes an answer to each. Every message is a line of JSON and the bytes of which it tells.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.errors import InputError

_DTYPES = ("float16", "float32", "float64", "bool", "int8", "uint8", "int32", "int64")


def send(stream: BinaryIO, header: dict[str, Any], contents: bytes | memoryview = b"") -> None:
    """Write a message."""
    length = len(contents) if isinstance(contents, bytes) else contents.nbytes
    stream.write(json.dumps({**header, "bytes": length}).encode() + b"\n")
    stream.write(contents)
    stream.flush()


def receive(stream: BinaryIO, limit: int) -> tuple[dict[str, Any], bytes]:
    """Read a message.

    Raises
    ------
    EOFError
        If there is none, or not a whole one.
    """
    line = stream.readline(2**16)
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    length = header["bytes"]
    if type(length) is not int or not 0 <= length <= limit:
        raise EOFError
    contents = stream.read(length)
    if len(contents) != length:
        raise EOFError
    return header, contents


def send_array(stream: BinaryIO, array: NDArray[Any]) -> None:
    """Write an array of numbers."""
    array = np.ascontiguousarray(array)
    header = {"shape": list(array.shape), "dtype": str(array.dtype)}
    send(stream, header, array.tobytes())


def as_array(header: dict[str, Any], contents: bytes) -> NDArray[Any]:
    """Return the array of a message.

    Raises
    ------
    EOFError
        If it is none.
    """
    shape, dtype = header.get("shape"), header.get("dtype")
    if dtype not in _DTYPES or not isinstance(shape, list):
        raise EOFError
    try:
        return np.frombuffer(contents, dtype).reshape(shape)
    except (ValueError, TypeError) as error:
        raise EOFError from error


def main() -> None:
    """Answer tensors until standard input is closed."""
    # Libraries print what they like; that must not come between our messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    requests = sys.stdin.buffer
    try:
        header, weights = receive(requests, 2**32)
        _limit_memory(int(header["memory"]))
        run = _load(header["form"], weights)
        send(answers, {})
        while True:
            array = as_array(*receive(requests, 2**34))
            send_array(answers, run(array))
    except EOFError:
        return
    except InputError as error:
        send(answers, {"error": str(error)})
    except MemoryError:
        send(answers, {"error": "the model needs more memory than there is; use smaller tiles"})


def _limit_memory(size: int) -> None:
    """Let this process fail alone when a model asks for too much."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _load(form: str, weights: bytes) -> Any:
    if form == "onnx":
        from napari_unet.model.zoo.onnx_weights import load_onnx

        return load_onnx(weights)
    from napari_unet.model.zoo.torchscript import load_torchscript

    return load_torchscript(weights)


if __name__ == "__main__":
    main()
