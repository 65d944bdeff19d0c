"""The lines of a dock that say where the work is saved, and lead back to earlier work."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_unet.viewer.form import Hint, RunButton, note
from napari_unet.viewer.project.session import ProjectSession, project_for

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

# Characters of a path that are shown; all of it is in the tooltip.
_LONGEST = 60


class ProjectStrip(QWidget):
    """Says where the work on an image is saved; offers to go on with earlier work.

    Parameters
    ----------
    controller
        The session.
    """

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__()
        projects = project_for(controller)
        self._projects = weakref.ref(projects)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        self._add_offer(rows)
        self._add_switch(rows)
        self._add_steps(rows, projects)
        projects.changed.connect(self.refresh)
        controller.changed.connect(self.refresh)
        self.refresh()

    def _add_offer(self, rows: QVBoxLayout) -> None:
        self.notice = note("")
        self.go_on = QPushButton("Go on where you were")
        self.go_on.setToolTip(
            "Bring back strokes, objects, accepted views, the network, settings and the view."
        )
        self.go_on.clicked.connect(self._on_go_on)
        self.decline = QPushButton("Begin anew")
        self.decline.setToolTip("Leave the earlier work where it is and begin a new project.")
        self.decline.clicked.connect(self._on_decline)
        self.offer = QWidget()
        row = QHBoxLayout()
        row.addWidget(self.go_on, stretch=1)
        row.addWidget(self.decline)
        column = QVBoxLayout(self.offer)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.notice)
        column.addLayout(row)
        rows.addWidget(self.offer)

    def _add_switch(self, rows: QVBoxLayout) -> None:
        self.switch = QCheckBox("Save every stroke")
        self.switch.setToolTip(
            "Write strokes, objects, accepted views and what was learned to a project at once, so "
            "that nothing is lost. Opening the image again offers to go on."
        )
        self.switch.toggled.connect(self._on_switched)
        self.open = QPushButton("Open ...")
        self.open.setToolTip("Go on with a project of this image that lies somewhere else.")
        self.open.clicked.connect(self._on_open)
        row = QHBoxLayout()
        row.addWidget(self.switch, stretch=1)
        row.addWidget(self.open)
        self.where = Hint()
        rows.addLayout(row)
        rows.addWidget(self.where)

    def _add_steps(self, rows: QVBoxLayout, projects: ProjectSession) -> None:
        steps = projects.steps
        self.undo = RunButton(
            "Undo",
            "Take the latest step back, whatever it was: a stroke, an object, an accepted view, a "
            "round of learning. It reaches back to the beginning, also after reopening.",
            _asks(projects, "why_not_undo"),
        )
        self.redo = RunButton(
            "Redo", "Make the step again that was taken back.", _asks(projects, "why_not_redo")
        )
        self.undo.clicked.connect(steps.undo)
        self.redo.clicked.connect(steps.redo)
        row = QHBoxLayout()
        row.addWidget(self.undo)
        row.addWidget(self.redo)
        rows.addLayout(row)

    # ------------------------------------------------------------------ session to page

    def refresh(self) -> None:
        """Show the project as it is."""
        projects = self._projects()
        if projects is None:
            return
        bound = projects.bound
        offered = None if bound is None else bound.offered
        self.offer.setVisible(offered is not None)
        if offered is not None:
            self.notice.setText("There is earlier work on this image.")
            self.notice.setToolTip(str(offered))
        self.switch.blockSignals(True)
        self.switch.setChecked(projects.is_on)
        self.switch.blockSignals(False)
        self.open.setEnabled(bound is not None and bound.looked is not None)
        self.where.setText(describe(projects))
        if bound is not None and bound.project is not None:
            self.where.setToolTip(str(bound.project.folder))
        self.undo.refresh()
        self.redo.refresh()

    # ------------------------------------------------------------------ page to session

    def _on_go_on(self) -> None:
        if (projects := self._projects()) is not None:
            projects.go_on()

    def _on_decline(self) -> None:
        if (projects := self._projects()) is not None:
            projects.decline()

    def _on_switched(self, wanted: bool) -> None:
        if (projects := self._projects()) is not None:
            projects.set_on(wanted)

    def _on_open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open the project of this image")
        if folder and (projects := self._projects()) is not None:
            projects.go_on(Path(folder))


def describe(projects: ProjectSession) -> str:
    """Say in a line where the work is saved, or why it is not."""
    bound = projects.bound
    if not projects.is_on:
        return "Nothing is saved; what you paint is gone when the window closes."
    if bound is None:
        return ""
    if bound.project is not None:
        status = bound.project.status
        if status.problem is not None:
            return f"Not saved: {status.problem}. {_cure(bound.project.read_only)}"
        waiting = f", {status.waiting} being written" if status.waiting > 1 else ""
        steps = len(bound.project.facts.history.undo)
        counted = "1 step" if steps == 1 else f"{steps} steps"
        return f"Saved in {_short(bound.project.folder)} ({counted}{waiting})"
    if bound.problem is not None:
        return f"Not saved: {bound.problem}."
    if bound.looked is None:
        return "Looking for earlier work ..."
    return f"The first stroke begins a project in {_short(bound.looked.parent)}"


def _cure(read_only: str | None) -> str:
    if read_only is not None:
        return "You can look at it; close the other window to go on here."
    return "It is tried again; make room or bring the folder back. Keep the window open."


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= _LONGEST else f"...{text[3 - _LONGEST :]}"


def _asks(projects: ProjectSession, question: str) -> Any:
    reference = weakref.ref(projects)

    def ask() -> str | None:
        found = reference()
        return None if found is None else getattr(found.steps, question)()

    return ask
