"""How far work in the background is, what it says, and the button that ends it."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.viewer.background import BackgroundWork
from napari_unet.viewer.form import QuietBar, RunButton, note

_STEPS = 1000


class BackgroundPanel(QWidget):
    """Shows work as it goes on; button and bar are there only meanwhile.

    Parameters
    ----------
    work
        What is observed and ended.
    stop_tooltip, bar_tooltip
        What stays when it is ended, and what the bar is a share of.
    idle
        Why it cannot be ended while nothing runs.
    """

    def __init__(
        self, work: BackgroundWork, stop_tooltip: str, bar_tooltip: str, idle: str
    ) -> None:
        super().__init__()
        self._work = work
        self.stop = RunButton("Stop", stop_tooltip, lambda: None if work.is_running else idle)
        self.stop.clicked.connect(work.stop)
        self.bar = QuietBar()
        self.bar.setRange(0, _STEPS)
        self.bar.setToolTip(bar_tooltip)
        self.message = note("")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        for part in (self.stop, self.bar, self.message):
            rows.addWidget(part)

    def refresh(self) -> None:
        """Show the work as it is now."""
        self.stop.setVisible(self._work.is_running)
        self.bar.setVisible(self._work.is_running)
        self.bar.setValue(int(_STEPS * self._work.fraction))
        self.message.setText(self._work.message)
