"""What learning reports, from strokes and from labelled sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.image import SourceImage
from napari_unet.ops.tiling import Box


@dataclass(frozen=True, slots=True)
class LearningPlanned:
    """How a round of fine-tuning computes, told before its first step.

    Attributes
    ----------
    patches
        How many patches are in a step.
    side
        Their output side in pixels, rounded up to the network's pooling grid.
    precision
        Of the convolutions, such as "bfloat16"; weights are float32.
    threads
        How many compute; 0 where a graphics card does.
    reason
        Sentences: how each was chosen, with what was measured.
    """

    patches: int
    side: int
    precision: str
    threads: int
    reason: str

    @property
    def words(self) -> str:
        """All of it in one line."""
        patches = f"{self.patches} patches" if self.patches > 1 else "a patch"
        threads = {0: "on the graphics card", 1: "one thread"}
        who = threads.get(self.threads, f"{self.threads} threads")
        return f"{patches} of {self.side} pixels a step, {self.precision}, {who}"


@dataclass(frozen=True, slots=True)
class StepCompleted:
    """One training step is done.

    Attributes
    ----------
    step
        Steps made on these weights since they were created or loaded, this one included.
    loss
        Weighted cross-entropy of this step's patch.
    elapsed
        Seconds since this job began.
    fraction
        Share of this job's budget that is used up, 0 to 1; None for a job without an end.
    remaining
        Expected seconds to the end; None for a job without an end.
    """

    step: int
    loss: float
    elapsed: float
    fraction: float | None
    remaining: float | None


@dataclass(frozen=True, slots=True)
class ScoreMeasured:
    """The score on strokes that were held out from training, or why there is none.

    Attributes
    ----------
    step
        The training step at which it was measured.
    dice
        Mean Dice over the classes that have held-out strokes, 0 to 1; None if there are too few
        strokes to know.
    dice_per_class
        One value per class, in the order of the classes; None for a class without held-out strokes.
    reason
        A sentence: what the score rests on, or why there is none.
    interval
        Within which nine of ten scores on other strokes like these are expected; None if there are
        too few strokes to know.
    strokes
        How many strokes of the class with the fewest were held out, of classes that have any.
    at_once
        The same Dice of the answer that is given at once, before anything is fine-tuned; None
        without one.
    """

    step: int
    dice: float | None
    dice_per_class: tuple[float | None, ...] = ()
    reason: str = ""
    interval: tuple[float, float] | None = None
    strokes: int = 0
    at_once: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RoundChecked:
    """A round of learning ended, and what the user had accepted was predicted again.

    Attributes
    ----------
    changed, total
        Accepted pixels of another class than before, and accepted pixels in all.
    flips
        Where they are: image, box and mask of every accepted region, whether or not it changed.
    taken_back
        Whether so many changed that the weights are those before the round again.
    """

    changed: int
    total: int
    flips: tuple[tuple[SourceImage, Box, NDArray[np.bool_]], ...]
    taken_back: bool


@dataclass(frozen=True, slots=True)
class RoundUndone:
    """The weights are those before the last round; `left` more rounds can be taken back."""

    step: int
    left: int


@dataclass(frozen=True, slots=True)
class ValidationMeasured:
    """The network was measured on images held out from training.

    Attributes
    ----------
    step
        The training step at which it was measured.
    measure
        Its name, such as "mean IoU".
    value
        Mean over the images, 0 to 1, more is better.
    is_best
        Whether no earlier weights were better; these are kept.
    per_image
        Name and value of every image.
    """

    step: int
    measure: str
    value: float
    is_best: bool
    per_image: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class ValidationImagePredicted:
    """One of the validation images was predicted with the best weights, `done` of `total`."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ModelMeasured:
    """The best weights were measured as they will be used, thresholds and averaging included.

    Attributes
    ----------
    measure
        The name of the measure.
    value
        Mean over the validation images, 0 to 1, more is better.
    settings
        How objects are cut out best, in words; empty for classes.
    """

    measure: str
    value: float
    settings: str


@dataclass(frozen=True, slots=True)
class TrainingFinished:
    """A training job ended, by its budget or because it was asked to stop.

    Attributes
    ----------
    step
        Steps made on these weights in all.
    steps
        Steps made by this job.
    seconds
        How long the job ran.
    loss
        Mean loss of the last steps; NaN if there was no step.
    stopped
        True if it was asked to stop before its budget was used up.
    """

    step: int
    steps: int
    seconds: float
    loss: float
    stopped: bool
