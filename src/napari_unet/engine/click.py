"""Outline the object under a few clicks.

The network (`napari_unet.model.click`) sees a window that is scaled so that the object has one size
in it. How large the object is, nobody says: at the first click windows of several scales are looked
at, and the answer with the best expected overlap is looked at again at its own scale.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_unet.engine.click_learning import Adaptation, KnownObject
from napari_unet.engine.events import ClicksAdapted, JobEvent
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import Precision, choose_plan
from napari_unet.model.click import load_click_network, window_input
from napari_unet.model.unet import UNet
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.annotations import annotated_box
from napari_unet.ops.clicks import (
    Click,
    Mask,
    Outline,
    Window,
    checked_clicks,
    click_discs,
    expected_overlap,
    region_of,
)
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box

# Side of the answer in the window, close to the one that was trained with.
_SIDE: Final = 116
# What the larger side of an object measures in the window that its outline is read from.
_EXTENT: Final = 64
# Zooms of the first look: objects of 3 to 24, 12 to 96, 48 to 384 and 190 to 1500 pixels.
_FIRST_ZOOMS: Final = (4.0, 1.0, 0.25, 0.0625)
# No object is magnified more than this: there is nothing more to see.
_LARGEST_ZOOM: Final = 8.0
# Where an outline leaves the window, most of the object lies beyond.
_CUT_OFF: Final = 0.3
# Of fewer objects the size says little of the next.
_FEWEST_FOR_SIZE: Final = 3
# In the window; what is smaller was not learned.
_SMALLEST_EXTENT: Final = 8


@dataclass(frozen=True, slots=True)
class _Look:
    """What the network says of one window."""

    window: Window
    probability: NDArray[np.float32]
    mask: Mask
    worth: float

    @property
    def extent(self) -> int:
        box = annotated_box(self.mask)
        return 0 if box is None else max(_sides(box))


class Clicker:
    """Outlines objects of one image.

    Parameters
    ----------
    image
        The image.
    network
        What answers, see `napari_unet.model.click`; None for the one that comes with the program.
    precision
        As for `choose_plan`: "fast" takes bfloat16 where it is faster.
    device
        As for `resolve_device`.

    Attributes
    ----------
    objects
        What was committed: it is learned from, and tells how large objects of this image are.
    network
        What answers.
    """

    def __init__(
        self,
        image: SourceImage,
        network: UNet | None = None,
        *,
        precision: Precision = "fast",
        device: str = "auto",
    ) -> None:
        self.image = image
        self.objects: tuple[Outline, ...] = ()
        self._given = network or load_click_network()
        self._precision: Precision = precision
        self._device = device
        self._pyramid: Pyramid | None = None
        self._hint: Pyramid | None = None
        self.use_network(self._given)

    def use_network(self, network: UNet) -> None:
        """Answer with another network from now on."""
        self.network = network
        self._run: Callable[[Tensor], Tensor] | None = None

    @property
    def pyramid(self) -> Pyramid:
        """The image at all scales; made at first use, 0.2 s for 16 million pixels."""
        if self._pyramid is None:
            self._pyramid = Pyramid(torch.from_numpy(self.image.normalized).clamp(-0.2, 1.5))
        return self._pyramid

    @property
    def usual_extent(self) -> float | None:
        """The median of the larger sides of the objects, in pixels; None with fewer than three."""
        extents = [each.extent for each in self.objects]
        return float(np.median(extents)) if len(extents) >= _FEWEST_FOR_SIZE else None

    def commit(self, found: Outline | Mask) -> None:
        """Take an object as it is: an outline, or a mask of the image's shape."""
        outline = found if isinstance(found, Outline) else Outline.of_mask(found)
        if outline is not None:
            self.objects = (*self.objects, outline)

    def adapt_job(self, stop: threading.Event | None = None) -> Iterator[JobEvent]:
        """Adapt the network to the objects that were committed.

        It begins from the network that was given, so that nothing depends on how often it was
        adapted before. If there are enough objects, some are held back, and an adapted network that
        answers a click on them worse is not used.

        Yields
        ------
        AdaptingStepMade
            After each step.
        ClicksAdapted
            Last.

        Raises
        ------
        InputError
            If nothing was committed.
        """
        if not self.objects:
            raise InputError("there is no object to learn from; commit one first")
        known = [
            KnownObject(self.pyramid, DrawnMask(each.mask, each.box), _window_around(each.box))
            for each in self.objects
        ]
        adaptation = Adaptation(self._given, known)
        yield from adaptation.job(stop)
        self.use_network(adaptation.network)
        yield ClicksAdapted(
            len(known), adaptation.before, adaptation.after, adaptation.network is not self._given
        )

    def set_hint(self, probability: NDArray[np.float32] | None) -> None:
        """Say how probable it is that pixels belong to any object; None if it is not known.

        Parameters
        ----------
        probability
            Shape of the image, in [0, 1]; held by reference.
        """
        self._hint = None
        if probability is not None:
            self._hint = Pyramid(torch.from_numpy(np.asarray(probability, np.float32))[None])

    def outline(
        self,
        clicks: Iterable[tuple[Sequence[float], bool] | Click],
        previous: Outline | None = None,
        box: Box | None = None,
    ) -> Outline:
        """Outline the object that all positive and no negative clicks lie on.

        Parameters
        ----------
        clicks
            Each ``((row, column), positive)``; all that were made for this object, the earlier
            ones first.
        previous
            The answer to the earlier clicks, or the outline on a neighbouring plane.
        box
            A box around the object.

        Returns
        -------
        Outline
            It has the pixel of each positive click and of no negative one.

        Raises
        ------
        InputError
            If a click lies outside of the image, or there is no positive click, no box and no
            earlier outline to begin from.
        """
        checked = checked_clicks(clicks, self.image.shape)
        positive = [click for click in checked if click.positive]
        earlier, start = None, None
        if previous is not None:
            earlier, start = DrawnMask(previous.mask, previous.box), previous.box
        elif box is not None:
            start = _within(box, self.image.shape)
            earlier = DrawnMask(np.full(_sides(start), 0.5), start)
        elif not positive:
            raise InputError("no click is on the object; make a positive click first")
        if earlier is None or start is None:
            look = self._first_look(checked, positive)
        else:
            window = _window_around(_with_clicks(start, checked))
            [look] = self._looks([window], checked, earlier)
        if previous is None and (again := self._fitting_window(look, checked)) is not None:
            look = max(*self._looks([again], checked), look, key=lambda each: each.worth)
        return self._read(look, checked)

    # ------------------------------------------------------------------ windows

    def _first_look(self, clicks: Sequence[Click], positive: Sequence[Click]) -> _Look:
        """Look at several scales, and take the one whose answer is worth most."""
        rows, columns = zip(*((click.row, click.column) for click in positive), strict=True)
        row, column = float(np.mean(rows)), float(np.mean(columns))
        apart = max(np.ptp(rows), np.ptp(columns), 1.0)
        windows = [
            Window(row, column, zoom, _SIDE) for zoom in self._zooms() if apart * zoom < _SIDE * 0.9
        ]
        windows = windows or [Window(row, column, _EXTENT / float(apart), _SIDE)]
        return max(self._looks(windows, clicks), key=lambda each: each.worth)

    def _zooms(self) -> list[float]:
        longest = max(self.image.shape)
        # A window that is twice as wide as the image shows little more than its mirror images.
        zooms = [zoom for zoom in _FIRST_ZOOMS if _SIDE / zoom <= max(2 * longest, 2 * _SIDE)]
        if self.usual_extent is not None:
            usual = min(_EXTENT / self.usual_extent, _LARGEST_ZOOM)
            near = [z for z in zooms if 1 / 6 < z / usual < 6 and not 0.6 < z / usual < 1.6]
            zooms = [usual, *near]
        return zooms

    def _fitting_window(self, look: _Look, clicks: Sequence[Click]) -> Window | None:
        """Return the window in which a found object has its size; None if it is much the same."""
        if not look.mask.any():
            return None
        rows, columns = np.nonzero(look.mask)
        tops = look.window.outside(rows.min(), columns.min())
        ends = look.window.outside(rows.max(), columns.max())
        found = tuple(
            slice(math.floor(low), math.ceil(high) + 1)
            for low, high in zip(tops, ends, strict=True)
        )
        return _window_around(_with_clicks((found[0], found[1]), clicks))

    def _looks(
        self,
        windows: Sequence[Window],
        clicks: Sequence[Click],
        earlier: DrawnMask | None = None,
    ) -> list[_Look]:
        halo = self.network.config.halo
        inputs = [self._input(window.enlarged(halo), clicks, earlier, halo) for window in windows]
        if self._run is None:
            plan = choose_plan(self.network.config, "predict", self._precision, self._device)
            self._run = plan.for_prediction(self.network)
        batch = torch.stack(inputs)
        answers = self._run(batch)[:, 1].numpy()
        prompts = batch[:, 3:6, halo:-halo, halo:-halo].numpy()
        return [
            self._look(window, answer, prompt)
            for window, answer, prompt in zip(windows, answers, prompts, strict=True)
        ]

    def _input(
        self,
        window: Window,
        clicks: Sequence[Click],
        earlier: DrawnMask | None,
        margin: int,
    ) -> Tensor:
        side = (window.side, window.side)
        before = torch.zeros(side) if earlier is None else earlier.cut(window)
        hint = torch.full(side, 0.5) if self._hint is None else self._hint.cut(window)[0]
        discs = torch.from_numpy(click_discs(clicks, window))
        return window_input(self.pyramid.cut(window), discs, before, hint, margin)

    def _look(
        self, window: Window, probability: NDArray[np.float32], prompt: NDArray[np.float32]
    ) -> _Look:
        """Judge an answer; `prompt` is (3, side, side): clicks and earlier answer."""
        positive, negative, earlier = prompt > 0.25
        mask = (probability > 0.5) & ~negative
        begun = positive if positive.any() else earlier
        mask = _regions_that_meet(mask, begun)
        worth = expected_overlap(probability, mask)
        look = _Look(window, probability, mask, worth)
        if not mask.any():
            return look
        if look.extent < _SMALLEST_EXTENT and window.zoom < _LARGEST_ZOOM:
            worth *= 0.5
        worth *= 1 - (1 - _CUT_OFF) * self._share_cut_off(window, mask)
        return _Look(window, probability, mask, worth)

    def _share_cut_off(self, window: Window, mask: Mask) -> float:
        """Return how much of the window's border the object crosses, within the image; 0 to 1."""
        edge = np.zeros_like(mask)
        edge[[0, -1]] = edge[:, [0, -1]] = True
        rows, columns = window.outside(*np.nonzero(edge & mask))
        height, width = self.image.shape
        real = (rows > 1) & (rows < height - 2) & (columns > 1) & (columns < width - 2)
        return min(1.0, float(real.sum()) / 8)

    # ------------------------------------------------------------------ answer

    def _read(self, look: _Look, clicks: Sequence[Click]) -> Outline:
        """Bring an answer to the resolution of the image."""
        window = look.window
        corner = window.outside(0, 0)
        far = window.outside(window.side - 1, window.side - 1)
        spans = []
        for low, high, length, axis in zip(corner, far, self.image.shape, (0, 1), strict=True):
            places = [(click.row, click.column)[axis] for click in clicks if click.positive]
            low, high = min([low, *places]), max([high, *places])
            spans.append(slice(max(0, math.floor(low)), min(length, math.ceil(high) + 1)))
        box = spans[0], spans[1]
        fine = _enlarged(look.probability, window, box)
        mask = fine > 0.5
        pixels = {True: [], False: []}  # type: dict[bool, list[tuple[int, int]]]
        for click in clicks:
            place = round(click.row) - box[0].start, round(click.column) - box[1].start
            if 0 <= place[0] < mask.shape[0] and 0 <= place[1] < mask.shape[1]:
                mask[place] = click.positive
                pixels[click.positive].append(place)
        if pixels[True]:
            mask = region_of(mask, pixels[True])
        else:  # begun from a box or from a neighbouring plane
            mask = _regions_that_meet(
                mask, _enlarged(look.mask.astype(np.float32), window, box) > 0.5
            )
        overlap = expected_overlap(fine, mask)
        tight = annotated_box(mask, 0)
        if tight is None:
            return Outline(box, mask, 0.0)
        placed = tuple(
            slice(span.start + whole.start, span.stop + whole.start)
            for span, whole in zip(tight, box, strict=True)
        )
        return Outline((placed[0], placed[1]), np.ascontiguousarray(mask[tight]), overlap)


def _enlarged(probability: NDArray[np.float32], window: Window, box: Box) -> NDArray[np.float32]:
    """Interpolate the answer in a window at the pixels of a box of the image."""
    rows, columns = (np.arange(span.start, span.stop, dtype=np.float32) for span in box)
    inside_rows, inside_columns = window.inside(rows, columns)
    half = window.side / 2
    y = torch.from_numpy((inside_rows + 0.5) / half - 1)
    x = torch.from_numpy((inside_columns + 0.5) / half - 1)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].float()
    source = torch.from_numpy(np.ascontiguousarray(probability, np.float32))[None, None]
    found = torch.nn.functional.grid_sample(source, grid, padding_mode="zeros", align_corners=False)
    return found[0, 0].numpy()


def _regions_that_meet(mask: Mask, other: Mask) -> Mask:
    """Return the connected regions of a mask that have pixels in common with another."""
    points = zip(*(axis.tolist() for axis in np.nonzero(mask & other)), strict=True)
    return region_of(mask, points)


def _window_around(box: Box) -> Window:
    """Return the window in which a box has the size that objects are to have."""
    row, column = ((span.start + span.stop - 1) / 2 for span in box)
    return Window(row, column, min(_EXTENT / max(_sides(box)), _LARGEST_ZOOM), _SIDE)


def _with_clicks(box: Box, clicks: Iterable[Click]) -> Box:
    """Enlarge a box by the positive clicks."""
    (top, bottom), (left, right) = ((span.start, span.stop) for span in box)
    for click in clicks:
        if click.positive:
            top, bottom = min(top, math.floor(click.row)), max(bottom, math.ceil(click.row) + 1)
            left = min(left, math.floor(click.column))
            right = max(right, math.ceil(click.column) + 1)
    return slice(top, bottom), slice(left, right)


def _within(box: Box, shape: tuple[int, int]) -> Box:
    rows, columns = (
        slice(max(0, span.start), min(length, span.stop))
        for span, length in zip(box, shape, strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise InputError("the box lies outside of the image; draw it around an object")
    return rows, columns


def _sides(box: Box) -> tuple[int, int]:
    return box[0].stop - box[0].start, box[1].stop - box[1].start
