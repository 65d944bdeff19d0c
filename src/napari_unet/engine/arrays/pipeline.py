"""Tiles read, computed and written at the same time, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.arrays.grid import PlacedTile
from napari_unet.engine.arrays.source import ArraySource, Place
from napari_unet.engine.arrays.store import OutputStore
from napari_unet.engine.averaging import Averaging, average_over_symmetries
from napari_unet.engine.device import is_out_of_memory
from napari_unet.engine.plan import ExecutionPlan
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError
from napari_unet.ops.normalize import scale_to_range

# Tiles that wait for the network, and tiles that wait for the disk. Two of each bridge a slow
# read; more would only take memory.
_AHEAD: Final = 2
_BEHIND: Final = 3
# A writer waits for the disk most of the time (5 ms for each file that is handed to it).
_WRITERS: Final = 2


@dataclass(frozen=True, eq=False)
class TileNetwork:
    """A network, and how it is run: the same for all tiles, on whatever machine.

    Attributes
    ----------
    model
        The network; it must not change.
    plan
        Precision, layout and device.
    averaging
        "none" or "symmetries".
    """

    model: UNet
    plan: ExecutionPlan
    averaging: Averaging = "none"

    @cached_property
    def _run(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.plan.for_prediction(self.model)

    def __call__(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict a tile: normalised (C, ...) to probabilities (classes, ...) of its inner part.

        Raises
        ------
        InputError
            If memory runs out.
        """
        batch = torch.from_numpy(channels[np.newaxis])
        try:
            if self.averaging == "symmetries":
                answer = average_over_symmetries(self._run, batch)
            else:
                answer = self._run(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"there is not enough memory for tiles of {channels.shape[-1]} pixels; close other "
                "programs and give the same command again, or begin anew with a smaller "
                "--tile-size and --overwrite"
            ) from error
        probability: NDArray[np.float32] = answer[0].numpy()
        return probability


class TileReader:
    """Reads tiles as the network takes them, scaled by the numbers that the output keeps.

    Parameters
    ----------
    source
        The array.
    ranges
        Returns the grey values that become 0 and 1, for each channel of the image at a place.
    """

    def __init__(
        self, source: ArraySource, ranges: Callable[[Place], tuple[tuple[float, float], ...]]
    ) -> None:
        self._source = source
        self._ranges = lru_cache(maxsize=64)(ranges)

    def __call__(self, placed: PlacedTile) -> NDArray[np.float32]:
        """Read the outer box of a tile, mirrored at the border; shape (C, ...), float32."""
        values = self._source.read_mirrored(placed.place, placed.tile.outer)
        for channel, (low, high) in zip(values, self._ranges(placed.place), strict=True):
            scale_to_range(channel, low, high, out=channel)
        return values


def run_tiles(
    network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    read: Callable[[PlacedTile], NDArray[np.float32]],
    store: OutputStore,
    numbers: Iterable[int],
    stop: threading.Event | None = None,
) -> Iterator[int]:
    """Predict tiles while the next ones are read and the last ones are written.

    Parameters
    ----------
    network
        From what `read` returns to probabilities.
    read
        Reads the outer box of a tile.
    store
        Where the tiles are written; they are not marked.
    numbers
        Which tiles of the store's grid.
    stop
        Checked before every tile.

    Yields
    ------
    int
        The number of a tile that is written. What was computed when the job stops, fails or is
        closed is still written.

    Raises
    ------
    InputError
        What reading, computing or writing raised.
    """
    behind: deque[tuple[int, Future[None]]] = deque()
    reader = ThreadPoolExecutor(1, "read")
    writer = ThreadPoolExecutor(_WRITERS, "write")
    ahead = _read_ahead(reader, read, (store.layout.grid[number] for number in numbers))
    problem: Exception | None = None
    try:
        while not (stop is not None and stop.is_set()) and (found := next(ahead, None)) is not None:
            placed, channels = found
            answer = network(channels)[(slice(None), *placed.tile.crop)]
            behind.append((placed.number, writer.submit(store.write, placed, answer)))
            while behind and (len(behind) > _BEHIND or behind[0][1].done()):
                yield _settle(behind)
    except Exception as error:  # noqa: BLE001 - raised again once the tiles behind it are safe
        problem = error
    finally:
        reader.shutdown(cancel_futures=True)
        writer.shutdown()
    while behind:
        try:
            number = _settle(behind)
        except InputError as error:
            problem = problem or error
        else:
            yield number
    if problem is not None:
        raise problem


def _read_ahead(
    reader: Executor,
    read: Callable[[PlacedTile], NDArray[np.float32]],
    tiles: Iterable[PlacedTile],
) -> Iterator[tuple[PlacedTile, NDArray[np.float32]]]:
    """Yield what is read of each tile, while a few of the next ones are read."""
    todo = ((placed, reader.submit(read, placed)) for placed in tiles)
    waiting = deque(islice(todo, _AHEAD))
    while waiting:
        placed, window = waiting.popleft()
        channels = window.result()
        waiting.extend(islice(todo, 1))
        yield placed, channels


def _settle(behind: deque[tuple[int, Future[Any]]]) -> int:
    number, written = behind.popleft()
    written.result()
    return number
