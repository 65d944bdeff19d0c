"""The report on a training: one HTML file that shows how it went and how to repeat it.

The file needs nothing beside it and loads nothing: styles, curves and pictures are in it, there
is no script, and its content policy forbids browsers to fetch anything.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from napari_unet.engine.files import write_atomically
from napari_unet.engine.training.report_curves import loss_curve, number, score_curve
from napari_unet.engine.training.report_examples import (
    ExamplePictures,
    Kind,
    ReportExample,
    Scores,
    draw_example,
    percent,
)

Role = Literal["training", "validation"]

__all__ = ["ReportExample", "ReportImage", "TrainingRecord", "render_report", "write_report"]

# More rows than this are folded away.
_MOST_OPEN_ROWS = 12
_DIGEST_LENGTH = 12
# Where there is no value.
_NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class ReportImage:
    """An image of the labelled set, as a row of the report.

    Attributes
    ----------
    name
        Of the image.
    role
        Whether it was learned from or held out.
    shape
        Of the image: (Y, X) or (Y, X, C).
    objects
        How many are labelled; None for classes.
    digest
        SHA-256 of image and labels in hex; its beginning is shown.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    objects: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRecord:
    """Everything that the report shows.

    Attributes
    ----------
    title
        Of the page.
    created
        When the training ended.
    model_file
        Name of the model file, without its folder.
    recipe
        Name of the recipe.
    kind
        Of the labels: "instances" or "semantic".
    configuration
        Names and values; a value may be a mapping again, which becomes a table of its own.
    reference
        The configuration without the user's changes, in the same form; values that differ from it
        are marked. Empty marks none.
    images
        The labelled set.
    problems, notes
        Sentences on what was left out, and on what is good to know.
    losses, scores
        Pairs of step and value, steps rising.
    measure
        Name of the validation score, such as "mean AP"; more is better.
    best_step
        The step whose weights were kept; None if there was no validation.
    seconds, steps
        How long the training took.
    ended
        Why it ended, such as "early stopping".
    device, precision, seed, version, command
        For whoever wants to repeat it; `version` is the program's.
    final_scores
        For each validation image its measures by name.
    settings
        How objects are cut out, by name; empty for classes.
    tried
        Settings that were tried, with their measure, best first.
    examples
        The worst and the best validation images.
    """

    title: str
    created: datetime
    model_file: str
    recipe: str
    kind: Kind = "instances"
    configuration: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[ReportImage] = ()
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    losses: Sequence[tuple[int, float]] = ()
    scores: Sequence[tuple[int, float]] = ()
    measure: str = "score"
    best_step: int | None = None
    seconds: float = 0.0
    steps: int = 0
    ended: str = ""
    device: str = ""
    precision: str = ""
    seed: int | None = None
    version: str = ""
    command: str = ""
    final_scores: Mapping[str, Scores] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    tried: Sequence[tuple[Mapping[str, Any], float]] = ()
    examples: Sequence[ReportExample] = ()


def write_report(path: str | Path, record: TrainingRecord) -> Path:
    """Write the report as one HTML file and return its path.

    Parameters
    ----------
    path
        Ends in .html. Missing folders are made; a file of that name is replaced when the new one
        is whole.
    record
        What to show. Parts that are empty are left out, or the page says why there is nothing.

    Raises
    ------
    InputError
        If the file cannot be written, or an example's arrays are of different sizes.
    """
    # Names of files may hold bytes that are no text.
    page = render_report(record).encode("utf-8", errors="replace")
    return write_atomically(path, lambda file: file.write(page))


def render_report(record: TrainingRecord) -> str:
    """Return the report as HTML; see `write_report`."""
    environment = Environment(
        loader=PackageLoader("napari_unet.engine.training"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "value": _value, "percent": percent}
    template = environment.get_template("training_report.html.jinja")
    return template.render(
        record=record,
        headlines=_headlines(record),
        curves={
            "loss": loss_curve(record.losses),
            "score": score_curve(record.scores, record.measure, record.best_step),
        },
        bad_losses=sum(not math.isfinite(loss) for _, loss in record.losses),
        example_groups=_example_groups(record),
        score_table=_score_table(record.final_scores),
        tried_names=list(dict.fromkeys(name for settings, _ in record.tried for name in settings)),
        settings_tables=list(_tables(record.configuration, record.reference)),
        run_rows=_run_rows(record),
        folded_from=_MOST_OPEN_ROWS,
        digest_length=_DIGEST_LENGTH,
        command=f"napari-unet predict IMAGE.tif --model {shlex.quote(record.model_file)} "
        "--output results",
    )


def duration(seconds: float) -> str:
    """Write a time in its two largest units, such as "1 h 12 min"."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


@dataclass(frozen=True, slots=True)
class _Headline:
    value: str
    label: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    """A value of the configuration; `usual` is what the recipe says, where it was changed."""

    name: str
    value: Any
    usual: Any = None
    is_changed: bool = False


@dataclass(frozen=True, slots=True)
class _ScoreTable:
    measures: list[str]
    rows: list[tuple[str, list[float | None]]]
    means: list[float | None]


def _headlines(record: TrainingRecord) -> list[_Headline]:
    roles = [image.role for image in record.images]
    learned, held_out = roles.count("training"), roles.count("validation")
    kept = "" if record.best_step is None else f"weights of step {record.best_step:,} kept"
    headlines = [
        _score_headline(record, held_out),
        _Headline(duration(record.seconds), "of training", record.ended),
        _Headline(f"{record.steps:,}", "step" if record.steps == 1 else "steps", kept),
        _Headline(f"{learned:,}", f"{_plural(learned, 'image')} learned from"),
    ]
    objects = sum(image.objects or 0 for image in record.images if image.role == "training")
    if record.kind == "instances" and objects:
        hint = f"with {objects:,} {_plural(objects, 'object')}"
        headlines[-1] = _Headline(headlines[-1].value, headlines[-1].label, hint)
    return headlines


def _score_headline(record: TrainingRecord, held_out: int) -> _Headline:
    """Take the mean of the last measurement or, if there was none, the best while learning."""
    table = _score_table(record.final_scores)
    if record.measure in table.measures:
        mean = table.means[table.measures.index(record.measure)]
        if mean is not None:
            images = f"on {len(table.rows):,} validation {_plural(len(table.rows), 'image')}"
            return _Headline(number(mean), record.measure, images)
    best = [score for step, score in record.scores if step == record.best_step]
    if best and math.isfinite(best[0]):
        return _Headline(number(best[0]), record.measure, "on validation images, while learning")
    why = "its validation gave no score" if held_out else "no images were held out"
    return _Headline(_NOTHING, "score", why)


def _run_rows(record: TrainingRecord) -> list[tuple[str, Any]]:
    return [
        ("napari-unet", record.version),
        ("recipe", record.recipe),
        ("seed", record.seed),
        ("device", record.device),
        ("precision", record.precision),
        ("time", duration(record.seconds)),
        ("steps", f"{record.steps:,}"),
        ("ended", record.ended),
    ]


def _example_groups(record: TrainingRecord) -> list[tuple[str, list[ExamplePictures]]]:
    groups = []
    for title, is_worst in (("Worst", True), ("Best", False)):
        chosen = [example for example in record.examples if example.is_worst == is_worst]
        if chosen:
            groups.append((title, [draw_example(each, record.kind) for each in chosen]))
    return groups


def _score_table(scores: Mapping[str, Scores]) -> _ScoreTable:
    measures = list(dict.fromkeys(name for each in scores.values() for name in each))
    rows = [(name, [each.get(measure) for measure in measures]) for name, each in scores.items()]
    means = [_mean([values[index] for _, values in rows]) for index in range(len(measures))]
    return _ScoreTable(measures, rows, means)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _tables(
    values: Mapping[str, Any], reference: Mapping[str, Any], title: str = ""
) -> Iterator[tuple[str, list[_Row]]]:
    """Make a table of the plain values, then one of each mapping among them."""
    rows = []
    for name, value in values.items():
        if not isinstance(value, Mapping):
            is_changed = bool(reference) and name in reference and reference[name] != value
            rows.append(_Row(name, value, reference.get(name), is_changed))
    if rows:
        yield title, rows
    for name, value in values.items():
        if isinstance(value, Mapping):
            usual = reference.get(name)
            inner = usual if isinstance(usual, Mapping) else {}
            yield from _tables(value, inner, f"{title}: {name}" if title else name)


def _value(value: Any) -> str:
    """Write a value of any kind as a reader would."""
    if value is None or value == "":
        return _NOTHING
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or _NOTHING
    return str(value)


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
