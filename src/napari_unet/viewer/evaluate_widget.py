"""The Evaluate dock: a prediction beside the truth, in numbers and in colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari.layers
import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QFormLayout
from superqt import QLabeledDoubleSlider

from napari_unet.engine.evaluate import evaluate
from napari_unet.engine.evaluation_pairs import EvaluationPair
from napari_unet.engine.events import EvaluationFinished, ImageEvaluated, Noticed
from napari_unet.engine.files import write_atomically
from napari_unet.engine.score_table import ScoreTable
from napari_unet.ops.errors import InputError
from napari_unet.viewer.error_layer import ErrorLayer, legend
from napari_unet.viewer.form import Dock, RunButton, choice, note
from napari_unet.viewer.lane import JobTicket
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.score_table import ScoreModel, ScoreView

if TYPE_CHECKING:
    import napari

_KINDS = {
    "objects": "instances",
    "classes": "semantic",
    "the inside of cells": "boundary",
}


class EvaluateWidget(Dock):
    """Compare a labels layer with another one that is the truth.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.errors = ErrorLayer(viewer)
        self._prediction: Any = None
        self._truth: Any = None
        self._ticket: JobTicket | None = None
        self._table: ScoreTable | None = None
        self._add_layers_section(viewer)
        self._add_run_section()
        self._add_result_section()
        lane = self.controller.lane
        lane.event.connect(self._on_event)
        lane.finished.connect(self._on_finished)
        lane.failed.connect(self._on_failed)
        for picker in (self.prediction, self.truth):
            picker.pick_first()
        self.refresh()

    # ------------------------------------------------------------------ the page

    def _add_layers_section(self, viewer: Any) -> None:
        self.add_section("1  Layers")
        self.prediction = LayerPicker(
            viewer,
            napari.layers.Labels,
            "The layer that is judged: objects from the Predict dock, or any other labels.",
            self._current_prediction,
            roles=("instances",),
        )
        self.truth = LayerPicker(
            viewer,
            napari.layers.Labels,
            "The layer that is right: every pixel labelled, 0 is background.",
            self._current_truth,
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
        form = QFormLayout()
        for title, field in (
            ("Prediction", self.prediction),
            ("Truth", self.truth),
            ("Labels are", self.kind),
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
        self.message = note("")
        self.rows.addWidget(self.message)

    def _add_result_section(self) -> None:
        self.add_section("3  Result")
        self.legend = note("")
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setToolTip("What the colours of the error layer mean, and how many pixels.")
        self.opacity = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0.0, 1.0)
        self.opacity.setValue(0.7)
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
        if self._ticket is not None:
            return "It is being evaluated."
        if self._truth is None or self._prediction is None:
            return "Two Labels layers are needed: a prediction and the truth."
        if self._truth is self._prediction:
            return "Prediction and truth are the same layer; choose two."
        if (one := self._prediction.data.shape) != (other := self._truth.data.shape):
            return f"The prediction has shape {one}, the truth {other}; they must be the same."
        if len(one) not in (2, 3):
            return f"'{self._truth.name}' has {len(one)} axes; 2 are needed, or 3 for a stack."
        return None

    def _why_not_save(self) -> str | None:
        return "Evaluate first." if self._table is None else None

    # ------------------------------------------------------------------ page to lane

    def _current_prediction(self) -> Any:
        return self._prediction

    def _current_truth(self) -> Any:
        return self._truth

    def _on_prediction_picked(self, layer: Any) -> None:
        self._prediction = layer
        self.refresh()

    def _on_truth_picked(self, layer: Any) -> None:
        self._truth = layer
        self.refresh()

    def _on_evaluate(self) -> None:
        prediction, truth = (np.array(each.data) for each in (self._prediction, self._truth))
        self._compared = (self._prediction.name, self._truth)
        self._map = np.zeros(truth.shape, np.uint8)
        self._table = None
        pairs, kind = _planes(self._prediction.name, prediction, truth), self.kind.currentData()
        self.message.setText("Evaluating ...")
        self._ticket = self.controller.lane.submit(
            lambda stop: evaluate(pairs, kind, stop=stop), name="Evaluating"
        )
        self.refresh()

    def _on_event(self, ticket: JobTicket, event: Any) -> None:
        if ticket is not self._ticket:
            return
        match event:
            case ImageEvaluated():
                target = self._map if self._map.ndim == 2 else self._map[event.done - 1]
                target[...] = event.errors
                self.message.setText(f"Evaluated {event.done} of {event.total}")
            case Noticed():
                self.message.setText(event.message)
            case EvaluationFinished():
                self._table = event.table

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket is self._ticket:
            self._ticket = None
            if self._table is not None:
                self._show_result(self._table)
            self.refresh()

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if ticket is self._ticket:
            self._ticket = None
            self.message.setText(f"Not evaluated: {error}")
            self.refresh()

    # ------------------------------------------------------------------ lane to page

    def _show_result(self, table: ScoreTable) -> None:
        name, truth = self._compared
        self.message.setText(f"{name}, compared with {truth.name}")
        model = ScoreModel(table)
        model.setParent(self.scores)
        self.scores.setModel(model)
        self.scores.resizeColumnsToContents()
        self.legend.setText(legend(self._map))
        self.errors.show(self._map, f"Errors of {name}", truth)

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save scores", "scores.csv", "CSV (*.csv)")
        if path and self._table is not None:
            contents = self._table.to_csv().encode()
            try:
                write_atomically(path, lambda file: file.write(contents))
                self.message.setText(f"Saved {path}")
            except InputError as error:
                self.message.setText(str(error))


def _planes(name: str, prediction: NDArray[Any], truth: NDArray[Any]) -> list[EvaluationPair]:
    """Return the pair, or those of the planes of a stack."""
    if truth.ndim == 2:
        return [EvaluationPair(name, prediction, truth)]
    return [
        EvaluationPair(f"plane {number}", *planes)
        for number, planes in enumerate(zip(prediction, truth, strict=True))
    ]
