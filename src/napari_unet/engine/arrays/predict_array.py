"""Prediction of an array that need not fit into memory, tile by tile from disk to disk.

The answer is that of `napari_unet.engine.predict`: the same tiles, the same scaling of the grey
values. The job can be stopped or killed at any moment, and goes on when it is started again.
"""

from __future__ import annotations

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
from napari_unet.engine.arrays.identity import described, refuse_another, spread
from napari_unet.engine.arrays.layout import Content, OutputLayout, OutputType
from napari_unet.engine.arrays.pipeline import TileNetwork, TileReader, run_tiles
from napari_unet.engine.arrays.ranges import Measured, Stopped, measure
from napari_unet.engine.arrays.source import ArraySource, Place
from napari_unet.engine.arrays.store import (
    OutputStore,
    create_store,
    holds_zarr,
    read_job,
    remove_store,
)
from napari_unet.engine.averaging import Averaging
from napari_unet.engine.events import Noticed
from napari_unet.engine.plan import ExecutionPlan, Precision, choose_plan
from napari_unet.engine.predict import precision_difference
from napari_unet.engine.remaining_tiles import inner_sizes
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError

# Seconds after which finished tiles are marked: a mark costs as much as a tenth of a tile.
_MARK_EVERY: Final = 2.0
_PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.half}

# Pixels read for each that is used; chunks of 512 cost 3 to 4.
_COSTLY: Final = 16
# What a plan says of the machine that it was made for.
_PER_MACHINE: Final = ("device", "seconds")
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
    _check_fit(model, request.source)
    _check_paths(request)
    known = None if request.overwrite else read_job(request.output)
    if known:
        return _go_on(model, request, known, stop)
    return (yield from _begin(model, request, stop))


def _go_on(
    model: UNet,
    request: PredictArrayRequest,
    known: dict[str, Any],
    stop: threading.Event | None,
) -> PreparedJob:
    """Open an output for a job that is the very same; raise InputError if it is another one."""
    source = request.source
    measured = {place: measure(source, place, stop) for place in spread(list(source.places()))}
    job = described(model, request, measured)
    try:
        plan = _known_plan(model, request, known)
        sides = [int(side) for side in known["settings"]["tile"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{request.output} does not say which job it belongs to, it is damaged; choose another "
            "output, or give --overwrite to begin anew"
        ) from error
    if request.tile_size is not None:
        job["settings"]["tile"] = _tile_sides(model, plan, request.tile_size)
    refuse_another(job, known, request)
    store = OutputStore(request.output, _layout(model, request, sides))
    return PreparedJob(store, TileNetwork(model, plan, request.averaging), known)


def _begin(
    model: UNet, request: PredictArrayRequest, stop: threading.Event | None
) -> Generator[ArrayEvent, None, PreparedJob]:
    """Measure, choose, and make an output; what lies there is deleted last."""
    source = request.source
    measured = {place: measure(source, place, stop) for place in source.places()}
    plan = choose_plan(model.config, "predict", request.precision, request.device)
    sides = _tile_sides(model, plan, request.tile_size)
    layout = _layout(model, request, sides)
    plan, notice = _checked_plan(model, request, plan, layout.grid, measured)
    if notice is not None:
        yield notice
    yield from _notice_of_chunks(source, layout.grid)
    job = described(model, request, measured)
    job["settings"]["tile"] = sides
    job["plan"] = _plan_in_words(plan)
    if request.overwrite:
        remove_store(request.output)
    store = create_store(request.output, layout, job, measured)
    return PreparedJob(store, TileNetwork(model, plan, request.averaging), job)


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
    if request.overwrite and output.exists() and not holds_zarr(output):
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


def _notice_of_chunks(source: ArraySource, grid: TileGrid) -> Iterator[Noticed]:
    """Tell the user if most of the time will go into reading chunks that do not fit the tiles."""
    cost = source.reading_cost([span.stop - span.start for span in grid[0].tile.outer])
    if cost > _COSTLY:
        yield Noticed(
            f"the array's chunks of {' x '.join(map(str, source.chunks))} fit its tiles badly: "
            f"{cost:.0f} pixels are read for each that is used; if that is slow, store it again in "
            "chunks of about 512 x 512"
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
