"""Training on dense labels: from a labelled set to a model with honest numbers.

Source: Ronneberger et al. 2015, section 3 (weighted loss, momentum, large tiles, batch one) and
section 3.1 (augmentation). Validation, early stopping and the best weights are not in the paper.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from napari_unet.engine.ahead import Ahead
from napari_unet.engine.dataset import LabelledSet
from napari_unet.engine.device import is_out_of_memory
from napari_unet.engine.events import (
    Noticed,
    StepCompleted,
    TrainingFinished,
    ValidationMeasured,
)
from napari_unet.engine.plan import Precision
from napari_unet.engine.trainer import Trainer
from napari_unet.engine.training.pace import Pace, Schedule
from napari_unet.engine.training.patches import DensePatches, class_count
from napari_unet.engine.training.recipe import DEFAULT, Recipe
from napari_unet.engine.training.state import TrainingState, load_state, save_state
from napari_unet.engine.training.validation import Validator
from napari_unet.model.augment import Patch
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError

Ending = Literal["", "budget", "early stopping", "stopped"]

# Steps over which the loss that is reported at the end is averaged.
_LAST_STEPS = 20
# The highest of some dozens of scores lies about so many standard deviations above their mean; of
# fewer scores nobody knows how far they wander.
_LUCKY_DEVIATIONS = 2.0
_FEWEST_SCORES = 10


@dataclass(frozen=True, slots=True, eq=False)
class TrainRequest:
    """What to train on, how, and for how long.

    Attributes
    ----------
    training, validation
        Labelled sets of the same kind and classes; without validation images there is neither a
        score nor early stopping, and the last weights are kept.
    recipe
        How to train.
    seconds, steps
        The budget; the job ends with whichever is used up first. With neither it ends when the
        validation measure has stopped rising.
    validate_every
        Steps between validations; None: so that they take a tenth of the time.
    patience
        Validations without a better measure after which training comes to its end.
    seed
        Of the first weights and everything random.
    precision, device
        As for `napari_unet.engine.trainer.FinetuneConfig`.
    state_path
        Where the state is saved every minute, so that a training that was killed goes on; None
        saves nothing.
    """

    training: LabelledSet
    validation: LabelledSet | None = None
    recipe: Recipe = DEFAULT
    seconds: float | None = None
    steps: int | None = None
    validate_every: int | None = None
    patience: int = 25
    seed: int = 0
    precision: Precision = "auto"
    device: str = "auto"
    state_path: Path | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "steps", "validate_every", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"{name} must be above 0, or be left out")
        measured = self.validation is not None and self.validation.images
        if self.seconds is None and self.steps is None and not measured:
            raise InputError("without validation images the training has no end; give it minutes")


@dataclass(slots=True)
class History:
    """What happened so far: pairs of step and loss, pairs of step and measure."""

    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)


class Training:
    """A training that can be stopped, saved, resumed and looked at.

    Parameters
    ----------
    request
        What to train on, and how.

    Attributes
    ----------
    model
        The network, which changes while it learns; `best_model` returns what to keep.
    history
        Losses and scores.
    best_step, best_score
        When the validation measure was highest, and how high; None without a validation.
    ended
        Why it ended; empty while it may go on.

    Raises
    ------
    InputError
        If the sets cannot be learned from.
    """

    def __init__(self, request: TrainRequest) -> None:
        self.request = request
        recipe = request.recipe
        classes = class_count(request.training, recipe)
        training = request.training
        config = recipe.network(training.channels, classes, training.spacing)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            self.model = UNet.from_config(config)
        learning = recipe.learning(
            seed=request.seed, precision=request.precision, device=request.device
        )
        self._trainer = Trainer(self.model, learning)
        self._patches = DensePatches(training, recipe, config.geometries, self._trainer.generator)
        self._ahead: Ahead[Patch] | None = None
        self._validator = None
        if request.validation is not None and request.validation.images:
            self._validator = Validator(request.validation, recipe, request.device)
        self.history = History()
        self.best_step: int | None = None
        self.best_score: float | None = None
        self.ended: Ending = ""
        self._best: dict[str, Tensor] | None = None
        self._elapsed = 0.0
        self._schedule = Schedule(recipe.schedule, request.seconds, request.steps)

    @property
    def step(self) -> int:
        """Steps made so far."""
        return self._trainer.step

    @property
    def elapsed(self) -> float:
        """Seconds spent so far, in all jobs."""
        return self._elapsed

    @property
    def plan_name(self) -> str:
        """Precision, memory layout and device, in a few words."""
        return self._trainer.plan.name

    def best_model(self) -> UNet:
        """Return a network with the best weights so far, in evaluation mode on the processor."""
        model = UNet.from_config(self.model.config)
        model.load_state_dict(self._best or self.model.state_dict())
        return model.eval()

    def resume(self, path: Path) -> None:
        """Go on where the state in a file was saved.

        Raises
        ------
        InputError
            If the file cannot be read, or is of other images, another recipe or another seed.
        """
        state = load_state(path)
        if state.fingerprint != self._fingerprint():
            raise InputError(
                f"{path} is the state of a training on other images or with other settings; "
                "use the same ones again, or start anew"
            )
        self._trainer.restore(state.trainer, state.step)
        self._best = state.best or None
        self.best_step, self.best_score = state.best_step, state.best_score
        self.history = History(list(state.losses), list(state.scores))
        self._elapsed = state.elapsed
        self._schedule.decay = state.decay
        self.ended = ""

    def save(self, path: Path) -> None:
        """Save the state, whole or not at all.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        if self._ahead is not None:
            self._ahead.rewind()
        state = TrainingState(
            fingerprint=self._fingerprint(),
            step=self.step,
            elapsed=self._elapsed,
            best_step=self.best_step,
            best_score=self.best_score,
            losses=tuple(self.history.losses),
            scores=tuple(self.history.scores),
            decay=self._schedule.decay,
            trainer=self._trainer.state(),
            best=self._best or {},
        )
        save_state(path, state)

    def run(
        self, stop: threading.Event | None = None
    ) -> Iterator[StepCompleted | ValidationMeasured | Noticed | TrainingFinished]:
        """Train until the budget is used up, the measure has stopped rising, or `stop` is set.

        Yields
        ------
        StepCompleted
            After every step.
        ValidationMeasured
            Now and then.
        Noticed
            When memory ran out, or the state could not be saved.
        TrainingFinished
            Last.
        """
        pace = Pace(self._elapsed)
        with Ahead(self._patches.draw, self._trainer.generator) as self._ahead:
            # What whoever drives this generator does between two events is not training.
            for event in self._run(pace, stop, self._ahead):
                pace.hold()
                yield event
                pace.go_on()
        self._ahead = None

    def _run(
        self, pace: Pace, stop: threading.Event | None, ahead: Ahead[Patch]
    ) -> Iterator[StepCompleted | ValidationMeasured | Noticed | TrainingFinished]:
        first = self.step
        schedule = self._schedule
        while not schedule.is_over(self.step, self._elapsed):
            if stop is not None and stop.is_set():
                break
            self._trainer.scale_learning_rate(schedule.rate(self.step, self._elapsed))
            try:
                loss = self._trainer.learn(ahead.take(self.step))
            except (RuntimeError, MemoryError) as error:
                ahead.rewind()
                if not is_out_of_memory(error) or not self._patches.halve():
                    raise
                size = self._patches.input_size
                yield Noticed(f"not enough memory; going on with patches of {size} pixels")
                continue
            self.history.losses.append((self.step, loss))
            self._elapsed = pace.elapsed()
            yield self._completed(loss)
            if self._validator is not None and pace.validation_is_due(
                self.step, self.request.validate_every
            ):
                yield self._validate()
                self._elapsed = pace.validated()
            if self.request.state_path is not None and pace.save_is_due():
                yield from self._save_if_possible(self.request.state_path)
                pace.saved()
        if self._validator is not None and self.step > first and not self._validated_last():
            yield self._validate()
        self._elapsed = pace.elapsed()
        self.ended = self._ending()
        if self.request.state_path is not None and self.step > first:
            yield from self._save_if_possible(self.request.state_path)
        yield self._finished(first)

    # ------------------------------------------------------------------ parts of a step

    def _completed(self, loss: float) -> StepCompleted:
        fraction = self._schedule.fraction(self.step, self._elapsed)
        remaining = None
        if fraction is not None:
            remaining = self._elapsed / max(fraction, 1e-9) - self._elapsed
        return StepCompleted(self.step, loss, self._elapsed, fraction, remaining)

    def _validate(self) -> ValidationMeasured:
        assert self._validator is not None
        score, per_image = self._validator.measure(self.model)
        is_best = self.best_score is None or score >= self.best_score - self._luck()
        self.history.scores.append((self.step, score))
        if is_best:
            self.best_step, self.best_score = self.step, score
            self._best = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
            }
        elif self._has_settled() and not self._schedule.ends_early:
            self._schedule.begin_to_end(self.step, self._elapsed)
        return ValidationMeasured(
            self.step, self._validator.measure_name, score, is_best, per_image
        )

    def _save_if_possible(self, path: Path) -> Iterator[Noticed]:
        try:
            self.save(path)
        except InputError as error:
            yield Noticed(f"the training goes on, but its state was not saved: {error}")

    def _finished(self, first: int) -> TrainingFinished:
        losses = [loss for _, loss in self.history.losses[-_LAST_STEPS:]]
        return TrainingFinished(
            self.step,
            self.step - first,
            self._elapsed,
            float(np.mean(losses)) if losses else float("nan"),
            stopped=self.ended == "stopped",
        )

    # ------------------------------------------------------------------ when it ends

    def _luck(self) -> float:
        """Return by how much the best score so far may be better than its weights are.

        The highest of many scores that wander is partly luck. When the learning rate has fallen to
        0 the weights have settled, and they are kept unless an earlier score was clearly higher.
        """
        scores = [score for _, score in self.history.scores]
        over = self._schedule.is_over(self.step, self._elapsed)
        if not over or not self._schedule.decays or len(scores) < _FEWEST_SCORES:
            return 0.0
        # The median does not mind the rise at the beginning; 1.48 makes it a standard deviation.
        wander = 1.48 * float(np.median(np.abs(np.diff(scores)))) / np.sqrt(2)
        return float(_LUCKY_DEVIATIONS * wander)

    def _has_settled(self) -> bool:
        since = sum(step > (self.best_step or 0) for step, _ in self.history.scores)
        return since >= self.request.patience

    def _ending(self) -> Ending:
        if not self._schedule.is_over(self.step, self._elapsed):
            return "stopped"
        return "early stopping" if self._schedule.ends_early else "budget"

    def _validated_last(self) -> bool:
        return bool(self.history.scores) and self.history.scores[-1][0] == self.step

    def _fingerprint(self) -> dict[str, object]:
        """Return what has to be the same for a training to go on."""
        request = self.request
        validation = request.validation.digest() if request.validation is not None else {}
        return {
            "recipe": request.recipe.to_dict(),
            "seed": request.seed,
            "training": request.training.digest(),
            "validation": validation,
        }
