"""A list of the viewer's layers of one kind, to choose one from."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox, create_widget
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.viewer.layers import result_role
from napari_unet.viewer.links import Links
from napari_unet.viewer.session_layers import unwrap


class LayerPicker(QWidget):
    """Chooses a layer of one kind; result layers are offered only where that makes sense.

    Parameters
    ----------
    viewer
        The viewer whose layers are offered.
    kind
        `napari.layers.Image` or `napari.layers.Labels`.
    tooltip
        What the layer is for.
    current
        Returns the layer to be shown as chosen.
    none
        What the list calls that no layer is chosen; None: the first layer is chosen by itself.
    roles
        Result layers that are offered too, by their role ("instances").
    """

    #: The user (or the end of a layer) chose another layer, or None.
    picked = Signal(object)

    def __init__(
        self,
        viewer: Any,
        kind: type[Layer],
        tooltip: str,
        current: Callable[[], Layer | None],
        *,
        none: str | None = None,
        roles: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._viewer = weakref.ref(unwrap(viewer))
        self._kind = kind
        self._current = current
        self._nullable = none is not None
        self._roles = roles
        options = {"choices": self._offered, "nullable": self._nullable, "tooltip": tooltip}
        combo = create_widget(annotation=kind | None, options=options)
        if not isinstance(combo, ComboBox):
            raise TypeError(f"magicgui offers no list of {kind.__name__} layers")
        if none is not None:
            combo.null_string = none
            combo.reset_choices()
        self.combo = combo
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo.native)
        self.combo.native.setMinimumContentsLength(10)
        self.combo.changed.connect(self.picked.emit)
        self._links = Links(self)
        events = unwrap(viewer).layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            self._links.connect(event, self._on_layers_changed)

    def refresh(self) -> None:
        """Show the current layer as chosen, without telling anybody."""
        layer = self._current()
        with self.combo.changed.blocked():
            if layer in self.combo.choices:
                self.combo.value = layer
            elif layer is None and self._nullable:
                self.combo.value = None

    def pick_first(self) -> None:
        """Choose the selected layer if it is offered, else what the list shows."""
        viewer = self._viewer()
        active = None if viewer is None else viewer.layers.selection.active
        if active in self._offered():
            self.combo.value = active
        self.picked.emit(self.combo.value)

    def _offered(self, _widget: Any = None) -> list[Layer]:
        viewer = self._viewer()
        if viewer is None:
            return []
        return [
            layer
            for layer in viewer.layers
            if isinstance(layer, self._kind) and result_role(layer) in (None, *self._roles)
        ]

    def _on_layers_changed(self, _event: Any = None) -> None:
        self.combo.reset_choices()
        gone = self._current()
        if gone is not None and gone not in self.combo.choices:
            self.picked.emit(self.combo.value)  # an emptied list does not tell it by itself
        self.refresh()
