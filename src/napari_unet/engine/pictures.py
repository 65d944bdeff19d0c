"""Pictures of images, labels and errors: arrays in, uint8 colours out.

An overlay is a picture with transparency, (Y, X, 4); `composed` lays it over an opaque one,
(Y, X, 3). Apart from an opaque picture, an overlay of outlines is a small file.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any kind of
colour vision tell apart.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, Final

import imageio.v3 as iio
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from napari_unet.ops.error_map import ERROR_COLOURS, ERROR_NAMES
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import to_channels_first
from napari_unet.ops.labels import as_label_image
from napari_unet.ops.normalize import percentile_normalize

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]

SKY_BLUE: Final[Colour] = (86, 180, 233)
ORANGE: Final[Colour] = (230, 159, 0)
GREEN: Final[Colour] = (0, 158, 115)
PURPLE: Final[Colour] = (204, 121, 167)
VERMILLION: Final[Colour] = (213, 94, 0)
YELLOW: Final[Colour] = (240, 228, 66)
BLUE: Final[Colour] = (0, 114, 178)
CLASS_COLOURS: Final = (SKY_BLUE, ORANGE, GREEN, PURPLE, VERMILLION, YELLOW, BLUE)

# Codes of an error map: name and colour. Code 0, where prediction and truth agree, has none.
ERRORS: Final[dict[int, tuple[str, Colour]]] = {
    code: (name, ERROR_COLOURS[code]) for code, name in ERROR_NAMES.items()
}

# Dark enough that errors stand out, bright enough to see what they lie on.
_DIMMED = 115
_ERROR_OPACITY = 215
_RIM_OPACITY = 150
# Successive multiples of it fall far apart on the circle of hues.
_GOLDEN_RATIO = 0.6180339887498949
# Dark blue to yellow over grey, with even steps in lightness.
_HEAT: Final = np.array(
    [(0, 20, 62), (30, 60, 110), (92, 102, 116), (140, 138, 118), (196, 178, 92), (255, 233, 70)]
)


def stretched(image: ArrayLike, low: float = 1.0, high: float = 99.8) -> Picture:
    """Show an image with its contrast stretched.

    Parameters
    ----------
    image
        Shape (Y, X), or (Y, X, C) with C = 1, 3 or 4 (alpha is dropped); any real dtype and
        range. NaN and infinity become 0.
    low, high
        Percentiles that become black and white. Channels are stretched alike, so that hues stay.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)
        Black if the image is constant.

    Raises
    ------
    InputError
        On another number of axes or channels, or no pixels.
    """
    array = np.asarray(image)
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    channels = to_channels_first(array)
    count, height, width = channels.shape
    scaled = percentile_normalize(channels.reshape(1, count * height, width), low, high)
    grey = np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8).reshape(channels.shape)
    return np.ascontiguousarray(np.broadcast_to(grey, (3, height, width)).transpose(1, 2, 0))


def outline_overlay(
    labels: ArrayLike, colours: Sequence[Colour] = (YELLOW,), width: int = 2
) -> Picture:
    """Draw the outlines of labels, with a dark rim that keeps them visible on any tissue.

    Parameters
    ----------
    labels
        Shape (Y, X), integers >= 0; 0 has no outline. Touching labels get one each.
    colours
        Label k gets the k-th of them, counted from 1 and starting over at the end.
    width
        Of the lines in pixels, inside of the label.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 4)
        Transparent but for the outlines.
    """
    array = as_label_image(labels)
    edge = _inner_edges(array)
    if width > 1:
        edge = ndimage.binary_dilation(edge, iterations=width - 1) & (array > 0)
    rim = ndimage.binary_dilation(edge, np.ones((3, 3)), iterations=(width + 2) // 3) & ~edge
    overlay = np.zeros((*array.shape, 4), np.uint8)
    overlay[rim, 3] = _RIM_OPACITY
    palette = np.array(colours, np.uint8)
    overlay[edge, :3] = palette[(array[edge].astype(np.int64) - 1) % len(palette)]
    overlay[edge, 3] = 255
    return overlay


def outlined(
    picture: Picture, labels: ArrayLike, colours: Sequence[Colour] = (YELLOW,), width: int = 1
) -> Picture:
    """Return a picture, (Y, X, 3), with the outlines of labels; see `outline_overlay`."""
    return composed(picture, outline_overlay(labels, colours, width))


def coloured_labels(
    labels: ArrayLike, picture: Picture | None = None, opacity: float = 0.5
) -> Picture:
    """Give each label a colour of its own.

    Parameters
    ----------
    labels
        Shape (Y, X), integers >= 0. A label has the same colour in every picture.
    picture
        Shape (Y, X, 3), shown beneath; None: black, and the colours are opaque.
    opacity
        Of the colours over the picture, 0 to 1.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)
    """
    array = as_label_image(labels)
    values, inverse = np.unique(array, return_inverse=True)
    table = np.zeros((len(values), 4), np.uint8)
    for row, value in zip(table, values.tolist(), strict=True):
        if value:
            row[:3] = _label_colour(value)
            row[3] = 255 if picture is None else round(255 * opacity)
    overlay = table[inverse.reshape(array.shape)]
    return composed(np.zeros((*array.shape, 3), np.uint8) if picture is None else picture, overlay)


def class_colours(count: int) -> tuple[Colour, ...]:
    """Return the colours of classes 1 to `count`, starting over after the seventh."""
    return tuple(CLASS_COLOURS[index % len(CLASS_COLOURS)] for index in range(count))


def error_overlay(errors: ArrayLike) -> Picture:
    """Colour the codes of an error map; see `ERRORS`.

    Parameters
    ----------
    errors
        Shape (Y, X), integers: 0 agree, 1 missed, 2 spurious, 3 split, 4 merged, 5 another class.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 4)
        Nearly opaque colours where there is an error; half transparent black elsewhere.

    Raises
    ------
    InputError
        On other codes.
    """
    array = as_label_image(errors, "error map")
    if int(array.max()) > max(ERRORS):
        raise InputError(f"an error map has codes 0 to {max(ERRORS)}, not {int(array.max())}")
    table = np.zeros((max(ERRORS) + 1, 4), np.uint8)
    table[0, 3] = _DIMMED
    for code, (_, colour) in ERRORS.items():
        table[code] = (*colour, _ERROR_OPACITY)
    overlay: Picture = table[array]
    return overlay


def error_picture(picture: Picture, errors: ArrayLike) -> Picture:
    """Return a picture, (Y, X, 3), dimmed and grey, with its errors in colour.

    Colours are left to the errors; see `error_overlay`.
    """
    grey = np.round(picture.mean(axis=2, keepdims=True)).astype(np.uint8)
    return composed(np.broadcast_to(grey, picture.shape), error_overlay(errors))


def heat(probability: ArrayLike) -> Picture:
    """Colour probabilities from dark blue (0) over grey to yellow (1).

    Parameters
    ----------
    probability
        Shape (Y, X), real; values outside [0, 1] are clipped, NaN is shown as 0.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)
    """
    values = np.clip(np.nan_to_num(np.asarray(probability, np.float32), nan=0.0), 0, 1)
    anchors = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(values, anchors, _HEAT[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def composed(picture: Picture, overlay: Picture) -> Picture:
    """Lay an overlay, (Y, X, 4), over a picture, (Y, X, 3), of the same size.

    Raises
    ------
    InputError
        If the sizes differ.
    """
    if picture.shape[:2] != overlay.shape[:2]:
        raise InputError(
            f"the picture is {picture.shape[:2]}, what lies over it {overlay.shape[:2]} pixels; "
            "give both in the same size"
        )
    opacity = overlay[..., 3:].astype(np.float32) / 255
    mixed = picture * (1 - opacity) + overlay[..., :3] * opacity
    return np.round(mixed).astype(np.uint8)


def enlarged(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """Repeat the pixels of an array, (Y, X, ...), along both axes, so that lines can be finer."""
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def shrunk(picture: Picture, factor: int) -> Picture:
    """Average blocks of `factor` x `factor` pixels of a picture, (Y, X, C); a rest is cut off."""
    height, width = (size // factor for size in picture.shape[:2])
    blocks = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    small: Picture = np.round(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return small


def shrunk_labels(labels: NDArray[Any], factor: int) -> NDArray[Any]:
    """Take every `factor`-th pixel of labels, (Y, X), to the size that `shrunk` gives a picture."""
    height, width = (size // factor for size in labels.shape)
    start = factor // 2
    return labels[start::factor, start::factor][:height, :width]


def busiest_window(importance: ArrayLike, side: int) -> tuple[slice, slice]:
    """Find the window with the highest sum.

    Parameters
    ----------
    importance
        Shape (Y, X), real, >= 0.
    side
        Longest side of the window in pixels.

    Returns
    -------
    tuple of slice
        Rows and columns; the whole array if it is no larger. Of equal windows the first.
    """
    values = np.asarray(importance, np.float64)
    height, width = (min(side, size) for size in values.shape)
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    rows = total[height:] - total[:-height]
    sums = rows[:, width:] - rows[:, :-width]
    # Sums of the same pixels differ by rounding.
    row, column = np.unravel_index(int(np.argmax(np.round(sums, 6))), sums.shape)
    return slice(int(row), int(row) + height), slice(int(column), int(column) + width)


def png(picture: Picture) -> bytes:
    """Encode a picture, (Y, X), (Y, X, 3) or (Y, X, 4), as PNG; grey ones as one channel."""
    is_grey = picture.shape[-1] == 3 and bool((picture == picture[..., :1]).all())
    if picture.ndim == 3 and is_grey:
        picture = picture[..., 0]
    return bytes(iio.imwrite("<bytes>", picture, extension=".png"))


def _inner_edges(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Mark the pixels of labels that have a 4-neighbour of another value; not the image's edge."""
    edge = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge & (labels > 0)


def _label_colour(label: int) -> Colour:
    lightness = (1.0, 0.8)[label // 2 % 2]
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_RATIO % 1, 0.65, lightness)
    return round(255 * red), round(255 * green), round(255 * blue)
