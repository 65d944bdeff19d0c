"""How the command line talks: one line for an error, a bar for a job, JSON for a script."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import click

from napari_unet.ops.errors import InputError

BAD_INPUT: Final = 2
# What a shell reports for a program that Ctrl-C (signal 2) ended.
INTERRUPTED: Final = 128 + 2

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


class CommandGroup(click.Group):
    """A click group that reports every foreseen error in one line and says what ended it.

    Exit codes: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C.
    """

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run and exit."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "napari-unet"
            fail(f"{error.format_message().rstrip('.')}; see {command} --help")
        except click.ClickException as error:
            fail(error.format_message())
        except InputError as error:
            fail(str(error))
        except (KeyboardInterrupt, click.Abort):
            click.echo("Stopped.", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output went away, as `head` does. What Python still holds back is
            # not to raise the same error again when it is written out at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except MemoryError:
            click.echo("Error: not enough memory; close other programs, or cut the image", err=True)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def fail(message: str) -> NoReturn:
    """Print one line on standard error and exit with the code for bad input."""
    click.echo("Error: " + " ".join(message.split()), err=True)
    sys.exit(BAD_INPUT)


def note(message: str) -> None:
    """Print a line for a person on standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)


def report(result: Mapping[str, Any], lines: Sequence[str], as_json: bool) -> None:
    """Print the result on standard output: as JSON, or the lines for a person."""
    if as_json:
        click.echo(json.dumps(_plain(result), indent=2, allow_nan=False))
        return
    for line in lines:
        click.echo(line)


def _plain(value: Any) -> Any:
    """Turn paths into text and numbers that JSON does not have into null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def stopping_on_interrupt() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C sets, so that a job can end in good order; a second one is hard."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return

    def _on_interrupted(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = signal.signal(signal.SIGINT, _on_interrupted)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
