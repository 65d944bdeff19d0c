"""The answer at the end of a stroke: what is on screen first, then the rest of the image."""

from __future__ import annotations

from qtpy.QtCore import QObject

from napari_unet.engine.answer_request import AnswerRequest
from napari_unet.engine.planes import on_plane
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.session_layers import SessionLayers


class InstantAnswer(QObject):
    """Answers strokes before anything is fine-tuned.

    Parameters
    ----------
    segmenter
        What answers.
    lane
        The thread that computes.
    layers
        The image, and the strokes on it.
    """

    def __init__(self, segmenter: Segmenter, lane: JobLane, layers: SessionLayers) -> None:
        super().__init__(lane)
        self._segmenter = segmenter
        self._lane = lane
        self._layers = layers
        self._ticket: JobTicket | None = None

    def owns(self, ticket: JobTicket) -> bool:
        """Say whether a job is the present answer."""
        return ticket == self._ticket

    def is_possible(self, classes: int) -> bool:
        """Say whether there is something to answer, and nothing better that speaks already.

        Parameters
        ----------
        classes
            How many there are.
        """
        segmenter = self._segmenter
        if self._layers.source is None or not segmenter.answers_at_once:
            return False
        if segmenter.is_fine_tuned and segmenter.speaker == "network":
            return False
        if self._layers.why_unfitting() is not None:
            return False
        painted = self._layers.present | self._layers.painted_elsewhere()
        return len(painted) > 1 and max(painted) <= classes

    def ask(self, visible_only: bool = False) -> None:
        """Answer the strokes as they are now; an answer that is not finished is dropped.

        Parameters
        ----------
        visible_only
            Only what is on screen. Otherwise the rest of the image comes after it.
        """
        source, plane = self._layers.source, self._layers.plane
        if source is None:
            return
        visible = self._layers.visible()
        request = AnswerRequest(
            source,
            self._layers.fitting_strokes(),
            visible,
            visible if visible_only else None,
            self._layers.others(),
            self._layers.borders.mask(),
        )
        self._ticket = self._lane.submit(
            lambda stop: on_plane(plane, self._segmenter.answer_job(request, stop)),
            name="Answer",
            priority=Priority.PREVIEW,
            replaces="answer",
        )

    def drop(self) -> None:
        """Forget the present answer; nothing more is heard of it."""
        if self._ticket is not None:
            self._lane.stop(self._ticket, silence=True)
            self._ticket = None
