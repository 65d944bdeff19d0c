"""``napari-unet weight-map``: labels in, the weights of the loss out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_unet.cli.console import json_option, report
from napari_unet.cli.image_options import chosen_corrections, image_options
from napari_unet.ops.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.engine.images.axes import Corrections


@click.command("weight-map", short_help="Compute the weight map of a label image.")
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="TIFF file to write."
)
@click.option(
    "--kind",
    type=click.Choice(["instances", "annotations"]),
    default="instances",
    show_default=True,
    help="instances: 0 is background, one number per object. annotations: 0 is not annotated, "
    "1 background, 2 and up classes.",
)
@click.option(
    "--w0", type=float, default=10.0, show_default=True, help="Height of the border term."
)
@click.option("--sigma", type=float, default=5.0, show_default=True, help="Its width in pixels.")
@click.option(
    "--balance",
    type=float,
    default=1.0,
    show_default=True,
    help="Class balance: weight is frequency to the power of minus this.",
)
@click.option(
    "--ndim",
    type=click.Choice(["2", "3"]),
    default="2",
    show_default=True,
    help="3 takes the labels of a stack (z, y, x); the width is in pixels of the plane.",
)
@image_options
@json_option
def weight_map_command(
    labels: Path, output: Path, kind: str, ndim: str, as_json: bool, **options: Any
) -> None:
    """Compute the weight map of LABELS (Ronneberger et al. 2015, equation 2) as float32 TIFF."""
    from napari_unet.engine.files import labels_in, read_image, write_probabilities
    from napari_unet.ops.weight_map import annotation_weights, weight_map

    corrections = chosen_corrections(options["axes"], options["pixel_size"], options["level"])
    parameters = {name: options[name] for name in ("w0", "sigma", "balance")}
    compute = weight_map if kind == "instances" else annotation_weights
    if ndim == "3":
        weights, path = _of_stack(labels, output, corrections, partial(compute, **parameters))
    elif corrections != type(corrections)():
        raise InputError("--axes, --pixel-size and --level are for stacks; add --ndim 3")
    else:
        image = read_image(labels)
        weights = compute(labels_in(image), **parameters)
        path = write_probabilities(output, weights, image)
    low, high = float(weights.min()), float(weights.max())
    report(
        {"weight_map": path, "min": low, "max": high},
        [f"weights {low:.3g} to {high:.3g}", str(path)],
        as_json,
    )


def _of_stack(
    labels: Path,
    output: Path,
    corrections: Corrections,
    compute: Callable[..., NDArray[np.float32]],
) -> tuple[NDArray[np.float32], Path]:
    from napari_unet.engine.dataset.stacks import read_stack
    from napari_unet.engine.files import write_atomically
    from napari_unet.engine.images.axes import spacing_of
    from napari_unet.engine.images.tiff_writing import stack_writer

    if output.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{output.name} is no TIFF file; use a name ending in .tif")
    stack, info = read_stack(labels, corrections)
    spacing = spacing_of(info)
    weights = compute(stack, spacing=[size / spacing[-1] for size in spacing])
    axes = tuple(axis for axis in map(info.axis, "zyx") if axis is not None)
    return weights, write_atomically(output, stack_writer(weights, axes, weights.dtype))
