"""The part of the Fine-tune dock that says where to paint next."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QListWidget, QVBoxLayout, QWidget

from napari_unet.viewer.form import RunButton, note
from napari_unet.viewer.guidance import Guidance
from napari_unet.viewer.session_layers import SessionLayers

# Room for as many lines as there are suggestions.
_LIST_HEIGHT = 110


class GuidancePanel(QWidget):
    """A list of regions, a button that goes to the next one, and a switch for the uncertainty.

    Parameters
    ----------
    guidance
        Finds the regions and moves the view.
    layers
        Shows the uncertainty.
    """

    def __init__(self, guidance: Guidance, layers: SessionLayers) -> None:
        super().__init__()
        self._guidance = guidance
        self._layers = layers
        self.next = RunButton(
            "Where to paint next",
            "Go to a region where the prediction is uncertain and that looks unlike what you "
            "painted (N).",
            guidance.why_not,
        )
        self.next.clicked.connect(guidance.next)
        self.uncertainty = QCheckBox("Show where it is uncertain")
        self.uncertainty.setToolTip("Add a layer that is bright where two classes are as probable.")
        self.uncertainty.toggled.connect(self._on_uncertainty)
        self.regions = QListWidget()
        self.regions.setToolTip(
            "Regions where strokes are expected to help most, best first; click one to go there."
        )
        self.regions.setMaximumHeight(_LIST_HEIGHT)
        self.regions.itemClicked.connect(self._on_clicked)
        self.summary = note("")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        for part in (
            self.next,
            self.next.reason_line,
            self.regions,
            self.summary,
            self.uncertainty,
        ):
            rows.addWidget(part)
        guidance.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the regions as they are."""
        suggested = self._guidance.suggested
        self.regions.clear()
        self.regions.setVisible(suggested is not None)
        self.summary.setVisible(suggested is not None)
        self.next.refresh()
        if suggested is None:
            return
        for number, region in enumerate(suggested.regions, start=1):
            text = f"{number}   {region.expected_error:.0%} expected wrong"
            self.regions.addItem(f"{text}, looks new" if region.novelty > 0.5 else text)
        if self._guidance.current is not None:
            self.regions.setCurrentRow(self._guidance.current)
        more = any(region.is_worth_it for region in suggested.regions)
        whole = f"{suggested.expected_error:.1%} of all pixels are expected to be wrong"
        advice = "" if more else "; more strokes are not expected to change much"
        self.summary.setText(f"{whole}{advice}.")

    def _on_clicked(self) -> None:
        self._guidance.visit(self.regions.currentRow())

    def _on_uncertainty(self, wanted: bool) -> None:
        results = self._layers.results
        if results is not None and wanted:
            results.show_uncertainty()
        elif results is not None:
            results.remove_uncertainty()
