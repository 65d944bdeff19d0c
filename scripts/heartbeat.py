"""How long a window does not answer: a timer that should fire at once, again and again."""

from __future__ import annotations

import time

import numpy as np
from qtpy.QtCore import QObject, Qt, QTimer

# Between two beats, in milliseconds; a block shorter than that cannot be told from none.
_EVERY_MS = 5


class Heartbeat(QObject):
    """Measures by how much each beat of the event loop came late, from `start` to `stop`.

    Attributes
    ----------
    late
        Seconds, one number a beat.
    """

    def __init__(self) -> None:
        super().__init__()
        self.late: list[float] = []
        self._last = 0.0
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_EVERY_MS)
        self._timer.timeout.connect(self._on_beat)

    def start(self) -> None:
        """Begin to measure."""
        self.late.clear()
        self.go_on()

    def go_on(self) -> None:
        """Measure again after `stop`; the beats before it still count."""
        self._last = time.perf_counter()
        self._timer.start()

    def stop(self) -> None:
        """Measure no more."""
        self._timer.stop()

    def row(self) -> list[str]:
        """Return beats, and median, 95th and 99th percentile and the longest block, in ms."""
        percentiles = np.percentile(self.late, (50, 95, 99, 100)) * 1e3
        return [str(len(self.late)), *(f"{value:.0f}" for value in percentiles)]

    def _on_beat(self) -> None:
        now = time.perf_counter()
        self.late.append(max(now - self._last - _EVERY_MS / 1e3, 0.0))
        self._last = now


#: What `Heartbeat.row` returns.
HEAD = ["beats", "median, ms", "95 %, ms", "99 %, ms", "longest, ms"]
