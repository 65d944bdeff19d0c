"""The object in hand: clicks on it are asked about, their answers shown, the object finished."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.engine.click_jobs import ClickRequest, outline_job
from napari_unet.engine.events import JobEvent, ObjectOutlined
from napari_unet.ops.clicks import Click, Outline
from napari_unet.ops.tiling import Box
from napari_unet.viewer.clicking.clickers import PlaneClickers
from napari_unet.viewer.clicking.current import CurrentObject, PlaneState
from napari_unet.viewer.clicking.scene import ClickScene, Place
from napari_unet.viewer.clicking.sizes import FinishedSizes
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.planes import Index

# Milliseconds after which a click is shown that was not answered yet, and one of which a first
# outline tells that it was heard. To draw it before would take from the network what it needs to
# answer in that time.
_PATIENCE: Final = 150
_PATIENCE_IF_HEARD: Final = 300
_COVERED: Final = (
    "Finished objects cover all of it; let new objects take their pixels, or press Esc."
)


class ObjectInHand(QObject):
    """The object that is being clicked on.

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
    current
        Its clicks and answers; None if there is no object in hand.
    sizes
        What is known of the size of objects.
    preserve
        Whether finished objects keep their pixels when a new one overlaps them.
    """

    #: It is another one, or is seen otherwise.
    changed = Signal()
    #: There is another click, which is not answered yet.
    asked = Signal()
    #: It will be finished or dropped: nothing further is to be found out about it.
    leaving = Signal()
    #: An object was finished.
    finished = Signal()

    def __init__(self, scene: ClickScene, clickers: PlaneClickers, lane: JobLane) -> None:
        super().__init__()
        self._scene, self._clickers, self._lane = scene, clickers, lane
        self.current: CurrentObject | None = None
        self.sizes = FinishedSizes()
        self.preserve = True
        # Of each question the plane, and how many clicks there were.
        self._asked: dict[JobTicket, tuple[Index, int]] = {}
        # What is seen at first, of the plane and the clicks that are asked about.
        self._seen: tuple[Index, Outline] | None = None
        # Whether the object is to be finished as soon as its clicks are answered.
        self._finishing = False
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self.show)
        lane.told.connect(self._on_event)
        lane.finished.connect(self._on_finished)
        lane.failed.connect(self._on_failed)

    # ------------------------------------------------------------------ clicks

    def click(self, index: Index, at: Place, positive: bool = True) -> None:
        """Click on an object, or beside it; with none in hand, a finished one is taken up again."""
        if self.current is None:
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
        self.drop()
        self.current = CurrentObject(box=box)
        self.current.on(index)
        self._ask(index)

    def _take_up(self, index: Index, at: Place) -> bool:
        objects = self._scene.objects
        label = objects.label_at(index, at) if objects is not None else 0
        if not label or objects is None:
            return False
        self.current = CurrentObject(label=label)
        for plane in objects.planes_of(label):
            self.current.on(plane).answers = [objects.outline_of(plane, label)]
        self.show()
        return True

    def take_back(self) -> None:
        """Take back the last step on this plane; without any left on it, drop the object."""
        index = self._scene.index
        if self.current is None or index is None:
            return
        state = self.current.planes.get(index)
        if state is None or not state.take_back():
            self.drop()
            return
        if state.is_blank and self.current.box is None:
            del self.current.planes[index]
            if not self.current.planes:
                self.drop()
                return
        self._stop_asking()
        if (state.clicks or self.current.box) and state.answers[-1] is None:
            self._ask(index)
        self.show()

    def drop(self) -> None:
        """Drop the object; finished ones stay."""
        self._finishing = False
        self._stop_asking()
        self.leaving.emit()
        if self.current is not None:
            self.current = None
            self.show()

    def commit(self) -> int:
        """Finish the object; its number, or 0 if there is nothing to finish."""
        current, objects = self.current, self._scene.need_objects()
        if self._asked:
            self._finishing = True
            return 0
        parts = {} if current is None else current.parts()
        if current is None or objects is None or not parts:
            return 0
        number = objects.write(parts, current.label, preserve=self.preserve)
        if not number:
            show_warning(_COVERED)
            return 0
        self.sizes.note(parts.values())
        self.drop()
        self.finished.emit()
        return number

    def resume(self, current: CurrentObject | None, sizes: Iterable[int]) -> None:
        """Go on with an object that was in hand earlier, among objects of such sizes."""
        self.drop()
        self.sizes.replace(sizes)
        self.current = current
        planes = {} if current is None else current.planes
        for index, state in planes.items():
            if state.answers[-1] is None and (state.clicks or len(planes) == 1):
                self._ask(index)
        self.show()

    # ------------------------------------------------------------------ jobs

    def _ask(self, index: Index) -> None:
        current, planes, clickers = self.current, self._scene.planes, self._clickers
        if current is None or planes is None:
            return
        state = current.on(index)
        request = self._request(state.clicks, state.outline, current.box)
        self._seen = None
        ticket = self._lane.submit(
            lambda stop: outline_job(clickers.of(planes, index), request),
            name="Click",
            priority=Priority.CLICK,
            replaces="click",
        )
        self._asked[ticket] = (index, len(state.clicks))
        self.asked.emit()
        self._later.start(_PATIENCE)

    def _request(
        self, clicks: Iterable[Click], outline: Outline | None, box: Box | None
    ) -> ClickRequest:
        return ClickRequest(tuple(clicks), outline, box, self.sizes.usual)

    def expected(self, index: Index, click: Click) -> ClickRequest | None:
        """Return what would be asked after a click; None if it is not known yet, or nothing."""
        current, objects = self.current, self._scene.objects
        if current is None:
            taken = objects is not None and objects.label_at(index, (click.row, click.column))
            return None if taken or not click.positive else self._request((click,), None, None)
        if self._asked:  # the answer will be part of it
            return None
        state = current.planes.get(index, PlaneState())
        return self._request((*state.clicks, click), state.outline, current.box)

    def ask_again(self) -> None:
        """Ask what is not answered once more: all jobs were ended unheard."""
        asked = {index for index, _ in self._asked.values()}
        self._asked.clear()
        for index in asked:
            if self.current is not None:
                self._ask(index)

    def _stop_asking(self) -> None:
        for ticket in self._asked:
            self._lane.stop(ticket, silence=True)
        self._asked.clear()
        self._seen = None

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if ticket not in self._asked or not isinstance(event, ObjectOutlined):
            return
        if not event.is_final:
            self._seen = self._asked[ticket][0], event.outline
            self._show_outline()
            self._later.start(_PATIENCE_IF_HEARD)
            return
        index, count = self._asked.pop(ticket)
        self._seen = None
        if self.current is None or index not in self.current.planes:
            return
        answers = self.current.planes[index].answers
        if count < len(answers):
            answers[count] = event.outline
        self._show_outline()
        self._later.start(0)  # the rest when the outline is drawn
        if self._finishing and not self._asked:
            self.commit()

    def _on_finished(self, ticket: JobTicket) -> None:
        if self._asked.pop(ticket, None) is not None and not self._asked:
            # It was stopped before it was answered.
            self._seen, self._finishing = None, False
            self.show()

    def _on_failed(self, ticket: JobTicket, _error: Exception) -> None:
        if ticket in self._asked:
            self.drop()

    # ------------------------------------------------------------------ showing

    def show(self) -> None:
        """Show what is on the plane that is looked at."""
        self._later.stop()
        self._show_outline()
        index, preview = self._scene.index, self._scene.preview
        if preview is not None:
            state = self._state_on(index)
            preview.show_clicks(index or (), [] if state is None else state.clicks)
        self.changed.emit()

    def _show_outline(self) -> None:
        index, preview = self._scene.index, self._scene.preview
        if preview is None:
            return
        state = self._state_on(index)
        outline = None if state is None else state.outline
        is_final = self._seen is None or self._seen[0] != index
        if self._seen is not None and not is_final:
            outline = self._seen[1]
        preview.show_outline(index or (), outline, is_final=is_final)

    def _state_on(self, index: Index | None) -> PlaneState | None:
        if self.current is None or index is None:
            return None
        return self.current.planes.get(index)
