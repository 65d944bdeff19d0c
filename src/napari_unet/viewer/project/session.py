"""The projects of a viewer's session: every change is written, and images are gone on with."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari.layers import Image, Labels
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.engine.journal import Painted, Project, new_folder
from napari_unet.engine.journal.changes import Role
from napari_unet.viewer.clicking.session import ClickSession
from napari_unet.viewer.closing import WindowClosing
from napari_unet.viewer.project.background import Background
from napari_unet.viewer.project.borders import BorderRecorder
from napari_unet.viewer.project.bound import BoundProject
from napari_unet.viewer.project.clicked import ClicksRecorder
from napari_unet.viewer.project.facts import FactsRecorder
from napari_unet.viewer.project.learned import LearnedRecorder
from napari_unet.viewer.project.places import Looked, folder_of, is_off, look, name_of
from napari_unet.viewer.project.restore import restore
from napari_unet.viewer.project.steps import Steps
from napari_unet.viewer.project.watch import LayerWatch

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

# How often what could not be written is tried again, and the view is looked at.
_TICK_MS: Final = 1000
# Seconds that the first stroke waits for the folder at most, and closing a window.
_PATIENCE: Final = 0.1
_LAST_WAIT: Final = 10.0


class ProjectSession(QObject):
    """Keeps what is done in a session in projects, one for each image.

    Parameters
    ----------
    controller
        The session. Its own files know nothing of this one: its signals are enough.

    Attributes
    ----------
    is_on
        Whether changes are saved.
    learned, facts, borders, clicked, steps
        Records networks; settings, views and accepted predictions; which strokes part objects; the
        object in hand and what clicks adapted; takes steps back.
    """

    #: What `describe`, `bound` and the like say is something else.
    changed = Signal()
    _written = Signal()

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__(controller)
        self._controller = weakref.ref(controller)
        self.is_on = not is_off()
        self._bound: dict[Image, BoundProject] = {}
        self._background = Background(self)
        self.learned = LearnedRecorder(self, controller)
        self.facts = FactsRecorder(self, controller)
        self.borders = BorderRecorder(self, controller)
        self.clicked = ClicksRecorder(self, controller)
        self.steps = Steps(self, controller)
        layers = controller.layers
        layers.changed.connect(self._on_layers_changed)
        self._written.connect(self.changed)
        viewer = controller.viewer
        viewer.layers.events.removed.connect(self._on_layer_removed)
        WindowClosing(viewer, self).closed.connect(self.close)
        self._tick = QTimer(self)
        self._tick.timeout.connect(self._on_ticked)
        self._tick.start(_TICK_MS)
        self._on_layers_changed()

    @property
    def controller(self) -> SegmentationController | None:
        """The session; None if it is gone."""
        return self._controller()

    @property
    def bound(self) -> BoundProject | None:
        """The image at hand with its project; None without an image."""
        image = self.image
        return None if image is None else self._bound.get(image)

    def bound_of(self, image: Image | None) -> BoundProject | None:
        """Return an image with its project; None if it was not looked at."""
        return None if image is None else self._bound.get(image)

    def all_bound(self) -> list[BoundProject]:
        """Return all images that were looked at, with their projects."""
        return list(self._bound.values())

    @property
    def image(self) -> Image | None:
        """The image at hand: of the strokes, or else of the clicks."""
        controller = self._controller()
        if controller is None:
            return None
        return controller.layers.image or _clicked_image(controller)

    @property
    def project(self) -> Project | None:
        """The project of the image at hand that is written to; None if there is none."""
        bound = self.bound
        return bound.project if bound is not None and bound.is_saved else None

    def set_on(self, wanted: bool) -> None:
        """Save changes, or do not."""
        self.is_on = wanted
        if wanted:
            self._on_layers_changed()
            self._on_ticked()
        else:
            for bound in self._bound.values():
                bound.close()
        self.changed.emit()

    # ------------------------------------------------------------------ what there is

    def _on_layers_changed(self) -> None:
        controller = self._controller()
        if controller is None or not self.is_on:
            return
        layers = controller.layers
        image = layers.image if layers.planes is not None else None
        clicked = _clicked_image(controller)
        for each in (image, clicked):
            if each is not None and each not in self._bound:
                self._look(each)
        if image is not None and layers.strokes_fit():
            self._watch(self._bound[image], layers.annotations, "annotations")
        clicks = _clicks(controller)
        objects = None if clicks is None else clicks.scene.objects
        if clicked is not None and objects is not None:
            self._watch(self._bound[clicked], objects.layer, "objects")
        self.clicked.look()

    def _look(self, image: Image) -> None:
        bound = self._bound[image] = BoundProject(image, is_busy=True)
        beside, name = folder_of(image), name_of(image)

        def then(found: Looked | Exception) -> None:
            bound.is_busy = False
            if isinstance(found, Exception):
                bound.problem = str(found)
            else:
                bound.looked = found
                bound.offered = next(iter(found.found), None)
            self.changed.emit()
            self._on_ticked()

        self._background.run(lambda: look(image, beside, name), then)

    def _watch(self, bound: BoundProject, layer: Labels | None, role: Role) -> None:
        if layer is None or bound.watch_of(layer) is not None:
            return
        if not hasattr(layer.data, "__array_interface__"):
            return  # not in memory: its own file holds it
        removed = [watch for watch in bound.removed if watch.layer is layer]
        if removed:
            bound.take_back(removed[0])
            return
        self.watch(bound, layer, bound.free_name(role), role)

    def watch(
        self, bound: BoundProject, layer: Labels, name: str, role: Role, known: Any = None
    ) -> None:
        """Record what changes in a layer.

        Parameters
        ----------
        bound
            Whose project.
        layer
            The layer.
        name, role
            Its id in the project, and what it holds.
        known
            What the project knows of it; None for nothing.
        """

        def record(change: Painted, undoes: int, redoes: int) -> int:
            number = bound.record(role, change, undoes, redoes)
            if not number and self.need_project(bound):
                number = bound.record(role, change, undoes, redoes)
            self.changed.emit()
            return number

        watch = LayerWatch(layer, name, record, known)
        bound.watches.append(watch)
        watch.compare("found")

    # ------------------------------------------------------------------ projects

    def need_project(self, bound: BoundProject) -> bool:
        """Begin a project for the first change; whether there is one now.

        Its folder takes milliseconds. Who paints waits for it, so that the first stroke outlives
        the program; but on a slow disk only for a moment, and only once.
        """
        if bound.project is not None or bound.is_busy or bound.looked is None or not self.is_on:
            return False
        looked = bound.looked
        bound.is_busy = True

        def make() -> Project:
            folder = new_folder(looked.parent, looked.header.name, looked.header.fingerprint)
            return Project.create(folder, looked.header, self._written.emit)

        bound.making = self._background.run(make, lambda made: self._take_made(bound, made))
        return self._await_project(bound, _PATIENCE)

    def _await_project(self, bound: BoundProject, seconds: float) -> bool:
        made = None if bound.making is None else bound.making.take(seconds)
        if made is not None:
            self._take_project(bound, made)
            QTimer.singleShot(0, self._on_ticked)
        return bound.project is not None

    def _take_made(self, bound: BoundProject, project: Project | Exception) -> None:
        self._take_project(bound, project)
        self._on_ticked()

    def _take_project(self, bound: BoundProject, project: Project | Exception) -> None:
        bound.is_busy, bound.making = False, None
        if isinstance(project, Exception):
            bound.problem = str(project)
        elif not self.is_on or bound.image not in self._bound:
            project.close()
        else:
            bound.project, bound.problem = project, project.read_only
        self.changed.emit()

    def go_on(self, folder: Path | None = None) -> None:
        """Go on with a project of the image at hand, exactly where it was.

        Parameters
        ----------
        folder
            Of the project; None for the one that is offered.
        """
        bound, controller = self.bound, self._controller()
        if bound is None or controller is None or bound.is_busy:
            return
        folder = folder or bound.offered
        if folder is None:
            return
        bound.offered, bound.is_busy = None, True

        def then(project: Project | Exception) -> None:
            bound.is_busy = False
            if isinstance(project, Exception):
                bound.problem = str(project)
                show_warning(str(project))
                self.changed.emit()
                return
            self._reopen(bound, project)

        self._background.run(lambda: Project.open(folder, self._written.emit), then)

    def _reopen(self, bound: BoundProject, project: Project) -> None:
        controller = self._controller()
        reason = None if bound.looked is None else _why_not_fitting(bound.looked, project)
        if controller is None or bound.image is not self.image or reason:
            project.close()
            if reason:
                show_warning(reason)
            return
        bound.close()
        bound.project = project
        restore(self, controller, bound, project.state)
        bound.problem = project.read_only
        if project.read_only is not None:
            show_warning(f"Nothing is saved: {project.read_only}.")
        if serious := [str(each) for each in project.damages if not each.is_torn]:
            show_warning("Parts of the project are damaged and were set aside: " + serious[0])
        self.changed.emit()

    def decline(self) -> None:
        """Begin anew; the project that is offered stays where it is."""
        if (bound := self.bound) is not None:
            bound.offered = None
            self.changed.emit()

    # ------------------------------------------------------------------ life

    def _on_ticked(self) -> None:
        """Record what could not be taken, and what nobody tells of."""
        for bound in list(self._bound.values()):
            for watch in bound.watches:
                watch.patrol()
        self.facts.look()
        self.clicked.look()

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        for bound in self._bound.values():
            if (watch := bound.take_away(layer)) is not None:
                QTimer.singleShot(0, partial(self._tell_removed, bound, watch))
        if (gone := self._bound.pop(layer, None)) is not None:
            gone.close()
            self.changed.emit()

    def _tell_removed(self, bound: BoundProject, watch: LayerWatch) -> None:
        if watch in bound.removed:  # the image is still there, and so is the window
            show_info(f"Undo in the docks brings '{watch.layer.name}' back, which was removed.")

    def close(self) -> None:
        """Write what waits and let go of all projects."""
        self._tick.stop()
        self.clicked.look()  # before jobs end, and with them what they would have answered
        self.learned.keep_now()
        self.clicked.keep_now()
        self.facts.look(at_once=True)
        for bound in self._bound.values():
            self._await_project(bound, _LAST_WAIT)
        self._background.close()
        for bound in self._bound.values():
            bound.close()
        self._bound.clear()
        self.is_on = False

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do something on another thread, and call `then` with what came out, or the error."""
        self._background.run(work, then)


def _why_not_fitting(looked: Looked, project: Project) -> str | None:
    if looked.header.fingerprint == project.header.fingerprint:
        return None
    return f"{project.folder.name} belongs to another image; choose a project of this one."


def _clicks(controller: SegmentationController) -> ClickSession | None:
    found: ClickSession | None = controller.findChild(ClickSession)
    return found


def _clicked_image(controller: SegmentationController) -> Image | None:
    clicks = _clicks(controller)
    return None if clicks is None else clicks.scene.image


def project_for(controller: SegmentationController) -> ProjectSession:
    """Return the projects of a viewer's session; they are made at the first call."""
    found = controller.findChild(ProjectSession)
    return found if isinstance(found, ProjectSession) else ProjectSession(controller)
