"""Train the network that outlines the object under a click.

Each sample is a window around an object, scaled so that the object fills a small or a large part of
it, with a prompt: a click, a box, or the outline on a neighbouring plane. The network answers, a
robot clicks into what is still wrong, and so on for a few rounds (iterative training, Sofiiuk et
al., RITM, arXiv:2102.06583); the last answer is learned from. Weights begin from a starter model.

Usage: python training/click_network.py OUTPUT.safetensors --pool FOLDER [--data FOLDER] ...
A training that was stopped goes on where it was: run the same command again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from click_batch import ClickBatch
from click_data import DrawnObjects, Objects, photographs
from loop import Pace, carry_out, descend, drawn_ahead, keep, rate
from numpy.typing import NDArray
from padded import follow_statistics
from pool import Pool
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.engine.click_learning import (
    Sample,
    click_into,
    click_loss,
    cut_sample,
)
from napari_unet.engine.click_looks import FIRST_SIDE, NEXT_SIDE
from napari_unet.engine.device import resolve_device
from napari_unet.model.checkpoint import save_model
from napari_unet.model.click import CHANNELS, load_click_network
from napari_unet.model.starter import USUAL, load_starter
from napari_unet.model.unet import UNet
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import DISC_RADIUS, Window

_SHARE_WITH_STATISTICS = 0.3
_STEPS_OF_STATISTICS = 200
# Of the average of the weights, over so many steps.
_AVERAGED_STEPS = 400
# How often the robot clicks before an answer is learned from: never, once ... seven times.
_ROUNDS = (0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05)
# How much it counts that clicks are kept to.
_OBEDIENCE = 0.3
# Samples of one image: scaling its grey values takes longer than cutting out a window.
_OF_ONE_IMAGE = 8
# How often the windows of a step are those in which an object is looked at again.
_SHARE_NEXT = 0.4
# Sides of objects that are about as large as where their outline is read from, in pixels.
_NEAR = (18.0, 64.0)
# How often samples that are no drawn scenes come from each source.
_SHARES_PHOTOGRAPHED = {
    "dsb2018": 0.5,
    "axon_myelin_em": 0.15,
    "chloroplast_em": 0.15,
    "stardist_samples": 0.1,
    "plantseg_nuclei3d": 0.1,
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides the weights."""

    steps: int = 8000
    # 0: as long as the steps take.
    minutes: float = 0.0
    batch: int = 16
    # Of the windows of a first look, and of those in which an object is looked at again.
    side: int = FIRST_SIDE
    next_side: int = NEXT_SIDE
    rate: float = 1e-3
    seed: int = 0
    regions: float = 0.15
    photographs: bool = True
    # How often the image is a drawn scene, if there are photographs.
    drawn: float = 0.55
    # What an object's larger side measures in the window, in pixels.
    smallest: float = 7.0
    largest: float = 130.0
    # How often the size is one that is near to the size that outlines are read at.
    near: float = 0.0
    # How often the earlier answer is one at a coarser scale.
    coarse: float = 0.0
    # A network to begin from in place of the starter.
    begin: str = ""


class Sources:
    """Draws samples; number n is the same whenever it is drawn."""

    def __init__(self, settings: Settings, pool: Path, data: Path | None) -> None:
        self._settings = settings
        self._drawn = DrawnObjects(Pool(pool), settings.regions)
        self._photographed = photographs(data) if data is not None else {}

    def __getitem__(self, step: int) -> ClickBatch:
        """Draw what a step learns from."""
        return ClickBatch.of(self.batch(step))

    def batch(self, step: int) -> list[Sample]:
        """Draw the samples of a step."""
        rng = np.random.default_rng((self._settings.seed, step))
        again = rng.random() < _SHARE_NEXT
        side = self._settings.next_side if again else self._settings.side
        found: list[Sample] = []
        while len(found) < self._settings.batch:
            if self._photographed and rng.random() > self._settings.drawn:
                shares = np.array(list(_SHARES_PHOTOGRAPHED.values()))
                name = str(rng.choice(list(_SHARES_PHOTOGRAPHED), p=shares / shares.sum()))
                objects = self._photographed[name].draw(rng)
            else:
                objects = self._drawn.draw(rng)
            for _ in range(_OF_ONE_IMAGE):
                if (sample := self._sample(objects, side, rng)) is not None:
                    found.append(sample)
        return found[: self._settings.batch]

    def _sample(self, objects: Objects, side: int, rng: np.random.Generator) -> Sample | None:
        number, box = objects.boxes[int(rng.integers(len(objects.boxes)))]
        heights = [span.stop - span.start for span in box]
        sizes = (self._settings.smallest, self._settings.largest)
        if rng.random() < self._settings.near:
            sizes = _NEAR
        extent = math.exp(rng.uniform(*np.log(sizes)))
        zoom = extent / max(heights)
        if zoom > 8:
            return None
        if rng.random() < 0.5:  # as after a first answer: the box is in the middle
            row, column = ((span.start + span.stop - 1) / 2 for span in box)
            shift = rng.normal(0, 0.06, 2) * max(heights)
        else:  # as at the first click
            rows, columns = np.nonzero(objects.labels[box] == number)
            any_pixel = int(rng.integers(len(rows)))
            row, column = rows[any_pixel] + box[0].start, columns[any_pixel] + box[1].start
            shift = rng.normal(0, 2, 2) / zoom
        window = Window(row + shift[0], column + shift[1], zoom, side)
        turn = float(rng.uniform(0, 2 * np.pi)) if rng.random() < 0.7 else 0.0
        mirrored = bool(rng.integers(2))
        mask = DrawnMask(objects.labels[box] == number, box)
        sample = cut_sample(objects.pyramid, mask, window, turn, mirrored)
        if sample is None:
            return None
        sample.image = _photograph(sample.image, rng)
        if rng.random() < 0.2:
            inside = torch.from_numpy((objects.labels > 0).astype(np.float32))[None]
            sample.hint = _hint(Pyramid(inside).cut(window, turn, mirrored)[0], rng)
        self._prompt(sample, rng)
        return sample

    def _prompt(self, sample: Sample, rng: np.random.Generator) -> None:
        kind = rng.random()
        if kind < 0.08:
            sample.earlier = _box(sample.truth, rng)
        elif kind < 0.18:
            sample.earlier = _neighbour(sample.truth, rng)
        else:
            if rng.random() < self._settings.coarse:
                sample.earlier = _coarse(sample.truth, rng)
            sample.clicks.append(click_into(sample.truth, True, rng))


def _photograph(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Take the window with another exposure, blur and noise."""
    image = image.clamp(min=0) ** float(np.exp(rng.normal(0, 0.25)))
    if image.shape[0] == 3 and rng.random() < 0.3:
        image = image[torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.15:
        image = 1 - image
    if rng.random() < 0.2:
        sigma = float(rng.uniform(0.4, 1.5))
        image = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma)))
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(0, 0.3), image.shape[1:]).astype(np.float32)
        image = image + float(image.std()) * torch.from_numpy(noise)
    return image


def _hint(inside: Tensor, rng: np.random.Generator) -> Tensor:
    """Probability that an imperfect network gives for the class of the objects."""
    sigma = float(rng.uniform(0.5, 3))
    soft = ndimage.gaussian_filter(inside.numpy(), sigma)
    wrong = ndimage.gaussian_filter(rng.normal(0, 1, soft.shape), float(rng.uniform(2, 10)))
    logit = (soft - 0.5) * rng.uniform(3, 12) + wrong / wrong.std() * rng.uniform(0, 1.5)
    return torch.from_numpy((1 / (1 + np.exp(-logit))).astype(np.float32))


def _box(truth: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    """Return a box around the object, half probable within."""
    drawn = torch.zeros(truth.shape)
    spans = []
    for axis in (1, 0):
        found = np.flatnonzero(truth.any(axis=axis))
        length = found[-1] - found[0] + 1
        low, high = rng.normal(0.02, 0.05, 2) * length
        spans.append(slice(max(0, round(found[0] - low)), max(1, round(found[-1] + 1 + high))))
    drawn[tuple(spans)] = 0.5
    return drawn


def _neighbour(truth: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    """Return the object as it may look on the next plane: moved, larger or smaller, uneven."""
    depth = ndimage.distance_transform_edt(truth) - ndimage.distance_transform_edt(~truth)
    size = math.sqrt(truth.sum())
    uneven = ndimage.gaussian_filter(rng.normal(0, 1, truth.shape), max(1.5, size / 6))
    depth = depth + uneven / uneven.std() * size * rng.uniform(0, 0.06) + size * rng.normal(0, 0.06)
    moved = ndimage.shift(depth, rng.normal(0, 0.06, 2) * size, order=1, mode="nearest")
    return torch.from_numpy((moved > 0).astype(np.float32))


def _coarse(truth: NDArray[np.bool_], rng: np.random.Generator) -> Tensor:
    """Return the object as a window of a coarser scale shows it, not quite right."""
    pixel = float(rng.uniform(1.5, 5))
    soft = ndimage.gaussian_filter(truth.astype(np.float32), pixel / 2)
    wrong = ndimage.gaussian_filter(rng.normal(0, 1, truth.shape), pixel)
    near = soft + wrong / wrong.std() * rng.uniform(0, 0.15)
    return torch.from_numpy((near > rng.uniform(0.35, 0.6)).astype(np.float32))


class Learner(nn.Module):
    """The network; it begins from a starter model."""

    def __init__(self) -> None:
        super().__init__()
        starter = load_starter(USUAL).network
        config = starter.config
        self.network = UNet(
            CHANNELS,
            base_channels=config.base_channels,
            depth=config.depth,
            batch_norm=True,
            dropout=0.0,
            padded=True,
        )
        weights = dict(self.network.state_dict())
        for name, value in starter.state_dict().items():
            if name in weights and weights[name].shape == value.shape:
                weights[name] = value.clone()
        first = "contracting.0.0.weight"
        weights[first] = torch.zeros_like(weights[first])
        # The image was in [0, 1] there and has standard deviation 1 here.
        weights[first][:, :3] = starter.state_dict()[first] * 0.3
        weights[first][:, 3:].normal_(0, 0.1)
        self.network.load_state_dict(weights)

    def logit(self, inputs: Tensor) -> Tensor:
        """Return the logit of "object", shape (N, side, side)."""
        with torch.autocast(inputs.device.type, torch.bfloat16):
            found = self.network(inputs.contiguous(memory_format=torch.channels_last)).float()
        return found[:, 1] - found[:, 0]


def train_step(
    learner: Learner, batch: ClickBatch, rounds: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the loss after a few rounds of clicks, and the mean overlap of the last answer."""
    for _ in range(rounds):
        with torch.no_grad():
            batch.click_again(learner.logit(batch.inputs).sigmoid(), generator)
    truth, real = batch.truth.float(), batch.real.float()
    logit = learner.logit(batch.inputs)
    mask = (logit.detach() > 0).float() * real
    common = (mask * truth).sum(dim=(1, 2))
    union = torch.maximum(mask, truth).sum(dim=(1, 2))
    loss = click_loss(logit, truth, real) + _OBEDIENCE * _disobedience(logit, truth, batch)
    return loss, (common / union).mean()


def _disobedience(logit: Tensor, truth: Tensor, batch: ClickBatch) -> Tensor:
    """Return the cross-entropy within the discs of all clicks."""
    discs = batch.clicked.float()
    entropy = functional.binary_cross_entropy_with_logits(logit, truth, reduction="none")
    return (entropy * discs).sum() / discs.sum().clamp(min=1)


class Training:
    """A training that is going on: the network, its average, and how far it is.

    Parameters
    ----------
    settings
        Everything that decides the weights.
    output
        Where the averaged network is written; the state lies beside it.
    device
        What computes.
    """

    def __init__(self, settings: Settings, output: Path, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self._settings, self._output, self._device = settings, output, device
        self._state = output.with_suffix(".state")
        learner = Learner()
        if settings.begin:
            learner.network.load_state_dict(load_click_network(settings.begin).state_dict())
        self._learner = learner.to(device, memory_format=torch.channels_last)
        weights = self._learner.network.state_dict()
        self._average = {name: value.clone() for name, value in weights.items()}
        self._optimizer = torch.optim.AdamW(
            self._learner.parameters(), lr=settings.rate, weight_decay=1e-3
        )
        self._generator = torch.Generator(device)
        self.first, spent = 0, 0.0
        if self._state.exists():
            saved = torch.load(self._state, map_location=device, weights_only=True)
            self._learner.load_state_dict(saved["learner"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self._average, self.first, spent = saved["average"], saved["step"], saved["spent"]
            print(f"going on at step {self.first}", flush=True)
        self.pace = Pace(settings.steps, settings.minutes, spent)

    def step(self, number: int, batch: ClickBatch) -> tuple[Tensor, Tensor]:
        """Learn from a batch; return the loss and the overlap."""
        settings, done = self._settings, self.pace.done(number)
        follow = done < _SHARE_WITH_STATISTICS
        follow_statistics(self._learner, number, _STEPS_OF_STATISTICS, follow)
        rng = np.random.default_rng((settings.seed, number, 1))
        self._generator.manual_seed(int(rng.integers(1 << 62)))
        rounds = int(rng.choice(len(_ROUNDS), p=_ROUNDS))
        loss, overlap = train_step(self._learner, batch, rounds, self._generator)
        descend(loss, self._learner, self._optimizer, rate(number, done, settings.rate))
        part = 1 / min(number + 1, _AVERAGED_STEPS)
        weights = self._learner.network.state_dict()
        floating = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self._average[name] for name in floating], [weights[n] for n in floating], part
        )
        return loss.detach(), overlap

    def save(self, steps: int) -> None:
        """Keep the state after so many steps, and write the averaged network."""
        state = {
            "learner": self._learner.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average,
            "step": steps,
            "spent": self.pace.spent,
        }
        keep(state, self._state)
        network = UNet.from_config(self._learner.network.config)
        network.load_state_dict(self._average)
        settings = {**asdict(self._settings), "begin": Path(self._settings.begin).name}
        notes = {"training": {**settings, "made": steps}, "disc_radius": DISC_RADIUS}
        save_model(network.eval(), self._output, notes)


def train(
    settings: Settings, sources: Sources, output: Path, device: torch.device, workers: int = 0
) -> None:
    """Train, keep the state now and then, and write the averaged network."""
    training = Training(settings, output, device)
    carry_out(training, drawn_ahead(sources, training.first, settings.steps, workers), device)


def main() -> None:
    """Run the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pool", type=Path, required=True)
    data = os.environ.get("NAPARI_UNET_DATA")
    parser.add_argument("--data", type=Path, default=data and Path(data))
    for name, value in asdict(Settings()).items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw samples")
    arguments = vars(parser.parse_args())
    output, pool, data, device, workers = (
        arguments.pop(name) for name in ("output", "pool", "data", "device", "workers")
    )
    settings = Settings(**arguments)
    if settings.photographs and data is None:
        raise SystemExit("say where the photographs are: --data FOLDER, or --no-photographs")
    print(json.dumps(asdict(settings)))
    sources = Sources(settings, pool, data if settings.photographs else None)
    train(settings, sources, output, resolve_device(device), workers)


if __name__ == "__main__":
    main()
