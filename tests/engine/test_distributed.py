"""The same answer from a cluster of separate processes, one of which dies."""

import importlib.metadata
import os
import signal
import socket
import threading

import numpy as np
import pytest
import torch
import zarr
from networks import make_unet

from napari_unet.engine.arrays import cluster
from napari_unet.engine.arrays.cluster import TileWorker, predict_array_on_cluster
from napari_unet.engine.arrays.events import OutputOpened, TilesWritten
from napari_unet.engine.arrays.predict_array import PredictArrayRequest, predict_array
from napari_unet.engine.arrays.source import ArraySource, open_source
from napari_unet.ops.errors import InputError

distributed = pytest.importorskip("distributed")

# One cluster for all of them, even where tests run side by side.
pytestmark = pytest.mark.xdist_group("cluster")
MODEL = make_unet(depth=1, base_channels=16)


@pytest.fixture(scope="module")
def local_cluster():
    """Two workers in processes of their own; a worker that dies is replaced."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def request_for(tmp_path):
    data = np.random.default_rng(0).random((150, 130))
    zarr.create_array(tmp_path / "in.zarr", data=data, chunks=(40, 50))

    def make(name, **options):
        source, _ = open_source(tmp_path / "in.zarr", 2)
        tile = MODEL.config.geometry.input_size(20)
        return PredictArrayRequest(
            source,
            tmp_path / name,
            dtype="float32",
            precision="fp32",
            tile_size=tile,
            **options,
        )

    return make


def probabilities(request):
    return zarr.open_group(request.output, mode="r")["probabilities"][:]


@pytest.mark.timeout(120)
def test_a_cluster_gives_the_same_answer_bit_for_bit_though_a_worker_dies(
    local_cluster, request_for, monkeypatch
):
    monkeypatch.setattr(cluster, "_TASK_PIXELS", 2 * 20 * 20)
    torch.set_num_threads(2)  # the workers have one each
    alone = request_for("alone.zarr")
    list(predict_array(MODEL, alone))
    together = request_for("together.zarr")
    victim = next(iter(local_cluster.workers.values())).pid
    events = []
    for event in predict_array_on_cluster(MODEL, together, local_cluster.scheduler_address):
        events.append(event)
        if isinstance(event, TilesWritten) and event.done == 9:
            os.kill(victim, signal.SIGKILL)
    assert victim not in {nanny.pid for nanny in local_cluster.workers.values()}
    done = [event.done for event in events if isinstance(event, TilesWritten)]
    assert done == list(range(1, events[-1].total + 1))
    assert not events[-1].stopped
    np.testing.assert_array_equal(probabilities(together), probabilities(alone))
    # The same job, begun on the cluster, is complete for a single process as well.
    first, _ = predict_array(MODEL, together)
    assert first == OutputOpened(together.output, len(done), len(done), first.plan)


@pytest.mark.timeout(120)
def test_a_stopped_job_on_a_cluster_goes_on_anywhere(local_cluster, request_for, monkeypatch):
    monkeypatch.setattr(cluster, "_TASK_PIXELS", 20 * 20)
    request, stop = request_for("out.zarr"), threading.Event()
    for event in predict_array_on_cluster(MODEL, request, local_cluster.scheduler_address, stop):
        if isinstance(event, TilesWritten):
            stop.set()
    assert event.stopped
    assert 0 < event.done < event.total
    first, *_, last = predict_array(MODEL, request)
    assert first.done == event.done
    assert last.done == last.total
    alone = request_for("alone.zarr")
    list(predict_array(MODEL, alone))
    np.testing.assert_array_equal(probabilities(request), probabilities(alone))


@pytest.mark.timeout(60)
def test_what_goes_wrong_on_a_worker_is_told(local_cluster, request_for, monkeypatch, tmp_path):
    sent = cluster._sent

    def elsewhere(prepared, request):
        job = sent(prepared, request)
        return cluster.replace(job, source=(tmp_path / "gone.zarr", "", "yx", 2, ()))

    monkeypatch.setattr(cluster, "_sent", elsewhere)
    with pytest.raises(InputError, match=r"does not see the array .*gone.zarr; it must lie on"):
        list(
            predict_array_on_cluster(
                MODEL, request_for("out.zarr"), local_cluster.scheduler_address
            )
        )


def test_a_worker_that_does_not_see_the_output_writes_nowhere(request_for, tmp_path):
    request = request_for("out.zarr")
    jobs = cluster.prepare(MODEL, request)
    with pytest.raises(StopIteration) as ended:
        next(jobs)
    job = cluster._sent(ended.value.value, request)
    TileWorker(job)
    for output in (tmp_path / "nowhere.zarr", tmp_path / "in.zarr"):
        with pytest.raises(InputError):
            TileWorker(cluster.replace(job, output=output))
    with pytest.raises(InputError, match="does not see the output"):
        TileWorker(cluster.replace(job, job={**job.job, "model": "another"}))
    assert not (tmp_path / "nowhere.zarr").exists()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{port}", "127.0.0.1:{port}", "nonsense://x"])
def test_a_scheduler_that_does_not_answer_is_named(request_for, monkeypatch, address):
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    address = address.format(port=free_port())
    request = request_for("out.zarr")
    with pytest.raises(InputError, match=f"no Dask scheduler answers at {address}; start one"):
        list(predict_array_on_cluster(MODEL, request, address))
    assert not request.output.exists()


def test_an_array_in_memory_is_refused(request_for, tmp_path):
    request = PredictArrayRequest(ArraySource(np.zeros((9, 9)), "yx"), tmp_path / "out.zarr")
    with pytest.raises(InputError, match="must be a zarr"):
        list(predict_array_on_cluster(MODEL, request, "tcp://127.0.0.1:1"))


class Answering:
    """A client whose workers answer in this way."""

    def __init__(self, *answers, workers=True):
        self._answers = {f"tcp://worker:{i}": answer for i, answer in enumerate(answers)}

    def wait_for_workers(self, count, timeout):
        if not self._answers:
            raise TimeoutError

    def run(self, function, *args, on_error):
        assert on_error == "return"
        return self._answers


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((), "the scheduler tcp://s:1 has no workers; start some"),
        (
            (importlib.metadata.PackageNotFoundError("napari-unet"),),
            "worker tcp://worker:0 has no napari-unet .*install it there",
        ),
        (
            (importlib.metadata.version("napari-unet"), "0.0.0"),
            "worker tcp://worker:1 has napari-unet 0.0.0, .*install the same version",
        ),
    ],
)
def test_workers_that_cannot_do_it_are_named(answers, words):
    with pytest.raises(InputError, match=words):
        cluster.check_workers(Answering(*answers), "tcp://s:1")
