"""The Weight map dock: which pixels count how much, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari.layers
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout
from superqt import QLabeledDoubleSlider

from napari_unet.engine.results import WeightSettings
from napari_unet.viewer.form import Dock, RunButton, note
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.session_layers import unwrap
from napari_unet.viewer.weight_preview import WeightPreview

if TYPE_CHECKING:
    import napari

_KINDS = {"strokes (1 is background)": "annotations", "objects (0 is background)": "instances"}


class WeightMapWidget(Dock):
    """Show the weight map of a labels layer (Ronneberger et al. 2015, equation 2).

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.preview = WeightPreview(unwrap(viewer), self.controller.lane)
        # The preview belongs to the session's lane and would go on without a dock.
        self.destroyed.connect(self.preview.hide)
        self.destroyed.connect(self.preview.deleteLater)
        self._labels: Any = None
        self._add_labels_section(viewer)
        self._add_weights_section()
        self._add_map_section()
        self.rows.addStretch()
        self.preview.computed.connect(self._on_computed)
        self.preview.failed.connect(self._on_failed)
        self.links.connect(unwrap(viewer).layers.events.removed, self._on_layer_removed)
        self.labels.pick_first()
        self.refresh()

    # ------------------------------------------------------------------ the page

    def _add_labels_section(self, viewer: Any) -> None:
        self.add_section("1  Labels")
        self.labels = LayerPicker(
            viewer,
            napari.layers.Labels,
            "The strokes or objects whose weight map is shown.",
            self._current_labels,
            roles=("instances",),
        )
        self.labels.picked.connect(self._on_labels)
        self.kind = QComboBox()
        for title, value in _KINDS.items():
            self.kind.addItem(title, value)
        self.kind.setToolTip(
            "Strokes: 0 is not painted and counts nothing.\n"
            "Objects: 0 is background, every other label is one object."
        )
        self.kind.currentIndexChanged.connect(self._update)
        self.rows.addWidget(self.labels)
        form = QFormLayout()
        form.addRow("They are", self.kind)
        self.rows.addLayout(form)

    def _add_weights_section(self) -> None:
        self.add_section("2  Weights")
        self.w0 = _slider(
            0.0, 50.0, 10.0, "w0: how much more gaps between close objects count; 10 as published."
        )
        self.sigma = _slider(
            0.5, 30.0, 5.0, "sigma: how wide a gap still counts more, in pixels; 5 as published."
        )
        self.balance = _slider(
            0.0, 1.0, 1.0, "1: all classes count the same in sum; 0: all pixels count the same."
        )
        form = QFormLayout()
        for title, slider in (
            ("Border weight", self.w0),
            ("Border width", self.sigma),
            ("Class balance", self.balance),
        ):
            slider.valueChanged.connect(self._update)
            form.addRow(title, slider)
        self.rows.addLayout(form)
        self.rows.addWidget(
            note("For looking only: what learning uses is set in the Fine-tune dock, Advanced.")
        )

    def _add_map_section(self) -> None:
        self.add_section("3  Map")
        self.switch = RunButton(
            "Show weight map",
            "Show the map over the image. It follows the sliders, the brush and the view.",
            self._why_not_show,
        )
        self.switch.setObjectName("main")
        self.switch.setCheckable(True)
        self.switch.toggled.connect(self._on_switched)
        self.add_run_button(self.switch)
        self.legend = note("")
        self.legend.hide()
        self.rows.addWidget(self.legend)

    # ------------------------------------------------------------------ preview to page

    def _on_computed(self, smallest: float, largest: float) -> None:
        self.legend.setText(
            f"On screen: {smallest:.2f} (dark) to {largest:.2f} (bright). 1 is the average; bright "
            "gaps are where the network is told to part objects."
        )
        self.legend.show()

    def _on_failed(self, reason: str) -> None:
        self.legend.setText(reason)
        self.legend.show()

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self._labels:
            self.switch.setChecked(False)

    def _current_labels(self) -> Any:
        return self._labels

    def _why_not_show(self) -> str | None:
        if self._labels is None:
            return "Add a Labels layer first: strokes from the Fine-tune dock, or objects."
        if self._labels.multiscale:
            return f"'{self._labels.name}' is a pyramid; add one of its levels as a layer."
        return None

    # ------------------------------------------------------------------ page to preview

    def settings(self) -> WeightSettings:
        """Return what is chosen."""
        return WeightSettings(
            self.w0.value(), self.sigma.value(), self.balance.value(), self.kind.currentData()
        )

    def _on_labels(self, layer: Any) -> None:
        self._labels = layer
        is_strokes = layer is None or layer is self.controller.layers.annotations
        self.kind.setCurrentIndex(0 if is_strokes else 1)
        self._update()
        self.refresh()

    def _on_switched(self, _on: bool) -> None:
        self.switch.setText("Hide weight map" if self.switch.isChecked() else "Show weight map")
        self._update()

    def _update(self, _value: object = None) -> None:
        if self._why_not_show() is None and self.switch.isChecked():
            self.preview.show(self._labels, self.settings())
        else:
            self.preview.hide()
            self.legend.hide()


def _slider(low: float, high: float, value: float, tooltip: str) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(low, high)
    slider.setDecimals(2)
    slider.setValue(value)
    slider.setToolTip(tooltip)
    return slider
