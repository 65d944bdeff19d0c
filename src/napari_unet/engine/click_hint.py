"""What another network says of an image, as the click network is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.model.windows import Pyramid
from napari_unet.ops.clicks import Click, Window

# What is less probable than this where an object was clicked on is wrong there, and would take the
# object away.
_DENIED: Final = 0.3


def no_hint(window: Window) -> Tensor:
    """Return what is told of a window of which nothing is known, shape (side, side)."""
    return torch.full((window.side, window.side), 0.5)


class Hint:
    """How probable another network thinks objects.

    Parameters
    ----------
    probability
        Shape of the image, in [0, 1]: that a pixel belongs to any object; held by reference.
    """

    def __init__(self, probability: NDArray[np.float32]) -> None:
        self._pyramid = Pyramid(torch.from_numpy(np.asarray(probability, np.float32))[None])

    def cut(self, window: Window, clicks: Iterable[Click]) -> Tensor:
        """Return what is told of a window, shape (side, side); nothing if it denies a click.

        Parameters
        ----------
        window
            The window.
        clicks
            On the object, or not on it.
        """
        places = [Window(c.row, c.column, 1.0, 1) for c in clicks if c.positive]
        if any(float(self._pyramid.cut(place)) < _DENIED for place in places):
            return no_hint(window)
        return self._pyramid.cut(window)[0]
