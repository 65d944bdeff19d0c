"""The jobs of the Train dock: read labelled images, train on them. No Qt."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_unet.engine.dataset import LabelledSet, split_by_image
from napari_unet.engine.events import (
    JobEvent,
    StepCompleted,
    TrainingFinished,
    ValidationImagePredicted,
    ValidationMeasured,
)
from napari_unet.engine.training.recipe import Recipe
from napari_unet.engine.training.run import check_output, state_path, train_to_file
from napari_unet.engine.training.state import TrainingState, load_state
from napari_unet.engine.training.train import TrainRequest
from napari_unet.engine.training.validation import Validator
from napari_unet.ops.errors import InputError
from napari_unet.viewer.train.sources import FolderSource, KindChoice, Progress, Source

# Of the curve of an unfinished training; more cannot be told apart.
_MOST_PAST_LOSSES = 500


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Which images to read, what their labels are, and which share to hold out (0: none)."""

    source: Source
    kind: KindChoice
    fraction: float


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """How to train on what was read.

    Attributes
    ----------
    recipe, seconds
        As in `napari_unet.engine.training.train.TrainRequest`.
    output
        The model file; one of that name is replaced.
    restart
        Whether to forget an unfinished training of that name.
    """

    recipe: Recipe
    seconds: float
    output: Path
    restart: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Labelled images as they were read, in two parts.

    Attributes
    ----------
    request
        What was read.
    labelled
        All images.
    train, validation
        The two parts; None if nothing is held out.
    split_note
        How they were made, a sentence.
    """

    request: ReadRequest
    labelled: LabelledSet
    train: LabelledSet
    validation: LabelledSet | None
    split_note: str

    def sentences(self) -> list[str]:
        """Return for the user how many images there are, what they are, and what is held out."""
        count = len(self.labelled.images)
        images = "1 image" if count == 1 else f"{count} images"
        return [
            f"{images}, {self.labelled.kind_reason}",
            *self.labelled.notes,
            self.split_note,
        ]


class _Abandoned(InputError):
    """Nobody wants the images any more."""


def read_job(
    request: ReadRequest,
    known: LabelledSet | None,
    done: Callable[[Reading], None],
    progress: Progress,
    stop: threading.Event,
) -> Iterator[JobEvent]:
    """Read and split labelled images.

    Parameters
    ----------
    request
        What to read.
    known
        The images, if they have been read already and only the split is another one.
    done
        Called on the worker thread with the result.
    progress
        Called on the worker thread with the number of images read and of all.
    stop
        Ends the reading after the image in progress.

    Raises
    ------
    InputError
        If no image can be used.
    """

    def count(read: int, total: int) -> None:
        if stop.is_set():
            raise _Abandoned("the reading was stopped")
        progress(read, total)

    try:
        labelled = known or request.source.read(request.kind, count)
    except _Abandoned:
        return
    if request.fraction:
        split = split_by_image(labelled, request.fraction)
        done(Reading(request, labelled, split.train, split.validation, split.note))
    else:
        note = "nothing is held out: there will be no score, and the last weights are kept"
        done(Reading(request, labelled, labelled, None, note))
    yield from ()


def training_job(
    reading: Reading, plan: TrainPlan, stop: threading.Event, leave: threading.Event
) -> Iterator[JobEvent]:
    """Train on what was read and leave model and report, see `train_to_file`.

    If an unfinished training goes on, its losses and scores so far are reported first.

    Parameters
    ----------
    reading
        The images.
    plan
        How to train.
    stop
        Ends the training; model and report are made from what was learned.
    leave
        Ends it sooner: the state is saved, model and report are left for another day.
    """
    check_output(plan.output, overwrite=True, restart=plan.restart)
    state = state_path(plan.output)
    request = TrainRequest(
        reading.train,
        reading.validation,
        plan.recipe,
        seconds=plan.seconds,
        state_path=state,
    )
    goes_on = state.exists()
    job = train_to_file(
        request,
        plan.output,
        problems=reading.labelled.problems,
        command=command_line(reading.request, plan),
        stop=stop,
    )
    for event in job:
        yield event
        if goes_on:
            goes_on = False
            yield from _past(load_state(state), reading.validation, plan.recipe)
        # By now the state is saved; what follows may take minutes.
        if leave.is_set() and isinstance(event, TrainingFinished | ValidationImagePredicted):
            return


def _past(
    state: TrainingState, validation: LabelledSet | None, recipe: Recipe
) -> Iterator[StepCompleted | ValidationMeasured]:
    """Report what an unfinished training reported when it ran."""
    stride = len(state.losses) // _MOST_PAST_LOSSES + 1
    for step, loss in state.losses[::stride]:
        yield StepCompleted(step, loss, state.elapsed, None, None)
    if validation is None:
        return
    measure = Validator(validation, recipe).measure_name
    best = float("-inf")
    for step, value in state.scores:
        best = max(best, value)
        yield ValidationMeasured(step, measure, value, value == best, ())


def command_line(request: ReadRequest, plan: TrainPlan) -> str:
    """Return how the training was called: for folders, the command that does the same."""
    source = request.source
    if not isinstance(source, FolderSource):
        names = ", ".join(pair.name for pair in source.pairs)
        return f"Train dock, {plan.recipe.name}, {plan.seconds / 60:g} minutes, layers: {names}"
    words = ["napari-unet", "train", str(source.images), str(source.labels)]
    words += ["-o", str(plan.output), "--recipe", plan.recipe.name]
    words += ["--minutes", f"{plan.seconds / 60:g}", "--validation", f"{request.fraction:g}"]
    return shlex.join([*words, "--kind", request.kind])
