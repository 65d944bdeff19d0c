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

The convolutions are not padded, so a pixel of the answer depends on the pixels around it alone and
not on where the tile ends. Nothing normalises over space in prediction: BatchNorm is an option, and
it uses frozen statistics then and can be folded into the convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from reprlib import repr as shortened
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from napari_unet.model.filters import filter_responses, response_count
from napari_unet.model.linear import enlarged_sum
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import TileGeometry

# What a configuration may ask for. Wide enough for every use, and narrow enough that a damaged or
# hostile model file cannot ask for a network that no machine could hold.
_LIMITS = {
    "in_channels": (1, 1024),
    "classes": (2, 255),  # labels are stored in 8 bits, and 0 is "not annotated"
    "base_channels": (1, 512),
    "depth": (1, 6),
    "hidden": (0, 1024),
}
# What older files do not say.
_LATER_VALUES = {"hypercolumns": False, "hidden": 0}


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """The shape of a network.

    Attributes
    ----------
    in_channels
        Channels of the image: 1 for grey, 3 for RGB.
    classes
        Channels of the answer, background included.
    base_channels
        Channels of the first level; each level below has twice as many. The paper's is 64.
    depth
        How often the image is halved. The paper's is 4.
    batch_norm
        Whether BatchNorm follows every 3x3 convolution. The paper has none.
    dropout
        Probability, in [0, 1), that a feature is dropped at the end of the contracting path.
    hypercolumns
        Whether the answer is a linear function of the maps of all levels of the expanding path,
        enlarged, and of fixed filters (`napari_unet.model.filters`), and not of the last map alone
        (Hariharan et al. 2015, section 2). The paper's is not.
    hidden
        How many rectified units see what the last layer sees, and add to its answer
        (`napari_unet.model.head`). The paper has none.

    Raises
    ------
    InputError
        If a value is of the wrong kind or outside its range.
    """

    in_channels: int = 1
    classes: int = 2
    base_channels: int = 64
    depth: int = 4
    batch_norm: bool = False
    dropout: float = 0.5
    hypercolumns: bool = False
    hidden: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(
                    f"{name} = {shortened(value)} is not possible; "
                    f"choose a whole number from {low} to {high}"
                )
        for name in ("batch_norm", "hypercolumns"):
            flag: object = getattr(self, name)  # a file may hold anything
            if not isinstance(flag, bool):
                raise InputError(
                    f"{name} = {shortened(flag)} is not possible; choose true or false"
                )
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise InputError(
                f"dropout = {shortened(self.dropout)} is not possible; "
                "choose a number of at least 0 and below 1"
            )

    @property
    def halo(self) -> int:
        """Pixels that each side of the input is larger than the answer: 92 at depth 4.

        Two 3x3 convolutions take 2 pixels from each side, which are 2 * 2**level pixels of the
        image; they do so twice at each level, and once at the bottom.
        """
        return 6 * self.stride - 4

    @property
    def responses(self) -> int:
        """How many filter responses the last layer sees; 0 without hypercolumns."""
        return response_count(self.in_channels, self.halo) if self.hypercolumns else 0

    @property
    def stride(self) -> int:
        """Pixels of the image that fall into one of the bottom: 16 at depth 4."""
        return 1 << self.depth  # 2**depth, but an int to the type checker too

    @property
    def geometry(self) -> TileGeometry:
        """What the network demands of its tiles."""
        return TileGeometry(halo=self.halo, stride=self.stride, surplus=4 % self.stride)

    def output_size(self, input_size: int) -> int:
        """Side of the answer for a side of the input: 572 -> 388 at depth 4.

        Every max pooling must see an even side, so valid sides are `stride` apart.

        Parameters
        ----------
        input_size
            Side of the input, in pixels.

        Raises
        ------
        InputError
            If the side does not fit; the nearest that do are named.
        """
        below, above = self._valid_sizes_around(input_size)
        if input_size in (below, above):
            return input_size - 2 * self.halo
        nearest = f"{above}" if below is None else f"{below} or {above}"
        raise InputError(f"a side of {input_size} pixels does not fit the network; use {nearest}")

    def _valid_sizes_around(self, input_size: int) -> tuple[int | None, int]:
        """Largest valid side of at most `input_size` (None if there is none), and the next."""
        # Going up the contracting path from a bottom of b pixels, a side becomes 2 * side + 4:
        # at the top that is stride * (b + 4) - 4. The smallest one leaves a pixel of output.
        smallest = -(-(2 * self.halo + 1 + 4) // self.stride) * self.stride - 4
        if input_size < smallest:
            return None, smallest
        below = (input_size + 4) // self.stride * self.stride - 4
        return below, below + self.stride

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, all of them fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> UNetConfig:
        """Make a configuration from what `to_dict` returned.

        Raises
        ------
        InputError
            If names are missing or unknown, or a value is of the wrong kind or out of range.
        """
        if not isinstance(values, Mapping):
            raise InputError("the network's configuration is not a table; save the model again")
        names = {field.name for field in fields(cls)}
        values = {**_LATER_VALUES, **values}
        if wrong := sorted(names.symmetric_difference(values), key=str):
            listed = ", ".join(str(name)[:40] for name in wrong[:6])
            raise InputError(
                f"missing or unknown in the network's configuration: {listed}; save the model again"
            )
        return cls(**values)


class TwoConvolutions(nn.Sequential):
    """Two unpadded 3x3 convolutions, each with a ReLU: the blue arrows of the figure.

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after.
    batch_norm
        Whether BatchNorm stands between convolution and ReLU. It subtracts the mean, which would
        cancel a bias, so the convolution has none then.
    """

    def __init__(self, in_channels: int, out_channels: int, batch_norm: bool) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers.append(nn.Conv2d(channels, out_channels, 3, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    """The network of figure 1.

    Weights are drawn from torch's random generator: seed it for the same network again.

    Parameters
    ----------
    in_channels, classes, base_channels, depth, batch_norm, dropout, hypercolumns, hidden
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
    ) -> None:
        super().__init__()
        self.config = UNetConfig(
            in_channels, classes, base_channels, depth, batch_norm, dropout, hypercolumns, hidden
        )
        widths = [base_channels * 2**level for level in range(depth)]  # 64, 128, 256, 512
        width_below = base_channels * 2**depth  # 1024

        # Left side of the figure, from the top down.
        self.contracting = nn.ModuleList(
            TwoConvolutions(channels, width, batch_norm)
            for channels, width in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.max_pool = nn.MaxPool2d(2)
        self.bottom = TwoConvolutions(widths[-1], width_below, batch_norm)
        # "Drop-out layers at the end of the contracting path" (section 3.1): phseg_v5 has one on
        # the 512 channels that are pooled and copied, and one on the 1024 of the bottom.
        self.dropout = nn.Dropout(dropout)

        # Right side, from the bottom up. Half of what enters a level was copied across.
        self.up_convolutions = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in reversed(widths)
        )
        self.expanding = nn.ModuleList(
            TwoConvolutions(2 * width, width, batch_norm) for width in reversed(widths)
        )
        seen = base_channels + self.config.responses
        self.output = nn.Conv2d(seen, classes, 1)
        self.side_outputs = nn.ModuleList(
            nn.Conv2d(width, classes, 1, bias=False)
            for width in reversed(widths[1:])
            if hypercolumns
        )
        self.hidden = nn.Sequential()
        if hidden:
            last = nn.Conv2d(hidden, classes, 1, bias=False)
            self.hidden.extend([nn.Conv2d(seen, hidden, 1), nn.ReLU(inplace=True), last])
        self.apply(_initialise)

    @classmethod
    def from_config(cls, config: UNetConfig) -> UNet:
        """Make a network of the given shape, with random weights."""
        return cls(**config.to_dict())

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits of every class.

        Parameters
        ----------
        image
            Shape (N, C, H, W), floating point, percentile-normalised. Sides must fit the network,
            see `UNetConfig.output_size`; they may differ.

        Returns
        -------
        Tensor
            Shape (N, classes, H - 2 halo, W - 2 halo), unbounded; softmax over axis 1 gives
            probabilities. Its pixel (0, 0) is pixel (halo, halo) of the image.

        Raises
        ------
        InputError
            If the image has another number of axes or channels, or a side does not fit.
        """
        *others, last = self.feature_maps(image)
        logits: Tensor = self.output(last)  # 388, 2
        if self.config.hidden:
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
        self._check(image)
        # Comments give the side and the channels at the paper's size.
        x = image  # 572, 1
        copies = []
        for level, convolutions in enumerate(self.contracting, start=1):
            x = convolutions(x)  # 568, 64 | 280, 128 | 136, 256 | 64, 512
            if level == self.config.depth:
                x = self.dropout(x)
            copies.append(x)
            x = self.max_pool(x)  # 284 | 140 | 68 | 32
        x = self.dropout(self.bottom(x))  # 28, 1024
        maps = []
        for up_convolution, convolutions in zip(self.up_convolutions, self.expanding, strict=True):
            x = up_convolution(x)  # 56, 512 | 104, 256 | 200, 128 | 392, 64
            x = torch.cat([_crop(copies.pop(), x), x], dim=1)  # 1024 | 512 | 256 | 128
            x = convolutions(x)  # 52, 512 | 100, 256 | 196, 128 | 388, 64
            maps.append(x)
        return maps

    def feature_maps(self, image: Tensor) -> list[Tensor]:
        """Compute what the last layers see: `decoder_maps`, and filter responses beside the last.

        The responses, if the configuration has any, are further channels of the last map.
        """
        *others, last = self.decoder_maps(image)
        if self.config.responses:
            with torch.autocast(image.device.type, enabled=False):
                responses = filter_responses(image, self.config.halo)
            last = torch.cat([last, responses.to(last.dtype)], dim=1)
        return [*others, last]

    def _check(self, image: Tensor) -> None:
        channels = self.config.in_channels
        if image.ndim != 4 or image.shape[1] != channels:
            raise InputError(
                f"an input of shape {tuple(image.shape)} does not fit the network; "
                f"give it (N, {channels}, H, W)"
            )
        for side in image.shape[2:]:
            self.config.output_size(int(side))


def fold_batch_norm(model: UNet) -> UNet:
    """Fold BatchNorm into the convolutions before it: the same answer, computed with less.

    Parameters
    ----------
    model
        Any network; it is not changed.

    Returns
    -------
    UNet
        A copy without BatchNorm in evaluation mode, on the same device and of the same dtype. Its
        answer is that of `model` in evaluation mode, up to rounding.
    """
    config = replace(model.config, batch_norm=False)
    with torch.device("meta"):  # draws no random numbers, allocates nothing
        folded = UNet.from_config(config)
    pairs = zip(_convolutions(folded), _convolutions(model), strict=True)
    for (target, _), (convolution, norm) in pairs:
        weight, bias = convolution.weight, convolution.bias
        if norm is not None:
            weight, bias = fuse_conv_bn_weights(
                weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
        target.weight = nn.Parameter(weight.detach().clone())
        if bias is not None:
            target.bias = nn.Parameter(bias.detach().clone())
    return folded.eval()


def _convolutions(model: UNet) -> list[tuple[Any, Any]]:
    """Every convolution with the BatchNorm that follows it, or None, always in the same order."""
    found: list[tuple[Any, Any]] = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            found.append((module, None))
        elif isinstance(module, nn.BatchNorm2d):
            found[-1] = (found[-1][0], module)
    return found


def _crop(features: Tensor, like: Tensor) -> Tensor:
    """Cut the middle out of `features`, as large as `like` (the grey arrows of the figure).

    Both sides are even at every valid input size, so the middle is exact.
    """
    rows, columns = like.shape[2:]
    top = (features.shape[2] - rows) // 2
    left = (features.shape[3] - columns) // 2
    return features[:, :, top : top + rows, left : left + columns]


def _initialise(module: nn.Module) -> None:
    """Draw weights from a Gaussian of standard deviation sqrt(2 / N); biases are 0 (section 3).

    N is the number of incoming nodes of one neuron: 9 * in_channels for a 3x3 convolution. An
    up-convolution has a 2x2 kernel and stride 2, so that its windows do not overlap: each of its
    output pixels sees a single input pixel, N = in_channels, and not 4 * in_channels.
    """
    if isinstance(module, nn.Conv2d):
        incoming = module.in_channels * math.prod(module.kernel_size)
    elif isinstance(module, nn.ConvTranspose2d):
        incoming = module.in_channels
    else:
        return
    nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
