"""Feed the readers of models from elsewhere what no program wrote: only InputError comes out.

Usage: python benchmarks/fuzz_packages.py [--inputs 100000] [--readers model,zip,...] [--seed 0]
       [--keep FOLDER]

Each reader gets so many inputs, each a good one with something wrong in it: bytes changed, cut out,
repeated or put in, or values of its JSON or YAML replaced by hostile ones. Nothing of what is read
is run: what runs foreign networks does so in a process of its own. The table counts what was
refused and what was accepted; the script ends with 1 if anything but InputError was raised, or an
input took longer than 10 s. Those inputs are kept in FOLDER.

Readers: model (our model file), zip (a package's files), description (its YAML), array (test
tensors), onnx and torchscript (weights, as they are checked before they are loaded).
"""

from __future__ import annotations

import argparse
import copy
import importlib
import io
import json
import os
import pickle
import random
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
import yaml
from report import table

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

_LONGEST = 10
_STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 2**31, 2**63, -(2**64), 1.5, 1e-300, 1e300, float("nan"), float("inf"),
    "", "x", "y", "batch", "channel", "custom", "scale_range", "../../x", "/etc/passwd", "a\0b",
    "https://example.com/x", "0" * 3000, "\u202e", [], [0], ["y", "x"], [[[[]]]], [1e9] * 40, {},
    {"min": 0, "step": 0}, {"min": 2**40, "step": 2**40}, {"tensor_id": "raw", "axis_id": "y"},
    {"source": "../x"}, {"a": {"b": {"c": {}}}},
)  # fmt: skip
_TOKENS = (
    b"&a ", b"*a ", b"!!python/object ", b"<<: ", b"\n- ", b"{", b"[" * 60, b"0x", b"PK\3\4",
    b"PK\5\6", b"\xff\xff\xff\xff", b"\0" * 8, b"\x80\4", b"torch.from_file(", b"(1,) * 9",
)  # fmt: skip


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
        signal.alarm(_LONGEST)
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


def main() -> None:
    """Feed inputs and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of each reader")
    parser.add_argument("--readers", default="", help="names with commas between; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that found a fault")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # torch's, about TorchScript
    torch.set_num_threads(1)
    names = [name for name in options.readers.split(",") if name]
    # In memory, if there is such a folder: inputs are files for some readers.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        readers = fuzz(Path(folder), options.inputs, options.seed, names)
    print(as_table(readers))
    for reader in readers:
        for number, (what, contents) in enumerate(reader.faults):
            print(f"{reader.name}: {what}", file=sys.stderr)
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{reader.name}-{number}").write_bytes(contents)
    sys.exit(any(reader.faults for reader in readers))


def fuzz(folder: Path, inputs: int, seed: int = 0, names: list[str] | None = None) -> list[Reader]:
    """Feed every reader so many inputs.

    Parameters
    ----------
    folder
        An empty folder.
    inputs
        How many, of each reader.
    seed
        The same seed gives the same inputs.
    names
        Which readers; all by default.
    """
    previous = signal.signal(signal.SIGALRM, _took_too_long)
    try:
        readers = [each for each in make_readers(folder) if not names or each.name in names]
        for reader in readers:
            rng = random.Random(f"{seed} {reader.name}")
            for good in reader.seeds:
                reader.read(good)  # else nothing is tested
            start = time.process_time()
            for _ in range(inputs):
                reader.feed(spoiled(rng, reader))
            reader.seconds = time.process_time() - start
    finally:
        signal.signal(signal.SIGALRM, previous)
    return readers


def as_table(readers: list[Reader]) -> str:
    """Return the counts as a markdown table."""
    header = ["reader", "inputs", "refused", "accepted", "faults", "slowest"]
    header.append("processor time of 1000")
    rows = [
        [
            each.name,
            _count(each),
            each.refused,
            each.accepted,
            len(each.faults),
            f"{1000 * each.slowest:.0f} ms",
            f"{1000 * each.seconds / max(_count(each), 1):.2f} s",
        ]
        for each in readers
    ]
    return table(header, rows)


def _count(reader: Reader) -> int:
    return reader.refused + reader.accepted + len(reader.faults)


def _took_too_long(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError(f"more than {_LONGEST} s")


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


# ---------------------------------------------------------------------------- what goes in


def spoiled(rng: random.Random, reader: Reader) -> bytes:
    """Return a good input with something wrong in it."""
    good = rng.choice(reader.seeds)
    if reader.loads is None or reader.dumps is None or rng.random() < 0.4:
        return _spoiled_bytes(rng, good)
    values = reader.values(good)
    for _ in range(rng.randint(1, 3)):
        holder, key = _somewhere(rng, values)
        action = rng.random()
        if holder is None or action < 0.1:
            continue
        if action < 0.25:
            del holder[key]
        elif action < 0.35 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(rng.choice(_STRANGE))
    try:
        return reader.dumps(values)
    except (ValueError, TypeError, OverflowError, LookupError):  # what the writer itself refuses
        return _spoiled_bytes(rng, good)


def _somewhere(rng: random.Random, values: Any) -> tuple[Any, Any]:
    """Return a table or list inside of `values`, and one of its keys."""
    holder, key = None, None
    inner = values
    while isinstance(inner, dict | list) and inner and (holder is None or rng.random() < 0.8):
        holder = inner
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        inner = inner[key]
    return holder, key


def _spoiled_bytes(rng: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 100))
        kind = rng.randrange(6)
        if kind == 0:
            data[at : at + length] = rng.randbytes(length)
        elif kind == 1:
            data[at : at + 1] = bytes((rng.choice((0, 1, 127, 128, 255)),))
        elif kind == 2:
            data[at:at] = rng.choice(_TOKENS)
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[max(0, at - length) : at]
        else:
            data[at : at + 8] = rng.choice((0, 2**16, 2**31, 2**40, 2**63)).to_bytes(8, "little")
    return bytes(data)


if __name__ == "__main__":
    main()
