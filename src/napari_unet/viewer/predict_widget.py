"""The Predict dock: apply the network, cut out objects, save."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import napari.layers
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QSpinBox,
    QWidget,
)

from napari_unet.engine.images.fitting import size_difference
from napari_unet.viewer.actions import Action
from napari_unet.viewer.channel_panel import ChannelPanel
from napari_unet.viewer.form import Dock, RunButton, action_reason, choice, folded, note
from napari_unet.viewer.into_image import SaveIntoImage
from napari_unet.viewer.job_panel import JobPanel
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.layers import image_file
from napari_unet.viewer.model_files import ModelFiles
from napari_unet.viewer.model_words import model_in_words
from napari_unet.viewer.object_settings import ObjectSettings
from napari_unet.viewer.results import find_objects, save_as_tiff

if TYPE_CHECKING:
    import napari

# What "all" means, by the number of axes that the model looks at.
_EXTENTS = {
    2: (
        "All planes",
        "Predict the whole stack, the plane on screen first and then those nearest to it.\n"
        "You can go on looking, painting and changing planes meanwhile.",
    ),
    3: (
        "All stacks",
        "Predict the stacks of all time points, the one on screen first and then those nearest\n"
        "to it. You can go on looking meanwhile.",
    ),
}
_PRECISIONS = {"fastest with the same answer": "auto", "exact (32 bit)": "fp32"}


class PredictWidget(Dock):
    """Predict an image with the session's network.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._usage = self.controller.segmenter.usage
        self._add_image_section(viewer)
        self._add_predict_section()
        self._add_objects_section()
        self._add_save_section()
        self.rows.addStretch()
        if self.controller.layers.image is None:
            self.image.pick_first()
        self.links.connect(self.controller.status.events.step, self._show_model)
        self.refresh()

    # ------------------------------------------------------------------ the page

    def _add_image_section(self, viewer: Any) -> None:
        self.add_section("1  Image and model")
        self.image = LayerPicker(
            viewer,
            napari.layers.Image,
            "The image to predict. Of a stack it is the plane that is shown, unless the model\n"
            "looks at stacks as a whole. Where a model takes several channels, choose them below.",
            self._current_image,
        )
        self.image.picked.connect(self.controller.layers.set_image)
        self.description = note("")
        self.model = note("")
        self.model_files = ModelFiles(self.controller)
        self.channels = ChannelPanel(self.controller)
        for part in (self.image, self.description, self.model, self.channels, self.model_files):
            self.rows.addWidget(part)

    def _add_predict_section(self) -> None:
        self.add_section("2  Predict")
        self.predict = RunButton(
            "Predict",
            "Predict the image, what is on screen first (Shift+P for the whole image).",
            action_reason(self.controller, Action.PREDICT),
        )
        self.predict.setObjectName("main")
        self.predict.clicked.connect(self._on_predict)
        self.visible_only = QCheckBox("Only what is on screen")
        self.visible_only.setToolTip("Zoom in and look at a part of a large image within seconds.")
        self.all_planes = QCheckBox()
        self.all_planes.toggled.connect(self._on_planes_chosen)
        self.averaged = QCheckBox("Average over eight versions")
        self.averaged.setToolTip(
            "Predict all eight symmetries of the square and average them: steadier borders,\n"
            "eight times the time. Set as the model was trained to be used."
        )
        self.stop = RunButton(
            "Stop",
            "End after this tile; finished tiles stay.",
            action_reason(self.controller, Action.STOP),
        )
        self.stop.clicked.connect(self.controller.stop)
        self.rows.addWidget(self.all_planes)
        self.rows.addWidget(self.visible_only)
        self.rows.addWidget(self.averaged)
        self.add_run_button(self.predict)
        self.rows.addWidget(self.stop)
        self.rows.addWidget(JobPanel(self.controller.status))
        self.rows.addWidget(folded("Advanced", "Tile size and precision.", self._advanced()))

    def _advanced(self) -> QWidget:
        self.tile_size = QSpinBox()
        self.tile_size.setRange(0, 4092)
        self.tile_size.setSingleStep(64)
        self.tile_size.setSpecialValueText("automatic")
        self.tile_size.setSuffix(" px")
        self.tile_size.setToolTip(
            "Side of the tiles that are predicted one by one; smaller needs less memory.\n"
            "0 chooses it from the memory that is free. The answer does not depend on it."
        )
        self.precision = choice(
            _PRECISIONS, "Fastest is checked on the first tile and left if the answer changes."
        )
        content = QWidget()
        form = QFormLayout(content)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Tile size", self.tile_size)
        form.addRow("Precision", self.precision)
        return content

    def _add_objects_section(self) -> None:
        self.add_section("3  Objects")
        self.object_settings = ObjectSettings()
        self.rows.addWidget(self.object_settings)
        self.objects = RunButton(
            "Find objects",
            "Cut objects out of the prediction and number them, in a layer of their own.",
            action_reason(self.controller, Action.INSTANCES),
        )
        self.objects.clicked.connect(self._on_objects)
        self.add_run_button(self.objects)

    def _add_save_section(self) -> None:
        self.add_section("4  Save")
        self.save = RunButton(
            "Save result ...",
            "Write probabilities, classes and objects as TIFF files into a folder.",
            action_reason(self.controller, Action.SAVE_RESULT),
        )
        self.save.clicked.connect(self._on_save)
        self.add_run_button(self.save)
        self.save_into = SaveIntoImage(self.controller)
        self.rows.addWidget(self.save_into)

    # ------------------------------------------------------------------ session to page

    def refresh(self) -> None:
        """Show the session as it is: buttons, reasons, image, model, classes."""
        super().refresh()
        words = [self.controller.layers.describe(), self._size_difference()]
        self.description.setText(". ".join(text for text in words if text))
        self._show_extent()
        self.channels.refresh()
        self._show_model()
        self.object_settings.show_classes(self.controller.network.classes)
        self._show_usage()

    def _show_extent(self) -> None:
        """Say what can be predicted at once: all planes, or all stacks of a time series."""
        planes, kind = self.controller.layers.planes, self.controller.segmenter.takes
        ndim = 2 if kind is None else kind.ndim
        self.all_planes.setVisible(planes is not None and math.prod(planes.shape[:-ndim]) > 1)
        title, tooltip = _EXTENTS[ndim]
        self.all_planes.setText(title)
        self.all_planes.setToolTip(tooltip)

    def _show_model(self, _step: object = None) -> None:
        self.model.setText(model_in_words(self.controller))
        if not self.predict.isEnabled():  # the first step makes a network that can be asked
            self.predict.refresh()

    def _show_usage(self) -> None:
        """Show how a model from a file is meant to be used, once: then the user decides."""
        usage = self.controller.segmenter.usage
        if usage is not self._usage:
            self._usage = usage
            self.object_settings.show_settings(usage.instances)
            self.averaged.setChecked(usage.averaging != "none")

    def _size_difference(self) -> str:
        """Say that the image has pixels of another size than the model learned on."""
        layers, learned = self.controller.layers, self.controller.segmenter.usage.learned_from.size
        if layers.image is None or layers.planes is None or learned is None:
            return ""
        size = image_file(layers.image, layers.planes).size
        difference = None if size is None else size_difference(size, learned)
        return f"Note: {difference}; the Folder dock can rescale." if difference else ""

    def _current_image(self) -> Any:
        return self.controller.layers.image

    # ------------------------------------------------------------------ page to session

    def _on_planes_chosen(self, chosen: bool) -> None:
        self.visible_only.setEnabled(not chosen)

    def _on_predict(self) -> None:
        everything = self.all_planes.isVisible() and self.all_planes.isChecked()
        self.controller.predict(
            self.visible_only.isChecked() and not everything,
            all_planes=everything,
            tile_size=self.tile_size.value() or None,
            precision=self.precision.currentData(),
            averaging="symmetries" if self.averaged.isChecked() else "none",
        )

    def _on_objects(self) -> None:
        find_objects(self.controller, self.object_settings.settings())

    def _on_save(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder for the result")
        if folder:
            save_as_tiff(self.controller, folder)
