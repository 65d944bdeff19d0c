"""The part of the Fine-tune dock with which strokes are painted: the layer, the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari.layers
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_unet.ops.annotations import BACKGROUND
from napari_unet.viewer.class_list import ClassList
from napari_unet.viewer.form import RunButton
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.links import Links

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

# Pixels: as thin as a line between two objects.
_BORDER_BRUSH = 3


class PaintPanel(QWidget):
    """Chooses the layer that is painted on, and takes the brush for a class or for borders.

    Parameters
    ----------
    viewer
        The napari viewer.
    session
        Whose strokes they are.
    """

    def __init__(self, viewer: Any, session: SegmentationController) -> None:
        super().__init__()
        self._session = session
        self._links = Links(self)
        self._brush_layer: Any = None
        self.annotations = LayerPicker(
            viewer,
            napari.layers.Labels,
            "The layer you paint on. 0 is not painted, 1 is background, 2 and up are classes.",
            self._current_annotations,
            none="(no layer to paint on)",
        )
        self.annotations.picked.connect(session.layers.set_annotations)
        self.new = RunButton(
            "New",
            "Add an empty layer to paint on, over the image.",
            session.layers.why_not_paint,
        )
        self.new.clicked.connect(self._on_new)
        row = QHBoxLayout()
        row.addWidget(self.annotations, stretch=1)
        row.addWidget(self.new)
        self.class_list = ClassList(session.network.classes)
        self.class_list.picked.connect(self.paint_class)
        self.class_list.count_changed.connect(session.network.set_class_count)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addLayout(row)
        rows.addWidget(self.class_list)

    def refresh(self) -> None:
        """Show how many classes there are, and which one the brush paints."""
        self.class_list.set_count(self._session.network.classes)
        self._follow_brush(self._session.layers.annotations)

    def paint_class(self, label: int) -> None:
        """Take the brush for a class; without an annotation layer, one is added."""
        layers = self._session.layers
        if label > self._session.network.classes or layers.why_not_paint() is not None:
            return
        if layers.borders.is_on:
            layers.borders.turn_on(False)
        layer = layers.annotations or layers.add_annotations()
        layer.selected_label = label
        layer.mode = "paint"
        self._session.viewer.layers.selection.active = layer

    def draw_borders(self, wanted: bool | None = None) -> None:
        """Take the brush that parts objects, or the ordinary one again; None: the other one."""
        layers = self._session.layers
        wanted = not layers.borders.is_on if wanted is None else wanted
        if wanted and layers.borders.why_not() is None:
            self.paint_class(BACKGROUND)
            if layers.annotations is not None:
                layers.annotations.brush_size = _BORDER_BRUSH
        layers.borders.turn_on(wanted)

    def _follow_brush(self, layer: Any) -> None:
        if layer is not self._brush_layer:
            if self._brush_layer is not None:
                self._links.disconnect(self._brush_layer.events.selected_label, self._show_brush)
            if layer is not None:
                self._links.connect(layer.events.selected_label, self._show_brush)
            self._brush_layer = layer
        self._show_brush()

    def _show_brush(self, _event: Any = None) -> None:
        layer = self._brush_layer
        self.class_list.set_picked(None if layer is None else int(layer.selected_label))

    def _current_annotations(self) -> Any:
        return self._session.layers.annotations

    def _on_new(self) -> None:
        self._session.layers.add_annotations()
