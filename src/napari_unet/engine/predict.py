"""Overlap-tile prediction (Ronneberger et al. 2015, section 2 and figure 2), tile by tile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.averaging import (
    AVERAGINGS,
    ROTATIONS,
    Averaging,
    average_over_symmetries,
    rotated_versions,
)
from napari_unet.engine.device import is_out_of_memory
from napari_unet.engine.events import JobEvent, Noticed, PredictionFinished, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import Precision, choose_plan
from napari_unet.engine.remaining_tiles import (
    LARGEST_INNER,
    LARGEST_ON_SCREEN,
    RemainingTiles,
    inner_sizes,
    strides,
)
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import (
    Box,
    grow_to_grid,
    read_tile,
)

# A lower precision may change the class of this share of the pixels and move a probability by
# this much, no more; else the job goes on in float32.
_CLASS_CHANGES_ALLOWED = 0.001
_PROBABILITY_CHANGE_ALLOWED = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class PredictRequest:
    """What to predict.

    Attributes
    ----------
    image
        The image.
    visible
        What is on screen, in image coordinates, on the image's axes; its tiles come first.
    region
        Predict only this part of the image; None is all of it. What is predicted is the region
        grown to the network's pooling grid, and equals the same pixels of a whole prediction.
    tile_size
        Input side of a tile in pixels (572 in the paper), of every axis or of each; None chooses
        it from the free memory.
    precision
        "auto" takes the fastest precision whose answer stays the same and checks it on the first
        tile; "fast" leaves out the check (for previews); "fp32" is exact.
    device
        As for `napari_unet.engine.device.resolve_device`.
    averaging
        "none"; "symmetries" averages over the eight symmetries of the square, for eight times the
        work (sixteen for stacks); "rotations" over seven turned versions of the image (the paper's
        way).
    """

    image: SourceImage
    visible: Box | None = None
    region: Box | None = None
    tile_size: int | tuple[int, ...] | None = None
    precision: Precision = "auto"
    device: str = "auto"
    averaging: Averaging = "none"

    def __post_init__(self) -> None:
        if self.averaging not in AVERAGINGS:
            raise InputError(f"no averaging {self.averaging!r}; choose {', '.join(AVERAGINGS)}")


def predict_tiles(
    model: UNet | ForeignModel, request: PredictRequest, stop: threading.Event | None = None
) -> Iterator[TilePredicted | Noticed | PredictionFinished]:
    """Predict tile by tile, what is on screen first.

    The network is purely local and every tile starts on its pooling grid, so the answer does not
    depend on how the image is cut.

    Parameters
    ----------
    model
        The network; it is copied at the start and not changed. One of another program runs as
        its package says.
    request
        What to predict.
    stop
        Checked before every tile; when it is set, the job ends.

    Yields
    ------
    TilePredicted, Noticed
        Each tile as it is finished; a notice when memory ran out or precision was raised.
    PredictionFinished
        Last.

    Raises
    ------
    InputError
        If the image does not fit the network, or a tile size is too small or not possible.
    """
    if isinstance(model, ForeignModel):
        from napari_unet.engine.exchange.foreign import predict_foreign

        yield from predict_foreign(model, request, stop)
        return
    check_channels(model, request.image)
    if request.averaging == "rotations":
        yield from _predict_rotations(model, request, stop)
    else:
        yield from _predict_tiles(model, request, stop)


def predict_regions(
    model: UNet,
    request: PredictRequest,
    regions: Iterable[Box],
    stop: threading.Event | None = None,
) -> Iterator[TilePredicted | Noticed | PredictionFinished]:
    """Predict parts of an image one after the other, with one copy of the network for all.

    Folding and casting the weights takes as long as a small region.

    Parameters
    ----------
    model, stop
        As for `predict_tiles`.
    request
        What to predict; its region does not count, and its averaging is "none" or "symmetries".
    regions
        The parts.

    Yields
    ------
    TilePredicted, Noticed, PredictionFinished
        Those of `predict_tiles`, region by region.
    """
    check_channels(model, request.image)
    run = _CheckedPredictor(model, request)
    for region in regions:
        yield from _predict_tiles(model, replace(request, region=region), stop, run)


def _predict_tiles(
    model: UNet,
    request: PredictRequest,
    stop: threading.Event | None,
    run: _CheckedPredictor | None = None,
) -> Iterator[TilePredicted | Noticed | PredictionFinished]:
    started = time.monotonic()
    run = run or _CheckedPredictor(model, request)
    channels = request.image.normalized
    largest = (LARGEST_INNER if request.visible is None else LARGEST_ON_SCREEN)[model.config.ndim]
    sizes = inner_sizes(model.config, run.plan, request.tile_size, largest)
    image = request.image
    work = RemainingTiles(image.shape, model.config, sizes, request.region, request.visible)
    while (tile := work.next()) is not None and not (stop is not None and stop.is_set()):
        try:
            probability, notice = run(read_tile(channels, tile.outer))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not work.halve():
                raise
            yield Noticed(
                "not enough memory for the tiles; going on with tiles of "
                f"{model.config.geometry.input_size(work.inner_size[-1])} pixels"
            )
            continue
        if notice is not None:
            yield notice
        work.finish(tile)
        cut = np.ascontiguousarray(probability[(slice(None), *tile.crop)])
        yield TilePredicted(tile.inner, cut, work.done, work.total)
    stopped = work.next() is not None
    yield PredictionFinished(work.done, time.monotonic() - started, stopped, run.exact)


def _predict_rotations(
    model: UNet, request: PredictRequest, stop: threading.Event | None
) -> Iterator[TilePredicted | Noticed | PredictionFinished]:
    """Predict turned versions of the whole image; after each, the mean so far replaces the last.

    A turned pixel grid is another one, so the answer for a region is that of the whole image.
    """
    started = time.monotonic()
    image = request.image
    everywhere = grow_to_grid(request.region, image.shape, strides(model.config))
    total = np.zeros((model.config.classes, *image.shape), np.float32)
    done = 0
    for version, turn_back in rotated_versions(image.normalized):
        turned = replace(
            request,
            image=SourceImage.from_normalized(version, image.spacing),
            visible=None,
            region=None,
            averaging="none",
        )
        probability = np.zeros((model.config.classes, *version.shape[1:]), np.float32)
        finished = False
        for event in _predict_tiles(model, turned, stop):
            match event:
                case TilePredicted():
                    probability[(slice(None), *event.inner)] = event.probability
                case Noticed():
                    yield event
                case PredictionFinished():
                    finished = not event.stopped
        if not finished:
            break
        total += turn_back(probability)
        done += 1
        mean = (total[(slice(None), *everywhere)] / done).astype(np.float32)
        yield TilePredicted(everywhere, mean, done, ROTATIONS)
    yield PredictionFinished(done, time.monotonic() - started, done < ROTATIONS)


def predict(
    model: UNet,
    image: Any,
    *,
    tile_size: int | tuple[int, ...] | None = None,
    precision: Precision = "auto",
    averaging: Averaging = "none",
) -> NDArray[np.float32]:
    """Predict a whole image.

    Parameters
    ----------
    model
        The network.
    image
        Shape (Y, X) or (Y, X, C), any real dtype; grey, RGB or RGBA (alpha is ignored). For a
        network with three dimensions a stack, (Z, Y, X) or (Z, Y, X, C).
    tile_size
        Input side of a tile in pixels; None chooses it from the free memory. The answer does not
        depend on it.
    precision
        "auto" uses bfloat16 where it is faster and the answer stays the same; "fp32" is exact.
    averaging
        Over which versions of the image the answer is averaged, see `PredictRequest`.

    Returns
    -------
    NDArray
        Shape (classes, Y, X) or (classes, Z, Y, X), float32 in [0, 1]; sums to 1 over the classes.
        Channel k is the class that is painted with label k + 1.

    Raises
    ------
    InputError
        If the image cannot be used or does not fit the network.
    """
    config = model.config
    source = SourceImage.for_channels(np.asarray(image), config.in_channels, config.ndim)
    request = PredictRequest(source, tile_size=tile_size, precision=precision, averaging=averaging)
    return assemble(predict_tiles(model, request), model.config.classes, source.shape)


def assemble(
    events: Iterable[JobEvent],
    classes: int,
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """Drain a prediction job into one array of shape (classes, *shape); what is missing is NaN."""
    probability = np.full((classes, *shape), np.nan, np.float32)
    for event in events:
        if isinstance(event, TilePredicted):
            probability[(slice(None), *event.inner)] = event.probability
    return probability


def check_channels(model: UNet, image: SourceImage) -> None:
    """Raise InputError if `image` has other channels or axes than `model` was made for."""
    if image.ndim != model.config.ndim:
        words = {2: "images, and this is a stack", 3: "stacks as a whole, and this is an image"}
        raise InputError(
            f"the model looks at {words[model.config.ndim]}; choose a model that was trained in "
            f"{image.ndim} dimensions"
        )
    if image.channels != model.config.in_channels:
        kinds = {1: "a grey image", 3: "an RGB image"}
        wanted, held = (
            kinds.get(count, f"an image of {count} channels")
            for count in (model.config.in_channels, image.channels)
        )
        raise InputError(
            f"the model takes {wanted}, but this is {held}; choose a matching image, convert it, "
            "or start a new model"
        )


class _CheckedPredictor:
    """The network on the plan that measurement chose, its first answer checked against float32."""

    def __init__(self, model: UNet, request: PredictRequest) -> None:
        self.plan = choose_plan(model.config, "predict", request.precision, request.device)
        self._request = request
        self._model = model
        self._run = self.plan.for_prediction(model)
        self.exact = self.plan.dtype == torch.float32
        self._checked = request.precision != "auto" or self.exact

    def __call__(self, channels: NDArray[np.float32]) -> tuple[NDArray[np.float32], Noticed | None]:
        """Predict a tile, (C, h, w) -> (classes, h', w'); with a notice if precision was raised."""
        batch = torch.from_numpy(channels[None])
        notice = None if self._checked else self._check(batch)
        if self._request.averaging == "symmetries":
            return average_over_symmetries(self._run, batch)[0].numpy(), notice
        return self._run(batch)[0].numpy(), notice

    def _check(self, batch: torch.Tensor) -> Noticed | None:
        """Go over to float32 if the faster precision gives another answer for this tile."""
        exact_plan = choose_plan(self._model.config, "predict", "fp32", self._request.device)
        exact = exact_plan.for_prediction(self._model)
        difference = precision_difference(self._run(batch), exact(batch))
        self._checked = True
        if difference is None:
            return None
        self._run, self.exact = exact, True
        return Noticed(f"predicting in float32: {difference}")


def precision_difference(probability: torch.Tensor, reference: torch.Tensor) -> str | None:
    """Say how far a lower precision is from float32 if it is too far, else None."""
    changed = (probability.argmax(dim=1) != reference.argmax(dim=1)).float().mean().item()
    moved = (probability - reference).abs().max().item()
    if changed <= _CLASS_CHANGES_ALLOWED and moved <= _PROBABILITY_CHANGE_ALLOWED:
        return None
    return (
        f"a lower precision would give {changed:.2%} of the pixels another class "
        f"and move a probability by {moved:.3f}"
    )
