"""``napari-unet predict IN OUT.zarr``: an array of any size, from disk to disk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from napari_unet.cli.console import INTERRUPTED, note, report, stopping_on_interrupt
from napari_unet.cli.jobs import progress_bar
from napari_unet.ops.errors import InputError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from napari_unet.engine.arrays.events import ArrayFinished
    from napari_unet.engine.arrays.predict_array import ArrayEvent, PredictArrayRequest
    from napari_unet.engine.averaging import Averaging
    from napari_unet.engine.images.axes import Corrections, ImageInfo
    from napari_unet.engine.images.lazy import OpenedImage
    from napari_unet.engine.usage import Usage
    from napari_unet.model.unet import UNet

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OURS: Final = ("save", "dtype", "scheduler")
_NOT_OURS: Final = {
    "method": "--method",
    "threshold": "--threshold",
    "seed_threshold": "--seed-threshold",
    "min_size": "--min-size",
    "fill_holes": "--fill-holes",
    "patterns": "--pattern",
    "rescale": "--rescale",
    "model_pixel_size": "--model-pixel-size",
}


def array_options(command: _Command) -> _Command:
    """Add the options of a prediction into a zarr to a command."""
    options = (
        click.option(
            "--save",
            type=click.Choice(["probabilities", "classes", "both"]),
            help="What is written into a .zarr; by default probabilities.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["uint8", "float16", "float32"]),
            help="How probabilities are written into a .zarr; by default uint8, 255 is 1.",
        ),
        click.option(
            "--overwrite",
            is_flag=True,
            help="Begin anew: predict again what is done, delete the .zarr that is there.",
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Have the workers of a Dask cluster do it: tcp://host:8786.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def split_output(
    images: tuple[Path, ...], output: Path | None, *, is_needed: bool = True
) -> tuple[tuple[Path, ...], Path | None]:
    """Tell the images from the output, which may stand behind a single array instead of -o.

    Raises
    ------
    InputError
        If there is no output.
    """
    if output is not None or not is_needed:
        return images, output
    if len(images) == 2 and images[1].suffix == ".zarr":
        return images[:1], images[1]
    raise InputError(
        "where the results go is missing; give a folder with -o, or the name of a .zarr behind a "
        "single array"
    )


def is_array_output(output: Path | None, options: Mapping[str, Any]) -> bool:
    """Say whether the output is a zarr; raise InputError if options do not fit the answer."""
    if output is not None and output.suffix == ".zarr":
        if options.get("labels_into_image") is not None:
            raise InputError(
                "--labels-into-image writes into the images themselves; leave out -o, or give a "
                "folder for the table of what was done"
            )
        return True
    if given := [name for name in _OURS if options.get(name)]:
        raise InputError(
            f"--{given[0]} is for an output in zarr; give an output whose name ends in .zarr"
        )
    return False


def predict_into_zarr(
    images: tuple[Path, ...],
    model_path: Path,
    output: Path,
    options: Mapping[str, Any],
    corrections: Corrections | None,
    as_json: bool,
) -> None:
    """Predict one image or array into a zarr, or go on with it, and report.

    Raises
    ------
    InputError
        If that is not possible; tiles that are done are kept.
    """
    from napari_unet.engine.exchange.open import open_own_model

    if len(images) != 1:
        raise InputError(
            f"{len(images)} images do not go into one zarr; give one, or a folder as the output"
        )
    given = [option for name, option in _NOT_OURS.items() if options.get(name)]
    if options.get("scaling") == "image":
        given.append("--scale-grey image")
    if given:
        raise InputError(
            f"{given[0]} is not possible for an output in zarr, which is made tile by tile; leave "
            "it out, or give a folder as the output"
        )
    model = open_own_model(model_path)
    request, image = _request(images[0], model, model_path, output, options, corrections)
    with image, stopping_on_interrupt() as stop:
        finished = _follow(_job(model, request, options.get("scheduler"), stop), images[0].name)
    summary = {
        "output": finished.path,
        "tiles": finished.total,
        "tiles_done": finished.done,
        "pixels": finished.pixels,
        "seconds": finished.seconds,
        "stopped": finished.stopped,
    }
    report(summary, [] if finished.stopped else [str(finished.path)], as_json)
    if finished.stopped:
        known = (
            f"{finished.done} of {finished.total} tiles are done"
            if finished.total
            else "no tile was begun"
        )
        note(f"Stopped; {known}. The same command goes on with the rest.")
        sys.exit(INTERRUPTED)


def _request(
    image: Path,
    model: UNet,
    model_path: Path,
    output: Path,
    options: Mapping[str, Any],
    corrections: Corrections | None,
) -> tuple[PredictArrayRequest, OpenedImage]:
    from napari_unet.engine.arrays.predict_array import PredictArrayRequest
    from napari_unet.engine.arrays.source import open_source
    from napari_unet.engine.exchange.open import usage_of

    usage = usage_of(model_path)

    def choose(info: ImageInfo) -> tuple[int, ...]:
        return _chosen_channels(info, model, usage, options)

    source, opened = open_source(image, model.config.ndim, corrections, choose)
    info = opened.info
    for text in info.notes:
        note(f"{image}: {text}")
    if usage.learned_from.scaling == "image" and source.leading_axes:
        note("The model learned on planes scaled alike; here each plane is scaled by itself.")
    averaging: Averaging = options.get("averaging") or usage.averaging
    if averaging == "rotations" and options.get("averaging") is None:
        note("The model's averaging over rotations needs the whole image; going on without.")
        averaging = "none"
    request = PredictArrayRequest(
        source,
        output,
        overwrite=options["overwrite"],
        content=options["save"] or "probabilities",
        dtype=options["dtype"] or "uint8",
        tile_size=options["tile_size"],
        precision=options["precision"],
        averaging=averaging,
        pixel_sizes={a.name: (a.size, a.unit) for a in info.axes if a.size is not None},
    )
    return request, opened


def _chosen_channels(
    info: ImageInfo, model: UNet, usage: Usage, options: Mapping[str, Any]
) -> tuple[int, ...]:
    from napari_unet.engine.images.fitting import choose_channels

    wanted = options.get("channels") or ()
    chosen = choose_channels(info, wanted, model.config.in_channels, usage.learned_from.channels)
    if len(chosen) != 1:
        raise InputError(
            "several answers do not go into one zarr; choose a channel by its name or number, or "
            "give a folder as the output"
        )
    return chosen[0]


def _job(
    model: UNet, request: PredictArrayRequest, scheduler: str | None, stop: threading.Event
) -> Iterator[ArrayEvent]:
    if scheduler is None:
        from napari_unet.engine.arrays.predict_array import predict_array

        return predict_array(model, request, stop)
    from napari_unet.engine.arrays.cluster import predict_array_on_cluster

    return predict_array_on_cluster(model, request, scheduler, stop)


def _follow(job: Iterator[ArrayEvent], title: str) -> ArrayFinished:
    """Show how far a job is, and return its last event."""
    from napari_unet.engine.arrays.events import ArrayFinished, OutputOpened, TilesWritten
    from napari_unet.engine.events import Noticed

    with progress_bar(title, unit="tile") as bar:
        for event in job:
            match event:
                case OutputOpened():
                    if event.done:
                        note(f"Going on: {event.done} of {event.total} tiles are there.")
                    bar.reset(event.total)
                    bar.initial = bar.n = event.done
                case TilesWritten():
                    bar.update(event.done - bar.n)
                case Noticed():
                    note(event.message)
                case ArrayFinished():
                    return event
    raise AssertionError("a job ends with ArrayFinished")
