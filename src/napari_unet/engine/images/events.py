"""What the prediction of image files reports while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_unet.engine.images.axes import ImageInfo

#: What became of an image: predicted now, predicted by an earlier run, or why not.
State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class FileOpened:
    """An image file was opened.

    Attributes
    ----------
    info
        What it holds.
    notes
        What the user should know: what was guessed, or does not fit the model.
    """

    info: ImageInfo
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileProgressed:
    """A share of an image file, 0 to 1, is predicted."""

    fraction: float


@dataclass(frozen=True, slots=True)
class FilePredicted:
    """An image file is predicted, and its results are written.

    Attributes
    ----------
    info
        What it holds.
    files
        What was written.
    objects
        How many objects were found.
    notes
        What the user should know.
    """

    info: ImageInfo
    files: tuple[Path, ...]
    objects: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchRow:
    """What became of one image; a row of the table.

    Attributes
    ----------
    image
        The file.
    state
        "done", "skipped" (an earlier run did it) or "failed".
    objects
        How many were found; None if it failed.
    axes
        Names and lengths of the axes, "zyx 20 x 512 x 512".
    files
        What was written.
    reason
        Why it failed.
    notes
        What was guessed, or does not fit the model.
    """

    image: Path
    state: State
    objects: int | None = None
    axes: str = ""
    files: tuple[Path, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, fit for JSON."""
        return {
            "image": str(self.image),
            "state": self.state,
            "objects": self.objects,
            "axes": self.axes,
            "files": [str(path) for path in self.files],
            "reason": self.reason,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """The images of a batch are known."""

    images: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ImageStarted:
    """The image of this number, from 0, is being predicted."""

    number: int
    image: Path


@dataclass(frozen=True, slots=True)
class ImageProgressed:
    """A share of the image of this number, 0 to 1, is predicted."""

    number: int
    fraction: float


@dataclass(frozen=True, slots=True)
class ImageFinished:
    """It is known what became of the image of this number."""

    number: int
    row: BatchRow


@dataclass(frozen=True, slots=True)
class BatchFinished:
    """The batch ended; `stopped` if it was asked to before the last image.

    Attributes
    ----------
    rows
        What became of each image that was come to.
    tables
        The table as CSV and as JSON.
    stopped
        Whether images are left.
    """

    rows: tuple[BatchRow, ...]
    tables: tuple[Path, ...]
    stopped: bool


BatchEvent = BatchStarted | ImageStarted | ImageProgressed | ImageFinished | BatchFinished
FileEvent = FileOpened | FileProgressed | FilePredicted
