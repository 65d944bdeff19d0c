"""The session of one viewer: layers in, jobs out, results back into layers.

It holds no widget. The docks call its methods and observe `status`, `history` and `changed`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Signal

from napari_unet.engine.device import limit_threads
from napari_unet.engine.events import (
    JobEvent,
    ScoreMeasured,
    StepCompleted,
)
from napari_unet.engine.finetune import FinetuneRequest, Mailbox
from napari_unet.engine.image import AnnotatedImage
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.actions import Action, why_not
from napari_unet.viewer.activity import calm_moving_pictures
from napari_unet.viewer.closing import WindowClosing
from napari_unet.viewer.corrections import Corrections
from napari_unet.viewer.garbage import spare_what_is_there
from napari_unet.viewer.guidance import Guidance
from napari_unet.viewer.instant_answer import InstantAnswer
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.live_preview import LivePreview
from napari_unet.viewer.lost_layers import LostLayers
from napari_unet.viewer.prediction_jobs import plane_prediction, stack_prediction
from napari_unet.viewer.reports import JobReports, as_sentence
from napari_unet.viewer.session_layers import SessionLayers, unwrap
from napari_unet.viewer.session_network import SessionNetwork
from napari_unet.viewer.status import JobStatus, Phase, TrainingHistory
from napari_unet.viewer.weight_preview import WeightPreview

# The name of a job that a mere look at another plane does not replace.
_STACK: Final = "Predicting the stack"


class SegmentationController(QObject):
    """One image, its annotations and the network that learns from them, in one viewer.

    Parameters
    ----------
    viewer
        A napari viewer, or its model without a window. It is held weakly.
    segmenter
        The engine; None makes one with a new network.
    lane
        The background thread; None makes one.

    Attributes
    ----------
    status, history
        What is going on, and the curves; widgets observe them.
    layers
        The image, its annotations and its results.
    guidance
        Finds where to paint next.
    corrections
        Accepts answers, parts objects, takes learning back.
    network
        Puts another network in place of the session's, and writes it to a file.
    weights
        Shows the weight map of a labels layer and keeps it up to date.
    segmenter
        The engine. Its network belongs to the worker thread while a job runs.
    """

    #: Layers, readiness or the network changed; ask `why_not` again.
    changed = Signal()

    def __init__(
        self, viewer: Any, segmenter: Segmenter | None = None, lane: JobLane | None = None
    ) -> None:
        super().__init__()
        self._viewer = weakref.ref(unwrap(viewer))
        limit_threads(window=True)
        self.segmenter = segmenter or Segmenter(classes=2)
        self.lane = lane or JobLane(self)
        self.status = JobStatus()
        self.history = TrainingHistory()
        self.layers = SessionLayers(unwrap(viewer))
        self.layers.channels.takes = lambda: self.segmenter.takes
        self.guidance = Guidance(unwrap(viewer), self.lane, self.layers)
        self.corrections = Corrections(self)
        self.weights = WeightPreview(weakref.proxy(unwrap(viewer)), self.lane)
        self._reports = JobReports(self.status, self.history, self.layers)
        self.network = SessionNetwork(self, self._reports)
        self._inbox: Mailbox[tuple[AnnotatedImage, ...]] = Mailbox()
        self._training: JobTicket | None = None
        self._preview = LivePreview(self.segmenter, self.lane, self.layers)
        self._answer = InstantAnswer(self.segmenter, self.lane, self.layers)
        self._others: dict[JobTicket, Callable[[], None] | None] = {}
        self.layers.leaving.connect(self._on_image_leaving)
        self.layers.changed.connect(self.changed)
        self.layers.painting_paused.connect(self._on_strokes_painted)
        self.layers.image_chosen.connect(self.show_answer)
        self._losses = LostLayers(self)
        self.lane.told.connect(self._on_event)
        self.lane.finished.connect(self._on_finished)
        self.lane.failed.connect(self._on_failed)

    # ------------------------------------------------------------------ state

    @property
    def viewer(self) -> Any:
        """The viewer."""
        return self._viewer()

    @property
    def is_learning(self) -> bool:
        """Whether a training is running or paused."""
        return self._training is not None

    # ------------------------------------------------------------------ what can be done

    def why_not(self, action: Action) -> str | None:
        """Say why something cannot be done now, with the cure; None if it can."""
        return why_not(action, self)

    # ------------------------------------------------------------------ jobs

    def learn(self, seconds: float | None = None) -> None:
        """Learn from the strokes for so long, or until stopped; strokes are taken in on the way."""
        self.layers.catch_up()
        source = self.layers.source
        if self.refuse(Action.LEARN) or source is None:
            return
        others = self.layers.others()
        request = FinetuneRequest(
            source,
            self.layers.fitting_strokes(),
            seconds,
            others=others,
            borders=self.layers.borders.mask(),
        )
        inbox = self._inbox = Mailbox()
        self._training = self.lane.submit(
            lambda stop: self.segmenter.fine_tune_job(request, inbox, stop),
            name="Learning",
            priority=Priority.TRAINING,
            replaces="training",
        )
        self._begin(Phase.LEARNING, "Getting ready to learn ...")

    def pause(self) -> None:
        """Hold the training after the step in progress; it can be resumed."""
        if self._training is not None:
            self.lane.pause(self._training)
            self.status.phase = Phase.PAUSED
            self.status.message = f"Paused at step {self.status.step}"
            self.changed.emit()

    def resume(self) -> None:
        """Go on with a training that was paused."""
        if self._training is not None:
            self.lane.resume(self._training)
            self.status.phase = Phase.LEARNING
            self.changed.emit()

    def stop(self) -> None:
        """Stop what is running after the step or tile in progress."""
        if self.lane.is_busy():
            self.lane.stop()
            self.status.phase = Phase.STOPPING
            self.status.message = "Stopping after the step in progress ..."

    def predict(
        self, visible_only: bool = False, *, all_planes: bool = False, **options: Any
    ) -> None:
        """Predict the plane that is shown, what is on screen first, or that alone, or the stack.

        Parameters
        ----------
        visible_only
            Only what is on screen.
        all_planes
            All planes of a stack, the one on screen first.
        options
            `tile_size`, `precision` and `averaging` of `PredictRequest`.
        """
        if self.refuse(Action.PREDICT) or self.layers.source is None:
            return
        visible = self.layers.visible()
        if visible_only and visible is None:
            show_warning("The image is not on screen; press the Home button to see it.")
            return
        region = visible if visible_only else None
        request = PredictRequest(self.layers.source, visible=visible, region=region, **options)
        make_job = stack_prediction if all_planes else plane_prediction
        self.submit(
            _STACK if all_planes else "Predicting",
            make_job(self.layers, self.segmenter, request),
            replaces="prediction",
            phase=Phase.PREDICTING,
        )

    def suspend(self) -> None:
        """Stop all jobs and wait for them; nothing more is heard of them."""
        self.lane.close()
        self.leave()

    def leave(self) -> None:
        """Stop all jobs, of which nothing more is heard; what comes next begins after them."""
        self.layers.rest()
        self.lane.give_up()
        self._training = None
        self._preview.drop()
        self._answer.drop()
        self._others.clear()
        self._settle()

    def close(self) -> None:
        """End the session: stop all jobs and let go of the layers."""
        self.end()
        self.layers.close()

    def end(self) -> None:
        """Stop all jobs and wait for them; nothing more can be begun."""
        self.weights.hide()
        self.lane.close(for_good=True)
        self.leave()

    def submit(
        self,
        name: str,
        make_job: Callable[[threading.Event], Iterator[JobEvent]],
        *,
        replaces: str | None = None,
        phase: Phase = Phase.WORKING,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Run a job that is shown to the user, and call `then` when it ended without an error."""
        ticket = self.lane.submit(make_job, name=name, replaces=replaces)
        self._others[ticket] = then
        if not self.is_learning:
            self._begin(phase, f"{name} ...")

    def refuse(self, action: Action) -> bool:
        """Tell the user why something cannot be done now; False if it can."""
        reason = self.why_not(action)
        if reason is not None:
            show_warning(reason)
        return reason is not None

    # ------------------------------------------------------------------ jobs report

    def _begin(self, phase: Phase, message: str) -> None:
        self._reports.begin(phase, message)
        self.changed.emit()

    def _settle(self, message: str = "") -> None:
        """Nothing runs any more, or only the training goes on."""
        if not self.is_learning:
            self._reports.settle(message)
        self.changed.emit()

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if self.layers.results is not None:
            self.layers.results.class_names = self.segmenter.usage.class_names
        if self._preview.owns(ticket) or self._answer.owns(ticket):
            self._reports.show_quietly(event)
            return
        self._reports.show(event)
        if isinstance(event, ScoreMeasured):
            self._reports.show_speaker(self.segmenter.speaker)
        if isinstance(event, StepCompleted) and self.status.phase is not Phase.STOPPING:
            self._preview.keep_up()

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket == self._training:
            self._training = None
            self._settle()
            if self.layers.has_image() and self.segmenter.has_learned:
                self.predict()
        elif self._answer.owns(ticket):
            self._reports.show_speaker(self.segmenter.speaker)
            self.changed.emit()
        elif ticket in self._others:
            then = self._others.pop(ticket)
            if then is not None:
                then()
            if not self._others:
                waiting = self.status.message.endswith("...")
                self._settle(f"{ticket.name}: done" if waiting else "")
        else:  # somebody else's, of clicks say: there is nothing to stop any more
            self.changed.emit()

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if self.weights.owns(ticket):  # it tells the user itself
            return
        if ticket == self._training:
            self._training = None
        self._others.pop(ticket, None)
        self.status.last_error = str(error)
        self._settle(f"{ticket.name} ended by an error")
        show_error(as_sentence(str(error)))

    # ------------------------------------------------------------------ layers change

    def _on_image_leaving(self, is_followed: bool) -> None:
        """Go on with the next image at once; where there is none, no thread is left."""
        if is_followed:
            self.leave()
        else:
            self.suspend()

    def _on_strokes_painted(self) -> None:
        if self.layers.source is None:
            return
        if self.is_learning:
            here = AnnotatedImage(
                self.layers.source, self.layers.fitting_strokes(), self.layers.borders.mask()
            )
            self._inbox.put((here, *self.layers.others()))
        if self.answers_at_once():
            self._answer.ask(visible_only=self.is_learning)

    def answers_at_once(self) -> bool:
        """Whether the strokes as they are can be answered at once, and nothing better speaks."""
        return self._answer.is_possible(self.network.classes)

    def show_answer(self) -> None:
        """Show at once what is known of the image."""
        self.layers.catch_up()
        if self.segmenter.has_learned:
            self._reports.show_speaker(self.segmenter.speaker)
        if any(ticket.name == _STACK for ticket in self._others):
            return  # it does the plane that is shown next
        if self.answers_at_once():
            self._answer.ask(visible_only=self.is_learning)
        elif self.is_learning:
            self._preview.keep_up()
        elif self.segmenter.is_fine_tuned and self.why_not(Action.PREDICT) is None:
            if (kind := self.segmenter.takes) is not None and kind.ndim == 2:  # stacks take long
                self.predict()


_sessions: weakref.WeakKeyDictionary[Any, SegmentationController] = weakref.WeakKeyDictionary()


def controller_for(viewer: Any) -> SegmentationController:
    """Return the session of a viewer, which all docks share; it is made at the first call."""
    viewer = unwrap(viewer)
    if viewer not in _sessions:
        session = _sessions[viewer] = SegmentationController(viewer)
        if (window := getattr(viewer, "window", None)) is not None:
            WindowClosing(viewer, session).closed.connect(session.end)
            calm_moving_pictures(window._qt_window)
            spare_what_is_there(window._qt_window)
    return _sessions[viewer]
