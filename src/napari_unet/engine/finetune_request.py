"""What to learn from strokes, for how long, and how new strokes reach a job that runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneRequest:
    """What to learn from, and for how long.

    Attributes
    ----------
    image
        The image.
    annotations
        Shape of the image, integers: 0 not annotated, 1 background, 2 and up classes. Of a stack
        a few planes with strokes will do. A copy that nobody else changes.
    seconds, steps
        The budget; the job ends with whichever is used up first. Both None: until it is stopped.
    others
        Other images with strokes, which are learned from as well.
    borders
        Shape (Y, X): background on the image at hand that was drawn to part objects. It weighs as
        much as the border between two touching objects (equation 2).
    focus
        Draw every other patch around strokes in this part of the image; None: around any.
    accepted
        What was accepted on any of them, which is learned from whole: nothing is held out.
    """

    image: SourceImage
    annotations: NDArray[np.integer]
    seconds: float | None = None
    steps: int | None = None
    others: tuple[AnnotatedImage, ...] = ()
    accepted: tuple[AnnotatedImage, ...] = ()
    borders: NDArray[np.bool_] | None = None
    focus: Box | None = None

    def __post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("steps", self.steps)):
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"{name} must be above 0; leave it out to learn until stopped")

    def with_strokes(self, images: tuple[AnnotatedImage, ...]) -> FinetuneRequest:
        """Return the same request with other strokes: all images, the one at hand first."""
        here, *others = images
        return replace(
            self,
            image=here.image,
            annotations=here.annotations,
            borders=here.borders,
            others=tuple(others),
        )


class Mailbox(Generic[T]):
    """Hands values from one thread to another; a value that was not taken yet is replaced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value: T | None = None

    def put(self, value: T) -> None:
        """Leave a value."""
        with self._lock:
            self._value = value

    def take(self) -> T | None:
        """Return the latest value and forget it; None if there is nothing new."""
        with self._lock:
            value, self._value = self._value, None
        return value
