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
# So many rows are smoothed by one matrix product: as many as keep the multiplications with zero,
# which grow with them, below those with the kernel.
_BLOCK = 16


def widths(halo: int) -> tuple[float, ...]:
    """Return the widths whose filters reach no further than `halo` pixels."""
    return tuple(width for width in _WIDTHS if _radius(width) + _DIFFERENCES <= halo)


def response_count(channels: int, halo: int) -> int:
    """Return how many responses an image of so many channels has."""
    return channels * _KINDS * len(widths(halo))


def filter_responses(image: Tensor, halo: int, *, exact: bool = False) -> Tensor:
    """Compute all responses.

    Parameters
    ----------
    image
        Shape (N, C, H, W), floating point, percentile-normalised.
    halo
        Pixels at each side that have no answer.
    exact
        Whether the bits may not depend on the number of threads; takes three times as long.

    Returns
    -------
    Tensor
        Shape (N, responses, H - 2 halo, W - 2 halo), float32. A pixel depends on those within
        `halo` alone.
    """
    count, channels = image.shape[:2]
    planes = image.float().flatten(0, 1)
    known = widths(halo)
    rows, columns = (length - 2 * halo for length in image.shape[2:])
    found = planes.new_empty(count * channels, len(known), _KINDS, rows, columns)
    smoothed = _convolved if exact else _smoothed
    for number, width in enumerate(known):
        spare = halo - _radius(width) - _DIFFERENCES
        for plane, responses in zip(planes, found[:, number], strict=True):
            _respond(smoothed(_trimmed(plane, spare), width), width, responses)
    # (N * C, widths, kinds, rows, columns) -> (N, C * widths * kinds, rows, columns)
    return found.reshape(count, -1, rows, columns)


def _convolved(plane: Tensor, width: float) -> Tensor:
    """Smooth a plane (Y, X); it loses the kernel's radius at each side."""
    kernel = _gaussian(width).to(plane.device)
    upright, level = kernel[None, None, :, None], kernel[None, None, None, :]
    smooth: Tensor = functional.conv2d(functional.conv2d(plane[None, None], upright), level)
    return smooth[0, 0]


def _smoothed(plane: Tensor, width: float) -> Tensor:
    """Do what `_convolved` does, several times faster, by matrix products.

    torch is slow at convolutions of one channel. How a library shares out a matrix product among
    threads may change how it is rounded.
    """
    return _along_rows(_along_rows(plane.T, width).T, width)


def _along_rows(plane: Tensor, width: float) -> Tensor:
    """Smooth along axis 0, (Y, X) -> (Y - 2 radius, X).

    A block of rows is the product of a band matrix, each row of which is the kernel, and the rows
    that the block sees.
    """
    seen = 2 * _radius(width)
    length = len(plane) - seen
    blocks = -(-length // _BLOCK)
    padded = functional.pad(plane, (0, 0, 0, blocks * _BLOCK - length))
    windows = padded.unfold(0, _BLOCK + seen, _BLOCK).transpose(1, 2)
    band = _band(width).to(plane.device)
    return torch.bmm(band.expand(blocks, -1, -1), windows).flatten(0, 1)[:length]


def _respond(smooth: Tensor, width: float, responses: Tensor) -> None:
    """Write grey value, gradient and curvatures into `responses`, shape (4, Y, X)."""
    along_y = (smooth[2:] - smooth[:-2])[:, 1:-1] * (width / 2)
    along_x = (smooth[:, 2:] - smooth[:, :-2])[1:-1] * (width / 2)
    yy = (along_y[2:] - along_y[:-2])[:, 1:-1] * (width / 2)
    xx = (along_x[:, 2:] - along_x[:, :-2])[1:-1] * (width / 2)
    xy = (along_x[2:] - along_x[:-2])[:, 1:-1] * (width / 2)
    along_y, along_x = along_y[1:-1, 1:-1], along_x[1:-1, 1:-1]
    middle, half = (yy + xx) / 2, torch.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    responses[0] = smooth[2:-2, 2:-2]
    responses[1] = torch.sqrt(along_y**2 + along_x**2)
    responses[2] = middle + half
    responses[3] = middle - half


def _trimmed(plane: Tensor, spare: int) -> Tensor:
    rows, columns = plane.shape
    return plane[spare : rows - spare, spare : columns - spare]


def _radius(width: float) -> int:
    return math.ceil(_REACH * width)


@cache
def _gaussian(width: float) -> Tensor:
    """Return the kernel, shape (2 radius + 1,)."""
    steps = torch.arange(-_radius(width), _radius(width) + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / width) ** 2)
    return kernel / kernel.sum()


@cache
def _band(width: float) -> Tensor:
    """Return the kernel once for each row of a block, each time a step further."""
    kernel = _gaussian(width)
    band = torch.zeros(_BLOCK, _BLOCK + len(kernel) - 1)
    for row in range(_BLOCK):
        band[row, row : row + len(kernel)] = kernel
    return band
