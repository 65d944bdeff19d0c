"""Where in an image the pixels of a randomly deformed patch lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from napari_unet.model.elastic import elastic_displacement, elastic_displacement_of_stack
from napari_unet.model.variation import AugmentConfig, uniform

_Matrix = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Deformation:
    """How a patch lies in its image.

    Attributes
    ----------
    middle
        Shape (axes,), float64: the position that the middle of the patch shows, where nothing is
        displaced.
    factor
        Pixels of the image from one pixel of the patch to the next.
    turn
        What offsets (row, column) are multiplied by: a symmetry of the square, then a rotation, of
        pixels that need not be square.
    across
        1, or -1 for a stack that is turned upside down.
    displacement
        Shape (axes, *sides of the patch), float64; None where nothing is displaced.
    """

    middle: Tensor
    factor: float
    turn: _Matrix
    across: float
    displacement: Tensor | None

    @classmethod
    def drawn(
        cls,
        centre: Sequence[float],
        sizes: Sequence[int],
        config: AugmentConfig,
        generator: torch.Generator,
        spacing: Sequence[float] | None = None,
    ) -> Self:
        """Draw the deformation of a patch of some sides; arguments as for `sample_patch`."""
        ndim = len(sizes)
        spacing = spacing or (1.0,) * ndim
        factor = 1.0
        if config.scale > 0:
            factor = (1 + config.scale) ** float(uniform(1, generator))
        (a, b), (c, d) = _turn(config, generator)
        stretch = spacing[-1] / spacing[-2]  # of a pixel that is not square
        flipped = ndim == 3 and config.flip and bool(torch.randint(2, (1,), generator=generator))
        sizes_of_voxel = torch.tensor(spacing, dtype=torch.float64)
        shift = (uniform(ndim, generator) * config.shift / sizes_of_voxel).round()
        # The first pixel of a patch that is not turned lies on a whole position.
        halves = [(size - 1) / 2 for size in sizes]
        middle = [
            math.floor(position - half + 0.5) + half
            for position, half in zip(centre, halves, strict=True)
        ]
        displacement = None
        if config.elastic_sigma > 0:
            how = (config.elastic_sigma, config.grid_points, generator)
            displacement = (
                elastic_displacement(sizes[0], *how)
                if ndim == 2
                else elastic_displacement_of_stack(sizes, *how, spacing)
            )
        return cls(
            torch.tensor(middle, dtype=torch.float64) + shift,
            factor,
            ((a, b * stretch), (c / stretch, d)),
            -1.0 if flipped else 1.0,
            displacement,
        )

    def positions(self, sizes: Sequence[int], step: int = 1) -> Tensor:
        """Return the image position of every pixel of a patch; (axes, *sizes), float64.

        float64, because whole positions must stay whole: a patch that is not deformed is exact.

        Parameters
        ----------
        sizes
            Sides of the patch, in its pixels.
        step
            Pixels of the patch that was drawn from one of these to the next. Around that patch,
            displacements go on as they are at its border.
        """
        steps = [
            step * (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) for size in sizes
        ]
        positions = self._turned([self.factor * offsets for offsets in steps])
        positions += self.middle.reshape(-1, *(1,) * len(sizes))
        if self.displacement is None:
            return positions
        displacement = self.displacement
        if step != 1:
            for axis, offsets in enumerate(steps, start=1):
                last = displacement.shape[axis] - 1
                nearest = (offsets + last / 2).round().clamp(0, last).long()
                displacement = displacement.index_select(axis, nearest)
        return positions + displacement

    def _turned(self, offsets: Sequence[Tensor]) -> Tensor:
        """Turn and mirror offsets from the middle; (axes, *sizes), float64."""
        (a, b), (c, d) = self.turn
        along_rows, along_columns = offsets[-2][:, None], offsets[-1][None, :]
        turned = [a * along_rows + b * along_columns, c * along_rows + d * along_columns]
        if len(offsets) == 2:
            return torch.stack(turned)
        across = offsets[0] * self.across
        shape = [len(offset) for offset in offsets]
        return torch.stack(
            [across[:, None, None].expand(shape), *(each.expand(shape) for each in turned)]
        )


def _turn(config: AugmentConfig, generator: torch.Generator) -> _Matrix:
    """Draw a matrix for offsets (row, column): a symmetry of the square, then a rotation."""
    mirror_rows = mirror_columns = 1.0
    swap = False
    if config.flip:
        coins = torch.randint(2, (3,), generator=generator).tolist()
        mirror_rows, mirror_columns, swap = 1.0 - 2 * coins[0], 1.0 - 2 * coins[1], bool(coins[2])
    cosine, sine = 1.0, 0.0
    if config.rotation:
        angle = math.pi * float(uniform(1, generator))
        cosine, sine = math.cos(angle), math.sin(angle)
    first = (cosine * mirror_rows, -sine * mirror_columns)
    second = (sine * mirror_rows, cosine * mirror_columns)
    return (first[::-1], second[::-1]) if swap else (first, second)
