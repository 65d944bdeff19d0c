"""How long a stroke waits for its answer: the first one, and the next, on images of several sizes.

The first answer needs the starter's features of what is on screen and under the strokes; later ones
find them there. With many strokes hidden units are fitted as well. Counted from the strokes to the
last tile on screen, of the first answer to its first tile as well, without the window's part.

Usage: python benchmarks/stroke_answer.py [--output FILE.md]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import machine, table

from napari_unet import Segmenter
from napari_unet.engine.answer_request import AnswerRequest
from napari_unet.engine.events import TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.ops.synthetic import touching_cells
from napari_unet.ops.tiling import Box

SIDES = (512, 1024, 2048, 4096)
#: Side of what is on screen, in pixels of the image.
SCREEN = 768
_FEW, _MANY = 10, 150


def strokes(labels: NDArray[np.integer], screen: Box, count: int, seed: int) -> NDArray[np.uint8]:
    """Paint short strokes of two classes within what is on screen."""
    rng = np.random.default_rng(seed)
    painted = np.zeros(labels.shape, np.uint8)
    for _ in range(count):
        row, column = (int(rng.integers(span.start, span.stop - 24)) for span in screen)
        line = (slice(row, row + 3), slice(column, column + 24))
        painted[line] = 1 + (labels[line] > 0)
    return painted


def answer(segmenter: Segmenter, request: AnswerRequest) -> tuple[float, float]:
    """Return the seconds until a tile, and until all that is on screen was answered."""
    started = time.perf_counter()
    first = 0.0
    for event in segmenter.answer_job(request):
        if not first and isinstance(event, TilePredicted):
            first = time.perf_counter() - started
    return first, time.perf_counter() - started


def measure(side: int, count: int) -> list[str]:
    """Return a row of the table."""
    image, labels = touching_cells((side, side), seed=0)
    source = SourceImage(image)
    source.normalized  # noqa: B018 - the window has looked at the image before a stroke is painted
    start = max(0, side // 2 - SCREEN // 2)
    screen = (slice(start, min(start + SCREEN, side)),) * 2
    segmenter = Segmenter(classes=2)
    times = []
    for number in range(6):
        painted = strokes(labels, screen, count + number, seed=0)
        times.append(answer(segmenter, AnswerRequest(source, painted, screen, screen)))
    later = np.array(times[1:])[:, 1] * 1000
    return [
        f"{side} x {side}",
        f"{count}",
        *(f"{seconds * 1000:.0f}" for seconds in times[0]),
        f"{np.median(later):.0f}",
        f"{later.max():.0f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    measure(SIDES[0], _FEW)  # what is measured once for a machine is measured before
    first = ["first tile, ms", "first answer, ms"]
    head = ["image", "strokes", *first, "next answers, median, ms", "slowest, ms"]
    rows = [measure(side, count) for count in (_FEW, _MANY) for side in SIDES]
    text = f"{machine()}\n\n{table(head, rows)}"
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
