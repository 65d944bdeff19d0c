"""Options of the Folder dock: which images, what they hold, how they are predicted."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLineEdit, QWidget

from napari_unet.engine.images.axes import Corrections, parse_pixel_size
from napari_unet.engine.images.labels_into import check_label_name
from napari_unet.engine.images.settings import FileSettings
from napari_unet.viewer.form import choice

_FORMATS = {
    "TIFF files": "tiff",
    "OME-Zarr with labels": "ome-zarr",
    "Labels in the images (OME-Zarr)": "labels",
}


class BatchOptions(QWidget):
    """Fields for what `FileSettings` holds, and for which images are taken."""

    #: Something else was chosen.
    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.pattern = _line("all images", "Names of images, such as *.tif; several with a space.")
        self.channel = _line(
            "all",
            "Name or number (from 1) of the channel to use; several with a comma, in the model's\n"
            "order; 'each' predicts every channel by itself.",
        )
        self.axes = _line("as in the files", "What the axes are, such as zcyx or tyx.")
        self.pixel_size = _line("as in the files", "Such as 0.5um, or 2,0.5,0.5um along z, y, x.")
        self.format = choice(_FORMATS, "How the results are stored.")
        self.labels = _line("objects", "What the labels in the images are called.")
        self.labels.setEnabled(False)
        self.format.currentIndexChanged.connect(self._on_format_chosen)
        self.recursive = _box("Folders below as well", "Results go into folders of the same names.")
        self.recursive.setChecked(True)
        self.overwrite = _box(
            "Again, also what is done",
            "By default only images are predicted that this model has not done with these options.",
        )
        self.rescale = _box(
            "Rescale to the model's pixel size",
            "Bring images to the pixel size that the model learned on, and the answer back.",
        )
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        for title, field in (
            ("Names", self.pattern),
            ("Channel", self.channel),
            ("Axes", self.axes),
            ("Pixel size", self.pixel_size),
            ("Results", self.format),
            ("Labels", self.labels),
        ):
            form.addRow(title, field)
            if isinstance(field, QLineEdit):
                field.textChanged.connect(lambda _text: self.changed.emit())
        for box in (self.recursive, self.overwrite, self.rescale):
            form.addRow(box)

    def patterns(self) -> tuple[str, ...]:
        """Return the names of images; empty for all."""
        return tuple(self.pattern.text().split())

    def settings(self) -> FileSettings:
        """Return how images are predicted.

        Raises
        ------
        InputError
            If axes or pixel size cannot be read, or labels cannot be called so.
        """
        size, axes = self.pixel_size.text().strip(), self.axes.text().strip()
        corrections = parse_pixel_size(size) if size else Corrections()
        channels = (part.strip() for part in self.channel.text().split(","))
        settings = FileSettings(
            replace(corrections, axes=axes.lower() or None),
            tuple(part for part in channels if part),
            self.rescale.isChecked(),
        )
        if self.format.currentData() == "labels":
            name = self.labels.text().strip() or self.labels.placeholderText()
            return replace(settings, labels_into_image=check_label_name(name))
        return replace(settings, result_format=self.format.currentData())

    def _on_format_chosen(self) -> None:
        self.labels.setEnabled(self.format.currentData() == "labels")
        self.changed.emit()


def _line(placeholder: str, tooltip: str) -> QLineEdit:
    line = QLineEdit()
    line.setPlaceholderText(placeholder)
    line.setToolTip(tooltip)
    return line


def _box(title: str, tooltip: str) -> QCheckBox:
    box = QCheckBox(title)
    box.setToolTip(tooltip)
    return box
