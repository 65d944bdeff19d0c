"""The readers that `fuzz_packages.py` feeds, good inputs for them, and what each of them did."""

from __future__ import annotations

import copy
import importlib
import io
import json
import pickle
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from napari_unet.model.checkpoint import load_model, load_notes, save_model
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.container import open_container
from napari_unet.model.zoo.description import parse_description, read_description
from napari_unet.model.zoo.foreign import parse_npy
from napari_unet.model.zoo.onnx_weights import check_onnx
from napari_unet.model.zoo.processing import operations
from napari_unet.model.zoo.torchscript import check_torchscript
from napari_unet.model.zoo.yaml_text import parse_yaml
from napari_unet.ops.errors import InputError

# Last, so that nothing there hides a module of this folder.
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
strange = importlib.import_module("strange_packages")

#: Seconds that an input may take.
LONGEST = 10


@dataclass
class Reader:
    """A reader, good inputs for it, and what was counted."""

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    loads: Callable[[bytes], Any] | None = None
    dumps: Callable[[Any], bytes] | None = None
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    faults: list[tuple[str, bytes]] = field(default_factory=list)
    # By good input: its values, packed, since to unpack them is quicker than to read YAML again.
    _parsed: dict[bytes, bytes] = field(default_factory=dict)

    def values(self, good: bytes) -> Any:
        """Return the values of a good input, to be changed."""
        if good not in self._parsed:
            assert self.loads is not None
            self._parsed[good] = pickle.dumps(self.loads(good))
        return pickle.loads(self._parsed[good])

    def feed(self, contents: bytes) -> None:
        """Read an input and count what came out."""
        start = time.perf_counter()
        signal.alarm(LONGEST)
        try:
            self.read(contents)
        except InputError:
            self.refused += 1
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            self.faults.append((f"{type(error).__name__}: {error}"[:200], contents))
        else:
            self.accepted += 1
        finally:
            signal.alarm(0)
        self.slowest = max(self.slowest, time.perf_counter() - start)


# ---------------------------------------------------------------------------- what reads


def make_readers(folder: Path) -> list[Reader]:
    """Return all readers, with good inputs for them."""
    file, package = folder / "input", folder / "input.zip"

    def read_model(contents: bytes) -> None:
        file.write_bytes(contents)
        load_model(file)
        load_notes(file)

    def read_zip(contents: bytes) -> None:
        package.write_bytes(contents)
        container = open_container(package)
        for name in container.names():
            container.read(name, 2**20)
        read_description(container)

    def read_description_text(contents: bytes) -> None:
        said = parse_description(parse_yaml(contents, "rdf.yaml"))
        operations(said.input, of_pixels=False)
        operations(said.output, of_pixels=True)

    files = strange.package_files()
    good = yaml.safe_load(files["bioimageio.yaml"])
    return [
        Reader("model", read_model, _models(folder), _header_values, _with_header),
        Reader(
            "zip",
            read_zip,
            (strange.write_zip(package, files).read_bytes(),),
            _zip_entries,
            _with_entries,
        ),
        Reader(
            "description",
            read_description_text,
            tuple(yaml.safe_dump(each).encode() for each in (_with_steps(good), _older(good))),
            yaml.safe_load,
            _yaml,
        ),
        Reader(
            "array",
            lambda contents: parse_npy(contents, "array"),
            (strange.npy(np.zeros((2, 3))), strange.npy(np.zeros((1, 1, 4, 4), np.uint8))),
        ),
        Reader("onnx", check_onnx, (strange.mean_filter_onnx(),)),
        Reader("torchscript", check_torchscript, _scripts()),
    ]


def _yaml(values: Any) -> bytes:
    """Write YAML, in C where there is some: it takes a tenth of the time."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return bytes(yaml.dump(values, Dumper=dumper, sort_keys=False).encode())


def _models(folder: Path) -> tuple[bytes, ...]:
    found = []
    for number, options in enumerate(({}, {"batch_norm": True, "in_channels": 3})):
        model = UNet(base_channels=1, depth=1, **options)
        path = save_model(model, folder / f"model-{number}", {"kind": "strokes"})
        found.append(path.read_bytes())
    return tuple(found)


def _header_values(contents: bytes) -> tuple[Any, bytes]:
    """Take a model file apart: its header's values, with those of its configuration, the rest."""
    length = int.from_bytes(contents[:8], "little")
    values = json.loads(contents[8 : 8 + length])
    values["__metadata__"]["config"] = json.loads(values["__metadata__"]["config"])
    return [values, contents[8 + length :].hex()]


def _with_header(values: Any) -> bytes:
    header, rest = values if isinstance(values, list) and len(values) == 2 else ({}, "")
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and not isinstance(metadata.get("config"), str):
        metadata["config"] = json.dumps(metadata.get("config"))
    text = json.dumps(header).encode()
    try:
        body = bytes.fromhex(rest)
    except (ValueError, TypeError):
        body = b""
    return len(text).to_bytes(8, "little") + text + body


def _zip_entries(contents: bytes) -> Any:
    """Take a zip apart: name, attributes, kind of compression and contents of every file."""
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        return [
            [entry.filename, entry.external_attr, entry.compress_type, archive.read(entry).hex()]
            for entry in archive.infolist()
        ]


def _with_entries(entries: Any) -> bytes:
    """Write a zip whose checksums are right, whatever its names and attributes are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, attributes, kind, contents in entries:
            entry = zipfile.ZipInfo("entry")
            entry.filename = str(name)  # as it is: ZipInfo itself would mend it
            entry.external_attr = int(attributes) % 2**32
            entry.compress_type = kind if kind in (0, 8, 12, 14) else 8
            archive.writestr(entry, bytes.fromhex(contents))
    return file.getvalue()


def _with_steps(values: dict[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(values)
    values["inputs"][0]["preprocessing"] = [
        {"id": "scale_range", "kwargs": {"axes": ["y", "x"], "min_percentile": 1, "eps": 1e-6}},
        {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["x"]}},
        {"id": "clip", "kwargs": {"min": -1, "max": 5}},
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
    ]
    values["outputs"][0]["postprocessing"] = [
        {"id": "sigmoid"},
        {"id": "scale_linear", "kwargs": {"gain": [1.0], "offset": 0.0}},
        {"id": "binarize", "kwargs": {"threshold": 0.5}},
    ]
    values["cite"] = [{"text": "a paper", "doi": "10.1234/abc"}]
    values["config"] = {"napari_unet": {"weights": "model.safetensors"}}
    return values


def _older(values: dict[str, Any]) -> dict[str, Any]:
    shape = {"min": [1, 1, 16, 16], "step": [0, 0, 8, 8]}
    step = {"name": "zero_mean_unit_variance", "kwargs": {"mode": "fixed", "mean": 1, "std": 2}}
    scale = {"reference_tensor": "raw", "scale": [1, 1, 1, 1], "offset": [0, 0.5, -2, -2]}
    return {
        "format_version": "0.4.9",
        "inputs": [{"name": "raw", "axes": "bcyx", "shape": shape, "preprocessing": [step]}],
        "outputs": [{"name": "out", "axes": "bcyx", "shape": scale, "halo": [0, 0, 4, 4]}],
        "test_inputs": ["in.npy"],
        "test_outputs": ["out.npy"],
        "weights": values["weights"],
    }


def _scripts() -> tuple[bytes, ...]:
    """Return a short script, and one that calls much of torch's own code."""
    found = []
    for further in ((), (torch.nn.Upsample(2),)):
        file = io.BytesIO()
        module = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.ReLU(), *further)
        torch.jit.save(torch.jit.script(module), file)
        found.append(file.getvalue())
    return tuple(found)
