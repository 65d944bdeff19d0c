"""The same array on a local Dask cluster of one and more workers: throughput and the same bits.

Every worker is a process with one thread; on one machine they share its cores, so more workers than
cores bring nothing. What is measured is what the cluster costs: the rate against a single process
with one thread, and whether the answer in float32 is the same bit for bit.

    python benchmarks/cluster.py                  one and two workers, 4096 pixels a side
    python benchmarks/cluster.py --workers 1 2 4 8 --side 8192
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr
from big_array import make_input, network
from report import publish, table

from napari_unet.engine.arrays.cluster import predict_array_on_cluster
from napari_unet.engine.arrays.events import ArrayFinished
from napari_unet.engine.arrays.predict_array import (
    ArrayEvent,
    PredictArrayRequest,
    predict_array,
)
from napari_unet.engine.arrays.source import open_source

_ROWS = 512


def request(folder: Path, name: str) -> PredictArrayRequest:
    """Ask for the array in float32."""
    source, _ = open_source(folder / "in.zarr", 2)
    return PredictArrayRequest(source, folder / name, precision="fp32", dtype="float32")


def rate(last: ArrayEvent) -> float:
    """Return the megapixels a second of a job by its last event."""
    assert isinstance(last, ArrayFinished)
    return last.pixels / last.seconds / 1e6


def equal(folder: Path, name: str, other: str) -> bool:
    """Compare two outputs bit for bit, strip by strip."""
    first, second = (zarr.open_group(folder / n, mode="r")["probabilities"] for n in (name, other))
    return all(
        np.array_equal(first[:, top : top + _ROWS], second[:, top : top + _ROWS])
        for top in range(0, first.shape[1], _ROWS)
    )


def main() -> None:
    """Run the benchmark."""
    from distributed import LocalCluster

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="where the arrays lie meanwhile")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = network()
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        make_input(folder / "in.zarr", arguments.side)
        *_, last = predict_array(model, request(folder, "alone.zarr"))
        alone = rate(last)
        rows.append(["one process, one thread", f"{alone:.2f}", "1.00", "", ""])
        for count in arguments.workers:
            started = time.perf_counter()
            with LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
            ) as cluster:
                up = time.perf_counter() - started
                together = request(folder, f"{count}.zarr")
                *_, last = predict_array_on_cluster(model, together, cluster.scheduler_address)
            same = "yes" if equal(folder, "alone.zarr", f"{count}.zarr") else "NO"
            ratio = f"{rate(last) / alone:.2f}"
            rows.append([f"{count} workers", f"{rate(last):.2f}", ratio, same, f"{up:.1f}"])
    header = ["", "Mpx/s", "times one process", "same bits", "cluster up, s"]
    title = f"A Dask cluster on this machine, {arguments.side} pixels a side, 16 channels, fp32"
    publish(title, table(header, rows), arguments.output)


if __name__ == "__main__":
    main()
