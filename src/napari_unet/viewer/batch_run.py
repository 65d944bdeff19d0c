"""A batch of image files predicted in the background, for the Folder dock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject

from napari_unet.engine.events import JobEvent, Noticed
from napari_unet.engine.images.batch import BatchRequest, find_images, predict_batch
from napari_unet.engine.images.events import (
    BatchFinished,
    BatchStarted,
    ImageFinished,
    ImageProgressed,
    ImageStarted,
)
from napari_unet.engine.images.settings import FileSettings
from napari_unet.viewer.background import BackgroundWork
from napari_unet.viewer.batch_table import BatchModel
from napari_unet.viewer.status import Phase


@dataclass(frozen=True, slots=True)
class FolderRequest:
    """What the user chose.

    Attributes
    ----------
    folder, model, output
        Where the images are, the model file, and where the results go.
    patterns
        Names of images with * and ?; empty takes all.
    recursive
        Whether to look into folders below as well.
    overwrite
        Whether to predict again what is done.
    settings
        How.
    """

    folder: Path
    model: Path
    output: Path
    patterns: tuple[str, ...] = ()
    recursive: bool = True
    overwrite: bool = False
    settings: FileSettings = field(default_factory=FileSettings)


def folder_job(request: FolderRequest, stop: threading.Event) -> Iterator[JobEvent]:
    """Find the images of a folder, and predict them."""
    items = find_images(
        request.folder, request.patterns, recursive=request.recursive, output=request.output
    )
    batch = BatchRequest(items, request.model, request.output, request.settings, request.overwrite)
    yield from predict_batch(batch, stop)


class BatchRun(BackgroundWork):
    """Predicts a folder, one at a time.

    Parameters
    ----------
    controller
        The session; while it works, the batch waits.
    parent
        What it belongs to.

    Attributes
    ----------
    table
        The images, and what became of them.
    """

    def __init__(self, controller: Any, parent: QObject) -> None:
        super().__init__(controller.viewer, parent)
        self.table = BatchModel()
        self._status = controller.status
        self._total = 0
        self._waits = False

    def start(self, request: FolderRequest) -> None:
        """Predict a folder."""
        self.table.begin(())
        self._total, self._waits, self.message = 0, False, "Looking for images ..."
        self._begin(lambda stop: folder_job(request, stop), "Predicting the folder")
        self.give_way()
        self.changed.emit()

    def give_way(self, _phase: object = None) -> None:
        """Wait while the session works, and go on afterwards."""
        if self._ticket is None:
            return
        is_busy = self._status.phase not in (Phase.IDLE, Phase.PAUSED)
        if is_busy != self._waits:
            self._waits = is_busy
            (self.lane.pause if is_busy else self.lane.resume)(self._ticket)
            self.message = "Waiting while the session works ..." if is_busy else "Going on ..."
            self.changed.emit()

    def _heard(self, event: JobEvent) -> None:
        match event:
            case BatchStarted():
                self._total = len(event.images)
                self.table.begin(event.images)
            case ImageStarted():
                self.table.progress(event.number, 0.0)
                self.message = f"{event.number + 1} of {self._total}: {event.image.name}"
            case ImageProgressed():
                self.table.progress(event.number, event.fraction)
                self.fraction = (event.number + event.fraction) / self._total
            case ImageFinished():
                self.table.finish(event.number, event.row)
                self.fraction = (event.number + 1) / self._total
            case Noticed():
                self.message = event.message
            case BatchFinished():
                self.message = _outcome(event, self._total)

    def _ended(self) -> None:
        self.table.end()
        if not self._total:
            self.message = "Stopped before the first image"

    def _failed(self, error: Exception) -> None:
        self.table.end()
        self.message = f"Not predicted: {error}"


def _outcome(finished: BatchFinished, total: int) -> str:
    """Say how a batch ended."""
    states = [row.state for row in finished.rows]
    parts = [
        f"{states.count(state)} {words}"
        for state, words in (
            ("done", "done"),
            ("skipped", "were done before"),
            ("failed", "failed"),
        )
        if state in states
    ]
    text = f"{', '.join(parts) or 'Nothing done'}, of {total}"
    if finished.stopped:
        text = f"Stopped: {text}. Predict again goes on with the rest"
    return f"{text}. The table is in {finished.tables[0].name}."
