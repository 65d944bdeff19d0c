"""Reads stacks and the labels of all their voxels, for networks of three dimensions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset.files import PairData
from napari_unet.engine.images.axes import Corrections, ImageInfo, spacing_of
from napari_unet.engine.images.opening import UNREADABLE, open_image, unreadable
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image


def read_stack(
    path: Path, corrections: Corrections | None = None
) -> tuple[NDArray[Any], ImageInfo]:
    """Read a stack as a whole.

    Parameters
    ----------
    path
        Whatever `napari_unet.engine.images.opening.open_image` opens.
    corrections
        What the user knows better than the file, such as the size of a voxel.

    Returns
    -------
    tuple
        The stack, (Z, Y, X) or (Z, Y, X, C), and what the file says of it; see `spacing_of`.

    Raises
    ------
    InputError
        If it cannot be read, has no planes, or is a series of stacks.
    """
    try:
        with open_image(path, corrections) as opened:
            info = opened.info
            if info.axis("z") is None or info.axis("t") is not None:
                raise InputError(
                    f"{path} has axes {info.names} and shape {info.shape}, which is no single "
                    "stack; save one stack (z, y, x) in each file, or name its axes"
                )
            channels = np.stack([opened.read_plane(index) for index in opened.planes()], axis=1)
    except InputError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    stack = channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1)
    return stack, info


@dataclass(frozen=True, slots=True)
class StackPair:
    """Reads a stack and its labels.

    Attributes
    ----------
    image, labels
        The two files.
    corrections
        What the user knows better than the image's file.
    """

    image: Path
    labels: Path
    corrections: Corrections | None = None

    def __call__(self) -> PairData:
        """Return what they hold.

        Raises
        ------
        InputError
            If one cannot be read, or the labels have colours, fractions or negative values.
        """
        stack, info = read_stack(self.image, self.corrections)
        # The same axes and level, but no sizes: those are of the image.
        labels, _ = read_stack(
            self.labels, self.corrections and replace(self.corrections, sizes=())
        )
        if labels.ndim != 3:
            raise InputError(
                f"the labels {self.labels.name} have several channels; save one number for each "
                "voxel"
            )
        checked = as_label_image(labels, f"label image {self.labels.name}", 3)
        return PairData(stack, checked, None, info.pixel_size, spacing_of(info))
