"""Save what was found into the OME-Zarr that the image on screen was opened from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from napari.layers import Image
from qtpy.QtWidgets import QInputDialog, QLineEdit, QMessageBox, QWidget

from napari_unet.engine.images.labels_into import CLASSES, check_label_name
from napari_unet.engine.images.omezarr import is_zarr
from napari_unet.ops.errors import InputError
from napari_unet.viewer.actions import Action
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.form import RunButton, action_reason
from napari_unet.viewer.project.places import file_of
from napari_unet.viewer.results import save_as_labels

_TITLE: Final = "Save into the image"


def zarr_of(layer: Image | None) -> Path | None:
    """Return the folder of the OME-Zarr that a layer shows; None if it shows something else."""
    path = None if layer is None else file_of(layer)
    return path if path is not None and is_zarr(path) else None


class SaveIntoImage(RunButton):
    """A button that is there for images in an OME-Zarr: objects and classes become its labels.

    Parameters
    ----------
    controller
        The session.
    """

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__(
            f"{_TITLE} ...",
            "Write objects and classes into the OME-Zarr of the image, as its labels.\n"
            "Nothing else in it is touched.",
            action_reason(controller, Action.SAVE_RESULT),
        )
        self._controller = controller
        self.clicked.connect(self._on_clicked)

    def refresh(self) -> None:
        """Show the button where there is such a folder, and whether it can be pressed."""
        super().refresh()
        self.setVisible(zarr_of(self._controller.layers.image) is not None)

    def _on_clicked(self) -> None:
        path = zarr_of(self._controller.layers.image)
        name = None if path is None else ask_name(self)
        if path is None or name is None:
            return
        replace = any((path / "labels" / each).exists() for each in (name, f"{name}{CLASSES}"))
        if not replace or _may_replace(self, path, name):
            save_as_labels(self._controller, path, name, replace=replace)


def ask_name(parent: QWidget) -> str | None:
    """Ask what the labels are to be called, until it can be used; None if the user leaves."""
    name, question = "objects", "Name of the labels:"
    while True:
        name, is_given = QInputDialog.getText(
            parent, _TITLE, question, QLineEdit.EchoMode.Normal, name
        )
        if not is_given:
            return None
        try:
            return check_label_name(name.strip())
        except InputError as error:
            question = f"{error}."


def _may_replace(parent: QWidget, path: Path, name: str) -> bool:
    yes = QMessageBox.StandardButton.Yes
    answer = QMessageBox.question(
        parent, _TITLE, f"{path.name} has labels '{name}' already. Replace them?"
    )
    return bool(answer == yes)
