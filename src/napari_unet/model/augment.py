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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.model.config import SECOND_LOOK_SCALE
from napari_unet.model.deformation import Deformation
from napari_unet.model.grey_values import GreyChange
from napari_unet.model.variation import AugmentConfig
from napari_unet.ops.annotations import NOT_ANNOTATED
from napari_unet.ops.errors import InputError

__all__ = ["AugmentConfig", "Patch", "sample_patch"]


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
    smaller
        Shape (1, C, k, k), float32: what the second look of a network sees, see `UNet.forward`.
        None: it has none, or scales its input down.
    """

    image: Tensor
    annotations: Tensor
    weights: Tensor
    smaller: Tensor | None = None

    @classmethod
    def joined(cls, patches: Sequence[Self]) -> Self:
        """Put patches of one size into one batch."""
        smaller = [each.smaller for each in patches if each.smaller is not None]
        return cls(
            torch.cat([each.image for each in patches]),
            torch.cat([each.annotations for each in patches]),
            torch.cat([each.weights for each in patches]),
            torch.cat(smaller) if smaller else None,
        )


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
    smaller: Tensor | None = None,
    smaller_size: int | Sequence[int] = 1,
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
    smaller, smaller_size
        For a network that looks twice: the image scaled down by `scaled_down`, and the side of what
        is cut out of it, in its pixels.

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
    inputs, outputs, sides = (
        (size,) * (image.ndim - 1) if isinstance(size, int) else tuple(size)
        for size in (input_size, output_size, smaller_size)
    )
    _check(image, annotations, weights, inputs, outputs)
    field = Deformation.drawn(centre, inputs, config, generator, spacing)
    grey = GreyChange.drawn(config, generator)
    positions = field.positions(inputs)
    labels, weights = _marks(annotations, weights, positions, outputs)
    far = None
    if smaller is not None:
        places = field.positions(sides, SECOND_LOOK_SCALE)
        # The middle of the first of its pixels lies between the second and the third of the image.
        places = (places - (SECOND_LOOK_SCALE - 1) / 2) / SECOND_LOOK_SCALE
        # Noise and details of a pixel are as good as gone in it.
        far = grey.of_light(_interpolate(smaller, places))[None]
    shown = grey.of_all(_interpolate(image, positions), generator)
    return Patch(shown[None], labels[None], weights[None], far)


def scaled_down(image: Tensor) -> Tensor:
    """Scale an image (C, Y, X) down as a network's second look does; what is left over counts."""
    smaller: Tensor = functional.avg_pool2d(image, SECOND_LOOK_SCALE, ceil_mode=True)
    return smaller


def _marks(
    annotations: Tensor, weights: Tensor, positions: Tensor, sides: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Look up labels and weights amid a patch; both are 0 outside of the image."""
    for axis, side in enumerate(sides, start=1):
        positions = positions.narrow(axis, (positions.shape[axis] - side) // 2, side)
    places, inside = _nearest(positions, annotations.shape)
    labels = torch.where(inside, annotations[places].long(), NOT_ANNOTATED)
    return labels, torch.where(inside, weights[places], 0.0)


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
