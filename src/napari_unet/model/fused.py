"""The network for prediction alone: what can be computed together is computed together.

A convolution whose ReLU is applied while its result is still in the cache, weights that are packed
for it once and not at every call, and max pooling as a maximum of slices, which torch computes a
few times faster than its own pooling where channels are last. The answer is the same, bit by bit
where oneDNN chooses the same algorithm.

The fused convolution and the packed weights are operators that torch's compiler uses and does not
promise to keep. So they are tried out first, on a small input, and are left alone where they are
missing or answer otherwise.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from napari_unet.model.unet import CONVOLUTIONS, UNet

Activation = Literal["relu", "none"]

_PACK = {2: "mkldnn_reorder_conv2d_weight", 3: "mkldnn_reorder_conv3d_weight"}
# What the fused convolution may differ from the plain one, absolutely and relatively: a rounding.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
# Weights are packed for the shape of an input; a network that looks twice has two in each tile.
_SHAPES_PACKED = 2
# With their hidden units in float32 some 3 MB, which fits the caches of today's processors; shorter
# strips cost more calls. From 4,000 to 16,000 pixels the time is the same within a tenth.
_PIXELS_OF_A_STRIP = 8192


class FusedConvolution(nn.Module):
    """A convolution, and its ReLU in one, for prediction on the CPU.

    Parameters
    ----------
    convolution
        Without stride, padded with zeros or not at all; its weights are shared, and must not change
        once it has computed.
    activation
        "relu", or "none": weights are packed all the same, and the rounding does not depend on the
        number of threads, which it does where torch takes a matrix product for a 1x1 convolution.
    """

    def __init__(self, convolution: Any, activation: Activation = "relu") -> None:
        super().__init__()
        self.convolution = convolution
        self._activation = activation
        self._packed: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Compute; shapes as for the convolution."""
        layer, ones = self.convolution, [1] * (x.ndim - 2)
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            self._weight(tuple(x.shape)),
            layer.bias,
            list(layer.padding),
            ones,
            ones,
            1,
            self._activation,
            [],
            "",
        )
        return fused

    def _weight(self, shape: tuple[int, ...]) -> Tensor:
        """Return the weights as oneDNN wants them for inputs of this shape."""
        if shape not in self._packed:
            layer, ones = self.convolution, [1] * (len(shape) - 2)
            pack = getattr(torch._C._nn, _PACK[len(ones)])
            while len(self._packed) >= _SHAPES_PACKED:
                del self._packed[next(iter(self._packed))]
            self._packed[shape] = pack(
                layer.weight.to_mkldnn(), list(layer.padding), ones, ones, 1, list(shape)
            )
        return self._packed[shape]


class MaxOfSlices(nn.Module):
    """Max pooling that takes the maximum of every other row with the next, axis by axis.

    Parameters
    ----------
    factors
        2 or 1 for each axis of the image: whether it is halved.
    """

    def __init__(self, factors: tuple[int, ...]) -> None:
        super().__init__()
        self._axes = [axis for axis, factor in enumerate(factors, start=2) if factor == 2]

    def forward(self, x: Tensor) -> Tensor:
        """Shrink; every axis that is halved must be even."""
        for axis in self._axes:
            every = (slice(None),) * axis
            x = torch.maximum(x[(*every, slice(0, None, 2))], x[(*every, slice(1, None, 2))])
        return x


class PixelLayers(nn.Module):
    """The last layers, which see one pixel at a time, strip by strip and in float32.

    What they compute of a strip stays in the cache. Of a whole tile the hidden units alone would be
    64 numbers a pixel, written to memory and read again.

    Parameters
    ----------
    output
        What gives the logits.
    hidden
        What is added to them; may be empty.
    """

    def __init__(self, output: nn.Module, hidden: nn.Sequential) -> None:
        super().__init__()
        self.output, self.hidden = output.float(), hidden.float()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits; shapes as for the convolution."""
        rows = max(_PIXELS_OF_A_STRIP * x.shape[2] // math.prod(x.shape[2:]), 1)
        return torch.cat(
            [self._logits(strip.float()) for strip in torch.split(x, rows, dim=2)], dim=2
        )

    def _logits(self, strip: Tensor) -> Tensor:
        logits: Tensor = self.output(strip)
        return logits + self.hidden(strip) if len(self.hidden) else logits


def fuse(network: UNet) -> UNet:
    """Compute together what can be, in a network that will only predict.

    Parameters
    ----------
    network
        Without BatchNorm, in evaluation mode, on the CPU, with channels last; it is changed.

    Returns
    -------
    UNet
        `network`. It cannot learn or be saved any more. Its answer is the same up to rounding.
    """
    replaced: dict[str, nn.Module] = {
        "contracting": nn.ModuleList(map(_fused, network.contracting)),
        "bottom": _fused(network.bottom),
        "expanding": nn.ModuleList(map(_fused, network.expanding)),
        "max_pool": MaxOfSlices((2,) * network.config.ndim),
        "output": FusedConvolution(network.output, "none"),
        "side_outputs": nn.ModuleList(FusedConvolution(x, "none") for x in network.side_outputs),
    }
    if network.config.hidden:
        first, _, last = network.hidden
        replaced["hidden"] = nn.Sequential(FusedConvolution(first), FusedConvolution(last, "none"))
    if network.config.ndim == 3:
        replaced["max_pool_in_planes"] = MaxOfSlices((1, 2, 2))
    for name, module in replaced.items():
        setattr(network, name, module)
    return network


def _fused(two_convolutions: nn.Module) -> nn.Sequential:
    layers = (layer for layer in two_convolutions.children() if isinstance(layer, CONVOLUTIONS))
    return nn.Sequential(*map(FusedConvolution, layers))


@cache
def can_fuse(dtype: torch.dtype, ndim: int = 2) -> bool:
    """Say whether this processor and this torch have the fused convolution, and it is right.

    Parameters
    ----------
    dtype
        Of the network.
    ndim
        2 for images, 3 for stacks.
    """
    if dtype not in _TOLERANCE:
        return False
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        layer: Any = CONVOLUTIONS[ndim - 2](16, 16, 3).to(dtype)
        layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
        layer.to(memory_format=layout)
        x = torch.randn(1, 16, *(10,) * ndim).to(dtype).contiguous(memory_format=layout)
        try:
            fused = FusedConvolution(layer)(x)
        # Whatever it is that goes wrong in an operator that nobody promised: we do without.
        except (RuntimeError, AttributeError, TypeError, NotImplementedError):
            return False
        expected = layer(x).relu()
    allowed = _TOLERANCE[dtype]
    return torch.allclose(fused, expected, rtol=allowed, atol=allowed)
