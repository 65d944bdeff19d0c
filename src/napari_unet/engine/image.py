"""The image that a session works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.images import channel_count, to_channels_first
from napari_unet.ops.normalize import percentile_normalize


class SourceImage:
    """An image to learn from and to predict; its numbers are not to be changed afterwards.

    Parameters
    ----------
    data
        Shape (Y, X) or (Y, X, C) with 1, 3 (RGB) or 4 (RGBA) channels, any real dtype. It is held
        by reference.

    Raises
    ------
    InputError
        If shape or dtype cannot be used. The values are looked at when `normalized` is first used.
    """

    def __init__(self, data: Any) -> None:
        self.channels = channel_count(data)
        self._data = data

    @classmethod
    def from_normalized(cls, normalized: NDArray[np.float32]) -> SourceImage:
        """Make an image of values that are normalised already; shape (C, Y, X), float32."""
        image = cls(np.moveaxis(normalized, 0, -1))
        image.__dict__["normalized"] = normalized  # what the cached property would compute
        return image

    @property
    def data(self) -> Any:
        """The pixels as they were given."""
        return self._data

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self._data.shape[0]), int(self._data.shape[1])

    @cached_property
    def normalized(self) -> NDArray[np.float32]:
        """Shape (C, Y, X), float32; each channel scaled by its own percentiles to about [0, 1].

        The percentiles are those of the whole image, so that no tile depends on where it was cut.
        Computed at first use; takes about 0.1 s for 4 million pixels, so not on the main thread.
        """
        return percentile_normalize(to_channels_first(np.asarray(self._data)))


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """An image, and what is painted on it.

    Attributes
    ----------
    image
        The image.
    annotations
        Shape (Y, X), integers: 0 not annotated, 1 background, 2 and up classes.
    borders
        Shape (Y, X): background that was drawn between objects to part them, which counts for
        more; None if there is none.
    """

    image: SourceImage
    annotations: NDArray[np.integer]
    borders: NDArray[np.bool_] | None = None
