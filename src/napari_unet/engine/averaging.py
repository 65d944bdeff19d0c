"""Averaging the prediction over turned and mirrored versions of the input.

Source: Ronneberger et al. 2015, section 4: "averaged over 7 rotated versions of the input data".
The paper does not say by which angles; here they are the multiples of a seventh of a full turn.
The eight symmetries of the square need no interpolation and no more context, so they can be done
tile by tile, and the answer still does not depend on how the image is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

Averaging = Literal["none", "rotations", "symmetries"]
AVERAGINGS: Final[tuple[Averaging, ...]] = ("none", "rotations", "symmetries")

ROTATIONS: Final = 7


def average_over_symmetries(
    predict: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor
) -> torch.Tensor:
    """Average a prediction over the eight symmetries of the square.

    Of stacks, each plane is turned and mirrored in the same way, and upside down as well: sixteen.

    Parameters
    ----------
    predict
        From (N, C, H, W) to (N, classes, H', W'), or the same with planes before the rows.
    batch
        Shape (N, C, H, W) or (N, C, D, H, W).

    Returns
    -------
    Tensor
        Shape (N, classes, H', W') or (N, classes, D', H', W').
    """
    flips = [(), (-1,)] if batch.ndim == 4 else [(), (-1,), (-3,), (-3, -1)]
    total: torch.Tensor | None = None
    for quarter_turns in range(4):
        for axes in flips:
            version = torch.rot90(batch, quarter_turns, (-2, -1)).flip(axes)
            answer = predict(version.contiguous()).flip(axes)
            answer = torch.rot90(answer, -quarter_turns, (-2, -1))
            total = answer.clone() if total is None else total + answer
    assert total is not None
    return total / (4 * len(flips))


def rotated_versions(
    image: NDArray[np.float32],
) -> Iterator[tuple[NDArray[np.float32], Callable[[NDArray[np.float32]], NDArray[np.float32]]]]:
    """Turn an image by the multiples of a seventh of a full turn.

    Parameters
    ----------
    image
        Shape (C, Y, X), mirrored at its borders where the turned frame leaves it. Of a stack,
        (C, Z, Y, X), each plane is turned.

    Yields
    ------
    version
        Shape (C, Y', X'), large enough to hold the whole image; interpolated linearly. Of a stack
        (C, Z, Y', X').
    turn_back
        From a map (K, Y', X') of the version to one of the image, (K, Y, X); likewise of a stack.
    """
    for number in range(ROTATIONS):
        yield _rotated(image, 2 * np.pi * number / ROTATIONS)


def _rotated(
    image: NDArray[np.float32], angle: float
) -> tuple[NDArray[np.float32], Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    rows, columns = image.shape[-2:]
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    frame = np.ceil(np.abs(turn) @ (rows, columns) - 1e-9).astype(int)
    middle, frame_middle = (np.array([rows, columns]) - 1) / 2, (frame - 1) / 2

    def look_up(
        planes: NDArray[np.float32],
        matrix: NDArray[np.float64],
        offset: NDArray[np.float64],
        shape: tuple[int, int],
    ) -> NDArray[np.float32]:
        turned = [
            ndimage.affine_transform(
                plane, matrix, offset, output_shape=shape, order=1, mode="mirror"
            )
            for plane in planes.reshape(-1, *planes.shape[-2:])
        ]
        return np.stack(turned).reshape(*planes.shape[:-2], *shape)

    version = look_up(image, turn, middle - turn @ frame_middle, (int(frame[0]), int(frame[1])))

    def turn_back(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return look_up(planes, turn.T, frame_middle - turn.T @ middle, (rows, columns))

    return version, turn_back
