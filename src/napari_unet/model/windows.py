"""Windows cut out of images at any scale, without aliasing and with mirrored borders."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_unet.ops.clicks import Window
from napari_unet.ops.tiling import Box

# Smaller images are not halved any further.
_SMALLEST_SIDE = 16


class Pyramid:
    """An image, and the same at half, a quarter ... of its resolution.

    Parameters
    ----------
    image
        Shape (C, Y, X), floating point. It is held by reference.
    """

    def __init__(self, image: Tensor) -> None:
        self._levels = [image[None]]

    def cut(
        self,
        window: Window,
        turn: float = 0.0,
        mirrored: bool = False,
        beyond: Literal["reflection", "zeros"] = "reflection",
    ) -> Tensor:
        """Cut out a window.

        Parameters
        ----------
        window
            What is cut.
        turn
            Angle in radians by which the window is turned.
        mirrored
            Whether the window is mirrored.
        beyond
            What is seen outside of the image: its mirror image, as in section 2 of the U-Net
            paper, or 0.

        Returns
        -------
        Tensor
            Shape (C, side, side), interpolated linearly.
        """
        depth = max(0, math.floor(math.log2(1 / window.zoom)))
        level, scale = self._level(depth)
        grid = self._places(window, turn, mirrored, level, scale)
        found = functional.grid_sample(
            level, grid[None], mode="bilinear", padding_mode=beyond, align_corners=False
        )
        return found[0]

    def covers(self, window: Window, turn: float = 0.0, mirrored: bool = False) -> Tensor:
        """Return where a window shows the image itself, and not its mirror image.

        Parameters
        ----------
        window, turn, mirrored
            As for `cut`.

        Returns
        -------
        Tensor
            Shape (side, side), bool.
        """
        grid = self._places(window, turn, mirrored, self._levels[0], 1)
        return grid.abs().amax(dim=-1) <= 1

    def _places(
        self, window: Window, turn: float, mirrored: bool, level: Tensor, scale: int
    ) -> Tensor:
        """Return where the pixels of a window lie in a level, in the units of grid_sample."""
        steps = torch.arange(window.side, dtype=torch.float32) - (window.side - 1) / 2
        # A column and a row; they are spread out last, unless the window is turned.
        down, right = (steps / window.zoom)[:, None], (steps / window.zoom)[None]
        if mirrored:
            right = -right
        if turn:
            cosine, sine = math.cos(turn), math.sin(turn)
            down, right = cosine * down - sine * right, sine * down + cosine * right
        rows, columns = level.shape[2:]
        # grid_sample's coordinates are -1 and 1 at the outer edges of the outer pixels.
        x = (right + (window.column + 0.5)) * (2 / (columns * scale)) - 1
        y = (down + (window.row + 0.5)) * (2 / (rows * scale)) - 1
        square = window.side, window.side
        return torch.stack([x.expand(square), y.expand(square)], dim=-1).to(level.dtype)

    def _level(self, depth: int) -> tuple[Tensor, int]:
        """Return a level of the pyramid, or the coarsest there is, and its pixels' side."""
        while len(self._levels) <= depth and min(self._levels[-1].shape[2:]) > _SMALLEST_SIDE:
            finer = self._levels[-1]
            coarser = functional.avg_pool2d(finer, 2, ceil_mode=True, count_include_pad=False)
            self._levels.append(coarser)
        depth = min(depth, len(self._levels) - 1)
        return self._levels[depth], 1 << depth


class DrawnMask:
    """A mask at all scales.

    Parameters
    ----------
    mask
        Shape of `box`.
    box
        Where on the image it lies; it is empty elsewhere.
    """

    def __init__(self, mask: NDArray[np.generic], box: Box) -> None:
        self._corner = box[0].start, box[1].start
        self._pyramid = Pyramid(torch.from_numpy(mask.astype(np.float32))[None])

    def cut(self, window: Window, turn: float = 0.0, mirrored: bool = False) -> Tensor:
        """Cut out a window, shape (side, side); 0 beyond the box."""
        moved = window.seen_from(*self._corner)
        return self._pyramid.cut(moved, turn, mirrored, "zeros")[0]
