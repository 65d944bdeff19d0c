"""The tiles of a large array computed by the workers of a Dask cluster.

The model goes to every worker once, with a plugin; workers that come later get it as well. A task
is a handful of neighbouring tiles: the worker reads them, computes them and writes them into the
output by itself, and what comes back is which tiles those were. This process marks them. So pixels
never pass through the scheduler or through this process, and a worker that dies takes no more with
it than the tiles that it was at, which another one computes again.
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from napari_unet.engine.arrays.events import ArrayFinished
from napari_unet.engine.arrays.layout import OutputLayout
from napari_unet.engine.arrays.pipeline import TileNetwork, TileReader, run_tiles
from napari_unet.engine.arrays.predict_array import (
    ArrayEvent,
    PredictArrayRequest,
    PreparedJob,
    finish_tiles,
    prepare,
)
from napari_unet.engine.arrays.ranges import Stopped
from napari_unet.engine.arrays.source import ArraySource
from napari_unet.engine.arrays.store import OutputStore, read_job
from napari_unet.engine.device import resolve_device
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError

if TYPE_CHECKING:
    from distributed import Client, Future

_PACKAGE: Final = "napari-unet"
# Seconds that a scheduler and its first worker have to answer.
_PATIENCE: Final = 10.0
# Pixels of a task: about half a second for a 16-channel network on two cores. The scheduler hands
# out some 1,000 tasks a second, so that 100 workers need tasks of 0.1 s and more.
_TASK_PIXELS: Final = 2**21
# Tasks that each thread of a worker has at hand, so that it need not wait for the next.
_QUEUED: Final = 2
# Seconds between looks at whether the job is to stop.
_LOOK_EVERY: Final = 0.2
# Seconds that running tasks are waited for when the job stops.
_LAST_TASKS: Final = 60.0
# Seconds without any worker after which the job gives up; a cluster may restart them.
_NO_WORKERS: Final = 120.0


@dataclass(frozen=True, eq=False)
class WorkerJob:
    """What a worker is sent: no pixels, but where they are, and the network.

    Attributes
    ----------
    network
        The network and its plan.
    device
        The device of the worker, as for `napari_unet.engine.device.resolve_device`.
    source
        Folder of the array, its place in a group, and the other values of an `ArraySource`.
    output
        Folder of the output.
    layout
        What the output holds.
    job
        What the output says that it belongs to.
    """

    network: TileNetwork
    device: str
    source: tuple[Path, str, str, int, tuple[int, ...]]
    output: Path
    layout: OutputLayout
    job: dict[str, Any]


class TileWorker:
    """The job on a worker: everything that is opened once, and the network as it runs there.

    Parameters
    ----------
    job
        What the worker was sent.

    Raises
    ------
    InputError
        If the worker does not see the array or the output.
    """

    def __init__(self, job: WorkerJob) -> None:
        path, component, axes, ndim, selected = job.source
        if not job.output.exists() or read_job(job.output) != job.job:
            raise InputError(
                f"a worker does not see the output {job.output}; it must lie on a disk that all "
                "workers share, under the same path"
            )
        self._store = OutputStore(job.output, job.layout)
        source = ArraySource(_open_array(path, component), axes, ndim, path, component, selected)
        self._read = TileReader(source, self._store.ranges)
        plan = replace(job.network.plan, device=resolve_device(job.device))
        self._network = replace(job.network, plan=plan)

    def run(self, numbers: Iterable[int]) -> list[int]:
        """Predict tiles and write them; returns their numbers."""
        return list(run_tiles(self._network, self._read, self._store, numbers))


def predict_array_on_cluster(
    model: UNet, request: PredictArrayRequest, scheduler: str, stop: Event | None = None
) -> Iterator[ArrayEvent]:
    """Predict an array of any size on a Dask cluster; the answer is that of `predict_array`.

    Parameters
    ----------
    model, request
        As for `predict_array`. Array and output must be zarrs on a disk that all workers see under
        the same path.
    scheduler
        Its address, such as "tcp://host:8786".
    stop
        Looked at several times a second. Tiles that are being computed are waited for.

    Yields
    ------
    OutputOpened, TilesWritten, Noticed, ArrayFinished
        As from `predict_array`.

    Raises
    ------
    InputError
        As from `predict_array`, and if scheduler or workers do not answer, lack this package or
        have another version of it, or do not see the array. Tiles that were written are kept.
    """
    started = time.monotonic()
    if request.source.path is None:
        raise InputError(
            "workers read the array where it lies, so it must be a zarr; store it as one first"
        )
    with connected(scheduler) as client:
        check_workers(client, scheduler)
        try:
            prepared = yield from prepare(model, request, stop)
        except Stopped:
            yield ArrayFinished(request.output, 0, 0, 0, time.monotonic() - started, True)
            return

        def work(missing: Iterable[int]) -> Iterator[int]:
            return _run_on(client, prepared, request, missing, stop)

        yield from finish_tiles(prepared, work, started)


def connected(scheduler: str) -> Client:
    """Connect to a scheduler.

    Raises
    ------
    InputError
        If Dask distributed is not installed, or the scheduler does not answer.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            'Dask distributed is not installed; install it with: pip install "napari-unet'
            '[distributed]"'
        ) from error
    try:
        return Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"no Dask scheduler answers at {scheduler}; start one with `dask scheduler`, and check "
            "address and port, such as tcp://host:8786"
        ) from error


def check_workers(client: Client, scheduler: str) -> None:
    """Raise InputError unless there are workers, and all have the version of this package."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except (TimeoutError, OSError) as error:
        raise InputError(
            f"the scheduler {scheduler} has no workers; start some with `dask worker {scheduler}`"
        ) from error
    # A function of the standard library: one of this package could not even be sent to a worker
    # that lacks it.
    answers = client.run(importlib.metadata.version, _PACKAGE, on_error="return")
    ours = importlib.metadata.version(_PACKAGE)
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            raise InputError(
                f"the worker {address} has no {_PACKAGE} ({answer}); install it there with: pip "
                f'install "{_PACKAGE}[distributed]=={ours}"'
            )
        if answer != ours:
            raise InputError(
                f"the worker {address} has {_PACKAGE} {answer}, and this program is {ours}; "
                "install the same version everywhere"
            )


def _run_on(
    client: Client,
    prepared: PreparedJob,
    request: PredictArrayRequest,
    missing: Iterable[int],
    stop: Event | None,
) -> Iterator[int]:
    from distributed import CancelledError, KilledWorker

    from napari_unet.engine.arrays.worker import TileWorkerPlugin

    name = f"{_PACKAGE}-{uuid4().hex}"
    client.register_plugin(TileWorkerPlugin(_sent(prepared, request)), name=name)
    running: set[Future[Any]] = set()
    try:
        for tasks in _handed_out(client, _tasks(prepared, missing), running, name, stop):
            for future in tasks:
                running.discard(future)
                yield from future.result()
    except KilledWorker as error:
        raise InputError(
            "workers died again and again at the same tiles, as they do where memory is short; "
            "give them more of it, or begin anew with a smaller --tile-size and --overwrite. What "
            "is done is kept"
        ) from error
    except (CancelledError, OSError, TimeoutError) as error:
        raise InputError(
            "the connection to the Dask scheduler was lost; give the same command again when it is "
            "back: what is done is kept"
        ) from error
    except ImportError as error:
        raise InputError(
            f"a worker lacks a package ({error}); install napari-unet[distributed] there. What is "
            "done is kept"
        ) from error
    finally:
        client.cancel(list(running))
        client.unregister_worker_plugin(name)


def _handed_out(
    client: Client,
    tasks: Iterator[list[int]],
    running: set[Future[Any]],
    name: str,
    stop: Event | None,
) -> Iterator[set[Future[Any]]]:
    """Keep the workers busy, and yield the tasks that ended; `running` is kept up to date."""
    from distributed import wait

    from napari_unet.engine.arrays.worker import run_on_worker

    workers = _Workers(client)
    while True:
        stopped = stop is not None and stop.is_set()
        if stopped:
            tasks = iter(())
        for numbers in islice(tasks, max(workers.threads() * _QUEUED - len(running), 0)):
            running.add(client.submit(run_on_worker, name, numbers, pure=False))
        if not running or (stopped and workers.waited_too_long()):
            return
        try:
            with client.as_current():  # never around a yield
                done = wait(running, timeout=_LOOK_EVERY, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            continue
        yield set(done)


class _Workers:
    """How many threads the cluster has; asked for now and then."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._threads = 0
        self._asked = self._seen = time.monotonic()
        self._stopping: float | None = None

    def threads(self) -> int:
        """Return the number of threads, at least 1.

        Raises
        ------
        InputError
            If there has been no worker for a while.
        """
        now = time.monotonic()
        if not self._threads or now - self._asked > 1:
            self._threads, self._asked = sum(self._client.nthreads().values()), now
        if self._threads:
            self._seen = now
        elif now - self._seen > _NO_WORKERS:
            raise InputError(
                "all workers of the cluster are gone; start some, and give the same command again: "
                "what is done is kept"
            )
        return max(self._threads, 1)

    def waited_too_long(self) -> bool:
        """Say whether the last tasks take so long that they are not waited for any more."""
        now = time.monotonic()
        self._stopping = self._stopping or now
        return now - self._stopping > _LAST_TASKS


def _tasks(prepared: PreparedJob, missing: Iterable[int]) -> Iterator[list[int]]:
    """Put neighbouring tiles together, so that a task is worth its handing out."""
    grid = prepared.store.layout.grid
    todo = iter(missing)
    count = max(_TASK_PIXELS // math.prod(grid.sides), 1)
    while numbers := list(islice(todo, count)):
        yield numbers


def _sent(prepared: PreparedJob, request: PredictArrayRequest) -> WorkerJob:
    source, store = request.source, prepared.store
    assert source.path is not None
    path = source.path.resolve()
    place = (path, source.component, source.axes, source.ndim, source.selected)
    return WorkerJob(
        prepared.network, request.device, place, store.path.resolve(), store.layout, prepared.job
    )


def _open_array(path: Path, component: str) -> Any:
    import zarr

    try:
        return zarr.open_array(path, path=component, mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"a worker does not see the array {path}; it must lie on a disk that all workers "
            "share, under the same path"
        ) from error
