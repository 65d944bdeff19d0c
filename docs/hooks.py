"""Fill in what the pages take from the program itself, so that it cannot go out of date."""

import re
from pathlib import Path

import click

from napari_unet.cli import cli

ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown, **_):
    """Replace ``{{ cli }}`` and ``{{ cli NAME }}`` by help texts, ``{{ file PATH }}`` by a file."""
    markdown = re.sub(r"\{\{ cli ?([\w-]*) \}\}", _help, markdown)
    return re.sub(
        r"\{\{ file ([\w./-]+) \}\}", lambda found: (ROOT / found[1]).read_text(), markdown
    )


def _help(found):
    name = found[1]
    command = cli.commands[name] if name else cli
    full_name = f"napari-unet {name}".strip()
    context = click.Context(command, info_name=full_name, max_content_width=88, terminal_width=88)
    return f"```text\n{command.get_help(context)}\n```"
