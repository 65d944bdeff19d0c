"""Records what clicks leave behind: the object in hand, proposals, the network that was adapted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning

from napari_unet.engine.events import ClicksAdapted, JobEvent
from napari_unet.engine.journal import (
    JournalError,
    ModelFile,
    ProjectState,
    SettingsChanged,
    ViewChanged,
)
from napari_unet.engine.journal.changes import CLICKS, HAND, PROPOSALS
from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.clicked import (
    HandState,
    PlaneInHand,
    hand_values,
    load_adapted,
    network_values,
    read_hand,
    save_click_network,
)
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError
from napari_unet.viewer.clicking.current import CurrentObject, PlaneState
from napari_unet.viewer.clicking.session import ClickSession, click_session_for
from napari_unet.viewer.lane import JobTicket, Priority
from napari_unet.viewer.project.bound import BoundProject
from napari_unet.viewer.project.proposed import ProposalsRecorder

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController
    from napari_unet.viewer.project.session import ProjectSession

# Sizes of objects that a project may name; no more are kept in hand.
_MOST_SIZES = 1000


class ClicksRecorder:
    """Records the object in hand at every click, and networks that were adapted to objects.

    Neither is a step that can be taken back: what undo leads through are finished objects.

    Parameters
    ----------
    projects, controller
        Whose.
    """

    def __init__(self, projects: ProjectSession, controller: SegmentationController) -> None:
        self._projects = projects
        self._clicks: ClickSession | None = None
        # What was recorded last: in which project, the object, and how to know it again.
        self._seen: tuple[Path, HandState | None, Any] | None = None
        # By the folder of the project: which network is in which file.
        self._files: dict[Path, tuple[UNet, ModelFile]] = {}
        self._proposals = ProposalsRecorder()
        self._saving: JobTicket | None = None
        self._loading: JobTicket | None = None
        controller.lane.finished.connect(self._on_ended)
        controller.lane.failed.connect(self._on_failed)

    def look(self) -> None:
        """Record what is another one than the project knows."""
        if (clicks := self._found()) is None or self._loading is not None:
            return
        bound = self._projects.bound_of(clicks.scene.image)
        if bound is None or not self._projects.is_on or clicks.scene.viewer is None:
            return
        if bound.image not in clicks.scene.viewer.layers:
            return  # the object was dropped with its layer: whoever opens it again goes on with it
        if bound.project is None and clicks.hand.current is not None:
            self._projects.need_project(bound)
        if bound.project is None or not bound.project.can_append():
            return
        self._record_hand(bound, clicks)
        self._proposals.look(bound.project, clicks)
        self._save_network(bound, clicks)
        self._record_settings(bound, clicks)

    def _on_asked(self) -> None:
        """Record a click before it is answered, and nothing else: the network needs the cores."""
        clicks = self._found()
        bound = None if clicks is None else self._projects.bound_of(clicks.scene.image)
        if clicks is None or bound is None or self._loading is not None or not self._projects.is_on:
            return
        if bound.project is not None and bound.project.can_append():
            self._record_hand(bound, clicks)

    def _found(self) -> ClickSession | None:
        """Return the session of clicks, if there is one by now, and listen to it."""
        controller = self._projects.controller
        if self._clicks is None and controller is not None:
            self._clicks = controller.findChild(ClickSession)
            if self._clicks is not None:
                self._clicks.changed.connect(self.look)
                self._clicks.hand.asked.connect(self._on_asked)
        return self._clicks

    # ------------------------------------------------------------------ what is recorded

    def _record_hand(self, bound: BoundProject, clicks: ClickSession) -> None:
        project = bound.project
        # While it is followed it changes with every plane; what is known then is soon known again.
        if project is None or clicks.following.is_busy:
            return
        hand = _hand_of(clicks.hand.current)
        seen, mark = self._seen, _mark_of(hand)
        if seen is not None and (seen[0], seen[2]) == (project.folder, mark):
            return
        values = hand_values(hand)
        if values != project.facts.view.get(HAND):
            project.append(ViewChanged({**project.facts.view, HAND: values}))
        self._seen = project.folder, hand, mark

    def _record_settings(self, bound: BoundProject, clicks: ClickSession) -> None:
        project, learning = bound.project, clicks.learning
        if project is None:
            return
        network = self._file(project.folder, clicks.clickers.network)
        known = project.facts.settings.get(CLICKS)
        values = {
            "network": network_values(network),
            "adapted": None if learning.adapted is None else asdict(learning.adapted),
            "next": learning.next_adaption,
            "learns": learning.learns,
            "teaches": learning.teaches,
            "preserve": clicks.hand.preserve,
            "sizes": list(clicks.hand.sizes.known),
        }
        if values != known and (known is not None or _is_worth_it(values)):
            project.append(SettingsChanged({**project.facts.settings, CLICKS: values}))

    def _file(self, folder: Path, network: UNet | None) -> ModelFile | None:
        """Return the file of a network; the one before while it is not written yet."""
        written = self._files.get(folder)
        return None if network is None or written is None else written[1]

    def _save_network(self, bound: BoundProject, clicks: ClickSession) -> None:
        """Have the network written, if it is another one; the worker thread does it."""
        project, network = bound.project, clicks.clickers.network
        controller = self._projects.controller
        if project is None or network is None or controller is None or self._saving is not None:
            return
        folder = project.folder
        if folder in self._files and self._files[folder][0] is network:
            return

        def job(_stop: Any) -> Iterator[JobEvent]:
            self._files[folder] = network, save_click_network(network, folder)
            yield from ()

        self._saving = controller.lane.submit(job, name="Saving what clicks taught")

    def _on_ended(self, ticket: JobTicket) -> None:
        if ticket in (self._saving, self._loading):
            self._saving = None if ticket == self._saving else self._saving
            self._loading = None if ticket == self._loading else self._loading
            self.look()

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if ticket == self._saving:
            show_warning(f"What clicks taught is not saved: {error}")
            self._saving = None
        elif ticket == self._loading:
            show_warning(f"Clicks are answered by the network of the program: {error}")
            self._on_ended(ticket)

    def keep_now(self) -> None:
        """Write the network at once, with the jobs ended; the window closes."""
        clicks = self._found()
        if self._loading is not None:  # what is in the project is not here yet
            return
        self._saving = None
        bound = None if clicks is None else self._projects.bound_of(clicks.scene.image)
        if clicks is None or bound is None or bound.project is None or not bound.is_saved:
            return
        network, folder = clicks.clickers.network, bound.project.folder
        if network is not None and self._files.get(folder, (None,))[0] is not network:
            with suppress(InputError, OSError):
                self._files[folder] = network, save_click_network(network, folder)
        if bound.project.can_append():
            self._record_settings(bound, clicks)

    # ------------------------------------------------------------------ the way back

    def restore(
        self, controller: SegmentationController, bound: BoundProject, state: ProjectState
    ) -> None:
        """Go on with the object in hand and with the adapted network; objects are there by now.

        Parameters
        ----------
        controller, bound
            Where to.
        state
            What the project held when it was opened.
        """
        hand, settings = state.view.get(HAND), state.settings.get(CLICKS)
        if hand is None and not isinstance(settings, dict) and PROPOSALS not in state.settings:
            return
        clicks = click_session_for(controller)
        if clicks.scene.image is not bound.image:
            clicks.scene.set_image(bound.image)
        planes = clicks.scene.planes
        if planes is None or bound.project is None:
            return
        current: CurrentObject | None = None
        sizes: tuple[int, ...] = ()
        with suppress(JournalError):
            sizes = _take_settings(clicks, settings)
        with suppress(JournalError):
            current = _current_of(read_hand(hand, planes.shape), clicks)
        with suppress(JournalError):
            self._proposals.restore(bound.project.folder, state, clicks)
        if isinstance(settings, dict) and settings.get("network") is not None:
            self._load(controller, clicks, bound.project.folder, settings["network"])
        clicks.hand.resume(current, sizes)
        self.look()

    def _load(
        self,
        controller: SegmentationController,
        clicks: ClickSession,
        folder: Path,
        values: Any,
    ) -> None:
        def job(stop: Any) -> Iterator[JobEvent]:
            found = load_adapted(folder, values)
            if found is not None:
                self._files[folder] = found[1], found[0]
                yield from clicks.clickers.use_network_job(found[1], stop)

        self._loading = controller.lane.submit(
            job, name="Going back to what clicks taught", priority=Priority.CLICK
        )


def _is_worth_it(values: dict[str, Any]) -> bool:
    """Whether something of clicks is other than it is in every new session."""
    return bool(
        values["network"]
        or values["adapted"]
        or values["sizes"]
        or not (values["learns"] and values["teaches"] and values["preserve"])
    )


def _hand_of(current: CurrentObject | None) -> HandState | None:
    if current is None:
        return None
    planes = [
        PlaneInHand(index, tuple(each.clicks), tuple(each.answers), tuple(each.replaced))
        for index, each in current.planes.items()
    ]
    return HandState(current.label, current.box, tuple(planes))


def _mark_of(hand: HandState | None) -> Any:
    """Return what is equal as long as an object is the same; outlines are never changed."""
    if hand is None:
        return None
    planes = [
        (each.index, each.clicks, tuple(map(id, each.answers)), tuple(map(id, each.replaced)))
        for each in hand.planes
    ]
    return hand.label, hand.box, planes


def _current_of(hand: HandState | None, clicks: ClickSession) -> CurrentObject | None:
    if hand is None:
        return None
    label, objects = hand.label, clicks.scene.objects
    if label is not None and (objects is None or not objects.planes_of(label)):
        label = None  # it was undone since
    planes = {
        plane.index: PlaneState(list(plane.clicks), list(plane.answers), list(plane.replaced))
        for plane in hand.planes
    }
    return CurrentObject(label, hand.box, planes)


def _take_settings(clicks: ClickSession, values: Any) -> tuple[int, ...]:
    """Set how clicks work as it was, and return the sizes of objects.

    Raises
    ------
    JournalError
        If the values are not those of such settings.
    """
    if values is None:
        return ()
    checked = Checked(values)
    sizes, following = checked.wholes("sizes"), checked.whole("next", 1)
    clicks.learning.learns = checked.get("learns") is not False
    clicks.learning.set_teaches(checked.get("teaches") is not False)
    clicks.hand.preserve = checked.get("preserve") is not False
    clicks.learning.resume(_read_adapted(checked.optional("adapted")), following)
    return tuple(size for size in sizes[:_MOST_SIZES] if size > 0)


def _read_adapted(values: Checked | None) -> ClicksAdapted | None:
    if values is None:
        return None
    before, after = values.get("before"), values.get("after")
    if not all(score is None or isinstance(score, int | float) for score in (before, after)):
        raise JournalError("what adapting brought is no number")
    return ClicksAdapted(values.whole("objects", 0), before, after, values.get("used") is True)
