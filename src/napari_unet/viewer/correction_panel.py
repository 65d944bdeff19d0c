"""The part of the Fine-tune dock with which an answer is corrected and accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_unet.viewer.actions import Action
from napari_unet.viewer.form import RunButton, action_reason

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController


class CorrectionPanel(QWidget):
    """Buttons that part objects, accept what is on screen, and take learning back.

    Parameters
    ----------
    session
        Whose answer it is.
    part
        Called with whether the next strokes are to part objects.
    """

    def __init__(self, session: SegmentationController, part: Callable[[bool], None]) -> None:
        super().__init__()
        self._layers = session.layers
        self.part = RunButton(
            "Part objects",
            "Draw lines between objects that came out as one: they become background, weigh more, "
            "and the prediction is adapted there at once (Shift+B). Press again for the brush.",
            session.layers.borders.why_not,
        )
        self.part.setCheckable(True)
        self.part.clicked.connect(part)
        corrections = session.corrections
        self.accept = RunButton(
            "Accept view",
            "What is on screen is right: later learning must not change it (Shift+K). What changes "
            "all the same is shown, and if it is much, the learning is taken back.",
            action_reason(session, Action.ACCEPT),
        )
        self.accept.clicked.connect(corrections.accept_view)
        self.withdraw = RunButton(
            "Accept nothing",
            "Let later learning change this image again.",
            action_reason(session, Action.WITHDRAW),
        )
        self.withdraw.clicked.connect(corrections.withdraw)
        self.undo = RunButton(
            "Undo last learning",
            "Go back to the weights before the last time you pressed Learn (Shift+U).",
            action_reason(session, Action.UNDO_LEARNING),
        )
        self.undo.clicked.connect(corrections.undo_learning)
        row = QHBoxLayout()
        row.addWidget(self.accept)
        row.addWidget(self.withdraw)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.part)
        rows.addLayout(row)
        rows.addWidget(self.undo)

    def refresh(self) -> None:
        """Show whether the brush parts objects."""
        self.part.setChecked(self._layers.borders.is_on)
