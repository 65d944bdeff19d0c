"""Other programs on the same images: a random forest, a published network, MONAI's U-Net.

Each learns from the training images of `paper_data.load` less the validation images (those that are
named, else those that `split_by_image` holds out), and says for every pixel of the validation and
the test images how likely it is foreground. Scores and the choice of thresholds are made elsewhere,
for all programs alike.

The output is a compressed NumPy file:

``validation/NAME``, ``test/NAME``
    Probability of foreground of the image, shape (Y, X), float16.
``about``
    JSON: peer, set, seed, fold, what the row should say (`note`), seconds used for learning and
    for prediction, names of the images learned from, versions.

Usage: NAPARI_UNET_DATA=folder python benchmarks/peers.py --peer random-forest|bioimageio|monai
       --set em|nuclei|hela|simplus [--minutes 10] [--seed 0] [--fold 0] [--validation NAME ...]
       --output FILE.npz
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paper_data import SETS, data_folder, load

from napari_unet.engine.dataset import LabelledSet, Split, split_by_image
from napari_unet.ops.errors import InputError

NOTES = {
    "random-forest": "100 trees on pixel features, from 100,000 pixels of the dense labels, half "
    "of them foreground; takes the time it takes",
    "bioimageio": "unet2d_nuclei_broad of the BioImage Model Zoo as published, nothing learned "
    "here; its authors trained it on nuclei of the Data Science Bowl 2018, possibly on our test "
    "images",
    "monai": "MONAI UNet (16 to 256 channels, 2 residual units), Dice + cross-entropy, AdamW, "
    "best weights by validation Dice",
}
_PACKAGES = {"random-forest": "scikit-learn", "bioimageio": "torch", "monai": "monai"}
# The published network knows fluorescent nuclei only.
_NUCLEI_ONLY = ("nuclei", "simplus")

Predictor = Callable[[NDArray[Any]], NDArray[np.float32]]


def build(
    peer: str, labelled: LabelledSet, validation: LabelledSet, minutes: float, seed: int
) -> tuple[Predictor, dict[str, Any]]:
    """Let a peer learn, and return how it predicts and what there is to say about the learning."""
    # Only what the peer needs has to be installed.
    if peer == "random-forest":
        from random_forest import RandomForest

        return RandomForest(labelled, seed).predict, {}
    if peer == "bioimageio":
        from nuclei_broad import NucleiBroad

        return NucleiBroad(data_folder()).predict, {}
    from monai_unet import MonaiUNet

    trained = MonaiUNet(labelled, validation, 60 * minutes, seed)
    return trained.predict, {"steps": trained.steps, "validation Dice": trained.best_dice}


def hold_out(labelled: LabelledSet, names: Sequence[str] | None, seed: int) -> Split:
    """Hold out the images of these names; without names, a fifth of the images."""
    if names is None:
        return split_by_image(labelled, 0.2, seed)
    unknown = set(names) - {image.name for image in labelled.images}
    if unknown:
        raise InputError(f"no training image is called {', '.join(sorted(unknown))}; see --fold")
    train, validation = (
        replace(labelled, images=tuple(i for i in labelled.images if (i.name in names) == held))
        for held in (False, True)
    )
    return Split(train, validation, "held out by name")


def main() -> None:
    """Run one peer on one data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", choices=NOTES, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--minutes", type=float, default=10, help="of learning; only monai")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--validation", nargs="+", metavar="NAME", help="images to hold out")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.peer == "bioimageio" and arguments.set not in _NUCLEI_ONLY:
        parser.error(f"bioimageio is for {' and '.join(_NUCLEI_ONLY)}, not for {arguments.set}")
    try:
        split = load(arguments.set, data_folder(), arguments.fold)
        held_out = hold_out(split.train, arguments.validation, arguments.seed)
    except InputError as error:
        sys.exit(str(error))
    start = time.perf_counter()
    predict, facts = build(
        arguments.peer, held_out.train, held_out.validation, arguments.minutes, arguments.seed
    )
    learned = time.perf_counter()
    arrays = {
        f"{part}/{image.name}": predict(image.image).astype(np.float16)
        for part, labelled in (("validation", held_out.validation), ("test", split.test))
        for image in labelled.images
    }
    package = _PACKAGES[arguments.peer]
    about = {
        **{key: getattr(arguments, key) for key in ("peer", "set", "seed", "fold")},
        "minutes": arguments.minutes if arguments.peer == "monai" else None,
        "note": NOTES[arguments.peer],
        "seconds of learning": round(learned - start, 1),
        "seconds of prediction": round(time.perf_counter() - learned, 1),
        "learned from": [image.name for image in held_out.train.images],
        "version": f"{package} {version(package)}",
        **facts,
    }
    np.savez_compressed(arguments.output, about=np.array(json.dumps(about)), **arrays)
    print(json.dumps({k: v for k, v in about.items() if k != "learned from"}, indent=1))


if __name__ == "__main__":
    main()
