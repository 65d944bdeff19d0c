"""Proposals: outlines of objects like those that were finished, to accept or to reject."""

from __future__ import annotations

from typing import Final

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal

from napari_unet.engine.click_jobs import propose_job
from napari_unet.engine.click_likeness import FEWEST_ALIKE
from napari_unet.engine.events import JobEvent, ObjectsProposed
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.clicking.clickers import PlaneClickers
from napari_unet.viewer.clicking.scene import ClickScene, Place
from napari_unet.viewer.lane import JobLane, JobTicket
from napari_unet.viewer.planes import Index

_NONE_FOUND: Final = "No other objects like these were found on this plane."
# A kill may come between an object and the note that its proposal was accepted.
_TAKEN: Final = 0.5
_STOPPED: Final = "Stopped before any object like these was found."


class Proposals(QObject):
    """Looks for objects like the finished ones, and keeps what was found until it is answered.

    Parameters
    ----------
    scene
        What is clicked on.
    clickers
        What answers, in the lane.
    lane
        The thread that computes.

    Attributes
    ----------
    outlines
        What was proposed and neither accepted nor rejected.
    index
        The plane on which it lies.
    progress
        Places looked at, and in all; None while nothing is looked for.
    """

    #: Something of the above is another one.
    changed = Signal()
    #: (tuple of Outline): these were accepted and are finished objects now.
    accepted = Signal(object)

    def __init__(self, scene: ClickScene, clickers: PlaneClickers, lane: JobLane) -> None:
        super().__init__()
        self._scene, self._clickers, self._lane = scene, clickers, lane
        self.outlines: tuple[Outline, ...] = ()
        self.index: Index = ()
        self.progress: tuple[int, int] | None = None
        self._ticket: JobTicket | None = None
        self._stopped = False
        lane.told.connect(self._on_event)
        lane.finished.connect(self._on_finished)
        lane.failed.connect(self._on_failed)

    # ------------------------------------------------------------------ looking for them

    def why_not(self) -> str | None:
        """Say why nothing can be proposed, with the cure; None if it can."""
        if (reason := self._scene.why_not_click()) is not None:
            return reason
        index, objects = self._scene.index, self._scene.objects
        if index is None:
            return "Go to a plane of the image first."
        if objects is None or objects.count(index) < FEWEST_ALIKE:
            return f"Finish {FEWEST_ALIKE} objects first; they tell what to look for."
        return None

    @property
    def is_busy(self) -> bool:
        """Whether objects are looked for."""
        return self._lane.is_active(self._ticket)

    def begin(self) -> None:
        """Look for the other objects of the plane."""
        scene, clickers = self._scene, self._clickers
        index, planes, objects = scene.index, scene.planes, scene.objects
        if self.why_not() is not None or objects is None or index is None or planes is None:
            return
        self.show(())
        labels = np.array(objects.plane(index))
        self.index, self.progress, self._stopped = index, (0, 0), False
        self._ticket = self._lane.submit(
            lambda stop: propose_job(clickers.of(planes, index), labels, stop),
            name="Looking for objects like these",
            replaces="propose",
        )
        self.changed.emit()

    def stop(self) -> None:
        """Look no further; what was found stays."""
        if self._ticket is not None:
            self._stopped = True
            self._lane.stop(self._ticket)

    def drop(self) -> None:
        """Look no further, and forget what was found."""
        if self._ticket is not None:
            self._lane.stop(self._ticket, silence=True)
        self.forget()
        self.show(())

    def forget(self) -> None:
        """Take it that nothing is looked for: all jobs were ended unheard."""
        self._ticket, self.progress = None, None

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if ticket == self._ticket and isinstance(event, ObjectsProposed):
            self.progress = event.done, event.total
            if event.outlines:
                self.show((*self.outlines, *event.outlines))
            self.changed.emit()

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket == self._ticket:
            self.forget()
            if not self.outlines:
                show_info(_STOPPED if self._stopped else _NONE_FOUND)
            self.changed.emit()

    def _on_failed(self, ticket: JobTicket, _error: Exception) -> None:
        if ticket == self._ticket:  # the viewer's session says why
            self.forget()
            self.changed.emit()

    # ------------------------------------------------------------------ answering them

    def accept_all(self) -> None:
        """Make all proposals finished objects."""
        objects = self._scene.need_objects()
        if objects is not None and self.outlines:
            accepted = self.outlines
            objects.write_all(accepted, self.index)
            self.show(())
            self.accepted.emit(accepted)

    def reject_all(self) -> None:
        """Forget all proposals; more may still come."""
        self.show(())

    def answer(self, index: Index, at: Place, accepted: bool) -> bool:
        """Accept or reject the proposal at a place; False if there is none."""
        proposal = self._at(index, at)
        if proposal is None:
            return False
        objects = self._scene.need_objects()
        if accepted and objects is not None:
            objects.write_all((proposal,), index)
        self.show(tuple(each for each in self.outlines if each is not proposal))
        if accepted:
            self.accepted.emit((proposal,))
        return True

    def _at(self, index: Index, at: Place) -> Outline | None:
        if index != self.index:
            return None
        for proposal in self.outlines:
            row, column = (round(x) - span.start for x, span in zip(at, proposal.box, strict=True))
            height, width = proposal.mask.shape
            if 0 <= row < height and 0 <= column < width and proposal.mask[row, column]:
                return proposal
        return None

    def go_to_next(self) -> None:
        """Move the view to the next proposal."""
        if not self.outlines:
            show_info("There are no proposals; press 'Segment all like these' for some.")
            return
        first = self.outlines[0]
        self.outlines = (*self.outlines[1:], first)
        viewer, image = self._scene.viewer, self._scene.image
        if viewer is not None and image is not None:
            place = image.data_to_world((*self.index, *first.middle))
            viewer.scene.camera.center = tuple(np.asarray(place)[-2:])
        self.changed.emit()

    def resume(self, index: Index, outlines: tuple[Outline, ...]) -> None:
        """Go on with proposals of an earlier session, less those where objects lie by now."""
        objects = self._scene.objects
        labels = None if objects is None else objects.plane(index)
        free = (
            each
            for each in outlines
            if labels is None or np.mean(labels[each.box][each.mask] > 0) < _TAKEN
        )
        self.index = index
        self.show(tuple(free))

    def show(self, outlines: tuple[Outline, ...]) -> None:
        """Take these for all that is proposed, and show what is on the plane that is looked at."""
        self.outlines = outlines
        if (preview := self._scene.preview) is not None:
            shown = outlines if self._scene.index == self.index else ()
            preview.show_proposals(self.index, shown)
        self.changed.emit()
