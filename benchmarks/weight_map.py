"""The weight map against one distance transform per object, the way it is usually computed.

The usual way stacks the distances to every object and sorts them at each pixel, so its time and
memory grow as objects times pixels. Where the stack does not fit, its time is extrapolated from a
few of its distance transforms, without the sorting (marked ~, so it is a lower bound), and our
values are compared at random pixels instead of at all.

Usage: python benchmarks/weight_map.py [--repeats 3] [--quick] [--output FILE]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from report import publish, seconds, table
from scipy import ndimage

from napari_unet.ops.synthetic import touching_cells
from napari_unet.ops.weight_map import separate_touching, weight_map

W0, SIGMA = 10.0, 5.0
# The stack may take this share of the free memory, and at most this many bytes.
_MEMORY_SHARE = 0.3
_MEMORY_LIMIT = 4 * 2**30
_EXTRAPOLATED_FROM = 3
_SAMPLED_PIXELS = 100


def formula(labels: NDArray[np.int32], d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return equation 2 without class balance, from distances whose first axis is sorted."""
    border = W0 * np.exp(-((d[0] + d[1]) ** 2) / (2 * SIGMA**2))
    return 1 + border * (labels == 0)


def reference(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the weight map in the usual way; memory grows as objects times pixels."""
    distances = np.empty((labels.max(), *labels.shape))
    for label, distance in enumerate(distances, start=1):
        distance[...] = ndimage.distance_transform_edt(labels != label)
    distances.sort(axis=0)
    return formula(labels, distances)


def reference_at(
    labels: NDArray[np.int32], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the weights at a few pixels, from the distances to all pixels of all objects."""
    inside = np.argwhere(labels)
    owner = labels[labels > 0]
    order = np.argsort(owner, kind="stable")
    inside, starts = inside[order].astype(float), np.searchsorted(owner[order], np.unique(owner))
    nearest = np.empty((2, len(rows)))
    for k, pixel in enumerate(zip(rows, columns, strict=True)):
        distances = np.hypot(*(inside - pixel).T)
        nearest[:, k] = np.sort(np.minimum.reduceat(distances, starts))[:2]
    return formula(labels[rows, columns], nearest)


def extrapolate(labels: NDArray[np.int32]) -> float:
    """Return about how many seconds the distance transforms of all objects take."""
    start = time.perf_counter()
    for label in range(1, _EXTRAPOLATED_FROM + 1):
        ndimage.distance_transform_edt(labels != label)
    return (time.perf_counter() - start) / _EXTRAPOLATED_FROM * int(labels.max())


def row(side: int, cells: int, repeats: int) -> list[str]:
    """Measure one size."""
    _, labels = touching_cells((side, side), cells)
    count = int(labels.max())
    ours = seconds(lambda: weight_map(labels, W0, SIGMA, balance=0), repeats)
    weights = weight_map(labels, W0, SIGMA, balance=0)
    separated = separate_touching(labels)
    stack = 8 * count * labels.size
    fits = stack < min(_MEMORY_LIMIT, _MEMORY_SHARE * psutil.virtual_memory().available)
    if fits:
        start = time.perf_counter()
        expected = reference(separated)
        theirs = time.perf_counter() - start
        difference = np.abs(weights - expected).max()
    else:
        theirs = extrapolate(separated)
        rng = np.random.default_rng(0)
        # Where the border term is not negligible.
        near = np.argwhere((separated == 0) & (weights > 1.01))
        chosen = near[rng.integers(len(near), size=_SAMPLED_PIXELS)]
        expected = reference_at(separated, *chosen.T)
        difference = np.abs(weights[tuple(chosen.T)] - expected).max()
    about = "" if fits else "~"
    return [
        f"{side} x {side}",
        str(count),
        f"{ours:.2f}",
        f"{about}{theirs:.1f}",
        f"{stack / 2**30:.1f}",
        f"{about}{theirs / ours:.0f} x",
        f"{difference:.1e}" + ("" if fits else f" at {_SAMPLED_PIXELS} pixels"),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="ours is the median of these")
    parser.add_argument("--quick", action="store_true", help="the smallest and the largest only")
    parser.add_argument("--output", type=Path, help="write the table into this file too")
    arguments = parser.parse_args()
    sizes = [
        (512, 50),
        (512, 200),
        (1024, 50),
        (1024, 200),
        (1024, 1000),
        (2048, 200),
        (2048, 1000),
    ]
    if arguments.quick:
        sizes = [sizes[0], sizes[-1]]
    text = table(
        [
            "image",
            "objects",
            "ours, s",
            "one transform per object, s",
            "its memory, GiB",
            "gain",
            "largest difference",
        ],
        [row(side, cells, max(1, arguments.repeats)) for side, cells in sizes],
    )
    publish(f"Weight map, w0 = {W0:g}, sigma = {SIGMA:g}", text, arguments.output)


if __name__ == "__main__":
    main()
