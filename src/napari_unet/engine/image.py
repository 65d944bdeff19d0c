"""The image that a session works on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.distances import check_spacing
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import channel_count, to_channels_first
from napari_unet.ops.normalize import percentile_normalize


@dataclass(frozen=True, slots=True)
class ImageKind:
    """Which images a network takes.

    Attributes
    ----------
    channels
        How many.
    ndim
        2 for images, 3 for stacks that are looked at as a whole.
    names
        Of the channels, in the network's order; empty if nobody named them.
    """

    channels: int
    ndim: int = 2
    names: tuple[str, ...] = ()


class SourceImage:
    """An image to learn from and to predict; its numbers are not to be changed afterwards.

    Parameters
    ----------
    data
        Shape (Y, X) or (Y, X, C) with 1, 3 (RGB) or 4 (RGBA) channels, any real dtype. It is held
        by reference.
    ndim
        3 for a stack that is looked at as a whole and not plane by plane, shape (Z, Y, X) or
        (Z, Y, X, C). An array does not say itself whether (3, 512, 512) are planes.
    spacing
        Size of a pixel along each axis, in any unit; None: all alike.
    colours
        False: the last axis holds channels of any meaning, and any number of them.

    Attributes
    ----------
    channels
        How many a network sees: 1 or 3, or as many as there are if they are no colours.
    ndim
        2 for an image, 3 for a stack.
    spacing
        Size of a pixel along each axis, in pixels of the plane: the last is 1.

    Raises
    ------
    InputError
        If shape, dtype or spacing cannot be used. The values are looked at when `normalized` is
        first used.
    """

    def __init__(
        self,
        data: Any,
        ndim: int = 2,
        spacing: Sequence[float] | None = None,
        *,
        colours: bool = True,
    ) -> None:
        if ndim not in (2, 3):
            raise InputError(f"an image has 2 axes and a stack 3, not {ndim}; choose 2 or 3")
        self.channels = channel_count(data, ndim, colours=colours)
        self._colours = colours
        self.ndim = ndim
        self.spacing = _relative(spacing, ndim)
        self._data = data

    @classmethod
    def from_normalized(
        cls, normalized: NDArray[np.float32], spacing: Sequence[float] | None = None
    ) -> SourceImage:
        """Make an image of values that are normalised already; (C, Y, X) or (C, Z, Y, X)."""
        last = np.moveaxis(normalized, 0, -1)
        image = cls(last, normalized.ndim - 1, spacing, colours=False)
        image.__dict__["normalized"] = normalized  # what the cached property would compute
        return image

    @classmethod
    def for_channels(cls, pixels: Any, channels: int, ndim: int = 2) -> SourceImage:
        """Make an image of an array for a network that takes so many channels.

        Parameters
        ----------
        pixels
            Shape (Y, X), (Y, X, C) or (C, Y, X); of a stack with planes before the rows. Channels
            that stand first are moved to the end if they are as many as the network takes, and the
            last axis is not.
        channels
            How many the network takes; 1 and 3 are grey and colours.
        ndim
            3 for a stack.

        Raises
        ------
        InputError
            If the shape cannot be used.
        """
        if len(pixels.shape) == ndim + 1 and channels > 1:
            fitting = (3, 4) if channels == 3 else (channels,)
            if pixels.shape[-1] not in fitting and pixels.shape[0] == channels:
                pixels = np.moveaxis(pixels, 0, -1)
        return cls(pixels, ndim, colours=channels in (1, 3))

    @property
    def data(self) -> Any:
        """The pixels as they were given."""
        return self._data

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns; of a stack planes, rows and columns."""
        return tuple(int(length) for length in self._data.shape[: self.ndim])

    @cached_property
    def normalized(self) -> NDArray[np.float32]:
        """Shape (C, *shape), float32; each channel scaled by its own percentiles to about [0, 1].

        The percentiles are those of the whole image, so that no tile depends on where it was cut.
        Computed at first use; takes about 0.1 s for 4 million pixels, so not on the main thread.
        """
        pixels = np.asarray(self._data)
        return percentile_normalize(to_channels_first(pixels, self.ndim, colours=self._colours))


def _relative(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Return a spacing in pixels of the plane."""
    if spacing is None:
        return (1.0,) * ndim
    if len(spacing) != ndim:
        raise InputError(
            f"a spacing of {tuple(spacing)} does not fit {ndim} axes; give one number for each"
        )
    checked = check_spacing(spacing)
    return tuple(size / checked[-1] for size in checked)


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """An image, and what is painted on it.

    Attributes
    ----------
    image
        The image.
    annotations
        Shape of the image, integers: 0 not annotated, 1 background, 2 and up classes.
    borders
        Shape of the image: background that was drawn between objects to part them, which counts for
        more; None if there is none.
    """

    image: SourceImage
    annotations: NDArray[np.integer]
    borders: NDArray[np.bool_] | None = None


def fitting(lessons: Iterable[AnnotatedImage], channels: int) -> list[AnnotatedImage]:
    """Leave out the images of other channels than a network takes."""
    return [lesson for lesson in lessons if lesson.image.channels == channels]
