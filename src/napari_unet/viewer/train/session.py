"""The training of one viewer: what was read, what runs, and what came of it. No widget.

It has a lane of its own. The session's lane ends all its jobs when another image is chosen or a
layer is removed, which must not cost an hour of training. But the two do not compete for the
processor: while the session learns or predicts, the training waits after its step in progress.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Qt, Signal

from napari_unet.engine.dataset import LabelledSet
from napari_unet.engine.events import (
    FileSaved,
    JobEvent,
    ModelMeasured,
    TrainingFinished,
    ValidationImagePredicted,
    ValidationMeasured,
)
from napari_unet.viewer.closing import WindowClosing
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.reports import JobReports, as_sentence
from napari_unet.viewer.status import JobStatus, Phase, TrainingHistory
from napari_unet.viewer.train.jobs import Reading, ReadRequest, TrainPlan, read_job, training_job
from napari_unet.viewer.train.sources import FolderSource

_WAITING = "Waiting while the session learns or predicts"


class TrainSession(QObject):
    """Reads labelled images and trains on them in the background.

    Parameters
    ----------
    controller
        The session of the viewer, which goes first.

    Attributes
    ----------
    status, history
        What is going on, and the curves; widgets observe them.
    found, left_out
        What was read last, in sentences, and what of it cannot be used.
    reading_problem
        Why nothing could be read, empty if it could.
    validation, best, measured
        The last score, the best one and the final one; None before there is one.
    model, report
        The files that the last training left.
    """

    #: Something else than numbers changed: what was read, what runs, what was saved.
    changed = Signal()
    #: A score was measured.
    scored = Signal()
    # From the worker thread.
    _image_read = Signal(int, int)
    _read = Signal(object)

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__(controller)
        self._controller = weakref.proxy(controller)
        self.lane = JobLane(self)
        self.status = JobStatus()
        self.history = TrainingHistory()
        self.found: tuple[str, ...] = ()
        self.left_out: tuple[str, ...] = ()
        self.reading_problem = ""
        self.model: Path | None = None
        self.report: Path | None = None
        self._reports = JobReports(self.status, self.history, controller.layers)
        self.validation: ValidationMeasured | None = None
        self.best: ValidationMeasured | None = None
        self.measured: ModelMeasured | None = None
        self._wanted: ReadRequest | None = None
        self._reading: Reading | None = None
        self._reading_ticket: JobTicket | None = None
        self._ticket: JobTicket | None = None
        self._plan: TrainPlan | None = None
        self._held: Phase | None = None
        self._leave = threading.Event()
        queued = Qt.ConnectionType.QueuedConnection
        self._image_read.connect(self._on_image_read, queued)
        self._read.connect(self._on_read, queued)
        self.lane.told.connect(self._on_event)
        self.lane.finished.connect(self._on_finished)
        self.lane.failed.connect(self._on_failed)
        controller.status.events.phase.connect(self._give_way)

    @property
    def is_training(self) -> bool:
        """Whether a training runs, waits, or is about to begin."""
        return self._ticket is not None or self._plan is not None

    @property
    def is_stopping(self) -> bool:
        """Whether the training was asked to stop and saves what it learned."""
        return self.status.phase is Phase.STOPPING

    # ------------------------------------------------------------------ what can be asked for

    def read(self, request: ReadRequest | None) -> None:
        """Read images, to tell what they are; None forgets what was read."""
        self._drop_reading()
        if request is None:
            self.found = self.left_out = ()
            self._reading = None
        else:
            self._submit_reading(request)
        self.changed.emit()

    def train(self, request: ReadRequest, plan: TrainPlan) -> None:
        """Read the images as they are now and train on them."""
        if self.is_training:
            return
        self._plan = plan
        self._forget_scores()
        self.history.clear()
        self.model = self.report = None
        self._reports.begin(Phase.WORKING, "Reading the images ...")
        self._submit_reading(request)
        self.changed.emit()

    def stop(self) -> None:
        """End the training after the step in progress; model and report are made all the same."""
        if self._ticket is None:
            self._plan = None
            self._drop_reading()
            self._reports.settle("Stopped before the first step")
        else:
            self.lane.stop(self._ticket)
            self._held = None
            self.status.phase = Phase.STOPPING
            self.status.message = "Stopping after the step in progress ..."
        self.changed.emit()

    def close(self) -> None:
        """End everything in good order and for good; an unfinished training keeps its state."""
        self._leave.set()
        self.lane.close(for_good=True)
        self._leave.clear()
        self._ticket = self._reading_ticket = self._plan = self._held = None
        self._reports.settle()

    # ------------------------------------------------------------------ reading

    def _submit_reading(self, request: ReadRequest) -> None:
        known = None if self._plan is not None else self._known(request)
        self._wanted = request
        self._reading_ticket = self.lane.submit(
            lambda stop: read_job(request, known, self._read.emit, self._image_read.emit, stop),
            name="Reading",
            replaces="reading",
        )

    def _known(self, request: ReadRequest) -> LabelledSet | None:
        """Return images that were read from the same folders; layers may have been painted on."""
        if self._reading is None or not isinstance(request.source, FolderSource):
            return None
        old = self._reading.request
        same = (old.source, old.kind) == (request.source, request.kind)
        return self._reading.labelled if same else None

    def _drop_reading(self) -> None:
        if self._reading_ticket is not None:
            self.lane.stop(self._reading_ticket, silence=True)
        self._reading_ticket = self._wanted = None
        self.reading_problem = ""

    def _on_image_read(self, done: int, total: int) -> None:
        if self._plan is not None:
            self.status.fraction = done / total
            self.status.message = f"Reading image {done} of {total}"

    def _on_read(self, reading: Reading) -> None:
        if reading.request is not self._wanted:  # another source was chosen meanwhile
            return
        self.found, self.left_out = tuple(reading.sentences()), reading.labelled.problems
        self.reading_problem = ""
        # Layers are read anew when the training begins; until then their copies are not needed.
        is_needed = self._plan is not None or isinstance(reading.request.source, FolderSource)
        self._reading = reading if is_needed else None
        self.changed.emit()

    # ------------------------------------------------------------------ training

    def _begin_training(self, plan: TrainPlan) -> None:
        reading, leave = self._reading, self._leave
        if reading is None:
            self._reports.settle("Stopped before the first step")
            return
        if not isinstance(reading.request.source, FolderSource):
            self._reading = None
        self._ticket = self.lane.submit(
            lambda stop: training_job(reading, plan, stop, leave),
            name="Training",
            priority=Priority.TRAINING,
            replaces="training",
        )
        self._reports.begin(Phase.LEARNING, "Getting ready to learn ...")
        self._give_way()

    def _give_way(self, _phase: object = None) -> None:
        """Hold the training while the session works, and let it go on afterwards."""
        if self._ticket is None or self.is_stopping:
            return
        is_busy = self._controller.status.phase not in (Phase.IDLE, Phase.PAUSED)
        if is_busy and self._held is None:
            self._held = self.status.phase
            self.lane.pause(self._ticket)
            self.status.phase, self.status.message = Phase.PAUSED, _WAITING
        elif not is_busy and self._held is not None:
            self.status.phase, self._held = self._held, None
            self.status.message = "Going on ..."
            self.lane.resume(self._ticket)

    def _on_event(self, _ticket: JobTicket, event: JobEvent) -> None:
        self._reports.show(event)
        match event:
            case ValidationMeasured():
                self.validation = event
                self.best = event if event.is_best else self.best
                self.history.add_score(event.step, event.value)
                self.scored.emit()
            case TrainingFinished():
                self._enter(Phase.WORKING)
            case ValidationImagePredicted():
                self.status.fraction = event.done / event.total
                self.status.message = f"Measuring image {event.done} of {event.total}"
            case ModelMeasured():
                self.measured = event
                self.scored.emit()
            case FileSaved():
                self.model, self.report = event.paths
                self.changed.emit()

    def _enter(self, phase: Phase) -> None:
        """Show what is done now, unless it waits or stops."""
        if self._held is not None:
            self._held = phase
        elif not self.is_stopping:
            self.status.phase = phase
        self.status.fraction = self.status.seconds_left = None

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket == self._reading_ticket:
            self._reading_ticket = None
            if (plan := self._plan) is not None:
                self._plan = None
                self._begin_training(plan)
        elif ticket == self._ticket:
            self._ticket = self._held = None
            self._reports.settle("" if self.model else "Stopped before the first step")
        self.changed.emit()

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if ticket == self._reading_ticket:
            self._reading_ticket = self._reading = None
            self.found = self.left_out = ()
            self.reading_problem = str(error)
            if self._plan is None:  # nobody has asked for it yet; the dock shows it
                self.changed.emit()
                return
            self._plan = None
        elif ticket != self._ticket:
            return
        self._ticket = self._held = None
        self.status.last_error = str(error)
        self._reports.settle(f"{ticket.name} ended by an error")
        show_error(as_sentence(str(error)))
        self.changed.emit()

    def _forget_scores(self) -> None:
        self.validation = self.best = self.measured = None
        self.scored.emit()


def training_for(controller: SegmentationController) -> TrainSession:
    """Return the training of a session, which goes on when its dock is closed."""
    if isinstance(found := controller.findChild(TrainSession), TrainSession):
        return found
    training = TrainSession(controller)
    WindowClosing(controller.viewer, training).closed.connect(training.close)
    return training
