"""The Click dock: one click, one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari.layers
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel

from napari_unet.viewer.clicking.current import CurrentObject
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.clicking.tool import ClickTool, click_key_table
from napari_unet.viewer.form import Dock, Hint, QuietBar, RunButton, folded, note
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.project.strip import ProjectStrip

if TYPE_CHECKING:
    import napari


class ClickWidget(Dock):
    """Outline objects by clicks.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.session = click_session_for(self.controller)
        self.tool = self.session.findChild(ClickTool) or ClickTool(self.session)
        self._add_layers_section(viewer)
        self._add_click_section()
        self._add_others_section()
        self._add_stack_section()
        self._add_learning_section()
        keys = QLabel(click_key_table())
        keys.setWordWrap(True)
        self.rows.addWidget(folded("Mouse and keys", "What mouse and keyboard do.", keys))
        self.rows.addStretch()
        self.session.changed.connect(self.refresh)
        self.tool.toggled.connect(self._show_tool)
        if self.session.scene.image is None:
            self.image.pick_first()
        self.refresh()

    # ------------------------------------------------------------------ the page

    def _add_layers_section(self, viewer: Any) -> None:
        self.add_section("1  Image")
        self.image = LayerPicker(
            viewer,
            napari.layers.Image,
            "The image to click on: grey or RGB, a plane, a stack or a pyramid.",
            self._current_image,
        )
        self.image.picked.connect(self.session.scene.set_image)
        self.objects = LayerPicker(
            viewer,
            napari.layers.Labels,
            "Where finished objects are kept; with none, a new layer is added at the first click.",
            self._current_objects,
            none="(a new layer of objects)",
            roles=("instances",),
        )
        self.objects.picked.connect(self.session.scene.set_objects)
        self.rows.addWidget(self.image)
        self.rows.addWidget(self.objects)
        self.rows.addWidget(ProjectStrip(self.controller))

    def _add_click_section(self) -> None:
        session = self.session
        self.add_section("2  Click on objects")
        self.click = RunButton(
            "Click objects",
            "Click on an object to outline it (paler until the outline is final), Shift or right "
            "click where it is not, Enter to finish it. Press again to let the mouse go.",
            session.scene.why_not_click,
        )
        self.click.setObjectName("main")
        self.click.setCheckable(True)
        self.click.clicked.connect(self._on_click_wanted)
        self.add_run_button(self.click)
        self.hint = Hint()
        self.rows.addWidget(self.hint)
        self.commit = RunButton("Finish", "Keep the object (Enter or C).", self._why_not_current)
        self.commit.clicked.connect(session.hand.commit)
        self.back = RunButton("Back", "Take back the last click (Z).", self._why_not_current)
        self.back.clicked.connect(session.hand.take_back)
        self.drop = RunButton("Drop", "Forget this object (Esc).", self._why_not_current)
        self.drop.clicked.connect(session.hand.drop)
        row = QHBoxLayout()
        for button in (self.commit, self.back, self.drop):
            row.addWidget(button)
        self.rows.addLayout(row)
        self.preserve = QCheckBox("Finished objects keep their pixels")
        self.preserve.setToolTip("Off: where a new object overlaps a finished one, it takes over.")
        self.preserve.setChecked(session.hand.preserve)
        self.preserve.toggled.connect(self._on_preserve)
        self.rows.addWidget(self.preserve)

    def _add_others_section(self) -> None:
        session = self.session
        self.add_section("3  All the others")
        self.propose = RunButton(
            "Segment all like these",
            "Look for objects like the finished ones on this plane, and propose them. Click on a "
            "proposal to accept it, right click to reject it, N to see the next.",
            session.proposing.why_not,
        )
        self.propose.clicked.connect(session.propose)
        self.add_run_button(self.propose)
        self.bar = QuietBar()
        self.bar.setToolTip("How many places were looked at.")
        self.stop = RunButton("Stop", "End now; what was found stays.", self._why_not_stop)
        self.stop.clicked.connect(session.stop)
        row = QHBoxLayout()
        row.addWidget(self.bar, stretch=1)
        row.addWidget(self.stop)
        self.rows.addLayout(row)
        self.proposed = note("")
        self.rows.addWidget(self.proposed)
        self.accept = RunButton(
            "Accept all", "Make all proposals finished objects.", self._why_no_proposals
        )
        self.accept.clicked.connect(session.proposing.accept_all)
        self.next = RunButton(
            "Next", "Move the view to the next proposal (N).", self._why_no_proposals
        )
        self.next.clicked.connect(session.go_on)
        self.reject = RunButton("Reject all", "Forget all proposals.", self._why_no_proposals)
        self.reject.clicked.connect(session.proposing.reject_all)
        row = QHBoxLayout()
        for button in (self.accept, self.next, self.reject):
            row.addWidget(button)
        self.rows.addLayout(row)

    def _add_stack_section(self) -> None:
        self.follow = RunButton(
            "Follow through the stack",
            "Outline this object on the planes above and below until it ends. Go to any plane and "
            "click to correct it there; Enter finishes all planes.",
            self.session.following.why_not,
        )
        self.follow.clicked.connect(self.session.following.begin)
        self.add_run_button(self.follow)

    def _add_learning_section(self) -> None:
        learning = self.session.learning
        self.add_section("4  It learns")
        self.learns = QCheckBox("Finished objects improve the next clicks")
        self.learns.setToolTip(
            "After 5 objects, 10, 20 ... what is like them is looked for in the background, and "
            "the click network is adapted to them."
        )
        self.learns.setChecked(learning.learns)
        self.learns.toggled.connect(self._on_learns)
        self.teaches = QCheckBox("Finished objects teach the U-Net")
        self.teaches.setToolTip(
            "Fine-tuning learns from them as from strokes: class 2, and a thin ring of background."
        )
        self.teaches.setChecked(learning.teaches)
        self.teaches.toggled.connect(learning.set_teaches)
        self.adapted = note("")
        self.forget = RunButton(
            "Forget", "Answer as before anything was learned here.", learning.why_not_forget
        )
        self.forget.clicked.connect(learning.forget)
        for part in (self.learns, self.teaches, self.adapted, self.forget):
            self.rows.addWidget(part)

    # ------------------------------------------------------------------ session to page

    def refresh(self) -> None:
        """Show the session as it is."""
        super().refresh()
        session = self.session
        busy = session.is_busy
        done, total = session.proposing.progress or (0, 0)
        self.bar.setVisible(busy)
        self.stop.setVisible(busy)
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        count = len(session.proposing.outlines)
        self.proposed.setText(f"{count} proposed; click one to accept it, right click to reject it")
        for part in (self.proposed, self.accept, self.next, self.reject):
            part.setVisible(count > 0)
        self.adapted.setText(session.learning.told)
        for part in (self.adapted, self.forget):
            part.setVisible(session.learning.adapted is not None)
        self._show_tool()

    def _show_tool(self, _on: bool = False) -> None:
        on = self.tool.is_on
        self.click.setChecked(on)
        current = self.session.hand.current
        if not on:
            reason = self.session.scene.why_not_click()
            text = "" if reason else "Press the button, then click on an object in the image."
        elif current is None:
            text = "Click on an object in the image."
        elif current.label is not None:
            text = f"Object {current.label}, taken up again: click to correct it, Enter to finish."
        else:
            text = _planes_of(current) or (
                "Click for more of it, Shift+click where it is not, Enter to finish."
            )
        self.hint.setText(text)

    def _current_image(self) -> Any:
        return self.session.scene.image

    def _current_objects(self) -> Any:
        objects = self.session.scene.objects
        return None if objects is None else objects.layer

    def _why_not_current(self) -> str | None:
        return None if self.session.hand.current is not None else "Click on an object first."

    def _why_no_proposals(self) -> str | None:
        return None if self.session.proposing.outlines else "There are no proposals."

    def _why_not_stop(self) -> str | None:
        return None if self.session.is_busy else "Nothing is running."

    # ------------------------------------------------------------------ page to session

    def _on_click_wanted(self, wanted: bool) -> None:
        if wanted:
            self.tool.turn_on()
        else:
            self.tool.turn_off()
        self._show_tool()

    def _on_preserve(self, preserve: bool) -> None:
        self.session.hand.preserve = preserve

    def _on_learns(self, learns: bool) -> None:
        self.session.learning.learns = learns


def _planes_of(current: CurrentObject) -> str | None:
    """Say on which planes of a stack an object is outlined; None if on one alone."""
    found = sorted(
        index[-1] for index, part in current.parts().items() if index and part.mask.any()
    )
    if len(found) < 2:
        return None
    return (
        f"Outlined on {len(found)} planes, {found[0] + 1} to {found[-1] + 1}. Look through them; "
        "click and Shift+click correct one, Enter finishes all."
    )
