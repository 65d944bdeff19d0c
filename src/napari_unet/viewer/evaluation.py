"""An evaluation in the background, for the Evaluate dock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_unet.engine.events import (
    EvaluationFinished,
    ImageEvaluated,
    JobEvent,
    Noticed,
    ThresholdTried,
)
from napari_unet.engine.score_table import ScoreTable
from napari_unet.viewer.background import BackgroundWork
from napari_unet.viewer.comparison import Comparison, comparison_job


class Evaluation(BackgroundWork):
    """Compares layers, one comparison at a time.

    Parameters
    ----------
    viewer
        When its window is closed, the evaluation ends.
    parent
        What it belongs to.

    Attributes
    ----------
    comparison
        What was compared last.
    table, errors
        The result, and the error map in the shape of the truth; None and zeros until it is there.
    """

    #: There is a result.
    finished = Signal()
    unit = "image"

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(viewer, parent)
        self.comparison: Comparison | None = None
        self.table: ScoreTable | None = None
        self.errors: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)
        self._notes: list[str] = []
        self._stopped = False

    def start(self, comparison: Comparison) -> None:
        """Compare two layers; what was found before is forgotten."""
        self.comparison, self.table = comparison, None
        self.errors = np.zeros(comparison.truth.shape, np.uint8)
        self.message, self._notes, self._stopped = "Evaluating ...", [], False
        self._begin(lambda stop: comparison_job(comparison, stop), "Evaluating")
        self.changed.emit()

    def _heard(self, event: JobEvent) -> None:
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

    def _ended(self) -> None:
        if self.comparison is None:
            return
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

    def _failed(self, error: Exception) -> None:
        self.message = f"Not evaluated: {error}"


def _count(comparison: Comparison) -> str:
    planes = 1 if comparison.truth.ndim == 2 else len(comparison.truth)
    return "1 image" if planes == 1 else f"{planes} planes"
