"""Undo and redo through everything that a project holds, at any depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning

from napari_unet.engine.journal import (
    AcceptanceChanged,
    Accepted,
    Change,
    Entry,
    JournalError,
    ModelChanged,
    Painted,
    Project,
)
from napari_unet.viewer.project.bound import BoundProject
from napari_unet.viewer.project.restore import show_accepted, show_again
from napari_unet.viewer.project.watch import LayerWatch

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController
    from napari_unet.viewer.project.session import ProjectSession


class Steps:
    """Takes steps back and makes them again.

    Parameters
    ----------
    projects, controller
        Whose.
    """

    def __init__(self, projects: ProjectSession, controller: SegmentationController) -> None:
        self._projects = projects

    def why_not_undo(self) -> str | None:
        """Say why nothing can be taken back, with the cure; None if something can."""
        return self._why_not("undo", "Nothing was done on this image yet.")

    def why_not_redo(self) -> str | None:
        """Say why nothing can be made again, with the cure; None if something can."""
        return self._why_not("redo", "Nothing was taken back.")

    def _why_not(self, which: str, nothing: str) -> str | None:
        controller, project = self._projects.controller, self._projects.project
        if project is None or controller is None:
            return "Nothing is saved of this image, so there is nothing to go back to."
        if controller.is_learning:
            return "It is learning; press Stop first."
        return None if getattr(project.facts.history, which) else nothing

    def undo(self) -> None:
        """Take the latest step back: a stroke, an object, an accepted view, a round."""
        bound, project = self._projects.bound, self._projects.project
        _catch_up(bound)
        if self.why_not_undo() is not None or bound is None or project is None:
            return
        try:
            step = project.next_undo()
        except JournalError as error:
            show_warning(str(error))
            return
        if self._bring_back(bound, step[-1]):
            return
        if (watch := _watch(bound, step[-1])) is not None and watch.latest == step[-1].number:
            watch.layer.undo()  # so that napari's own history stays in step
            watch.look()
        else:
            for entry in step:
                self._apply(bound, project.inverse_of(entry), undoes=entry.number)
        self._projects.changed.emit()

    def redo(self) -> None:
        """Make the step again that was taken back last."""
        bound, project = self._projects.bound, self._projects.project
        _catch_up(bound)
        if self.why_not_redo() is not None or bound is None or project is None:
            return
        try:
            step = project.next_redo()
        except JournalError as error:
            show_warning(str(error))
            return
        if self._bring_back(bound, step[0]):
            return
        if (watch := _watch(bound, step[0])) is not None and (
            watch.latest_undone == step[0].number
        ):
            watch.layer.redo()
            watch.look()
        else:
            for entry in step:
                self._apply(bound, project.again(entry), redoes=entry.number)
        self._projects.changed.emit()

    def _apply(self, bound: BoundProject, change: Change, undoes: int = 0, redoes: int = 0) -> None:
        project, controller = bound.project, self._projects.controller
        if project is None or controller is None:
            return
        if isinstance(change, Painted):
            watch = bound.watch_named(change.layer)
            if watch is not None and watch.fits:
                watch.write(change.boxes, undoes, redoes)
            else:  # its layer was closed; the project still knows it
                project.append(change, undoes=undoes, redoes=redoes)
        elif isinstance(change, ModelChanged):
            self._projects.learned.load(
                bound,
                change.after,
                lambda: project.append(change, undoes=undoes, redoes=redoes),
            )
        elif isinstance(change, AcceptanceChanged | Accepted):
            project.append(change, undoes=undoes, redoes=redoes)
            show_accepted(controller, bound, project.facts)
            self._projects.facts.forget()
            controller.changed.emit()

    def _bring_back(self, bound: BoundProject, entry: Entry) -> bool:
        """Show the layer again that a step was made in, if it was removed; whether it was."""
        controller, change = self._projects.controller, entry.change
        if controller is None or not isinstance(change, Painted):
            return False
        removed = next((each for each in bound.removed if each.name == change.layer), None)
        if removed is None:
            return False
        bound.take_back(removed)
        show_again(controller, bound, removed)
        self._projects.changed.emit()
        return True

    def latest_round(self, project: Project) -> int:
        """Return the number of the latest round of learning that can be taken back; 0 if none."""
        for number in reversed(project.facts.history.undo):
            try:
                if isinstance(project.entry(number).change, ModelChanged):
                    return number
            except JournalError:
                break
        return 0


def _catch_up(bound: BoundProject | None) -> None:
    for watch in [] if bound is None else bound.watches:
        watch.catch_up()


def _watch(bound: BoundProject, entry: Entry) -> LayerWatch | None:
    change = entry.change
    return bound.watch_named(change.layer) if isinstance(change, Painted) else None
