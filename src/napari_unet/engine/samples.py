"""Images to try the program on, with brush strokes to learn from; nothing is downloaded.

One image is drawn (touching cells, with ground truth), the others are real ones that scikit-image
ships. The strokes were drawn by hand on these images and lie in ``samples/*.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.annotations import Stroke, draw_strokes, strokes_from_json
from napari_unet.ops.errors import InputError


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with strokes.

    Attributes
    ----------
    name
        How the command line calls it.
    title
        What a person reads.
    classes
        The names of the classes, label 1 (background) first.
    load
        Returns the image, shape (Y, X) or (Y, X, 3), uint8.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    load: Callable[[], NDArray[Any]]

    def strokes(self) -> list[Stroke]:
        """Return the strokes that belong to the image; labels from 1 (background)."""
        text = (files("napari_unet") / "samples" / f"{self.name}.json").read_text("utf-8")
        image, strokes = strokes_from_json(text)
        if image != self.name:
            raise InputError(f"samples/{self.name}.json belongs to {image!r}; install anew")
        return strokes

    def annotations(self, image: NDArray[Any]) -> NDArray[Any]:
        """Draw the strokes on an empty label image of `image`'s size; shape (Y, X), uint8."""
        return draw_strokes(self.strokes(), (image.shape[0], image.shape[1]))


def find_sample(name: str) -> Sample:
    """Return the sample of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in SAMPLES:
        raise InputError(f"there is no sample {name!r}; choose one of {', '.join(SAMPLES)}")
    return SAMPLES[name]


def _touching_cells() -> NDArray[Any]:
    from napari_unet.ops.synthetic import touching_cells

    # The strokes belong to this picture: another shape, number or seed draws another one.
    image, _ = touching_cells(shape=(512, 512), cells=60, seed=0)
    return image


def _shipped(function: str) -> Callable[[], NDArray[Any]]:
    """Return a loader of an image that lies in scikit-image's own folder."""

    def load() -> NDArray[Any]:
        import skimage.data

        return np.asarray(getattr(skimage.data, function)())

    return load


SAMPLES: Final = MappingProxyType(
    {
        sample.name: sample
        for sample in (
            Sample(
                "ihc",
                "Immunohistochemistry",
                ("stroma and lumen", "epithelium"),
                _shipped("immunohistochemistry"),
            ),
            Sample("cells", "Touching cells (drawn)", ("background", "cell"), _touching_cells),
            Sample("cell", "Single cell", ("background", "cell"), _shipped("cell")),
            Sample("coins", "Coins", ("background", "coin"), _shipped("coins")),
        )
    }
)
