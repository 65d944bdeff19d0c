"""How long it takes until one can begin: the import, the command line's help, a dock in napari.

Each in a process of its own, several times; wall clock and processor time. A dock is opened as
napari's menu opens it, in a window that is up, and has to be drawn. It says then that torch is
being loaded, which goes on in the background; how long it takes until the dock can be used, and for
how long at most the window did not answer meanwhile, is measured as well.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/start.py [--quick] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

_DOCKS = ("Fine-tune", "Click", "Predict", "Train", "Weight map", "Evaluate")
_HEAD = ["", "ms", "processor time, ms", "asked for", "can be used, ms", "longest block, ms"]
_IMPORT = """
import time, json
wall, processor = time.perf_counter(), time.process_time()
import napari_unet
print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]))
"""


def open_dock(name: str) -> None:
    """Open a window, then a dock, and print how long the dock took."""
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer()
    viewer.add_image(np.zeros((512, 512), np.uint8))
    for _ in range(5):
        QApplication.processEvents()
        time.sleep(0.1)
    wall, processor = time.perf_counter(), time.process_time()
    _, widget = viewer.window.add_plugin_dock_widget("napari-unet", name)
    while widget.visibleRegion().isEmpty():
        QApplication.processEvents()
    widget.grab()
    QApplication.processEvents()
    times = [time.perf_counter() - wall, time.process_time() - processor]
    blocked, last = 0.0, time.perf_counter()
    while widget.inner is None:
        QApplication.processEvents()
        time.sleep(0.002)
        blocked, last = max(blocked, time.perf_counter() - last), time.perf_counter()
    times += [time.perf_counter() - wall, blocked]
    print(json.dumps(times), flush=True)
    viewer.close()


def answer(*command: str) -> list[float]:
    """Run a fresh Python and return the list that it prints last."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def help_seconds() -> list[float]:
    """Return wall clock and processor time of the command line's help, Python's start included."""
    start = time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "napari_unet", "--help"], stdout=subprocess.PIPE)
    process.stdout.read()
    used = process.cpu_times()  # of the ended process, until it is waited for
    process.wait()
    return [time.perf_counter() - start, used.user + used.system]


def row(name: str, limit: str, times: list[list[float]]) -> list[str]:
    """Return the medians in words."""
    wall, processor, *others = (
        f"{statistics.median(each) * 1e3:.0f}" for each in zip(*times, strict=True)
    )
    return [name, wall, processor, limit, *(others or ("", ""))]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one dock, one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--dock", help=argparse.SUPPRESS)  # what this script calls itself with
    arguments = parser.parse_args()
    if arguments.dock:
        open_dock(arguments.dock)
        return
    from report import publish, table  # loads torch, which is part of what a dock costs

    repeats = 1 if arguments.quick else arguments.repeats
    rows = [
        row("import napari_unet", "50", [answer("-c", _IMPORT) for _ in range(repeats)]),
        row("napari-unet --help", "300", [help_seconds() for _ in range(repeats)]),
    ]
    for name in _DOCKS[:1] if arguments.quick else _DOCKS:
        times = [answer(__file__, "--dock", name) for _ in range(repeats)]
        rows.append(row(f"the dock {name}", "1000", times))
    publish(
        "Start",
        table(_HEAD, rows),
        arguments.output,
    )


if __name__ == "__main__":
    main()
