"""How wide a new network with random weights is on this machine, chosen by measurement.

A wider network knows more after many steps and makes fewer of them: in the first minute on two
cores, 16 channels got further than 8 and 32. So the widest one is taken whose step is about as
quick as that of 16 channels was there. It is kept like the execution plan, once for each machine
and shape.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch

from napari_unet.engine.measurement import (
    Choice,
    keep,
    measurement_key,
    recall,
    training_seconds,
)
from napari_unet.engine.patch_plan import input_sides, usual_patches
from napari_unet.engine.plan import choose_plan
from napari_unet.model.unet import UNet, UNetConfig

#: Channels of the first level, from the narrowest to the paper's.
WIDTHS: Final = (8, 16, 32, 64)
#: Seconds that a step may take, counted as one thread computes it. Where the table of
#: docs/benchmarks.md was made, it takes 0.04, 0.07, 0.21 and 0.62 s with these widths.
LONGEST_STEP: Final = 0.1
#: The purpose under which it is kept.
PURPOSE: Final = "choose a width"


def choose_width(config: UNetConfig, device: str = "auto") -> UNetConfig:
    """Choose the width of a network.

    Parameters
    ----------
    config
        Its shape; the width does not count.
    device
        As for `napari_unet.engine.device.resolve_device`.

    Returns
    -------
    UNetConfig
        The same shape with the widest of `WIDTHS` whose step of fine-tuning is quick enough, or
        with the narrowest if none is.
    """
    # Classes change nothing in how long it takes.
    shapes = {
        f"{width} channels": replace(config, classes=2, base_channels=width) for width in WIDTHS
    }
    first, *_ = shapes.values()
    key = measurement_key(first, PURPOSE, choose_plan(first, "train", device=device).device)
    choice = recall(key, shapes)
    if choice is None:
        seconds: dict[str, float] = {}
        for name, shape in shapes.items():
            seconds[name] = _step_seconds(shape, device)
            if seconds[name] > LONGEST_STEP:
                break
        quick = [name for name, took in seconds.items() if took <= LONGEST_STEP]
        choice = Choice(quick[-1] if quick else next(iter(seconds)), seconds)
        keep(key, choice)
    return replace(config, base_channels=shapes[choice.name].base_channels)


def _step_seconds(config: UNetConfig, device: str) -> float:
    """Time a step with the usual patches, in the precision that is fastest."""
    patches = usual_patches(config.ndim)
    with torch.random.fork_rng(devices=[]):
        model = UNet.from_config(config)
    shape = (patches.batch, config.in_channels, *input_sides(config, patches.side))
    return training_seconds(choose_plan(config, "train", device=device), model, shape, repeats=1)
