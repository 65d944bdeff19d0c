"""What is being done: a bar with the time left, and a sentence."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_unet.viewer.form import QuietBar
from napari_unet.viewer.links import Links
from napari_unet.viewer.status import JobStatus, Phase

_STEPS = 1000
# Of a job without a known end, the bar goes on by this at every report, and begins anew.
_UNKNOWN_STEP = 50
_SECONDS_PER_MINUTE = 60


class JobPanel(QWidget):
    """Shows a `JobStatus` as it changes.

    Parameters
    ----------
    status
        What is observed.
    """

    def __init__(self, status: JobStatus) -> None:
        super().__init__()
        self._status = status
        self.bar = QuietBar()
        self.bar.setRange(0, _STEPS)
        self.bar.setTextVisible(True)
        # Its place stays, so that the dock is not laid out anew whenever a job begins or ends.
        policy = self.bar.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(policy)
        self.bar.setToolTip("How much of the job is done, and how long it still takes.")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.error = QLabel()
        self.error.setWordWrap(True)
        self.error.setStyleSheet("border-left: 3px solid #D55E00; padding-left: 5px")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for part in (self.bar, self.message, self.error):
            layout.addWidget(part)
        self._links = Links(self)
        for name in ("phase", "message", "fraction", "seconds_left", "last_error"):
            self._links.connect(getattr(status.events, name), self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the status as it is now."""
        status = self._status
        busy = status.phase is not Phase.IDLE
        left = status.seconds_left
        if busy and status.fraction is None and status.phase is not Phase.PAUSED:
            # Not Qt's own bar without an end: that draws the window anew 60 times a second, on the
            # cores that the job needs.
            self.bar.setValue((self.bar.value() + _UNKNOWN_STEP) % (_STEPS + 1))
            self.bar.setFormat("")
        else:
            self.bar.setValue(int((status.fraction or 0.0) * _STEPS))
            self.bar.setFormat("%p%" if left is None else f"{_duration(left)} left")
        self.bar.setVisible(busy)
        self.message.setText(status.message)
        self.message.setVisible(bool(status.message))
        self.error.setText(status.last_error)
        self.error.setVisible(bool(status.last_error))


def _duration(seconds: float) -> str:
    """Return "8 s" or "4 min 10 s"."""
    minutes, rest = divmod(round(seconds), _SECONDS_PER_MINUTE)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
