"""The command line: the same jobs as the docks, with a progress bar.

Importing it is cheap: numpy and torch are imported by the commands that need them.
"""

from __future__ import annotations

import click

from napari_unet import __version__
from napari_unet.cli.click_objects import click_command
from napari_unet.cli.console import CommandGroup
from napari_unet.cli.demo import demo_command
from napari_unet.cli.evaluate import evaluate_command
from napari_unet.cli.exchange import export_command, inspect_command
from napari_unet.cli.fine_tune import fine_tune_command
from napari_unet.cli.info import info_command
from napari_unet.cli.predict import predict_command
from napari_unet.cli.train import train_command
from napari_unet.cli.weight_map import weight_map_command

__all__ = ["cli", "main"]


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="napari-unet")
@click.pass_context
def cli(context: click.Context) -> None:
    """Segment microscopy images with a U-Net that learns from brush strokes.

    Without strokes of your own, start with `napari-unet demo`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    predict_command,
    click_command,
    fine_tune_command,
    train_command,
    evaluate_command,
    weight_map_command,
    export_command,
    inspect_command,
    demo_command,
    info_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 stopped by Ctrl-C."""
    cli.main(prog_name="napari-unet")
