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
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from click_data import DrawnObjects, Objects, photographs
from numpy.typing import NDArray
from pool import Pool
from scipy import ndimage
from starter import _Padded
from torch import Tensor, nn

from napari_unet.engine.click_learning import (
    Sample,
    click_again,
    click_into,
    click_loss,
    cut_sample,
    rounds_of_clicks,
    stacked,
)
from napari_unet.model.checkpoint import load_model, save_model
from napari_unet.model.click import CHANNELS
from napari_unet.model.starter import USUAL, load_starter
from napari_unet.model.unet import UNet
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import DISC_RADIUS, Window

_SAVE_EVERY = 500
_SHARE_WITH_STATISTICS = 0.3
# Of the average of the weights, over so many steps.
_AVERAGED_STEPS = 400
# How often samples come from each source.
_SHARE_DRAWN = 0.55
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
    batch: int = 16
    side: int = 112
    rate: float = 1e-3
    seed: int = 0
    regions: float = 0.15
    photographs: bool = True
    # What an object's larger side measures in the window, in pixels.
    smallest: float = 7.0
    largest: float = 130.0
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

    def batch(self, step: int) -> list[Sample]:
        """Draw the samples of a step."""
        rng = np.random.default_rng((self._settings.seed, step))
        found: list[Sample] = []
        while len(found) < self._settings.batch:
            if self._photographed and rng.random() > _SHARE_DRAWN:
                shares = np.array(list(_SHARES_PHOTOGRAPHED.values()))
                name = str(rng.choice(list(_SHARES_PHOTOGRAPHED), p=shares / shares.sum()))
                objects = self._photographed[name].draw(rng)
            else:
                objects = self._drawn.draw(rng)
            if (sample := self._sample(objects, rng)) is not None:
                found.append(sample)
        return found

    def _sample(self, objects: Objects, rng: np.random.Generator) -> Sample | None:
        side = self._settings.side
        number, box = objects.boxes[int(rng.integers(len(objects.boxes)))]
        heights = [span.stop - span.start for span in box]
        low, high = self._settings.smallest, self._settings.largest
        extent = math.exp(rng.uniform(math.log(low), math.log(high)))
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
        sample = cut_sample(objects.pyramid(), mask, window, 0, turn, mirrored)
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
    """The network with padded convolutions, see `starter.Starter`."""

    def __init__(self) -> None:
        super().__init__()
        starter = load_starter(USUAL).network
        config = starter.config
        self.network = _Padded(
            CHANNELS, 2, config.base_channels, config.depth, batch_norm=True, dropout=0.0
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
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.padding, module.padding_mode = (1, 1), "reflect"
                module._reversed_padding_repeated_twice = [1, 1, 1, 1]

    def logit(self, samples: Sequence[Sample]) -> Tensor:
        """Return the logit of "object", shape (N, side, side)."""
        inputs = torch.stack([each.network_input(0) for each in samples])
        with torch.autocast("cpu", torch.bfloat16):
            found = self.network(inputs.contiguous(memory_format=torch.channels_last)).float()
        return found[:, 1] - found[:, 0]


def rate(step: int, settings: Settings) -> float:
    """Return the learning rate: a short rise, then half a cosine."""
    rise = min(1.0, (step + 1) / 200)
    return settings.rate * rise * 0.5 * (1 + math.cos(math.pi * step / settings.steps)) + 1e-6


def train_step(
    learner: Learner, samples: list[Sample], rng: np.random.Generator
) -> tuple[Tensor, float]:
    """Return the loss after a few rounds of clicks, and the mean overlap of the last answer."""
    for _ in range(rounds_of_clicks(rng)):
        with torch.no_grad():
            answers = learner.logit(samples).sigmoid().numpy()
        for sample, answer in zip(samples, answers, strict=True):
            click_again(sample, answer, 0, rng)
    truth, real = stacked(samples, 0)
    logit = learner.logit(samples)
    mask = (logit > 0).float() * real
    common = (mask * truth).sum(dim=(1, 2))
    union = torch.maximum(mask, truth).sum(dim=(1, 2))
    return click_loss(logit, truth, real), float((common / union).mean())


def batches(sources: Sources, first: int) -> Iterator[list[Sample]]:
    """Draw the next batch while the present one is learned from."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sources.batch, first)
        step = first
        while True:
            step += 1
            ready, waiting = waiting, pool.submit(sources.batch, step)
            yield ready.result()


def train(settings: Settings, sources: Sources, output: Path) -> None:
    """Train, keep the state now and then, and write the averaged network."""
    torch.manual_seed(settings.seed)
    learner = Learner().to(memory_format=torch.channels_last)
    if settings.begin:
        learner.network.load_state_dict(load_model(settings.begin).state_dict())
    average = {name: value.clone() for name, value in learner.network.state_dict().items()}
    optimizer = torch.optim.AdamW(learner.parameters(), lr=settings.rate, weight_decay=1e-3)
    state, first = output.with_suffix(".state"), 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        learner.load_state_dict(saved["learner"])
        optimizer.load_state_dict(saved["optimizer"])
        average, first = saved["average"], saved["step"]
        print(f"going on at step {first}", flush=True)
    recent: list[tuple[float, float]] = []
    began = time.monotonic()
    source = batches(sources, first)
    for step in range(first, settings.steps):
        for module in learner.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1 / min(max(step / 5, 10), 200)
                module.train(not settings.begin and step < _SHARE_WITH_STATISTICS * settings.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, settings)
        rng = np.random.default_rng((settings.seed, step, 1))
        value, overlap = train_step(learner, next(source), rng)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        part = 1 / min(step + 1, _AVERAGED_STEPS)
        for name, tensor in learner.network.state_dict().items():
            if tensor.is_floating_point():
                average[name].lerp_(tensor, part)
        recent.append((float(value.detach()), overlap))
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == settings.steps:
            speed = (time.monotonic() - began) / (step + 1 - first)
            mean = np.mean(recent, axis=0).round(4).tolist()
            print(f"{step + 1} loss, overlap {mean} {speed:.3f} s", flush=True)
            recent.clear()
            parts = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**parts, "average": average, "step": step + 1}, state.with_suffix(".part"))
            state.with_suffix(".part").replace(state)
            publish(learner, average, settings, output)
    publish(learner, average, settings, output)


def publish(learner: Learner, average: dict[str, Tensor], settings: Settings, output: Path) -> None:
    """Write the averaged network as the program loads it."""
    network = UNet.from_config(learner.network.config)
    network.load_state_dict(average)
    training = {**asdict(settings), "begin": Path(settings.begin).name}
    notes = {"training": training, "disc_radius": DISC_RADIUS}
    save_model(network.eval(), output, notes)


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
    arguments = vars(parser.parse_args())
    output, pool, data = (arguments.pop(name) for name in ("output", "pool", "data"))
    settings = Settings(**arguments)
    if settings.photographs and data is None:
        raise SystemExit("say where the photographs are: --data FOLDER, or --no-photographs")
    print(json.dumps(asdict(settings)))
    sources = Sources(settings, pool, data if settings.photographs else None)
    train(settings, sources, output)


if __name__ == "__main__":
    main()
