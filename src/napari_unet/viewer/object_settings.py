"""The fields that say how objects are cut out of a prediction."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QSpinBox, QWidget
from superqt import QLabeledDoubleSlider

from napari_unet.engine.results import InstanceSettings
from napari_unet.viewer.class_list import class_name
from napari_unet.viewer.form import choice

_METHODS = {
    "connected pixels": "components",
    "part at necks (watershed)": "watershed",
    "grow from certain middles": "seeds",
}


class ObjectSettings(QWidget):
    """How objects are cut out: the class, the method and its thresholds."""

    def __init__(self) -> None:
        super().__init__()
        # Of a network that was trained to outline objects; not for people to choose.
        self._outline_label: int | None = None
        self.of_class = QComboBox()
        self.of_class.setToolTip("Which class the objects are cut out of.")
        self.method = choice(
            _METHODS,
            "Connected pixels: what hangs together is one object.\n"
            "Part at necks: round objects that touch are parted where they are narrow.\n"
            "Grow from certain middles: objects that touch are parted where the probability sags,\n"
            "as networks do that were trained with border weights.",
        )
        self.threshold = _probability("Probability from which a pixel belongs to an object.", 0.5)
        self.seeds = _probability(
            "Probability from which a pixel belongs to the middle of an object.\n"
            "Higher parts more. Used by 'grow from certain middles' alone.",
            0.8,
        )
        self.min_size = QSpinBox()
        self.min_size.setRange(0, 1_000_000)
        self.min_size.setValue(16)
        self.min_size.setSuffix(" px")
        self.min_size.setToolTip("Smaller objects, in pixels of area, are dropped.")
        self.fill_holes = QCheckBox("Fill holes")
        self.fill_holes.setToolTip("Give background that one object encloses to the object.")
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        for title, field in (
            ("Of", self.of_class),
            ("Method", self.method),
            ("Threshold", self.threshold),
            ("Middles", self.seeds),
            ("Smallest", self.min_size),
            ("", self.fill_holes),
        ):
            form.addRow(title, field)
        self.method.currentIndexChanged.connect(self._on_method_chosen)
        self._on_method_chosen()

    def settings(self) -> InstanceSettings:
        """Return what is chosen."""
        return InstanceSettings(
            method=self.method.currentData(),
            threshold=self.threshold.value(),
            min_size=self.min_size.value(),
            label=self.of_class.currentData(),
            seed_threshold=self.seeds.value(),
            outline_label=self._outline_label,
            fill_holes=self.fill_holes.isChecked(),
        )

    def show_settings(self, settings: InstanceSettings) -> None:
        """Show what a model brought with it."""
        self.method.setCurrentIndex(self.method.findData(settings.method))
        self.threshold.setValue(settings.threshold)
        self.seeds.setValue(settings.seed_threshold)
        self.min_size.setValue(settings.min_size)
        self.fill_holes.setChecked(settings.fill_holes)
        self.of_class.setCurrentIndex(max(self.of_class.findData(settings.label), 0))
        self._outline_label = settings.outline_label

    def show_classes(self, classes: int) -> None:
        """Offer the classes of the network."""
        if self.of_class.count() == classes:
            return
        chosen = self.of_class.currentIndex()
        self.of_class.clear()
        self.of_class.addItem("all but background", None)
        for label in range(2, classes + 1):
            self.of_class.addItem(class_name(label), label)
        self.of_class.setCurrentIndex(min(max(chosen, 0), classes - 1))

    def _on_method_chosen(self) -> None:
        self.seeds.setEnabled(self.method.currentData() == "seeds")


def _probability(tooltip: str, value: float) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(0.05, 0.95)
    slider.setValue(value)
    slider.setToolTip(tooltip)
    return slider
