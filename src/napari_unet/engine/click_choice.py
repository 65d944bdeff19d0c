"""Which of the objects that were seen at several scales is meant.

Each is looked at again at its own scale. The network says how sure it is, and that decides: what is
only a part, or several objects, or made of noise, it is less sure of at one of the two looks. Where
in the outline the click lies says less, see docs/explanation/clicks.md.

A later click goes on from the answer before. Where nothing comes of it, the answer is of something
else, and all scales are looked at anew.
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

# How much more the overlap counts that is expected at the second look than that at the first, and
# how many objects are looked at again. Found by `benchmarks/click_choice.py` on objects that are
# not in the benchmark.
_SECOND_POWER: Final = 4.0
_LOOKED_AGAIN: Final = 2
# An answer that has the first click in its middle, and the latest in the middle of what it changed,
# to this share is taken without a look at other scales. With a third of it hardly any other scale
# would be looked at, and some objects would never be found.
_EXPLAINED: Final = 0.7
# How much more the answer that goes on from the one before is believed than any other.
_GOES_ON: Final = 1.25
# Nobody clicks more exactly than this share of the greatest depth.
_DEEP: Final = 0.8
# How many clicks are made to say which object is meant. Later ones correct details, and another
# scale would lose what was corrected.
_CHOOSING: Final = 3
# So that no single doubt rules an answer out.
_LEAST: Final = 0.03


def looked_again(
    looking: Looking,
    looks: Sequence[Look],
    clicks: Sequence[Click],
    shape: tuple[int, ...],
    usual: float | None = None,
) -> Generator[None, None, Outline]:
    """Look at the surest objects again, each at its own scale, and choose among them.

    Parameters
    ----------
    looking
        Looks at a window again.
    looks
        The first look; an object is seen in one of them at least.
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
        That of which the network is surest at both looks. What cannot be it, however sure it were,
        is not looked at again.
    """
    best, best_score = None, -1.0
    seen = sorted((look for look in looks if look.extent), key=lambda look: -look.overlap)
    for first in seen[:_LOOKED_AGAIN]:
        if first.overlap <= best_score:
            break
        again = _again(looking, read(first, clicks, shape), clicks)
        if (score := first.overlap * _belief(again, usual)) > best_score:
            best, best_score = again, score
        yield
    assert best is not None
    return replace(read(best, clicks, shape), begun=_first(clicks))


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
            if (score := first.overlap * later_score(again, previous, clicks)) > best_score:
                best, best_score = again, score
            yield
    return read(best, clicks, shape)


def _again(looking: Looking, earlier: Outline, clicks: Sequence[Click]) -> Look:
    window = window_around(with_clicks(earlier.box, clicks), NEXT_SIDE)
    return looking(window, DrawnMask(earlier.mask, earlier.box))


def _belief(again: Look, usual: float | None) -> float:
    """Return how much to believe an answer of the second look, in [0, 1]."""
    belief = usual_belief(again.extent / again.window.zoom, usual)
    return float(again.overlap**_SECOND_POWER * belief)


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
    """Return how well an answer explains the latest click, and how sure the network is of it."""
    deep, share = change_at(look, previous, clicks[-1])
    return float(look.overlap**2 * (min(deep, _DEEP) + _LEAST) * math.sqrt(share + _LEAST))


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
