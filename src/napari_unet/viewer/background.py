"""Work beside the session: one job at a time, on a lane of its own."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_unet.engine.events import JobEvent
from napari_unet.viewer.closing import WindowClosing
from napari_unet.viewer.lane import JobLane, JobTicket, MakeJob


class BackgroundWork(QObject):
    """Runs a job in the background and hears of it; subclasses say what it means.

    It has a lane of its own: the session's lane ends its jobs with its image, and what takes long
    would hold up a preview.

    Parameters
    ----------
    viewer
        When its window is closed, the work ends.
    parent
        What it belongs to.

    Attributes
    ----------
    fraction
        How much is done, 0 to 1.
    message
        What is being done or how it ended, a sentence or two.
    """

    #: Something above changed.
    changed = Signal()
    #: In words, what a stop still waits for.
    unit = "tile"

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self.lane = JobLane(self)
        self.fraction = 0.0
        self.message = ""
        self._ticket: JobTicket | None = None
        self.lane.told.connect(self._on_event)
        self.lane.finished.connect(self._on_finished)
        self.lane.failed.connect(self._on_failed)
        WindowClosing(viewer, self).closed.connect(self.close)

    @property
    def is_running(self) -> bool:
        """Whether a job has not ended yet."""
        return self._ticket is not None

    def stop(self) -> None:
        """End after the piece in progress; what is done stays."""
        if self._ticket is not None:
            self.lane.stop(self._ticket)
            self.message = f"Stopping after the {self.unit} in progress ..."
            self.changed.emit()

    def close(self) -> None:
        """End at once and for good: nothing more is heard, and nothing can be begun."""
        self._ticket = None
        self.lane.close(for_good=True)

    def _begin(self, make_job: MakeJob, name: str) -> None:
        """Start a job."""
        self.fraction = 0.0
        self._ticket = self.lane.submit(make_job, name=name)

    def _heard(self, event: JobEvent) -> None:
        """Take in what the job reports."""

    def _ended(self) -> None:
        """Take in that the job ended by itself or was stopped."""

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if ticket is self._ticket:
            self._heard(event)
            self.changed.emit()

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket is self._ticket:
            self._ticket = None
            self._ended()
            self.changed.emit()

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if ticket is self._ticket:
            self._ticket = None
            self._failed(error)
            self.changed.emit()

    def _failed(self, error: Exception) -> None:
        """Take in that the job ended by an error."""
        self.message = str(error)
