"""Smooth random displacements (Ronneberger et al. 2015, section 3.1), of images and of stacks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def elastic_displacement(
    size: int, sigma: float, grid_points: int, generator: torch.Generator
) -> Tensor:
    """Draw a smooth random displacement for every pixel of a square (section 3.1).

    Parameters
    ----------
    size
        Side of the square, in pixels.
    sigma
        Standard deviation of both components at the grid points, in pixels. Between them it is
        lower, as interpolation averages.
    grid_points
        Points along each side of the grid, whose corners are the corners of the square.
    generator
        Source of the random numbers.

    Returns
    -------
    Tensor
        Shape (2, size, size), float64: displacement along rows and along columns, in pixels.
    """
    vectors = torch.randn(
        (1, 2, grid_points, grid_points), generator=generator, dtype=torch.float64
    )
    return _in_plane(sigma * vectors[0], (size, size))


def elastic_displacement_of_stack(
    sizes: Sequence[int],
    sigma: float,
    grid_points: int,
    generator: torch.Generator,
    spacing: Sequence[float],
) -> Tensor:
    """Draw a smooth random displacement for every voxel of a stack (section 3.1, in 3D).

    Parameters
    ----------
    sizes
        Planes, rows and columns.
    sigma, grid_points, generator
        As for `elastic_displacement`; along the planes, there are as many grid points as make
        their distance about that of those in the plane, two at least.
    spacing
        Size of a voxel along each axis, in pixels of the plane.

    Returns
    -------
    Tensor
        Shape (3, planes, rows, columns), float64: displacement along each axis, in voxels.
    """
    planes, rows, columns = sizes
    ratio = planes * spacing[0] / (columns * spacing[2])
    layers = max(2, round((grid_points - 1) * ratio) + 1)
    vectors = torch.randn(
        (3, layers, grid_points, grid_points), generator=generator, dtype=torch.float64
    )
    vectors *= sigma / torch.tensor(spacing, dtype=torch.float64)[:, None, None, None]
    # Cubic in the plane first, then from layer to layer: one after the other is what bicubic is.
    fields = _in_plane(vectors.flatten(0, 1), (rows, columns)).reshape(3, layers, -1)
    return _in_plane(fields, (planes, rows * columns)).reshape(3, planes, rows, columns)


def _in_plane(fields: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge fields (N, y, x) to (N, *size), their corners kept, by a bicubic."""
    return functional.interpolate(fields[None], size=size, mode="bicubic", align_corners=True)[0]
