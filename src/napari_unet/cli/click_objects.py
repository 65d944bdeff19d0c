"""``napari-unet click``: an image and a few clicks in, the mask of an object out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click

from napari_unet.cli.console import json_option, report
from napari_unet.ops.errors import InputError


@click.command("click", short_help="Outline the object under a click.")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--at",
    "positive",
    multiple=True,
    metavar="ROW,COLUMN",
    help="A pixel of the object, counted from 0; may be given several times.",
)
@click.option(
    "--not",
    "negative",
    multiple=True,
    metavar="ROW,COLUMN",
    help="A pixel that is not of the object; may be given several times.",
)
@click.option(
    "--box",
    metavar="ROW,COLUMN,ROW,COLUMN",
    help="Two corners of a box around the object, in place of or beside clicks.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="TIFF or PNG file for the mask: 1 on the object, 0 elsewhere.",
)
@json_option
def click_command(
    image: Path,
    positive: tuple[str, ...],
    negative: tuple[str, ...],
    box: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Outline the object of IMAGE that lies under --at and not under --not."""
    clicks = [(_numbers(text, 2), True) for text in positive]
    clicks += [(_numbers(text, 2), False) for text in negative]
    if not positive and box is None:
        raise InputError("say where the object is: --at ROW,COLUMN or --box ROW,COLUMN,ROW,COLUMN")
    from napari_unet.engine.click import Clicker
    from napari_unet.engine.files import read_image, write_labels
    from napari_unet.engine.image import SourceImage

    source = read_image(image)
    drawn = None
    if box is not None:
        top, left, bottom, right = _numbers(box, 4)
        rows, columns = sorted((round(top), round(bottom))), sorted((round(left), round(right)))
        drawn = slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1)
    clicker = Clicker(SourceImage(source.data))
    found = clicker.outline(clicks, box=drawn)
    mask = found.full(clicker.image.shape)
    path = write_labels(output, mask, source)
    area = int(mask.sum())
    report(
        {"mask": path, "pixels": area, "expected_overlap": found.overlap},
        [f"{area} pixels, expected overlap with the object {found.overlap:.2f}", str(path)],
        as_json,
    )


def _numbers(text: str, count: int) -> Sequence[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        wanted = ",".join(["ROW", "COLUMN"] * (count // 2))
        raise InputError(f"{text!r} is not {wanted}; give numbers with commas, as in 120,64")
    return numbers
