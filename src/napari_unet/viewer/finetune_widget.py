"""The Fine-tune dock: choose an image, paint a few strokes, learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari.layers
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
)

from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.viewer.actions import Action
from napari_unet.viewer.annotated_table import AnnotatedTable
from napari_unet.viewer.correction_panel import CorrectionPanel
from napari_unet.viewer.curve import CurvePlot
from napari_unet.viewer.form import Dock, RunButton, action_reason, folded, note
from napari_unet.viewer.guidance_panel import GuidancePanel
from napari_unet.viewer.job_panel import JobPanel
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.learning_notes import ScoreNote, SetupNote
from napari_unet.viewer.learning_options import LearningOptions
from napari_unet.viewer.model_files import ModelFiles
from napari_unet.viewer.paint_panel import PaintPanel
from napari_unet.viewer.project.strip import ProjectStrip
from napari_unet.viewer.session_layers import unwrap
from napari_unet.viewer.shortcuts import bind_keys, key_table
from napari_unet.viewer.status import Phase

if TYPE_CHECKING:
    import napari

#: What can be chosen as budget, and the seconds of it; None learns until it is stopped.
BUDGETS: dict[str, float | None] = {
    "10 seconds": 10.0,
    "1 minute": 60.0,
    "5 minutes": 300.0,
    "until I stop": None,
}


class FinetuneWidget(Dock):
    """Paint and learn.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        viewer = unwrap(viewer)
        self._add_image_section(viewer)
        self._add_paint_section(viewer)
        self._add_learn_section(viewer)
        self._add_guidance_section()
        self._add_folded_parts()
        self.rows.addStretch()
        bind_keys(
            viewer,
            self.learn_or_stop,
            self.controller.predict,
            self.controller.guidance.next,
            self.controller.corrections.accept_view,
            self.controller.corrections.undo_learning,
            self.paint.draw_borders,
            self.paint.paint_class,
        )
        if self.controller.layers.image is None:
            self.image.pick_first()
        self.refresh()

    # ------------------------------------------------------------------ the page

    def _add_image_section(self, viewer: Any) -> None:
        self.add_section("1  Image")
        self.image = LayerPicker(
            viewer,
            napari.layers.Image,
            "The image to segment: one plane, grey or RGB.",
            self._current_image,
        )
        self.image.picked.connect(self.controller.layers.set_image)
        self.description = note("")
        self.rows.addWidget(self.image)
        self.rows.addWidget(self.description)
        self.rows.addWidget(ProjectStrip(self.controller))

    def _add_paint_section(self, viewer: Any) -> None:
        self.add_section("2  Paint a few strokes")
        self.paint = PaintPanel(viewer, self.controller)
        self.rows.addWidget(self.paint)

    def _add_learn_section(self, viewer: Any) -> None:
        self.add_section("3  Learn")
        self.budget = QComboBox()
        self.budget.addItems(list(BUDGETS))
        self.budget.setCurrentText("1 minute")
        self.budget.setToolTip(
            "How long to learn. You can paint on while it learns; new strokes are taken in."
        )
        row = QHBoxLayout()
        row.addWidget(QLabel("For"))
        row.addWidget(self.budget, stretch=1)
        self.rows.addLayout(row)
        controller = self.controller
        self.learn = RunButton(
            "Learn",
            "Learn from your strokes; the prediction appears over the image (Shift+L).",
            action_reason(controller, Action.LEARN),
        )
        self.learn.setObjectName("main")
        self.learn.clicked.connect(self._on_learn)
        self.add_run_button(self.learn)
        self.pause = RunButton(
            "Pause",
            "Hold the learning after this step, or go on with it.",
            action_reason(controller, Action.PAUSE),
        )
        self.pause.clicked.connect(self._on_pause)
        self.stop = RunButton(
            "Stop",
            "End after this step; what was learned is kept (Shift+L).",
            action_reason(controller, Action.STOP),
        )
        self.stop.clicked.connect(controller.stop)
        row = QHBoxLayout()
        row.addWidget(self.pause)
        row.addWidget(self.stop)
        self.rows.addLayout(row)
        self.panel = JobPanel(controller.status)
        self.curve = CurvePlot(controller.history, viewer.theme)
        self.score = ScoreNote(controller.status, self)
        self.setup = SetupNote(controller.status, self)
        for part in (self.panel, self.curve, self.score, self.setup):
            self.rows.addWidget(part)
        self.annotated = AnnotatedTable(controller.layers)
        self.rows.addWidget(self.annotated)

    def _add_guidance_section(self) -> None:
        self.add_section("4  Correct")
        self.guidance = GuidancePanel(self.controller.guidance, self.controller.layers)
        self.rows.addWidget(self.guidance)
        self.corrections = CorrectionPanel(self.controller, self.paint.draw_borders)
        self.rows.addWidget(self.corrections)

    def _add_folded_parts(self) -> None:
        self.options = LearningOptions(self.controller.segmenter.config)
        self.options.changed.connect(self._on_options)
        status = self.controller.status
        self.links.connect(status.events.setup, self.options.show_setup)
        self.options.show_setup(status.setup)
        self.rows.addWidget(folded("Advanced", "How it learns.", self.options))
        self.model_files = ModelFiles(self.controller)
        self.rows.addWidget(self.model_files)
        self.rows.addWidget(folded("Keys", "What the keyboard does.", QLabel(key_table())))

    # ------------------------------------------------------------------ session to page

    def refresh(self) -> None:
        """Show the session as it is: buttons, reasons, layers, classes."""
        super().refresh()
        controller = self.controller
        self.description.setText(controller.layers.describe())
        self.paint.refresh()
        self.corrections.refresh()
        self.pause.setText("Resume" if controller.status.phase is Phase.PAUSED else "Pause")

    def set_theme(self, theme: str) -> None:
        """Take the colours of a napari theme, by its id."""
        super().set_theme(theme)
        if hasattr(self, "curve"):
            self.curve.set_theme(theme)

    def _current_image(self) -> Any:
        return self.controller.layers.image

    # ------------------------------------------------------------------ page to session

    def learn_or_stop(self) -> None:
        """Learn with the chosen budget, or stop if it is learning."""
        if self.controller.is_learning:
            self.controller.stop()
        else:
            self._on_learn()

    def _on_learn(self) -> None:
        self.controller.learn(BUDGETS[self.budget.currentText()])

    def _on_pause(self) -> None:
        if self.controller.status.phase is Phase.PAUSED:
            self.controller.resume()
        else:
            self.controller.pause()

    def _on_options(self, config: FinetuneConfig) -> None:
        self.controller.segmenter.config = config
