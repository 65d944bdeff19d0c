"""What the user is told when a layer that a job works on goes away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController


class LostLayers(QObject):
    """Says which job ended with a layer, or goes on without it.

    Parameters
    ----------
    session
        Its layers and its jobs.
    """

    def __init__(self, session: SegmentationController) -> None:
        super().__init__(session)
        self._session = session
        session.layers.image_lost.connect(self._on_image_lost)
        session.layers.image_replaced.connect(self._on_image_replaced)
        session.layers.annotations_lost.connect(self._on_annotations_lost)

    def _on_image_lost(self, name: str) -> None:
        if self._session.lane.is_busy():
            show_warning(f"'{name}' was removed, so the job on it was stopped.")

    def _on_image_replaced(self) -> None:
        if self._session.lane.is_busy():
            show_warning("The image was changed, so the job on it was stopped.")

    def _on_annotations_lost(self, name: str) -> None:
        if self._session.is_learning:
            show_warning(
                f"'{name}' was removed; learning goes on with the strokes it had. "
                "Press Stop to end it."
            )
