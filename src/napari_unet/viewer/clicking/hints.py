"""Clicks are told what the U-Net, or else the finished objects say of the plane that is shown."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_unet.engine.events import JobEvent, RoundUndone
from napari_unet.viewer.clicking.clickers import PlaneClickers, UnetAnswer
from napari_unet.viewer.clicking.scene import ClickScene
from napari_unet.viewer.lane import JobTicket, Priority
from napari_unet.viewer.planes import Index

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

_TRAINING: Final = "training"
_PREDICTION: Final = "prediction"
# Jobs after which another network is there.
_REPLACING: Final = ("Starting a new network", "Loading the model")


class NetworkHints(QObject):
    """Keeps what clicks know of the U-Net's answer up to date.

    What was predicted in the viewer is taken as it is; other planes are predicted in the lane,
    after everything that the user waits for.

    Parameters
    ----------
    controller
        The viewer's session, which has the U-Net; held weakly.
    scene
        What is clicked on.
    clickers
        What answers, in the lane.
    """

    def __init__(
        self, controller: SegmentationController, scene: ClickScene, clickers: PlaneClickers
    ) -> None:
        super().__init__()
        self._controller = weakref.ref(controller)
        self._scene, self._clickers, self._lane = scene, clickers, controller.lane
        # Counts the changes of the U-Net; 0: it has not learned anything since the session began.
        self._state = 0
        self._lane.told.connect(self._on_event)
        self._lane.finished.connect(self._on_finished)

    def look(self) -> None:
        """See to it that clicks on the plane that is shown know the U-Net's answer."""
        controller, clickers = self._controller(), self._clickers
        planes, index = self._scene.planes, self._scene.index
        # Before there is a layer for objects nobody means to click.
        if controller is None or planes is None or index is None or self._scene.objects is None:
            return
        is_fine_tuned = controller.segmenter.is_fine_tuned
        if not is_fine_tuned and not self._state and clickers.likeness is None:
            return
        known = self._shown(controller, index) if is_fine_tuned else None
        answer = UnetAnswer(controller.segmenter, is_fine_tuned, self._state, known)
        self._lane.submit(
            lambda stop: clickers.hint_job(planes, index, answer, stop),
            name="Looking with the U-Net",
            priority=Priority.TRAINING,
            replaces="hint",
        )

    def _shown(
        self, controller: SegmentationController, index: Index
    ) -> NDArray[np.float32] | None:
        """Return what was predicted of a plane in the viewer; None if not all of it was."""
        results = controller.layers.results
        if results is None or results.source is not self._scene.image:
            return None
        if (everything := results.everything) is None:
            return None
        if self._scene.planes is None or results.planes.shape != self._scene.planes.shape:
            return None  # it looks at channels together that are clicked on one by one
        complete = bool(everything.predicted[index].all())
        return everything.of_plane(index) if complete else None

    def _on_event(self, _ticket: JobTicket, event: JobEvent) -> None:
        if isinstance(event, RoundUndone):
            self._state += 1
            self.look()

    def _on_finished(self, ticket: JobTicket) -> None:
        controller = self._controller()
        if ticket.key == _TRAINING or ticket.name in _REPLACING:
            self._state += 1
            predicts = controller is not None and controller.layers.image is self._scene.image
            if ticket.key != _TRAINING or not predicts:
                self.look()
        elif ticket.key == _PREDICTION:  # it follows each training on the image
            self.look()
