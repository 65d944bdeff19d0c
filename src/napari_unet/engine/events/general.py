"""What any job may report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something that the user should know, in one sentence; the job goes on."""

    message: str


@dataclass(frozen=True, slots=True)
class PieceDone:
    """A piece of work is done of which there is nothing to say; what is more urgent goes first."""


@dataclass(frozen=True, slots=True)
class ExportAdvanced:
    """A part of an export is done, `done` of `total`."""

    message: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class FileSaved:
    """Files were written."""

    paths: tuple[Path, ...]
