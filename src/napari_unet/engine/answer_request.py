"""What is asked of the answer at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.ops.tiling import Box


@dataclass(frozen=True, slots=True, eq=False)
class AnswerRequest:
    """Which strokes to answer at once.

    Attributes
    ----------
    image
        The image.
    annotations
        Shape (Y, X), integers: 0 not annotated, 1 background, 2 and up classes.
    visible
        What is on screen; its tiles come first.
    region
        Answer only this part of the image; None is all of it.
    others
        Other images with strokes, which are learned from as well.
    borders
        Shape (Y, X): background on the image that was drawn to part objects.
    """

    image: SourceImage
    annotations: NDArray[np.integer]
    visible: Box | None = None
    region: Box | None = None
    others: tuple[AnnotatedImage, ...] = ()
    borders: NDArray[np.bool_] | None = None
