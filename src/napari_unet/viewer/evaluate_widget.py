"""The Evaluate dock: a prediction beside the truth, in numbers and in colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QFormLayout
from superqt import QLabeledDoubleSlider

from napari_unet.engine.files import write_atomically
from napari_unet.ops.errors import InputError
from napari_unet.viewer.background_panel import BackgroundPanel
from napari_unet.viewer.comparison import (
    ComparedPicker,
    comparison_of,
    kind_of,
    why_no_threshold,
    why_not_comparable,
)
from napari_unet.viewer.error_layer import ErrorLayer, legend, place_of
from napari_unet.viewer.evaluation import Evaluation
from napari_unet.viewer.form import Dock, RunButton, choice, note
from napari_unet.viewer.score_table import ScoreModel, ScoreView
from napari_unet.viewer.session_layers import unwrap

if TYPE_CHECKING:
    import napari

_KINDS = {"objects": "instances", "classes": "semantic", "the inside of cells": "boundary"}
_BEST = -0.01  # below every probability


class EvaluateWidget(Dock):
    """Compare a layer with another one that is the truth.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.errors = ErrorLayer(viewer)
        self.evaluation = Evaluation(unwrap(viewer), self.controller)
        self.destroyed.connect(self.evaluation.close)
        self.destroyed.connect(self.evaluation.deleteLater)
        self._prediction: Any = None
        self._truth: Any = None
        self._place: dict[str, Any] = {}
        self._compared: list[tuple[Any, str]] = []
        self._add_layers_section(viewer)
        self._add_run_section()
        self._add_result_section()
        self.evaluation.changed.connect(self.refresh)
        self.evaluation.finished.connect(self._show_result)
        self.links.connect(unwrap(viewer).layers.events.inserted, self._on_layer_added)
        self._on_layer_added()
        self.refresh()

    # ------------------------------------------------------------------ the page

    def _add_layers_section(self, viewer: Any) -> None:
        self.add_section("1  Layers")
        self.prediction = ComparedPicker(
            viewer,
            "The layer that is judged: objects or classes from the Predict dock, other labels,\n"
            "or probabilities from 0 to 1.",
            lambda: self._prediction,
            results=True,
        )
        self.truth = ComparedPicker(
            viewer,
            "The layer that is right: every pixel labelled, 0 is background. Of strokes, only\n"
            "what is painted counts.",
            lambda: self._truth,
            results=False,
        )
        self.prediction.picked.connect(self._on_prediction_picked)
        self.truth.picked.connect(self._on_truth_picked)
        self.kind = choice(
            _KINDS,
            "Objects: every label is one object.\n"
            "Classes: a label is a class.\n"
            "The inside of cells: what is not 0; its connected regions are compared, as in the\n"
            "EM segmentation challenge.",
        )
        self.kind.currentIndexChanged.connect(self.refresh)
        self.threshold = QDoubleSpinBox()
        self.threshold.setRange(_BEST, 1.0)
        self.threshold.setSingleStep(0.05)
        self.threshold.setSpecialValueText("the best")
        self.threshold.setValue(_BEST)
        form = QFormLayout()
        for title, field in (
            ("Prediction", self.prediction),
            ("Truth", self.truth),
            ("Labels are", self.kind),
            ("Threshold", self.threshold),
        ):
            form.addRow(title, field)
        self.rows.addLayout(form)

    def _add_run_section(self) -> None:
        self.add_section("2  Compare")
        self.run = RunButton(
            "Evaluate",
            "Compute every measure that applies, and show what is wrong in a layer.",
            self._why_not_evaluate,
        )
        self.run.setObjectName("main")
        self.run.clicked.connect(self._on_evaluate)
        self.add_run_button(self.run)
        self.progress = BackgroundPanel(
            self.evaluation,
            "End after the image in progress; what was compared by then is shown.",
            "How much of the comparison is done.",
            "Nothing is being evaluated.",
        )
        self.rows.addWidget(self.progress)

    def _add_result_section(self) -> None:
        self.add_section("3  Result")
        self.legend = note("")
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setToolTip("What the colours of the error layer mean, and how many are wrong.")
        self.opacity = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0.0, 1.0)
        self.opacity.setValue(self.errors.opacity)
        self.opacity.setToolTip("How much the error layer covers what is below it.")
        self.opacity.valueChanged.connect(self.errors.set_opacity)
        self.scores = ScoreView()
        self.save = RunButton("Save CSV ...", "Write the table to a file.", self._why_not_save)
        self.save.clicked.connect(self._on_save)
        for part in (self.legend, self.opacity):
            self.rows.addWidget(part)
        self.rows.addWidget(self.scores, stretch=1)
        self.add_run_button(self.save)

    # ------------------------------------------------------------------ reasons

    def _why_not_evaluate(self) -> str | None:
        if self.evaluation.is_running:
            return "It is being evaluated."
        return why_not_comparable(
            self._prediction,
            self._truth,
            self.kind.currentData(),
            self.controller.layers.annotations,
        )

    def _why_not_save(self) -> str | None:
        return "Evaluate first." if self.evaluation.table is None else None

    # ------------------------------------------------------------------ page to evaluation

    def _on_layer_added(self, _event: Any = None) -> None:
        """Choose layers as long as the user cannot have chosen two."""
        if self._prediction is None:
            self.prediction.pick_other(None)
        if self._truth is None or self._truth is self._prediction:
            self.truth.pick_other(self._prediction)

    def _on_prediction_picked(self, layer: Any) -> None:
        before, self._prediction = self._prediction, unwrap(layer)
        if self._prediction is self._truth and before is not None:
            self._truth = before  # the two change places
        if self._prediction is not before and (kind := kind_of(self._prediction)) is not None:
            self.kind.setCurrentIndex(self.kind.findData(kind))
        self.refresh()

    def _on_truth_picked(self, layer: Any) -> None:
        before, self._truth = self._truth, unwrap(layer)
        swapped = self._truth is self._prediction and before is not None
        if swapped and before in self.prediction.combo.choices:
            self._prediction = before
        self.refresh()

    def _on_evaluate(self) -> None:
        chosen = self.threshold.value()
        threshold = chosen if self.threshold.isEnabled() and chosen >= 0 else None
        self.scores.setModel(None)
        self.legend.setText("")
        self._place = place_of(self._truth)
        self._compared = [(each, f"'{each.name}'") for each in (self._prediction, self._truth)]
        self.evaluation.start(
            comparison_of(
                self._prediction,
                self._truth,
                self.kind.currentData(),
                threshold,
                self.controller.layers.annotations,
            )
        )

    def _layers(self) -> Any:
        viewer = self.controller.viewer
        return [] if viewer is None else viewer.layers

    # ------------------------------------------------------------------ evaluation to page

    def refresh(self) -> None:
        """Show what can be done, and how far it is."""
        super().refresh()
        reason = why_no_threshold(self._prediction, self.kind.currentData())
        self.threshold.setEnabled(reason is None)
        self.threshold.setToolTip(
            reason or "Probability from which a pixel is inside a cell; 'the best' tries them all."
        )
        self.progress.refresh()

    def _show_result(self) -> None:
        table, comparison = self.evaluation.table, self.evaluation.comparison
        if table is None or comparison is None:
            return
        model = ScoreModel(table)
        model.setParent(self.scores)
        self.scores.setModel(model)
        self.scores.resizeColumnsToContents()
        gone = [name for layer, name in self._compared if layer not in self._layers()]
        if gone:
            self.evaluation.message += f"; {' and '.join(gone)} removed meanwhile, judged as before"
        self.legend.setText(legend(self.evaluation.errors, table))
        self.errors.show(self.evaluation.errors, f"Errors of {comparison.name}", self._place)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save scores", "scores.csv", "CSV (*.csv)")
        if path and (table := self.evaluation.table) is not None:
            contents = table.to_csv().encode()
            try:
                write_atomically(path, lambda file: file.write(contents))
                self.evaluation.message = f"Saved {path}"
            except InputError as error:
                self.evaluation.message = str(error)
            self.refresh()
