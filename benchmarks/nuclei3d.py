"""A network of three dimensions against one of two, plane by plane, on a stack of plant nuclei.

One half of the stack (rows 0 to 49) is learned from, the other is predicted. Both networks get the
same time, both have their thresholds chosen on the half that they learned from, and objects are cut
out of both probability maps in three dimensions by the same code: what differs is what the network
sees. Neither prediction is averaged over symmetries.

Usage: python benchmarks/nuclei3d.py [--minutes 5] [--picture FILE] [--output FILE]

The folder of images is given by --data or the environment variable NAPARI_UNET_DATA. With the
default minutes it takes about a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from report import publish, table

from napari_unet.engine.dataset import LabelledImage, LabelledSet
from napari_unet.engine.pictures import coloured_labels, heat, outlined, png, stretched
from napari_unet.engine.results import find_instances
from napari_unet.engine.training.recipe import NUCLEI, STACK, Recipe
from napari_unet.engine.training.train import Training, TrainRequest
from napari_unet.engine.training.validation import Validator
from napari_unet.ops.metrics import average_precision, match_objects, panoptic_quality

# From the data set's description: micrometres between planes, rows and columns.
SPACING = (0.2837, 0.127, 0.127)
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_ZOOM = 4
_FOLDERS = ("images", "masks")


@dataclass(frozen=True, eq=False)
class Half:
    """Half of the stack: grey values and objects, both (Z, Y, X)."""

    image: NDArray[Any]
    labels: NDArray[Any]

    def stack(self) -> LabelledSet:
        """Return it as one stack."""
        item = LabelledImage("stack", self.image, self.labels, spacing=SPACING)
        return LabelledSet((item,), "instances", (0, 1))

    def planes(self) -> LabelledSet:
        """Return it plane by plane."""
        pairs = zip(self.image, self.labels, strict=True)
        items = (LabelledImage(f"plane {n:03}", *pair) for n, pair in enumerate(pairs))
        return LabelledSet(tuple(items), "instances", (0, 1))


@dataclass(frozen=True, eq=False)
class Result:
    """What a network made of the other half, and at which cost."""

    name: str
    steps: int
    seconds: float
    processor_seconds: float
    prediction_seconds: float
    settings: str
    probability: NDArray[np.float32]
    objects: NDArray[np.int32]


def read_halves(data: Path) -> tuple[Half, Half]:
    """Return the half to learn from and the half to predict."""
    folder = data / "plantseg_nuclei3d"
    image, labels = (tifffile.imread(folder / kind / "train_1135.tif") for kind in _FOLDERS)
    middle = image.shape[1] // 2
    return Half(image[:, :middle], labels[:, :middle]), Half(image[:, middle:], labels[:, middle:])


def learn(name: str, recipe: Recipe, learned: Half, other: Half, budget: dict[str, Any]) -> Result:
    """Train, choose how objects are cut out on what was learned, and predict the other half."""
    is_stack = recipe.ndim == 3
    training = Training(
        TrainRequest(learned.stack() if is_stack else learned.planes(), None, recipe, **budget)
    )
    began = time.process_time()
    for _ in training.run():
        pass
    processor_seconds = time.process_time() - began
    model = training.best_model()

    def predict(half: Half) -> NDArray[np.float32]:
        labelled = half.stack() if is_stack else half.planes()
        validator = Validator(labelled, recipe)
        found = [validator.predict(model, image, "fast", "none") for image in labelled.images]
        return found[0] if is_stack else np.stack(found, axis=1)

    # The thresholds of both are chosen in three dimensions.
    choice = Validator(learned.stack(), replace(recipe, ndim=3)).choose_settings([predict(learned)])
    start = time.perf_counter()
    probability = predict(other)
    prediction_seconds = time.perf_counter() - start
    relative = [size / SPACING[-1] for size in SPACING]
    return Result(
        name,
        training.step,
        training.elapsed,
        processor_seconds,
        prediction_seconds,
        choice.settings.sentence(),
        probability,
        find_instances(probability, choice.settings, relative),
    )


def row(result: Result, half: Half) -> list[str]:
    """Return the scores of a result as a row of the table."""
    foreground, truth = result.probability[0] < 0.5, half.labels > 0
    dice = 2 * (foreground & truth).sum() / max(foreground.sum() + truth.sum(), 1)
    match = match_objects(result.objects, half.labels)
    precision = average_precision(match, _THRESHOLDS)
    return [
        result.name,
        str(result.steps),
        f"{result.seconds:.0f}",
        f"{result.processor_seconds:.0f}",
        f"{result.prediction_seconds:.1f}",
        f"{dice:.3f}",
        f"{precision[0]:.3f}",
        f"{np.mean(precision):.3f}",
        f"{panoptic_quality(match).pq:.3f}",
        f"{int(result.objects.max())} / {len(np.unique(half.labels)) - 1}",
    ]


def picture(results: list[Result], half: Half) -> bytes:
    """Draw a plane and a section across the planes: image and truth, then each network's answer."""
    middle = half.image.shape[0] // 2, half.image.shape[1] // 2
    cuts: list[Any] = [np.s_[middle[0]], np.s_[:, middle[1]]]
    # Pixels of the section are as high as planes lie apart.
    zooms = [(_ZOOM, _ZOOM), (round(_ZOOM * SPACING[0] / SPACING[2]), _ZOOM)]
    rows = []
    for cut, (down, right) in zip(cuts, zooms, strict=True):

        def shown(array: NDArray[Any], down: int = down, right: int = right) -> NDArray[Any]:
            return np.repeat(np.repeat(array, down, axis=0), right, axis=1)

        image = shown(half.image[cut])
        tiles = [outlined(stretched(image), shown(half.labels[cut]))]
        for result in results:
            tiles.append(heat(shown(1 - result.probability[0][cut])))
            tiles.append(coloured_labels(shown(result.objects[cut]), stretched(image)))
        rows.append(np.concatenate([_framed(tile) for tile in tiles], axis=1))
    return png(np.concatenate(rows, axis=0))


def _framed(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(tile, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NAPARI_UNET_DATA"))
    parser.add_argument("--minutes", type=float, default=5.0, help="of learning, for each network")
    parser.add_argument("--steps", type=int, help="stop after so many, whatever the time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data or set NAPARI_UNET_DATA")
    learned, other = read_halves(Path(options.data))
    budget = {"seconds": 60 * options.minutes, "steps": options.steps, "seed": options.seed}
    results = [
        learn("2D, plane by plane", NUCLEI, learned, other, budget),
        learn("3D", STACK, learned, other, budget),
    ]
    header = (
        "network, steps, learning s, processor s, prediction s, Dice, AP at 0.5, mean AP, PQ, "
        "objects / true"
    )
    text = table(header.split(", "), [row(result, other) for result in results])
    settings = "\n".join(f"- {result.name}: {result.settings}" for result in results)
    publish("Nuclei in a stack", f"{text}\n\n{settings}", options.output)
    if options.picture is not None:
        options.picture.write_bytes(picture(results, other))


if __name__ == "__main__":
    main()
