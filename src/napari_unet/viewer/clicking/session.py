"""The session of clicks: what is clicked on, the object in hand, and what else is done with it.

It holds no widget. The dock and the mouse call its methods and observe `changed`; each part of the
work has a module of its own.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Signal

from napari_unet.engine.events import ClicksAdapted
from napari_unet.ops.clicks import Outline
from napari_unet.ops.tiling import Box
from napari_unet.viewer.clicking.clickers import PlaneClickers
from napari_unet.viewer.clicking.current import CurrentObject
from napari_unet.viewer.clicking.following import Following
from napari_unet.viewer.clicking.hand import ObjectInHand
from napari_unet.viewer.clicking.hints import NetworkHints
from napari_unet.viewer.clicking.learning import ObjectLearning
from napari_unet.viewer.clicking.lookahead import LookAhead
from napari_unet.viewer.clicking.objects import ObjectsLayer
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

    # ------------------------------------------------------------------ what there is

    @property
    def viewer(self) -> Any:
        """The viewer; None if it is gone."""
        return self.scene.viewer

    @property
    def image(self) -> Image | None:
        """The image layer; None if there is none."""
        return self.scene.image

    @property
    def objects(self) -> ObjectsLayer | None:
        """The finished objects; None before there is a layer for them."""
        return self.scene.objects

    @property
    def current(self) -> CurrentObject | None:
        """The object that is being clicked on; None if there is none."""
        return self.hand.current

    @property
    def proposals(self) -> tuple[Outline, ...]:
        """Outlines that were proposed and neither accepted nor rejected."""
        return self.proposing.outlines

    @property
    def progress(self) -> tuple[int, int] | None:
        """Places looked at for proposals, and in all; None while nothing is looked for."""
        return self.proposing.progress

    @property
    def adapted(self) -> ClicksAdapted | None:
        """What came out of adapting last; None before."""
        return self.learning.adapted

    @property
    def index(self) -> Index | None:
        """The plane that is shown; None if it is not one of the image."""
        return self.scene.index

    @property
    def is_busy(self) -> bool:
        """Whether an object is followed or proposals are looked for."""
        return self.following.is_busy or self.proposing.is_busy

    # ------------------------------------------------------------------ layers

    def set_image(self, layer: Image | None) -> None:
        """Choose the image; objects of another one stay in their layer."""
        self.scene.set_image(layer)

    def set_objects(self, layer: Labels | None) -> None:
        """Choose the layer of finished objects; None for a new one when it is needed."""
        self.scene.set_objects(layer)

    def need_objects(self) -> ObjectsLayer | None:
        """Return the layer of finished objects, a new one if there is none; None without image."""
        return self.scene.need_objects()

    def why_not_click(self) -> str | None:
        """Say why nothing can be clicked on, with the cure; None if it can."""
        return self.scene.why_not_click()

    # ------------------------------------------------------------------ one object

    def click(self, index: Index, at: Place, positive: bool = True) -> None:
        """Click on an object, or beside it.

        With no object in hand a click on a proposal accepts it or rejects it, and one on a finished
        object takes that up again.
        """
        if self._refuses_clicks():
            return
        if self.current is None and self.proposing.answer(index, at, positive):
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

    def take_back(self) -> None:
        """Take back the last step on this plane; without any left on it, drop the object."""
        self.hand.take_back()

    def drop(self) -> None:
        """Drop the object in hand; finished ones stay."""
        self.hand.drop()

    def commit(self) -> int:
        """Finish the object in hand; its number, or 0 if there is nothing to finish."""
        return self.hand.commit()

    def delete_at(self, index: Index, at: Place) -> None:
        """Delete the finished object at a place."""
        if self.objects is not None and (label := self.objects.label_at(index, at)):
            if self.current is not None and self.current.label == label:
                self.drop()
            self.objects.delete(label)
            self.changed.emit()

    def part_or_join(self, index: Index, path: list[Place]) -> None:
        """Join two objects if a line leads from one into the other; else part those it crosses."""
        if self.objects is None or len(path) < 2:
            return
        first, last = (self.objects.label_at(index, at) for at in (path[0], path[-1]))
        if first and last and first != last:
            self.objects.join(first, last)
        elif not self.objects.split(index, path):
            show_info(
                "Draw from one object into another to join them, or all the way across one to "
                "part it."
            )
        self.hand.show()

    # ------------------------------------------------------------------ many objects

    def why_not_follow(self) -> str | None:
        """Say why an object cannot be followed through a stack, with the cure; None if it can."""
        return self.following.why_not()

    def follow(self) -> None:
        """Outline the object in hand on the other planes, until it ends or is stopped."""
        self.following.begin()

    def why_not_propose(self) -> str | None:
        """Say why nothing can be proposed, with the cure; None if it can."""
        return self.proposing.why_not()

    def propose(self) -> None:
        """Look for the other objects of the plane."""
        if self.why_not_propose() is None:
            self.drop()
            self.proposing.begin()

    def go_on(self) -> None:
        """Finish the object in hand, if there is one, and go to the next proposal."""
        if self.current is not None:
            self.commit()
        self.proposing.go_to_next()

    def stop(self) -> None:
        """Stop following, looking for proposals and adapting."""
        for part in (self.following, self.proposing, self.learning):
            part.stop()

    def set_teaches(self, teaches: bool) -> None:
        """Let finished objects count as strokes when the U-Net is fine-tuned, or not."""
        self.learning.teaches = teaches
        self.learning.teach()

    # ------------------------------------------------------------------ something happened

    def _on_image_leaving(self) -> None:
        self.stop()
        self.hand.drop()
        self.proposing.drop()

    def _on_image_changed(self) -> None:
        self._lane.submit(self.clickers.forget_planes_job, name="Click", priority=Priority.PREVIEW)
        self._get_ready()
        self.hand.forget_sizes()
        self.learning.teach()
        self.changed.emit()

    def _get_ready(self) -> None:
        """Do ahead what the first click on a plane would wait for."""
        planes, index, clickers = self.scene.planes, self.index, self.clickers
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
        self.learning.take_up(self.index)

    def _on_proposals_accepted(self, accepted: tuple[Outline, ...]) -> None:
        self.hand.note_sizes(accepted)
        self.learning.take_up(self.proposing.index)

    def _on_plane_changed(self) -> None:
        planes = self.scene.planes
        if planes is None:
            return
        if len(planes.shape) > 2:
            if self.current is not None or self.proposals:
                self.hand.show()
                self.proposing.show(self.proposals)
            self._get_ready()
            self.hints.look()
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
