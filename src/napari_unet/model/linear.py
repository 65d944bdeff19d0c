"""A linear classifier on the feature maps of a network: the quickest learner there is.

What the expanding path knows about a pixel lies in maps of several resolutions. Put side by side,
all enlarged to the resolution of the answer, they are one long vector a pixel (a hypercolumn;
Hariharan et al. 2015, section 2). A linear classifier of it need not enlarge them: enlarging is
linear too, so each map is first reduced to one channel a class, and only that is enlarged.

The classifier is ridge regression on the classes, solved in closed form, so that a network can be
trained through the solution (Bertinetto et al. 2019, section 3.1).

Sources: Hariharan, Arbelaez, Girshick, Malik: Hypercolumns for object segmentation and fine-grained
localization, CVPR 2015. Bertinetto, Henriques, Torr, Vedaldi: Meta-learning with differentiable
closed-form solvers, ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def gather(maps: Sequence[Tensor], rows: Tensor, columns: Tensor, side: tuple[int, int]) -> Tensor:
    """Read the hypercolumns of some pixels.

    Parameters
    ----------
    maps
        Feature maps of one image, each (1, C, h, w), as `UNet.decoder_maps` returns them: each
        has twice the resolution of the one before, the last that of the answer.
    rows, columns
        Shape (N,), integers: pixels of the answer.
    side
        Rows and columns of the answer.

    Returns
    -------
    Tensor
        Shape (N, sum of C), float32; maps that are coarser are interpolated bilinearly.
    """
    return gather_each(maps, rows[None], columns[None], side)[0]


def gather_each(
    maps: Sequence[Tensor], rows: Tensor, columns: Tensor, side: tuple[int, int]
) -> Tensor:
    """Read the hypercolumns of some pixels of each of several images, as `gather` does of one.

    Parameters
    ----------
    maps
        Each (B, C, h, w).
    rows, columns
        Shape (B, N), integers.
    side
        As for `gather`.

    Returns
    -------
    Tensor
        Shape (B, N, sum of C), float32.
    """
    parts = []
    for features, scale in _with_scales(maps):
        grid = _positions(features, scale, rows, columns, side)
        found = functional.grid_sample(
            features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        parts.append(found[:, :, 0].mT)
    return torch.cat(parts, dim=2)


def _positions(
    features: Tensor, scale: int, rows: Tensor, columns: Tensor, side: tuple[int, int]
) -> Tensor:
    """Where pixels of the answer lie in a map, from -1 to 1; shape (B, 1, N, 2), columns first."""
    height, width = (length * scale for length in features.shape[2:])
    y = (rows + 0.5 + (height - side[0]) / 2) / height * 2 - 1
    x = (columns + 0.5 + (width - side[1]) / 2) / width * 2 - 1
    return torch.stack([x, y], dim=2)[:, None]


def _with_scales(maps: Sequence[Tensor]) -> Iterator[tuple[Tensor, int]]:
    """Each map, and how many pixels of the answer fall into one of it, along an axis."""
    for number, features in enumerate(maps, start=1):
        yield features, 1 << (len(maps) - number)


def solve_ridge(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    strength: Tensor,
    sizes: Tensor | None = None,
) -> Tensor:
    """Fit a linear function to the targets.

    Parameters
    ----------
    features
        Shape (..., N, D), float32; each of the leading axes is a fit by itself.
    targets
        Shape (..., N, K).
    weights
        Shape (..., N), how much each row counts; they sum to 1.
    strength
        Scalar above 0: the penalty on the squared coefficients; the constant is free.
    sizes
        Shape (D,), above 0: the penalty is on the coefficients of the features times these; None
        stands for ones. The coefficients that are returned are of the features as they are.

    Returns
    -------
    Tensor
        Shape (..., D + 1, K); the last row is the constant.
    """
    # Thousands of rows of hundreds of features: each further array of that size takes as long as
    # a good part of the product does.
    feature_mean = weights[..., None, :] @ features
    target_mean = weights[..., None, :] @ targets
    root = weights[..., None].sqrt()
    centred = (features - feature_mean) * root
    covariance = centred.mT @ centred
    moment = centred.mT @ ((targets - target_mean) * root)
    if sizes is not None:
        covariance = sizes[:, None] * covariance * sizes
        moment = sizes[:, None] * moment
    covariance = covariance + strength * torch.eye(covariance.shape[-1], device=features.device)
    coefficients = torch.linalg.solve(covariance, moment)
    if sizes is not None:
        coefficients = sizes[:, None] * coefficients
    return torch.cat([coefficients, target_mean - feature_mean @ coefficients], dim=-2)


def apply_linear(maps: Sequence[Tensor], coefficients: Tensor, side: tuple[int, int]) -> Tensor:
    """Apply a linear function of the hypercolumns to all pixels.

    Parameters
    ----------
    maps, side
        As for `gather`.
    coefficients
        Shape (D + 1, K), as `solve_ridge` returns them.

    Returns
    -------
    Tensor
        Shape (1, K, rows, columns), float32.
    """
    reduced, start = [], 0
    for features in maps:
        channels = features.shape[1]
        part = coefficients[start : start + channels].T[:, :, None, None]
        start += channels
        reduced.append(functional.conv2d(features.float(), part))
    return coefficients[-1][:, None, None] + enlarged_sum(reduced[:-1], side) + reduced[-1]


def enlarged_sum(maps: Sequence[Tensor], side: Sequence[int]) -> Tensor:
    """Enlarge the maps of all levels but the last to the resolution of the answer, and add them.

    Parameters
    ----------
    maps
        Each (N, K, h, w), from the bottom up, each with twice the resolution of the one before,
        the last with half of the answer's.
    side
        Rows and columns of the answer.

    Returns
    -------
    Tensor
        Shape (N, K, rows, columns), float32.
    """
    total = torch.zeros(())
    for number, features in enumerate(maps):
        # Class by class: it takes four times as long where the channels of two or three classes
        # lie side by side, pixel by pixel.
        enlarged = functional.interpolate(
            features.float().contiguous(),
            scale_factor=float(1 << (len(maps) - number)),
            mode="bilinear",
            align_corners=False,
        )
        top, left = (enlarged.shape[2] - side[0]) // 2, (enlarged.shape[3] - side[1]) // 2
        total = total + enlarged[:, :, top : top + side[0], left : left + side[1]]
    return total
