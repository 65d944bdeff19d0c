"""The prediction of what is on screen, kept up with a network that is learning."""

from __future__ import annotations

import time

from qtpy.QtCore import QObject

from napari_unet.engine.planes import on_plane
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.session_layers import SessionLayers

# The view is predicted again after this many seconds, and after as long as the last preview took,
# so that at least half of the time goes into learning.
_SECONDS_BETWEEN = 1.0


class LivePreview(QObject):
    """Predicts the view now and then, between two training steps.

    Parameters
    ----------
    segmenter
        The network that learns.
    lane
        The thread that computes.
    layers
        The image.
    """

    def __init__(self, segmenter: Segmenter, lane: JobLane, layers: SessionLayers) -> None:
        super().__init__(lane)
        self._segmenter = segmenter
        self._lane = lane
        self._layers = layers
        self._ticket: JobTicket | None = None
        self._started = self._ended = 0.0
        lane.finished.connect(self._on_ended)
        lane.failed.connect(self._on_ended)

    def owns(self, ticket: JobTicket) -> bool:
        """Say whether a job is the present preview."""
        return ticket == self._ticket

    def keep_up(self) -> None:
        """Start a preview if it is time for one; called after every step."""
        if self._segmenter.speaker != "network":
            return  # what was answered at once is better, and on screen already
        pause = max(_SECONDS_BETWEEN, self._ended - self._started)
        if self._ticket is None and time.monotonic() - self._ended >= pause:
            self._start()

    def drop(self) -> None:
        """Forget the present preview; nothing more is heard of it."""
        if self._ticket is not None:
            self._lane.stop(self._ticket, silence=True)
            self._ticket = None

    def _start(self) -> None:
        source, plane = self._layers.source, self._layers.plane
        if source is None or (visible := self._layers.visible()) is None:
            return
        request = PredictRequest(source, visible=visible, region=visible, precision="fast")
        self._started = time.monotonic()
        self._ticket = self._lane.submit(
            lambda stop: on_plane(plane, self._segmenter.predict_job(request, stop)),
            name="Preview",
            priority=Priority.PREVIEW,
            replaces="preview",
        )

    def _on_ended(self, ticket: JobTicket, _error: object = None) -> None:
        if ticket == self._ticket:
            self._ticket, self._ended = None, time.monotonic()
