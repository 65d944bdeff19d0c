"""Paths in the Train dock: where the images are, and where the model goes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from qtpy.QtCore import QUrl, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.engine.training.run import state_path
from napari_unet.viewer.form import note
from napari_unet.viewer.train.sources import FolderSource

_MODEL_FILES = "U-Net models (*.safetensors)"

#: How a training begins: nothing is in the way, an unfinished one goes on or is forgotten.
Beginning = Literal["new", "go on", "anew"]


class PathField(QWidget):
    """A path to type, paste or drop, and a button to look for it.

    Parameters
    ----------
    placeholder
        Shown while it is empty.
    tooltip
        What the path is for.
    """

    #: Another path was given.
    changed = Signal()

    def __init__(self, placeholder: str, tooltip: str) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setPlaceholderText(placeholder)
        self.line.setToolTip(tooltip)
        self.browse = QPushButton("...")
        self.browse.setToolTip(tooltip)
        self.browse.setMaximumWidth(34)
        self._told = ""
        self.line.editingFinished.connect(self._on_edited)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.line, stretch=1)
        row.addWidget(self.browse)

    def path(self) -> Path | None:
        """Return the path; None while there is none."""
        text = self.line.text().strip()
        if text.startswith("file:"):  # as file managers drop it
            text = QUrl(text).toLocalFile()
        return Path(text).expanduser() if text else None

    def set_path(self, path: Path | str) -> None:
        """Show another path, and tell."""
        self.line.setText(str(path))
        self._on_edited()

    def _on_edited(self) -> None:
        if self.line.text() != self._told:
            self._told = self.line.text()
            self.changed.emit()


class FolderFields(QWidget):
    """The two folders, or files, that hold images and labels."""

    #: Another folder was given.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.images = PathField(
            "folder with images",
            "A folder of images. Or paste the path of a TIFF stack, or of a sequence of the\n"
            "Cell Tracking Challenge (such as 01).",
        )
        self.labels = PathField(
            "folder with labels",
            "A folder of label images with the same names (additions such as _mask do no harm).\n"
            "Or paste the path of a TIFF stack, or of the truth of a sequence (01_GT).",
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for field, title in ((self.images, "Images"), (self.labels, "Labels")):
            layout.addWidget(field)
            field.browse.clicked.connect(lambda _=False, f=field, t=title: self._look_for(f, t))
        self.images.changed.connect(self._on_images)
        self.labels.changed.connect(self.changed)

    def source(self) -> FolderSource | None:
        """Return the two paths; None while one is missing."""
        images, labels = self.images.path(), self.labels.path()
        return None if images is None or labels is None else FolderSource(images, labels)

    def why_not(self) -> str | None:
        """Say what is missing, with the cure; None if nothing is."""
        for field, what in ((self.images, "images"), (self.labels, "labels")):
            if field.path() is None:
                return f"Choose the folder with the {what} first."
        return None

    def _look_for(self, field: PathField, title: str) -> None:
        start = str(field.path() or self.images.path() or "")
        folder = QFileDialog.getExistingDirectory(self, f"Folder: {title.lower()}", start)
        if folder:
            field.set_path(folder)

    def _on_images(self) -> None:
        """Guess the labels from the images' folder, if they are still to be given."""
        images = self.images.path()
        if images is not None and self.labels.path() is None:
            for name in (f"{images.name}_GT", "labels", "masks"):
                if (images.parent / name).is_dir():
                    self.labels.set_path(images.parent / name)
                    return
        self.changed.emit()


class OutputField(PathField):
    """The model file, and what is there already under its name."""

    def __init__(self) -> None:
        super().__init__(
            "such as nuclei.safetensors",
            "Where the model is saved when the training ends; the report gets the same name.",
        )
        self.state = note("")
        self.browse.clicked.connect(self._look_for)
        self.refresh()

    def output(self) -> Path | None:
        """Return the model file; None while there is no name."""
        path = self.path()
        return None if path is None or not path.name else path.with_suffix(".safetensors")

    def refresh(self) -> None:
        """Look again what is there under this name."""
        output = self.output()
        if output is None:
            text = ""
        elif state_path(output).exists():
            text = f"{output.name}: an unfinished training is there, which can go on."
        elif output.exists():
            text = f"{output.name} exists; you will be asked before it is replaced."
        else:
            text = ""
        self.state.setText(text)
        self.state.setVisible(bool(text))

    def ask(self) -> Beginning | None:
        """Ask what is to become of a model or training of this name; None if the user cancels."""
        output = self.output()
        if output is None:
            return None
        if state_path(output).exists():
            return self._ask_to_go_on(output)
        if not output.exists():
            return "new"
        question = f"{output.name} exists in {output.parent}. Replace it and its report?"
        answer = QMessageBox.question(self, "Train", question)
        return "new" if answer == QMessageBox.StandardButton.Yes else None

    def _ask_to_go_on(self, output: Path) -> Beginning | None:
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Train")
        box.setText(f"An unfinished training of {output.name} is there.")
        box.setInformativeText(
            "It can go on with the same images, recipe and share held out. Starting anew forgets "
            "what it learned."
        )
        go_on = box.addButton("Go on", QMessageBox.ButtonRole.AcceptRole)
        anew = box.addButton("Start anew", QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(go_on)
        box.exec()
        if box.clickedButton() is go_on:
            return "go on"
        return "anew" if box.clickedButton() is anew else None

    def _look_for(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self,
            "Save the model as",
            str(self.path() or "model.safetensors"),
            _MODEL_FILES,
            # It is asked when the training begins, where going on is offered, too.
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if path:
            self.set_path(path)
