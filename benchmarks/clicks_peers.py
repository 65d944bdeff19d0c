"""What else outlines an object from clicks, without having learned anything.

Flood fill, watershed, random walker (Grady, IEEE PAMI 2006) and GrabCut (Rother et al., SIGGRAPH
2004). They get the same clicks on the same objects as the network does, but see only a square
around the object, three times as wide as it and at least 128 pixels, so that they are quick. That
helps them: it tells them how large the object is about, and nothing that is far away can be taken
for it. All but flood fill also take the square's border for background, save where the image ends.

Random walker and GrabCut, which take seconds on large squares, see squares of more than 256
pixels at a half, a quarter, ... of their resolution.

GrabCut needs OpenCV, which nothing but this benchmark uses:
`pip install --no-deps opencv-python-headless`.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import sobel
from skimage.segmentation import flood, random_walker, watershed

from napari_unet.engine.image import SourceImage
from napari_unet.ops.clicks import Click, Mask
from napari_unet.ops.tiling import Box

#: Of the image's range, from its first to its last percentile. All are tried, and the one that is
#: best for a set in hindsight is reported.
TOLERANCES: Final = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45)
FLOOD: Final = "flood fill"
_LEAST_SIDE = 128
_EXTENTS = 3
# Wider squares are shrunk for what would take seconds otherwise.
_LARGEST_SIDE = 256
# Radius around a click in which GrabCut may not decide otherwise.
_SURE = 3
_OBJECT, _BACKGROUND = 1, 2

#: Outlines an object in float32 pixels of shape (Y, X) or (Y, X, 3), scaled to about [0, 1]; the
#: mask, of shape (Y, X), has pixels that are background.
Peer = Callable[[NDArray[np.float32], Sequence[Click], Mask], Mask]


class Cropped:
    """Shows a peer the square around an object.

    Parameters
    ----------
    peer
        What outlines.

    Attributes
    ----------
    remembers
        False: the same clicks get the same answer.
    """

    remembers = False

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def open(self, image: NDArray[Any], known: Sequence[Mask]) -> None:
        """Take an image; nothing is done with objects that are known."""
        channels = SourceImage(image).normalized
        self._pixels = channels[0] if len(channels) == 1 else np.moveaxis(channels, 0, -1)

    def start(self, around: Box) -> None:
        """Go to the object in a box."""
        shape = self._pixels.shape[:2]
        self._box = square_around(around, (shape[0], shape[1]))
        self._border = border_of(self._box, (shape[0], shape[1]))

    def answer(self, clicks: Sequence[Click]) -> Mask:
        """Outline the object under all clicks, on the whole image."""
        top, left = (span.start for span in self._box)
        inside = [replace(each, row=each.row - top, column=each.column - left) for each in clicks]
        whole = np.zeros(self._pixels.shape[:2], bool)
        whole[self._box] = self._peer(self._pixels[self._box], inside, self._border)
        return whole


def square_around(around: Box, shape: tuple[int, int]) -> Box:
    """Return the square that peers see of an object, as far as the image goes.

    Parameters
    ----------
    around
        Where the object is.
    shape
        Rows and columns of the image.
    """
    side = max(_LEAST_SIDE, _EXTENTS * max(span.stop - span.start for span in around))
    starts = [(span.start + span.stop - side) // 2 for span in around]
    rows, columns = (
        slice(max(0, start), min(length, start + side))
        for start, length in zip(starts, shape, strict=True)
    )
    return rows, columns


def border_of(box: Box, shape: tuple[int, int]) -> Mask:
    """Return which pixels of a box are its border.

    The edges of the image are not, as objects lie at them; but if the box is the whole image they
    are all there is.
    """
    rows, columns = (span.stop - span.start for span in box)
    border = np.zeros((rows, columns), bool)
    inner = [(span.start > 0, span.stop < length) for span, length in zip(box, shape, strict=True)]
    everywhere = not any(any(pair) for pair in inner)
    for axis, pair in enumerate(inner):
        for place, counts in zip((0, -1), pair, strict=True):
            if counts or everywhere:
                np.moveaxis(border, axis, 0)[place] = True
    return border


# ------------------------------------------------------------------------------------ peers


def flood_fill(
    pixels: NDArray[np.float32], clicks: Sequence[Click], border: Mask, tolerance: float
) -> Mask:
    """Take what is as bright as the clicked pixels and connected with them.

    Parameters
    ----------
    pixels
        As for `Peer`; of colours, the grey value counts.
    clicks
        What is filled from a negative click is taken away, unless a positive click lies on it.
    border
        Not looked at.
    tolerance
        How much brighter or darker pixels may be than the clicked one.
    """
    grey = _grey(pixels)
    positive = [_pixel(click) for click in clicks if click.positive]
    negative = [_pixel(click) for click in clicks if not click.positive]
    filled = np.zeros(grey.shape, bool)
    for place in positive:
        filled |= _flood(grey, place, tolerance)
    for place in negative:
        other = _flood(grey, place, tolerance)
        if not any(other[each] for each in positive):
            filled &= ~other
    return filled


def watersheds(pixels: NDArray[np.float32], clicks: Sequence[Click], border: Mask) -> Mask:
    """Let the clicks and the border grow until they meet, at edges last."""
    edges = sobel(_grey(pixels))  # type: ignore[no-untyped-call]
    found = watershed(edges, _markers(clicks, border))  # type: ignore[no-untyped-call]
    return np.asarray(found == _OBJECT)


def random_walk(pixels: NDArray[np.float32], clicks: Sequence[Click], border: Mask) -> Mask:
    """Take the pixels from which a random walk reaches a positive click first."""
    with warnings.catch_warnings():
        # That clicks leave no pixel open, and what else is said of small squares.
        warnings.simplefilter("ignore", UserWarning)
        found = random_walker(
            pixels,
            _markers(clicks, border),
            beta=130,
            mode="cg_j",
            channel_axis=-1 if pixels.ndim == 3 else None,
        )
    return np.asarray(found == _OBJECT)


def grab_cut(pixels: NDArray[np.float32], clicks: Sequence[Click], border: Mask) -> Mask:
    """Part the colours of the object from those around it, with as short a border as can be.

    The border and discs at the clicks are certain. A larger disc at the first click is probably
    the object, and everything else probably is not.
    """
    import cv2

    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    bytes_ = np.ascontiguousarray((colours.clip(0, 1) * 255).astype(np.uint8))
    mask = np.full(border.shape, cv2.GC_PR_BGD, np.uint8)
    mask[_disc(border.shape, clicks[0], min(border.shape) / 8)] = cv2.GC_PR_FGD
    mask[border] = cv2.GC_BGD
    for click in clicks:
        sure = cv2.GC_FGD if click.positive else cv2.GC_BGD
        mask[_disc(border.shape, click, _SURE)] = sure
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    # It begins its mixtures of colours at random.
    cv2.setRNGSeed(0)
    cv2.grabCut(bytes_, mask, (0, 0, 0, 0), background, foreground, 5, cv2.GC_INIT_WITH_MASK)
    return np.asarray((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))


def shrunk(peer: Peer) -> Peer:
    """Let a peer see wide squares at a lower resolution."""

    def shrinking(pixels: NDArray[np.float32], clicks: Sequence[Click], border: Mask) -> Mask:
        factor = shrink_factor(pixels.shape[:2])
        if factor == 1:
            return peer(pixels, clicks, border)
        rows, columns = border.shape
        small = _means(pixels, factor)
        # A shrunk pixel is border if any of its pixels are: it must stay as long as it was.
        padded = np.pad(border, [(0, -rows % factor), (0, -columns % factor)])
        blocks = padded.reshape(small.shape[0], factor, small.shape[1], factor)
        fewer = [
            replace(each, row=each.row // factor, column=each.column // factor) for each in clicks
        ]
        found = peer(small, fewer, np.asarray(blocks.any(axis=(1, 3))))
        large = ndimage.zoom(
            found.astype(np.float32), factor, order=1, mode="nearest", grid_mode=True
        )
        return np.asarray(large[:rows, :columns] > 0.5)

    return shrinking


def shrink_factor(shape: Iterable[int]) -> int:
    """Return by which power of two a square is shrunk to have at most 256 pixels a side."""
    return int(2 ** max(0, math.ceil(math.log2(max(shape) / _LARGEST_SIDE))))


#: What makes a peer of a name; flood fill is one for each tolerance.
PEERS: dict[str, Peer] = {
    **{f"{FLOOD} {t:g}": partial(flood_fill, tolerance=t) for t in TOLERANCES},
    "watershed": watersheds,
    "random walker": shrunk(random_walk),
    "GrabCut": shrunk(grab_cut),
}


def why_missing(name: str) -> str | None:
    """Say why a peer cannot take part on this machine, and what to do; None if it can."""
    if name == "GrabCut" and importlib.util.find_spec("cv2") is None:
        return (
            "GrabCut is left out: OpenCV is not there; pip install --no-deps opencv-python-headless"
        )
    return None


def _flood(grey: NDArray[np.float32], place: tuple[int, int], tolerance: float) -> Mask:
    options: dict[str, Any] = {"connectivity": 1, "tolerance": tolerance}
    return np.asarray(flood(grey, place, **options))  # type: ignore[no-untyped-call]


def _grey(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels if pixels.ndim == 2 else pixels.mean(axis=2)


def _pixel(click: Click) -> tuple[int, int]:
    return round(click.row), round(click.column)


def _markers(clicks: Sequence[Click], border: Mask) -> NDArray[np.int32]:
    markers = np.where(border, _BACKGROUND, 0).astype(np.int32)
    for click in clicks:
        markers[_pixel(click)] = _OBJECT if click.positive else _BACKGROUND
    return markers


def _disc(shape: tuple[int, ...], click: Click, radius: float) -> Mask:
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    far = (rows - click.row) ** 2 + (columns - click.column) ** 2
    return np.asarray(far <= radius**2)


def _means(pixels: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average squares of pixels; what is missing at the end is taken from the last."""
    rows, columns = pixels.shape[:2]
    missing = [(0, -rows % factor), (0, -columns % factor)] + [(0, 0)] * (pixels.ndim - 2)
    padded = np.pad(pixels, missing, mode="edge")
    blocks = padded.reshape(-(-rows // factor), factor, -(-columns // factor), factor, -1)
    means: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means if pixels.ndim == 3 else means[..., 0]
