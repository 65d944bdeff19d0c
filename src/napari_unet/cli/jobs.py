"""Run the engine's jobs with a progress bar on standard error and collect what they report."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_unet.cli.console import note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tqdm import tqdm

    from napari_unet.engine.events import ScoreMeasured, TrainingFinished
    from napari_unet.engine.finetune import FinetuneRequest
    from napari_unet.engine.predict import PredictRequest
    from napari_unet.engine.segmenter import Segmenter
    from napari_unet.model.unet import UNet

# The time left comes from tqdm's own estimate; the count of a share of a budget means nothing.
_TRAINING_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


@dataclass(slots=True)
class Training:
    """What a training reported.

    Attributes
    ----------
    losses
        Pairs of step and loss.
    scores
        Pairs of step and mean held-out Dice, where there was one.
    finished
        The last event.
    score
        The last measured score; None if the job was stopped before the first step.
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    finished: TrainingFinished | None = None
    score: ScoreMeasured | None = None

    def summary(self) -> dict[str, Any]:
        """Return the numbers that a script wants."""
        finished, score = self.finished, self.score
        return {
            "steps": finished.steps if finished else 0,
            "seconds": finished.seconds if finished else 0.0,
            "loss": finished.loss if finished else None,
            "stopped": finished.stopped if finished else True,
            "dice": score.dice if score else None,
            "dice_per_class": score.dice_per_class if score else (),
            "dice_reason": score.reason if score else "",
        }

    def sentence(self) -> str:
        """Return the outcome for a person."""
        summary = self.summary()
        text = f"{summary['steps']} steps in {summary['seconds']:.0f} s"
        if summary["steps"]:
            text += f", loss {summary['loss']:.3f}"
        if summary["dice"] is not None:
            text += f", held-out Dice {summary['dice']:.2f}"
        elif summary["dice_reason"]:
            text += f" ({summary['dice_reason']})"
        return text


def train(segmenter: Segmenter, request: FinetuneRequest, stop: threading.Event) -> Training:
    """Run a fine-tuning job to its end, or until `stop` is set."""
    from napari_unet.engine.events import (
        Noticed,
        ScoreMeasured,
        StepCompleted,
        TrainingFinished,
    )

    training = Training()
    with _bar("Learning", total=1.0, bar_format=_TRAINING_BAR) as bar:
        for event in segmenter.fine_tune_job(request, stop=stop):
            match event:
                case StepCompleted():
                    training.losses.append((event.step, event.loss))
                    bar.set_postfix_str(_state(training), refresh=False)
                    bar.update((event.fraction or 0.0) - bar.n)
                case ScoreMeasured():
                    training.score = event
                    if event.dice is not None:
                        training.scores.append((event.step, event.dice))
                case Noticed():
                    note(event.message)
                case TrainingFinished():
                    training.finished = event
    return training


def predict_image(
    model: UNet, request: PredictRequest, stop: threading.Event, title: str
) -> NDArray[np.float32] | None:
    """Predict a whole image; shape (classes, Y, X). None if it was stopped before the end."""
    import numpy as np

    from napari_unet.engine.events import Noticed, PredictionFinished, TilePredicted
    from napari_unet.engine.predict import predict_tiles

    probability = np.zeros((model.config.classes, *request.image.shape), np.float32)
    stopped = True
    with _bar(title, unit="tile") as bar:
        for event in predict_tiles(model, request, stop):
            match event:
                case TilePredicted():
                    probability[(slice(None), *event.inner)] = event.probability
                    bar.total = event.total
                    bar.update(event.done - bar.n)
                case Noticed():
                    note(event.message)
                case PredictionFinished():
                    stopped = event.stopped
    return None if stopped else probability


def _state(training: Training) -> str:
    text = f"step {training.losses[-1][0]}, loss {training.losses[-1][1]:.3f}"
    return f"{text}, Dice {training.scores[-1][1]:.2f}" if training.scores else text


def _bar(title: str, **options: Any) -> tqdm[Any]:
    from tqdm import tqdm

    # disable=None: no bar where standard error is a file.
    return tqdm(desc=title, disable=None, leave=True, dynamic_ncols=True, **options)
