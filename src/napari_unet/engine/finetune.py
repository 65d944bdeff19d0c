"""Fine-tuning on drawn labels: a few strokes, patches around them, the paper's loss.

Sources: Ronneberger et al. 2015, section 3 (weighted loss, momentum, large tiles, batch one) and
section 3.1 (augmentation). Strokes are sparse, so what is not annotated is left out of the loss,
and patches are drawn around what is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.device import is_out_of_memory
from napari_unet.engine.events import (
    Noticed,
    ScoreMeasured,
    StepCompleted,
    TilePredicted,
    TrainingFinished,
)
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import Precision, choose_plan
from napari_unet.engine.predict import PredictRequest, check_channels, predict_tiles
from napari_unet.model.augment import AugmentConfig, Patch, sample_patch
from napari_unet.model.losses import weighted_cross_entropy
from napari_unet.model.unet import UNet
from napari_unet.ops.annotations import HeldOut, check_annotations, hold_out_strokes, stroke_boxes
from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import class_labels
from napari_unet.ops.metrics import dice_per_class
from napari_unet.ops.weight_map import annotation_weights

T = TypeVar("T")

# Learning rates that went furthest in 30 s on a few strokes; see docs/architecture.md.
_LEARNING_RATE = {"adamw": 1e-3, "sgd": 1e-3}
# Steps over which the loss that is reported at the end is averaged.
_LAST_STEPS = 20
# Measuring the score may take this share of the time, and is done this often at most.
_SHARE_OF_SCORING = 0.2
_SECONDS_BETWEEN_SCORES = 2.0


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """How to learn.

    Attributes
    ----------
    optimizer
        "adamw" (default: it gets further in the first minute) or "sgd" as in the paper.
    learning_rate
        None takes the optimiser's default.
    momentum
        Of SGD; the paper's 0.99 makes a large number of earlier patches count in each step.
    w0, sigma, balance
        Of the weight map, see `napari_unet.ops.weight_map.annotation_weights`.
    patch_size
        Input side of the patches, in pixels; rounded down to a size that fits the network.
    augment
        Random deformation and grey-value variation of the patches.
    held_out
        Share of the strokes of a class that is kept for the score.
    precision, device
        As for prediction; "auto" takes the faster of float32 and bfloat16 with float32 weights.
    seed
        Of patch positions, augmentation and dropout.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float | None = None
    momentum: float = 0.99
    w0: float = 10.0
    sigma: float = 5.0
    balance: float = 1.0
    patch_size: int = 252
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    held_out: float = 0.2
    precision: Precision = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in _LEARNING_RATE:
            raise InputError(f"no optimizer {self.optimizer!r}; choose 'adamw' or 'sgd'")
        if self.learning_rate is not None and not 0 < self.learning_rate < np.inf:
            raise InputError("the learning rate must be above 0; leave it out for the default")
        if not 0 <= self.momentum < 1:
            raise InputError("momentum must be at least 0 and below 1; the paper's is 0.99")
        if not 0 <= self.held_out < 1:
            raise InputError("the held-out share must be at least 0 and below 1; 0.2 is usual")


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneRequest:
    """What to learn from, and for how long.

    Attributes
    ----------
    image
        The image.
    annotations
        Shape (Y, X), integers: 0 not annotated, 1 background, 2 and up classes. A copy that
        nobody else changes.
    seconds, steps
        The budget; the job ends with whichever is used up first. Both None: until it is stopped.
    """

    image: SourceImage
    annotations: NDArray[np.integer]
    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("steps", self.steps)):
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"{name} must be above 0; leave it out to learn until stopped")


class Mailbox(Generic[T]):
    """Hands values from one thread to another; a value that was not taken yet is replaced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value: T | None = None

    def put(self, value: T) -> None:
        """Leave a value."""
        with self._lock:
            self._value = value

    def take(self) -> T | None:
        """Return the latest value and forget it; None if there is nothing new."""
        with self._lock:
            value, self._value = self._value, None
        return value


class Trainer:
    """The state of a training that outlives one job: weights, optimiser, random numbers, steps.

    It belongs to the thread that runs the jobs. A second job goes on where the first one ended.

    Parameters
    ----------
    model
        The network; its weights are changed in place.
    config
        How to learn.
    """

    def __init__(self, model: UNet, config: FinetuneConfig | None = None) -> None:
        self.model = model
        self.config = config or FinetuneConfig()
        self.step = 0
        self.image: SourceImage | None = None
        self.held_out: HeldOut | None = None
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.plan = choose_plan(model.config, "train", self.config.precision, self.config.device)
        model.to(self.plan.device).to(memory_format=self.plan.memory_format)  # type: ignore[call-overload]
        self._optimizer = self._make_optimizer()
        self._dropout_state = torch.Generator().manual_seed(self.config.seed).get_state()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config, parameters = self.config, self.model.parameters()
        rate = config.learning_rate or _LEARNING_RATE[config.optimizer]
        if config.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum)
        return torch.optim.AdamW(parameters, lr=rate)

    def look_at(self, image: SourceImage) -> None:
        """Learn from `image` from now on; which strokes are held out is decided image by image."""
        if image is not self.image:
            self.image, self.held_out = image, None

    def learn(self, patch: Patch) -> float:
        """Make one step on `patch` and return its loss."""
        device = self.plan.device
        image = patch.image.to(device).contiguous(memory_format=self.plan.memory_format)
        # Dropout draws from torch's global generator; with a state of its own the training does
        # not depend on what else runs between two steps.
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._dropout_state)
            self.model.train()
            with self.plan.autocast():
                logits = self.model(image)
            loss = weighted_cross_entropy(
                logits, patch.annotations.to(device), patch.weights.to(device)
            )
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            self._dropout_state = torch.get_rng_state()
        self.model.eval()
        self.step += 1
        return float(loss.detach())


def finetune(
    trainer: Trainer,
    request: FinetuneRequest,
    *,
    inbox: Mailbox[NDArray[np.integer]] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[StepCompleted | ScoreMeasured | Noticed | TrainingFinished]:
    """Fine-tune on strokes, one patch a step.

    Parameters
    ----------
    trainer
        The weights and the optimiser; they stay as the last step left them.
    request
        What to learn from, and for how long.
    inbox
        New annotations of the whole image, taken in before the next step.
    stop
        Checked before every step; when it is set, the job ends.

    Yields
    ------
    StepCompleted
        After every step.
    ScoreMeasured
        Now and then: Dice on strokes that were held out, or why there is none.
    Noticed
        When new annotations could not be used, or memory ran out.
    TrainingFinished
        Last.

    Raises
    ------
    InputError
        If image and network do not fit, or there are not strokes of at least two classes.
    """
    check_channels(trainer.model, request.image)
    trainer.look_at(request.image)
    clock = _Clock(request)
    source = _PatchSource(trainer, request.image, request.annotations)
    scoring = _Scoring(trainer, request.image)
    losses: list[float] = []
    while not clock.is_over(len(losses)) and not (stop is not None and stop.is_set()):
        if inbox is not None and (annotations := inbox.take()) is not None:
            try:
                source = _PatchSource(trainer, request.image, annotations)
            except InputError as error:
                yield Noticed(f"learning goes on with the earlier strokes: {error}")
        try:
            losses.append(trainer.learn(source.draw()))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not source.halve():
                raise
            yield Noticed(f"not enough memory; going on with patches of {source.input_size} pixels")
            continue
        yield clock.completed(trainer.step, losses)
        if scoring.is_due():
            yield scoring.measure(source.annotations)
    if losses:
        yield scoring.measure(source.annotations)
    yield TrainingFinished(
        trainer.step,
        len(losses),
        clock.elapsed(),
        float(np.mean(losses[-_LAST_STEPS:])) if losses else float("nan"),
        stopped=not clock.is_over(len(losses)),
    )


class _Clock:
    """The budget of a job."""

    def __init__(self, request: FinetuneRequest) -> None:
        self._started = time.monotonic()
        self._seconds = request.seconds
        self._steps = request.steps

    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def is_over(self, steps: int) -> bool:
        return self._fraction(steps) is not None and (self._fraction(steps) or 0.0) >= 1

    def _fraction(self, steps: int) -> float | None:
        shares = []
        if self._seconds is not None:
            shares.append(self.elapsed() / self._seconds)
        if self._steps is not None:
            shares.append(steps / self._steps)
        return max(shares) if shares else None

    def completed(self, step: int, losses: list[float]) -> StepCompleted:
        fraction, elapsed = self._fraction(len(losses)), self.elapsed()
        remaining = None if not fraction else max(elapsed / fraction - elapsed, 0.0)
        return StepCompleted(
            step, losses[-1], elapsed, None if fraction is None else min(fraction, 1.0), remaining
        )


class _PatchSource:
    """Draws patches around annotated pixels, every class as often as every other."""

    def __init__(
        self, trainer: Trainer, image: SourceImage, annotations: NDArray[np.integer]
    ) -> None:
        model, config = trainer.model, trainer.config
        self.annotations = check_annotations(annotations, image.shape, model.config.classes)
        trainer.held_out = hold_out_strokes(
            self.annotations,
            fraction=config.held_out,
            previous=trainer.held_out,
            seed=config.seed,
        )
        learned = np.where(trainer.held_out.mask, 0, self.annotations)
        self._pixels = [np.argwhere(learned == label) for label in np.unique(learned) if label]
        weights = annotation_weights(learned, config.w0, config.sigma, balance=config.balance)
        self._image = torch.from_numpy(image.normalized)
        self._learned = torch.from_numpy(learned)
        self._weights = torch.from_numpy(weights)
        self._augment = config.augment
        self._generator = trainer.generator
        self._geometry = model.config.geometry
        self._inner = self._geometry.inner_size(config.patch_size)

    @property
    def input_size(self) -> int:
        return self._geometry.input_size(self._inner)

    def halve(self) -> bool:
        """Halve the patches; False if they are as small as can be."""
        stride = self._geometry.stride
        smaller = self._inner // 2 // stride * stride
        if smaller < stride:
            return False
        self._inner = smaller
        return True

    def draw(self) -> Patch:
        """Draw a patch that has an annotated pixel somewhere in its output, not always amid it."""
        pixels = self._pixels[self._integer(len(self._pixels))]
        row, column = (float(v) for v in pixels[self._integer(len(pixels))])
        jitter = (torch.rand(2, generator=self._generator) - 0.5) * self._inner / 2
        return sample_patch(
            self._image,
            self._learned,
            self._weights,
            centre=(row + float(jitter[0]), column + float(jitter[1])),
            input_size=self.input_size,
            output_size=self._inner + self._geometry.surplus,
            config=self._augment,
            generator=self._generator,
        )

    def _integer(self, stop: int) -> int:
        return int(torch.randint(stop, (1,), generator=self._generator))


class _Scoring:
    """Measures Dice on the held-out strokes, seldom enough not to hold up learning."""

    def __init__(self, trainer: Trainer, image: SourceImage) -> None:
        self._trainer = trainer
        self._image = image
        self._next = time.monotonic() + _SECONDS_BETWEEN_SCORES

    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def measure(self, annotations: NDArray[np.uint8]) -> ScoreMeasured:
        """Predict around the held-out strokes and compare."""
        started = time.monotonic()
        score = self._measure(annotations)
        spent = time.monotonic() - started
        pause = max(_SECONDS_BETWEEN_SCORES, spent * (1 / _SHARE_OF_SCORING - 1))
        self._next = time.monotonic() + pause
        return score

    def _measure(self, annotations: NDArray[np.uint8]) -> ScoreMeasured:
        trainer = self._trainer
        held_out = trainer.held_out
        if held_out is None or not held_out.enough:
            reason = held_out.reason if held_out is not None else ""
            return ScoreMeasured(trainer.step, None, (), reason)
        prediction = np.zeros(self._image.shape, np.uint8)
        for region in stroke_boxes(held_out.mask):
            request = PredictRequest(
                self._image, region=region, precision="fast", device=trainer.config.device
            )
            for event in predict_tiles(trainer.model, request):
                if isinstance(event, TilePredicted):
                    prediction[event.inner] = class_labels(event.probability)
        dice = dice_per_class(
            prediction, annotations, trainer.model.config.classes, valid=held_out.mask
        )
        known = [value for value in dice if value is not None]
        return ScoreMeasured(trainer.step, float(np.mean(known)), dice, held_out.reason)
