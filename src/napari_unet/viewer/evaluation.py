"""An evaluation in the background, for the Evaluate dock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, Signal

from napari_unet.engine.events import (
    EvaluationFinished,
    ImageEvaluated,
    JobEvent,
    Noticed,
    ThresholdTried,
)
from napari_unet.engine.score_table import ScoreTable
from napari_unet.viewer.comparison import Comparison, comparison_job
from napari_unet.viewer.lane import JobLane, JobTicket


class Evaluation(QObject):
    """Compares layers, one comparison at a time.

    It has a lane of its own: the session's lane ends its jobs with its image, and a large image
    would hold up a preview.

    Parameters
    ----------
    viewer
        When its window is closed, the evaluation ends.
    parent
        What it belongs to.

    Attributes
    ----------
    fraction
        How much is done, 0 to 1.
    message
        What is being done or was found, a sentence or two.
    comparison
        What was compared last.
    table, errors
        The result, and the error map in the shape of the truth; None and zeros until it is there.
    """

    #: Something above changed.
    changed = Signal()
    #: There is a result.
    finished = Signal()

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self.lane = JobLane(self)
        self.fraction = 0.0
        self.message = ""
        self.comparison: Comparison | None = None
        self.table: ScoreTable | None = None
        self.errors: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)
        self._ticket: JobTicket | None = None
        self._notes: list[str] = []
        self._stopped = False
        self.lane.event.connect(self._on_event)
        self.lane.finished.connect(self._on_finished)
        self.lane.failed.connect(self._on_failed)
        if (window := getattr(viewer, "window", None)) is not None:
            window._qt_window.installEventFilter(self)

    @property
    def is_running(self) -> bool:
        """Whether a comparison has not ended yet."""
        return self._ticket is not None

    def start(self, comparison: Comparison) -> None:
        """Compare two layers; what was found before is forgotten."""
        self.comparison, self.table, self.fraction = comparison, None, 0.0
        self.errors = np.zeros(comparison.truth.shape, np.uint8)
        self.message, self._notes, self._stopped = "Evaluating ...", [], False
        self._ticket = self.lane.submit(
            lambda stop: comparison_job(comparison, stop), name="Evaluating"
        )
        self.changed.emit()

    def stop(self) -> None:
        """End after the image in progress; what was compared by then is the result."""
        if self._ticket is not None:
            self.lane.stop(self._ticket)
            self.message = "Stopping after the image in progress ..."
            self.changed.emit()

    def close(self) -> None:
        """End at once; nothing more is heard."""
        self._ticket = None
        self.lane.close()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """End when the viewer's window is closed; Qt calls this."""
        if event.type() == QEvent.Type.Close:
            self.close()
        return False

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if ticket is not self._ticket:
            return
        match event:
            case ThresholdTried():
                self.fraction = event.done / event.total
                self.message = f"Looking for the best threshold: {event.threshold:g}"
            case ImageEvaluated():
                target = self.errors if self.errors.ndim == 2 else self.errors[event.done - 1]
                target[...] = event.errors
                self.fraction = event.done / event.total
                self.message = f"Evaluated {event.done} of {event.total}"
            case Noticed():
                self._notes.append(event.message)
            case EvaluationFinished():
                self.table, self._stopped = event.table, event.stopped
        self.changed.emit()

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket is not self._ticket or self.comparison is None:
            return
        self._ticket = None
        done = 0 if self.table is None else len(self.table.images)
        words = [
            f"'{self.comparison.name}' compared with '{self.comparison.truth_name}'",
            *self._notes,
        ]
        if self._stopped:
            words.insert(1, f"stopped after {done} of {_count(self.comparison)}")
        self.message = "; ".join(words)
        if done:
            self.finished.emit()
        else:
            self.table, self.message = None, "Stopped before anything was compared"
        self.changed.emit()

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if ticket is self._ticket:
            self._ticket = None
            self.message = f"Not evaluated: {error}"
            self.changed.emit()


def _count(comparison: Comparison) -> str:
    planes = 1 if comparison.truth.ndim == 2 else len(comparison.truth)
    return "1 image" if planes == 1 else f"{planes} planes"
