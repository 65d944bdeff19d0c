"""Work on other threads that is not for the network: files and hashes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from qtpy.QtCore import QObject, Qt, Signal

from napari_unet.engine.journal import JournalError

_LAST_WAIT: Final = 10.0


class Work:
    """Something that runs on a thread of its own.

    Attributes
    ----------
    thread
        The thread.
    result
        What came out, or the error; None before.
    is_taken
        Whether it was handed over.
    """

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.result: Any = None
        self.is_taken = False

    def take(self, seconds: float) -> Any:
        """Wait at most so long and return the result, which then is handed to nobody else.

        None if it is not there yet, or was handed over before.
        """
        if self.thread is None or self.is_taken:
            return None
        self.thread.join(seconds)
        if self.thread.is_alive():
            return None
        self.is_taken = True
        return self.result


class Background(QObject):
    """Runs functions on threads of their own and hands their results to the main thread."""

    _arrived = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._arrived.connect(self._on_arrived, Qt.ConnectionType.QueuedConnection)

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> Work:
        """Run `work`, and call `then` on the main thread with what it returned or raised.

        Parameters
        ----------
        work
            Runs on another thread.
        then
            Takes its result: an exception if it raised one.

        Returns
        -------
        Work
            For who wants to wait for it for a moment.
        """
        begun = Work()

        def target() -> None:
            result: Any
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - the user is told, whatever it is
                result = error if isinstance(error, JournalError) else _worded(error)
            begun.result = result
            with suppress(RuntimeError):  # the window is gone
                if not self._is_closed:
                    self._arrived.emit((begun, then))

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, name="U-Net project", daemon=True)
        self._threads.append(thread)
        begun.thread = thread
        thread.start()
        return begun

    def close(self) -> None:
        """Wait for what runs; its results are dropped."""
        self._is_closed = True
        for thread in self._threads:
            thread.join(_LAST_WAIT)
        self._threads.clear()

    def _on_arrived(self, what: tuple[Work, Callable[[Any], None]]) -> None:
        begun, then = what
        if not self._is_closed and not begun.is_taken:
            begun.is_taken = True
            then(begun.result)


def _worded(error: Exception) -> JournalError:
    return JournalError(str(getattr(error, "strerror", None) or error) or type(error).__name__)
