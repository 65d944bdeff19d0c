"""Train a starter model: features that a few strokes on any microscope image suffice for.

Each step is an episode. A drawn image is asked a question (`episodes`), a few strokes answer it,
and a linear classifier is fitted to the network's features under the strokes, in closed form
(`napari_unet.model.linear`). The loss is how wrong that classifier is on the whole image, and on a
second part of the scene under another exposure, where nothing was painted. The gradient goes
through the fit, so that the features become such that few strokes suffice. Heads for the image
without noise, for outlines and for the distance to them are trained beside.

With `--photographs 0.4`, so large a part of the scenes are freely licensed photographs, from the
folder that NAPARI_UNET_DATA names; `--without dsb2018,...` leaves sets out, for a starter that is
judged on their kind. With `--start FILE` it goes on from that starter.

Usage: python training/starter.py OUTPUT.safetensors --pool FOLDER [--steps N] [--channels N] ...
A training that was stopped goes on where it was: run the same command again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from episodes import Question, ask, outline, scribble
from numpy.typing import NDArray
from photographs import Photographs
from pool import Pool, Scene
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.model.checkpoint import load_model, load_notes, save_model
from napari_unet.model.linear import apply_linear, gather, solve_ridge
from napari_unet.model.unet import UNet

# Denoised image, outline, distance.
_AUXILIARY = 3
_SUPPORT_PIXELS = 600
_SAVE_EVERY = 500
# BatchNorm's statistics are averaged over so many episodes, and after this share of the training
# they stay as they are: the rest is learned with the normalisation that prediction has.
_EPISODES_OF_STATISTICS = 200
_SHARE_WITH_STATISTICS = 0.25


@dataclass(frozen=True)
class Settings:
    """Everything that decides the weights."""

    channels: int = 16
    depth: int = 4
    steps: int = 20000
    side: int = 224
    rate: float = 2e-3
    seed: int = 0
    auxiliary: float = 0.3
    episodes: float = 1.0
    photographs: float = 0.0
    without: str = ""
    start: str = ""


class Starter(nn.Module):
    """The network with padded convolutions, its auxiliary heads, and the ridge's strength.

    Unpadded convolutions would spend most of the work on margins. Mirrored padding changes only
    what lies near the border of a patch; the weights are the same.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.network = _Padded(
            3, 2, settings.channels, settings.depth, batch_norm=True, dropout=0.0
        )
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.padding, module.padding_mode = (1, 1), "reflect"
                module._reversed_padding_repeated_twice = [1, 1, 1, 1]
        self.auxiliary = nn.Conv2d(settings.channels, _AUXILIARY, 1)
        self.log_strength = nn.Parameter(torch.tensor(-4.0))
        self.log_scale = nn.Parameter(torch.tensor(1.0))


class _Padded(UNet):
    def _check(self, image: Tensor) -> None:
        """Any side that can be halved often enough is welcome."""


@dataclass(frozen=True)
class Episode:
    """Two parts of one scene, the question, and the strokes on the first part."""

    images: Tensor  # (2, 3, side, side)
    labels: Tensor  # (2, side, side), 0 to classes - 1
    rows: Tensor
    columns: Tensor
    painted: Tensor  # of the strokes' pixels, 0 to classes - 1
    classes: int
    auxiliary: Tensor  # (2, 3, side, side)


def episodes(
    pool: Pool, photographs: Photographs | None, settings: Settings, start: int
) -> Iterator[Episode]:
    """Draw episodes; number n is the same whenever it is drawn."""
    number = start
    while True:
        rng = np.random.default_rng((settings.seed, number))
        number += 1
        if photographs is not None and rng.random() < settings.photographs:
            scene = photographs.draw(rng)
        else:
            scene = pool.draw(rng)
        first, second = (_part(scene, settings.side, rng) for _ in range(2))
        # The regions that both parts have are asked about, so both have an answer.
        regions = np.concatenate([first.regions, second.regions], axis=0)
        instances = np.concatenate([first.instances, second.instances], axis=0)
        question = ask(regions, instances, rng)
        if question is None:
            continue
        asked = Question(question.labels[: settings.side], question.classes)
        if len(np.unique(asked.labels)) < question.classes:
            continue
        strokes = round(math.exp(rng.uniform(math.log(2), math.log(12))))
        painted = scribble(asked, rng, strokes)
        rows, columns = np.nonzero(painted)
        if len(rows) > _SUPPORT_PIXELS:
            chosen = rng.choice(len(rows), _SUPPORT_PIXELS, replace=False)
            rows, columns = rows[chosen], columns[chosen]
        values = painted[rows, columns]
        if len(np.unique(values)) < question.classes:
            continue
        yield Episode(
            torch.from_numpy(np.stack([_photograph(p, rng) for p in (first, second)])),
            torch.from_numpy(question.labels.reshape(2, settings.side, settings.side) - 1).long(),
            torch.from_numpy(rows),
            torch.from_numpy(columns),
            torch.from_numpy(values.astype(np.int64) - 1),
            question.classes,
            torch.from_numpy(np.stack([_targets(p) for p in (first, second)])),
        )


def _part(scene: Scene, side: int, rng: np.random.Generator) -> Scene:
    """Cut a square out of a scene, turned and mirrored."""
    rows, columns = scene.regions.shape
    top, left = (int(rng.integers(0, length - side + 1)) for length in (rows, columns))
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def cut(array: NDArray[np.generic]) -> NDArray[np.generic]:
        part = np.rot90(array[top : top + side, left : left + side], turns)
        return np.ascontiguousarray(part[::-1] if mirrored else part)

    clean = None if scene.clean is None else cut(scene.clean)
    return Scene(cut(scene.image), clean, cut(scene.regions), cut(scene.instances))


def _photograph(part: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    """Take the part with another exposure; (3, side, side), scaled by its percentiles."""
    image = part.image.astype(np.float32) / 255
    image = image[..., None].repeat(3, axis=2) if image.ndim == 2 else image
    low, high = np.percentile(image, (1, 99.8), axis=(0, 1))
    image = (image - low) / np.maximum(high - low, 1e-3)
    image = np.clip(image, 0, 1.2) ** np.exp(rng.normal(0, 0.2))
    image = (image - 0.5) * np.exp(rng.normal(0, 0.15)) + 0.5 + rng.normal(0, 0.05)
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(0, 0.1), image.shape[:2])[..., None]
    return np.moveaxis(image, 2, 0).astype(np.float32)


def _targets(part: Scene) -> NDArray[np.float32]:
    """Return what the auxiliary heads learn: (3, side, side); not a number where unknown."""
    unknown = np.full(part.regions.shape, np.nan, np.float32)
    clean = unknown if part.clean is None else part.clean.astype(np.float32) / 255
    border = outline(part.instances, 1)
    inside = ndimage.distance_transform_edt((part.instances > 0) & ~border)
    return np.stack([clean, border, np.tanh(inside / 10)]).astype(np.float32)


def losses(starter: Starter, episode: Episode, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the loss of the episode and that of the auxiliary heads."""
    images = episode.images.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = starter.network.decoder_maps(images)
        auxiliary = starter.auxiliary(maps[-1])
    side = (settings.side, settings.side)
    classes = episode.classes
    support = gather([m[:1] for m in maps], episode.rows, episode.columns, side)
    counts = torch.bincount(episode.painted, minlength=classes).float()
    weights = (1 / counts / classes)[episode.painted]
    targets = functional.one_hot(episode.painted, classes).float() * 2 - 1
    coefficients = solve_ridge(support, targets, weights, starter.log_strength.exp())
    logits = apply_linear(maps, coefficients, side)
    logits = logits * starter.log_scale.exp()
    entropy = functional.cross_entropy(logits, episode.labels, reduction="none")
    # Every class counts in part by itself, as it does in the overlap that users look at.
    shares = torch.bincount(episode.labels.ravel(), minlength=classes).float()
    balance = (shares.sum() / shares.clamp(min=1)).sqrt()[episode.labels]
    answered = (entropy * balance).sum() / balance.sum()
    known = episode.auxiliary
    auxiliary = auxiliary.float()
    wrong = (auxiliary[:, 0] - known[:, 0]).abs().nan_to_num(0.0).mean()
    wrong = wrong + functional.binary_cross_entropy_with_logits(auxiliary[:, 1], known[:, 1])
    wrong = wrong + functional.l1_loss(auxiliary[:, 2], known[:, 2])
    return answered, wrong


def rate(step: int, settings: Settings) -> float:
    """Return the learning rate: a short rise, then half a cosine."""
    rise = min(1.0, (step + 1) / 200)
    return settings.rate * rise * 0.5 * (1 + math.cos(math.pi * step / settings.steps)) + 1e-6


def prepare_statistics(starter: Starter, step: int, settings: Settings) -> None:
    """Let BatchNorm follow the episodes at first, and stay as it is later."""
    for module in starter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1 / min(max(step / 5, 10), _EPISODES_OF_STATISTICS)
            share = 0.0 if settings.start else _SHARE_WITH_STATISTICS
            module.train(step < share * settings.steps)


def train(settings: Settings, pool: Pool, photographs: Photographs | None, output: Path) -> None:
    """Train, keep the state now and then, and write the network at the end."""
    torch.manual_seed(settings.seed)
    starter = Starter(settings)
    if settings.start:
        notes = load_notes(settings.start)
        starter.network.load_state_dict(load_model(settings.start).state_dict())
        starter.log_strength.data.fill_(math.log(notes["ridge"]))
        starter.log_scale.data.fill_(math.log(notes["scale"]))
    starter.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(starter.parameters(), lr=settings.rate, weight_decay=1e-3)
    state, first = output.with_suffix(".state"), 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        starter.load_state_dict(saved["starter"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
        print(f"going on at step {first}", flush=True)
    recent: list[tuple[float, float]] = []
    began = time.monotonic()
    source = episodes(pool, photographs, settings, first * 2)
    for step in range(first, settings.steps):
        prepare_statistics(starter, step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, settings)
        answered, wrong = losses(starter, next(source), settings)
        optimizer.zero_grad(set_to_none=True)
        (settings.episodes * answered + settings.auxiliary * wrong).backward()
        nn.utils.clip_grad_norm_(starter.parameters(), 1.0)
        optimizer.step()
        recent.append((float(answered.detach()), float(wrong.detach())))
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == settings.steps:
            speed = (time.monotonic() - began) / (step + 1 - first)
            mean = np.mean(recent, axis=0).round(4).tolist()
            strength = float(starter.log_strength.exp())
            print(
                f"{step + 1} {mean} {speed:.3f} s, ridge {strength:.4f}, "
                f"scale {float(starter.log_scale.exp()):.2f}",
                flush=True,
            )
            recent.clear()
            parts = {"starter": starter.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**parts, "step": step + 1}, state.with_suffix(".part"))
            state.with_suffix(".part").replace(state)
            publish(starter, settings, output)
    publish(starter, settings, output)


def publish(starter: Starter, settings: Settings, output: Path) -> None:
    """Write the network as the program loads it."""
    network = UNet.from_config(starter.network.config)
    network.load_state_dict(starter.network.state_dict())
    notes = {
        "training": asdict(settings),
        "ridge": float(starter.log_strength.detach().exp()),
        "scale": float(starter.log_scale.detach().exp()),
    }
    save_model(network.eval(), output, notes)


def main() -> None:
    """Run the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pool", type=Path, required=True)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    output, pool = arguments.pop("output"), arguments.pop("pool")
    settings = Settings(**arguments)
    print(json.dumps(asdict(settings)))
    photographs = None
    if settings.photographs:
        if "NAPARI_UNET_DATA" not in os.environ:
            raise SystemExit("set NAPARI_UNET_DATA to the folder of photographs")
        without = set(settings.without.split(","))
        photographs = Photographs(Path(os.environ["NAPARI_UNET_DATA"]), without)
        print("photographs:", "; ".join(photographs.names))
    train(settings, Pool(pool), photographs, output)


if __name__ == "__main__":
    main()
