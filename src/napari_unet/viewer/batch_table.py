"""A table of images: what was done, what failed and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_unet.engine.images.events import BatchRow

_COLUMNS: Final = ("Image", "State", "Objects", "Axes, or why not")
# A dock is narrow, and the reason is to be seen in it; the last column takes the rest.
_WIDTHS: Final = (95, 58, 56)
_TOOLTIPS: Final = (
    "The file; double click opens it with its result.",
    "waiting, a share while it is predicted, done, skipped (an earlier run did it), or failed",
    "How many objects were found.",
    "The axes that the file has, or why it failed.",
)


class BatchModel(QAbstractTableModel):
    """The images of a batch, and what became of them."""

    def __init__(self) -> None:
        super().__init__()
        self._images: tuple[Path, ...] = ()
        self._names: tuple[str, ...] = ()
        self._rows: dict[int, BatchRow] = {}
        self._running: tuple[int, float] | None = None

    def begin(self, images: Sequence[Path]) -> None:
        """Show images that are all waiting."""
        self.beginResetModel()
        self._images = tuple(images)
        folders = {str(path.parent) for path in images}
        shared = Path(os.path.commonpath(folders)) if folders else Path()
        self._names = tuple(str(path.relative_to(shared)) for path in images)
        self._rows, self._running = {}, None
        self.endResetModel()

    def progress(self, number: int, fraction: float) -> None:
        """Show that an image is being predicted."""
        self._running = (number, fraction)
        self._changed(number)

    def finish(self, number: int, row: BatchRow) -> None:
        """Show what became of an image."""
        self._rows[number] = row
        self._running = None
        self._changed(number)

    def end(self) -> None:
        """Show that nothing is being predicted any more."""
        if self._running is not None:
            number, self._running = self._running[0], None
            self._changed(number)

    def row(self, number: int) -> BatchRow | None:
        """Return what became of an image; None as long as it waits."""
        return self._rows.get(number)

    def image(self, number: int) -> Path:
        """Return the file of a row."""
        return self._images[number]

    def rowCount(self, _parent: Any = QModelIndex()) -> int:  # noqa: B008
        """Return the number of images."""
        return len(self._images)

    def columnCount(self, _parent: Any = QModelIndex()) -> int:  # noqa: B008
        """Return the number of columns."""
        return len(_COLUMNS)

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell, or all that is known of the image as its tooltip."""
        if role == Qt.ItemDataRole.DisplayRole:
            return self._cells(index.row())[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._details(index.row())
        return None

    def headerData(
        self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the title of a column, and what it means."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        titles = {Qt.ItemDataRole.DisplayRole: _COLUMNS, Qt.ItemDataRole.ToolTipRole: _TOOLTIPS}
        found = titles.get(Qt.ItemDataRole(role))
        return None if found is None else found[section]

    def _cells(self, number: int) -> tuple[str, str, str, str]:
        row = self._rows.get(number)
        if row is not None:
            objects = "" if row.objects is None else str(row.objects)
            return self._names[number], row.state, objects, _reason(row) or row.axes
        state = "waiting"
        if self._running is not None and self._running[0] == number:
            state = f"{self._running[1]:.0%}"
        return self._names[number], state, "", ""

    def _details(self, number: int) -> str:
        row = self._rows.get(number)
        lines = [str(self._images[number])]
        if row is not None:
            lines += [row.axes, row.reason, *row.notes]
        return "\n".join(line for line in lines if line)

    def _changed(self, number: int) -> None:
        last = len(_COLUMNS) - 1
        self.dataChanged.emit(self.index(number, 0), self.index(number, last))


class BatchView(QTableView):
    """Shows a `BatchModel`."""

    #: The number of a row that was double clicked.
    opened = Signal(int)

    def __init__(self, model: BatchModel) -> None:
        super().__init__()
        model.setParent(self)
        self.setModel(model)
        self.setToolTip("Double click opens an image with its result; rest on a row for details.")
        self.setEditTriggers(QTableView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(220)
        self.horizontalHeader().setStretchLastSection(True)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for column, width in enumerate(_WIDTHS):
            self.setColumnWidth(column, width)
        self.verticalHeader().hide()
        self.doubleClicked.connect(lambda index: self.opened.emit(index.row()))


def _reason(row: BatchRow) -> str:
    return row.reason.removeprefix(str(row.image)).strip(" :")
