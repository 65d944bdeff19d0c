"""A project at some moment in a folder: JSON, and a Zarr array for each layer.

With it a journal of a hundred thousand strokes opens without taking in each of them. The arrays
are Zarr, version 3, with one small set of codecs (``bytes``, ``gzip``), so that any reader of Zarr
opens them. They are written and read here in a few lines rather than by the zarr package: what is
read may come from a stranger, so every file is checked for its name, size and hash first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Final

from napari_unet.engine.journal.blocks import Blocks, Place
from napari_unet.engine.journal.changes import ROLES, LayerAdded
from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.folder import opened, snapshot_name, sync_folder
from napari_unet.engine.journal.format import (
    DTYPES,
    FORMAT,
    LARGEST_BOX,
    VERSION,
    JournalError,
    compress,
    decompress,
    read_json,
)
from napari_unet.engine.journal.records import model_values, read_model, read_region, region_values
from napari_unet.engine.journal.state import (
    MOST_BYTES,
    History,
    LayerState,
    ProjectState,
)

_MANIFEST: Final = "snapshot.json"
_LONGEST_MANIFEST: Final = 256 * 2**20
_CHUNK = re.compile(r"c(/\d{1,10}){1,8}")
_LAYER = re.compile(r"[a-z0-9-]{1,40}")
_MOST_CHUNKS: Final = 1_000_000


def write_snapshot(folder: Path, state: ProjectState) -> Path:
    """Write a snapshot beside the journal; it is whole or not there.

    Parameters
    ----------
    folder
        Of the project.
    state
        What it holds; must not change meanwhile.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = folder / snapshot_name(state.last)
    partial = folder / f".{path.name}.{os.getpid()}.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        layers = {}
        for name, layer in state.layers.items():
            hashes = _write_array(partial / "layers" / name, layer.pixels)
            added = layer.added
            layers[name] = {
                "role": added.role,
                "name": added.name,
                "shape": list(added.shape),
                "dtype": added.dtype,
                "sha256": hashes,
            }
        values = {"format": FORMAT, "version": VERSION, "layers": layers, **_rest(state)}
        _write_synced(partial / _MANIFEST, json.dumps(values).encode("ascii"))
        os.replace(partial, path)
        sync_folder(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _rest(state: ProjectState) -> dict[str, Any]:
    return {
        "last": state.last,
        "regions": {str(number): region_values(r) for number, r in state.regions.items()},
        "accepted": list(state.accepted),
        "model": model_values(state.model),
        "settings": dict(state.settings),
        "view": dict(state.view),
        "undo": state.history.undo,
        "redo": state.history.redo,
        "joined": sorted(state.history.joined),
    }


def _write_array(path: Path, pixels: Blocks) -> dict[str, str]:
    """Write a Zarr array and return the hash of each of its chunks by its key."""
    path.mkdir(parents=True)
    header = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(pixels.shape),
        "data_type": pixels.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(pixels.block)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if pixels.dtype == "bool" else 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 1}},
        ],
        "attributes": {},
    }
    _write_synced(path / "zarr.json", json.dumps(header).encode("ascii"))
    hashes = {}
    for place, block in pixels.blocks.items():
        key = "/".join(["c", *map(str, place)])
        packed = compress(block)
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        _write_synced(path / key, packed)
        hashes[key] = hashlib.sha256(packed).hexdigest()
    return hashes


def _write_synced(path: Path, contents: bytes) -> None:
    with path.open("xb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


# ---------------------------------------------------------------------------- reading


def read_snapshot(path: Path) -> ProjectState:
    """Read a snapshot.

    Raises
    ------
    JournalError
        If it is damaged, or holds what no snapshot holds.
    """
    with opened(path / _MANIFEST) as file:
        values = Checked(read_json(file.read(_LONGEST_MANIFEST)))
    if values.get("format") != FORMAT or values.get("version") != VERSION:
        raise JournalError(f"{path.name} is of another program or version")
    layers = {
        name: _read_layer(path / "layers" / name, name, layer)
        for name, layer in values.items("layers", 1000).items()
        if _is_layer(name)
    }
    regions = {
        _number(number): read_region(region)
        for number, region in values.items("regions", 100_000).items()
    }
    history = History(
        list(values.wholes("undo")), list(values.wholes("redo")), set(values.wholes("joined"))
    )
    return ProjectState(
        layers,
        regions,
        values.wholes("accepted"),
        read_model(values.optional("model")),
        values.table("settings"),
        values.table("view"),
        history,
        values.whole("last", 0),
    )


def _is_layer(name: str) -> bool:
    if not _LAYER.fullmatch(name):
        raise JournalError("a layer has no proper id")
    return True


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text):
        raise JournalError("an accepted region has no number")
    return int(text)


def _read_layer(path: Path, name: str, values: Checked) -> LayerState:
    role = values.choice("role", ROLES)
    added = LayerAdded(
        name,
        next(each for each in ROLES if each == role),
        values.text("name", 200, ""),
        values.shape("shape"),
        values.choice("dtype", DTYPES),
    )
    hashes = values.table_of_texts("sha256", _MOST_CHUNKS)
    pixels = Blocks(added.shape, added.dtype)
    for key, expected in hashes.items():
        if pixels.size > MOST_BYTES:
            raise JournalError("the pixels of a project take more memory than they may")
        pixels.put(_place(key), _read_chunk(path, key, expected, pixels))
    return LayerState(added, pixels)


def _place(key: str) -> Place:
    if not _CHUNK.fullmatch(key):
        raise JournalError("a chunk has no proper name")
    return tuple(int(number) for number in key.split("/")[1:])


def _read_chunk(path: Path, key: str, expected: str, pixels: Blocks) -> Any:
    with opened(path / key, path.parent.parent.parent) as file:
        packed = file.read(2 * LARGEST_BOX)
    if hashlib.sha256(packed).hexdigest() != expected:
        raise JournalError(f"the chunk {key} of a layer does not match its checksum")
    return decompress(packed, pixels.block, pixels.dtype)
