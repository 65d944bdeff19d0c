"""The Folder dock: predict all images of a folder, and see what was done and what failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from napari_unet.engine.images.axes import Corrections
from napari_unet.ops.errors import InputError
from napari_unet.viewer.background_panel import BackgroundPanel
from napari_unet.viewer.batch_layers import open_with_results
from napari_unet.viewer.batch_options import BatchOptions
from napari_unet.viewer.batch_run import BatchRun, FolderRequest
from napari_unet.viewer.batch_table import BatchView
from napari_unet.viewer.form import Dock, RunButton, folded
from napari_unet.viewer.reports import as_sentence
from napari_unet.viewer.train.paths import PathField

if TYPE_CHECKING:
    import napari

_MODEL_FILES = "Models (*.safetensors *.zip *.onnx)"
_RESULTS_FOLDER = "results"


class BatchWidget(Dock):
    """Predict a folder with a model from a file.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.run = BatchRun(self.controller, self)
        self.destroyed.connect(self.run.close)
        self._corrections = Corrections()
        self._add_paths_section()
        self._add_run_section()
        self._add_table_section()
        self.run.changed.connect(self.refresh)
        self.links.connect(self.controller.status.events.phase, self.run.give_way)
        self.refresh()

    # ------------------------------------------------------------------ the page

    def _add_paths_section(self) -> None:
        self.add_section("1  Images and model")
        self.folder = PathField(
            "folder with images",
            "The folder whose images are predicted: TIFF, OME-Zarr, PNG, JPEG, NumPy; planes,\n"
            "stacks and time series.",
        )
        self.model = PathField(
            "model file",
            "The model, as it was saved: a .safetensors file. Or a bioimage.io package, or ONNX.",
        )
        self.output = PathField(
            "folder for the results",
            "Where the results go, named like the images, and the table of them.",
        )
        for field, look in (
            (self.folder, self._on_look_for_folder),
            (self.model, self._on_look_for_model),
            (self.output, self._on_look_for_output),
        ):
            self.rows.addWidget(field)
            field.browse.clicked.connect(look)
            field.changed.connect(self.refresh)
        self.folder.changed.connect(self._on_folder_changed)
        self.options = BatchOptions()
        self.options.changed.connect(self.refresh)
        tooltip = "Which images, what they hold, how they are predicted."
        self.rows.addWidget(folded("Options", tooltip, self.options))

    def _add_run_section(self) -> None:
        self.add_section("2  Predict")
        self.predict = RunButton(
            "Predict the folder",
            "Predict one image after the other; one that cannot be used does not stop the rest.\n"
            "What is done already is not done again.",
            self._why_not_predict,
        )
        self.predict.setObjectName("main")
        self.predict.clicked.connect(self._on_predict)
        self.add_run_button(self.predict)
        self.progress = BackgroundPanel(
            self.run,
            "End after the tile in progress; what is done stays, and Predict does the rest.",
            "How much of the folder is done.",
            "No folder is being predicted.",
        )
        self.rows.addWidget(self.progress)

    def _add_table_section(self) -> None:
        self.add_section("3  What was done")
        self.table = BatchView(self.run.table)
        self.table.opened.connect(self._on_row_opened)
        self.open = RunButton(
            "Open image and result",
            "Show the chosen image with its objects and classes, as a double click does.",
            self._why_not_open,
        )
        self.open.clicked.connect(self._on_open)
        if (selection := self.table.selectionModel()) is not None:
            selection.selectionChanged.connect(lambda *_: self.open.refresh())
        self.rows.addWidget(self.table, stretch=1)
        self.add_run_button(self.open)

    # ------------------------------------------------------------------ reasons

    def _why_not_predict(self) -> str | None:
        if self.run.is_running:
            return "A folder is being predicted."
        folder, model = self.folder.path(), self.model.path()
        if folder is None:
            return "Choose the folder with the images first."
        if not folder.is_dir():
            return f"{folder} is not a folder; choose another one."
        if model is None:
            return "Choose the model file first; the Fine-tune and Predict docks save one."
        if not model.exists():
            return f"{model} is not there; choose another model file."
        if self.output.path() is None:
            return "Say where the results go first."
        try:
            self.options.settings()
        except InputError as error:
            return as_sentence(str(error))
        return None

    def _why_not_open(self) -> str | None:
        return None if self._chosen() is not None else "Choose an image in the table first."

    # ------------------------------------------------------------------ page to run

    def _on_folder_changed(self) -> None:
        folder = self.folder.path()
        if folder is not None and self.output.path() is None:
            self.output.set_path(folder / _RESULTS_FOLDER)

    def _on_predict(self) -> None:
        folder, model, output = (f.path() for f in (self.folder, self.model, self.output))
        if folder is None or model is None or output is None:
            return
        settings = self.options.settings()
        self._corrections = settings.corrections
        self.run.start(
            FolderRequest(
                folder,
                model,
                output,
                self.options.patterns(),
                self.options.recursive.isChecked(),
                self.options.overwrite.isChecked(),
                settings,
            )
        )

    def _chosen(self) -> int | None:
        selection = self.table.selectionModel()
        rows = [] if selection is None else selection.selectedRows()
        return rows[0].row() if rows else None

    def _on_open(self) -> None:
        if (number := self._chosen()) is not None:
            self._on_row_opened(number)

    def _on_row_opened(self, number: int) -> None:
        row, viewer = self.run.table.row(number), self.controller.viewer
        if viewer is None:
            return
        files = () if row is None else row.files
        try:
            open_with_results(viewer, self.run.table.image(number), files, self._corrections)
        except InputError as error:
            self.progress.message.setText(as_sentence(str(error)))

    # ------------------------------------------------------------------ run to page

    def refresh(self) -> None:
        """Show what can be done, and how far it is."""
        super().refresh()
        if not hasattr(self, "open"):  # the page is still being made
            return
        self.progress.refresh()

    def _on_look_for_folder(self) -> None:
        self._look_for(self.folder, "Folder with images")

    def _on_look_for_output(self) -> None:
        self._look_for(self.output, "Folder for the results")

    def _look_for(self, field: PathField, title: str) -> None:
        start = str(field.path() or self.folder.path() or "")
        if folder := QFileDialog.getExistingDirectory(self, title, start):
            field.set_path(folder)

    def _on_look_for_model(self) -> None:
        start = str(self.model.path() or Path())
        path, _ = QFileDialog.getOpenFileName(self, "Model", start, _MODEL_FILES)
        if path:
            self.model.set_path(path)
