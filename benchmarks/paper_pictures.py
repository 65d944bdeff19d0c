"""Pictures of docs/paper.md: what a row predicted beside the ground truth, one picture per set.

Usage: NAPARI_UNET_DATA=folder python benchmarks/paper_pictures.py KEY [KEY ...] --runs runs
       --output docs/images
KEY is the name of a row's files without their ending, as `paper.py` prints it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paper_data import data_folder, load

from napari_unet.engine.dataset import LabelledImage
from napari_unet.engine.files import write_atomically
from napari_unet.engine.pictures import (
    coloured_labels,
    composed,
    error_picture,
    heat,
    outline_overlay,
    png,
    stretched,
)
from napari_unet.engine.results import InstanceSettings, find_instances
from napari_unet.ops.error_map import error_map
from napari_unet.ops.instances import seeded_instances
from napari_unet.ops.metrics import boundary_segments

_SIDE = 288
_GAP = 8


def panels(
    image: LabelledImage, probability: NDArray[np.float32], prediction: NDArray[Any], truth: Any
) -> list[NDArray[np.uint8]]:
    """Return image with true outlines, probability, prediction and errors, (Y, X, 3) each."""
    picture = stretched(image.image)
    outlined = composed(picture, outline_overlay(truth))
    found = composed(picture, _half(coloured_labels(prediction)))
    errors = error_picture(picture, error_map(prediction, truth))
    return [outlined, heat(probability), found, errors]


def _half(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make a picture half transparent where it is not black."""
    alpha = np.where(picture[..., :3].any(axis=-1), 150, 0).astype(np.uint8)
    return np.dstack([picture[..., :3], alpha])


def row_of(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Put pictures of one height side by side."""
    gap = np.full((parts[0].shape[0], _GAP, 3), 255, np.uint8)
    joined: list[NDArray[np.uint8]] = []
    for part in parts:
        joined += [part, gap]
    return np.concatenate(joined[:-1], axis=1)


def middle(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Cut out of the middle what fits into a picture."""
    starts = [max((length - _SIDE) // 2, 0) for length in shape]
    return slice(starts[0], starts[0] + _SIDE), slice(starts[1], starts[1] + _SIDE)


def draw(key: str, runs: Path, output: Path, data: Path) -> Path:
    """Draw the first and the middle test image of a row, below each other; of one, that."""
    row = json.loads((runs / f"{key}.json").read_text())
    maps = np.load(runs / f"{key}.npz")
    test = load(row["set"], data, row["fold"]).test.images
    rows = []
    for number in sorted({0, len(test) // 2}):
        image = test[number]
        probability = maps[f"test/{image.name}"].astype(np.float32)
        if row["set"] == "em":
            threshold, seeds = row["scores"]["flooded"]
            prediction = seeded_instances(
                probability[0], threshold=threshold, seed_threshold=seeds, smoothing=0.0
            )
            truth: Any = boundary_segments(image.labels > 0)
        else:
            full = np.concatenate([1 - probability.sum(axis=0, keepdims=True), probability])
            settings = InstanceSettings(**row["scores"]["instances"])
            prediction, truth = find_instances(full, settings), image.labels
        window = middle(image.labels.shape)
        part = LabelledImage(image.name, image.image[window], np.asarray(truth)[window])
        shown = panels(part, probability.sum(axis=0)[window], prediction[window], part.labels)
        rows.append(row_of(shown))
    width = min(picture.shape[1] for picture in rows)
    gap = np.full((_GAP, width, 3), 255, np.uint8)
    parts = [part for row in rows for part in (row[:, :width], gap)]
    whole = np.concatenate(parts[:-1])
    path = output / f"paper-{row['set']}.png"
    return write_atomically(path, lambda file: file.write(png(whole)))


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    for key in arguments.keys:
        print(draw(key, arguments.runs, arguments.output, data_folder()))


if __name__ == "__main__":
    main()
