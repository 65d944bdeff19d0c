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
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from fuzz_packages_readers import LONGEST, Reader, make_readers
from report import table

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
    raise TimeoutError(f"more than {LONGEST} s")


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
