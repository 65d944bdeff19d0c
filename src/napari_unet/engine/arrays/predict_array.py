"""Prediction of an array that need not fit into memory, tile by tile from disk to disk.

The answer is that of `napari_unet.engine.predict`: the same tiles, the same scaling of the grey
values. The job can be stopped or killed at any moment, and goes on when it is started again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from napari_unet.engine.arrays.events import ArrayFinished, OutputOpened, TilesWritten
from napari_unet.engine.arrays.grid import TileGrid
from napari_unet.engine.arrays.pipeline import TileNetwork, TileReader, run_tiles
from napari_unet.engine.arrays.ranges import Measured, Stopped, measure
from napari_unet.engine.arrays.source import ArraySource, Place
from napari_unet.engine.arrays.store import (
    Content,
    OutputLayout,
    OutputStore,
    OutputType,
    create_store,
    read_job,
)
from napari_unet.engine.averaging import Averaging
from napari_unet.engine.events import Noticed
from napari_unet.engine.images.omezarr import is_zarr
from napari_unet.engine.plan import ExecutionPlan, Precision, choose_plan
from napari_unet.engine.predict import inner_sizes, precision_difference
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError

# Seconds after which finished tiles are marked: a mark costs as much as a tenth of a tile.
_MARK_EVERY: Final = 2.0
# Of a stack, so many images are read again to see whether it is still the same.
_COMPARED: Final = 16
_PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.half}

# What a plan says of the machine that it was made for.
_PER_MACHINE: Final = ("device", "seconds")
# What the settings of a job are called on the command line.
_OPTIONS: Final = {
    "content": "--save",
    "dtype": "--dtype",
    "precision": "--precision",
    "averaging": "--averaging",
    "tile": "the inner side of its tiles (--tile-size)",
}

ArrayEvent = OutputOpened | TilesWritten | Noticed | ArrayFinished


@dataclass(frozen=True, slots=True, eq=False)
class PredictArrayRequest:
    """What to predict, and where to.

    Attributes
    ----------
    source
        The array.
    output
        Folder of the zarr group that is made. If it holds tiles of the very same job, the job goes
        on with the missing ones; if it holds anything else, it is refused.
    overwrite
        Whether a zarr that lies at `output` is deleted first.
    content
        "probabilities", "classes" or "both".
    dtype
        Of the probabilities: "uint8" (255 is 1), "float16" or "float32".
    tile_size
        Input side of a tile in pixels; None chooses it from the free memory, or takes that of
        the job that goes on.
    precision
        "auto" takes the fastest precision whose answer stays the same, checked on a tile from the
        middle; "fp32" is exact.
    device
        As for `napari_unet.engine.device.resolve_device`.
    averaging
        "none" or "symmetries"; a turned array does not fit the tiles.
    pixel_sizes
        For any axis by name: the distance from one to the next, and its unit or None; written into
        the output.
    """

    source: ArraySource
    output: Path
    overwrite: bool = False
    content: Content = "probabilities"
    dtype: OutputType = "uint8"
    tile_size: int | None = None
    precision: Precision = "auto"
    device: str = "auto"
    averaging: Averaging = "none"
    pixel_sizes: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.averaging not in ("none", "symmetries"):
            raise InputError(
                f"averaging over {self.averaging} needs the whole image in memory; give "
                "--averaging symmetries or --averaging none"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PreparedJob:
    """An output that is open, and what computes its tiles."""

    store: OutputStore
    network: TileNetwork
    job: dict[str, Any]


def predict_array(
    model: UNet, request: PredictArrayRequest, stop: threading.Event | None = None
) -> Iterator[ArrayEvent]:
    """Predict an array of any size into a zarr group.

    Parameters
    ----------
    model
        The network; it must not change while the job runs.
    request
        What to predict, and where to.
    stop
        Checked before every tile.

    Yields
    ------
    OutputOpened
        Once, before the first tile; not if it was stopped before.
    TilesWritten, Noticed
        Tiles as they are written; what the user should know.
    ArrayFinished
        Last.

    Raises
    ------
    InputError
        If array, network and output do not fit together, the output belongs to another job, or
        something cannot be read or written. Tiles that were written are kept.
    """
    started = time.monotonic()
    try:
        prepared = yield from prepare(model, request, stop)
    except Stopped:
        yield ArrayFinished(request.output, 0, 0, 0, time.monotonic() - started, True)
        return
    store = prepared.store
    read = TileReader(request.source, store.ranges)

    def work(missing: Iterable[int]) -> Iterator[int]:
        return run_tiles(prepared.network, read, store, missing, stop)

    yield from finish_tiles(prepared, work, started)


def prepare(
    model: UNet, request: PredictArrayRequest, stop: threading.Event | None = None
) -> Generator[ArrayEvent, None, PreparedJob]:
    """Make the output, or open one that belongs to the very same job.

    Raises
    ------
    Stopped
        If `stop` was set before the output was there.
    InputError
        As for `predict_array`.
    """
    source, path = request.source, request.output
    _check_fit(model, source)
    _check_paths(request)
    known = None if request.overwrite else read_job(path)
    places = list(source.places())
    measured = {p: measure(source, p, stop) for p in (_spread(places) if known else places)}
    job = _described(model, request, measured)
    if known:
        plan = _known_plan(model, request, known)
        sides = [int(side) for side in known["settings"]["tile"]]
        if request.tile_size is not None:
            job["settings"]["tile"] = _tile_sides(model, plan, request.tile_size)
        _refuse_another(job, known, request)
        store = OutputStore(path, _layout(model, request, sides))
        return PreparedJob(
            store, TileNetwork(model, plan, request.averaging, known["plan"].get("threads")), known
        )
    plan = choose_plan(model.config, "predict", request.precision, request.device)
    sides = _tile_sides(model, plan, request.tile_size)
    layout = _layout(model, request, sides)
    plan, notice = _checked_plan(model, request, plan, layout.grid, measured)
    if notice is not None:
        yield notice
    job["settings"]["tile"] = sides
    job["plan"] = _plan_in_words(plan)
    if request.precision == "fp32":
        # The sums of a convolution are cut by threads: with another number the last bit differs.
        job["plan"]["threads"] = torch.get_num_threads()
    if path.exists() and request.overwrite:
        shutil.rmtree(path)
    store = create_store(path, layout, job, measured)
    return PreparedJob(
        store, TileNetwork(model, plan, request.averaging, job["plan"].get("threads")), job
    )


def finish_tiles(
    prepared: PreparedJob, work: Callable[[Iterable[int]], Iterator[int]], started: float
) -> Iterator[ArrayEvent]:
    """Have the missing tiles computed, mark them, and report.

    Parameters
    ----------
    prepared
        The job.
    work
        Computes and writes tiles, and yields the number of each; ends early when it is stopped.
    started
        When the job began, of ``time.monotonic``.
    """
    store = prepared.store
    grid = store.layout.grid
    finished = store.finished()
    done, total = int(finished.sum()), len(grid)
    yield OutputOpened(store.path, done, total, prepared.network.plan.name)
    pixels, unmarked, marked_at = 0, [], time.monotonic()
    try:
        for number in work(map(int, np.flatnonzero(~finished))):
            unmarked.append(number)
            done += 1
            pixels += grid[number].pixels
            if time.monotonic() - marked_at > _MARK_EVERY:
                store.mark(unmarked)
                unmarked, marked_at = [], time.monotonic()
            yield TilesWritten(done, total)
    finally:
        store.mark(unmarked)
    yield ArrayFinished(store.path, done, total, pixels, time.monotonic() - started, done < total)


# ---------------------------------------------------------------------------- what job it is


def _described(
    model: UNet, request: PredictArrayRequest, measured: Mapping[Place, Measured]
) -> dict[str, Any]:
    """Return what must be the same for the job to go on, fit for JSON."""
    source = request.source
    return {
        "model": _fingerprint(model),
        "input": {
            "axes": source.axes,
            "shape": [int(length) for length in source.array.shape],
            "dtype": str(np.dtype(source.array.dtype)),
            "channels": list(source.selected),
            "values": {
                ",".join(map(str, place)): measured[place].digest
                for place in _spread(list(source.places()))
            },
        },
        "settings": {
            "content": request.content,
            "dtype": request.dtype,
            "precision": request.precision,
            "averaging": request.averaging,
        },
    }


def _refuse_another(
    job: dict[str, Any], known: dict[str, Any], request: PredictArrayRequest
) -> None:
    """Raise InputError, with the reason, if the output belongs to another job."""
    reasons = []
    if job["model"] != known.get("model"):
        reasons.append("it was made with another model")
    before, now = known.get("input", {}), job["input"]
    for name in ("axes", "shape", "dtype", "channels"):
        if before.get(name) != now[name]:
            reasons.append(f"the {name} of its array was {before.get(name)}, and is {now[name]}")
    if not reasons and before.get("values") != now["values"]:
        reasons.append("the values of its array have changed")
    for name, value in job["settings"].items():
        if (earlier := known.get("settings", {}).get(name)) != value:
            reasons.append(f"{_OPTIONS[name]} was {earlier}, and is {value}")
    if reasons:
        raise InputError(
            f"{request.output} holds tiles of another job: {'; '.join(reasons)}; choose another "
            "output, or give --overwrite to begin anew"
        )


def _fingerprint(model: UNet) -> str:
    """Return a hash of the network: its shape and every weight."""
    text = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        text.update(name.encode())
        text.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return text.hexdigest()


def _spread(places: Sequence[Place]) -> list[Place]:
    """Choose a few places, evenly."""
    count = min(len(places), _COMPARED)
    return [places[i * len(places) // count] for i in range(count)]


# ---------------------------------------------------------------------------- how it is run


def _check_fit(model: UNet, source: ArraySource) -> None:
    config = model.config
    if source.channels != config.in_channels:
        raise InputError(
            f"the model takes {config.in_channels} channels, but the array has {source.channels} "
            f"(axes {source.axes!r}, shape {tuple(source.array.shape)}); choose a matching array, "
            "or name its axes with --axes"
        )


def _check_paths(request: PredictArrayRequest) -> None:
    output = request.output.resolve()
    if request.source.path is not None:
        source = request.source.path.resolve()
        if output == source or source in output.parents or output in source.parents:
            raise InputError(
                f"the output {request.output} would lie in or over its input; choose another output"
            )
    if request.overwrite and output.exists() and not is_zarr(output):
        raise InputError(
            f"{request.output} is no zarr, and only a zarr is replaced; choose another output, or "
            "remove it yourself"
        )


def _tile_sides(model: UNet, plan: ExecutionPlan, tile_size: int | None) -> list[int]:
    """Return the upper limit for the inner sides of a tile, axis by axis."""
    return [int(side) for side in inner_sizes(model.config, plan, tile_size)]


def _plan_in_words(plan: ExecutionPlan) -> dict[str, Any]:
    """Return what of a plan can change the last bits of an answer, fit for JSON."""
    values = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in _PER_MACHINE}
    return values | {"dtype": str(plan.dtype).removeprefix("torch.")}


def _known_plan(model: UNet, request: PredictArrayRequest, job: Mapping[str, Any]) -> ExecutionPlan:
    """Return the plan that the first run of a job chose: another one rounds in another way."""
    plan = choose_plan(model.config, "predict", request.precision, request.device)
    names = {f.name for f in fields(plan)}.difference(_PER_MACHINE)
    known = {name: value for name, value in job["plan"].items() if name in names}
    return replace(plan, **known | {"dtype": _PRECISIONS[known["dtype"]]})


def _layout(model: UNet, request: PredictArrayRequest, sides: Sequence[int]) -> OutputLayout:
    source, config = request.source, model.config
    grid = TileGrid(source.leading_shape, source.shape, config.geometries, tuple(sides))
    return OutputLayout(
        source.leading_axes,
        source.spatial_axes,
        grid,
        config.classes,
        config.in_channels,
        request.content,
        request.dtype,
        request.pixel_sizes,
    )


def _checked_plan(
    model: UNet,
    request: PredictArrayRequest,
    plan: ExecutionPlan,
    grid: TileGrid,
    measured: Mapping[Place, Measured],
) -> tuple[ExecutionPlan, Noticed | None]:
    """Go over to float32 if the plan gives another answer for a tile from the middle."""
    if request.precision != "auto" or plan.dtype == torch.float32:
        return plan, None
    placed = grid[int(np.ravel_multi_index([n // 2 for n in grid.counts], grid.counts))]
    read = TileReader(request.source, lambda place: measured[place].ranges)
    batch = torch.from_numpy(read(placed)[np.newaxis])
    exact = choose_plan(model.config, "predict", "fp32", request.device)
    difference = precision_difference(
        plan.for_prediction(model)(batch), exact.for_prediction(model)(batch)
    )
    if difference is None:
        return plan, None
    return exact, Noticed(f"predicting in float32: {difference}")
