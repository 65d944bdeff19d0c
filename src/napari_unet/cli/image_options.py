"""Options that say what an image file holds, where it does not say so itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from napari_unet.engine.images.axes import Corrections

_Command = TypeVar("_Command", bound=Callable[..., Any])


def image_options(command: _Command) -> _Command:
    """Add the options that correct what an image file says about itself to a command."""
    options = (
        click.option(
            "--axes",
            metavar="NAMES",
            help="What the axes of the image are: t (time), c (channel), z (plane), y, x, such as "
            "zcyx; by default what the file says.",
        ),
        click.option(
            "--pixel-size",
            metavar="SIZE",
            help="Size of a pixel, such as 0.5um, or 2,0.5,0.5um along z, y and x; by default "
            "what the file says.",
        ),
        click.option(
            "--level",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Level of a pyramid; 0 is the finest.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_corrections(axes: str | None, pixel_size: str | None, level: int) -> Corrections:
    """Return what was given on the command line.

    Raises
    ------
    InputError
        If axes or a pixel size cannot be read.
    """
    from napari_unet.engine.images.axes import Corrections, parse_pixel_size

    sizes = Corrections() if pixel_size is None else parse_pixel_size(pixel_size)
    return replace(sizes, axes=axes.lower() if axes is not None else None, level=level)
