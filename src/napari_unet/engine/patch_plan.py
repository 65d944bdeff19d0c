"""Which patches fine-tuning learns from on this machine, chosen by measurement.

A patch is read with its halo, so a small one is mostly halo: of a patch of 48 pixels the starter's
network reads 236. But a step has to stay short, because Stop, new strokes and the preview wait for
it. So a few sides are timed, and the one with the most useful pixels a second is taken of those
whose step is short enough. It is kept like the execution plan, once for each machine and shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import torch

from napari_unet.engine.execution import ExecutionPlan
from napari_unet.engine.measurement import (
    Choice,
    keep,
    measurement_key,
    recall,
    training_seconds,
)
from napari_unet.model.unet import UNet, UNetConfig

#: Seconds that a step may take, counted as one thread computes it: more threads are quicker.
LONGEST_STEP: Final = 0.4
#: The purpose under which it is kept.
PURPOSE: Final = "fine-tune"

# Output sides from the quickest to the largest one that learned no worse. A network that knows
# something learns more from larger patches, one with random weights from small ones; in three
# dimensions, a tenth of these pixels is a step already. Figures: docs/architecture.md.
_SIDES_SETTLED = {2: (48, 64, 96), 3: (12, 16, 24)}
_SIDES_NEW = {2: (16, 32, 48), 3: (12, 16, 24)}
# Patches in a step. A new network needs every class in each, twice if it can be.
_MOST_PATCHES = {2: 4, 3: 2}
_FEWEST_PATCHES = 2


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """The patches of a step.

    Attributes
    ----------
    side
        Output side, in pixels; rounded up to the network's pooling grid where it is drawn.
    batch
        How many are in a step.
    seconds
        How long a step took with each side that was measured, by name; empty if nothing was.
    """

    side: int
    batch: int
    seconds: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """The plan in a few words."""
        return (
            f"{self.batch} patches of {self.side}" if self.batch > 1 else f"a patch of {self.side}"
        )

    @property
    def reason(self) -> str:
        """Why these, in a sentence without its end."""
        if not self.seconds:
            return "as it was set"
        took = dict(self.seconds)[self.name]
        if took > LONGEST_STEP:
            return f"the smallest that were tried, as a step takes {took:.2g} s"
        return (
            "the most useful pixels a second of those whose step takes "
            f"{LONGEST_STEP:g} s at most on one thread"
        )


def usual_patches(ndim: int) -> PatchPlan:
    """Return the patches that are taken where nothing may depend on a measurement."""
    return PatchPlan(_SIDES_NEW[ndim][-1], _MOST_PATCHES[ndim])


def choose_patches(
    config: UNetConfig,
    plan: ExecutionPlan,
    *,
    settled: bool = False,
    side: int | None = None,
    batch: int | None = None,
) -> PatchPlan:
    """Choose the patches of a step of fine-tuning.

    Parameters
    ----------
    config
        The shape of the network.
    plan
        How it is run. An exact one measures nothing.
    settled
        Whether it was trained before.
    side, batch
        What the user named; None is chosen here. A named side measures nothing.

    Returns
    -------
    PatchPlan
        With the seconds of all sides that were measured.
    """
    usual = usual_patches(config.ndim)
    if side is not None or plan.exact:
        return PatchPlan(side or usual.side, batch or usual.batch)
    if batch is None:
        few = settled and config.ndim == 2
        batch = min(max(config.classes, _FEWEST_PATCHES), usual.batch) if few else usual.batch
    # Neither changes how long it takes, and both change in the middle of a session.
    shape = replace(config, classes=2, dropout=0.0)
    return _measured_patches(shape, replace(plan, seconds=()), settled, batch)


def forget_patches() -> None:
    """Forget what this process remembers; what is on the disk is the plan cache's."""
    _measured_patches.cache_clear()


@cache
def _measured_patches(
    config: UNetConfig, plan: ExecutionPlan, settled: bool, batch: int
) -> PatchPlan:
    sides = _possible_sides(config, (_SIDES_SETTLED if settled else _SIDES_NEW)[config.ndim])
    candidates = {each.name: each for each in (PatchPlan(side, batch) for side in sides)}
    run = {"run": plan.name, "settled": settled, "batch": batch}
    key = {**measurement_key(config, PURPOSE, plan.device), **run}
    choice = recall(key, candidates)
    if choice is None:
        seconds = _measure(config, plan, candidates)
        choice = Choice(_best(config, candidates, seconds), seconds)
        keep(key, choice)
    return replace(candidates[choice.name], seconds=tuple(choice.seconds.items()))


def _possible_sides(config: UNetConfig, wanted: Sequence[int]) -> list[int]:
    """Round sides up to the pooling grid, as they are when patches are drawn."""
    stride = max(geometry.stride for geometry in config.geometries)
    return list(dict.fromkeys(-(-side // stride) * stride for side in wanted))


def _measure(
    config: UNetConfig, plan: ExecutionPlan, candidates: Mapping[str, PatchPlan]
) -> dict[str, float]:
    """Time a step with each, up to the first that takes too long."""
    with torch.random.fork_rng(devices=[]):
        model = UNet.from_config(config)
    seconds: dict[str, float] = {}
    for name, patches in candidates.items():
        shape = (patches.batch, config.in_channels, *input_sides(config, patches.side))
        seconds[name] = training_seconds(plan, model, shape, repeats=1)
        if seconds[name] > LONGEST_STEP:
            break
    return seconds


def _best(
    config: UNetConfig, candidates: Mapping[str, PatchPlan], seconds: Mapping[str, float]
) -> str:
    quick = [name for name, took in seconds.items() if took <= LONGEST_STEP]
    if not quick:
        return next(iter(seconds))

    def useful_pixels_a_second(name: str) -> float:
        patches = candidates[name]
        return float(patches.batch * patches.side**config.ndim / seconds[name])

    return max(quick, key=useful_pixels_a_second)


def input_sides(config: UNetConfig, side: int) -> tuple[int, ...]:
    """Return the sides of what the network reads for a patch of an output side, in pixels.

    Planes that are not pooled lie further apart, so a patch has fewer of them.
    """
    geometries = config.geometries
    finest = max(geometry.stride for geometry in geometries)
    inner = (
        max(round(side * geometry.stride / finest / geometry.stride), 1) * geometry.stride
        for geometry in geometries
    )
    return tuple(
        geometry.input_size(length) for geometry, length in zip(geometries, inner, strict=True)
    )
