"""Random variation of the grey values of a patch: another exposure, focus, camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.model.variation import AugmentConfig, uniform

# A Gaussian of one pixel, cut off at two.
_GAUSSIAN = torch.exp(-0.5 * torch.arange(-2.0, 3.0) ** 2)
_GAUSSIAN /= _GAUSSIAN.sum()


@dataclass(frozen=True, slots=True)
class GreyChange:
    """How the percentile-normalised values of a patch change.

    All channels change together: their ratio, the colour, often is what tells the classes apart.

    Attributes
    ----------
    gamma
        Exponent of the values between 0 and 1; 1 changes nothing.
    contrast
        By how much they are stretched around 0.5.
    brightness
        What is added to them.
    sharpness
        By how much details of about a pixel are amplified.
    noise
        Standard deviation of what every pixel is moved by.
    """

    gamma: float
    contrast: float
    brightness: float
    sharpness: float
    noise: float

    @classmethod
    def drawn(cls, config: AugmentConfig, generator: torch.Generator) -> Self:
        """Draw a change within the bounds."""
        gamma, contrast, brightness, noise = uniform(4, generator).tolist()
        sharpness = 1.0
        if config.sharpness > 0:
            sharpness = (1 + config.sharpness) ** float(uniform(1, generator))
        return cls(
            (1 + config.gamma) ** gamma,
            (1 + config.contrast) ** contrast,
            config.brightness * brightness,
            sharpness,
            config.noise * abs(noise),
        )

    def of_light(self, image: Tensor) -> Tensor:
        """Change gamma, contrast and brightness of values of any shape."""
        if self.gamma != 1:
            # Percentile normalisation leaves values below 0 and above 1, where a power is not
            # defined or runs away: those stay, and the curve meets them at 0 and 1.
            within = image.clamp(0, 1)
            image = image - within + within**self.gamma
        if self.contrast != 1:
            image = (image - 0.5) * self.contrast + 0.5
        return image + self.brightness if self.brightness else image

    def of_all(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Change everything, noise and details among it, of planes (..., n, n)."""
        image = self.of_light(image)
        if self.sharpness != 1:
            image = torch.lerp(_blurred(image), image, self.sharpness)
        if self.noise > 0:
            image = image + self.noise * torch.randn(image.shape, generator=generator)
        return image


def _blurred(image: Tensor) -> Tensor:
    """Smooth planes (..., n, n) by a Gaussian of one pixel, its ends repeated outwards."""
    row = _GAUSSIAN[None, None, None, :]
    planes = image.reshape(-1, 1, *image.shape[-2:])
    rows = functional.pad(planes, (2, 2, 2, 2), mode="replicate")
    smooth = functional.conv2d(functional.conv2d(rows, row), row.transpose(2, 3))
    return smooth.reshape(image.shape)
