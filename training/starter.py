"""Train a starter model: features that a few strokes on any microscope image suffice for.

Each step is an episode, or several. A drawn image is asked a question (`episodes`), a few strokes
answer it, and a linear classifier is fitted to the network's features under the strokes, in closed
form (`napari_unet.model.linear`). The loss is how wrong that classifier is on the whole image, and
on a second part of the scene under another exposure, where nothing was painted. The gradient goes
through the fit, so that the features become such that few strokes suffice. Heads for the image
without noise, for outlines and for the distance to them are trained beside.

With `--photographs 0.4`, so large a part of the scenes are freely licensed photographs, from the
folder that NAPARI_UNET_DATA names; `--without dsb2018,...` leaves sets out, for a starter that is
judged on their kind. `--undrawn cells,collage` leaves groups of drawings out (`procedural.GROUPS`;
a collage may have any of them), to see what they bring. With `--start FILE` it goes on from that
starter. A processor without units for bfloat16 is quicker with `--precision float32`.

Usage: python training/starter.py OUTPUT.safetensors --pool FOLDER [--steps N] [--channels N] ...
A training that was stopped goes on where it was: run the same command again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from episodes import Question, ask, outline, scribble
from loop import Pace, carry_out, descend, drawn_ahead, keep, rate
from numpy.typing import NDArray
from padded import PaddedUNet, follow_statistics
from photographs import Photographs
from pool import Pool, Scene
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.engine.device import resolve_device
from napari_unet.model.checkpoint import load_model, load_notes, save_model
from napari_unet.model.linear import enlarged_sum, gather_each, solve_ridge
from napari_unet.model.unet import UNet

# Denoised image, outline, distance.
_AUXILIARY = 3
_SUPPORT_PIXELS = 600
# Questions have two or three answers.
_MOST_CLASSES = 3
# Of a class that an episode does not have.
_IMPOSSIBLE = -1e4
# BatchNorm's statistics are averaged over so many steps, and after this share of the training
# they stay as they are: the rest is learned with the normalisation that prediction has.
_STEPS_OF_STATISTICS = 200
_SHARE_WITH_STATISTICS = 0.25


@dataclass(frozen=True)
class Settings:
    """Everything that decides the weights."""

    channels: int = 16
    depth: int = 4
    steps: int = 20000
    # 0: as long as the steps take.
    minutes: float = 0.0
    batch: int = 1
    side: int = 224
    rate: float = 2e-3
    seed: int = 0
    auxiliary: float = 0.3
    episodes: float = 1.0
    photographs: float = 0.0
    without: str = ""
    undrawn: str = ""
    start: str = ""
    precision: str = "bfloat16"


class Starter(nn.Module):
    """The network with padded convolutions, its auxiliary heads, and the ridge's strength."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.network = PaddedUNet(3, settings.channels, settings.depth)
        self.auxiliary = nn.Conv2d(settings.channels, _AUXILIARY, 1)
        self.log_strength = nn.Parameter(torch.tensor(-4.0))
        self.log_scale = nn.Parameter(torch.tensor(1.0))


@dataclass(slots=True, eq=False)
class Episodes:
    """Two parts of one scene each, the questions, and the strokes on the first part.

    Attributes
    ----------
    images
        Shape (2 B, 3, side, side), the parts of one episode one after the other.
    labels
        Shape (2 B, side, side), 0 to classes - 1.
    rows, columns
        Shape (B, `_SUPPORT_PIXELS`): where strokes are.
    targets
        Shape (B, `_SUPPORT_PIXELS`, 3): 1 for the class that was painted, else -1.
    weights
        Shape (B, `_SUPPORT_PIXELS`): all classes count alike; 0 where there are fewer pixels.
    classes
        Shape (B,).
    auxiliary
        Shape (2 B, 3, side, side).
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    weights: Tensor
    classes: Tensor
    auxiliary: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Episodes]) -> Episodes:
        """Put episodes together."""
        names = cls.__slots__
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def pin_memory(self) -> Episodes:
        """Return them where a graphics card can fetch them."""
        return Episodes(*(getattr(self, name).pin_memory() for name in self.__slots__))

    def to(self, device: torch.device) -> Episodes:
        """Return them on a device."""
        moved = (getattr(self, name).to(device, non_blocking=True) for name in self.__slots__)
        return Episodes(*moved)


class Sources:
    """Draws episodes; those of step n are the same whenever they are drawn."""

    def __init__(self, settings: Settings, pool: Pool, photographs: Photographs | None) -> None:
        self._settings, self._pool, self._photographs = settings, pool, photographs

    def __getitem__(self, step: int) -> Episodes:
        """Draw the episodes of a step."""
        settings = self._settings
        rng = np.random.default_rng((settings.seed, step))
        found: list[Episodes] = []
        while len(found) < settings.batch:
            if (episode := self._episode(rng)) is not None:
                found.append(episode)
        return Episodes.joined(found)

    def _episode(self, rng: np.random.Generator) -> Episodes | None:
        settings = self._settings
        if self._photographs is not None and rng.random() < settings.photographs:
            scene = self._photographs.draw(rng)
        else:
            scene = self._pool.draw(rng)
        first, second = (_part(scene, settings.side, rng) for _ in range(2))
        # The regions that both parts have are asked about, so both have an answer.
        regions = np.concatenate([first.regions, second.regions], axis=0)
        instances = np.concatenate([first.instances, second.instances], axis=0)
        question = ask(regions, instances, rng)
        if question is None:
            return None
        asked = Question(question.labels[: settings.side], question.classes)
        if len(np.unique(asked.labels)) < question.classes:
            return None
        strokes = round(math.exp(rng.uniform(math.log(2), math.log(12))))
        support = _support(scribble(asked, rng, strokes), question.classes, rng)
        if support is None:
            return None
        return Episodes(
            torch.from_numpy(np.stack([_photograph(p, rng) for p in (first, second)])),
            torch.from_numpy(question.labels.reshape(2, settings.side, settings.side) - 1).long(),
            *support,
            torch.tensor([question.classes]),
            torch.from_numpy(np.stack([_targets(p) for p in (first, second)])),
        )


def _support(
    painted: NDArray[np.uint8], classes: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Return rows, columns, targets and weights of painted pixels; None if a class has none."""
    rows, columns = np.nonzero(painted)
    if len(rows) > _SUPPORT_PIXELS:
        chosen = rng.choice(len(rows), _SUPPORT_PIXELS, replace=False)
        rows, columns = rows[chosen], columns[chosen]
    values = torch.from_numpy(painted[rows, columns].astype(np.int64) - 1)
    counts = torch.bincount(values, minlength=classes).float()
    if counts.min() == 0:
        return None
    missing = (0, _SUPPORT_PIXELS - len(rows))
    places = [functional.pad(torch.from_numpy(each), missing)[None] for each in (rows, columns)]
    targets = functional.one_hot(values, _MOST_CLASSES).float() * 2 - 1
    weights = (1 / counts / classes)[values]
    return (
        *places,
        functional.pad(targets, (0, 0, *missing))[None],
        functional.pad(weights, missing)[None],
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


def losses(
    starter: Starter, episodes: Episodes, precision: str = "bfloat16"
) -> tuple[Tensor, Tensor]:
    """Return the mean loss of the episodes and that of the auxiliary heads."""
    images = episodes.images.contiguous(memory_format=torch.channels_last)
    low = precision == "bfloat16"
    with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
        maps = starter.network.decoder_maps(images)
        auxiliary = starter.auxiliary(maps[-1])
    logits = _answers(starter, maps, episodes)
    entropy = functional.cross_entropy(logits, episodes.labels, reduction="none")
    # Every class counts in part by itself, as it does in the overlap that users look at.
    labels = episodes.labels.reshape(len(episodes.classes), -1)
    counts = functional.one_hot(labels, _MOST_CLASSES).sum(dim=1)
    shares = (labels.shape[1] / counts.clamp(min=1)).sqrt()
    balance = shares.gather(1, labels)
    answered = (entropy.reshape(labels.shape) * balance).sum(1) / balance.sum(1)
    known = episodes.auxiliary
    auxiliary = auxiliary.float()
    wrong = (auxiliary[:, 0] - known[:, 0]).abs().nan_to_num(0.0).mean()
    wrong = wrong + functional.binary_cross_entropy_with_logits(auxiliary[:, 1], known[:, 1])
    wrong = wrong + functional.l1_loss(auxiliary[:, 2], known[:, 2])
    return answered.mean(), wrong


def _answers(starter: Starter, maps: Sequence[Tensor], episodes: Episodes) -> Tensor:
    """Fit a classifier to the strokes of each episode; logits of shape (2 B, 3, side, side)."""
    side = episodes.labels.shape[1], episodes.labels.shape[2]
    painted = [features[::2] for features in maps]
    support = gather_each(painted, episodes.rows, episodes.columns, side)
    fitted = solve_ridge(
        support, episodes.targets, episodes.weights, starter.log_strength.exp()
    ).repeat_interleave(2, dim=0)
    channels = [features.shape[1] for features in maps]
    parts = fitted[:, :-1].split(channels, dim=1)
    reduced = [
        torch.einsum("nchw,nck->nkhw", features.float(), part)
        for features, part in zip(maps, parts, strict=True)
    ]
    logits = fitted[:, -1, :, None, None] + enlarged_sum(reduced[:-1], side) + reduced[-1]
    number = torch.arange(_MOST_CLASSES, device=logits.device)
    missing = number >= episodes.classes.repeat_interleave(2)[:, None]
    return (logits * starter.log_scale.exp()).masked_fill(missing[..., None, None], _IMPOSSIBLE)


class Training:
    """A training that is going on: the network, and how far it is.

    Parameters
    ----------
    settings
        Everything that decides the weights.
    output
        Where the network is written; the state lies beside it.
    device
        What computes.
    """

    def __init__(self, settings: Settings, output: Path, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self._settings, self._output = settings, output
        self._state = output.with_suffix(".state")
        starter = Starter(settings)
        if settings.start:
            notes = load_notes(settings.start)
            starter.network.load_state_dict(load_model(settings.start).state_dict())
            starter.log_strength.data.fill_(math.log(notes["ridge"]))
            starter.log_scale.data.fill_(math.log(notes["scale"]))
        self._starter = starter.to(device, memory_format=torch.channels_last)
        self._optimizer = torch.optim.AdamW(
            self._starter.parameters(), lr=settings.rate, weight_decay=1e-3
        )
        self.first, spent = 0, 0.0
        if self._state.exists():
            saved = torch.load(self._state, map_location=device, weights_only=True)
            self._starter.load_state_dict(saved["starter"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self.first, spent = saved["step"], saved["spent"]
            print(f"going on at step {self.first}", flush=True)
        self.pace = Pace(settings.steps, settings.minutes, spent)

    def step(self, number: int, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """Learn from episodes; return their loss and that of the auxiliary heads."""
        settings, done = self._settings, self.pace.done(number)
        follow = not settings.start and done < _SHARE_WITH_STATISTICS
        follow_statistics(self._starter, number, _STEPS_OF_STATISTICS, follow)
        answered, wrong = losses(self._starter, episodes, settings.precision)
        loss = settings.episodes * answered + settings.auxiliary * wrong
        descend(loss, self._starter, self._optimizer, rate(number, done, settings.rate))
        return answered.detach(), wrong.detach()

    def save(self, steps: int) -> None:
        """Keep the state after so many steps, and write the network as the program loads it."""
        starter = self._starter
        state = {
            "starter": starter.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": steps,
            "spent": self.pace.spent,
        }
        keep(state, self._state)
        network = UNet.from_config(starter.network.config)
        network.load_state_dict(starter.network.state_dict())
        settings = {**asdict(self._settings), "start": Path(self._settings.start).name}
        notes = {
            "training": {**settings, "made": steps},
            "ridge": float(starter.log_strength.detach().exp()),
            "scale": float(starter.log_scale.detach().exp()),
        }
        save_model(network.eval(), self._output, notes)


def train(
    settings: Settings, sources: Sources, output: Path, device: torch.device, workers: int = 0
) -> None:
    """Train, keep the state now and then, and write the network at the end."""
    training = Training(settings, output, device)
    carry_out(training, drawn_ahead(sources, training.first, settings.steps, workers), device)


def main() -> None:
    """Run the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pool", type=Path, required=True)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw episodes")
    arguments = vars(parser.parse_args())
    output, pool, device, workers = (
        arguments.pop(name) for name in ("output", "pool", "device", "workers")
    )
    settings = Settings(**arguments)
    print(json.dumps(asdict(settings)))
    photographs = None
    if settings.photographs:
        if "NAPARI_UNET_DATA" not in os.environ:
            raise SystemExit("set NAPARI_UNET_DATA to the folder of photographs")
        without = set(settings.without.split(","))
        photographs = Photographs(Path(os.environ["NAPARI_UNET_DATA"]), without)
        print("photographs:", "; ".join(photographs.names))
    undrawn = [group for group in settings.undrawn.split(",") if group]
    sources = Sources(settings, Pool(pool, undrawn), photographs)
    train(settings, sources, output, resolve_device(device), workers)


if __name__ == "__main__":
    main()
