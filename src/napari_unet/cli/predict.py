"""``napari-unet predict``: images and a model in, probability maps, classes and instances out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from napari_unet.cli.console import (
    BAD_INPUT,
    INTERRUPTED,
    fail,
    json_option,
    note,
    report,
    stopping_on_interrupt,
)
from napari_unet.ops.errors import InputError

if TYPE_CHECKING:
    import threading

    from napari_unet.engine.results import InstanceSettings
    from napari_unet.engine.usage import Usage
    from napari_unet.model.unet import UNet

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


@click.command("predict", short_help="Segment images with a model.")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True, type=click.Path(path_type=Path), help="Model file.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for the results; made if it is not there.",
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
@json_option
def predict_command(
    images: tuple[Path, ...], model: Path, output: Path, as_json: bool, **options: Any
) -> None:
    """Segment IMAGES with a model that was trained or fine-tuned before.

    How objects are cut out, and whether the prediction is averaged, is what the training found
    best and wrote into the model, unless an option says otherwise.

    For each image NAME three TIFF files are written, with its pixel size: NAME_probabilities
    (one channel per class), NAME_classes (label 1 is background) and NAME_instances (label 0 is
    background). An image that cannot be used does not stop the others.
    """
    from napari_unet.engine.files import make_folder
    from napari_unet.engine.usage import load_usage
    from napari_unet.model.checkpoint import load_model

    make_folder(output)
    network, usage = load_model(model), load_usage(model)
    results: list[dict[str, Any]] = []
    failures: list[tuple[Path, str]] = []
    done: dict[str, Path] = {}
    with stopping_on_interrupt() as stop:
        for path in images:
            try:
                _check_name_is_free(path, done)
                result = _predict_file(path, network, usage, output, options, stop)
            except InputError as error:
                failures.append((path, str(error)))
                continue
            if result is None:
                break
            results.append(result)
    summary = {
        "results": results,
        "failed": [{"image": path, "error": reason} for path, reason in failures],
    }
    if results or len(images) > 1:
        report(summary, [f"{path}" for result in results for path in result["files"]], as_json)
    if stop.is_set():
        note(f"Stopped; {len(results)} of {len(images)} images are done.")
        sys.exit(INTERRUPTED)
    if failures:
        _end_with_failures(failures, len(images))


def _check_name_is_free(path: Path, done: dict[str, Path]) -> None:
    name = path.name.split(".")[0]
    if name in done:
        raise InputError(
            f"its results would replace those of {done[name]}; predict it into another folder"
        )
    done[name] = path


def _predict_file(
    path: Path,
    model: UNet,
    usage: Usage,
    output: Path,
    options: dict[str, Any],
    stop: threading.Event,
) -> dict[str, Any] | None:
    """Predict one file; None if it was stopped."""
    from napari_unet.cli.jobs import predict_image
    from napari_unet.engine.files import read_image
    from napari_unet.engine.image import SourceImage
    from napari_unet.engine.predict import PredictRequest
    from napari_unet.engine.results import find_instances, save_results

    image = read_image(path)
    request = PredictRequest(
        SourceImage(image.data),
        tile_size=options["tile_size"],
        precision=options["precision"],
        averaging=options["averaging"] or usage.averaging,
    )
    probability = predict_image(model, request, stop, path.name)
    if probability is None:
        return None
    instances = find_instances(probability, chosen_settings(usage.instances, options))
    files = save_results(output / path.name.split(".")[0], probability, instances, image)
    return {"image": path, "files": files, "instances": int(instances.max(initial=0))}


def _end_with_failures(failures: list[tuple[Path, str]], count: int) -> None:
    if count == 1:
        path, reason = failures[0]
        fail(reason if str(path) in reason else f"{path}: {reason}")
    width = max(len(str(path)) for path, _ in failures)
    note(f"{len(failures)} of {count} images failed:")
    for path, reason in failures:
        note(f"  {path!s:{width}}  {reason.removeprefix(str(path)).strip(' :')}")
    sys.exit(BAD_INPUT)
