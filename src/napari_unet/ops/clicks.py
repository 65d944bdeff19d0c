"""Clicks on an object, the windows that are looked at around them, and a robot that clicks.

Sources:

- Sofiiuk, Petrov, Konushin: Reviving Iterative Training with Mask Guidance for Interactive
  Segmentation. ICIP 2022, arXiv:2102.06583. Clicks as discs, and the previous mask as an input.
- Xu et al.: Deep Interactive Object Selection. CVPR 2016. The robot of the number-of-clicks
  measure: each further click goes into the largest region that is still wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.ops.annotations import BACKGROUND, annotated_box
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box
from napari_unet.ops.weight_map import separate_touching

#: The label that objects have among strokes.
OBJECT: Final = 2

# Of fewer objects the size says little of the next.
_FEWEST_FOR_SIZE: Final = 3
# Nor do objects of which the middle half differs by more than this factor.
_ALIKE: Final = 2.0

Mask = NDArray[np.bool_]
Point = tuple[int, int]

#: Radius of the disc that stands for a click, in pixels of the window. A single pixel would vanish
#: in the first pooling; a larger disc would reach across the border of small objects.
DISC_RADIUS: Final = 2.5


@dataclass(frozen=True, slots=True)
class Click:
    """A place that belongs to the object, or does not.

    Attributes
    ----------
    row, column
        Pixels of the image; the middle of the first pixel is (0, 0).
    positive
        Whether the object is there.
    """

    row: float
    column: float
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """A square that is cut out of an image and scaled.

    Attributes
    ----------
    row, column
        Its middle, in pixels of the image.
    zoom
        Pixels of the window for each pixel of the image.
    side
        Pixels of the window.
    """

    row: float
    column: float
    zoom: float
    side: int

    def inside(self, rows: Any, columns: Any) -> tuple[Any, Any]:
        """Convert places of the image to places of the window."""
        middle = (self.side - 1) / 2
        return (
            (rows - self.row) * self.zoom + middle,
            (columns - self.column) * self.zoom + middle,
        )

    def outside(self, rows: Any, columns: Any) -> tuple[Any, Any]:
        """Convert places of the window to places of the image."""
        middle = (self.side - 1) / 2
        return (
            (rows - middle) / self.zoom + self.row,
            (columns - middle) / self.zoom + self.column,
        )

    def seen_from(self, row: float, column: float) -> Window:
        """Return the window on a part of the image that begins at a pixel."""
        return Window(self.row - row, self.column - column, self.zoom, self.side)


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """An object that was clicked on.

    Attributes
    ----------
    box
        Rows and columns of the image in which it lies.
    mask
        Shape of `box`: where it is.
    overlap
        The intersection over union with the truth that the network expects, in [0, 1].
    begun
        The click that it was begun with; None if it was begun with something else.
    """

    box: Box
    mask: Mask
    overlap: float = 1.0
    begun: Click | None = None

    @classmethod
    def of_mask(cls, mask: Mask) -> Outline | None:
        """Make an outline of a mask of the image's shape; None if it is empty."""
        box = annotated_box(mask, 0)
        return None if box is None else cls(box, np.ascontiguousarray(mask[box]))

    def full(self, shape: tuple[int, ...]) -> Mask:
        """Return the mask on an image of that shape."""
        whole = np.zeros(shape, bool)
        whole[self.box] = self.mask
        return whole

    def common(self, other: Outline) -> int:
        """Count the pixels that two outlines have in common."""
        spans = [
            slice(max(mine.start, theirs.start), min(mine.stop, theirs.stop))
            for mine, theirs in zip(self.box, other.box, strict=True)
        ]
        if any(span.start >= span.stop for span in spans):
            return 0
        parts = [
            each.mask[
                tuple(
                    slice(span.start - whole.start, span.stop - whole.start)
                    for span, whole in zip(spans, each.box, strict=True)
                )
            ]
            for each in (self, other)
        ]
        return int((parts[0] & parts[1]).sum())

    def shares(self, other: Outline) -> float:
        """Return the intersection over union of two outlines."""
        common = self.common(other)
        return common / max(int(self.mask.sum() + other.mask.sum()) - common, 1)

    @property
    def middle(self) -> Point:
        """Row and column in the image of its innermost pixel."""
        row, column = innermost(self.mask)
        return row + self.box[0].start, column + self.box[1].start

    @property
    def extent(self) -> int:
        """The larger side of its box, in pixels."""
        rows, columns = self.mask.shape
        return int(max(rows, columns))


def usual_extent(extents: Iterable[int]) -> float | None:
    """Return the usual larger side of objects, in pixels; None of fewer than three, or if unlike.

    Parameters
    ----------
    extents
        The larger side of each object that is known, see `Outline.extent`.
    """
    known = list(extents)
    if len(known) < _FEWEST_FOR_SIZE:
        return None
    lower, middle, upper = np.percentile(known, [25, 50, 75])
    return float(middle) if upper <= _ALIKE * lower else None


def checked_clicks(
    clicks: Iterable[tuple[Sequence[float], bool] | Click], shape: tuple[int, ...]
) -> tuple[Click, ...]:
    """Return clicks that can be used: all of them on the image.

    Parameters
    ----------
    clicks
        Each ``((row, column), positive)`` or a `Click`.
    shape
        Rows and columns of the image.

    Returns
    -------
    tuple of Click
        In their order. Of several at one pixel the last one is left: it is what the user thinks
        now.

    Raises
    ------
    InputError
        If one is no pair of finite numbers, or lies outside.
    """
    found: dict[Point, Click] = {}
    for each in clicks:
        click = each if isinstance(each, Click) else _read_click(each)
        if not (np.isfinite(click.row) and np.isfinite(click.column)):
            raise InputError("a click has no finite place; give it as ((row, column), True)")
        pixel = round(float(click.row)), round(float(click.column))
        if not (0 <= pixel[0] < shape[0] and 0 <= pixel[1] < shape[1]):
            raise InputError(
                f"the click at row {click.row:g}, column {click.column:g} lies outside of the "
                f"image of {shape[0]} x {shape[1]} pixels; click on the image"
            )
        found.pop(pixel, None)
        found[pixel] = click
    return tuple(found.values())


def _read_click(value: Any) -> Click:
    try:
        (row, column), positive = value
        return Click(float(row), float(column), bool(positive))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{value!r} is no click; give each as ((row, column), True or False)"
        ) from error


def click_discs(clicks: Iterable[Click], window: Window) -> NDArray[np.float32]:
    """Draw clicks into a window.

    Returns
    -------
    ndarray of float32, shape (2, side, side)
        1 within `DISC_RADIUS` of a positive (channel 0) or negative (channel 1) click, else 0.
    """
    drawn = np.zeros((2, window.side, window.side), np.float32)
    steps = np.arange(window.side, dtype=np.float32)
    for click in clicks:
        row, column = window.inside(click.row, click.column)
        far = (steps[:, None] - row) ** 2 + (steps[None] - column) ** 2
        drawn[0 if click.positive else 1][far <= DISC_RADIUS**2] = 1
    return drawn


def innermost(mask: Mask) -> Point:
    """Return the pixel of a mask that is farthest from its border; the image's edge is one.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        raise InputError("an empty mask has no innermost pixel; give one with an object")
    top, left = rows.min(), columns.min()
    part = mask[top : rows.max() + 1, left : columns.max() + 1]
    depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row + top), int(column + left)


def next_click(truth: Mask, answer: Mask) -> Click | None:
    """Return where a user who knows the truth clicks next.

    Parameters
    ----------
    truth, answer
        Shape (Y, X).

    Returns
    -------
    Click or None
        The innermost pixel of the largest connected region that is wrong, positive if the object
        is there; None if nothing is wrong.
    """
    missing, surplus = largest_region(truth & ~answer), largest_region(answer & ~truth)
    if not missing.any() and not surplus.any():
        return None
    positive = int(missing.sum()) >= int(surplus.sum())
    row, column = innermost(missing if positive else surplus)
    return Click(row, column, positive)


def largest_region(mask: Mask) -> Mask:
    """Return the largest 4-connected region of a mask; empty if the mask is."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return np.asarray(mask, bool)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return np.asarray(labels == areas.argmax())


def region_of(mask: Mask, points: Iterable[Point]) -> Mask:
    """Return the 4-connected regions of a mask that hold any of the points."""
    labels, _ = ndimage.label(mask)
    chosen = {int(labels[point]) for point in points} - {0}
    kept = np.zeros(labels.max() + 1, bool)
    kept[list(chosen)] = True
    return np.asarray(kept[labels])


def expected_overlap(probability: NDArray[np.floating], mask: Mask) -> float:
    """Return the intersection over union with the truth that is expected of a mask.

    If each pixel belongs to the object with its probability, the expected intersection is the sum
    of the probabilities within the mask, and the expected union its area and the probabilities
    outside; their quotient is close to the expected quotient where there are many pixels.

    Parameters
    ----------
    probability
        Shape (Y, X), in [0, 1].
    mask
        Same shape.

    Returns
    -------
    float
        In [0, 1]; 0 for an empty mask.
    """
    inside = float(probability[mask].sum())
    union = float(mask.sum()) + float(probability.sum()) - inside
    return inside / union if mask.any() else 0.0


#: Pixels of background around an object that is known: near enough to be no other object as a rule.
RING = 4


def objects_as_strokes(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return what objects say of their pixels, as strokes do.

    Parameters
    ----------
    labels
        Shape (Y, X); 0 is no object, or not known.

    Returns
    -------
    ndarray of uint8, shape (Y, X)
        2 on objects, 1 on a thin ring around them and where two of them touch, 0 elsewhere.
    """
    strokes = np.zeros(labels.shape, np.uint8)
    box = annotated_box(labels, RING)
    if box is None:
        return strokes
    inside = separate_touching(labels[box]) > 0
    around = ndimage.maximum_filter(inside, 2 * RING + 1)
    strokes[box] = np.where(inside, OBJECT, np.where(around, BACKGROUND, 0))
    return strokes


def known_outlines(labels: NDArray[np.integer]) -> tuple[Outline, ...]:
    """Return the outlines of the objects of a label image, shape (Y, X); 0 is no object."""
    boxes = enumerate(ndimage.find_objects(labels.astype(np.int64, copy=False)), start=1)
    return tuple(Outline(box, labels[box] == number) for number, box in boxes if box)
