"""A published package as `napari-unet predict` runs it: its own test, and nuclei that it segments.

Usage: NAPARI_UNET_DATA=FOLDER python benchmarks/packages.py [--images 100] [--output FILE]

The package is the BioImage Model Zoo's nuclei broad U-Net; the images are fluorescent nuclei of the
Data Science Bowl 2018, on which it may have been trained. A pixel belongs to a nucleus from a
probability of 0.5 on. Each form of its weights runs in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from report import publish, table

from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest, assemble, predict_tiles
from napari_unet.model.zoo.container import open_container
from napari_unet.model.zoo.description import read_description
from napari_unet.model.zoo.foreign import ForeignModel

_PACKAGE = "unet2d_nuclei_broad"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    data = Path(os.environ.get("NAPARI_UNET_DATA", ""))
    if not (data / _PACKAGE).is_dir():
        sys.exit("set NAPARI_UNET_DATA to the folder that holds unet2d_nuclei_broad and dsb2018")
    container = open_container(data / _PACKAGE)
    description = read_description(container)
    rows = []
    for form in ("onnx", "torchscript"):
        weights = {form: description.weights[form]}
        model = ForeignModel(container, replace(description, weights=weights))
        rows.append([form, f"{model.test_error:.1e}", *_measure(model, data, options.images)])
    header = ["weights", "largest test error", "images", "IoU", "Dice", "s per image"]
    publish("A published package", table(header, rows), options.output)


def _measure(model: ForeignModel, data: Path, count: int) -> list[str]:
    scores, seconds = [], []
    for image, truth in _nuclei(data / "dsb2018", count):
        start = time.perf_counter()
        events = predict_tiles(model, PredictRequest(SourceImage(image)))
        found = assemble(events, 2, image.shape)[1] >= 0.5
        seconds.append(time.perf_counter() - start)
        both, either = (found & truth).sum(), (found | truth).sum()
        scores.append((both / either, 2 * both / (found.sum() + truth.sum())))
    iou, dice = np.mean(scores, axis=0)
    return [str(len(scores)), f"{iou:.3f}", f"{dice:.3f}", f"{np.median(seconds):.2f}"]


def _nuclei(folder: Path, count: int) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    with (folder / "index.csv").open(encoding="utf-8") as file:
        rows = [
            r for r in csv.DictReader(file) if (r["colour"], r["background"]) == ("grey", "dark")
        ]
    for row in rows[:count]:
        image = iio.imread(folder / "images" / f"{row['name']}.png")
        mask = next((folder / "masks").glob(f"{row['name']}*"))
        yield image if image.ndim == 2 else image[..., 0], iio.imread(mask) > 0


if __name__ == "__main__":
    main()
