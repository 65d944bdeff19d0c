"""What spinning threads cost when something else needs a core, as the window does.

The learning job runs for five seconds beside none, one and two other processes that keep a core
busy each, for several ways in which OpenMP's threads may wait for each other.

Usage: python benchmarks/busy_core.py [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from report import publish, table

_BUSY = "import time; end = time.time() + 120\nwhile time.time() < end: pass"

_WAYS = {
    "OpenMP's default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
}


def measure() -> dict[str, float]:
    """Count the steps that a new session's network makes in a few seconds of learning."""
    from napari_unet import Segmenter

    rng = np.random.default_rng(0)
    annotations = np.zeros((512, 512), np.uint8)
    annotations[50:450:80, 40:200] = 1
    annotations[50:450:80, 300:460] = 2
    segmenter = Segmenter()
    segmenter.set_image(rng.random((512, 512), dtype=np.float32))
    segmenter.annotate(annotations)
    started = time.perf_counter()
    segmenter.fine_tune(steps=1)
    first = time.perf_counter() - started
    finished, _ = segmenter.fine_tune(seconds=5)
    return {"first": first, "rate": finished.steps / finished.seconds}


def child(settings: dict[str, str]) -> dict[str, float]:
    """Measure in a process of its own, whose OpenMP threads wait as they are told."""
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {k: v for k, v in os.environ.items() if k not in ours} | settings
    output = subprocess.run(
        [sys.executable, __file__, "--child"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, float] = json.loads(output.stdout)
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure()))
        return
    rows = []
    for busy in (0, 1, 2):
        others = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(busy)]
        for name, settings in _WAYS.items():
            result = child(settings)
            rows.append([busy, name, f"{result['first']:.1f}", f"{result['rate']:.1f}"])
        for other in others:
            other.kill()
    header = ["busy processes beside it", "threads wait", "first step after, s", "steps a second"]
    text = table(header, rows)
    publish(f"Waiting threads, {torch.get_num_threads()} threads", text, arguments.output)


if __name__ == "__main__":
    main()
