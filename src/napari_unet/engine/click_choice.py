"""Which of several outlines is meant: the one that explains best where the user clicked.

People click into the middle of an object, and then into the middle of what is wrong most. So an
outline in whose middle the first click lies is more probable than one that it touches at the
border, and so is one that differs from the answer before just around the click that followed. The
robot that counts clicks (Xu et al., CVPR 2016) does that exactly. People do not, so here a click
is in the middle if it is in the innermost fifth, see docs/explanation/clicks.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.engine.click_looks import (
    NEXT_SIDE,
    Look,
    read,
    usual_belief,
    window_around,
    with_clicks,
)
from napari_unet.model.windows import DrawnMask
from napari_unet.ops.clicks import Click, Mask, Outline, Window

#: Looks at a window again; the last argument is the earlier answer.
Looking = Callable[[Window, DrawnMask], Look]

# All numbers were found by `benchmarks/click_choice.py` on objects that are not in the benchmark,
# clicked on exactly and not: what counts more for the middle is better with the one and worse with
# the other.
# Nobody clicks more exactly than this share of the greatest depth; at the first click, and later.
_DEEP: Final = 0.9
_DEEP_LATER: Final = 0.8
# At the first click: how much it counts that it is in the middle, and what the network expects;
# and how much that an outline stays what it is when it is looked at again.
_MIDDLE_POWER: Final = 2.0
_OVERLAP_POWER: Final = 2.0
_SHARED_POWER: Final = 0.5
# How much more the answer that is the most credible one of the first look is believed.
_CREDIBLE: Final = 2.0
# An outline that explains the latest click, and has the first one in its middle, to this share is
# believed without a look at other scales.
_EXPLAINED: Final = 0.7
# How much more the answer that goes on from the one before is believed than any other.
_GOES_ON: Final = 1.5
# How many clicks are made to say which object is meant. Later ones correct details, and another
# scale would lose what was corrected.
_CHOOSING: Final = 3
# So that no single doubt rules an outline out.
_LEAST: Final = 0.03


def looked_again(
    looking: Looking,
    looks: Sequence[Look],
    clicks: Sequence[Click],
    shape: tuple[int, ...],
    usual: float | None = None,
) -> Generator[None, None, Outline]:
    """Look at each object of the first look again at its own scale, and choose among them.

    Parameters
    ----------
    looking
        Looks at a window again.
    looks
        The first look, the most credible one first; an object is seen in one of them at least.
    clicks
        All of the object; one at least is on it.
    shape
        Of the image.
    usual
        The usual larger side of objects of the image, in pixels; None if it is not known.

    Yields
    ------
    None
        After each look.

    Returns
    -------
    Outline
        Of those that stay what they are when they are looked at again, that of which the network
        expects to be right and in the middle of which the first click lies.
    """
    answers = []
    for first in looks:
        if first.extent:
            earlier = read(first, clicks, shape)
            again = _again(looking, earlier, clicks)
            answer = read(again, clicks, shape)
            score = _first_score(again, answer.shares(earlier), clicks, usual)
            answers.append((score * (_CREDIBLE if first is looks[0] else 1.0), answer))
            yield
    _, best = max(answers, key=lambda scored: scored[0])
    return replace(best, begun=_first(clicks))


def chosen_anew(
    looking: Looking,
    answer: Look,
    previous: DrawnMask,
    looks: Sequence[Look],
    clicks: Sequence[Click],
    shape: tuple[int, ...],
) -> Generator[None, None, Outline]:
    """Choose between the answer that goes on from the one before, and objects of other scales.

    Parameters
    ----------
    looking
        Looks at a window again.
    answer
        What goes on from the answer before.
    previous
        The answer before.
    looks
        What is seen with all clicks, but without the answer before.
    clicks
        All of the object; one at least is on it.
    shape
        Of the image.

    Yields
    ------
    None
        After each look.

    Returns
    -------
    Outline
        That which explains the clicks best.
    """
    best, best_score = answer, _GOES_ON * later_score(answer, previous, clicks)
    for first in looks:
        if first.extent:
            again = _again(looking, read(first, clicks, shape), clicks)
            if (score := later_score(again, previous, clicks)) > best_score:
                best, best_score = again, score
            yield
    return read(best, clicks, shape)


def _again(looking: Looking, earlier: Outline, clicks: Sequence[Click]) -> Look:
    window = window_around(with_clicks(earlier.box, clicks), NEXT_SIDE)
    return looking(window, DrawnMask(earlier.mask, earlier.box))


def _first_score(again: Look, shared: float, clicks: Sequence[Click], usual: float | None) -> float:
    middle = min(depth_at(again.mask, again.window, _first(clicks)), _DEEP) + _LEAST
    score = again.overlap**_OVERLAP_POWER * (shared + _LEAST) ** _SHARED_POWER
    score *= middle**_MIDDLE_POWER
    return float(score * usual_belief(again.extent / again.window.zoom, usual))


def is_explained(look: Look, previous: DrawnMask, clicks: Sequence[Click]) -> bool:
    """Say whether an answer explains the clicks so well that no other has to be looked for.

    After three clicks it is taken to do so: what they say of the object was heard.

    Parameters
    ----------
    look
        The answer to all clicks.
    previous
        The answer to all clicks but the latest.
    clicks
        All of the object.
    """
    if len(clicks) > _CHOOSING:
        return True
    deep, share = change_at(look, previous, clicks[-1])
    middle = depth_at(look.mask, look.window, _first(clicks))
    return deep * math.sqrt(share) > _EXPLAINED and middle > _EXPLAINED


def later_score(look: Look, previous: DrawnMask, clicks: Sequence[Click]) -> float:
    """Return how well an answer explains the first and the latest click; see `is_explained`."""
    deep, share = change_at(look, previous, clicks[-1])
    middle = min(depth_at(look.mask, look.window, _first(clicks)), _DEEP_LATER) + _LEAST
    explained = (min(deep, _DEEP_LATER) + _LEAST) ** 2 * math.sqrt(share + _LEAST)
    return float(look.overlap * explained * middle)


def change_at(look: Look, previous: DrawnMask, click: Click) -> tuple[float, float]:
    """Say how far within a change a click lies that asked for it.

    Parameters
    ----------
    look
        The answer to the click.
    previous
        The answer before.
    click
        The click.

    Returns
    -------
    depth
        Where the click lies in the region that it changed, see `depth_at`; 0 if nothing changed.
    share
        Area of that region, as a share of that of the largest region that changed, in [0, 1].
    """
    before = previous.cut(look.window).numpy() > 0.5
    now = look.mask if click.positive else look.probability > 0.5
    changed = (now & ~before) if click.positive else (before & ~now)
    region = _region_at(changed, look.window, click)
    if region is None:
        return 0.0, 0.0
    largest = max(_largest_area(look.mask & ~before), _largest_area(before & ~look.mask), 1)
    return depth_at(region, look.window, click), min(1.0, float(region.sum()) / largest)


def depth_at(mask: Mask, window: Window, click: Click) -> float:
    """Return how deep a click lies in a mask, as a share of the greatest depth there.

    Parameters
    ----------
    mask
        Shape (side, side).
    window
        Which window it is of.
    click
        On it or not.

    Returns
    -------
    float
        In [0, 1]: 1 at the innermost pixel of the region that the click is in, 0 outside.
    """
    region = _region_at(mask, window, click)
    if region is None:
        return 0.0
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    return float(depth[_pixel(window, click)] / depth.max())


def _first(clicks: Sequence[Click]) -> Click:
    """Return the first click on the object."""
    return next(click for click in clicks if click.positive)


def _region_at(mask: Mask, window: Window, click: Click) -> Mask | None:
    place = _pixel(window, click)
    if not (0 <= min(place) and max(place) < window.side) or not mask[place]:
        return None
    labels, _ = ndimage.label(mask)
    return np.asarray(labels == labels[place])


def _largest_area(mask: Mask) -> int:
    labels, count = ndimage.label(mask)
    return int(np.bincount(labels.ravel())[1:].max()) if count else 0


def _pixel(window: Window, click: Click) -> tuple[int, int]:
    row, column = window.inside(click.row, click.column)
    return round(float(row)), round(float(column))
