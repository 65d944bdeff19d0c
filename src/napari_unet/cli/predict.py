"""``napari-unet predict``: images and a model in, probability maps, classes and instances out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from napari_unet.cli.console import json_option
from napari_unet.cli.image_options import chosen_corrections, image_options
from napari_unet.cli.predict_array import (
    array_options,
    is_array_output,
    predict_into_zarr,
    split_output,
)
from napari_unet.cli.predict_folder import predict_into_folder

if TYPE_CHECKING:
    from napari_unet.engine.results import InstanceSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def instance_options(command: _Command) -> _Command:
    """Add the options that say how objects are cut out of the probability map to a command."""
    options = (
        click.option(
            "--method",
            type=click.Choice(["components", "watershed", "seeds"]),
            help="How objects are told apart: what is connected; watershed from the middles of "
            "necked shapes; or from seeds where the probability is high.",
        ),
        click.option(
            "--threshold",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="Probability from which a pixel belongs to an object.",
        ),
        click.option(
            "--seed-threshold",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="Probability from which a pixel belongs to the middle of an object (seeds).",
        ),
        click.option(
            "--min-size",
            type=click.IntRange(min=0),
            help="Smaller objects are dropped (pixels).",
        ),
        click.option(
            "--fill-holes/--keep-holes",
            default=None,
            help="Whether background that one object encloses is given to the object.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_settings(settings: InstanceSettings, options: dict[str, Any]) -> InstanceSettings:
    """Return `settings` with what was given on the command line in place."""
    names = ("method", "threshold", "seed_threshold", "min_size", "fill_holes")
    return replace(settings, **{n: options[n] for n in names if options[n] is not None})


@click.command("predict", short_help="Segment images, stacks and folders with a model.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True, type=click.Path(path_type=Path), help="Model file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for the results; made if it is not there. Or one NAME.zarr, for an array of any "
    "size: tile by tile, and the same command goes on where it was stopped.",
)
@click.option(
    "--pattern",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Which images of a folder, such as '*.tif'; may be given more than once.",
)
@click.option(
    "--recursive/--flat",
    default=True,
    show_default=True,
    help="Whether to look into the folders below a folder as well.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME",
    help="Name or number (from 1) of the channel to use; given once for each that the model takes, "
    "in its order. 'each' predicts every channel by itself.",
)
@image_options
@click.option(
    "--rescale",
    is_flag=True,
    help="Bring images to the pixel size that the model learned on, and the answer back.",
)
@click.option(
    "--model-pixel-size",
    metavar="SIZE",
    help="Size of the pixels that the model learned on, such as 0.5um, if it does not say so.",
)
@click.option(
    "--scale-grey",
    "scaling",
    type=click.Choice(["plane", "image"]),
    help="Scale the grey values of each plane of a stack by itself, or of all planes alike; by "
    "default as the model learned.",
)
@click.option(
    "--format",
    "result_format",
    type=click.Choice(["tiff", "ome-zarr"]),
    default="tiff",
    show_default=True,
    help="How results are stored in a folder.",
)
@click.option(
    "--zarr-version",
    type=click.Choice(["0.4", "0.5"]),
    default="0.5",
    show_default=True,
    help="Version of OME-Zarr that is written.",
)
@click.option(
    "--labels-into-image",
    metavar="NAME",
    help="Write objects and classes into the OME-Zarr image itself, as its labels NAME and "
    "NAME_classes; then -o is not needed. Labels of that name are not replaced without "
    "--overwrite.",
)
@click.option(
    "--tile-size",
    type=click.IntRange(min=1),
    help="Input side of a tile in pixels; by default as large as memory allows.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32"]),
    default="auto",
    show_default=True,
    help="auto uses bfloat16 where it is faster and the answer stays the same.",
)
@click.option(
    "--averaging",
    type=click.Choice(["none", "symmetries", "rotations"]),
    help="Average over the eight symmetries of the square, or over seven rotations.",
)
@instance_options
@array_options
@json_option
def predict_command(
    images: tuple[Path, ...], model: Path, output: Path | None, as_json: bool, **options: Any
) -> None:
    """Segment IMAGES with a model that was trained or fine-tuned before.

    IMAGES are files (TIFF, OME-Zarr, PNG, JPEG, NumPy) of any axes, or folders of them. Stacks and
    time series are predicted plane by plane, and results have the axes and pixel sizes of their
    image. How objects are cut out, and whether the prediction is averaged, is what the training
    found best and wrote into the model, unless an option says otherwise.

    For each image NAME three TIFF files are written: NAME_probabilities (one channel per class),
    NAME_classes (label 1 is background) and NAME_instances (label 0 is background). An image that
    cannot be used does not stop the others. What was done and what failed is listed in
    predictions.csv and predictions.json; when the command is given again, it does only the rest.
    """
    is_needed = options["labels_into_image"] is None
    images, output = split_output(images, output, is_needed=is_needed)
    corrections = chosen_corrections(
        options.pop("axes"), options.pop("pixel_size"), options.pop("level")
    )
    if is_array_output(output, options) and output is not None:
        return predict_into_zarr(images, model, output, options, corrections, as_json)
    return predict_into_folder(images, model, output, options, corrections, as_json)
