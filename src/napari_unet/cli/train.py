"""``napari-unet train``: a labelled set in, a model with honest numbers out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_unet.cli.console import INTERRUPTED, json_option, note, report, stopping_on_interrupt

if TYPE_CHECKING:
    from napari_unet.engine.dataset import LabelledSet

_DEFAULT_MINUTES = 60.0


@click.command("train", short_help="Learn from a folder of labelled images.")
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to save the model, such as nuclei.safetensors; the report gets the same name.",
)
@click.option(
    "--recipe",
    type=click.Choice(["default", "nuclei", "paper"]),
    default="default",
    show_default=True,
    help="paper does what the paper did; default what measured best; nuclei is for small objects "
    "that mostly lie apart.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a value of the recipe, such as base_channels=16 or augment.elastic_sigma=0.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help=f"How long to learn at most.  [default: {_DEFAULT_MINUTES:.0f}, unless --steps is given]",
)
@click.option("--steps", type=click.IntRange(min=1), help="How many steps to learn at most.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "instances", "semantic"]),
    default="auto",
    show_default=True,
    help="Whether a label is an object or a class; auto looks at the labels.",
)
@click.option(
    "--validation",
    "fraction",
    type=click.FloatRange(0, 0.9),
    default=0.2,
    show_default=True,
    help="Share of the images held out for the score; 0 holds out none.",
)
@click.option("--strict", is_flag=True, help="Stop at images or labels that cannot be used.")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
@click.option("--restart", is_flag=True, help="Forget an unfinished training of that name.")
@click.option("--device", default="auto", show_default=True, help="Such as cpu or cuda:0.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@json_option
def train_command(images: Path, labels: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Learn from LABELS of IMAGES and save a model and a report.

    IMAGES and LABELS are two folders with files of the same names, two multi-page TIFF files, or
    a sequence of the Cell Tracking Challenge and its truth (01 and 01_GT). Some images are held
    out; on them the best weights and the thresholds of the objects are chosen. Ctrl-C ends the
    training and saves what was learned; the same command again goes on, also after a crash.
    """
    from napari_unet.cli.jobs import run_training
    from napari_unet.engine.dataset import read_labelled_set, split_by_image
    from napari_unet.engine.training.recipe import recipe_with
    from napari_unet.engine.training.run import check_output, state_path
    from napari_unet.engine.training.train import TrainRequest

    recipe = recipe_with(options["recipe"], options["changes"])
    check_output(output, overwrite=options["overwrite"], restart=options["restart"])
    labelled = read_labelled_set(images, labels, options["kind"], strict=options["strict"])
    split = split_by_image(labelled, options["fraction"], seed=options["seed"])
    _tell(labelled, split.note)
    minutes, steps = options["minutes"], options["steps"]
    if minutes is None and steps is None:
        minutes = _DEFAULT_MINUTES
    request = TrainRequest(
        split.train,
        split.validation,
        recipe,
        seconds=None if minutes is None else minutes * 60,
        steps=steps,
        seed=options["seed"],
        device=options["device"],
        state_path=state_path(output),
    )
    with stopping_on_interrupt() as stop:
        outcome = run_training(request, output, stop, problems=labelled.problems)
        interrupted = stop.is_set()
    report(outcome.summary(), outcome.lines(), as_json)
    if interrupted:
        note("Stopped; the same command goes on from here.")
        sys.exit(INTERRUPTED)


def _tell(labelled: LabelledSet, split_note: str) -> None:
    """Say what was read, what was left out, and what is held out."""
    note(f"{len(labelled.images)} images, {labelled.kind}: {labelled.kind_reason}")
    for problem in labelled.problems:
        note(f"  left out: {problem}")
    if split_note:
        note(split_note)
