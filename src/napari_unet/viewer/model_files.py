"""Save and load the network, or begin with a new one."""

from __future__ import annotations

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMessageBox, QWidget

from napari_unet.viewer.actions import Action
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.form import RunButton, action_reason
from napari_unet.viewer.links import Links

_MODEL_FILES = "U-Net models (*.safetensors)"


class ModelFiles(QWidget):
    """Buttons for the network: to a file, from a file, a new one.

    Parameters
    ----------
    controller
        The session whose network it is.
    """

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__()
        self._controller = controller
        self.save = RunButton(
            "Save model ...",
            "Write the network to a file, to use it on other images.",
            action_reason(controller, Action.SAVE_MODEL),
        )
        self.load = RunButton(
            "Load model ...",
            "Use a network from a file, or learn on from it.",
            action_reason(controller, Action.LOAD_MODEL),
        )
        self.new = RunButton(
            "New",
            "Forget what was learned and begin with a new network, for another kind of image.",
            action_reason(controller, Action.NEW_MODEL),
        )
        self.new.clicked.connect(self._on_new)
        self.save.clicked.connect(self._on_save)
        self.load.clicked.connect(self._on_load)
        # The first step makes a model that can be saved or forgotten.
        self._links = Links(self)
        self._links.connect(controller.status.events.step, self._on_step)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.save)
        row.addWidget(self.load)
        row.addWidget(self.new)

    def _on_step(self, _step: int) -> None:
        if not self.save.isEnabled():
            self.save.refresh()
            self.new.refresh()

    def _on_new(self) -> None:
        answer = QMessageBox.question(
            self, "New model", "Forget what was learned? What was not saved is lost."
        )
        if answer == QMessageBox.StandardButton.Yes:
            self._controller.new_model()

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save model", "model", _MODEL_FILES)
        if path:
            self._controller.save_model(path)

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load model", "", _MODEL_FILES)
        if path:
            self._controller.load_model(path)
