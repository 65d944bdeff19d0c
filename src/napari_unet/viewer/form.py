"""What the docks are made of: a scrolling page in sections, and buttons with reasons."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_unet.viewer.actions import Action
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.layer_picker import LayerPicker
from napari_unet.viewer.links import Links
from napari_unet.viewer.session_layers import unwrap

# A dock must leave most of a small screen to the image.
_DOCK_WIDTH = 320
# What napari's own style leaves plain: the one button to press, and the brush that is taken.
_STYLE = """
QPushButton#main {{ font-weight: bold; font-size: 12pt; min-height: 34px }}
QPushButton#main:enabled {{ background-color: {current} }}
QPushButton#class {{ text-align: left; padding: 4px; border: 2px solid transparent }}
QPushButton#class:checked {{ border: 2px solid {current}; font-weight: bold }}
"""


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
        self._page = QWidget()
        self.rows = QVBoxLayout(self._page)
        self.rows.setContentsMargins(8, 4, 8, 8)
        self.rows.setSpacing(5)
        self.setWidget(self._page)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(_DOCK_WIDTH)
        self._is_stale = False
        self.controller.changed.connect(self._on_session_changed)
        self.links.connect(self.controller.status.events.phase, self._on_session_changed)
        self.links.connect(unwrap(viewer).events.theme, self._on_theme)
        self.set_theme(unwrap(viewer).theme)

    def sizeHint(self) -> QSize:
        """Return the size the dock would like; napari's side bar starts with it."""
        return QSize(_DOCK_WIDTH, 700)

    def set_theme(self, theme: str) -> None:
        """Take the colours of a napari theme, by its id."""
        self._page.setStyleSheet(_STYLE.format(current=get_theme(theme).current.as_hex()))

    def _on_theme(self, event: Any) -> None:
        self.set_theme(event.value)

    def showEvent(self, event: QShowEvent) -> None:
        """Take in what happened while other docks were in front; Qt calls this."""
        if self._is_stale:
            self.refresh()
        super().showEvent(event)

    def _on_session_changed(self, _event: Any = None) -> None:
        """Refresh, unless the dock lies behind others: there are seven, and one is seen."""
        self._is_stale = self.window().isVisible() and not self.isVisible()
        if not self._is_stale:
            self.refresh()

    def refresh(self) -> None:
        """Show the session as it is: buttons, reasons, chosen layers."""
        self._is_stale = False
        for part in self.findChildren(RunButton):
            part.refresh()
        for picker in self.findChildren(LayerPicker):
            picker.refresh()

    def add_section(self, title: str) -> None:
        """Begin a part of the page."""
        if self.rows.count():
            self.rows.addSpacing(8)
        heading = QLabel(title)
        heading.setWordWrap(True)
        heading.setStyleSheet("font-weight: bold; font-size: 11pt")
        self.rows.addWidget(heading)

    def add_run_button(self, button: RunButton) -> None:
        """Add a button and, below it, the line that says why it cannot be pressed."""
        self.rows.addWidget(button)
        self.rows.addWidget(button.reason_line)


class QuietBar(QProgressBar):
    """A bar that is drawn with the next picture of the window.

    Qt's own draws at once when it is told of a value, and in a window with a canvas of OpenGL that
    means all of the window; without a graphics card 50 ms, in which nothing else is answered.
    """

    def setValue(self, value: int) -> None:
        """Show a value."""
        self.setUpdatesEnabled(False)
        super().setValue(value)
        self.setUpdatesEnabled(True)


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
        # What was shown last, None or words; empty before.
        self._reason: tuple[str | None, ...] = ()
        self.reason_line = note("")
        self.reason_line.hide()
        self.setToolTip(tooltip)

    def refresh(self) -> None:
        """Ask again whether it can be pressed."""
        reason = self._why_not()
        if self._reason == (reason,):
            return
        self._reason = (reason,)
        self.setEnabled(reason is None)
        self.setToolTip(self._tooltip if reason is None else reason)
        self.reason_line.setText(reason or "")
        self.reason_line.setVisible(reason is not None and self.reason_line.parent() is not None)


def note(text: str) -> QLabel:
    """Return a line of explanation that wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setStyleSheet("font-style: italic")
    return label


class Hint(QLabel):
    """A line of explanation with room for two, so that what is below stays when it changes."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setIndent(5)  # as other lines have by napari's style
        self.setStyleSheet("font-style: italic; padding: 0; margin: 0")

    def heightForWidth(self, width: int) -> int:
        """Return the height of the text, or of two lines; Qt calls this."""
        bounds = QRect(0, 0, width, 0)
        two = self.fontMetrics().boundingRect(bounds, Qt.TextFlag.TextWordWrap, "x\nx").height()
        return max(super().heightForWidth(width), two + self.indent())  # it counts at the top, too


def folded(title: str, tooltip: str, content: QWidget) -> QCollapsible:
    """Return a part of the page that is folded away until its title is clicked."""
    part = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
    part.setDuration(0)
    if (layout := part.layout()) is not None:
        layout.setContentsMargins(0, 0, 0, 0)
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


def choice(choices: dict[str, str], tooltip: str) -> QComboBox:
    """Return a field that offers titles and holds their values."""
    field = QComboBox()
    for title, value in choices.items():
        field.addItem(title, value)
    field.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    field.setMinimumContentsLength(8)
    field.setToolTip(tooltip)
    return field
