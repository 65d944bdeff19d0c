"""Run the engine's jobs with a progress bar on standard error and collect what they report."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.cli.console import note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tqdm import tqdm

    from napari_unet.engine.events import (
        ModelMeasured,
        ScoreMeasured,
        StepCompleted,
        TrainingFinished,
        ValidationMeasured,
    )
    from napari_unet.engine.finetune import FinetuneRequest
    from napari_unet.engine.predict import PredictRequest
    from napari_unet.engine.segmenter import Segmenter
    from napari_unet.engine.training.train import TrainRequest
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
    with progress_bar("Learning", total=1.0, bar_format=_TRAINING_BAR) as bar:
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


@dataclass(slots=True)
class TrainingOutcome:
    """What a training on a labelled set reported.

    Attributes
    ----------
    finished
        The end of the learning; None if it never began.
    validation
        The last measurement while it learned.
    best
        The best of them.
    measured
        The final score.
    files
        Model and report.
    """

    finished: TrainingFinished | None = None
    validation: ValidationMeasured | None = None
    best: ValidationMeasured | None = None
    measured: ModelMeasured | None = None
    files: tuple[Path, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the numbers that a script wants."""
        finished, measured = self.finished, self.measured
        return {
            "files": self.files,
            "steps": finished.step if finished else 0,
            "seconds": finished.seconds if finished else 0.0,
            "loss": finished.loss if finished else None,
            "stopped": finished.stopped if finished else True,
            "best_step": self.best.step if self.best else None,
            "measure": measured.measure if measured else None,
            "score": measured.value if measured else None,
            "objects": measured.settings if measured else "",
        }

    def lines(self) -> list[str]:
        """Return the outcome for a person."""
        finished, measured = self.finished, self.measured
        if finished is None:
            return []
        text = f"{finished.step} steps in {finished.seconds / 60:.1f} min, loss {finished.loss:.3f}"
        if measured is not None:
            text += f", {measured.measure} {measured.value:.3f} on the validation images"
        lines = [text]
        if measured is not None and measured.settings:
            lines.append(f"objects are cut out by {measured.settings}")
        return [*lines, *map(str, self.files)]


def run_training(
    request: TrainRequest,
    output: Path,
    stop: threading.Event,
    *,
    problems: Sequence[str] = (),
    command: str = "",
) -> TrainingOutcome:
    """Run a training on a labelled set to its end, or until `stop` is set."""
    from napari_unet.engine.events import (
        FileSaved,
        ModelMeasured,
        Noticed,
        StepCompleted,
        TrainingFinished,
        ValidationImagePredicted,
        ValidationMeasured,
    )
    from napari_unet.engine.training.run import train_to_file

    outcome = TrainingOutcome()
    job = train_to_file(request, output, problems=problems, command=command, stop=stop)
    with progress_bar("Learning", total=1.0, bar_format=_TRAINING_BAR) as bar:
        for event in job:
            match event:
                case StepCompleted():
                    bar.set_postfix_str(_training_state(event, outcome), refresh=False)
                    bar.update((event.fraction or 0.0) - bar.n)
                case ValidationMeasured():
                    outcome.validation = event
                    outcome.best = event if event.is_best else outcome.best
                case ValidationImagePredicted():
                    bar.set_postfix_str(f"measuring {event.done} of {event.total}")
                case ModelMeasured():
                    outcome.measured = event
                case Noticed():
                    note(event.message)
                case TrainingFinished():
                    outcome.finished = event
                case FileSaved():
                    outcome.files = event.paths
    return outcome


def _training_state(event: StepCompleted, outcome: TrainingOutcome) -> str:
    text = f"step {event.step}, loss {event.loss:.3f}"
    if outcome.validation is None or outcome.best is None:
        return text
    last, best = outcome.validation, outcome.best
    return f"{text}, {last.measure} {last.value:.3f} (best {best.value:.3f})"


def predict_image(
    model: UNet, request: PredictRequest, stop: threading.Event, title: str
) -> NDArray[np.float32] | None:
    """Predict a whole image; shape (classes, Y, X). None if it was stopped before the end."""
    import numpy as np

    from napari_unet.engine.events import Noticed, PredictionFinished, TilePredicted
    from napari_unet.engine.predict import predict_tiles

    probability = np.zeros((model.config.classes, *request.image.shape), np.float32)
    stopped = True
    with progress_bar(title, unit="tile") as bar:
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


def progress_bar(title: str, **options: Any) -> tqdm[Any]:
    """Return a progress bar on standard error; none where that is a file."""
    from tqdm import tqdm

    # disable=None: no bar where standard error is a file.
    return tqdm(desc=title, disable=None, leave=True, dynamic_ncols=True, **options)
