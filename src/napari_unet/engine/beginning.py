"""What a new network begins from: a starter, or random weights and a width that suits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Self

import torch

from napari_unet.engine.image import SourceImage
from napari_unet.engine.width_plan import choose_width
from napari_unet.model.config import pooling_for
from napari_unet.model.starter import Starter, adapted, load_starter
from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.ops.errors import InputError

#: Labels are stored in 8 bits and shown in colours that can be told apart.
MOST_CLASSES: Final = 16
#: Width of the first level: a number, "auto" for a measurement, None for what is usual.
Channels = int | Literal["auto"] | None

# A new network with random weights is narrower and flatter than the paper's and has BatchNorm: it
# gets further in the first minute on two cores. Figures: docs/architecture.md.
_USUAL_CHANNELS = 16
# By the number of axes: in three, every level more multiplies the context that is read in vain.
_DEPTH = {2: 3, 3: 2}


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """What a new network begins from.

    Attributes
    ----------
    classes
        How many classes it tells apart, background included.
    starter
        Whose weights it takes for an image; None: random ones, as for every stack.
    channels
        Width of a network with random weights.
    seed
        Of random weights, and of the choice among many pixels.
    """

    classes: int
    starter: Starter | None = None
    channels: Channels = None
    seed: int = 0

    @classmethod
    def chosen(
        cls, classes: int, starter: Starter | str | Path | None, channels: Channels, seed: int
    ) -> Self:
        """Check what a user chose, and load the starter; see `Segmenter` for the arguments.

        Raises
        ------
        InputError
            If `classes` is not 2 to 16, the starter cannot be loaded, or a width is named that is
            not possible or that the starter does not have.
        """
        if not 2 <= classes <= MOST_CLASSES:
            raise InputError(f"classes must be 2 to {MOST_CLASSES}, background included")
        loaded = load_starter(starter) if isinstance(starter, (str, Path)) else starter
        if loaded is not None and channels not in (None, "auto"):
            raise InputError(
                f"the starter has {loaded.network.config.base_channels} channels; to choose "
                "another width, begin from random weights (starter=None)"
            )
        if isinstance(channels, str):
            if channels != "auto":
                raise InputError(
                    f"channels = {channels!r} is not possible; give a number or 'auto'"
                )
        elif channels is not None:
            UNetConfig(base_channels=channels)  # says which are possible
        return cls(classes, loaded, channels, seed)

    def network_for(self, image: SourceImage, device: str = "auto") -> UNet:
        """Make a network for the channels and axes of an image."""
        if self.starter is not None and image.ndim == 2:
            return adapted(self.starter.network, image.channels, self.classes)
        depth = _DEPTH[image.ndim]
        config = UNetConfig(
            in_channels=image.channels,
            classes=self.classes,
            base_channels=_USUAL_CHANNELS,
            depth=depth,
            batch_norm=True,
            ndim=image.ndim,
            pooling=pooling_for(image.spacing, depth) if image.ndim == 3 else (),
        )
        if self.channels == "auto":
            config = choose_width(config, device)
        elif isinstance(self.channels, int):
            config = replace(config, base_channels=self.channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return UNet.from_config(config)
