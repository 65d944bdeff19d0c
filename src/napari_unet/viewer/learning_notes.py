"""Lines of the Fine-tune dock that follow the session: how good the answer is, how it learns."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QWidget

from napari_unet.viewer.links import Links
from napari_unet.viewer.score_text import describe_score
from napari_unet.viewer.status import JobStatus


class ScoreNote(QLabel):
    """How good the answer is, and whose it is; hidden while nothing is known.

    Parameters
    ----------
    status
        What is observed.
    parent
        The dock; without one it would be a window.
    """

    def __init__(self, status: JobStatus, parent: QWidget) -> None:
        super().__init__(parent)
        self._status = status
        self.setWordWrap(True)
        self.setToolTip(
            "Measured on whole strokes that are kept out of learning: every fifth of a class with "
            "three or more."
        )
        self._links = Links(self)
        for name in ("score", "score_reason", "speaker", "kept"):
            self._links.connect(getattr(status.events, name), self.refresh)
        self.refresh()

    def refresh(self, _value: object = None) -> None:
        """Show the status as it is now."""
        text = describe_score(self._status)
        self.setText(text)
        self.setVisible(bool(text))


class SetupNote(QLabel):
    """Which patches, precision and threads it learns with, and why; hidden before it did.

    Parameters
    ----------
    status
        What is observed.
    parent
        The dock; without one it would be a window.
    """

    def __init__(self, status: JobStatus, parent: QWidget) -> None:
        super().__init__(parent)
        self._status = status
        self.setWordWrap(True)
        self._links = Links(self)
        self._links.connect(status.events.setup, self.refresh)
        self.refresh()

    def refresh(self, _value: object = None) -> None:
        """Show the status as it is now."""
        setup = self._status.setup
        self.setText("" if setup is None else f"Learns from {setup.words}")
        self.setToolTip("" if setup is None else setup.reason)
        self.setVisible(setup is not None)
