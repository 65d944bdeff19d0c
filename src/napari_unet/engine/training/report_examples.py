"""The report's examples: an image, its truth, the prediction and the errors, as small pictures."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.pictures import (
    ERRORS,
    SKY_BLUE,
    YELLOW,
    Picture,
    busiest_window,
    class_colours,
    enlarged,
    error_overlay,
    heat,
    outline_overlay,
    png,
    shrunk,
    shrunk_labels,
    stretched,
)
from napari_unet.ops.error_map import error_map, semantic_error_map
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image

Kind = Literal["instances", "semantic"]
Scores = Mapping[str, float | None]

# Longest side of a picture, in pixels.
_SIDE: Final = 384
# Large objects are shown smaller, so that there are several in a picture: about this wide.
_OBJECT_SIDE: Final = 32
# Outlines are drawn finer than pixels, so that they cover little; four pictures side by side leave
# each about 250 pixels of a screen, on which this width is a bit more than one.
_LINES_SIDE: Final = 768
_LINE_SHARE: Final = 4 / 768
_LARGEST_FACTOR: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class ReportExample:
    """A validation image and what the network made of it.

    Attributes
    ----------
    name
        Of the image.
    image
        Shape (Y, X) or (Y, X, C), any real dtype.
    truth, prediction
        Shape (Y, X), integers >= 0, 0 is background; objects or classes, as the record's kind says.
    scores
        Measures of this image by name.
    is_worst
        Whether it is shown among the worst images, not the best.
    probability
        Shape (Y, X), 0 to 1, of the objects; None shows none.
    valid
        Shape (Y, X), boolean; False where nothing is known, so that nothing is an error.
    """

    name: str
    image: NDArray[Any]
    truth: NDArray[Any]
    prediction: NDArray[Any]
    scores: Scores
    is_worst: bool
    probability: NDArray[np.floating[Any]] | None = None
    valid: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        for what in ("truth", "prediction", "probability", "valid"):
            array = getattr(self, what)
            if array is not None and array.shape != size:
                raise InputError(
                    f"{self.name}: the image is {size}, its {what} {array.shape} pixels; "
                    "give them in the same size"
                )


@dataclass(frozen=True, slots=True)
class Layer:
    """A picture of an example, as a data URI with its size in pixels.

    `over_image` says that it is transparent and lies over the image.
    """

    title: str
    description: str
    uri: str
    over_image: bool


@dataclass(frozen=True, slots=True)
class ExamplePictures:
    """An example ready to be shown.

    Attributes
    ----------
    name, scores
        As in `ReportExample`.
    width, height
        Of all pictures, in pixels.
    image
        The image as a data URI, on which the others lie.
    layers
        Truth, prediction and errors.
    probability
        The probability map, if there is one.
    errors
        Name, colour for CSS and share of the pixels of each kind of error in the whole image.
    excerpt
        What part of the image is shown; "" for all of it.
    """

    name: str
    scores: Scores
    width: int
    height: int
    image: str
    layers: tuple[Layer, ...]
    probability: str
    errors: tuple[tuple[str, str, float], ...]
    excerpt: str


def draw_example(example: ReportExample, kind: Kind) -> ExamplePictures:
    """Cut out the part with the most errors and draw its pictures.

    Parameters
    ----------
    example
        The image and its labels.
    kind
        What the labels are; decides how errors are told and what is reduced in size.
    """
    truth, prediction = as_label_image(example.truth), as_label_image(example.prediction)
    errors = find_errors(prediction, truth, kind)
    if example.valid is not None:
        errors = np.where(example.valid, errors, 0).astype(np.uint8)
    factor = _factor(truth, kind)
    # Without errors, a part with something in it.
    window = busiest_window((errors > 0) + 0.01 * (truth > 0), _SIDE * factor)

    def small(labels: NDArray[Any]) -> NDArray[Any]:
        return shrunk_labels(labels[window], factor)

    # Stretched as a whole, so that an empty part is not turned into noise.
    picture = shrunk(stretched(example.image)[window], factor)
    height, width = picture.shape[:2]
    colours = class_colours(int(max(truth.max(), prediction.max()))) if kind == "semantic" else ()
    probability = ""
    if example.probability is not None:
        probability = _uri(shrunk(heat(example.probability[window]), factor))
    return ExamplePictures(
        example.name,
        example.scores,
        width,
        height,
        _uri(picture),
        (
            _outlines("Truth", small(truth), colours or (SKY_BLUE,)),
            _outlines("Prediction", small(prediction), colours or (YELLOW,)),
            Layer("Errors", _error_words(errors), _uri(error_overlay(small(errors))), True),
        ),
        probability,
        _error_shares(errors),
        _excerpt(window, example.image.shape, factor),
    )


def find_errors(
    prediction: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], kind: Kind
) -> NDArray[np.uint8]:
    """Return the code of the error in each pixel; see `napari_unet.engine.pictures.ERRORS`."""
    tell = error_map if kind == "instances" else semantic_error_map
    return tell(prediction, truth)


def _factor(truth: NDArray[np.integer[Any]], kind: Kind) -> int:
    """How many pixels become one, so that the excerpt shows several objects."""
    fits = math.ceil(max(truth.shape) / _SIDE)
    if fits == 1 or kind == "semantic" or not truth.any():
        return 1
    sizes = np.unique(truth[truth > 0], return_counts=True)[1]
    wide = math.sqrt(float(np.median(sizes))) / _OBJECT_SIDE
    return int(max(1, min(round(wide), fits, *truth.shape)))


def _outlines(
    title: str, labels: NDArray[np.integer[Any]], colours: tuple[tuple[int, int, int], ...]
) -> Layer:
    factor = min(_LARGEST_FACTOR, max(1, _LINES_SIDE // max(labels.shape)))
    fine = enlarged(labels, factor)
    overlay = outline_overlay(fine, colours, width=max(1, round(_LINE_SHARE * max(fine.shape))))
    count = len(np.unique(labels[labels > 0]))
    noun = "label" if count == 1 else "labels"
    return Layer(title, f"{count} {noun} outlined", _uri(overlay), True)


def _error_shares(errors: NDArray[np.uint8]) -> tuple[tuple[str, str, float], ...]:
    counts = np.bincount(errors.ravel(), minlength=max(ERRORS) + 1)
    return tuple(
        (name, "#{:02x}{:02x}{:02x}".format(*colour), float(counts[code] / errors.size))
        for code, (name, colour) in ERRORS.items()
        if counts[code]
    )


def _error_words(errors: NDArray[np.uint8]) -> str:
    shares = [f"{name} {percent(share)}" for name, _, share in _error_shares(errors)]
    return f"share of the pixels: {', '.join(shares)}" if shares else "none"


def percent(share: float) -> str:
    """Write a share of 0 to 1 in percent, so that what is there is never 0."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{share:.1%}".replace("%", " %")


def _excerpt(window: tuple[slice, slice], shape: tuple[int, ...], factor: int) -> str:
    rows, columns = window
    size = f"{shape[0]} \N{MULTIPLICATION SIGN} {shape[1]}"
    if (rows.stop - rows.start, columns.stop - columns.start) == shape[:2]:
        part = f"all of its {size} pixels"
    else:
        part = (
            f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1} "
            f"of its {size} pixels, where most of the errors are"
        )
    return part if factor == 1 else f"{part}, reduced {factor} times"


def _uri(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode("ascii")
