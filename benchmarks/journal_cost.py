"""How long a stroke waits for the journal, on the side of whoever paints.

Usage: python benchmarks/journal_cost.py [--strokes 300]

Strokes of a brush go into a layer as napari paints them; what watches the layer finds out what
differs and hands it to the project. Timed is `Project.append` alone, which packs the stroke and
gives it to the system, and everything that follows the stroke. Strokes have a pause of 50 ms
between them, and the disk is synced meanwhile.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtWidgets import QApplication
from report import table

from napari_unet.engine.journal import Header, LayerAdded, Painted, Project
from napari_unet.viewer.project.watch import LayerWatch

_PAUSE = 0.05


def main() -> None:
    """Paint and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strokes", type=int, default=300)
    options = parser.parse_args()
    application = QApplication.instance() or QApplication([])  # the watch has a timer
    rows = []
    for side, brush in ((512, 20), (4096, 20), (4096, 160)):
        for dtype in ("uint8", "int32"):
            with tempfile.TemporaryDirectory() as folder:
                found = measure(Path(folder) / "project", side, brush, dtype, options.strokes)
            rows.append([f"{side} x {side}, {dtype}", brush, *_figures(*found)])
    header = ["layer", "brush, pixels"]
    for what in ("append", "of that processor", "all"):
        header += [f"{what}, median", "99 %"]
    print(f"{platform.machine()}, {options.strokes} strokes each, milliseconds\n")
    print(table(header, rows))
    del application


class _TimedWatch(LayerWatch):
    """A watch that notes how long each stroke took it, in seconds."""

    took: list[float]

    def _on_painted(self, event: Any) -> None:
        start = time.perf_counter()
        super()._on_painted(event)
        self.took.append(time.perf_counter() - start)


def measure(
    folder: Path, side: int, brush: int, dtype: str, strokes: int
) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds that each stroke took: to append it, of the processor for that, in all."""
    project = Project.create(folder, Header("ab" * 32, "image", (side, side), "uint8"))
    project.append(LayerAdded("annotations", "annotations", "", (side, side), dtype))
    project.flush()
    appends: list[float] = []
    processor: list[float] = []

    def record(change: Painted, undoes: int, redoes: int) -> int:
        start, worked = time.perf_counter(), time.thread_time()
        number = project.append(change, undoes=undoes, redoes=redoes)
        appends.append(time.perf_counter() - start)
        processor.append(time.thread_time() - worked)
        return number

    layer = Labels(np.zeros((side, side), dtype))
    layer.brush_size = brush
    watch = _TimedWatch(layer, "annotations", record)
    watch.took = []
    rng = np.random.default_rng(0)
    for _ in range(strokes):
        _paint(layer, rng, side, brush)
        time.sleep(_PAUSE)
    watch.close()
    if not project.close():
        raise SystemExit("the project could not be closed")
    return appends, processor, watch.took


def _paint(layer: Labels, rng: np.random.Generator, side: int, brush: int) -> None:
    """Paint a stroke of twenty dabs, as the mouse does."""
    place = rng.uniform(brush, side - brush, 2)
    angle = rng.uniform(0, 2 * np.pi)
    step = np.array([np.sin(angle), np.cos(angle)]) * brush / 2
    label = int(rng.integers(1, 4))
    with layer.block_history():
        for _ in range(20):
            layer.paint(tuple(np.clip(place, 0, side - 1)), label)
            place += step


def _figures(*times: list[float]) -> list[str]:
    return [
        f"{1000 * float(np.percentile(each, share)):.2f}" for each in times for share in (50, 99)
    ]


if __name__ == "__main__":
    main()
