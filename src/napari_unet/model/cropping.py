"""The grey arrows of the U-Net's figure, with a gradient that lies in memory as the map does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def crop(features: Tensor, like: Tensor) -> Tensor:
    """Cut the middle out of `features`, as large as `like` (the grey arrows of the figure).

    Parameters
    ----------
    features, like
        Shape (N, C, H, W) or (N, C, D, H, W). Both sides are even at every valid input size, so
        the middle is exact.

    Returns
    -------
    Tensor
        The same memory. Its gradient has the layout of `features`.
    """
    if not (features.requires_grad and torch.is_grad_enabled()):
        return _middle(features, like.shape)
    cropped: Tensor = _Crop.apply(features, like.shape)  # type: ignore[no-untyped-call]
    return cropped


class _Crop(torch.autograd.Function):
    """Cut out, and put the gradient into zeros that lie in memory as the features do.

    torch puts it into zeros with channels first, whatever the features have. What comes after, the
    sum with the gradient of the pooling and the gradient of the ReLU, then mixes two layouts.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, shape: torch.Size) -> Tensor:
        ctx.size, ctx.strides = features.shape, features.stride()
        return _middle(features, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        whole = gradient.new_empty_strided(ctx.size, ctx.strides).zero_()
        _middle(whole, gradient.shape).copy_(gradient)
        return whole, None


def _middle(features: Tensor, shape: torch.Size) -> Tensor:
    for axis, length in enumerate(shape[2:], start=2):
        features = features.narrow(axis, (features.shape[axis] - length) // 2, length)
    return features
