"""The docks as napari opens them: at once, and filled as soon as torch is loaded.

Loading torch takes longer than everything else together. Here it is loaded on a thread, and with it
all that the dock needs, while the dock is to be seen and says what it waits for. So this file
imports neither torch nor anything that does.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any, ClassVar

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

_WAITING = "Loading PyTorch, which takes a moment when it is first used ..."


class LateDock(QWidget):
    """A dock that is filled when what it needs was imported.

    Parameters
    ----------
    napari_viewer
        The viewer; napari knows the parameter by its name.

    Attributes
    ----------
    module, widget
        Where the widget that fills it is found. Subclasses say so.
    inner
        That widget; None until it is there.
    """

    module: ClassVar[str]
    widget: ClassVar[str]

    #: The dock is filled, or says why it cannot be.
    ready = Signal()
    _imported = Signal(str)

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.inner: QWidget | None = None
        self._viewer = napari_viewer
        self._thread: threading.Thread | None = None
        self._message = QLabel(_WAITING, wordWrap=True, alignment=Qt.AlignmentFlag.AlignCenter)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        if self._is_imported():
            self._fill()
            return
        # No bar that moves: drawing it takes the interpreter from what imports.
        layout.addWidget(self._message)
        self._imported.connect(self._on_imported, Qt.ConnectionType.QueuedConnection)

    def showEvent(self, event: QShowEvent) -> None:
        """Begin to import once this was drawn: importing leaves the window little time."""
        super().showEvent(event)
        if self.inner is None and self._thread is None:
            self._thread = threading.Thread(target=self._import, name=f"import {self.module}")
            QTimer.singleShot(0, self._thread.start)

    def _is_imported(self) -> bool:
        # The class stands at the end of the module, so the module is not half imported.
        return hasattr(sys.modules.get(self.module), self.widget)

    def _import(self) -> None:
        """Import on a thread; without a word if the dock was closed meanwhile."""
        problem = ""
        try:
            importlib.import_module(self.module)
            importlib.import_module("napari_unet.model.starter").load_starter()
        except Exception as error:  # noqa: BLE001 - torch may fail to load in any way; it is told
            problem = f"{type(error).__name__}: {error}"
        try:
            self._imported.emit(problem)
        except RuntimeError:
            return

    def _on_imported(self, problem: str) -> None:
        if problem:
            self._message.setText(
                f"This dock could not be loaded. {problem}. See that PyTorch is installed as its "
                "pages say, and start napari anew."
            )
            self.ready.emit()
        else:
            self._fill()

    def _fill(self) -> None:
        layout = self.layout()
        assert layout is not None
        while (item := layout.takeAt(0)) is not None:
            if (waiting := item.widget()) is not None:
                waiting.hide()
        self.inner = getattr(sys.modules[self.module], self.widget)(self._viewer)
        layout.addWidget(self.inner)
        self.inner.show()  # now, not when Qt comes to it
        self.ready.emit()


class FinetuneDock(LateDock):
    """Fine-tune."""

    module, widget = "napari_unet.viewer.finetune_widget", "FinetuneWidget"


class ClickDock(LateDock):
    """Click."""

    module, widget = "napari_unet.viewer.clicking.widget", "ClickWidget"


class PredictDock(LateDock):
    """Predict."""

    module, widget = "napari_unet.viewer.predict_widget", "PredictWidget"


class FolderDock(LateDock):
    """Folder."""

    module, widget = "napari_unet.viewer.batch_widget", "BatchWidget"


class TrainDock(LateDock):
    """Train."""

    module, widget = "napari_unet.viewer.train.widget", "TrainWidget"


class WeightMapDock(LateDock):
    """Weight map."""

    module, widget = "napari_unet.viewer.weight_map_widget", "WeightMapWidget"


class EvaluateDock(LateDock):
    """Evaluate."""

    module, widget = "napari_unet.viewer.evaluate_widget", "EvaluateWidget"
