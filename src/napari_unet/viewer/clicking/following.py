"""Following the object in hand through a stack."""

from __future__ import annotations

from qtpy.QtCore import QObject, Signal

from napari_unet.engine.click_jobs import propagate_job
from napari_unet.engine.events import JobEvent, ObjectOutlined
from napari_unet.viewer.clicking.clickers import PlaneClickers
from napari_unet.viewer.clicking.hand import ObjectInHand
from napari_unet.viewer.clicking.scene import ClickScene
from napari_unet.viewer.lane import JobLane, JobTicket
from napari_unet.viewer.planes import Index


class Following(QObject):
    """Outlines the object in hand on the planes above and below.

    Parameters
    ----------
    scene
        What is clicked on.
    hand
        The object.
    clickers
        What answers, in the lane.
    lane
        The thread that computes.
    """

    #: It began or ended.
    changed = Signal()

    def __init__(
        self, scene: ClickScene, hand: ObjectInHand, clickers: PlaneClickers, lane: JobLane
    ) -> None:
        super().__init__()
        self._scene, self._hand, self._clickers, self._lane = scene, hand, clickers, lane
        self._ticket: JobTicket | None = None
        # The axes before planes.
        self._leading: Index = ()
        hand.leaving.connect(self._drop)
        lane.told.connect(self._on_event)
        lane.finished.connect(self._on_ended)
        lane.failed.connect(self._on_ended)

    def why_not(self) -> str | None:
        """Say why the object cannot be followed, with the cure; None if it can."""
        if not self._scene.is_stack:
            return "The image has a single plane; open a stack to follow objects through it."
        index, current = self._scene.index, self._hand.current
        if current is None or index is None or current.outline_on(index) is None:
            return "Click on an object first."
        return None

    @property
    def is_busy(self) -> bool:
        """Whether an object is followed."""
        return self._lane.is_active(self._ticket)

    def begin(self) -> None:
        """Outline the object on the other planes, until it ends or is stopped."""
        index, current = self._scene.index, self._hand.current
        planes, clickers = self._scene.planes, self._clickers
        if self.why_not() is not None or current is None or index is None or planes is None:
            return
        outline = current.outline_on(index)
        if outline is None:
            return
        leading, start, count = index[:-1], index[-1], planes.shape[-3]
        self._leading = leading
        # What was clicked on by hand stays as it is.
        for other, state in current.planes.items():
            if not state.clicks and other != index:
                state.follow(None)
        self._ticket = self._lane.submit(
            lambda stop: propagate_job(
                lambda plane: clickers.of(planes, (*leading, plane)), start, outline, count, stop
            ),
            name="Following the object",
            replaces="follow",
        )
        self.changed.emit()

    def stop(self) -> None:
        """End after the plane in progress."""
        if self._ticket is not None:
            self._lane.stop(self._ticket)

    def forget(self) -> None:
        """Take it that nothing is followed: all jobs were ended unheard."""
        self._ticket = None

    def _drop(self) -> None:
        if self._ticket is not None:
            self._lane.stop(self._ticket, silence=True)
            self._ticket = None

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        current = self._hand.current
        if ticket != self._ticket or not isinstance(event, ObjectOutlined) or current is None:
            return
        state = current.on((*self._leading, event.plane))
        if not state.clicks:
            state.follow(event.outline)
        self._hand.show()

    def _on_ended(self, ticket: JobTicket, _error: Exception | None = None) -> None:
        if ticket == self._ticket:
            self._ticket = None
            self.changed.emit()
