"""What the docks are made of: a scrolling page in sections, layer pickers, buttons with reasons."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from magicgui.widgets import ComboBox, create_widget
from napari.layers import Layer
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QFrame, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_unet.viewer.controller import Action, controller_for, unwrap
from napari_unet.viewer.layers import is_result

# A dock must leave most of a small screen to the image.
_DOCK_WIDTH = 310


class Links:
    """Connections from long-lived objects to a widget, cut when the widget is destroyed.

    Neither side is kept alive. Qt cuts its own connections; these are psygnal's and napari's.

    Parameters
    ----------
    widget
        Whose methods are connected.
    """

    def __init__(self, widget: QWidget) -> None:
        self._made: list[tuple[Any, weakref.WeakMethod[Callable[..., Any]]]] = []
        widget.destroyed.connect(self.cut)

    def connect(self, signal: Any, method: Callable[..., Any]) -> None:
        """Call a bound method of the widget at every `signal`."""
        signal.connect(method)
        self._made.append((signal, weakref.WeakMethod(method)))

    def disconnect(self, signal: Any, method: Callable[..., Any]) -> None:
        """Undo one connection."""
        signal.disconnect(method)
        self._made = [(s, m) for s, m in self._made if s is not signal or m() != method]

    def cut(self, _widget: Any = None) -> None:
        """Disconnect everything."""
        for signal, reference in self._made:
            if (method := reference()) is not None:
                signal.disconnect(method)
        self._made.clear()


class Dock(QScrollArea):
    """A dock on the session of a viewer: sections below each other, scrolling if need be.

    Parameters
    ----------
    viewer
        The napari viewer; the docks of one viewer share a session.

    Attributes
    ----------
    controller
        The session.
    links
        For signals that outlive the dock.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.controller = controller_for(viewer)
        self.links = Links(self)
        self._end_with_window(unwrap(viewer))
        page = QWidget()
        self.rows = QVBoxLayout(page)
        self.rows.setContentsMargins(8, 4, 8, 8)
        self.rows.setSpacing(5)
        self.setWidget(page)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(_DOCK_WIDTH)
        self.controller.changed.connect(self.refresh)
        self.links.connect(self.controller.status.events.phase, self.refresh)

    def sizeHint(self) -> QSize:
        """Return the size the dock would like; napari's side bar starts with it."""
        return QSize(_DOCK_WIDTH, 700)

    def refresh(self) -> None:
        """Show the session as it is: buttons, reasons, chosen layers."""
        for part in self.findChildren(RunButton):
            part.refresh()
        for picker in self.findChildren(LayerPicker):
            picker.refresh()

    def add_section(self, title: str) -> None:
        """Begin a part of the page."""
        if self.rows.count():
            line = QFrame()
            line.setFrameShape(QFrame.Shape.HLine)
            self.rows.addWidget(line)
        heading = QLabel(title)
        heading.setStyleSheet("font-weight: bold; font-size: 11pt")
        self.rows.addWidget(heading)

    def add_run_button(self, button: RunButton) -> None:
        """Add a button and, below it, the line that says why it cannot be pressed."""
        self.rows.addWidget(button)
        self.rows.addWidget(button.reason_line)

    def _end_with_window(self, viewer: Any) -> None:
        # napari tells plugins nothing when a window closes; a job would run on behind it.
        window = getattr(getattr(viewer, "window", None), "_qt_window", None)
        if window is not None:
            window.destroyed.connect(self.controller.close, Qt.ConnectionType.UniqueConnection)


class RunButton(QPushButton):
    """A button for an `Action`: grey while that cannot be done, and it says why.

    Parameters
    ----------
    text
        What is written on it.
    tooltip
        What it does; while it is grey the reason is shown instead.
    why_not
        Returns the reason why it cannot be pressed now, None if it can.

    Attributes
    ----------
    reason_line
        A label with the reason, to be put below the button; hidden while there is none.
    """

    def __init__(self, text: str, tooltip: str, why_not: Callable[[], str | None]) -> None:
        super().__init__(text)
        self._tooltip = tooltip
        self._why_not = why_not
        self.reason_line = note("")
        self.reason_line.hide()
        self.setToolTip(tooltip)

    def refresh(self) -> None:
        """Ask again whether it can be pressed."""
        reason = self._why_not()
        self.setEnabled(reason is None)
        self.setToolTip(self._tooltip if reason is None else reason)
        self.reason_line.setText(reason or "")
        self.reason_line.setVisible(reason is not None and self.reason_line.parent() is not None)


class LayerPicker(QWidget):
    """Chooses a layer of one kind; result layers of the sessions are not offered.

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
    nullable
        Whether "none" can be chosen; otherwise the first layer is chosen by itself.
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
        nullable: bool = False,
    ) -> None:
        super().__init__()
        self._viewer = weakref.ref(unwrap(viewer))
        self._kind = kind
        self._current = current
        self._nullable = nullable
        options = {"choices": self._offered, "nullable": nullable, "tooltip": tooltip}
        combo = create_widget(annotation=kind | None, options=options)
        if not isinstance(combo, ComboBox):
            raise TypeError(f"magicgui offers no list of {kind.__name__} layers")
        self.combo = combo
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.combo.native)
        self.combo.native.setMinimumContentsLength(10)
        self.combo.changed.connect(self.picked)
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
            if isinstance(layer, self._kind) and not is_result(layer)
        ]

    def _on_layers_changed(self, _event: Any = None) -> None:
        self.combo.reset_choices()
        self.refresh()


def note(text: str) -> QLabel:
    """Return a line of explanation that wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setStyleSheet("font-style: italic")
    return label


def folded(title: str, tooltip: str, content: QWidget) -> QCollapsible:
    """Return a part of the page that is folded away until its title is clicked."""
    part = QCollapsible(title)
    part.setDuration(0)
    part.setContent(content)
    part.collapse(animate=False)
    part.toggleButton().setToolTip(tooltip)
    return part


def action_reason(controller: Any, action: Action) -> Callable[[], str | None]:
    """Return the question that a `RunButton` asks about an action, with the session held weakly."""
    reference = weakref.ref(controller)

    def why_not() -> str | None:
        session = reference()
        return None if session is None else session.why_not(action)

    return why_not
