"""What runs on a worker of a Dask cluster. Imported only where Dask distributed is installed."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from distributed import WorkerPlugin, get_worker

from napari_unet.engine.arrays.cluster import TileWorker, WorkerJob
from napari_unet.ops.errors import InputError


class TileWorkerPlugin(WorkerPlugin):
    """Carries a job to a worker, once.

    Parameters
    ----------
    job
        The job.
    """

    # A job that ended takes its plugin with it, and another job may use the same workers.
    idempotent = False

    def __init__(self, job: WorkerJob) -> None:
        self._job = job
        self._opened: TileWorker | None = None

    def __getstate__(self) -> WorkerJob:
        return self._job

    def __setstate__(self, job: WorkerJob) -> None:
        self.__init__(job)  # type: ignore[misc]

    def setup(self, worker: object) -> None:
        """Do nothing yet: what goes wrong in a task is told to the user, not so what does here."""
        self._lock = Lock()

    def opened(self) -> TileWorker:
        """Return the job, opened on this worker at its first task."""
        with self._lock:
            if self._opened is None:
                self._opened = TileWorker(self._job)
            return self._opened


def run_on_worker(name: str, numbers: Sequence[int]) -> list[int]:
    """Predict tiles on the worker that this runs on.

    Parameters
    ----------
    name
        Of the plugin that carries the job.
    numbers
        Which tiles.

    Returns
    -------
    list of int
        The tiles that are written: all of them.

    Raises
    ------
    InputError
        If the job did not reach the worker, or what `TileWorker` raises.
    """
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, TileWorkerPlugin):
        raise InputError("a worker did not get the job; give the same command again")
    return plugin.opened().run(numbers)
