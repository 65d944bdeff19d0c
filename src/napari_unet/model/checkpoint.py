"""Networks in files: safetensors with a few words of JSON, never pickle.

A model file is data: reading it runs no code. What it claims is checked from its header against
the network that it describes, before anything large is allocated.

The header's metadata, all strings, as safetensors demands:

==================  ============================================================================
``format``          "napari-unet"
``format_version``  "1"; another one is refused
``config``          the `UNetConfig` as a JSON object
``package_version``  what wrote the file, for people
``notes``           JSON object, may be missing: how the network is meant to be used, for the engine
==================  ============================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.ops.errors import InputError

_FORMAT = "napari-unet"
_FORMAT_VERSION = "1"
# Our longest header, of depth 6 with BatchNorm, has 12 KiB. safetensors itself would parse 100 MB.
_LONGEST_HEADER = 2**20
_DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}


def save_model(model: UNet, path: str | Path, notes: Mapping[str, Any] | None = None) -> Path:
    """Write a network to a file, which is either whole or not there at all.

    The file is written under a temporary name in the same folder and renamed when it is whole; an
    earlier file of that name is replaced only then.

    Parameters
    ----------
    model
        The network, on any device and in any memory layout. It must not change meanwhile. Weights
        of another precision are written as float32.
    path
        The file; by custom its name ends in ".safetensors".
    notes
        What else to keep in the file, fit for JSON; `load_notes` returns it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written, or weights are not finite.
    """
    path = _named(path)
    expected = _expected_tensors(model.config)
    tensors = {
        name: tensor.detach().to("cpu", expected[name].dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    if problem := _unusable(tensors):
        raise InputError(
            f"the model was not saved, {problem}; start anew with a lower learning rate"
        )
    metadata = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "config": json.dumps(model.config.to_dict()),
        "package_version": _package_version(),
    }
    if notes:
        metadata["notes"] = json.dumps(notes)
    _write_atomically(path, save(tensors, metadata))
    return path


def load_model(path: str | Path) -> UNet:
    """Read a network from a file that `save_model` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    UNet
        On the processor, float32, in evaluation mode. It does not depend on the file any more.

    Raises
    ------
    InputError
        If the file cannot be read, is something else, is damaged, or does not hold what it claims.
    """
    path = _named(path)
    with _opened(path) as file:
        config = _read_config(path, file.metadata() or {})
        expected = _expected_tensors(config)
        _check_tensors(path, file, expected)
        # safetensors maps the file into memory: without a copy, who overwrites the file changes
        # the network, and who cuts it short ends the program.
        tensors = {name: file.get_tensor(name).clone() for name in expected}
    if problem := _unusable(tensors):
        raise InputError(f"{path} is damaged, {problem}; choose another copy of the model")
    model = _without_weights(config)
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def load_notes(path: str | Path) -> dict[str, Any]:
    """Read the notes of a model file; empty if it has none.

    Raises
    ------
    InputError
        If the file cannot be read or is something else.
    """
    path = _named(path)
    with _opened(path) as file:
        text = (file.metadata() or {}).get("notes", "{}")
    try:
        notes = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its notes are not JSON") from error
    if not isinstance(notes, dict):
        raise _damaged(path, "its notes are not a table")
    return notes


# ---------------------------------------------------------------------------- contents


def _without_weights(config: UNetConfig) -> UNet:
    """Make a network that takes no memory and draws no random numbers."""
    with torch.device("meta"):
        return UNet.from_config(config)


def _expected_tensors(config: UNetConfig) -> dict[str, Tensor]:
    """Name, shape and dtype of every tensor of a network; they hold nothing."""
    return dict(_without_weights(config).state_dict())


def _unusable(tensors: dict[str, Tensor]) -> str | None:
    """Say which weights no network can have learned; None if all is well."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            return f"its weights {name} are not finite"
        if name.endswith("running_var") and (tensor < 0).any():
            return f"its variances {name} are negative"
    return None


def _read_config(path: Path, metadata: dict[str, str]) -> UNetConfig:
    """Read what the header says about the network."""
    if metadata.get("format") != _FORMAT:
        raise InputError(f"{path} is from another program; choose a model saved by napari-unet")
    if (written := metadata.get("format_version")) != _FORMAT_VERSION:
        raise InputError(
            f"{path} is in version {str(written)[:20]} of the format, and this program reads "
            f"version {_FORMAT_VERSION}; update napari-unet"
        )
    try:
        values = json.loads(metadata.get("config", ""))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its configuration is not JSON") from error
    try:
        return UNetConfig.from_dict(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_tensors(path: Path, file: Any, expected: dict[str, Tensor]) -> None:
    """Compare the header's tensors to those of the network, reading none of them."""
    if wrong := sorted(set(file.keys()).symmetric_difference(expected)):
        raise _damaged(path, f"{wrong[0][:80]!r} is missing or does not belong to it")
    for name, tensor in expected.items():
        entry = file.get_slice(name)
        shape, dtype = tuple(entry.get_shape()), entry.get_dtype()
        if shape != tuple(tensor.shape) or dtype != _DTYPE_NAMES[tensor.dtype]:
            raise _damaged(
                path,
                f"{name} is {dtype} {shape} instead of "
                f"{_DTYPE_NAMES[tensor.dtype]} {tuple(tensor.shape)}",
            )


def _package_version() -> str:
    try:
        return version("napari-unet")
    except PackageNotFoundError:  # run from its source folder
        return "unknown"


# ---------------------------------------------------------------------------- files


def _named(path: str | Path) -> Path:
    """Refuse a name that no file can have: a zero byte or half a character in it."""
    path = Path(path)
    try:
        with suppress(OSError):  # whether the file is there is for others to say
            path.lstat()
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no file name; choose another one") from error
    return path


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; everything that is wrong with it becomes an InputError."""
    start = _first_bytes(path)
    if int.from_bytes(start, "little") > _LONGEST_HEADER:
        raise _no_model(path, start)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise _no_model(path, start) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _first_bytes(path: Path) -> bytes:
    """Read the 8 bytes that hold the length of the header."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; choose the model file in it")
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise InputError(f"{path} is not a file; choose a model file")
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not start:
        raise InputError(f"{path} is empty; choose another copy of the model")
    return start


def _no_model(path: Path, start: bytes) -> InputError:
    """Say what a file that is not safetensors seems to be, by its first bytes."""
    # Only asked when safetensors has refused the file: the length of a header may begin like this.
    if start.startswith((b"PK", b"\x80")):
        return InputError(
            f"{path} is a pickled PyTorch file, which could run code when it is opened; "
            "choose a .safetensors model saved by napari-unet"
        )
    return InputError(
        f"{path} is cut off, damaged or no model; choose a .safetensors model saved by napari-unet"
    )


def _damaged(path: Path, problem: str) -> InputError:
    return InputError(f"{path} is damaged, {problem}; choose another copy of the model")


def _unreadable(path: Path, error: OSError) -> InputError:
    reason = (error.strerror or "reading failed").lower()
    return InputError(f"{path} cannot be read: {reason}; choose a model file")


def _write_atomically(path: Path, contents: bytes) -> None:
    """Write a file so that a crash, a full disk or a second writer leaves a whole one."""
    # os.path, because pathlib raises on names that are too long and folders that are closed to us.
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; add the name of the model file")
    partial = path.parent / f".{uuid4().hex}.tmp"
    try:
        with partial.open("xb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())  # else the new name may outlive a power cut, not the contents
        os.replace(partial, path)
    except FileNotFoundError as error:
        raise InputError(f"there is no folder {path.parent}; make it first") from error
    except OSError as error:
        reason = (error.strerror or "writing failed").lower()
        raise InputError(f"{path} cannot be written: {reason}; choose another folder") from error
    finally:
        with suppress(OSError):  # it was renamed, never made, or the folder went away
            partial.unlink()
