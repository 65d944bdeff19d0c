"""What the user does about an answer: accept it, part objects in it, take learning back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject

from napari_unet.engine.events import JobEvent
from napari_unet.engine.finetune import FinetuneRequest
from napari_unet.engine.planes import on_plane
from napari_unet.engine.predict import PredictRequest
from napari_unet.ops.tiling import Box
from napari_unet.viewer.actions import Action

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

# Steps after a border between objects was drawn: a second or two on two cores.
_STEPS_OF_BORDER = 15


class Corrections(QObject):
    """Corrections of one session.

    Parameters
    ----------
    session
        Its layers, its engine and its jobs.
    """

    def __init__(self, session: SegmentationController) -> None:
        super().__init__(session)
        self._session = session
        session.layers.borders.drawn.connect(self._on_border_drawn)

    def accept_view(self) -> None:
        """Accept the prediction of what is on screen: learning must not change it any more."""
        layers = self._session.layers
        source, results = layers.source, layers.results
        if self._session.refuse(Action.ACCEPT) or source is None:
            return
        box = layers.visible()
        labels = None if box is None or results is None else results.classes_of(box)
        if box is None or results is None or labels is None:
            show_warning("Nothing of what is on screen was predicted; press Predict first.")
            return
        self._session.segmenter.accept(source, box, labels)
        results.show_accepted(box, labels)
        self._session.changed.emit()

    def withdraw(self) -> None:
        """Accept nothing of the image any more."""
        layers = self._session.layers
        if not self._session.refuse(Action.WITHDRAW) and layers.source is not None:
            self._session.segmenter.withdraw(layers.source)
            if layers.results is not None:
                layers.results.remove_accepted()
            self._session.changed.emit()

    def undo_learning(self) -> None:
        """Go back to the weights before the latest round of learning."""
        if not self._session.refuse(Action.UNDO_LEARNING):
            self._session.submit(
                "Undoing the last learning",
                lambda stop: self._session.segmenter.undo_round_job(),
                then=self._session.show_answer,
            )

    def _on_border_drawn(self, box: Box) -> None:
        """Adapt to a border between objects at once, and predict what it touches again."""
        session = self._session
        source, plane = session.layers.source, session.layers.plane
        if session.is_learning or session.answers_at_once() or source is None:
            return  # it is taken in anyway
        if not session.segmenter.is_fine_tuned or session.why_not(Action.LEARN) is not None:
            return
        request = FinetuneRequest(
            source,
            session.layers.fitting_strokes(),
            steps=_STEPS_OF_BORDER,
            others=session.layers.others(),
            borders=session.layers.borders.mask(),
            focus=box,
        )
        session.submit(
            "Parting objects",
            lambda stop: on_plane(plane, self._part_objects(request, box, stop)),
            replaces="border",
        )

    def _part_objects(
        self, request: FinetuneRequest, box: Box, stop: threading.Event
    ) -> Iterator[JobEvent]:
        segmenter = self._session.segmenter
        yield from segmenter.fine_tune_job(request, None, stop)
        region = PredictRequest(request.image, region=box, precision="fast")
        yield from segmenter.predict_job(region, stop)
