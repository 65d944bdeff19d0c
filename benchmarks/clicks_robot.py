"""The robot that clicks: where it clicks next, and when it is content."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from napari_unet.ops.annotations import annotated_box
from napari_unet.ops.clicks import Click, Mask, next_click

#: The overlap at which the robot is content.
ENOUGH: Final = 0.9


def play(
    truth: Mask, answer: Callable[[Sequence[Click]], Mask], most: int, remembers: bool = True
) -> tuple[list[float], list[float]]:
    """Let the robot click on one object.

    Parameters
    ----------
    truth
        Shape (Y, X): the object.
    answer
        Outlines what is under the clicks so far.
    most
        Clicks.
    remembers
        Whether the same clicks may get another answer than before. If not, the robot ends where
        it would click again where it has clicked.

    Returns
    -------
    overlaps
        After each click; the last one is the first of 0.90, or is followed by no better one.
    seconds
        That each answer took.
    """
    given = np.zeros_like(truth)
    clicks: list[Click] = []
    overlaps: list[float] = []
    seconds: list[float] = []
    while len(clicks) < most and (not overlaps or overlaps[-1] < ENOUGH):
        click = click_within(truth, given)
        if click is None or (click in clicks and not remembers):
            break
        clicks.append(click)
        began = time.perf_counter()
        given = answer(clicks)
        seconds.append(time.perf_counter() - began)
        overlaps.append(overlap(truth, given))
    return overlaps, seconds


def click_within(truth: Mask, given: Mask) -> Click | None:
    """Do as `next_click` does, but look at nothing but the box of both: images may be large."""
    box = annotated_box(truth | given)
    if box is None:
        return None
    click = next_click(truth[box], given[box])
    if click is None:
        return None
    return replace(click, row=click.row + box[0].start, column=click.column + box[1].start)


def overlap(truth: Mask, given: Mask) -> float:
    """Return the intersection over union; the truth is not empty."""
    return float((truth & given).sum() / (truth | given).sum())
