"""``napari-unet evaluate``: a prediction and the truth in, every measure that applies out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_unet.cli.console import (
    BAD_INPUT,
    INTERRUPTED,
    json_option,
    note,
    report,
    stopping_on_interrupt,
)

if TYPE_CHECKING:
    from napari_unet.engine.score_table import ScoreTable, Values

# Of the table on the terminal; more images are in --csv and --json.
_MOST_ROWS = 40


@click.command("evaluate", short_help="Compare predictions with the truth.")
@click.argument("prediction", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["auto", "instances", "semantic", "boundary"]),
    default="auto",
    show_default=True,
    help="What a label is: an object, a class, or (boundary) the inside of cells.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a pixel is inside a cell (boundary).  [default: the best one]",
)
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table there.")
@click.option(
    "--errors",
    type=click.Path(path_type=Path),
    help="Folder for a map of the errors of each image.",
)
@json_option
def evaluate_command(prediction: Path, truth: Path, as_json: bool, **options: Any) -> None:
    """Compare a PREDICTION with the TRUTH by every measure that applies.

    Both are files, multi-page TIFF files, or folders with files of the same names; the results of
    `napari-unet predict` are found by theirs. Pairs that cannot be compared are named, and do not
    stop the others.
    """
    from napari_unet.engine.evaluate import evaluate
    from napari_unet.engine.evaluation_files import read_evaluation_set
    from napari_unet.engine.events import EvaluationFinished, ImageEvaluated, Noticed
    from napari_unet.engine.files import write_atomically, write_labels

    found = read_evaluation_set(prediction, truth, options["kind"])
    with stopping_on_interrupt() as stop:
        for event in evaluate(found.pairs, found.kind, threshold=options["threshold"], stop=stop):
            match event:
                case ImageEvaluated():
                    if options["errors"] is not None:
                        write_labels(options["errors"] / f"{event.name}_errors.tif", event.errors)
                case Noticed():
                    note(event.message)
                case EvaluationFinished():
                    table = event.table
        interrupted = stop.is_set()
    if options["csv_file"] is not None:
        contents = table.to_csv().encode()
        write_atomically(options["csv_file"], lambda file: file.write(contents))
    report(_summary(table, found.problems), _lines(table), as_json)
    for problem in found.problems:
        note(f"left out: {problem}")
    if interrupted:
        note(f"Stopped; {len(table.images)} of {len(found.pairs)} images are done.")
        sys.exit(INTERRUPTED)
    if found.problems:
        sys.exit(BAD_INPUT)


def _summary(table: ScoreTable, problems: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": table.kind,
        "images": [{"name": name, **values} for name, values in table.images],
        "all": table.total,
        "problems": list(problems),
    }


def _lines(table: ScoreTable) -> list[str]:
    """Return the table for a person: a line per image and a column per measure."""
    rows: list[tuple[str, Values]] = [*table.images[:_MOST_ROWS]]
    by_image = {name for _, values in table.images for name in values}
    blocks = _blocks([name for name in table.total if name in by_image])
    width = max([3, *(len(name) for name, _ in rows)])
    lines = []
    for block in blocks:
        sizes = [max(len(name), 6) for name in block]
        header = "  ".join(f"{n:>{s}}" for n, s in zip(block, sizes, strict=True))
        lines.append(f"{'':{width}}  {header}")
        for image, values in [*rows, ("all", table.total)]:
            cells = (f"{_cell(values.get(n)):>{s}}" for n, s in zip(block, sizes, strict=True))
            lines.append(f"{image:{width}}  {'  '.join(cells)}")
        lines.append("")
    together = [name for name in table.total if name not in by_image]
    lines += [f"{name}: {_cell(table.total[name])}" for name in together]
    if len(table.images) > _MOST_ROWS:
        left = len(table.images) - _MOST_ROWS
        lines.append(f"({left} more images are in --csv and --json)")
    return lines


def _blocks(names: Sequence[str], width: int = 90) -> list[list[str]]:
    """Break the columns so that no line is too long for a terminal."""
    blocks: list[list[str]] = [[]]
    used = 0
    for name in names:
        if used + len(name) + 2 > width and blocks[-1]:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += max(len(name), 6) + 2
    return blocks


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    if value == int(value) and abs(value) > 1:
        return f"{int(value)}"
    return f"{value:.6f}" if 0 < abs(value) < 0.001 else f"{value:.4f}"
