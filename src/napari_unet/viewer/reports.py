"""What jobs report, written into status, curves and layers."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import singledispatchmethod
from typing import Final

from napari.utils.notifications import show_info, show_warning

from napari_unet.engine.events import (
    ExportAdvanced,
    FileSaved,
    InstancesFound,
    JobEvent,
    LearningPlanned,
    Noticed,
    PlaneFinished,
    PredictionFinished,
    RoundChecked,
    RoundUndone,
    ScoreMeasured,
    StepCompleted,
    TilePredicted,
    TrainingFinished,
)
from napari_unet.engine.learning_network import Speaker
from napari_unet.viewer.activity import ActivityBar
from napari_unet.viewer.session_layers import SessionLayers
from napari_unet.viewer.status import JobStatus, Phase, TrainingHistory

#: What is told of whose answer is shown.
SPEAKERS: Final[dict[Speaker, str]] = {
    "at once": "Answered at once, from the starter's features",
    "network": "Answered by the network",
}

# Numbers that change faster cannot be read, and every change lays out the docks anew, on the cores
# that learning needs.
_SECONDS_BETWEEN_STATUS = 0.25


class JobReports:
    """Shows the user what a job reports; on the main thread.

    Parameters
    ----------
    status, history
        Where progress and curves go.
    layers
        Where tiles and objects go; what belongs to an image that is gone is dropped.
    """

    def __init__(self, status: JobStatus, history: TrainingHistory, layers: SessionLayers) -> None:
        self._status = status
        self._history = history
        self._layers = layers
        self._activity = ActivityBar()
        self._status_written = self._first_tile = 0.0

    def begin(self, phase: Phase, message: str) -> None:
        """Show that a job begins."""
        self._status.last_error = ""
        self._status.fraction = self._status.seconds_left = None
        self._status.phase, self._status.message = phase, message

    def _time_left(self, done: int, total: int) -> float | None:
        """Return how long the tiles take that are left; the first one, with its checks, is slow."""
        now = time.monotonic()
        if done == 1:
            self._first_tile = now
        return (now - self._first_tile) / (done - 1) * (total - done) if done > 1 else None

    def settle(self, message: str = "") -> None:
        """Show that nothing runs any more; without a message, the last one stays."""
        self._activity.close()
        self._status.phase = Phase.IDLE
        self._status.message = message or self._status.message
        self._status.fraction = self._status.seconds_left = None

    def forget(self) -> None:
        """Take away what was measured on a network that is gone."""
        self._history.clear()
        self._status.step, self._status.loss, self._status.setup = 0, None, None
        self._status.score, self._status.score_reason = None, ""
        self._status.score_interval, self._status.scores = None, ()
        self._status.score_at_once = None
        self._status.speaker = self._status.kept = ""

    def show_quietly(self, event: JobEvent) -> None:
        """Show a tile of a preview or how good an answer is, without progress."""
        if isinstance(event, ScoreMeasured):
            self._show_score(replace(event, at_once=None))
        if isinstance(event, TilePredicted) and self._layers.has_image() and self._layers.results:
            self._layers.results.show_tile(event)

    def _show_score(self, event: ScoreMeasured) -> None:
        self._status.score_interval, self._status.scores = event.interval, event.dice_per_class
        self._status.score_at_once = event.at_once
        self._status.score, self._status.score_reason = event.dice, event.reason

    def show_speaker(self, speaker: Speaker) -> None:
        """Show whose answer is on screen."""
        self._status.speaker = SPEAKERS[speaker]

    @singledispatchmethod
    def show(self, event: JobEvent) -> None:
        """Show an event; what nobody needs to see is passed over."""

    @show.register
    def _(self, event: LearningPlanned) -> None:
        self._status.setup = event

    @show.register
    def _(self, event: StepCompleted) -> None:
        self._history.add_loss(event.step, event.loss)
        if time.monotonic() - self._status_written < _SECONDS_BETWEEN_STATUS:
            return
        self._status_written = time.monotonic()
        self._status.step, self._status.loss = event.step, event.loss
        if self._status.phase is Phase.LEARNING:
            self._status.fraction, self._status.seconds_left = event.fraction, event.remaining
            self._status.message = f"Learning, step {event.step}"
            self._activity.show("U-Net: learning", event.fraction)

    @show.register
    def _(self, event: ScoreMeasured) -> None:
        self._show_score(event)
        if event.dice is not None:
            self._history.add_score(event.step, event.dice)

    @show.register
    def _(self, event: TrainingFinished) -> None:
        self._status.step = event.step
        self._status.message = (
            f"Learned {event.steps} steps in {event.seconds:.0f} s, loss {event.loss:.3f}"
        )

    @show.register
    def _(self, event: TilePredicted) -> None:
        self.show_quietly(event)
        self._status.fraction = event.done / event.total
        self._status.seconds_left = self._time_left(event.done, event.total)
        self._status.message = f"Predicting, tile {event.done} of {event.total}"
        self._activity.show("U-Net: predicting", self._status.fraction)

    @show.register
    def _(self, event: PredictionFinished) -> None:
        how = "Stopped after" if event.stopped else "Predicted in"
        self._status.message = f"{how} {event.seconds:.1f} s"

    @show.register
    def _(self, event: PlaneFinished) -> None:
        self._status.fraction = event.done / event.total
        self._status.message = f"Plane {event.done} of {event.total}"
        self._activity.show("U-Net: planes", self._status.fraction)

    @show.register
    def _(self, event: InstancesFound) -> None:
        if self._layers.has_image() and self._layers.results is not None:
            self._layers.results.show_instances(event)
            self._status.message = f"{event.count} objects"

    @show.register
    def _(self, event: RoundChecked) -> None:
        for image, box, mask in event.flips:
            planes = self._layers.planes
            plane = None if planes is None else planes.index_of(image)
            if self._layers.results is not None and plane is not None:
                self._layers.results.show_changed(box, mask, plane)
        share = event.changed / max(event.total, 1)
        changed = f"{share:.1%} of the accepted pixels changed"
        self._status.kept = changed
        if event.taken_back:
            self._status.kept = f"Taken back: {changed}"
            show_warning(
                f"{changed}, so what was just learned was taken back. Accepted regions and strokes "
                "may contradict each other; look at the layer of changed pixels."
            )

    @show.register
    def _(self, event: RoundUndone) -> None:
        self._history.shorten(event.step)
        self._status.step = event.step
        self._status.score, self._status.score_reason = None, ""
        self._status.message = f"Back at step {event.step}"

    @show.register
    def _(self, event: ExportAdvanced) -> None:
        self._status.fraction = event.done / event.total
        self._status.message = f"Exporting, {event.done} of {event.total}: {event.message}"
        self._activity.show("U-Net: exporting", self._status.fraction)

    @show.register
    def _(self, event: FileSaved) -> None:
        names = ", ".join(path.name for path in event.paths)
        self._status.message = f"Saved {names}"
        show_info(f"Saved {names} in {event.paths[0].parent}")

    @show.register
    def _(self, event: Noticed) -> None:
        show_info(as_sentence(event.message))


def as_sentence(message: str) -> str:
    """Return a message with a capital at its beginning."""
    return message[:1].upper() + message[1:]
