"""The classes that are painted, with their colours: a click takes the brush."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractButton,
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet.viewer.layers import class_colour
from napari_unet.viewer.shortcuts import class_key

_MOST_CLASSES = 9
_SWATCH = 14


class ClassList(QWidget):
    """A button for each class, and how many classes there are.

    Parameters
    ----------
    classes
        How many classes there are, background (label 1) included.
    """

    #: (int): the user took the brush for this label.
    picked = Signal(int)
    #: (int): the user wants so many classes.
    count_changed = Signal(int)

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.count = QSpinBox()
        self.count.setRange(2, _MOST_CLASSES)
        self.count.setToolTip(
            "How many classes you paint, background included.\n"
            "Another number starts a new network: what was learned is forgotten, the strokes stay."
        )
        self.count.valueChanged.connect(self.count_changed)
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._group.idClicked.connect(self.picked)
        self._grid = QGridLayout()
        self._grid.setSpacing(3)
        top = QHBoxLayout()
        top.addWidget(QLabel("Classes"))
        top.addWidget(self.count)
        top.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addLayout(self._grid)
        self.set_count(classes)

    def buttons(self) -> list[QAbstractButton]:
        """Return the buttons of the classes, label 1 first."""
        return [self._group.button(label) for label in range(1, len(self._group.buttons()) + 1)]

    def set_count(self, classes: int) -> None:
        """Show so many classes, without telling anybody."""
        with QSignalBlocker(self.count):
            self.count.setValue(classes)
        for label in range(len(self._group.buttons()) + 1, classes + 1):
            button = _class_button(label)
            self._group.addButton(button, label)
            self._grid.addWidget(button, (label - 1) // 2, (label - 1) % 2)
        for surplus in self.buttons()[classes:]:
            self._group.removeButton(surplus)
            self._grid.removeWidget(surplus)
            surplus.deleteLater()

    def set_picked(self, label: int | None) -> None:
        """Mark the class that the brush paints; None marks none."""
        self._group.setExclusive(False)
        for index, button in enumerate(self.buttons(), start=1):
            button.setChecked(index == label)
        self._group.setExclusive(True)


def class_name(label: int) -> str:
    """Return what a class is called."""
    return "Background" if label == 1 else f"Class {label}"


def _class_button(label: int) -> QPushButton:
    button = QPushButton()
    button.setObjectName("class")
    name = class_name(label)
    button.setText(f"{label}  {name}")
    button.setIcon(_swatch(class_colour(label)))
    button.setCheckable(True)
    button.setToolTip(f"Paint {name.lower()} (label {label}); shortcut {class_key(label)}")
    return button


def _swatch(colour: str) -> QIcon:
    """Return a disc of a colour with a rim that shows on light and on dark."""
    pixmap = QPixmap(_SWATCH, _SWATCH)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QColor("#808080"))
    painter.setBrush(QColor(colour))
    painter.drawEllipse(1, 1, _SWATCH - 3, _SWATCH - 3)
    painter.end()
    return QIcon(pixmap)
