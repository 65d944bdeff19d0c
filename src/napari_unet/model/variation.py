"""How far the patches that are learned from may vary."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from napari_unet.ops.errors import InputError


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How patches are varied; `AugmentConfig.none()` leaves them as they are.

    Attributes
    ----------
    elastic_sigma
        Standard deviation of the displacement at the grid points, in pixels, for each axis.
    grid_points
        Grid points along a side of the patch, the first and the last on its border.
    rotation
        Whether to turn by any angle.
    flip
        Whether to apply one of the eight symmetries of the square: mirror images, quarter turns.
        A stack is also turned upside down.
    scale
        The patch is enlarged or shrunk by a factor from 1 / (1 + scale) to 1 + scale.
    shift
        Largest shift along each axis, in pixels. Shifts are by whole pixels, which blurs nothing.
    brightness
        Largest offset of the grey values, where 1 is the image's range between its percentiles.
    contrast
        Grey values are stretched around 0.5 by a factor from 1 / (1 + contrast) to 1 + contrast.
    gamma
        Exponent from 1 / (1 + gamma) to 1 + gamma for grey values between 0 and 1.
    noise
        Largest standard deviation of the Gaussian noise; each patch gets one from 0 to this.
    sharpness
        Details of about a pixel, within the plane, are weakened or amplified by a factor from
        1 / (1 + sharpness) to 1 + sharpness, as by another focus or another microscope.

    Raises
    ------
    InputError
        If a number is negative or not finite, or there are fewer than two grid points.
    """

    elastic_sigma: float = 10.0
    grid_points: int = 3
    rotation: bool = True
    flip: bool = True
    scale: float = 0.0
    shift: float = 10.0
    brightness: float = 0.1
    contrast: float = 0.2
    gamma: float = 0.2
    noise: float = 0.03
    sharpness: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise InputError(f"{field.name} = {value} is not possible; choose 0 or more")
        if self.grid_points < 2:
            raise InputError("grid_points must be at least 2; the paper's is 3")

    @classmethod
    def none(cls) -> AugmentConfig:
        """Return the configuration that varies nothing."""
        return cls(
            elastic_sigma=0.0,
            rotation=False,
            flip=False,
            scale=0.0,
            shift=0.0,
            brightness=0.0,
            contrast=0.0,
            gamma=0.0,
            noise=0.0,
            sharpness=0.0,
        )

    def without_grey_values(self) -> AugmentConfig:
        """Return the same deformation, with the grey values left as they are."""
        return replace(self, brightness=0.0, contrast=0.0, gamma=0.0, noise=0.0, sharpness=0.0)


def uniform(count: int, generator: torch.Generator) -> Tensor:
    """Draw numbers between -1 and 1, float64."""
    return 2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1
