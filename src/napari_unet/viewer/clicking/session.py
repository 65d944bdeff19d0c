"""The session of clicks: what is clicked on, the object in hand, and what else is done with it.

It holds no widget. Each part of the work has a module of its own, which the dock and the mouse ask
for what it knows; what concerns several parts is done here. All of them observe `changed`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Signal

from napari_unet.ops.clicks import Outline
from napari_unet.ops.tiling import Box
from napari_unet.viewer.clicking.clickers import PlaneClickers
from napari_unet.viewer.clicking.following import Following
from napari_unet.viewer.clicking.hand import ObjectInHand
from napari_unet.viewer.clicking.hints import NetworkHints
from napari_unet.viewer.clicking.learning import ObjectLearning
from napari_unet.viewer.clicking.lookahead import LookAhead
from napari_unet.viewer.clicking.proposals import Proposals
from napari_unet.viewer.clicking.scene import ClickScene, Place
from napari_unet.viewer.lane import JobTicket, Priority
from napari_unet.viewer.planes import Index
from napari_unet.viewer.status import Phase

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController


class ClickSession(QObject):
    """Outlines objects of one image layer.

    Parameters
    ----------
    controller
        The viewer's session: its thread and its fine-tuned network are used.

    Attributes
    ----------
    scene
        The image, its finished objects, and the plane that is shown.
    hand
        The object that is being clicked on.
    following, proposing, learning
        What is done with objects.
    ahead
        What looks at what may be clicked on next.
    hints
        What clicks are told of the U-Net.
    clickers
        What answers; it belongs to the worker thread.
    """

    #: Something that is seen is another one.
    changed = Signal()

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__(controller)
        self._controller = weakref.ref(controller)
        lane = self._lane = controller.lane
        self.clickers = PlaneClickers()
        self.scene = ClickScene(controller)
        self.hand = ObjectInHand(self.scene, self.clickers, lane)
        self.following = Following(self.scene, self.hand, self.clickers, lane)
        self.proposing = Proposals(self.scene, self.clickers, lane)
        self.learning = ObjectLearning(controller, self.scene, self.clickers, lane)
        self.ahead = LookAhead(self.scene, self.hand, self.clickers, lane)
        self.hints = NetworkHints(controller, self.scene, self.clickers)
        parts: tuple[Any, ...] = (self.hand, self.following, self.proposing, self.learning)
        for part in (self.scene, self.ahead, self.hints, *parts):
            part.setParent(self)
        for part in parts:
            part.changed.connect(self.changed)
        self._follow_scene()
        self.hand.finished.connect(self._on_object_finished)
        self.proposing.accepted.connect(self._on_proposals_accepted)
        controller.layers.leaving.connect(self._on_jobs_ended)
        lane.finished.connect(self._on_job_finished)

    def _follow_scene(self) -> None:
        scene = self.scene
        scene.image_leaving.connect(self._on_image_leaving)
        scene.image_changed.connect(self._on_image_changed)
        scene.objects_leaving.connect(self.hand.drop)
        scene.objects_replaced.connect(self._on_objects_replaced)
        scene.objects_edited.connect(self.changed)
        scene.plane_changed.connect(self._on_plane_changed)

    @property
    def is_busy(self) -> bool:
        """Whether an object is followed or proposals are looked for."""
        return self.following.is_busy or self.proposing.is_busy

    # ------------------------------------------------------------------ one object

    def click(self, index: Index, at: Place, positive: bool = True) -> None:
        """Click on an object, or beside it.

        With no object in hand a click on a proposal accepts it or rejects it, and one on a finished
        object takes that up again.
        """
        if self._refuses_clicks():
            return
        if self.hand.current is None and self.proposing.answer(index, at, positive):
            return
        self.hand.click(index, at, positive)

    def draw_box(self, index: Index, box: Box) -> None:
        """Begin an object with a box around it."""
        if not self._refuses_clicks():
            self.hand.draw_box(index, box)

    def _refuses_clicks(self) -> bool:
        if (reason := self.scene.why_not_click()) is not None:
            show_warning(reason)
        return reason is not None

    def delete_at(self, index: Index, at: Place) -> None:
        """Delete the finished object at a place."""
        objects, current = self.scene.objects, self.hand.current
        if objects is not None and (label := objects.label_at(index, at)):
            if current is not None and current.label == label:
                self.hand.drop()
            objects.delete(label)
            self.changed.emit()

    def part_or_join(self, index: Index, path: list[Place]) -> None:
        """Join two objects if a line leads from one into the other; else part those it crosses."""
        objects = self.scene.objects
        if objects is None or len(path) < 2:
            return
        first, last = (objects.label_at(index, at) for at in (path[0], path[-1]))
        if first and last and first != last:
            objects.join(first, last)
        elif not objects.split(index, path):
            show_info(
                "Draw from one object into another to join them, or all the way across one to "
                "part it."
            )
        self.hand.show()

    # ------------------------------------------------------------------ many objects

    def propose(self) -> None:
        """Look for the other objects of the plane."""
        if self.proposing.why_not() is None:
            self.hand.drop()
            self.proposing.begin()

    def go_on(self) -> None:
        """Finish the object in hand, if there is one, and go to the next proposal."""
        if self.hand.current is not None:
            self.hand.commit()
        self.proposing.go_to_next()

    def stop(self) -> None:
        """Stop following, looking for proposals and adapting."""
        for part in (self.following, self.proposing, self.learning):
            part.stop()

    # ------------------------------------------------------------------ something happened

    def _on_image_leaving(self) -> None:
        self.stop()
        self.hand.drop()
        self.proposing.drop()

    def _on_image_changed(self) -> None:
        if self.scene.image is None and not self._lane.is_busy():
            self.clickers.forget_planes()  # a job would begin a thread that nothing ends
        else:
            forget = self.clickers.forget_planes_job
            self._lane.submit(forget, name="Click", priority=Priority.PREVIEW)
        self._get_ready()
        self.hand.sizes.replace()
        self.learning.begin_anew()
        self.learning.teach()
        self.changed.emit()

    def _get_ready(self) -> None:
        """Do ahead what the first click on a plane would wait for."""
        planes, index, clickers = self.scene.planes, self.scene.index, self.clickers
        if planes is None or index is None:
            return
        self._lane.submit(
            lambda stop: clickers.get_ready_job(planes, index, stop),
            name="Getting ready for clicks",
            priority=Priority.TRAINING,
            replaces="ready",
        )

    def _on_objects_replaced(self) -> None:
        self.learning.begin_anew()
        self.learning.teach()
        self.hints.look()
        self.changed.emit()

    def _on_object_finished(self) -> None:
        self.learning.take_up(self.scene.index)

    def _on_proposals_accepted(self, accepted: tuple[Outline, ...]) -> None:
        self.hand.sizes.note(accepted)
        self.learning.take_up(self.proposing.index)

    def _on_plane_changed(self) -> None:
        planes = self.scene.planes
        if planes is None:
            return
        if len(planes.shape) > 2:
            if self.hand.current is not None or self.proposing.outlines:
                self.hand.show()
                self.proposing.show(self.proposing.outlines)
            self._get_ready()
            self.hints.look()
            self.learning.know_again(self.scene.index)
        self.changed.emit()

    def _on_job_finished(self, _ticket: JobTicket) -> None:
        """Say that all has stopped: of jobs on clicks the viewer's session does not know."""
        controller = self._controller()
        if controller is None or self._lane.is_busy():
            return
        if controller.status.phase is Phase.STOPPING:
            controller.status.phase, controller.status.message = Phase.IDLE, "Stopped"

    def _on_jobs_ended(self) -> None:
        """Ask again: all jobs were ended unheard, those on clicks too."""
        self.following.forget()
        self.proposing.forget()
        self.hand.ask_again()


def click_session_for(controller: SegmentationController) -> ClickSession:
    """Return the click session of a viewer's session; it is made at the first call."""
    found = controller.findChild(ClickSession)
    return found if isinstance(found, ClickSession) else ClickSession(controller)
