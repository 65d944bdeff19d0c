"""What a network from random weights learns from a few strokes, setting by setting.

The network in `napari_unet.engine.beginning` and the settings in `napari_unet.engine.trainer` rest
on this table: every setting learns from the same strokes for the same number of seconds and is
measured on all pixels of the image. Each differs in one thing from the first, whose patches are
written down here; "measured patches" are what a new session takes on this machine.

Usage: NAPARI_UNET_DATA=folder python benchmarks/finetune_defaults.py [--seconds 30] [--seeds 1]
       [--settings NAME ...] [--output FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from report import publish, table
from skimage.io import imread

from napari_unet import UNet
from napari_unet.engine.events import StepCompleted
from napari_unet.engine.finetune import FinetuneRequest, finetune
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import predict
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.model.augment import AugmentConfig
from napari_unet.ops.annotations import draw_strokes
from napari_unet.ops.synthetic import random_strokes, touching_cells


@dataclass(frozen=True)
class Setting:
    """A network and a way to train it."""

    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


# The network that a new Segmenter starts with, and patches that are the same on every machine.
_NETWORK = {"base_channels": 16, "depth": 3, "batch_norm": True}
_TRAINING = {"batch": 4, "patch_size": 48}
SETTINGS = {
    "4 patches of 48": Setting(),
    "measured patches": Setting(training={"batch": None, "patch_size": None}),
    "depth 4": Setting({"depth": 4}),
    "8 channels": Setting({"base_channels": 8}),
    "32 channels": Setting({"base_channels": 32}),
    "no BatchNorm": Setting({"batch_norm": False}),
    "no dropout": Setting({"dropout": 0.0}),
    "lr 3e-4": Setting(training={"learning_rate": 3e-4}),
    "lr 3e-3": Setting(training={"learning_rate": 3e-3}),
    "SGD 0.99, lr 1e-3": Setting(training={"optimizer": "sgd"}),
    "SGD 0.9, lr 1e-2": Setting(
        training={"optimizer": "sgd", "momentum": 0.9, "learning_rate": 1e-2}
    ),
    "1 patch of 160": Setting(training={"batch": 1, "patch_size": 160}),
    "1 patch of 388": Setting(training={"batch": 1, "patch_size": 388}),
    "2 patches of 96": Setting(training={"batch": 2, "patch_size": 96}),
    "8 patches of 16": Setting(training={"batch": 8, "patch_size": 16}),
    "no augmentation": Setting(training={"augment": AugmentConfig.none()}),
    "no border weights": Setting(training={"w0": 0.0}),
    "no class balance": Setting(training={"balance": 0.0}),
}


def images(folder: Path | None) -> dict[str, tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Return a few images with the true class of every pixel, 1 background and 2 the class."""
    image, cells = touching_cells((512, 512), seed=1)
    found = {"drawn cells": (image, 1 + (cells > 0).astype(np.uint8))}
    if folder is None:
        return found
    for name, path, truth, positive in (
        ("EM membranes", "isbi2012_em/images/00.png", "isbi2012_em/labels/00.png", False),
        ("mitochondria", "vnc_sstem/images", "vnc_sstem/mitochondria", True),
        ("HeLa phase", "deepcell_hela_phase/images", "deepcell_hela_phase/masks", True),
        ("neurons RGB", "pfc_neurons/images", "pfc_neurons/semantic", True),
    ):
        files = [folder / part for part in (path, truth)]
        first = [sorted(f.iterdir())[0] if f.is_dir() else f for f in files]
        mask = np.squeeze(imread(first[1])) > 0
        mask = mask[..., 0] if mask.ndim == 3 else mask
        found[name] = (imread(first[0]), 1 + (mask == positive).astype(np.uint8))
    return found


def iou(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the intersection over the union."""
    return float((prediction & truth).sum() / max((prediction | truth).sum(), 1))


def measure(
    setting: Setting, image: NDArray[Any], truth: NDArray[np.uint8], duration: float, seed: int
) -> tuple[float, int, str]:
    """Learn from five strokes a class; return the IoU of class 2, the steps, and their patches."""
    strokes = random_strokes(truth, per_class=5, seed=seed)
    annotations = draw_strokes(strokes, truth.shape)
    torch.manual_seed(seed)
    channels = 1 if image.ndim == 2 else 3
    model = UNet(**{**_NETWORK, "in_channels": channels, **setting.network})
    # Not through a Segmenter, to which a network that it is given has learned already.
    config = FinetuneConfig(seed=seed, **{**_TRAINING, **setting.training})
    trainer = Trainer(model, config)
    request = FinetuneRequest(SourceImage(image), annotations, seconds=duration)
    steps = sum(isinstance(event, StepCompleted) for event in finetune(trainer, request))
    answer = predict(trainer.shown_model(), image)
    return iou(answer[1] > 0.5, truth == 2), steps, trainer.patches.name


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folder = os.environ.get("NAPARI_UNET_DATA")
    if folder is None:
        print("NAPARI_UNET_DATA is not set: drawn cells only", file=sys.stderr)
    sets = images(Path(folder) if folder else None)
    rows = []
    for name in arguments.settings:
        scores, steps = [], []
        for image, truth in sets.values():
            results = [
                measure(SETTINGS[name], image, truth, arguments.seconds, seed)
                for seed in range(arguments.seeds)
            ]
            scores.append(float(np.mean([score for score, *_ in results])))
            steps.append(float(np.mean([count for _, count, _ in results])))
        row = [
            name,
            *(f"{s:.2f}" for s in scores),
            f"{np.mean(scores):.3f}",
            f"{np.mean(steps):.0f}",
            results[0][2],
        ]
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    text = table(["setting", *sets, "mean IoU", "steps", "a step"], rows)
    title = f"Five strokes a class, {arguments.seconds:g} s, from random weights"
    publish(title, text, arguments.output)


if __name__ == "__main__":
    main()
