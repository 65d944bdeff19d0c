"""Give the network to other programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_unet.engine.events import JobEvent
from napari_unet.engine.exchange.card import ModelCard
from napari_unet.engine.exchange.export import Format
from napari_unet.engine.segmenter import Segmenter
from napari_unet.ops.errors import InputError
from napari_unet.viewer.controller import SegmentationController

#: What a model can be loaded from.
MODEL_FILES = "Models (*.safetensors *.zip *.onnx *.yaml);;All files (*)"
_TARGETS: dict[str, Format] = {
    "bioimage.io package (*.zip)": "bioimageio",
    "ONNX (*.onnx)": "onnx",
}
# Those that sharing sites offer most; any other is given on the command line.
_LICENCES = ("not stated", "CC-BY-4.0", "CC0-1.0", "MIT", "BSD-3-Clause", "Apache-2.0")


def exporting(
    segmenter: Segmenter, path: Path, chosen: Format, card: ModelCard, image: Any
) -> Callable[[threading.Event], Iterator[JobEvent]]:
    """Return what makes the job that exports a session's network.

    Parameters
    ----------
    segmenter
        The session's engine; its network is asked for when the job begins.
    path
        The file.
    chosen
        The format.
    card
        What is told of the model.
    image
        The image whose middle becomes the test input; None draws one.
    """

    def job(stop: threading.Event) -> Iterator[JobEvent]:
        from napari_unet.engine.exchange.export import ExportRequest, export_model

        model = segmenter.model
        shown = None if image is None else np.asarray(image)
        request = ExportRequest(model, path, chosen, shown, card, segmenter.usage)
        yield from export_model(request, stop)

    return job


class ExportDialog(QDialog):
    """Ask what is told of a model to the people who get it.

    Parameters
    ----------
    parent
        The widget over which it opens.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Export model")
        usual = ModelCard()
        self.name = QLineEdit(usual.name)
        self.name.setToolTip("Letters, digits, spaces and _+-(), at least five.")
        self.summary = QPlainTextEdit(usual.summary)
        self.summary.setToolTip("What the model is for, in a sentence or two.")
        self.summary.setFixedHeight(70)
        self.authors = QLineEdit()
        self.authors.setToolTip("Names, with a semicolon between them.")
        self.licence = QComboBox()
        self.licence.addItems(_LICENCES)
        self.licence.setToolTip("Under which terms others may use it.")
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.problem.hide()
        form = QFormLayout()
        form.addRow("Name", self.name)
        form.addRow("Summary", self.summary)
        form.addRow("Authors", self.authors)
        form.addRow("Licence", self.licence)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self._on_accepted)
        buttons.rejected.connect(self.reject)
        rows = QVBoxLayout(self)
        rows.addLayout(form)
        rows.addWidget(self.problem)
        rows.addWidget(buttons)

    def card(self) -> ModelCard:
        """Return what was filled in.

        Raises
        ------
        InputError
            If it cannot be used.
        """
        authors = (author.strip() for author in self.authors.text().split(";"))
        licence = self.licence.currentText()
        return ModelCard(
            name=self.name.text().strip(),
            summary=self.summary.toPlainText().strip(),
            authors=tuple(author for author in authors if author),
            licence="" if licence == _LICENCES[0] else licence,
        )

    def _on_accepted(self) -> None:
        try:
            self.card()
        except InputError as error:
            self.problem.setText(str(error))
            self.problem.show()
        else:
            self.accept()


def ask_and_export(controller: SegmentationController, parent: QWidget) -> None:
    """Ask for a file and what is told of the model, and export the session's network."""
    name, kind = QFileDialog.getSaveFileName(parent, "Export model", "model", ";;".join(_TARGETS))
    if not name:
        return
    dialog = ExportDialog(parent)
    if dialog.exec():
        export_network(controller, Path(name), _TARGETS.get(kind, "bioimageio"), dialog.card())


def export_network(
    controller: SegmentationController, path: Path, chosen: Format, card: ModelCard
) -> None:
    """Export the session's network as a job; what is shown becomes its test image, if it fits."""
    source, kind = controller.layers.source, controller.segmenter.takes
    fits = kind is None or (source and (source.ndim, source.channels) == (kind.ndim, kind.channels))
    image = source.data if source is not None and fits else None
    controller.submit(
        "Exporting the model", exporting(controller.segmenter, path, chosen, card, image)
    )
