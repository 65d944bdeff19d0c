"""``napari-unet weight-map``: labels in, the weights of the loss out."""

from __future__ import annotations

from pathlib import Path

import click

from napari_unet.cli.console import json_option, report


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
@json_option
def weight_map_command(
    labels: Path, output: Path, kind: str, w0: float, sigma: float, balance: float, as_json: bool
) -> None:
    """Compute the weight map of LABELS (Ronneberger et al. 2015, equation 2) as float32 TIFF."""
    from napari_unet.engine.files import labels_in, read_image, write_probabilities
    from napari_unet.ops.weight_map import annotation_weights, weight_map

    image = read_image(labels)
    compute = weight_map if kind == "instances" else annotation_weights
    weights = compute(labels_in(image), w0, sigma, balance=balance)
    path = write_probabilities(output, weights, image)
    low, high = float(weights.min()), float(weights.max())
    report(
        {"weight_map": path, "min": low, "max": high},
        [f"weights {low:.3g} to {high:.3g}", str(path)],
        as_json,
    )
