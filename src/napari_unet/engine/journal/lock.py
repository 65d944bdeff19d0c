"""Who may write to a project: one program at a time.

The lock is the operating system's, on an open file. It ends with the process that holds it, however
that ends, so there are no locks of the dead to wait for.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from napari_unet.engine.journal.checked import Checked
from napari_unet.engine.journal.folder import opened, timestamp
from napari_unet.engine.journal.format import JournalError, read_json

_LOCK: Final = "lock"
_OWNER: Final = "owner.json"


class ProjectLock:
    """The right to write to a project.

    Parameters
    ----------
    folder
        Of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Whoever closes a project need not be who opened it, so not one lock per thread.
        self._lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)

    def take(self) -> str | None:
        """Take the lock; None if that went well, otherwise why not, for the user."""
        if os.path.islink(self._folder / _LOCK):
            return "the file 'lock' in its folder is a link"
        try:
            self._lock.acquire()
        except Timeout:
            return f"it is open in another window{self._owner()}"
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"its folder cannot be written ({reason.lower()})"
        owner = json.dumps({"process": os.getpid(), "since": timestamp()})
        with suppress(OSError):  # it is for people alone
            (self._folder / _OWNER).write_text(owner, encoding="ascii")
        return None

    def renew(self) -> None:
        """Take the lock again, in a folder that was made anew."""
        self.release()
        self.take()

    def release(self) -> None:
        """Let others write."""
        with suppress(OSError):
            self._lock.release(force=True)

    def _owner(self) -> str:
        try:
            with opened(self._folder / _OWNER) as file:
                values = Checked(read_json(file.read(1000)))
            return f" (process {values.whole('process', 0)}, since {values.text('since', 40)})"
        except JournalError:
            return ""
