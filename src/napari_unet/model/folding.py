"""BatchNorm with frozen statistics, computed by the convolution before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from napari_unet.model.unet import BATCH_NORMS, CONVOLUTIONS, UP_CONVOLUTIONS, UNet, blank


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
    folded = blank(replace(model.config, batch_norm=False))
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
        if isinstance(module, (*CONVOLUTIONS, *UP_CONVOLUTIONS)):
            found.append((module, None))
        elif isinstance(module, BATCH_NORMS):
            found[-1] = (found[-1][0], module)
    return found
