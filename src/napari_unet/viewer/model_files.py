"""Save and load the network, or begin with a new one."""

from __future__ import annotations

from qtpy.QtWidgets import QFileDialog, QGridLayout, QMessageBox, QWidget

from napari_unet.viewer.actions import Action
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.exchange import MODEL_FILES, ask_and_export
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
            "Use a network from a file, or learn on from it. A bioimage.io package is\n"
            "chosen by its zip, or by the bioimageio.yaml in its folder; no code in it is run.",
            action_reason(controller, Action.LOAD_MODEL),
        )
        self.new = RunButton(
            "New",
            "Forget what was learned and begin with a new network, for another kind of image.",
            action_reason(controller, Action.NEW_MODEL),
        )
        self.export = RunButton(
            "Export ...",
            "Write the network for other programs, as a bioimage.io package or ONNX.\n"
            "It counts only once the file, opened again, gives the same answer.",
            action_reason(controller, Action.SAVE_MODEL),
        )
        self.export.clicked.connect(self._on_export)
        self.new.clicked.connect(self._on_new)
        self.save.clicked.connect(self._on_save)
        self.load.clicked.connect(self._on_load)
        # The first step makes a model that can be saved or forgotten.
        self._links = Links(self)
        self._links.connect(controller.status.events.step, self._on_step)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for number, button in enumerate((self.save, self.load, self.export, self.new)):
            grid.addWidget(button, *divmod(number, 2))

    def _on_step(self, _step: int) -> None:
        if not self.save.isEnabled():
            self.save.refresh()
            self.export.refresh()
            self.new.refresh()

    def _on_new(self) -> None:
        answer = QMessageBox.question(
            self, "New model", "Forget what was learned? What was not saved is lost."
        )
        if answer == QMessageBox.StandardButton.Yes:
            self._controller.network.begin_anew()

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save model", "model", _MODEL_FILES)
        if path:
            self._controller.network.save(path)

    def _on_export(self) -> None:
        ask_and_export(self._controller, self)

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load model", "", MODEL_FILES)
        if path:
            self._controller.network.load(path)
