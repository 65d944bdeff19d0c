"""Responses of fixed filters: what a pixel's surroundings look like without any learning.

Smoothed grey value, length of the gradient, and the two curvatures (eigenvalues of the Hessian) at
several widths are what random forests on filter features see (ilastik; Berg et al. 2019). They
know little of shape, and everything of brightness and lines, in any kind of image.

Source of the filters: Lindeberg, Scale-space theory, Journal of Applied Statistics 21, 1994; each
derivative is multiplied by the width as often as it was taken, so that responses of all widths are
of one size (section 5).
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

# Standard deviations in pixels.
_WIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
# Of the Gaussian, so many standard deviations are taken; differences need two pixels more.
_REACH = 3.0
_DIFFERENCES = 2
#: Responses at each width.
_KINDS = 4


def widths(halo: int) -> tuple[float, ...]:
    """Return the widths whose filters reach no further than `halo` pixels."""
    return tuple(width for width in _WIDTHS if _radius(width) + _DIFFERENCES <= halo)


def response_count(channels: int, halo: int) -> int:
    """Return how many responses an image of so many channels has."""
    return channels * _KINDS * len(widths(halo))


def filter_responses(image: Tensor, halo: int) -> Tensor:
    """Compute all responses.

    Parameters
    ----------
    image
        Shape (N, C, H, W), floating point, percentile-normalised.
    halo
        Pixels at each side that have no answer.

    Returns
    -------
    Tensor
        Shape (N, responses, H - 2 halo, W - 2 halo), float32. A pixel depends on those within
        `halo` alone.
    """
    found = []
    count, channels = image.shape[:2]
    planes = image.float().reshape(count * channels, 1, *image.shape[2:])
    for width in widths(halo):
        spare = halo - _radius(width) - _DIFFERENCES
        smooth = _smoothed(_trimmed(planes, spare), width)
        found.append(_derivatives(smooth, width))
    rows, columns = (length - 2 * halo for length in image.shape[2:])
    if not found:
        return image.new_zeros(count, 0, rows, columns, dtype=torch.float32)
    # (widths, N * C, kinds, rows, columns) -> (N, C * widths * kinds, rows, columns)
    stacked = torch.stack(found).reshape(len(found), count, channels, _KINDS, rows, columns)
    return stacked.permute(1, 2, 0, 3, 4, 5).flatten(1, 3)


def _smoothed(planes: Tensor, width: float) -> Tensor:
    kernel = _gaussian(width).to(planes.device)
    upright, level = kernel[None, None, :, None], kernel[None, None, None, :]
    return functional.conv2d(functional.conv2d(planes, upright), level)


def _derivatives(smooth: Tensor, width: float) -> Tensor:
    """Grey value, gradient and curvatures, shape (planes, 4, rows, columns)."""
    along_y = (smooth[..., 2:, :] - smooth[..., :-2, :])[..., 1:-1] * (width / 2)
    along_x = (smooth[..., :, 2:] - smooth[..., :, :-2])[..., 1:-1, :] * (width / 2)
    yy = (along_y[..., 2:, :] - along_y[..., :-2, :])[..., 1:-1] * (width / 2)
    xx = (along_x[..., :, 2:] - along_x[..., :, :-2])[..., 1:-1, :] * (width / 2)
    xy = (along_x[..., 2:, :] - along_x[..., :-2, :])[..., 1:-1] * (width / 2)
    along_y, along_x = along_y[..., 1:-1, 1:-1], along_x[..., 1:-1, 1:-1]
    middle, half = (yy + xx) / 2, torch.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    gradient = torch.sqrt(along_y**2 + along_x**2)
    return torch.cat([smooth[..., 2:-2, 2:-2], gradient, middle + half, middle - half], dim=1)


def _trimmed(planes: Tensor, spare: int) -> Tensor:
    rows, columns = planes.shape[2:]
    return planes[..., spare : rows - spare, spare : columns - spare]


def _radius(width: float) -> int:
    return math.ceil(_REACH * width)


@cache
def _gaussian(width: float) -> Tensor:
    """Return the kernel, shape (2 radius + 1,)."""
    steps = torch.arange(-_radius(width), _radius(width) + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / width) ** 2)
    return kernel / kernel.sum()
