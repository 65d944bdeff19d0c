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
    import threading

    from napari_unet.engine.evaluation_files import EvaluationSet
    from napari_unet.engine.score_table import ScoreTable, Values

# Of the table on the terminal; more images are in --csv and --json.
_MOST_ROWS = 40
_MOST_PROBLEMS = 20
_WIDTH = 90


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
    "--background",
    type=click.Choice(["auto", "0", "1"]),
    default="auto",
    show_default=True,
    help="What background is in PREDICTION (semantic): 1 in NAME_classes as predict writes it; 0 "
    "to take all classes as they are.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability from which a pixel is inside a cell (boundary).  [default: the best one]",
)
@click.option(
    "--per-image/--no-per-image",
    default=True,
    help="Print a line for each image, or only the one for all.  [default: per-image]",
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
    from napari_unet.engine.evaluation_files import read_evaluation_set
    from napari_unet.engine.files import make_folder, write_atomically

    if options["errors"] is not None:
        make_folder(options["errors"])
    counts_from_one = {"auto": None, "0": False, "1": True}[options["background"]]
    found = read_evaluation_set(prediction, truth, options["kind"], counts_from_one)
    for line in found.notes:
        note(line)
    with stopping_on_interrupt() as stop:
        table = _evaluate(found, options["threshold"], options["errors"], stop)
        interrupted = stop.is_set() and len(table.images) < len(found.pairs)
    if options["csv_file"] is not None:
        contents = table.to_csv().encode()
        write_atomically(options["csv_file"], lambda file: file.write(contents))
    report(_summary(table, found), _lines(table, options["per_image"]), as_json)
    for problem in found.problems[:_MOST_PROBLEMS]:
        note(f"left out: {problem}")
    if len(found.problems) > _MOST_PROBLEMS:
        note(f"left out: {len(found.problems) - _MOST_PROBLEMS} more, all of them are in --json")
    if interrupted:
        note(f"Stopped; {len(table.images)} of {len(found.pairs)} images are done.")
        sys.exit(INTERRUPTED)
    if found.problems:
        sys.exit(BAD_INPUT)


def _evaluate(
    found: EvaluationSet, threshold: float | None, errors: Path | None, stop: threading.Event
) -> ScoreTable:
    """Run the job with a progress bar on standard error; write the error maps as they come."""
    from tqdm import tqdm

    from napari_unet.engine.evaluate import evaluate
    from napari_unet.engine.events import (
        EvaluationFinished,
        ImageEvaluated,
        Noticed,
        ThresholdTried,
    )
    from napari_unet.engine.files import write_labels
    from napari_unet.engine.score_table import ScoreTable

    table = ScoreTable(found.kind)
    # disable=None: no bar where standard error is a file.
    with tqdm(desc="Evaluating", disable=None, dynamic_ncols=True, unit="image") as bar:
        for event in evaluate(found.pairs, found.kind, threshold=threshold, stop=stop):
            match event:
                case ThresholdTried():
                    bar.set_postfix_str(f"threshold {event.threshold:g}")
                case ImageEvaluated():
                    bar.total = event.total
                    bar.set_postfix_str("", refresh=False)
                    bar.update(event.done - bar.n)
                    if errors is not None:
                        write_labels(errors / f"{event.name}_errors.tif", event.errors)
                case Noticed():
                    note(event.message)
                case EvaluationFinished():
                    table = event.table
    return table


def _summary(table: ScoreTable, found: EvaluationSet) -> dict[str, Any]:
    return {
        "kind": table.kind,
        "images": [{"name": name, **values} for name, values in table.images],
        "all": table.total,
        "problems": list(found.problems),
        "notes": list(found.notes),
    }


def _lines(table: ScoreTable, per_image: bool) -> list[str]:
    """Return the table for a person: a line per image and a column per measure."""
    from napari_unet.engine.score_table import SUMMED

    names = table.measures()
    by_image = [name for name in names if not name.endswith(SUMMED)]
    images = [*table.images[:_MOST_ROWS]] if per_image else []
    lines: list[str] = []
    if table.images:
        # Of a single image there is nothing to sum up.
        rows = images if len(images) == len(table.images) == 1 else [*images, ("all", table.total)]
        lines += _aligned(rows, by_image)
    if summed := [name for name in names if name.endswith(SUMMED)]:
        lines.append("The objects or pairs of pixels of all images counted together:")
        short = {name.removesuffix(SUMMED): table.total[name] for name in summed}
        lines += _aligned([("all", short)], list(short))
    if images and len(table.images) > _MOST_ROWS:
        left = len(table.images) - _MOST_ROWS
        lines.append(f"({left} more images are in --csv and --json)")
    return lines


def _aligned(rows: Sequence[tuple[str, Values]], names: Sequence[str]) -> list[str]:
    """Write rows below each other, in blocks of as many columns as a terminal is wide."""
    from napari_unet.engine.score_table import show_score

    width = max(len(image) for image, _ in rows)
    lines = []
    for block in _blocks(names):
        sizes = [max(len(name), 6) for name in block]
        header = "  ".join(f"{name:>{size}}" for name, size in zip(block, sizes, strict=True))
        lines.append(f"{'':{width}}  {header}")
        for image, values in rows:
            cells = (
                f"{show_score(name, values.get(name)):>{size}}"
                for name, size in zip(block, sizes, strict=True)
            )
            lines.append(f"{image:{width}}  {'  '.join(cells)}")
        lines.append("")
    return lines


def _blocks(names: Sequence[str]) -> list[list[str]]:
    """Break the columns so that no line is too long for a terminal."""
    blocks: list[list[str]] = [[]]
    used = 0
    for name in names:
        size = max(len(name), 6) + 2
        if used + size > _WIDTH and blocks[-1]:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += size
    return blocks
