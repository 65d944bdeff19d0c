"""A training from beginning to end: learn, choose the thresholds, save the model and the report."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_unet.engine.averaging import Averaging
from napari_unet.engine.dataset import LabelledSet
from napari_unet.engine.events import (
    FileSaved,
    JobEvent,
    ModelMeasured,
    Noticed,
    ValidationImagePredicted,
)
from napari_unet.engine.files import make_folder
from napari_unet.engine.results import InstanceSettings
from napari_unet.engine.training.record import training_record
from napari_unet.engine.training.report import (
    write_report,
)
from napari_unet.engine.training.train import Training, TrainRequest
from napari_unet.engine.training.validation import Measured, Validator
from napari_unet.engine.usage import Usage
from napari_unet.model.checkpoint import save_model
from napari_unet.ops.errors import InputError


def state_path(output: Path) -> Path:
    """Return where the state of the training that makes `output` is kept."""
    return output.with_name(f"{output.stem}.training")


def report_path(output: Path) -> Path:
    """Return where the report on `output` is written."""
    return output.with_suffix(".html")


def check_output(output: Path, *, overwrite: bool = False, restart: bool = False) -> None:
    """Refuse an output that cannot be written or would replace a model, before hours of work.

    Parameters
    ----------
    output
        The model file.
    overwrite
        Whether a model of that name may be replaced.
    restart
        Whether to delete the state of an unfinished training of that name.

    Raises
    ------
    InputError
        If the name is a folder's, or is taken.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder; add the name of the model file")
    make_folder(output.parent)
    unfinished = state_path(output)
    if restart:
        unfinished.unlink(missing_ok=True)
    if output.exists() and not overwrite and not unfinished.exists():
        raise InputError(f"{output} exists; choose another name, or --overwrite it")


def train_to_file(
    request: TrainRequest,
    output: Path,
    *,
    problems: Sequence[str] = (),
    command: str = "",
    stop: threading.Event | None = None,
) -> Iterator[JobEvent]:
    """Train, and leave a model with its thresholds and a report beside it.

    An unfinished training of the same name goes on where it was. After `stop`, what was learned so
    far is saved as well, and the same call goes on from there.

    Parameters
    ----------
    request
        What to train on, and how; its `state_path` should be that of `output`.
    output
        The model file; the report gets its name with the ending .html.
    problems
        What was left out when the data was read, for the report.
    command
        How the training was called, for the report.
    stop
        Ends the training in good order.

    Yields
    ------
    Noticed, StepCompleted, ValidationMeasured, TrainingFinished
        As `Training.run`.
    ValidationImagePredicted
        After each validation image of the last measurement.
    ModelMeasured
        The final score and the settings that were chosen.
    FileSaved
        The model and the report.

    Raises
    ------
    InputError
        If the sets cannot be learned from, or a file cannot be written.
    """
    training = Training(request)
    if request.state_path is not None and request.state_path.exists():
        training.resume(request.state_path)
        yield Noticed(f"going on with the training from step {training.step}")
    yield from training.run(stop)
    if not training.step:
        return
    measured = None
    if request.validation is not None and request.validation.images:
        measured = yield from _measure(training, request.validation, stop)
    usage = _usage(training, measured).learned_at(request.training.pixel_size)
    save_model(training.best_model(), output, usage.to_dict())
    record = training_record(training, measured, output, problems, command)
    saved = [output, write_report(report_path(output), record)]
    if training.ended != "stopped" and request.state_path is not None:
        with suppress(OSError):
            request.state_path.unlink(missing_ok=True)
    yield FileSaved(tuple(saved))


def _measure(
    training: Training, validation: LabelledSet, stop: threading.Event | None
) -> Generator[ValidationImagePredicted | ModelMeasured, None, Measured]:
    """Predict the validation images as users will, and choose how objects are cut out.

    After a Stop the versions are not averaged: who stops wants the result soon.
    """
    validator = Validator(validation, training.request.recipe, training.request.device)
    stopped = stop is not None and stop.is_set()
    model, probabilities = training.best_model(), []
    for number, image in enumerate(validation.images, start=1):
        averaging: Averaging | None = "none" if stopped else None
        probabilities.append(validator.predict(model, image, averaging=averaging))
        yield ValidationImagePredicted(image.name, number, len(validation.images))
    choice = validator.choose_settings(probabilities)
    words = choice.settings.sentence() if validation.kind == "instances" else ""
    yield ModelMeasured(validator.measure_name, choice.score, words)
    return Measured(validator.measure_name, choice, probabilities)


def _usage(training: Training, measured: Measured | None) -> Usage:
    request = training.request
    recipe = request.recipe
    notes: dict[str, Any] = {
        "recipe": recipe.name,
        "images": len(request.training.images),
        "steps": training.best_step or training.step,
        "seed": request.seed,
    }
    settings = InstanceSettings("seeds" if request.training.kind == "instances" else "components")
    if measured is not None:
        notes |= {"measure": measured.measure, "score": round(measured.choice.score, 4)}
        settings = measured.choice.settings
    return Usage(
        request.training.kind,
        request.training.class_values if request.training.kind == "semantic" else (),
        settings,
        recipe.averaging,
        notes,
    )
