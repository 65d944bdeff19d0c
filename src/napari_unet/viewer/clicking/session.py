"""The session of clicks: an image, its finished objects, and the one that is being clicked on.

It holds no widget. The dock and the mouse call its methods and observe `changed`.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, Signal

from napari_unet.engine.click import Clicker
from napari_unet.engine.click_jobs import (
    FEWEST_TO_PROPOSE,
    ClickRequest,
    outline_job,
    propagate_job,
    propose_job,
)
from napari_unet.engine.events import ClicksAdapted, JobEvent, ObjectOutlined, ObjectsProposed
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click, Outline
from napari_unet.ops.tiling import Box
from napari_unet.viewer.clicking.current import CurrentObject
from napari_unet.viewer.clicking.objects import ObjectsLayer, drawn_path, middle_of
from napari_unet.viewer.clicking.preview import Preview
from napari_unet.viewer.lane import JobTicket, Priority
from napari_unet.viewer.planes import ImagePlanes, Index, why_not_clickable

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

# Planes whose windows are kept at hand.
_PLANES_KEPT: Final = 6
# The network is adapted when so many objects are finished, and again at twice as many ...
_FIRST_ADAPTED: Final = 5
Place = tuple[float, float]


class ClickSession(QObject):
    """Outlines objects of one image layer.

    Parameters
    ----------
    controller
        The viewer's session: its thread and its fine-tuned network are used.

    Attributes
    ----------
    image
        The image layer; None if there is none.
    objects
        The finished objects; None before there is a layer for them.
    current
        The object that is being clicked on; None if there is none.
    proposals
        Outlines that were proposed and neither accepted nor rejected.
    preserve
        Whether finished objects keep their pixels when a new one overlaps them.
    learns
        Whether finished objects adapt the network.
    teaches
        Whether finished objects count as strokes when the U-Net is fine-tuned.
    adapted
        What came out of adapting last; None before.
    progress
        Places looked at for proposals, and in all; None while nothing is looked for.
    """

    #: Something of the above is another one.
    changed = Signal()

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__(controller)
        self._controller = weakref.ref(controller)
        self._lane = controller.lane
        self.image: Image | None = None
        self.objects: ObjectsLayer | None = None
        self.current: CurrentObject | None = None
        self.proposals: tuple[Outline, ...] = ()
        self.preserve = True
        self.learns = True
        self.teaches = True
        self.adapted: ClicksAdapted | None = None
        self.progress: tuple[int, int] | None = None
        self._planes: ImagePlanes | None = None
        self._preview: Preview | None = None
        self._proposed_on: Index = ()
        # Worker thread: clickers of planes, the latest used last, and the network they answer with.
        self._clickers: OrderedDict[tuple[ImagePlanes, Index], Clicker] = OrderedDict()
        self._network: UNet | None = None
        self._asked: dict[JobTicket, tuple[Index, int]] = {}
        self._following: JobTicket | None = None
        self._proposing: JobTicket | None = None
        self._adapting: JobTicket | None = None
        # The plane that is shown, and why nothing can be clicked on there.
        self._seen: tuple[Index | None, str | None] | None = None
        # The axes before planes of the object that is followed.
        self._followed: Index = ()
        # Whether the object is to be finished as soon as its clicks are answered.
        self._finishing = False
        self._next_adaption = _FIRST_ADAPTED
        self._lane.event.connect(self._on_event)
        self._lane.finished.connect(self._on_finished)
        self._lane.failed.connect(self._on_failed)
        viewer = controller.viewer
        viewer.layers.events.removed.connect(self._on_layer_removed)
        for event in (
            viewer.dims.events.current_step,
            viewer.dims.events.ndisplay,
            viewer.dims.events.order,
        ):
            event.connect(self._on_plane_changed)
        controller.layers.leaving.connect(self._on_jobs_ended)

    @property
    def viewer(self) -> Any:
        """The viewer; None if it is gone."""
        controller = self._controller()
        return None if controller is None else controller.viewer

    # ------------------------------------------------------------------ layers

    def set_image(self, layer: Image | None) -> None:
        """Choose the image; objects of another one stay in their layer."""
        if layer is self.image:
            return
        self.stop()
        if self._proposing is not None:
            self._lane.stop(self._proposing, silence=True)
            self._proposing, self.progress = None, None
        self.drop()
        self._show_proposals(())
        if self._preview is not None:
            self._preview.close()
        if self.image is not None:
            self.image.events.data.disconnect(self._on_image_changed)
        self.image, self.objects, self._planes, self._preview = layer, None, None, None
        self._forget_planes()
        if layer is not None and why_not_clickable(layer) is None:
            layer.events.data.connect(self._on_image_changed)
            self._planes = ImagePlanes(layer)
            self._preview = Preview(self.viewer, self._planes)
        self._teach()
        self.changed.emit()

    def set_objects(self, layer: Labels | None) -> None:
        """Choose the layer of finished objects; None for a new one when it is needed."""
        if self.objects is not None and self.objects.layer is layer:
            return
        self.drop()
        if layer is not None and (reason := self.why_not_objects(layer)) is not None:
            show_warning(reason)
            layer = None
        self._watch(None if layer is None else ObjectsLayer(layer))
        self._next_adaption = _FIRST_ADAPTED
        self._teach()
        self.changed.emit()

    def _watch(self, objects: ObjectsLayer | None) -> None:
        """Keep finished objects in a layer, and hear when they are undone or replaced."""
        self.objects = objects
        if objects is not None:
            objects.layer.events.set_data.connect(self._on_objects_changed)

    def _on_objects_changed(self, _event: Any = None) -> None:
        """Objects were undone or redone, or another array was put into their layer."""
        objects = self.objects
        if objects is None or self._planes is None:
            return
        if tuple(objects.layer.data.shape) != self._planes.shape:
            self.drop()
            self.objects = None
            self._teach()
        self.changed.emit()

    def why_not_objects(self, layer: Labels) -> str | None:
        """Say why objects cannot be kept in a layer, with the cure; None if they can."""
        if self._planes is None:
            return why_not_clickable(self.image)
        if tuple(layer.data.shape) != self._planes.shape:
            return (
                f"'{layer.name}' has shape {tuple(layer.data.shape)}, the image "
                f"{self._planes.shape}; choose a layer of the image's shape, or a new one."
            )
        if not isinstance(layer.data, np.ndarray):
            return f"'{layer.name}' is not in memory and cannot be written; choose a new layer."
        return None

    def need_objects(self) -> ObjectsLayer | None:
        """Return the layer of finished objects, a new one if there is none; None without image."""
        viewer = self.viewer
        if self.image is None or self._planes is None or viewer is None:
            return None
        if self.objects is None:
            objects = ObjectsLayer.for_image(self.image)
            self._watch(objects)
            viewer.add_layer(objects.layer)
            self._teach()
            self.changed.emit()
        return self.objects

    def why_not_click(self) -> str | None:
        """Say why nothing can be clicked on, with the cure; None if it can."""
        viewer = self.viewer
        if (reason := why_not_clickable(self.image)) is not None:
            return reason
        if viewer is not None and viewer.dims.ndisplay != 2:
            return "Switch to the 2D view first (the button at the lower left): planes are shown."
        if viewer is not None and self._planes is not None:
            last = tuple(range(viewer.dims.ndim))[-2:]
            if tuple(viewer.dims.displayed) != last:
                return (
                    "Show rows and columns first: press the Home and Roll buttons until they are."
                )
        return None

    @property
    def index(self) -> Index | None:
        """The plane that is shown; None if it is not one of the image."""
        viewer = self.viewer
        if self._planes is None or viewer is None:
            return None
        index, _ = self._planes.place(viewer.dims.point)
        return index if self._planes.contains(index) else None

    @property
    def is_stack(self) -> bool:
        """Whether the image has several planes."""
        return self._planes is not None and self._planes.is_stack

    def place(self, world: Any) -> tuple[Index, Place] | None:
        """Return plane, row and column of a place in the world; None if it is not on the image."""
        if self._planes is None:
            return None
        index, at = self._planes.place(world)
        return (index, at) if self._planes.contains(index, at) else None

    def nearest(self, world: Any) -> Place:
        """Return row and column on the image that are nearest to a place in the world."""
        if self._planes is None:
            return 0.0, 0.0
        _, at = self._planes.place(world)
        rows, columns = self._planes.shape[-2:]
        return min(max(at[0], 0.0), rows - 1.0), min(max(at[1], 0.0), columns - 1.0)

    def show_box(self, index: Index, box: Box) -> None:
        """Show a box while it is drawn."""
        if self._preview is not None:
            sides = tuple(span.stop - span.start for span in box)
            self._preview.show_outline(index, Outline(box, np.ones(sides, bool)))

    def show_path(self, index: Index, path: list[Place]) -> None:
        """Show a line while it is drawn."""
        if self._preview is not None and self._planes is not None:
            rows, columns = self._planes.shape[-2:]
            drawn = Outline.of_mask(drawn_path(path, (rows, columns)))
            self._preview.show_outline(index, drawn)

    # ------------------------------------------------------------------ clicks

    def click(self, index: Index, at: Place, positive: bool = True) -> None:
        """Click on an object, or beside it.

        With no object in hand a click on a proposal accepts it or rejects it, and one on a finished
        object takes that up again.
        """
        if (reason := self.why_not_click()) is not None:
            show_warning(reason)
            return
        if self.current is None:
            if self._answer_proposal(index, at, positive):
                return
            if not positive:
                show_info("Click on an object first; then take away what is not of it.")
                return
            if self._take_up(index, at):
                return
            self.current = CurrentObject()
        self.current.on(index).add(Click(*at, positive))
        self._ask(index)

    def draw_box(self, index: Index, box: Box) -> None:
        """Begin an object with a box around it."""
        if (reason := self.why_not_click()) is not None:
            show_warning(reason)
            return
        self.drop()
        self.current = CurrentObject(box=box)
        self.current.on(index)
        self._ask(index)

    def _take_up(self, index: Index, at: Place) -> bool:
        label = self.objects.label_at(index, at) if self.objects is not None else 0
        if not label or self.objects is None:
            return False
        self.current = CurrentObject(label=label)
        for plane in self.objects.planes_of(label):
            outline = self.objects.outline_of(plane, label)
            self.current.on(plane).answers = [outline]
        self._show_current()
        return True

    def take_back(self) -> None:
        """Take back the last click on this plane; without any left, drop the object."""
        index = self.index
        if self.current is None or index is None:
            return
        state = self.current.planes.get(index)
        if state is None or not state.take_back():
            self.drop()
            return
        if not state.clicks and state.answers == [None] and self.current.box is None:
            del self.current.planes[index]
            if not self.current.planes:
                self.drop()
                return
        self._stop_asking()
        if (state.clicks or self.current.box) and state.answers[-1] is None:
            self._ask(index)
        self._show_current()

    def drop(self) -> None:
        """Drop the object in hand; finished ones stay."""
        self._finishing = False
        self._stop_asking()
        if self._following is not None:
            self._lane.stop(self._following, silence=True)
            self._following = None
        if self.current is not None:
            self.current = None
            self._show_current()

    def commit(self) -> int:
        """Finish the object in hand; its number, or 0 if there is nothing to finish."""
        current, objects = self.current, self.need_objects()
        if self._asked:
            self._finishing = True
            return 0
        parts = {} if current is None else current.parts()
        if current is None or objects is None or not parts:
            return 0
        number = objects.write(parts, current.label, preserve=self.preserve)
        if not number:
            show_warning(
                "Finished objects cover all of it; let new objects take their pixels, or press Esc."
            )
            return 0
        self.drop()
        self._teach()
        self._adapt_in_time()
        return number

    # ------------------------------------------------------------------ finished objects

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
        self._show_current()

    # ------------------------------------------------------------------ stacks

    def why_not_follow(self) -> str | None:
        """Say why an object cannot be followed through a stack, with the cure; None if it can."""
        if not self.is_stack:
            return "The image has a single plane; open a stack to follow objects through it."
        index = self.index
        if self.current is None or index is None or self.current.outline_on(index) is None:
            return "Click on an object first."
        return None

    def follow(self) -> None:
        """Outline the object in hand on the other planes, until it ends or is stopped."""
        index = self.index
        if self.why_not_follow() is not None or self.current is None or index is None:
            return
        outline = self.current.outline_on(index)
        if outline is None or self._planes is None:
            return
        planes = self._planes
        leading, start, count = index[:-1], index[-1], planes.shape[-3]
        self._followed = leading
        # What was clicked on by hand stays as it is.
        self.current.planes = {
            i: s for i, s in self.current.planes.items() if s.clicks or i == index
        }
        self._following = self._lane.submit(
            lambda stop: propagate_job(
                lambda plane: self._clicker(planes, (*leading, plane)), start, outline, count, stop
            ),
            name="Following the object",
            replaces="follow",
        )
        self.changed.emit()

    # ------------------------------------------------------------------ proposals

    def why_not_propose(self) -> str | None:
        """Say why nothing can be proposed, with the cure; None if it can."""
        if (reason := self.why_not_click()) is not None:
            return reason
        index = self.index
        if index is None:
            return "Go to a plane of the image first."
        if self.objects is None or self.objects.count(index) < FEWEST_TO_PROPOSE:
            return f"Finish {FEWEST_TO_PROPOSE} objects first; they tell what to look for."
        return None

    def propose(self) -> None:
        """Look for the other objects of the plane."""
        index, planes = self.index, self._planes
        if self.why_not_propose() is not None or self.objects is None:
            return
        if index is None or planes is None:
            return
        self.drop()
        self._show_proposals(())
        labels = np.array(self.objects.plane(index))
        self._proposed_on, self.progress = index, (0, 0)
        self._proposing = self._lane.submit(
            lambda stop: propose_job(self._clicker(planes, index), labels, stop),
            name="Looking for objects like these",
            replaces="propose",
        )
        self.changed.emit()

    def accept_all(self) -> None:
        """Make all proposals finished objects."""
        objects = self.need_objects()
        if objects is not None and self.proposals:
            objects.write_all(self.proposals, self._proposed_on)
            self._show_proposals(())

    def reject_all(self) -> None:
        """Forget all proposals."""
        self._show_proposals(())

    def go_on(self) -> None:
        """Finish the object in hand, if there is one, and go to the next proposal."""
        if self.current is not None:
            self.commit()
        if not self.proposals:
            show_info("There are no proposals; press 'Segment all like these' for some.")
            return
        first = self.proposals[0]
        self.proposals = (*self.proposals[1:], first)
        viewer = self.viewer
        if viewer is not None and self.image is not None:
            place = self.image.data_to_world((*self._proposed_on, *middle_of(first)))
            viewer.scene.camera.center = tuple(np.asarray(place)[-2:])
        self.changed.emit()

    def _answer_proposal(self, index: Index, at: Place, accepted: bool) -> bool:
        if index != self._proposed_on:
            return False
        for proposal in self.proposals:
            row, column = (round(x) - span.start for x, span in zip(at, proposal.box, strict=True))
            height, width = proposal.mask.shape
            if 0 <= row < height and 0 <= column < width and proposal.mask[row, column]:
                objects = self.need_objects()
                if accepted and objects is not None:
                    objects.write_all((proposal,), index)
                self._show_proposals(tuple(p for p in self.proposals if p is not proposal))
                return True
        return False

    def _show_proposals(self, proposals: tuple[Outline, ...]) -> None:
        self.proposals = proposals
        if self._preview is not None:
            shown = proposals if self.index == self._proposed_on else ()
            self._preview.show_proposals(self._proposed_on, shown)
        self.changed.emit()

    # ------------------------------------------------------------------ learning

    def adapt(self) -> None:
        """Adapt the network to the finished objects of the plane."""
        index, planes = self.index, self._planes
        if self.objects is None or index is None or planes is None:
            return
        if not self.objects.count(index):
            return
        outlines = self.objects.outlines(index)
        self._adapting = self._lane.submit(
            lambda stop: self._adapt_job(planes, index, outlines, stop),
            name="Adapting to the objects",
            priority=Priority.TRAINING,
            replaces="adapt",
        )

    def set_teaches(self, teaches: bool) -> None:
        """Let finished objects count as strokes when the U-Net is fine-tuned, or not."""
        self.teaches = teaches
        self._teach()

    def _teach(self) -> None:
        controller = self._controller()
        if controller is None:
            return
        layer = self.objects.layer if self.objects is not None and self.teaches else None
        controller.layers.teach_with(self.image, layer)

    def forget_adapted(self) -> None:
        """Answer with the network that comes with the program again."""
        self.adapted = None
        self._next_adaption = _FIRST_ADAPTED
        self._lane.submit(
            self._forget_job, name="Forgetting", priority=Priority.TRAINING, replaces="adapt"
        )
        self.changed.emit()

    def _adapt_in_time(self) -> None:
        index = self.index
        if not self.learns or self.objects is None or index is None:
            return
        count = self.objects.count(index)
        if count >= self._next_adaption:
            self._next_adaption = 2 * count
            self.adapt()

    # ------------------------------------------------------------------ worker thread

    def _clicker(self, planes: ImagePlanes, index: Index) -> Clicker:
        """Return what outlines objects of a plane; on the worker thread alone."""
        key = planes, index
        if key not in self._clickers:
            self._clickers[key] = Clicker(planes.source(index), adapted=self._network)
            while len(self._clickers) > _PLANES_KEPT:
                self._clickers.popitem(last=False)
        self._clickers.move_to_end(key)
        return self._clickers[key]

    def _adapt_job(
        self,
        planes: ImagePlanes,
        index: Index,
        outlines: tuple[Outline, ...],
        stop: threading.Event,
    ) -> Iterator[JobEvent]:
        clicker = self._clicker(planes, index)
        clicker.objects = outlines
        for event in clicker.adapt_job(stop):
            if isinstance(event, ClicksAdapted):
                self._network = clicker.network if event.used else None
                for other in self._clickers.values():
                    other.use_network(clicker.network)
            yield event

    def _forget_job(self, _stop: threading.Event) -> Iterator[JobEvent]:
        self._network = None
        self._clickers.clear()
        yield from ()

    # ------------------------------------------------------------------ jobs

    def stop(self) -> None:
        """Stop following, looking for proposals and adapting."""
        for ticket in (self._following, self._proposing, self._adapting):
            if ticket is not None:
                self._lane.stop(ticket)

    @property
    def is_busy(self) -> bool:
        """Whether an object is followed or proposals are looked for."""
        return self._lane.is_active(self._following) or self._lane.is_active(self._proposing)

    def _ask(self, index: Index) -> None:
        current, planes = self.current, self._planes
        if current is None or planes is None:
            return
        state = current.on(index)
        request = ClickRequest(tuple(state.clicks), state.outline, current.box)
        ticket = self._lane.submit(
            lambda stop: outline_job(self._clicker(planes, index), request),
            name="Click",
            priority=Priority.PREVIEW,
            replaces="click",
        )
        self._asked[ticket] = (index, len(state.clicks))
        self._show_current()

    def _stop_asking(self) -> None:
        for ticket in self._asked:
            self._lane.stop(ticket, silence=True)
        self._asked.clear()

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if ticket in self._asked and isinstance(event, ObjectOutlined):
            index, count = self._asked.pop(ticket)
            if self.current is not None and index in self.current.planes:
                answers = self.current.planes[index].answers
                if count < len(answers):
                    answers[count] = event.outline
                self._show_current()
                if self._finishing and not self._asked:
                    self.commit()
        elif ticket == self._following and isinstance(event, ObjectOutlined):
            self._take_followed(event)
        elif ticket == self._proposing and isinstance(event, ObjectsProposed):
            self.progress = event.done, event.total
            if event.outlines:
                self._show_proposals((*self.proposals, *event.outlines))
            self.changed.emit()
        elif ticket == self._adapting and isinstance(event, ClicksAdapted):
            self.adapted = event
            self.changed.emit()

    def _take_followed(self, event: ObjectOutlined) -> None:
        if self.current is None:
            return
        plane = (*self._followed, event.plane)
        state = self.current.on(plane)
        if not state.clicks:
            state.answers = [event.outline]
        self._show_current()

    def _on_finished(self, ticket: JobTicket) -> None:
        self._asked.pop(ticket, None)
        if ticket == self._following:
            self._following = None
            self.changed.emit()
        elif ticket == self._proposing:
            self._proposing, self.progress = None, None
            if not self.proposals:
                show_info("No other objects like these were found on this plane.")
            self.changed.emit()

    def _on_failed(self, ticket: JobTicket, _error: Exception) -> None:
        if ticket in self._asked or ticket in (self._following, self._proposing):
            if ticket in self._asked:
                self.drop()
            self._on_finished(ticket)

    # ------------------------------------------------------------------ showing

    def _show_current(self) -> None:
        index, preview = self.index, self._preview
        if preview is not None and index is None:
            preview.show_outline((), None)
            preview.show_clicks((), [])
        elif preview is not None and index is not None:
            current = self.current
            state = None if current is None else current.planes.get(index)
            preview.show_outline(index, None if state is None else state.outline)
            preview.show_clicks(index, [] if state is None else state.clicks)
        self.changed.emit()

    def _on_plane_changed(self, _event: Any = None) -> None:
        if self._planes is None or self._preview is None:
            return
        seen = self.index, self.why_not_click()
        if seen == self._seen:
            return
        self._seen = seen
        if len(self._planes.shape) > 2 and (self.current is not None or self.proposals):
            self._show_current()
            self._show_proposals(self.proposals)
        self.changed.emit()

    def _on_jobs_ended(self) -> None:
        """Ask again: all jobs were ended unheard, those on clicks too."""
        asked = {index for index, _ in self._asked.values()}
        self._asked.clear()
        self._following = self._proposing = None
        self.progress = None
        for index in asked:
            if self.current is not None:
                self._ask(index)

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self.image:
            self.set_image(None)
        elif self.objects is not None and event.value is self.objects.layer:
            self.drop()
            self.objects = None
            self._teach()
            self.changed.emit()

    def _on_image_changed(self, _event: Any = None) -> None:
        """Another array was put into the image layer: nothing in hand fits it any more."""
        layer = self.image
        self.set_image(None)
        self.set_image(layer)

    def _forget_planes(self) -> None:
        self._lane.submit(self._forget_planes_job, name="Click", priority=Priority.PREVIEW)

    def _forget_planes_job(self, _stop: threading.Event) -> Iterator[JobEvent]:
        self._clickers.clear()
        yield from ()


def click_session_for(controller: SegmentationController) -> ClickSession:
    """Return the click session of a viewer's session; it is made at the first call."""
    found = controller.findChild(ClickSession)
    return found if isinstance(found, ClickSession) else ClickSession(controller)
