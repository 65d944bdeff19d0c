"""Predict many image files: one bad file does not stop the rest, and what is done is not redone."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, Final

from napari_unet.engine.device import is_out_of_memory
from napari_unet.engine.events import Noticed
from napari_unet.engine.exchange.open import model_fingerprint, open_model
from napari_unet.engine.files import make_folder, write_atomically
from napari_unet.engine.images.events import (
    BatchFinished,
    BatchRow,
    BatchStarted,
    FileOpened,
    FilePredicted,
    FileProgressed,
    ImageFinished,
    ImageProgressed,
    ImageStarted,
)
from napari_unet.engine.images.omezarr import is_zarr
from napari_unet.engine.images.opening import IMAGE_SUFFIXES, first_line, image_name
from napari_unet.engine.images.predict import Predictor, predict_file
from napari_unet.engine.images.settings import FileSettings
from napari_unet.engine.images.storing import RESULT_KINDS
from napari_unet.ops.errors import InputError

TABLE_NAME: Final = "predictions"
# The table is written after an image, but not more often: of 100,000 images it is long.
_SECONDS_BETWEEN_TABLES: Final = 2.0
_FORMAT: Final = 1
_COLUMNS: Final = ("image", "state", "objects", "axes", "reason", "notes", "files")


@dataclass(frozen=True, slots=True)
class BatchItem:
    """An image, and the name of its results: a path below the output folder, without an ending."""

    image: Path
    name: Path


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """Which images are predicted with which model, and where the results go.

    Attributes
    ----------
    items
        The images; see `find_images`.
    model
        The model file.
    output
        Folder of the results, and of the table of them. None, with no table, is possible for labels
        that are written into the images.
    settings
        How.
    overwrite
        Whether images are predicted again that the same model with the same settings has done, and
        label images of the same name are replaced.
    """

    items: tuple[BatchItem, ...]
    model: Path
    output: Path | None
    settings: FileSettings = field(default_factory=FileSettings)
    overwrite: bool = False


def find_images(
    folder: Path,
    patterns: Sequence[str] = (),
    *,
    recursive: bool = True,
    output: Path | None = None,
) -> tuple[BatchItem, ...]:
    """Find the images in a folder, in the order of their names.

    Parameters
    ----------
    folder
        Where to look.
    patterns
        Names or paths below `folder` with * and ?, such as "*.tif" or "day1/*"; one must fit. None
        takes all endings that can be read. Hidden files and results of earlier runs are left out.
    recursive
        Whether to look into folders below as well.
    output
        A folder that is not looked into; those of earlier results are not, either.

    Returns
    -------
    tuple of BatchItem
        Results are named like the images, in the same folders below the output folder.

    Raises
    ------
    InputError
        If the folder is not there, may not be read, or holds no such image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder of images")
    problems: list[OSError] = []
    skipped = None if output is None else output.resolve()
    found = [
        BatchItem(path, path.relative_to(folder).parent / image_name(path))
        for path in _walk(folder, recursive, skipped, problems)
        if _is_wanted(path.relative_to(folder), patterns) and path.resolve() != skipped
    ]
    if problems and not found:
        raise InputError(
            f"{folder} may not be read ({(problems[0].strerror or '').lower()}); ask for the right "
            "to read it, or copy it"
        )
    if not found:
        kinds = " or ".join(patterns) if patterns else ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"{folder} holds no image ({kinds}); choose another folder or --pattern")
    found.sort(key=lambda item: item.image)
    return tuple(found)


def _walk(
    folder: Path, recursive: bool, skipped: Path | None, problems: list[OSError]
) -> Iterator[Path]:
    """Go through files and zarr folders, but not into zarr folders, results and hidden ones."""
    for here, folders, files in os.walk(folder, onerror=problems.append):
        place = Path(here)
        images = [name for name in folders if is_zarr(place / name)]
        folders[:] = sorted(
            name
            for name in folders
            if recursive
            and name not in images
            and not name.startswith(".")
            and not (place / name / f"{TABLE_NAME}.json").is_file()  # results of an earlier run
            and (place / name).resolve() != skipped
        )
        yield from (place / name for name in sorted([*files, *images]))


def _is_wanted(relative: Path, patterns: Sequence[str]) -> bool:
    if relative.name.startswith("."):
        return False
    if patterns:
        return any(
            fnmatch(relative.name, pattern) or fnmatch(relative.as_posix(), pattern)
            for pattern in patterns
        )
    if any(image_name(relative).endswith(f"_{kind}") for kind in RESULT_KINDS):
        return False
    return relative.suffix.lower() in IMAGE_SUFFIXES


def predict_batch(
    request: BatchRequest, stop: threading.Event | None = None
) -> Iterator[
    BatchStarted | ImageStarted | ImageProgressed | ImageFinished | BatchFinished | Noticed
]:
    """Predict many image files.

    An image that cannot be used is reported and left out. When the same batch is begun again, it
    goes on with the images that are missing, that have changed, or that failed.

    Parameters
    ----------
    request
        What to do.
    stop
        Checked before every tile; when it is set the job ends. The image in progress is not kept.

    Yields
    ------
    BatchStarted
        First.
    ImageStarted, ImageProgressed, ImageFinished, Noticed
        For each image.
    BatchFinished
        Last.

    Raises
    ------
    InputError
        If the model cannot be used, or the output folder cannot be written.
    """
    if request.output is not None:
        make_folder(request.output)
    elif request.settings.labels_into_image is None:
        raise InputError("where the results go is missing; give a folder")
    opened = open_model(request.model)
    predictor = Predictor(
        opened.network,
        opened.usage,
        request.settings,
        request.overwrite,
        _job_fingerprint(request),
    )
    table = _Table(request)
    yield BatchStarted(tuple(item.image for item in request.items))
    taken: dict[Path, Path] = {}
    for number, item in enumerate(request.items):
        if stop is not None and stop.is_set():
            break
        yield ImageStarted(number, item.image)
        row = _name_taken(item, taken) or (None if request.overwrite else table.done(item))
        if row is None:
            row = yield from _predict_item(predictor, request, number, item, stop)
        if row is None:
            break
        table.add(item, row)
        yield ImageFinished(number, row)
    stopped = len(table.rows) < len(request.items)
    yield BatchFinished(tuple(table.rows), table.write(), stopped)


def _name_taken(item: BatchItem, taken: dict[Path, Path]) -> BatchRow | None:
    """Refuse an image whose results would replace those of another one."""
    if item.name in taken:
        reason = (
            f"its results would replace those of {taken[item.name]}; predict it into another folder"
        )
        return BatchRow(item.image, "failed", reason=reason)
    taken[item.name] = item.image
    return None


def _predict_item(
    predictor: Predictor,
    request: BatchRequest,
    number: int,
    item: BatchItem,
    stop: threading.Event | None,
) -> Generator[ImageProgressed | Noticed, None, BatchRow | None]:
    """Predict one image; returns its row, or None if it was stopped."""
    axes = ""
    notes: tuple[str, ...] = ()
    try:
        stem = (request.output or Path()) / item.name
        for event in predict_file(predictor, item.image, stem, stop):
            match event:
                case FileOpened():
                    axes, notes = describe_axes(event), event.notes
                case FileProgressed():
                    yield ImageProgressed(number, event.fraction)
                case Noticed():
                    yield event
                case FilePredicted():
                    return BatchRow(
                        item.image, "done", event.objects, axes, event.files, notes=notes
                    )
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the others go on
        return BatchRow(item.image, "failed", axes=axes, reason=_reason(error), notes=notes)
    return None


def describe_axes(event: FileOpened) -> str:
    """Return the axes of an image and their lengths in a few words."""
    sides = " x ".join(str(length) for length in event.info.shape)
    level = f", level {event.info.level}" if len(event.info.levels) > 1 else ""
    return f"{event.info.names} {sides}{level}"


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return "there is not enough memory; close other programs, or give a smaller --tile-size"
    return f"{first_line(error)} ({type(error).__name__}); this is a fault of the program"


class _Table:
    """What became of the images, on the disk as CSV for people and as JSON for the next run."""

    def __init__(self, request: BatchRequest) -> None:
        self.rows: list[BatchRow] = []
        self._folder = request.output
        names = [f"{TABLE_NAME}.{end}" for end in ("csv", "json")]
        self._paths = [] if self._folder is None else [self._folder / name for name in names]
        self._entries = _read_entries(self._paths[1]) if self._paths else {}
        self._job = _job_fingerprint(request)
        self._written = time.monotonic()

    def done(self, item: BatchItem) -> BatchRow | None:
        """Return the row of an image that an earlier run has done and that has not changed."""
        entry = self._entries.get(str(item.image.absolute()))
        if entry is None or self._folder is None or entry.get("state") not in ("done", "skipped"):
            return None
        if entry.get("job") != self._job or entry.get("file") != _file_fingerprint(item.image):
            return None
        files = tuple(self._folder / str(name) for name in entry.get("files", ()))
        if not files or not all(path.exists() for path in files):
            return None
        return BatchRow(
            item.image,
            "skipped",
            entry.get("objects"),
            str(entry.get("axes", "")),
            files,
            notes=tuple(entry.get("notes", ())),
        )

    def add(self, item: BatchItem, row: BatchRow) -> None:
        """Take in what became of an image."""
        self.rows.append(row)
        kept = replace(row, files=tuple(self._relative(path) for path in row.files))
        entry = {**kept.to_dict(), "image": str(item.image.absolute())}
        entry |= {"job": self._job, "file": _file_fingerprint(item.image)}
        if not (row.state == "failed" and self._is_done_elsewhere(item)):
            self._entries[str(item.image.absolute())] = entry
        if time.monotonic() - self._written > _SECONDS_BETWEEN_TABLES:
            self.write()

    def write(self) -> tuple[Path, ...]:
        """Write both tables and return their paths."""
        if not self._paths:
            return ()
        content = {"format": _FORMAT, "images": list(self._entries.values())}
        text = [self._csv(), json.dumps(content, indent=1)]
        for path, words in zip(self._paths, text, strict=True):
            write_atomically(path, _writer(words))
        self._written = time.monotonic()
        return tuple(self._paths)

    def _is_done_elsewhere(self, item: BatchItem) -> bool:
        """Whether the same file was done under the same name in this run (it was named twice)."""
        return any(row.image == item.image and row.state != "failed" for row in self.rows)

    def _relative(self, path: Path) -> Path:
        """Return a path as the table has it: from its folder on, or whole if it lies elsewhere."""
        folder = self._folder
        inside = folder is not None and path.is_relative_to(folder)
        return path.relative_to(folder) if inside and folder is not None else path.absolute()

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            values = row.to_dict()
            lists = {name: "; ".join(values[name]) for name in ("files", "notes")}
            writer.writerow({name: {**values, **lists}[name] for name in _COLUMNS})
        return text.getvalue()


def _writer(text: str) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(text.encode())


def _read_entries(path: Path) -> dict[str, dict[str, Any]]:
    """Read the table of an earlier run; one that cannot be read is as good as none."""
    try:
        content = json.loads(path.read_text("utf-8"))
        entries = content["images"] if content["format"] == _FORMAT else []
        return {str(entry["image"]): dict(entry) for entry in entries}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _job_fingerprint(request: BatchRequest) -> str:
    """Return what stands for the model and the settings: results of others are not these."""
    digest = hashlib.sha256(model_fingerprint(request.model))
    digest.update(json.dumps(request.settings.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()


def _file_fingerprint(path: Path) -> list[int]:
    """Return size and time of an image; of a zarr folder those of its metadata."""
    try:
        files = (
            sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
        )
        stats = [each.stat() for each in files]
    except OSError:
        return []
    return [number for stat in stats for number in (stat.st_size, stat.st_mtime_ns)]
