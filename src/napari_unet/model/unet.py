"""The U-Net, as in figure 1 of the paper.

Sources:

- Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation.
  MICCAI 2015, arXiv:1505.04597. Figure 1 and section 2 (architecture), section 3 (initialisation).
- The authors' Caffe network definition, phseg_v5, for the place of the two dropout layers. It has a
  ReLU after each up-convolution as well; figure 1 has none, and so has this network.

Side and channels of the feature maps at the paper's size, one input channel and two classes::

    572, 1 -> 570 -> 568, 64 ------------- copy and crop to 392 ---> 392, 128 -> 390 -> 388, 64 -> 2
                     | max pool                                       ^ up-convolution
             284 -> 282 -> 280, 128 ------ copy and crop to 200 ---> 200, 256 -> 198 -> 196, 128
                           | max pool                                 ^
                   140 -> 138 -> 136, 256 -- copy and crop to 104 -> 104, 512 -> 102 -> 100, 256
                                 | max pool                           ^
                          68 -> 66 -> 64, 512 -- crop to 56 ------> 56, 1024 -> 54 -> 52, 512
                                      | max pool                      ^
                                32 -> 30 -> 28, 1024 -----------------|

The convolutions are not padded (see `UNetConfig.padded`), so a pixel of the answer depends on the
pixels around it alone and not on where the tile ends. Nothing normalises over space in prediction:
BatchNorm is an option, and it uses frozen statistics then and can be folded into the convolutions.
"""

from __future__ import annotations

import math
import operator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.model.config import SECOND_LOOK_SCALE, UNetConfig
from napari_unet.model.cropping import crop
from napari_unet.model.filters import filter_responses
from napari_unet.model.linear import enlarged_sum
from napari_unet.ops.errors import InputError

__all__ = [
    "BATCH_NORMS",
    "CONVOLUTIONS",
    "UP_CONVOLUTIONS",
    "TwoConvolutions",
    "UNet",
    "UNetConfig",
    "blank",
]

# The layers for images and for stacks, by their number of axes.
_CONVOLUTION: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_UP_CONVOLUTION: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
#: Every kind of layer of the name that a network may have, for `isinstance`.
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
UP_CONVOLUTIONS = (nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)

# How much the maps of a second look vary, compared with those of the first: of a quarter, a half,
# four fifths, chosen with five and twenty strokes a class on the sets of docs/benchmarks.md.
_FAR_SIZE = 0.5


class TwoConvolutions(nn.Sequential):
    """Two 3x3 convolutions, each with a ReLU: the blue arrows of the figure.

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after.
    kernel
        Sides of the convolutions, 3 or 1 along each axis of the image.
    batch_norm
        Whether BatchNorm stands between convolution and ReLU. It subtracts the mean, which would
        cancel a bias, so the convolution has none then.
    padded
        Whether zeros are put around what each of them sees.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, ...],
        batch_norm: bool,
        padded: bool,
    ) -> None:
        convolution, norm = _CONVOLUTION[len(kernel)], _BATCH_NORM[len(kernel)]
        layers: list[nn.Module] = []
        padding = tuple(side // 2 if padded else 0 for side in kernel)
        for channels in (in_channels, out_channels):
            layers.append(
                convolution(channels, out_channels, kernel, padding=padding, bias=not batch_norm)
            )
            if batch_norm:
                layers.append(norm(out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    """The network of figure 1.

    Weights are drawn from torch's random generator: seed it for the same network again.

    Parameters
    ----------
    in_channels, classes, base_channels, depth, batch_norm, dropout, hypercolumns, hidden, ndim, \
    pooling, second_look, padded
        See `UNetConfig`.

    Attributes
    ----------
    config
        The same values in one place.
    output
        The last layer.
    side_outputs
        What the maps of the levels below add to it, from the bottom up; none without hypercolumns.
    hidden
        What hidden units add to it; empty without them.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        *,
        batch_norm: bool = False,
        dropout: float = 0.5,
        hypercolumns: bool = False,
        hidden: int = 0,
        ndim: int = 2,
        pooling: tuple[tuple[int, ...], ...] = (),
        second_look: bool = False,
        padded: bool = False,
    ) -> None:
        super().__init__()
        self.config = UNetConfig(
            in_channels,
            classes,
            base_channels,
            depth,
            batch_norm,
            dropout,
            hypercolumns,
            hidden,
            ndim,
            pooling,
            second_look,
            padded,
        )
        # What a single look demands.
        self._look = replace(self.config, second_look=False)
        widths = [base_channels * 2**level for level in range(depth)]  # 64, 128, 256, 512
        # In this order: it decides which random numbers each of them gets.
        self._add_contracting_path(widths)
        self._add_expanding_path(widths)
        self._add_last_layers(widths)
        self.apply(_initialise)

    def _add_contracting_path(self, widths: list[int]) -> None:
        """Make the left side of the figure, from the top down, and the bottom."""
        config = self.config
        *kernels, kernel_below = config.kernels
        self.contracting = nn.ModuleList(
            TwoConvolutions(channels, width, kernel, config.batch_norm, config.padded)
            for channels, width, kernel in zip(
                [config.in_channels, *widths[:-1]], widths, kernels, strict=True
            )
        )
        self.max_pool = _MAX_POOL[config.ndim](2)
        self.max_pool_in_planes = nn.MaxPool3d((1, 2, 2)) if config.ndim == 3 else nn.Identity()
        self.bottom = TwoConvolutions(
            widths[-1], 2 * widths[-1], kernel_below, config.batch_norm, config.padded
        )
        # "Drop-out layers at the end of the contracting path" (section 3.1): phseg_v5 has one on
        # the 512 channels that are pooled and copied, and one on the 1024 of the bottom.
        self.dropout = nn.Dropout(config.dropout)

    def _add_expanding_path(self, widths: list[int]) -> None:
        """Make the right side of the figure, from the bottom up."""
        config, up_convolution = self.config, _UP_CONVOLUTION[self.config.ndim]
        from_below = widths[::-1]
        self.up_convolutions = nn.ModuleList(
            up_convolution(2 * width, width, factors, stride=factors)
            for width, factors in zip(from_below, reversed(config.levels), strict=True)
        )
        # Half of what enters a level was copied across.
        self.expanding = nn.ModuleList(
            TwoConvolutions(2 * width, width, kernel, config.batch_norm, config.padded)
            for width, kernel in zip(from_below, config.kernels[-2::-1], strict=True)
        )

    def _add_last_layers(self, widths: list[int]) -> None:
        """Make what turns the maps of the expanding path into logits."""
        config, convolution = self.config, _CONVOLUTION[self.config.ndim]
        seen = config.base_channels + config.responses
        self.output = convolution(seen, config.classes, 1)
        seen_below = widths[:0:-1]
        if config.second_look:
            # See `_beside`.
            far = [*seen_below, config.base_channels]
            seen_below = [*far[:2], *map(operator.add, far[2:], seen_below), seen_below[-1]]
        self.side_outputs = nn.ModuleList(
            nn.Conv2d(width, config.classes, 1, bias=False)
            for width in seen_below
            if config.hypercolumns
        )
        self.hidden = nn.Sequential()
        if config.hidden:
            last = convolution(config.hidden, config.classes, 1, bias=False)
            self.hidden.extend([convolution(seen, config.hidden, 1), nn.ReLU(inplace=True), last])

    @classmethod
    def from_config(cls, config: UNetConfig) -> UNet:
        """Make a network of the given shape, with random weights."""
        return cls(**config.to_dict())

    def forward(self, image: Tensor, smaller: Tensor | None = None) -> Tensor:
        """Compute the logits of every class.

        Parameters
        ----------
        image
            Shape (N, C, H, W), or (N, C, D, H, W) in three dimensions, floating point,
            percentile-normalised. Sides must fit the network, see `UNetConfig.output_size`; they
            may differ.
        smaller
            What the second look of a network that has one sees; None: `image`, scaled down. If it
            is given, `image` is no larger than a single look needs, see `UNetConfig.looks`.

        Returns
        -------
        Tensor
            Shape (N, classes, H - 2 halo, W - 2 halo), unbounded; softmax over axis 1 gives
            probabilities. Its pixel (0, 0) is pixel (halo, halo) of the image. A stack has fewer
            planes in the same way, by the halo of `UNetConfig.geometries`.

        Raises
        ------
        InputError
            If the image has another number of axes or channels, or a side does not fit.
        """
        *others, last = self.feature_maps(image, smaller)
        logits: Tensor = self.output(last)  # 388, 2
        if len(self.hidden):
            logits = logits + self.hidden(last)
        if not self.side_outputs:
            return logits
        pairs = zip(self.side_outputs, others, strict=True)
        return logits + enlarged_sum([layer(x) for layer, x in pairs], logits.shape[2:])

    def decoder_maps(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of the expanding path, of which the last gives the logits.

        Parameters
        ----------
        image
            As for `forward`.

        Returns
        -------
        list of Tensor
            From the bottom up, one for each level; the last has the answer's size, the one before
            it half its resolution and twice its channels, and so on. A map that is enlarged to the
            answer's resolution overhangs it on each side: by 2, 6, 14 ... pixels.
        """
        self._check(image, self._look)
        # Comments give the side and the channels at the paper's size.
        x = image  # 572, 1
        copies = []
        for level, convolutions in enumerate(self.contracting, start=1):
            x = convolutions(x)  # 568, 64 | 280, 128 | 136, 256 | 64, 512
            if level == self.config.depth:
                x = self.dropout(x)
            copies.append(x)
            x = self._pool(level, x)  # 284 | 140 | 68 | 32
        x = self.dropout(self.bottom(x))  # 28, 1024
        maps = []
        for up_convolution, convolutions in zip(self.up_convolutions, self.expanding, strict=True):
            x = up_convolution(x)  # 56, 512 | 104, 256 | 200, 128 | 392, 64
            x = torch.cat([crop(copies.pop(), x), x], dim=1)  # 1024 | 512 | 256 | 128
            x = convolutions(x)  # 52, 512 | 100, 256 | 196, 128 | 388, 64
            maps.append(x)
        return maps

    def _pool(self, level: int, x: Tensor) -> Tensor:
        """Shrink the maps of a level, counted from 1; planes that lie far apart stay."""
        pooled_in_planes = self.config.levels[level - 1][0] == 1
        pooled: Tensor = (self.max_pool_in_planes if pooled_in_planes else self.max_pool)(x)
        return pooled

    def feature_maps(self, image: Tensor, smaller: Tensor | None = None) -> list[Tensor]:
        """Compute what the last layers see: `decoder_maps`, and filter responses beside the last.

        The responses, if the configuration has any, are further channels of the last map; the maps
        of a second look are further channels of those of its resolutions, and two maps of coarser
        ones before them.

        Parameters
        ----------
        image, smaller
            As for `forward`.
        """
        if self.config.second_look and smaller is None:
            self._check(image, self.config)
            smaller = functional.avg_pool2d(image, SECOND_LOOK_SCALE)
            beyond = self.config.halo - self._look.halo
            image = image[:, :, beyond:-beyond, beyond:-beyond]
        *others, last = self.decoder_maps(image)
        if smaller is not None:
            others = self._beside(others, self.decoder_maps(smaller))
        if self.config.responses:
            with torch.autocast(image.device.type, enabled=False):
                responses = filter_responses(image, self._look.halo)
            # Of one layout with the map; else the last layers would have to reorder all of it.
            channels_last = last.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if channels_last else torch.contiguous_format
            responses = responses.to(last.dtype).contiguous(memory_format=layout)
            last = torch.cat([last, responses], dim=1)
        return [*others, last]

    def _beside(self, maps: list[Tensor], far: list[Tensor]) -> list[Tensor]:
        """Put the maps of the second look to those of the first that have the same resolution.

        A map of the second look is as large as that of the first look two levels further down:
        both overhang the answer by 6, 14 ... pixels.
        """
        far = [_FAR_SIZE * x for x in far]
        pairs = zip(maps[:-1], far[2:], strict=True)
        return [*far[:2], *(torch.cat([x, y], dim=1) for x, y in pairs), maps[-1]]

    def _check(self, image: Tensor, config: UNetConfig) -> None:
        channels, ndim = config.in_channels, config.ndim
        if image.ndim != ndim + 2 or image.shape[1] != channels:
            sides = ", ".join("DHW"[-ndim:])
            raise InputError(
                f"an input of shape {tuple(image.shape)} does not fit the network; "
                f"give it (N, {channels}, {sides})"
            )
        for axis, side in enumerate(image.shape[2:]):
            config.output_size(int(side), axis)


def blank(config: UNetConfig) -> UNet:
    """Return a network whose weights are nowhere, to be assigned.

    It draws no random numbers and allocates nothing, and is made in a fraction of a millisecond:
    every prediction begins with one.
    """
    network: UNet = _replica(_template(config))
    return network


@cache
def _template(config: UNetConfig) -> UNet:
    with torch.device("meta"):
        return UNet.from_config(config)


def _replica(module: Any) -> Any:
    """Copy a module and those within it; their tensors are shared until others are assigned."""
    copy = module.__new__(type(module))
    copy.__dict__ = {
        name: value.copy() if isinstance(value, dict) else value
        for name, value in module.__dict__.items()
    }
    for name, child in module._modules.items():
        copy._modules[name] = _replica(child)
    return copy


def _initialise(module: nn.Module) -> None:
    """Draw weights from a Gaussian of standard deviation sqrt(2 / N); biases are 0 (section 3).

    N is the number of incoming nodes of one neuron: 9 * in_channels for a 3x3 convolution. An
    up-convolution has a 2x2 kernel and stride 2, so that its windows do not overlap: each of its
    output pixels sees a single input pixel, N = in_channels, and not 4 * in_channels.
    """
    # Weights that are nowhere need no values; asking for them would load torch's whole compiler.
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return
    if isinstance(module, CONVOLUTIONS):
        incoming = module.in_channels * math.prod(module.kernel_size)
    elif isinstance(module, UP_CONVOLUTIONS):
        incoming = module.in_channels
    else:
        return
    nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
