"""What finished objects teach: what is like them, and how the click network outlines them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from typing import Final

import torch

from napari_unet.engine.click import Clicker
from napari_unet.engine.click_learning import Adaptation, KnownObject
from napari_unet.engine.click_likeness import likeness_job
from napari_unet.engine.click_looks import window_around
from napari_unet.engine.events import ClicksAdapted, JobEvent, PieceDone
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import Click
from napari_unet.ops.errors import InputError

# Of more objects no more is learned about whether first answers are better for what is told.
_MOST_JUDGED: Final = 16


def adapt_job(clicker: Clicker, stop: threading.Event | None = None) -> Iterator[JobEvent]:
    """Adapt what answers clicks to the objects that were committed.

    First what is like them is looked for, see `liken_job`. The network begins from the one that was
    given, so that nothing depends on how often it was adapted before. If there are enough objects,
    some are held back, and an adapted network that does not answer a click on them better is not
    used.

    Parameters
    ----------
    clicker
        What outlines objects of the image; it answers better afterwards, stopped or not.
    stop
        Checked after every piece of work.

    Yields
    ------
    PieceDone
        While what is like them is looked for.
    AdaptingStepMade
        After each step.
    ClicksAdapted
        Last.

    Raises
    ------
    InputError
        If nothing was committed.
    """
    if not clicker.objects:
        raise InputError("there is no object to learn from; commit one first")
    objects = clicker.objects
    told = yield from liken_job(clicker, stop)
    known = [
        KnownObject(clicker.pyramid, DrawnMask(each.mask, each.box), window_around(each.box), alike)
        for each, alike in zip(objects, told, strict=True)
    ]
    adaptation = Adaptation(clicker.given, known, clicker.plan)
    yield from adaptation.job(stop)
    network = adaptation.network
    clicker.use_network(network)
    yield ClicksAdapted(
        len(known), adaptation.before, adaptation.after, network is not clicker.given
    )


def liken_job(
    clicker: Clicker, stop: threading.Event | None = None
) -> Generator[PieceDone, None, list[Pyramid | None]]:
    """Learn what is like the objects that were committed, and tell clicks of it.

    They are told if first answers on these objects are no worse for it, each of them told by what
    was learned from others.

    Parameters
    ----------
    clicker
        As for `adapt_job`.
    stop
        Checked after every piece of work; then clicks are told what they were told before.

    Yields
    ------
    PieceDone
        After every piece of work.

    Returns
    -------
    list of Pyramid or None
        What clicks on each of the objects are told by what was learned from others.
    """
    objects = clicker.objects
    nothing: list[Pyramid | None] = [None] * len(objects)
    found = yield from likeness_job(clicker.image, objects, stop, clicker.device)
    if found is None:
        return nothing
    judge, judged, folds, gain = clicker.twin(), objects[:_MOST_JUDGED], len(found.held_out), 0.0
    for fold, probability in enumerate((*found.held_out, None)):
        judge.set_likeness(found.head, probability)
        for each in judged if probability is None else judged[fold::folds]:
            if stop is not None and stop.is_set():
                return nothing
            overlap = judge.outline([Click(*each.middle)]).shares(each)
            gain += -overlap if probability is None else overlap
            yield PieceDone()
    if gain < 0:
        clicker.set_likeness(None, None)
        return nothing
    clicker.set_likeness(found.head, found.probability)
    pyramids = [Pyramid(torch.from_numpy(each)[None]) for each in found.held_out]
    return [pyramids[number % folds] for number in range(len(objects))]
