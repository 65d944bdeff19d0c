"""Random deformation and grey-value variation of the patches that are learned from.

Source: Ronneberger et al. 2015, section 3.1: smooth deformations from random displacement vectors
on a coarse 3x3 grid, from a Gaussian of 10 pixels standard deviation, interpolated to every pixel
by a bicubic; shift and rotation; grey-value variation.

One field of image positions moves the image, its annotations and its weights. It is looked up in
the whole image, so that the context around a patch is what is really there, mirrored only where
the image ends. Only pixels that the field reaches are read, however large the image.

In a stack planes are turned all alike, since optics make the axis across them another one than
those within; a stack is mirrored along that axis. All lengths are in pixels of the plane, so that
planes that lie further apart are displaced and shifted by fewer planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.model.elastic import elastic_displacement, elastic_displacement_of_stack
from napari_unet.ops.annotations import NOT_ANNOTATED
from napari_unet.ops.errors import InputError

__all__ = ["AugmentConfig", "Patch", "elastic_displacement", "sample_patch"]

# A Gaussian of one pixel, cut off at two.
_GAUSSIAN = torch.exp(-0.5 * torch.arange(-2.0, 3.0) ** 2)
_GAUSSIAN /= _GAUSSIAN.sum()


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


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What one training step learns from.

    Attributes
    ----------
    image
        Shape (1, C, n, n), float32: the network's input. Of a stack, (1, C, p, n, n).
    annotations
        Shape (1, m, m), int64: labels of the network's output, 0 not annotated. Of a stack,
        (1, q, m, m).
    weights
        Shape of the annotations, float32: 0 where the field leaves the image.
    """

    image: Tensor
    annotations: Tensor
    weights: Tensor


def sample_patch(
    image: Tensor,
    annotations: Tensor,
    weights: Tensor,
    *,
    centre: Sequence[float],
    input_size: int | Sequence[int],
    output_size: int | Sequence[int],
    config: AugmentConfig,
    generator: torch.Generator,
    spacing: Sequence[float] | None = None,
) -> Patch:
    """Cut a randomly deformed patch out of an image.

    Parameters
    ----------
    image
        Shape (C, Y, X), or (C, Z, Y, X) of a stack, float32, percentile-normalised, in the
        processor's memory as all three.
    annotations
        Shape (Y, X) or (Z, Y, X), integers: 0 not annotated.
    weights
        Shape of the annotations, float32.
    centre
        Row and column in the image, or plane, row and column, that the middle of the patch shows
        before it is shifted and deformed, anywhere. The patch is laid on whole pixels: halves
        round up.
    input_size, output_size
        Side of the network's input and of its output, which is the middle of it, in pixels; of
        each axis, or of all alike.
    config
        How to vary the patch.
    generator
        Source of all random numbers, in the processor's memory. The deformation is drawn before
        the grey values, so it is the same whether or not those vary.
    spacing
        Size of a pixel along each axis, in pixels of the plane; None: all alike.

    Returns
    -------
    Patch
        The image interpolated linearly and mirrored outside (numpy's 'reflect'); annotations and
        weights of the nearest pixel, 0 outside. Without deformation exactly the mirrored crop.

    Raises
    ------
    InputError
        If the shapes do not go together, or the output is not the middle of the input.
    """
    ndim = image.ndim - 1
    inputs, outputs = (
        (size,) * ndim if isinstance(size, int) else tuple(size)
        for size in (input_size, output_size)
    )
    _check(image, annotations, weights, inputs, outputs)
    positions = _positions(centre, inputs, config, generator, spacing or (1.0,) * ndim)
    inner = positions
    for axis, (outer_side, side) in enumerate(zip(inputs, outputs, strict=True), start=1):
        inner = inner.narrow(axis, (outer_side - side) // 2, side)
    places, inside = _nearest(inner, annotations.shape)
    labels = annotations[places].long()
    return Patch(
        image=_vary_grey_values(_interpolate(image, positions), config, generator)[None],
        annotations=torch.where(inside, labels, NOT_ANNOTATED)[None],
        weights=torch.where(inside, weights[places], 0.0)[None],
    )


# ------------------------------------------------------------------------ where to look


def _positions(
    centre: Sequence[float],
    sizes: Sequence[int],
    config: AugmentConfig,
    generator: torch.Generator,
    spacing: Sequence[float],
) -> Tensor:
    """Image position that every pixel of the patch shows; (axes, *sizes), float64.

    float64, because whole positions must stay whole: a patch that is not deformed is exact.
    """
    ndim = len(sizes)
    halves = [(size - 1) / 2 for size in sizes]
    offsets = [
        torch.arange(size, dtype=torch.float64) - half
        for size, half in zip(sizes, halves, strict=True)
    ]
    if config.scale > 0:
        factor = (1 + config.scale) ** float(_uniform(1, generator))
        offsets = [offset * factor for offset in offsets]
    positions = _turned(offsets, config, generator, spacing)
    sizes_of_voxel = torch.tensor(spacing, dtype=torch.float64)
    shift = (_uniform(ndim, generator) * config.shift / sizes_of_voxel).round()
    # The first pixel of a patch that is not turned lies on a whole position.
    middle = [
        math.floor(position - half + 0.5) + half
        for position, half in zip(centre, halves, strict=True)
    ]
    moved = torch.tensor(middle, dtype=torch.float64) + shift
    positions += moved.reshape(-1, *(1,) * ndim)
    if config.elastic_sigma > 0:
        how = (config.elastic_sigma, config.grid_points, generator)
        positions += (
            elastic_displacement(sizes[0], *how)
            if ndim == 2
            else elastic_displacement_of_stack(sizes, *how, spacing)
        )
    return positions


def _turned(
    offsets: Sequence[Tensor],
    config: AugmentConfig,
    generator: torch.Generator,
    spacing: Sequence[float],
) -> Tensor:
    """Turn and mirror the offsets of a patch from its middle; (axes, *sizes), float64."""
    (a, b), (c, d) = _turn(config, generator)
    stretch = spacing[-1] / spacing[-2]  # of a pixel that is not square
    along_rows, along_columns = offsets[-2][:, None], offsets[-1][None, :]
    turned = [
        a * along_rows + b * stretch * along_columns,
        c / stretch * along_rows + d * along_columns,
    ]
    if len(offsets) == 2:
        return torch.stack(turned)
    upside_down = config.flip and bool(torch.randint(2, (1,), generator=generator))
    across = offsets[0] * (-1.0 if upside_down else 1.0)
    shape = [len(offset) for offset in offsets]
    return torch.stack(
        [across[:, None, None].expand(shape), *(each.expand(shape) for each in turned)]
    )


def _turn(
    config: AugmentConfig, generator: torch.Generator
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Draw a matrix for offsets (row, column): a symmetry of the square, then a rotation."""
    mirror_rows = mirror_columns = 1.0
    swap = False
    if config.flip:
        coins = torch.randint(2, (3,), generator=generator).tolist()
        mirror_rows, mirror_columns, swap = 1.0 - 2 * coins[0], 1.0 - 2 * coins[1], bool(coins[2])
    cosine, sine = 1.0, 0.0
    if config.rotation:
        angle = math.pi * float(_uniform(1, generator))
        cosine, sine = math.cos(angle), math.sin(angle)
    first = (cosine * mirror_rows, -sine * mirror_columns)
    second = (sine * mirror_rows, cosine * mirror_columns)
    return (first[::-1], second[::-1]) if swap else (first, second)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """Draw numbers between -1 and 1."""
    return 2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1


# ------------------------------------------------------------------------ looking it up


def _nearest(positions: Tensor, shape: Sequence[int]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Position of the nearest pixel along each axis, and whether it lies in the image."""
    places, inside = [], torch.ones(positions.shape[1:], dtype=torch.bool)
    for position, length in zip(positions, shape, strict=True):
        place = (position + 0.5).floor().long()
        inside &= (place >= 0) & (place < length)
        places.append(place.clamp(0, length - 1))
    return tuple(places), inside


def _interpolate(image: Tensor, positions: Tensor) -> Tensor:
    """Look up (C, Y, X) at (2, n, n) positions, linearly between pixels; (C, n, n). Or in 3D.

    In pixel coordinates, unlike `torch.nn.functional.grid_sample`, whose coordinates from -1 to 1
    round, so that not even an undeformed crop is exact, and divide by 0 in images 1 pixel thin.
    """
    axes = [
        _neighbours(position, length)
        for position, length in zip(positions, image.shape[1:], strict=True)
    ]

    def look_up(places: tuple[Tensor, ...]) -> Tensor:
        if len(places) == len(axes):
            index: tuple[slice | Tensor, ...] = (slice(None), *places)
            return image[index]
        before, after, share = axes[len(places)]
        return torch.lerp(look_up((*places, before)), look_up((*places, after)), share)

    return look_up(())


def _neighbours(position: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels before and after a position along one axis, mirrored, and the share of the second.

    The mirror is a triangle wave of period 2 (length - 1), as in `napari_unet.ops.tiling`.
    """
    period = max(2 * (length - 1), 1)  # of a single pixel, every position shows that
    folded = position.remainder(period)
    mirrored = torch.minimum(folded, period - folded).clamp(max=length - 1)
    first = mirrored.floor()
    before = first.long()
    return before, (before + 1).clamp(max=length - 1), (mirrored - first).float()


# ------------------------------------------------------------------------ grey values


def _vary_grey_values(image: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Vary gamma, contrast, brightness and noise of percentile-normalised values, (C, ...).

    All channels change together: their ratio, the colour, often is what tells the classes apart.
    """
    gamma, contrast, brightness, noise = _uniform(4, generator).tolist()
    if config.gamma > 0:
        # Percentile normalisation leaves values below 0 and above 1, where a power is not defined
        # or runs away: those stay, and the curve meets them at 0 and 1.
        within = image.clamp(0, 1)
        image = image - within + within ** (1 + config.gamma) ** gamma
    if config.contrast > 0:
        image = (image - 0.5) * (1 + config.contrast) ** contrast + 0.5
    if config.brightness > 0:
        image = image + config.brightness * brightness
    if config.sharpness > 0:
        factor = (1 + config.sharpness) ** float(_uniform(1, generator))
        image = torch.lerp(_blurred(image), image, factor)
    if config.noise > 0:
        grain = torch.randn(image.shape, generator=generator)
        image = image + config.noise * abs(noise) * grain
    return image


def _blurred(image: Tensor) -> Tensor:
    """Smooth planes (..., n, n) by a Gaussian of one pixel, its ends repeated outwards."""
    row = _GAUSSIAN[None, None, None, :]
    planes = image.reshape(-1, 1, *image.shape[-2:])
    rows = functional.pad(planes, (2, 2, 2, 2), mode="replicate")
    smooth = functional.conv2d(functional.conv2d(rows, row), row.transpose(2, 3))
    return smooth.reshape(image.shape)


def _check(
    image: Tensor,
    annotations: Tensor,
    weights: Tensor,
    input_sizes: Sequence[int],
    output_sizes: Sequence[int],
) -> None:
    shape = tuple(image.shape[1:])
    if image.ndim not in (3, 4) or 0 in shape:
        raise InputError(f"an image of shape {tuple(image.shape)} does not fit; give (C, Y, X)")
    for name, tensor in (("annotations", annotations), ("weights", weights)):
        if tuple(tensor.shape) != shape:
            raise InputError(
                f"{name} of shape {tuple(tensor.shape)} do not fit the image; give {shape}"
            )
    for output_size, input_size in zip(output_sizes, input_sizes, strict=True):
        if not 1 <= output_size <= input_size or (input_size - output_size) % 2:
            raise InputError(
                f"{output_size} pixels are not the middle of {input_size}; choose sizes of a "
                "network"
            )
