"""Images with a label for every pixel: what a network is trained and judged on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.image import SourceImage
from napari_unet.engine.images.axes import PixelSize
from napari_unet.engine.images.fitting import common_size
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import channel_count

Kind = Literal["semantic", "instances"]

# Values up to this are counted by a table, which is faster than sorting the pixels.
_TABLE_SIZE: Final = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """An image and the label of each of its pixels.

    Attributes
    ----------
    name
        What to call it; unique in a set.
    image
        Shape (Y, X) or (Y, X, 3), dtype and grey values as in the file; of a stack (Z, Y, X) or
        (Z, Y, X, 3).
    labels
        Shape (Y, X) or (Z, Y, X), integers >= 0, values as in the file.
    group
        The sequence or stack that it belongs to, "" if it stands alone. Images of a group are
        consecutive, so neighbours are near-copies of each other.
    valid
        Shape of the labels, boolean. False where nobody has said what the pixel shows, so that it
        must take part neither in learning nor in scores. None: every pixel is annotated.
    spacing
        Size of a pixel along each axis, in any unit; three numbers for a stack.
    pixel_size
        Height and width of a pixel with their unit; None if nobody knows.

    Raises
    ------
    InputError
        If the shapes differ.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[np.integer[Any]]
    group: str = ""
    valid: NDArray[np.bool_] | None = None
    spacing: tuple[float, ...] = (1.0, 1.0)
    pixel_size: PixelSize | None = None

    def __post_init__(self) -> None:
        """Compare the shapes."""
        size = self.image.shape[: self.ndim]
        if self.labels.shape != size:
            raise InputError(
                f"{self.name}: the image is {_size(size)} pixels, its labels are "
                f"{_size(self.labels.shape)}; give the labels that belong to it, in its size"
            )
        if self.valid is not None and self.valid.shape != size:
            raise InputError(
                f"{self.name}: the mask of valid pixels has shape {self.valid.shape}, the image "
                f"{size}; give one of the same shape"
            )

    @property
    def ndim(self) -> int:
        """2 for an image, 3 for a stack."""
        return len(self.spacing)

    def source(self) -> SourceImage:
        """Return the image as networks see it."""
        return SourceImage(self.image, self.ndim, self.spacing)

    def values(self) -> frozenset[int]:
        """Return the label values that occur among the annotated pixels."""
        return distinct_values(self.labels if self.valid is None else self.labels[self.valid])


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Images with dense labels, all of one kind.

    Attributes
    ----------
    images
        In the natural order of their names; all have the same number of channels.
    kind
        "semantic": a label value is a class. "instances": a label value is one object of its
        image, 0 is background.
    class_values
        The label values that the classes have, in the order of the classes; the first is the
        background. Class k (from 0) has annotation label k + 1. (0, 1) for instances.
    problems
        One sentence for each image that was left out although it should have been read.
    notes
        What the user may want to know but need not mend.
    kind_reason
        A sentence that says why `kind` is what it is.
    """

    images: tuple[LabelledImage, ...]
    kind: Kind
    class_values: tuple[int, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind_reason: str = ""

    @property
    def channels(self) -> int:
        """Number of channels of the images, 1 or 3."""
        return channel_count(self.images[0].image, self.ndim)

    @property
    def ndim(self) -> int:
        """2 for a set of images, 3 for one of stacks."""
        return self.images[0].ndim

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a pixel along each axis, in pixels of the plane: the median of all images."""
        found = [np.divide(image.spacing, image.spacing[-1]) for image in self.images]
        return tuple(float(size) for size in np.median(found, axis=0))

    @property
    def pixel_size(self) -> PixelSize | None:
        """Height and width of a pixel, if they are known and about the same for all images."""
        return common_size([image.pixel_size for image in self.images])

    def digest(self) -> dict[str, str]:
        """Return for each name the SHA-256, in hex, of shape, dtype and bytes of image and labels.

        It tells whether two trainings saw the same pixels, however the files were stored. The
        mask of valid pixels is not part of it, so it is the same for the parts of an image.
        """
        return {each.name: _digest(each.image, each.labels) for each in self.images}


def distinct_values(labels: NDArray[np.integer[Any]]) -> frozenset[int]:
    """Return the values that occur in an array of integers >= 0, of any shape."""
    if labels.size and int(labels.max()) < _TABLE_SIZE:
        counts = np.bincount(labels.ravel().astype(np.intp, copy=False))
        return frozenset(np.flatnonzero(counts).tolist())
    return frozenset(np.unique(labels).tolist())


def _digest(*arrays: NDArray[Any]) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        sha.update(f"{array.shape} {array.dtype.str} ".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
