"""What a job reports while it runs: frozen events, in the past tense.

A job is a generator of these. The command line, a notebook, a test and the docks all drive the
same generators and differ only in what they do with the events.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.image import SourceImage
from napari_unet.engine.images.events import BatchEvent
from napari_unet.engine.score_table import ScoreTable, Values
from napari_unet.ops.clicks import Outline
from napari_unet.ops.guidance import Suggestion
from napari_unet.ops.tiling import Box


@dataclass(frozen=True, slots=True, eq=False)
class TilePredicted:
    """One tile of the probability map is there.

    Attributes
    ----------
    inner
        Where the tile lies in the image: a row slice and a column slice.
    probability
        Shape (classes, rows, columns) of `inner`, float32 in [0, 1], summing to 1 over classes.
    done, total
        Tiles finished so far, this one included, and tiles in all.
    plane
        Of a stack, the position along the axes before rows and columns.
    """

    inner: Box
    probability: NDArray[np.float32]
    done: int
    total: int
    plane: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something that the user should know, in one sentence; the job goes on."""

    message: str


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


@dataclass(frozen=True, slots=True, eq=False)
class ObjectOutlined:
    """Clicks were answered.

    Attributes
    ----------
    outline
        The object.
    plane
        Of a stack; 0 otherwise.
    """

    outline: Outline
    plane: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ObjectsProposed:
    """Objects like those that were committed were looked for.

    Attributes
    ----------
    outlines
        What was found since the last such event, none of it overlapping another or a committed one.
    done, total
        Places looked at so far, and in all.
    """

    outlines: tuple[Outline, ...]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class AdaptingStepMade:
    """One step of adapting to the objects of an image is done.

    Attributes
    ----------
    step, total
        Steps so far, this one included, and in all.
    loss
        Of this step.
    """

    step: int
    total: int
    loss: float


@dataclass(frozen=True, slots=True)
class ClicksAdapted:
    """The network that answers clicks was adapted to the objects of an image.

    Attributes
    ----------
    objects
        How many it was adapted to.
    before, after
        Mean intersection over union of its first answers on objects that were held back; None if
        there were too few to hold any back.
    used
        Whether the adapted network is used: not if it is worse on what was held back.
    """

    objects: int
    before: float | None
    after: float | None
    used: bool


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
class PredictionFinished:
    """A prediction job ended.

    Attributes
    ----------
    tiles
        How many were predicted.
    seconds
        How long it took.
    stopped
        Whether it was asked to stop before the last tile.
    exact
        Whether it was predicted in float32, from the beginning or because the first tile demanded
        it.
    """

    tiles: int
    seconds: float
    stopped: bool
    exact: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WeightsComputed:
    """A part of a weight map is there.

    Attributes
    ----------
    window
        Where it lies in the image: a row slice and a column slice.
    weights
        Shape of `window`, float32, >= 0.
    """

    window: Box
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PlaneFinished:
    """A plane of a stack is done.

    Attributes
    ----------
    done, total
        Planes finished so far, this one included, and planes in all.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class InstancesFound:
    """Objects were cut out of a probability map.

    Attributes
    ----------
    instances
        Shape (Y, X), of a stack (..., Y, X), int32: 0 is background, objects are 1 to `count`.
    count
        How many there are.
    """

    instances: NDArray[np.int32]
    count: int


@dataclass(frozen=True, slots=True)
class RegionsSuggested:
    """Regions were found where strokes are expected to help most.

    Attributes
    ----------
    regions
        Most useful first.
    expected_error
        Share of all predicted pixels that is expected to be wrong, if the probabilities are right.
    """

    regions: tuple[Suggestion, ...]
    expected_error: float


@dataclass(frozen=True, slots=True)
class ThresholdTried:
    """A threshold of probabilities was tried on all images.

    Attributes
    ----------
    threshold
        The probability.
    error
        The Rand error with it.
    done, total
        Thresholds so far, this one included, and in all.
    """

    threshold: float
    error: float
    done: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class ImageEvaluated:
    """One image was evaluated.

    Attributes
    ----------
    name
        Its name.
    values
        Every measure by name; None where there is nothing to measure.
    errors
        Shape (Y, X), uint8: the error map, see `napari_unet.ops.error_map`.
    done, total
        Images so far, this one included, and in all.
    """

    name: str
    values: Values
    errors: NDArray[np.uint8]
    done: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationFinished:
    """The evaluation ended; `stopped` if it was asked to before the last image."""

    table: ScoreTable
    stopped: bool


@dataclass(frozen=True, slots=True)
class ExportAdvanced:
    """A part of an export is done, `done` of `total`."""

    message: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class FileSaved:
    """Files were written."""

    paths: tuple[Path, ...]


JobEvent = (
    TilePredicted
    | Noticed
    | StepCompleted
    | ObjectOutlined
    | ObjectsProposed
    | AdaptingStepMade
    | ClicksAdapted
    | ScoreMeasured
    | ValidationMeasured
    | ValidationImagePredicted
    | ModelMeasured
    | TrainingFinished
    | PredictionFinished
    | WeightsComputed
    | PlaneFinished
    | InstancesFound
    | ThresholdTried
    | ImageEvaluated
    | EvaluationFinished
    | ExportAdvanced
    | FileSaved
    | RegionsSuggested
    | RoundChecked
    | RoundUndone
    | BatchEvent
)
