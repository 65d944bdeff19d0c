"""Work on other threads that is not for the network: files and hashes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from qtpy.QtCore import QObject, Qt, Signal

from napari_unet.engine.journal import JournalError

_LAST_WAIT: Final = 10.0


class Background(QObject):
    """Runs functions on threads of their own and hands their results to the main thread."""

    _arrived = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._arrived.connect(self._on_arrived, Qt.ConnectionType.QueuedConnection)

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Run `work`, and call `then` on the main thread with what it returned or raised.

        Parameters
        ----------
        work
            Runs on another thread.
        then
            Takes its result: an exception if it raised one.
        """

        def target() -> None:
            result: Any
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - the user is told, whatever it is
                result = error if isinstance(error, JournalError) else _worded(error)
            with suppress(RuntimeError):  # the window is gone
                if not self._is_closed:
                    self._arrived.emit((then, result))

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, name="U-Net project", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Wait for what runs; its results are dropped."""
        self._is_closed = True
        for thread in self._threads:
            thread.join(_LAST_WAIT)
        self._threads.clear()

    def _on_arrived(self, what: tuple[Callable[[Any], None], Any]) -> None:
        if not self._is_closed:
            what[0](what[1])


def _worded(error: Exception) -> JournalError:
    return JournalError(str(getattr(error, "strerror", None) or error) or type(error).__name__)
