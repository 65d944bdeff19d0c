"""What is learned from finished objects: the click network adapts, the U-Net is taught."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from qtpy.QtCore import QObject, Signal

from napari_unet.engine.click_likeness import FEWEST_ALIKE
from napari_unet.engine.events import ClicksAdapted, JobEvent
from napari_unet.viewer.clicking.clickers import ObjectsJob, PlaneClickers
from napari_unet.viewer.clicking.scene import ClickScene
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.planes import Index

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

# The network is adapted when so many objects are finished, and again at twice as many ...
_FIRST_ADAPTED: Final = 5


class ObjectLearning(QObject):
    """Lets finished objects improve the next answers.

    Parameters
    ----------
    controller
        The viewer's session, whose U-Net is taught; held weakly.
    scene
        What is clicked on.
    clickers
        What answers, in the lane.
    lane
        The thread that computes.

    Attributes
    ----------
    learns
        Whether finished objects adapt the network.
    teaches
        Whether finished objects count as strokes when the U-Net is fine-tuned.
    adapted
        What came out of adapting last; None before.
    """

    #: Something was learned or forgotten.
    changed = Signal()

    def __init__(
        self,
        controller: SegmentationController,
        scene: ClickScene,
        clickers: PlaneClickers,
        lane: JobLane,
    ) -> None:
        super().__init__()
        self._controller = weakref.ref(controller)
        self._scene, self._clickers, self._lane = scene, clickers, lane
        self.learns = True
        self.teaches = True
        self.adapted: ClicksAdapted | None = None
        self._next_adaption = _FIRST_ADAPTED
        # Whether what is like the objects is yet to be learned again, in a session that goes on.
        self._knows_again = True
        self._ticket: JobTicket | None = None
        self._likening: JobTicket | None = None
        lane.finished.connect(self._on_finished)
        lane.told.connect(self._on_event)

    def take_up(self, index: Index | None) -> None:
        """Learn from the objects of a plane, to which some were added."""
        self.teach()
        objects = self._scene.objects
        if not self.learns or objects is None or index is None:
            return
        count = objects.count(index)
        if count >= self._next_adaption:
            self._next_adaption = 2 * count
            self.adapt(index)

    def begin_anew(self) -> None:
        """Count objects from the beginning: they are in another layer."""
        self._next_adaption = _FIRST_ADAPTED

    @property
    def next_adaption(self) -> int:
        """With how many finished objects the network is adapted next."""
        return self._next_adaption

    def resume(self, adapted: ClicksAdapted | None, next_adaption: int) -> None:
        """Go on where it was left; the network itself is loaded in the lane."""
        self.adapted, self._next_adaption = adapted, next_adaption
        self._knows_again = adapted is None
        self.know_again(self._scene.index)
        self.changed.emit()

    def know_again(self, index: Index | None) -> None:
        """Learn what is like the objects of a plane, once in a session that goes on."""
        if self._knows_again:
            return
        liken, name = self._clickers.liken_job, "Looking at finished objects"
        self._likening = self._submit(liken, index, name, "liken", FEWEST_ALIKE)
        self._knows_again = self._likening is not None

    def adapt(self, index: Index | None) -> None:
        """Adapt the network to the finished objects of a plane."""
        adapt, name = self._clickers.adapt_job, "Adapting to the objects"
        self._ticket = self._submit(adapt, index, name, "adapt") or self._ticket

    def _submit(
        self, job: ObjectsJob, index: Index | None, name: str, key: str, fewest: int = 1
    ) -> JobTicket | None:
        """Learn from the objects of a plane in the lane; None if there are too few."""
        objects, planes = self._scene.objects, self._scene.planes
        if objects is None or planes is None or index is None or objects.count(index) < fewest:
            return None
        outlines = objects.outlines(index)
        return self._lane.submit(
            lambda stop: job(planes, index, outlines, stop),
            name=name,
            priority=Priority.TRAINING,
            replaces=key,
        )

    def stop(self) -> None:
        """Adapt no further."""
        if self._ticket is not None:
            self._lane.stop(self._ticket)

    @property
    def told(self) -> str:
        """What came out of adapting last, in words; empty before."""
        adapted = self.adapted
        if adapted is None:
            return ""
        text = f"Adapted to {adapted.objects} objects"
        if adapted.before is None or adapted.after is None:
            return f"{text}."
        before, after = f"{adapted.before:.2f} before", f"{adapted.after:.2f} after"
        if adapted.used:
            return f"{text}; overlap of first clicks on others: {before}, {after}."
        gain = "too small a gain" if adapted.after > adapted.before else "no gain"
        told = "" if self._clickers.likeness is None else " They know what is like your objects."
        return f"Not adapted, {gain}; overlap of first clicks: {before}, {after}.{told}"

    def why_not_forget(self) -> str | None:
        """Say why nothing can be forgotten; None if it can."""
        return None if self.adapted is not None else "Nothing was learned from objects yet."

    def forget(self) -> None:
        """Answer with the network that comes with the program again."""
        self.adapted, self._knows_again = None, True
        self.begin_anew()
        self._lane.submit(
            self._clickers.forget_network_job,
            name="Forgetting",
            priority=Priority.TRAINING,
            replaces="adapt",
        )
        self.changed.emit()

    def teach(self) -> None:
        """Let the U-Net learn from the finished objects, if that is wished."""
        controller, scene = self._controller(), self._scene
        if controller is None:
            return
        layer = scene.objects.layer if scene.objects is not None and self.teaches else None
        controller.layers.teach_with(scene.image, layer)

    def set_teaches(self, teaches: bool) -> None:
        """Let finished objects count as strokes when the U-Net is fine-tuned, or not."""
        self.teaches = teaches
        self.teach()

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket == self._likening:
            self.changed.emit()

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if ticket == self._ticket and isinstance(event, ClicksAdapted):
            self.adapted = event
            self.changed.emit()
