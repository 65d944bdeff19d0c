"""A table of measures: a row per image, the last one for all, to be copied or saved."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from qtpy.QtWidgets import QTableView

from napari_unet.engine.score_table import ScoreTable, explain, show_score

_ALL = "all"


class ScoreModel(QAbstractTableModel):
    """The scores as Qt wants them: measures below each other, a column per image and one for all.

    A dock is narrow and high, so the table lies on its side.

    Parameters
    ----------
    table
        What is shown.
    """

    def __init__(self, table: ScoreTable) -> None:
        super().__init__()
        self._names = table.measures()
        self._columns = [(_ALL, table.total), *table.images]
        if len(table.images) == 1:  # the mean of one image is the image, the counts aside
            self._columns = [(table.images[0][0], {**table.total, **table.images[0][1]})]

    def rowCount(self, _parent: Any = QModelIndex()) -> int:  # noqa: B008
        """Return the number of measures."""
        return len(self._names)

    def columnCount(self, _parent: Any = QModelIndex()) -> int:  # noqa: B008
        """Return the number of images, and one for all."""
        return len(self._columns)

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell: text, alignment or explanation."""
        name = self._names[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return show_score(name, self._columns[index.column()][1].get(name))
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.ToolTipRole:
            return explain(name)
        return None

    def headerData(
        self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the name of an image or of a measure, and what it means."""
        is_measure = orientation == Qt.Orientation.Vertical
        if role == Qt.ItemDataRole.DisplayRole:
            return self._names[section] if is_measure else self._columns[section][0]
        if role == Qt.ItemDataRole.ToolTipRole and is_measure:
            return explain(self._names[section])
        return None

    def as_text(self) -> str:
        """Return all cells, separated by tabs, for a spreadsheet."""
        lines = ["\t".join(["", *(name for name, _ in self._columns)])]
        for name in self._names:
            cells = [show_score(name, values.get(name)) for _, values in self._columns]
            lines.append("\t".join([name, *cells]))
        return "\n".join(lines)


class ScoreView(QTableView):
    """Shows a `ScoreModel`; Ctrl+C copies all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("Rest on a measure to read what it says. Ctrl+C copies the table.")
        self.setEditTriggers(QTableView.EditTrigger.NoEditTriggers)
        self.setMinimumHeight(200)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy on Ctrl+C."""
        model = self.model()
        if event.matches(QKeySequence.StandardKey.Copy) and isinstance(model, ScoreModel):
            QGuiApplication.clipboard().setText(model.as_text())
            return
        super().keyPressEvent(event)
