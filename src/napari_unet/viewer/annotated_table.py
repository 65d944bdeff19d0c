"""The part of the Fine-tune dock that lists what is annotated, on all images."""

from __future__ import annotations

from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from napari_unet.viewer.annotated_layers import AnnotatedRow
from napari_unet.viewer.class_list import class_name
from napari_unet.viewer.session_layers import SessionLayers

# A table of one image tells nothing that is not on screen.
_FEWEST_ROWS = 2
_MOST_ROWS_SHOWN = 6


class AnnotatedTable(QTableWidget):
    """Lists the images with strokes; a click on one goes there. Hidden while there is one alone.

    Parameters
    ----------
    layers
        Of the session.
    """

    def __init__(self, layers: SessionLayers) -> None:
        super().__init__(0, 2)
        self._layers = layers
        self.setToolTip(
            "Strokes on all of these images teach one network. Click a line to go to its image."
        )
        self.setHorizontalHeaderLabels(["Image", "Strokes"])
        header = self.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.verticalHeader().hide()
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.cellClicked.connect(self._on_cell_clicked)
        layers.annotated.changed.connect(self.refresh)
        layers.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what is annotated now."""
        rows = self._rows = self._layers.annotated.rows(self._layers.image, self._layers.plane)
        self.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate((row.name, _strokes(row))):
                item = QTableWidgetItem(text)
                font = item.font()
                font.setBold(row.is_current)
                item.setFont(font)
                item.setToolTip(f"{row.name}: {_strokes(row)}")
                self.setItem(number, column, item)
        shown = min(len(rows), _MOST_ROWS_SHOWN)
        self.setFixedHeight(self.horizontalHeader().height() + 4 + shown * self.rowHeight(0))
        self.setVisible(len(rows) >= _FEWEST_ROWS)

    def _on_cell_clicked(self, row: int, _column: int) -> None:
        if row < len(self._rows):
            self._layers.go_to(self._rows[row].image, self._rows[row].plane)


def _strokes(row: AnnotatedRow) -> str:
    """Return "3 Background, 4 Class 2"."""
    return ", ".join(f"{count} {class_name(label)}" for label, count in row.strokes.items())
