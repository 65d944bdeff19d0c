"""An array of any size from disk to disk: throughput, peak memory, and going on after a kill.

Every figure comes from a process of its own. The rate in memory is that of
`napari_unet.engine.predict.predict` on an array of the same values that fits into memory (at most
4096 pixels a side), measured before and after the run on zarr. The memory is what the process holds
resident above what it held when everything was loaded and nothing computed, looked at 50 times a
second. For the last column the job is killed (SIGKILL) when a part of its tiles is marked, and
started again.

The weights are random, for which "auto" would find bfloat16 too coarse; "fast" takes it unchecked.

    python benchmarks/big_array.py                       2048 and 4096 pixels a side
    python benchmarks/big_array.py --sides 30000 --folder /scratch
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import zarr
from report import publish, table
from scipy.ndimage import gaussian_filter

from napari_unet.engine.arrays.events import ArrayFinished, OutputOpened, TilesWritten
from napari_unet.engine.arrays.predict_array import PredictArrayRequest, predict_array
from napari_unet.engine.arrays.source import open_source
from napari_unet.engine.plan import choose_plan
from napari_unet.engine.predict import predict
from napari_unet.model.unet import UNet

_CHUNK = 512
_PATTERN = 2048
_IN_MEMORY = 4096
# Share of the tiles after which the job is killed.
_KILLED_AT = 0.4


def make_input(path: Path, side: int) -> None:
    """Store an 8-bit image of blobs and noise: one pattern again and again, each brighter."""
    rng = np.random.default_rng(0)
    blobs = gaussian_filter(rng.random((_PATTERN, _PATTERN), np.float32), 8, mode="wrap")
    blobs = (blobs - blobs.min()) / np.ptp(blobs)
    pattern = blobs * 180 + rng.normal(0, 6, blobs.shape).astype(np.float32) + 20
    image = zarr.create_array(
        path, shape=(side, side), chunks=(_CHUNK, _CHUNK), dtype="uint8", overwrite=True
    )
    for number, top in enumerate(range(0, side, _PATTERN)):
        rows = min(_PATTERN, side - top)
        strip = np.tile(pattern[:rows], (1, -(-side // _PATTERN)))[:, :side] + number % 16
        image[top : top + rows] = np.clip(strip, 0, 255).astype(np.uint8)


def network() -> UNet:
    """Make the 16-channel network of the paper's depth, always the same."""
    torch.manual_seed(0)
    return UNet(base_channels=16, depth=4, batch_norm=True).eval()


class PeakMemory:
    """Samples the resident memory of this process until it is left."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.idle = self.peak = self._process.memory_info().rss

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)


def run_in_memory(source: Path, precision: str) -> dict[str, Any]:
    """Predict the corner that fits into memory; the rate in megapixels a second."""
    model = network()
    choose_plan(model.config, "predict", precision)  # type: ignore[arg-type]
    image = np.asarray(zarr.open_array(source, mode="r")[:_IN_MEMORY, :_IN_MEMORY])
    start = time.perf_counter()
    predict(model, image, precision=precision)  # type: ignore[arg-type]
    return {"rate": image.size / (time.perf_counter() - start) / 1e6}


def run_on_zarr(source: Path, output: Path, precision: str) -> dict[str, Any]:
    """Predict from disk to disk, or go on with it; prints how many tiles are marked meanwhile."""
    model = network()
    choose_plan(model.config, "predict", precision)  # type: ignore[arg-type]
    array, _ = open_source(source, 2)
    request = PredictArrayRequest(array, output, precision=precision)  # type: ignore[arg-type]
    found, total = 0, 0
    with PeakMemory() as memory:
        for event in predict_array(model, request):
            match event:
                case OutputOpened():
                    found, total = event.done, event.total
                    print(f"total {total} found {found}", flush=True)
                case TilesWritten():
                    print(f"done {event.done}", flush=True)
                case ArrayFinished():
                    finished = event
    return {
        "rate": finished.pixels / finished.seconds / 1e6,
        "seconds": finished.seconds,
        "tiles": total,
        "found": found,
        "idle": memory.idle,
        "peak": memory.peak,
    }


def child(*arguments: object, kill_at: float | None = None) -> dict[str, Any]:
    """Run this script for one figure; killed at a share of the tiles it returns how many it did."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    total, done = 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            word, value, *_ = [*line.split(maxsplit=1), ""]
            if word == "total":
                total = int(value.split()[0])
            elif word == "done":
                done = int(value)
                if kill_at is not None and done >= kill_at * total:
                    process.kill()
                    return {"done": done}
            elif word == "result":
                result: dict[str, Any] = json.loads(value)
                return result
    raise SystemExit(f"failed: {command}")


def row(side: int, folder: Path, precision: str, *, killing: bool = True) -> list[str]:
    """Measure one side."""
    source, output = (folder / f"{side}-{n}.zarr" for n in ("in", "out"))
    make_input(source, side)
    before = child("memory", source, precision)
    result = child("zarr", source, output, precision)
    after = child("memory", source, precision)
    after_kill = _after_kill(source, output, side, precision) if killing else ""
    in_memory = (before["rate"] + after["rate"]) / 2
    for path in (source, output):
        shutil.rmtree(path)
    return [
        f"{side} x {side}",
        str(result["tiles"]),
        f"{before['rate']:.2f}, {after['rate']:.2f}",
        f"{result['rate']:.2f}",
        f"{result['rate'] / in_memory:.1%}",
        f"{(result['peak'] - result['idle']) / 2**20:.0f}",
        after_kill,
    ]


def _after_kill(source: Path, output: Path, side: int, precision: str) -> str:
    """Kill the job in the middle, start it again, and compare with what it wrote at one go."""
    again = output.with_name(f"{side}-again.zarr")
    killed = child("zarr", source, again, precision, kill_at=_KILLED_AT)
    resumed = child("zarr", source, again, precision)
    same = all(
        np.array_equal(
            zarr.open_group(output)["probabilities"][:, top : top + _CHUNK],
            zarr.open_group(again)["probabilities"][:, top : top + _CHUNK],
        )
        for top in range(0, side, _CHUNK)
    )
    shutil.rmtree(again)
    return (
        f"killed at {killed['done']}, {resumed['found']} found, "
        f"{'the same' if same else 'ANOTHER'} result"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--precision", choices=["fast", "fp32"], default="fast")
    parser.add_argument("--folder", type=Path, help="where the arrays lie meanwhile")
    parser.add_argument("--no-kill", action="store_true", help="half of the time it takes")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, *paths, precision = arguments.child
        run = run_in_memory if kind == "memory" else run_on_zarr
        print("result", json.dumps(run(*map(Path, paths), precision)), flush=True)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = [
            row(side, Path(folder), arguments.precision, killing=not arguments.no_kill)
            for side in arguments.sides
        ]
    header = [
        "array",
        "tiles",
        "in memory before and after, Mpx/s",
        "zarr to zarr, Mpx/s",
        "of in memory",
        "peak memory above idle, MiB",
        "killed and started again",
    ]
    plan = choose_plan(network().config, "predict", arguments.precision)
    text = f"16 channels, {plan.name}\n\n{table(header, rows)}"
    publish("An array of any size", text, arguments.output)


if __name__ == "__main__":
    main()
