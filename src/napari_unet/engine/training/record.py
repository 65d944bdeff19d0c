"""What the report on a training shows, gathered from the training and its last measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet import __version__
from napari_unet.engine.dataset import LabelledImage, LabelledSet
from napari_unet.engine.results import InstanceSettings, find_instances
from napari_unet.engine.training.recipe import DEFAULT, RECIPES, Recipe
from napari_unet.engine.training.report import ReportExample, ReportImage, TrainingRecord
from napari_unet.engine.training.train import Training
from napari_unet.engine.training.validation import Measured
from napari_unet.ops.instances import class_labels

# Worst and best validation images shown in the report, of each.
_EXAMPLES = 3


def training_record(
    training: Training,
    measured: Measured | None,
    output: Path,
    problems: Sequence[str],
    command: str,
) -> TrainingRecord:
    """Gather what the report shows.

    Parameters
    ----------
    training
        The training, ended.
    measured
        The best weights on the validation images; None if there are none.
    output
        The model file.
    problems
        What was left out when the data was read.
    command
        How the training was called.
    """
    request = training.request
    recipe, labelled = request.recipe, request.training
    precision, _, device = training.plan_name.rpartition(", ")
    return TrainingRecord(
        title=f"Training of {output.stem}",
        created=datetime.now().astimezone(),
        model_file=output.name,
        recipe=recipe.name,
        kind=labelled.kind,
        configuration=_configuration(recipe),
        reference=_configuration(_origin(recipe)),
        images=tuple(_images(labelled, request.validation)),
        problems=tuple(problems),
        notes=labelled.notes,
        losses=training.history.losses,
        scores=training.history.scores,
        measure=measured.measure if measured else "score",
        best_step=training.best_step,
        seconds=training.elapsed,
        steps=training.step,
        ended={"budget": "time over"}.get(training.ended, training.ended),
        device=device,
        precision=precision,
        seed=request.seed,
        version=__version__,
        command=command,
        final_scores=_final_scores(measured),
        settings=_settings(measured.choice.settings) if measured and _is_cut(labelled) else {},
        tried=_tried(measured),
        examples=_examples(measured, request.validation) if measured else (),
    )


def _configuration(recipe: Recipe) -> dict[str, Any]:
    return {name: value for name, value in recipe.to_dict().items() if name != "name"}


def _origin(recipe: Recipe) -> Recipe:
    """Return the recipe that this one was made from by changing values."""
    return RECIPES.get(recipe.name.partition(",")[0], DEFAULT)


def _is_cut(labelled: LabelledSet) -> bool:
    return labelled.kind == "instances"


def _images(training: LabelledSet, validation: LabelledSet | None) -> Iterator[ReportImage]:
    held_out = validation.images if validation is not None else ()
    digests = training.digest() | (validation.digest() if validation is not None else {})
    for image in training.images:
        objects = _count(image) if _is_cut(training) else None
        yield ReportImage(image.name, "training", image.image.shape, objects, digests[image.name])
    for image in held_out:
        objects = _count(image) if _is_cut(training) else None
        yield ReportImage(image.name, "validation", image.image.shape, objects, digests[image.name])


def _count(image: LabelledImage) -> int:
    return len(image.values() - {0})


def _final_scores(measured: Measured | None) -> dict[str, dict[str, float]]:
    if measured is None:
        return {}
    return {name: {measured.measure: value} for name, value in measured.choice.per_image}


def _settings(settings: InstanceSettings) -> Mapping[str, Any]:
    values = asdict(settings)
    if settings.method != "seeds":
        del values["seed_threshold"]
    return {name.replace("_", " "): value for name, value in values.items() if value is not None}


def _tried(measured: Measured | None) -> tuple[tuple[Mapping[str, Any], float], ...]:
    if measured is None:
        return ()
    return tuple((_settings(settings), score) for settings, score in measured.choice.tried)


def _examples(measured: Measured, validation: LabelledSet | None) -> tuple[ReportExample, ...]:
    """Take the worst and the best validation images; of few, each once."""
    assert validation is not None
    order = np.argsort([score for _, score in measured.choice.per_image])
    worst = order[:_EXAMPLES]
    best = [index for index in order[::-1][:_EXAMPLES] if index not in worst]
    return tuple(
        _example(measured, validation, int(index), is_worst)
        for indices, is_worst in ((worst, True), (best, False))
        for index in indices
    )


def _example(
    measured: Measured, validation: LabelledSet, index: int, is_worst: bool
) -> ReportExample:
    image, probability = validation.images[index], measured.probabilities[index]
    name, score = measured.choice.per_image[index]
    truth, prediction = _compared(image, probability, measured, validation)
    # Of a stack, the plane with the most to see.
    shown: Any = ... if image.ndim == 2 else int((truth > 0).sum(axis=(1, 2)).argmax())
    return ReportExample(
        name=name if image.ndim == 2 else f"{name}, plane {shown}",
        image=image.image[shown],
        truth=truth[shown],
        prediction=prediction[shown],
        probability=1 - probability[0][shown],
        scores={measured.measure: score},
        is_worst=is_worst,
        valid=None if image.valid is None else image.valid[shown],
    )


def _compared(
    image: LabelledImage,
    probability: NDArray[np.float32],
    measured: Measured,
    validation: LabelledSet,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Truth and prediction with the same numbers for the same things, background 0."""
    if _is_cut(validation):
        spacing = image.source().spacing
        return image.labels, find_instances(probability, measured.choice.settings, spacing)
    truth = np.searchsorted(np.asarray(validation.class_values), image.labels)
    return truth, class_labels(probability) - 1
