"""The table of the Train dock that says which labels belong to which image layer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Any

from napari.layers import Image, Labels
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet.viewer.form import choice
from napari_unet.viewer.layers import result_role
from napari_unet.viewer.links import Links
from napari_unet.viewer.session_layers import unwrap
from napari_unet.viewer.train.sources import LayerPair, LayerSource, spatial_shape

_ROWS_SHOWN = 6
# In pixels; fixed, so that the table is as high as its rows.
_ROW_HEIGHT = 30
_HEADER_HEIGHT = 24
_NONE = "none of its shape"


class LayerPairs(QWidget):
    """Offers every image layer with the labels layer that fits it best, to check and to correct.

    Parameters
    ----------
    viewer
        Whose layers are offered.
    is_strokes
        Whether a labels layer holds strokes; such a layer is never matched by itself, since its 0
        is "not annotated" where dense labels have background.
    """

    #: Which pairs are checked, or their labels, changed.
    changed = Signal()

    def __init__(self, viewer: Any, is_strokes: Callable[[Labels], bool]) -> None:
        super().__init__()
        self._viewer = weakref.ref(unwrap(viewer))
        self._is_strokes = is_strokes
        # What the user chose, by image layer; what is not here is matched by name.
        self._by_hand: weakref.WeakKeyDictionary[Image, weakref.ref[Labels]] = (
            weakref.WeakKeyDictionary()
        )
        self._unchecked: weakref.WeakSet[Image] = weakref.WeakSet()
        self._rows: list[tuple[Image, Labels | None]] = []
        self.table = QTableWidget(0, 2)
        self.skip = QCheckBox("Leave out planes without labels")
        self._lay_out()
        self._links = Links(self)
        events = unwrap(viewer).layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            self._links.connect(event, self._on_layers_changed)
        self._fill()

    def source(self) -> LayerSource | None:
        """Return the checked pairs by their arrays as they are now; None if there is none."""
        pairs = tuple(
            LayerPair(image.name, image.data, labels.data, image.rgb)
            for image, labels in self._rows
            if labels is not None and image not in self._unchecked and fits(image, labels)
        )
        return LayerSource(pairs, self.skip.isChecked()) if pairs else None

    def why_not(self) -> str | None:
        """Say why there is nothing to learn from, with the cure; None if there is."""
        if not self._rows:
            return "Open images and their labels first, or take them from folders."
        if all(labels is None for _, labels in self._rows):
            return (
                "No image has a labels layer of its shape; add one and label every object, 0 is "
                "background."
            )
        return None if self.source() is not None else "Check an image to learn from first."

    # ------------------------------------------------------------------ the table

    def _lay_out(self) -> None:
        self.table.setHorizontalHeaderLabels(["Image", "Labels"])
        self.table.setToolTip(
            "Check what is learned from, and choose the labels of each image.\n"
            "0 is background. Each plane of a stack is an image."
        )
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(60)
        header.setFixedHeight(_HEADER_HEIGHT)
        self.table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.table.verticalHeader().hide()
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.setMinimumWidth(100)
        self.skip.setToolTip(
            "On: planes of a stack on which nothing is labelled are not learned from.\n"
            "Off: they count as background all over."
        )
        self.skip.setChecked(True)
        self.table.itemChanged.connect(self._on_checked)
        self.skip.toggled.connect(self._tell)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addWidget(self.skip)

    def _fill(self) -> None:
        """Match anew and show it; what was chosen by hand stays."""
        images = [layer for layer in self._layers(Image) if result_role(layer) is None]
        labels = [
            layer for layer in self._layers(Labels) if result_role(layer) in (None, "instances")
        ]
        own = [
            layer for layer in labels if result_role(layer) is None and not self._is_strokes(layer)
        ]
        matched = match(images, own, self._chosen(images, labels))
        self._rows = [(image, matched.get(image)) for image in images]
        self.table.blockSignals(True)
        self.table.setRowCount(len(images))
        for row, (image, chosen) in enumerate(self._rows):
            self.table.setItem(row, 0, self._name_cell(image, chosen))
            self.table.setCellWidget(row, 1, self._labels_cell(image, chosen, labels))
        self.table.blockSignals(False)
        self._fit_height()
        self.skip.setVisible(
            any(chosen is not None and chosen.ndim > 2 for _, chosen in self._rows)
        )

    def _name_cell(self, image: Image, labels: Labels | None) -> QTableWidgetItem:
        cell = QTableWidgetItem(image.name)
        if labels is None:
            cell.setFlags(Qt.ItemFlag.NoItemFlags)
            cell.setToolTip(why_not_paired(image))
            return cell
        cell.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
        off = image in self._unchecked
        cell.setCheckState(Qt.CheckState.Unchecked if off else Qt.CheckState.Checked)
        planes = ", a stack: each plane is an image" if labels.ndim > 2 else ""
        cell.setToolTip(f"{image.name}, shape {image.data.shape}{planes}. Learn from it?")
        return cell

    def _labels_cell(self, image: Image, chosen: Labels | None, labels: list[Labels]) -> QComboBox:
        offered = [layer for layer in labels if fits(image, layer)]
        if not offered:
            box = choice({_NONE: ""}, why_not_paired(image))
            box.setEnabled(False)
            return box
        box = choice({}, f"The labels of '{image.name}': every object or class, 0 is background.")
        box.setMinimumContentsLength(4)
        for layer in offered:
            box.addItem(layer.name)
        # The strokes may be all that fits; they are taken only if somebody says so.
        box.setPlaceholderText("choose ...")
        box.setCurrentIndex(-1 if chosen is None else offered.index(chosen))
        references = [weakref.ref(layer) for layer in offered]
        mine = weakref.ref(image)
        box.activated.connect(lambda index: self._on_chosen(mine(), references[index]()))
        return box

    def _fit_height(self) -> None:
        rows = min(max(self.table.rowCount(), 1), _ROWS_SHOWN)
        edge = 2 * self.table.frameWidth() + 2
        self.table.setFixedHeight(_HEADER_HEIGHT + rows * _ROW_HEIGHT + edge)

    # ------------------------------------------------------------------ what happens

    def _layers(self, kind: type[Any]) -> list[Any]:
        viewer = self._viewer()
        return [] if viewer is None else [each for each in viewer.layers if isinstance(each, kind)]

    def _chosen(self, images: list[Image], labels: list[Labels]) -> dict[Image, Labels]:
        chosen = {image: self._by_hand[image]() for image in images if image in self._by_hand}
        return {
            image: layer
            for image, layer in chosen.items()
            if layer is not None and layer in labels and fits(image, layer)
        }

    def _on_chosen(self, image: Image | None, labels: Labels | None) -> None:
        if image is None or labels is None:
            return
        self._by_hand[image] = weakref.ref(labels)
        self._unchecked.discard(image)
        self._fill()
        self._tell()

    def _on_checked(self, cell: QTableWidgetItem) -> None:
        image = self._rows[cell.row()][0]
        if cell.checkState() == Qt.CheckState.Checked:
            self._unchecked.discard(image)
        else:
            self._unchecked.add(image)
        self._tell()

    def _on_layers_changed(self, _event: Any = None) -> None:
        before = list(self._rows)
        self._fill()
        if self._rows != before:
            self._tell()

    def _tell(self, _value: object = None) -> None:
        self.changed.emit()


def fits(image: Image, labels: Labels) -> bool:
    """Say whether labels can be those of an image: the same axes, colours excepted."""
    if getattr(image, "multiscale", False) or getattr(labels, "multiscale", False):
        return False
    shape = spatial_shape(image.data, image.rgb)
    return len(shape) >= 2 and tuple(labels.data.shape) == shape


def why_not_paired(image: Image) -> str:
    """Say why an image layer has no labels, with the cure."""
    if getattr(image, "multiscale", False):
        return f"'{image.name}' is a pyramid; add one of its levels as a layer of its own."
    shape = spatial_shape(image.data, image.rgb)
    return f"'{image.name}' has no labels yet: choose or add a labels layer of shape {shape}."


def match(
    images: list[Image], labels: list[Labels], chosen: dict[Image, Labels]
) -> dict[Image, Labels]:
    """Give each image the labels of its shape whose name is most like its own.

    Parameters
    ----------
    images, labels
        The layers; labels are given to one image only.
    chosen
        Pairs that stand already.
    """
    taken = {id(layer) for layer in chosen.values()}
    # The best pair of all first; Python's sort keeps the viewer's order among equals.
    candidates = sorted(
        (
            (SequenceMatcher(None, image.name.lower(), layer.name.lower()).ratio(), image, layer)
            for image in images
            for layer in labels
            if image not in chosen and fits(image, layer)
        ),
        key=lambda candidate: -candidate[0],
    )
    pairs = dict(chosen)
    for _, image, layer in candidates:
        if image not in pairs and id(layer) not in taken:
            pairs[image] = layer
            taken.add(id(layer))
    return pairs
