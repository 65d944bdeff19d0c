"""Fine-tuning on drawn labels: a few strokes, patches around them, the paper's loss.

Sources: Ronneberger et al. 2015, section 3 (weighted loss, momentum, large tiles, batch one) and
section 3.1 (augmentation).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.device import is_out_of_memory
from napari_unet.engine.events import (
    Noticed,
    PieceDone,
    ScoreMeasured,
    StepCompleted,
    TrainingFinished,
)
from napari_unet.engine.finetune_request import FinetuneRequest, Mailbox
from napari_unet.engine.image import AnnotatedImage, fitting
from napari_unet.engine.predict import check_channels
from napari_unet.engine.scoring import Rival, Scoring
from napari_unet.engine.stroke_patches import StrokePatches
from napari_unet.engine.trainer import Trainer
from napari_unet.ops.errors import InputError

__all__ = ["FinetuneRequest", "Mailbox", "finetune"]

# Steps over which the loss that is reported at the end is averaged.
_LAST_STEPS = 20


def finetune(
    trainer: Trainer,
    request: FinetuneRequest,
    *,
    inbox: Mailbox[tuple[AnnotatedImage, ...]] | None = None,
    stop: threading.Event | None = None,
    rival: Rival | None = None,
) -> Iterator[StepCompleted | ScoreMeasured | PieceDone | Noticed | TrainingFinished]:
    """Fine-tune on strokes, one patch a step.

    Parameters
    ----------
    trainer
        The weights and the optimiser; they stay as the last step left them.
    request
        What to learn from, and for how long.
    inbox
        All images with strokes as they are by now, the one at hand first; taken in before the next
        step.
    stop
        Checked before every step; when it is set, the job ends.
    rival
        Answers the held-out strokes in another way; the score says how well.

    Yields
    ------
    StepCompleted
        After every step.
    ScoreMeasured
        Now and then: Dice on strokes that were held out, or why there is none.
    PieceDone
        Before it, after each tile that is predicted for it.
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
    learning = _Round(trainer, request)
    scoring = Scoring(trainer, request.image, rival, stop)
    while not learning.is_over and not (stop is not None and stop.is_set()):
        if inbox is not None and (images := inbox.take()) is not None:
            yield from learning.take_in(images)
        stepped = learning.step()
        yield stepped
        if isinstance(stepped, Noticed) or not scoring.is_due():
            continue
        yield from scoring.measure(learning.painted)
    # Who presses Stop does not wait for a score; a round that was learned to the end has its own.
    if learning.losses and learning.is_over:
        yield from scoring.measure(learning.painted)
    yield learning.finished()


class _Round:
    """A round of learning while it runs: its budget, its patches, its losses."""

    def __init__(self, trainer: Trainer, request: FinetuneRequest) -> None:
        self.losses: list[float] = []
        self._trainer, self._request = trainer, request
        self._clock = _Clock(request)
        self._source = StrokePatches(trainer, request)

    @property
    def is_over(self) -> bool:
        return self._clock.is_over(len(self.losses))

    @property
    def painted(self) -> NDArray[np.uint8]:
        return self._source.annotations_of(self._request.image)

    def take_in(self, images: tuple[AnnotatedImage, ...]) -> Iterator[Noticed]:
        """Learn from what is painted by now; if it cannot be used, go on with what was."""
        usable = fitting(images, self._trainer.model.config.in_channels)
        if not usable:
            yield Noticed("learning goes on with the earlier strokes: the image has other channels")
            return
        try:
            self._source = StrokePatches(self._trainer, self._request.with_strokes(tuple(usable)))
        except InputError as error:
            yield Noticed(f"learning goes on with the earlier strokes: {error}")

    def step(self) -> StepCompleted | Noticed:
        """Make a step, or smaller patches where memory runs out."""
        trainer, source = self._trainer, self._source
        try:
            self.losses.append(trainer.learn(source.draw()))
            source.remember(trainer.patch_losses)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not source.halve():
                raise
            size = source.input_size
            return Noticed(f"not enough memory; going on with patches of {size} pixels")
        return self._clock.completed(trainer.step, self.losses)

    def finished(self) -> TrainingFinished:
        losses = self.losses
        return TrainingFinished(
            self._trainer.step,
            len(losses),
            self._clock.elapsed(),
            float(np.mean(losses[-_LAST_STEPS:])) if losses else float("nan"),
            stopped=not self.is_over,
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
