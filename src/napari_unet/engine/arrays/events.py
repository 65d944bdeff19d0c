"""What the prediction of a large array reports while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OutputOpened:
    """The output is there, and tiles are about to be computed.

    Attributes
    ----------
    path
        The zarr group.
    done, total
        Tiles that an earlier run of the same job left, and tiles in all.
    plan
        How the network runs, in a few words.
    """

    path: Path
    done: int
    total: int
    plan: str


@dataclass(frozen=True, slots=True)
class TilesWritten:
    """More tiles lie on the disk: `done` of `total`, those of earlier runs included."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ArrayFinished:
    """The job ended; `stopped` if it was asked to before the last tile.

    Attributes
    ----------
    path
        The zarr group.
    done, total
        Tiles that are there, those of earlier runs included, and tiles in all.
    pixels
        How many pixels this run predicted.
    seconds
        How long it took them.
    stopped
        Whether tiles are missing; the same job goes on with them.
    """

    path: Path
    done: int
    total: int
    pixels: int
    seconds: float
    stopped: bool
