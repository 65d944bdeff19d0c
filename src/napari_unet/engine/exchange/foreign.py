"""Predict with a model of another program, tile by tile, as with one's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import Noticed, PredictionFinished, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box, Tile, TileGeometry, plan_tiles, read_tile, visible_first

_RGBA = 4
# Input side of a tile where the package leaves the choice, by the number of axes: as much as a
# gigabyte holds of the usual networks' maps.
_USUAL_SIDE = {2: 512, 3: 96}


def predict_foreign(
    model: ForeignModel, request: PredictRequest, stop: threading.Event | None = None
) -> Iterator[TilePredicted | Noticed | PredictionFinished]:
    """Predict tile by tile with a model of another program, what is on screen first.

    Parameters
    ----------
    model
        The model.
    request
        What to predict; precision and device are the package's affair.
    stop
        Checked before every tile.

    Yields
    ------
    TilePredicted, Noticed
        Each tile as it is finished.
    PredictionFinished
        Last.

    Raises
    ------
    InputError
        If the image does not fit the model, or a tile size is too small for it.
    """
    if request.averaging != "none":
        yield Noticed("a model of another program is not averaged over versions of the image")
    channels = _raw_channels(request.image, model.in_channels)
    started = time.monotonic()
    count = 0
    stopped = False
    size = request.tile_size
    side = max(size) if isinstance(size, tuple) else size  # a package has one side for all axes
    for tile, probability, total in predict_blocks(
        model, channels, region=request.region, visible=request.visible, side=side
    ):
        if tile is None or probability is None:
            if stopped := stop is not None and stop.is_set():
                break
            continue
        count += 1
        yield TilePredicted(tile.inner, probability, count, total)
    yield PredictionFinished(count, time.monotonic() - started, stopped)


def _raw_channels(image: SourceImage, wanted: int) -> NDArray[Any]:
    """Return the grey values of an image as they are, shape (C, ...), without an alpha channel."""
    pixels = np.asarray(image.data)
    channels = pixels[None] if pixels.ndim == image.ndim else np.moveaxis(pixels, -1, 0)
    if len(channels) == _RGBA and wanted == _RGBA - 1:
        channels = channels[:wanted]
    if channels.dtype.kind == "f" and not np.isfinite(channels).all():
        raise InputError(
            "the image has values that are NaN or infinite; replace them, for example with "
            "np.nan_to_num(image, posinf=0, neginf=0)"
        )
    return channels


def predict_blocks(
    model: ForeignModel,
    channels: NDArray[Any],
    *,
    region: Box | None = None,
    visible: Box | None = None,
    side: int | tuple[int, ...] | None = None,
) -> Iterator[tuple[Tile | None, NDArray[np.float32] | None, int]]:
    """Predict an image or a stack block by block.

    Parameters
    ----------
    model
        The model.
    channels
        Shape (C, Y, X) or (C, Z, Y, X).
    region
        Only tiles that touch this part; None is all of it.
    visible
        What comes first.
    side
        Input side of a tile; None takes the usual.

    Yields
    ------
    tuple
        Tile, probabilities of its inner part of shape (classes, ...), and how many there are in
        all. Before each tile (None, None, total), where the work may be ended.

    Raises
    ------
    InputError
        If the image does not fit the model.
    """
    check_fits(model, channels.shape[0], channels.ndim - 1)
    normalized = model.normalize(channels)
    tiles = visible_first(plan_blocks(model, channels.shape[1:], side), visible)
    if region is not None:
        tiles = [tile for tile in tiles if _touch(tile.inner, region)]
        if not tiles:
            raise InputError("the region lies outside the image; choose one that overlaps it")
    read = _reader(model, normalized, tiles)
    for tile in tiles:
        yield None, None, len(tiles)
        probability = model.predict_tile(read(tile.outer))[(slice(None), *tile.crop)]
        yield tile, np.ascontiguousarray(probability), len(tiles)


def check_fits(model: ForeignModel, channels: int, ndim: int) -> None:
    """Refuse images that a model does not take.

    Raises
    ------
    InputError
        With the reason.
    """
    if ndim != model.ndim:
        kinds = {2: "single planes", 3: "stacks"}
        raise InputError(
            f"the package's model takes {kinds[model.ndim]}, but this has {ndim} axes; "
            "choose a matching image"
        )
    if channels != model.in_channels:
        raise InputError(
            f"the package's model takes {model.in_channels} channels, but this image has "
            f"{channels}; choose a matching image or convert it"
        )


def plan_blocks(
    model: ForeignModel, shape: Sequence[int], side: int | tuple[int, ...] | None = None
) -> list[Tile]:
    """Cover an image with tiles of a size that the package allows.

    Parameters
    ----------
    model
        The model.
    shape
        Of the image, without channels.
    side
        Input side of a tile, of all axes or axis by axis, that is not to be exceeded; None takes
        the usual, which is exceeded where the package allows no less.

    Raises
    ------
    InputError
        If `side` is less than the package's smallest.
    """
    geometries = model.geometries
    axes = model.description.input.space
    asked = _USUAL_SIDE[model.ndim] if side is None else side
    limits = (asked,) * model.ndim if isinstance(asked, int) else asked
    inner = []
    for axis, geometry, limit in zip(axes, geometries, limits, strict=True):
        smallest = max(axis.size, geometry.input_size(geometry.stride))
        if side is not None and limit < smallest:
            raise InputError(
                f"the package's model takes tiles of {smallest} pixels or more along "
                f"{axis.name}; choose a larger tile size"
            )
        largest = max(limit, smallest) if axis.step else axis.size
        inner.append(geometry.inner_size(largest))
    tiles = plan_tiles(shape, geometries, inner)
    sizes = [axis.size_for(s.stop - s.start) for axis, s in zip(axes, tiles[0].outer, strict=True)]
    return [replace(tile, outer=_grown(tile.outer, sizes)) for tile in tiles]


def _grown(outer: Box, sizes: Sequence[int]) -> Box:
    """Let a tile be as large as the package's smallest; what is more is cut off again."""
    return tuple(
        slice(span.start, span.start + size) for span, size in zip(outer, sizes, strict=True)
    )


def _touch(first: Box, second: Box) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(first, second, strict=True))


def _reader(model: ForeignModel, channels: NDArray[np.float32], tiles: Sequence[Tile]) -> Any:
    """Return a function that reads a window, continued beyond the image as the package asks."""
    mode: Any = model.description.input.pad
    if mode == "reflect":
        return lambda outer: read_tile(channels, outer)
    before = [max(-min(t.outer[n].start for t in tiles), 0) for n in range(model.ndim)]
    after = [
        max(max(t.outer[n].stop for t in tiles) - length, 0)
        for n, length in enumerate(channels.shape[1:])
    ]
    padded = np.pad(channels, [(0, 0), *zip(before, after, strict=True)], mode=mode)

    def read(outer: Box) -> NDArray[np.float32]:
        moved = (
            slice(span.start + more, span.stop + more)
            for span, more in zip(outer, before, strict=True)
        )
        return padded[(slice(None), *moved)]

    return read


def geometry_in_words(geometries: Sequence[TileGeometry]) -> str:
    """Return halo and step of a model's tiles in words."""
    parts = {f"halo {g.halo}, step {g.stride}" for g in geometries}
    return " and ".join(sorted(parts))
