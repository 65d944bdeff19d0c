"""The session of one viewer: layers in, jobs out, results back into layers.

It holds no widget. The docks call its methods and observe `status`, `history` and `changed`.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_info, show_warning
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, Signal
from superqt.utils import QSignalDebouncer

from napari_unet.engine.events import (
    FileSaved,
    InstancesFound,
    JobEvent,
    Noticed,
    ScoreMeasured,
    StepCompleted,
    TilePredicted,
    TrainingFinished,
)
from napari_unet.engine.finetune import FinetuneRequest, Mailbox
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.results import (
    InstanceSettings,
    instances_job,
    save_model_job,
    save_results_job,
)
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.activity import ActivityBar
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.layers import (
    ResultLayers,
    annotation_colormap,
    file_stem,
    image_file,
    placement,
    present_labels,
    visible_box,
    why_not_usable,
)
from napari_unet.viewer.status import JobStatus, Phase, TrainingHistory
from napari_unet.viewer.weight_preview import WeightPreview

# A stroke often comes in several dabs; those within this time are taken in together.
_STROKE_PAUSE_MS = 200
# While it learns, the view is predicted again after this many seconds, and after as long as the
# last preview took, so that at least half of the time goes into learning.
_SECONDS_BETWEEN_PREVIEWS = 1.0
_MOST_CLASSES = 9


class Action(StrEnum):
    """What the user can ask for."""

    LEARN = "learn"
    PAUSE = "pause"
    STOP = "stop"
    PREDICT = "predict"
    INSTANCES = "instances"
    SAVE_RESULT = "save result"
    SAVE_MODEL = "save model"
    LOAD_MODEL = "load model"


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
        self.segmenter = segmenter or Segmenter(classes=2)
        self.lane = lane or JobLane(self)
        self.status = JobStatus()
        self.history = TrainingHistory()
        self.image_layer: Image | None = None
        self.annotation_layer: Labels | None = None
        self.results: ResultLayers | None = None
        self._classes = self.segmenter.classes
        self._painted: set[int] = set()
        self._source: SourceImage | None = None
        self.weights = WeightPreview(weakref.proxy(unwrap(viewer)), self.lane)
        self._activity = ActivityBar()
        self._inbox: Mailbox[NDArray[np.integer[Any]]] = Mailbox()
        self._training: JobTicket | None = None
        self._preview: JobTicket | None = None
        self._preview_started = self._preview_ended = 0.0
        self._others: dict[JobTicket, Callable[[], None] | None] = {}
        self._stroke_pause = QSignalDebouncer(parent=self)
        self._stroke_pause.setTimeout(_STROKE_PAUSE_MS)
        self._stroke_pause.triggered.connect(self._on_strokes_painted)
        self.lane.event.connect(self._on_event)
        self.lane.finished.connect(self._on_finished)
        self.lane.failed.connect(self._on_failed)
        self.viewer.layers.events.removed.connect(self._on_layer_removed)

    # ------------------------------------------------------------------ layers

    @property
    def viewer(self) -> Any:
        """The viewer."""
        return self._viewer()

    @property
    def classes(self) -> int:
        """How many classes are painted, background (label 1) included."""
        return self._classes

    def set_image_layer(self, layer: Image | None) -> None:
        """Choose the image; running jobs on another one are stopped."""
        layer = unwrap(layer)
        if layer is self.image_layer and layer is not None:
            return
        self.suspend()
        if self.image_layer is not None:
            self.image_layer.events.data.disconnect(self._on_image_changed)
        self.image_layer = layer
        self._source = None
        self.results = None if layer is None else ResultLayers(self.viewer, layer)
        if layer is not None:
            layer.events.data.connect(self._on_image_changed)
            if why_not_usable(layer) is None:
                self._source = SourceImage(layer.data)
        self.changed.emit()

    def set_annotation_layer(self, layer: Labels | None) -> None:
        """Choose the layer that strokes are read from."""
        layer = unwrap(layer)
        if layer is self.annotation_layer:
            return
        if self.annotation_layer is not None:
            self.annotation_layer.events.paint.disconnect(self._on_painted)
            self.annotation_layer.events.set_data.disconnect(self._on_painted)
        self.annotation_layer = layer
        if layer is not None:
            layer.events.paint.connect(self._on_painted)
            layer.events.set_data.connect(self._on_painted)  # undo, redo, fill by another plugin
        self._on_strokes_painted()

    def add_annotation_layer(self) -> Labels:
        """Add an empty layer to paint on over the image, ready to paint background."""
        if self.image_layer is None or (reason := why_not_usable(self.image_layer)) is not None:
            raise ValueError(reason or "choose an image first")
        layer = Labels(
            np.zeros(self.image_layer.data.shape[:2], np.uint8),
            name=f"{self.image_layer.name}: annotations",
            colormap=annotation_colormap(_MOST_CLASSES),
            opacity=0.8,
            **placement(self.image_layer),
        )
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = layer
        layer.brush_size = 8
        layer.selected_label = 1
        layer.mode = "paint"
        self.set_annotation_layer(layer)
        return layer

    def set_class_count(self, classes: int) -> None:
        """Paint this many classes; a network with another number of classes starts anew."""
        if classes == self._classes:
            return
        self._classes = classes
        self.lane.stop(silence=True)
        self.history.clear()
        self._submit("Starting a new network", lambda stop: self._start_anew(classes))

    def _start_anew(self, classes: int) -> Iterator[JobEvent]:
        self.segmenter.start_anew(classes)
        yield from ()

    # ------------------------------------------------------------------ what can be done

    def why_not(self, action: Action) -> str | None:
        """Say why something cannot be done now, with the cure; None if it can."""
        if action is Action.STOP:
            return None if self.lane.is_busy() else "Nothing is running."
        if action is Action.PAUSE:
            return None if self.is_learning else "Nothing is learning; press Learn first."
        if action is Action.SAVE_MODEL:
            return None if self.segmenter.has_learned else "There is no model yet; learn first."
        if action is Action.LOAD_MODEL:
            return "It is learning; press Stop first." if self.is_learning else None
        if (reason := why_not_usable(self.image_layer)) is not None:
            return reason
        if action is Action.LEARN:
            return self._why_not_learn()
        if action is Action.PREDICT:
            ready = self.segmenter.has_learned
            return None if ready else "Learn from a few strokes first, or load a model."
        complete = self.results is not None and self.results.is_complete
        return None if complete else "Predict the whole image first."

    def _why_not_learn(self) -> str | None:
        layer = self.annotation_layer
        if self.is_learning:
            return "It is learning already; new strokes are taken in as you paint."
        if layer is None or self.image_layer is None:
            return "Add an annotation layer and paint on it first."
        if layer.data.shape != self.image_layer.data.shape[:2]:
            return (
                f"'{layer.name}' has shape {layer.data.shape}, the image "
                f"{self.image_layer.data.shape[:2]}; add a new annotation layer."
            )
        if self._painted and max(self._painted) > self._classes:
            return f"Label {max(self._painted)} is painted; raise the number of classes to it."
        if len(self._painted) < 2:
            missing = "two classes" if not self._painted else "one more class"
            return f"Paint a few strokes of {missing} first."
        return None

    @property
    def is_learning(self) -> bool:
        """Whether a training is running or paused."""
        return self._training is not None

    # ------------------------------------------------------------------ jobs

    def learn(self, seconds: float | None = None) -> None:
        """Learn from the strokes for so long, or until stopped; strokes are taken in on the way."""
        if self._refuse(Action.LEARN) or self._source is None or self.annotation_layer is None:
            return
        request = FinetuneRequest(self._source, np.array(self.annotation_layer.data), seconds)
        inbox = self._inbox = Mailbox()
        self.lane.stop(self._preview, silence=True) if self._preview else None
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

    def predict(self, visible_only: bool = False, **options: Any) -> None:
        """Predict the image, what is on screen first, or that alone.

        Parameters
        ----------
        visible_only
            Only what is on screen.
        options
            `tile_size` and `precision` of `PredictRequest`.
        """
        if self._refuse(Action.PREDICT) or self._source is None or self.image_layer is None:
            return
        visible = visible_box(self.image_layer)
        if visible_only and visible is None:
            show_warning("The image is not on screen; press the Home button to see it.")
            return
        region = visible if visible_only else None
        request = PredictRequest(self._source, visible=visible, region=region, **options)
        self._submit(
            "Predicting",
            lambda stop: self.segmenter.predict_job(request, stop),
            replaces="prediction",
            phase=Phase.PREDICTING,
        )

    def make_instances(self, settings: InstanceSettings) -> None:
        """Cut objects out of the prediction and show them."""
        if self._refuse(Action.INSTANCES) or self.results is None:
            return
        if (probability := self.results.probability) is not None:
            snapshot = probability.copy()
            self._submit("Finding objects", lambda stop: instances_job(snapshot, settings))

    def save_result(self, folder: str | Path) -> None:
        """Write probabilities, classes and objects as TIFF into a folder."""
        if self._refuse(Action.SAVE_RESULT) or self.results is None or self.image_layer is None:
            return
        if (probability := self.results.probability) is None:
            return
        stem = Path(folder) / file_stem(self.image_layer)
        snapshot, instances = probability.copy(), self.results.instances
        like = image_file(self.image_layer)
        self._submit(
            "Saving the result", lambda stop: save_results_job(stem, snapshot, instances, like)
        )

    def save_model(self, path: str | Path) -> None:
        """Write the network to a file, between two training steps."""
        if not self._refuse(Action.SAVE_MODEL):
            target = Path(path).with_suffix(".safetensors")
            self._submit(
                "Saving the model", lambda stop: save_model_job(self.segmenter.model, target)
            )

    def load_model(self, path: str | Path) -> None:
        """Go on with a network from a file."""
        if not self._refuse(Action.LOAD_MODEL):
            self._submit(
                "Loading the model", lambda stop: self._use_model(Path(path)), then=self._on_loaded
            )

    def _use_model(self, path: Path) -> Iterator[JobEvent]:
        self.segmenter.use_model(path)
        yield Noticed(f"loaded {path.name}: {self.segmenter.classes} classes")

    def _on_loaded(self) -> None:
        self._classes = self.segmenter.classes
        self.history.clear()

    def suspend(self) -> None:
        """Stop all jobs and wait for them; nothing more is heard of them."""
        self._stroke_pause.cancel()
        self.lane.close()
        self._training = self._preview = None
        self._others.clear()
        self._settle("")

    def close(self) -> None:
        """End the session: stop all jobs and let go of the layers."""
        self.weights.hide()
        self.suspend()
        if (viewer := self.viewer) is not None:
            viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self.set_annotation_layer(None)
        self.set_image_layer(None)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stop all jobs when the viewer's window is closed; Qt calls this."""
        if event.type() == QEvent.Type.Close:
            self.weights.hide()
            self.suspend()
        return False

    def _submit(
        self,
        name: str,
        make_job: Callable[[threading.Event], Iterator[JobEvent]],
        *,
        replaces: str | None = None,
        phase: Phase = Phase.WORKING,
        then: Callable[[], None] | None = None,
    ) -> None:
        ticket = self.lane.submit(make_job, name=name, replaces=replaces)
        self._others[ticket] = then
        if not self.is_learning:
            self._begin(phase, f"{name} ...")

    def _refuse(self, action: Action) -> bool:
        reason = self.why_not(action)
        if reason is not None:
            show_warning(reason)
        return reason is not None

    # ------------------------------------------------------------------ jobs report

    def _begin(self, phase: Phase, message: str) -> None:
        self.status.last_error = ""
        self.status.fraction = self.status.seconds_left = None
        self.status.phase, self.status.message = phase, message
        self.changed.emit()

    def _settle(self, message: str) -> None:
        """Nothing runs any more, or only the training goes on."""
        self._activity.close()
        if self.is_learning:
            self.changed.emit()
            return
        self.status.phase = Phase.IDLE
        self.status.message = message or self.status.message
        self.status.fraction = self.status.seconds_left = None
        self.changed.emit()

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if isinstance(event, TilePredicted):
            self._show_tile(ticket, event)
        elif isinstance(event, StepCompleted):
            self._show_step(event)
        elif isinstance(event, ScoreMeasured):
            self.status.score, self.status.score_reason = event.dice, event.reason
            if event.dice is not None:
                self.history.add_score(event.step, event.dice)
        elif isinstance(event, TrainingFinished):
            self.status.message = (
                f"Learned {event.steps} steps in {event.seconds:.0f} s, loss {event.loss:.3f}"
            )
        elif isinstance(event, InstancesFound):
            if self._image_is_there() and self.results is not None:
                self.results.show_instances(event)
                self.status.message = f"{event.count} objects"
        elif isinstance(event, FileSaved):
            names = ", ".join(path.name for path in event.paths)
            self.status.message = f"Saved {names}"
            show_info(f"Saved {names} in {event.paths[0].parent}")
        elif isinstance(event, Noticed):
            show_info(_sentence(event.message))

    def _show_step(self, event: StepCompleted) -> None:
        self.status.step, self.status.loss = event.step, event.loss
        self.history.add_loss(event.step, event.loss)
        if self.status.phase is Phase.LEARNING:
            self.status.fraction, self.status.seconds_left = event.fraction, event.remaining
            self.status.message = f"Learning, step {event.step}"
            self._activity.show("U-Net: learning", event.fraction)
        if self._preview is None and self.status.phase is not Phase.STOPPING:
            pause = max(_SECONDS_BETWEEN_PREVIEWS, self._preview_ended - self._preview_started)
            if time.monotonic() - self._preview_ended >= pause:
                self._start_preview()

    def _start_preview(self) -> None:
        if self.image_layer is None or self._source is None:
            return
        if (visible := visible_box(self.image_layer)) is None:
            return
        request = PredictRequest(self._source, visible=visible, region=visible, precision="fast")
        self._preview_started = time.monotonic()
        self._preview = self.lane.submit(
            lambda stop: self.segmenter.predict_job(request, stop),
            name="Preview",
            priority=Priority.PREVIEW,
            replaces="preview",
        )

    def _show_tile(self, ticket: JobTicket, event: TilePredicted) -> None:
        if not self._image_is_there() or self.results is None:
            return
        self.results.show_tile(event)
        if ticket != self._preview:
            self.status.fraction = event.done / event.total
            self.status.message = f"Predicting, tile {event.done} of {event.total}"
            self._activity.show("U-Net: predicting", self.status.fraction)

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket == self._preview:
            self._preview, self._preview_ended = None, time.monotonic()
        elif ticket == self._training:
            self._training = None
            self._settle("")
            if self._image_is_there() and self.segmenter.has_learned:
                self.predict()
        elif ticket in self._others:
            then = self._others.pop(ticket)
            if then is not None:
                then()
            if not self._others:
                waiting = self.status.message.endswith("...")
                self._settle(f"{ticket.name}: done" if waiting else "")

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if ticket == self._training:
            self._training = None
        if ticket == self._preview:
            self._preview = None
        self._others.pop(ticket, None)
        self.status.last_error = str(error)
        self._settle(f"{ticket.name} ended by an error")
        show_error(_sentence(str(error)))

    # ------------------------------------------------------------------ layers change

    def _image_is_there(self) -> bool:
        return self.image_layer is not None and self.image_layer in self.viewer.layers

    def _on_layer_removed(self, event: Any) -> None:
        layer, was_busy = event.value, self.lane.is_busy()
        if layer is self.weights.labels:
            self.weights.hide()
        if layer is self.image_layer:
            self.set_image_layer(None)
            if was_busy:
                show_warning(f"'{event.value.name}' was removed, so the job on it was stopped.")
        elif layer is self.annotation_layer:
            self.set_annotation_layer(None)
            if self.is_learning:
                show_warning(
                    f"'{event.value.name}' was removed; learning goes on with the strokes it had. "
                    "Press Stop to end it."
                )

    def _on_image_changed(self) -> None:
        """Another array was put into the image layer."""
        was_busy = self.lane.is_busy()
        layer = self.image_layer
        self.set_image_layer(None)
        self.set_image_layer(layer)
        if was_busy:
            show_warning("The image was changed, so the job on it was stopped.")

    def _on_painted(self) -> None:
        self._stroke_pause.throttle()

    def _on_strokes_painted(self) -> None:
        layer = self.annotation_layer
        self._painted = set() if layer is None else present_labels(layer)
        if layer is not None and self.is_learning:
            self._inbox.put(np.array(layer.data))
        self.changed.emit()


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:]


_sessions: weakref.WeakKeyDictionary[Any, SegmentationController] = weakref.WeakKeyDictionary()


def unwrap(thing: Any) -> Any:
    """Return the layer or viewer behind the proxy that napari hands to plugins."""
    return getattr(thing, "__wrapped__", thing)


def controller_for(viewer: Any) -> SegmentationController:
    """Return the session of a viewer, which all docks share; it is made at the first call."""
    viewer = unwrap(viewer)
    if viewer not in _sessions:
        session = _sessions[viewer] = SegmentationController(viewer)
        if (window := getattr(viewer, "window", None)) is not None:
            window._qt_window.installEventFilter(session)
    return _sessions[viewer]
