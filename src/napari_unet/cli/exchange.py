"""``napari-unet export`` and ``inspect``: models to and from other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_unet.cli.console import (
    INTERRUPTED,
    json_option,
    note,
    report,
    stopping_on_interrupt,
)

if TYPE_CHECKING:
    from napari_unet.engine.exchange.export import ExportRequest
    from napari_unet.model.zoo.description import Description
    from napari_unet.model.zoo.foreign import ForeignModel


@click.command("export", short_help="Write a model for other programs.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The file: NAME.zip for a package, NAME.onnx for the network alone.",
)
@click.option(
    "--format",
    "export_format",
    type=click.Choice(["bioimageio", "onnx"]),
    help="A bioimage.io package, or ONNX; by default what the ending of OUTPUT says.",
)
@click.option(
    "--test-image",
    type=click.Path(path_type=Path),
    help="An image of the kind the model is for; its middle becomes the test input and the cover.",
)
@click.option("--name", help="Name of the model: letters, digits, spaces and _+-().")
@click.option("--summary", help="What the model is for, in a sentence or two.")
@click.option("--author", "authors", multiple=True, help="May be given more than once.")
@click.option("--licence", "--license", "licence", help="SPDX identifier, such as CC-BY-4.0.")
@click.option("--tag", "tags", multiple=True, help="May be given more than once.")
@click.option("--cite", "citations", multiple=True, metavar="DOI", help="A paper to cite as well.")
@click.option(
    "--class-name",
    "class_names",
    multiple=True,
    help="Names of the classes, background first; given once for each class.",
)
@json_option
def export_command(
    model: Path, output: Path, test_image: Path | None, as_json: bool, **options: Any
) -> None:
    """Write MODEL as a bioimage.io package or as ONNX.

    The file is opened again as a stranger's and compared, whole and in tiles, to what napari-unet
    itself answers; if they differ there is no file. The package holds the same weights for
    napari-unet, so that it can learn on elsewhere.
    """
    from napari_unet.engine.events import ExportAdvanced, FileSaved, Noticed
    from napari_unet.engine.exchange.export import export_model

    request = _request(model, output, test_image, options)
    files: tuple[Path, ...] = ()
    with stopping_on_interrupt() as stop:
        for event in export_model(request, stop):
            match event:
                case ExportAdvanced():
                    note(f"{event.done} of {event.total}: {event.message}")
                case Noticed():
                    note(event.message)
                case FileSaved():
                    files = event.paths
    if not files:
        note("Stopped; nothing was written.")
        sys.exit(INTERRUPTED)
    report({"files": files}, [str(path) for path in files], as_json)


def _request(
    model: Path, output: Path, test_image: Path | None, options: dict[str, Any]
) -> ExportRequest:
    from napari_unet.engine.exchange.card import ModelCard
    from napari_unet.engine.exchange.export import ExportRequest
    from napari_unet.engine.exchange.open import open_own_model, usage_of
    from napari_unet.engine.files import read_image

    chosen = options.pop("export_format")
    if chosen is None:
        chosen = "onnx" if output.suffix.lower() == ".onnx" else "bioimageio"
    given = {name: value for name, value in options.items() if value}
    network = open_own_model(model)
    image = None if test_image is None else read_image(test_image).data
    return ExportRequest(network, output, chosen, image, ModelCard(**given), usage_of(model))


@click.command("inspect", short_help="Say what a model file or package holds.")
@click.argument("package", type=click.Path(path_type=Path))
@json_option
def inspect_command(package: Path, as_json: bool) -> None:
    """Say what PACKAGE holds, and whether it can be run here.

    PACKAGE is a model file of napari-unet, a bioimage.io package (folder or zip) or an ONNX file.
    Its own test is made if it has one. Code that a package brings is never run.
    """
    from napari_unet.engine.exchange.open import open_model
    from napari_unet.model.zoo.foreign import ForeignModel

    opened = open_model(package)
    network = opened.network
    values: dict[str, Any] = {
        "package": package,
        "made_by": "another program" if isinstance(network, ForeignModel) else "napari-unet",
        "axes": network.config.ndim,
        "channels": network.config.in_channels,
        "classes": network.config.classes,
        "can_learn": not isinstance(network, ForeignModel),
        "channel_names": list(opened.usage.learned_from.channels),
        "class_names": list(opened.usage.names_of(network.config.classes)),
    }
    if opened.description is not None:
        values |= _card(opened.description)
    if isinstance(network, ForeignModel):
        values |= _foreign(network)
    lines = [f"{name.replace('_', ' '):<16}{_in_words(value)}" for name, value in values.items()]
    report(values, lines, as_json)


def _card(said: Description) -> dict[str, Any]:
    return {
        "name": said.name,
        "summary": said.summary,
        "authors": list(said.authors),
        "licence": said.licence,
        "citations": list(said.citations),
    }


def _foreign(model: ForeignModel) -> dict[str, Any]:
    from napari_unet.engine.exchange.foreign import geometry_in_words

    said = model.description
    return {
        "input": [str(axis) for axis in said.input.axes],
        "output": [str(axis) for axis in said.output.axes],
        "weights": model.weights_format,
        "normalisation": [step.name for step in said.input.steps],
        "afterwards": [step.name for step in said.output.steps],
        "tiles": geometry_in_words(model.geometries),
        "test_error": model.test_error,
    }


def _in_words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2g}"
    return "; ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
