"""``napari-unet train``: a labelled set in, a model with honest numbers out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_unet.cli.console import INTERRUPTED, json_option, note, report, stopping_on_interrupt
from napari_unet.cli.image_options import chosen_corrections, image_options
from napari_unet.ops.errors import InputError

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
    type=click.Choice(["default", "nuclei", "paper", "stack"]),
    help="paper does what the paper did; default what measured best; nuclei is for small objects "
    "that mostly lie apart; stack is for three dimensions.  [default: default, with --ndim 3 "
    "stack]",
)
@click.option(
    "--ndim",
    type=click.Choice(["2", "3"]),
    default="2",
    show_default=True,
    help="3 learns from stacks as a whole, in three dimensions: every file is a stack (z, y, x). "
    "2 takes planes as images of their own.",
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
@image_options
@click.option("--strict", is_flag=True, help="Stop at images or labels that cannot be used.")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
@click.option("--restart", is_flag=True, help="Forget an unfinished training of that name.")
@click.option("--device", default="auto", show_default=True, help="Such as cpu or cuda:0.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@json_option
def train_command(images: Path, labels: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Learn from LABELS of IMAGES and save a model and a report.

    IMAGES and LABELS are two folders with files of the same names, two multi-page TIFF files, or
    a sequence of the Cell Tracking Challenge and its truth (01 and 01_GT). With --ndim 3 they are
    two stacks, or two folders of stacks. Some images are held
    out; on them the best weights and the thresholds of the objects are chosen. Ctrl-C ends the
    training and saves what was learned; the same command again goes on, also after a crash.
    """
    from napari_unet.cli.jobs import run_training
    from napari_unet.engine.dataset import read_labelled_set, split_by_image
    from napari_unet.engine.training.recipe import recipe_with
    from napari_unet.engine.training.run import check_output, state_path
    from napari_unet.engine.training.train import TrainRequest

    ndim = int(options["ndim"])
    name = options["recipe"] or ("stack" if ndim == 3 else "default")
    recipe = recipe_with(name, options["changes"])
    if recipe.ndim != ndim:
        raise InputError(f"the recipe {name} is for --ndim {recipe.ndim}; choose another recipe")
    corrections = chosen_corrections(options["axes"], options["pixel_size"], options["level"])
    if ndim == 2 and corrections != type(corrections)():
        raise InputError("--axes, --pixel-size and --level are for stacks; add --ndim 3")
    check_output(output, overwrite=options["overwrite"], restart=options["restart"])
    labelled = read_labelled_set(
        images,
        labels,
        options["kind"],
        strict=options["strict"],
        ndim=ndim,
        corrections=corrections,
    )
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
    if labelled.ndim == 3:
        distance = labelled.spacing[0]
        note(f"planes are {distance:.3g} pixels apart; --pixel-size says otherwise")
    if split_note:
        note(split_note)
