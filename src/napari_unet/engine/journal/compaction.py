"""Keep a project quick to open and within bounds, while it is written to."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from napari_unet.engine.journal.changes import CLICKS
from napari_unet.engine.journal.folder import MODELS, segments, snapshots
from napari_unet.engine.journal.snapshot import write_snapshot
from napari_unet.engine.journal.state import ProjectState

_SNAPSHOTS_KEPT: Final = 2
#: Bytes of the journal that are kept for undo, and of weights; the oldest go first.
MOST_HISTORY: Final = 2 * 2**30
MOST_MODELS: Final = 4 * 2**30


class Compaction:
    """Takes snapshots in the background, one at a time.

    Parameters
    ----------
    folder
        Of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread: threading.Thread | None = None

    def begin(self, state: ProjectState) -> None:
        """Take a snapshot of a state that does not change; not if one is being taken."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(
            target=compact, args=(self._folder, state), name="U-Net snapshot", daemon=True
        )
        self._thread.start()

    def wait(self, timeout: float) -> None:
        """Wait for the snapshot that is being taken."""
        if self._thread is not None:
            self._thread.join(timeout)


def compact(folder: Path, state: ProjectState) -> bool:
    """Write a snapshot and remove what nothing needs any more; whether that went well.

    A snapshot is a convenience: without it the journal is read from an earlier one.
    """
    try:
        # A state without changes, or whose snapshot is there, needs none.
        if state.last and state.last not in snapshots(folder):
            write_snapshot(folder, state)
        _prune(folder, state)
    except OSError:
        return False
    return True


def _prune(folder: Path, state: ProjectState) -> None:
    for path in list(snapshots(folder).values())[:-_SNAPSHOTS_KEPT]:
        shutil.rmtree(path)
    oldest_snapshot = min(snapshots(folder), default=0)
    parts = segments(folder)
    # A part may go when the next one begins at or before what the oldest snapshot leads to.
    free = [
        parts[first]
        for first, following in zip(list(parts), list(parts)[1:], strict=False)
        if following <= oldest_snapshot + 1
    ]
    _remove_oldest(list(parts.values()), free, MOST_HISTORY)
    kept = _weights_in_use(state)
    weights = sorted((folder / MODELS).glob("*.safetensors"))
    free = [path for path in weights if path.name not in kept]
    _remove_oldest(weights, free, MOST_MODELS)


def _weights_in_use(state: ProjectState) -> set[str]:
    """Return the names of the networks that reopening goes on with."""
    names = set() if state.model is None else {state.model.name}
    clicks = state.settings.get(CLICKS)
    network = clicks.get("network") if isinstance(clicks, dict) else None
    return names | ({str(network.get("name"))} if isinstance(network, dict) else set())


def _remove_oldest(files: list[Path], free: list[Path], most: int) -> None:
    size = sum(path.lstat().st_size for path in files)
    for path in free:
        if size <= most:
            break
        size -= path.lstat().st_size
        path.unlink()


def tidy(folder: Path) -> None:
    """Remove what an interrupted program left half written."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.startswith(".") and entry.name.endswith(".tmp")):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
