"""What answers clicks on the planes of an image; all of it belongs to the worker thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.click import Clicker
from napari_unet.engine.click_likeness import seen_in_job
from napari_unet.engine.click_teaching import adapt_job, liken_job
from napari_unet.engine.device import threads_beside_drawing
from napari_unet.engine.events import ClicksAdapted, JobEvent, PieceDone, TilePredicted
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.segmenter import Segmenter
from napari_unet.model.click import load_click_network
from napari_unet.model.head import Head
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Outline
from napari_unet.ops.errors import InputError
from napari_unet.viewer.planes import ImagePlanes, Index

# Planes whose windows are kept at hand.
_PLANES_KEPT: Final = 6
# Planes on which a click is answered without getting ready first: for each shape of what is looked
# at there is a copy of the network with packed weights, 45 MiB a plane. They are made again in a
# tenth of a second when the plane is shown.
_PLANES_READY: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class UnetAnswer:
    """What is known of the U-Net's answer on a plane.

    Attributes
    ----------
    segmenter
        Has the U-Net.
    is_fine_tuned
        Whether it learned anything here.
    state
        Another number after each change of it.
    probability
        Shape (classes, Y, X): its answer; None if it was not asked.
    """

    segmenter: Segmenter
    is_fine_tuned: bool
    state: int
    probability: NDArray[np.float32] | None = None


#: Learns from the finished objects of a plane.
ObjectsJob = Callable[
    [ImagePlanes, Index, tuple[Outline, ...], threading.Event], Iterator[JobEvent]
]


class PlaneClickers:
    """Clickers of planes, the latest used last, all of which answer with one network.

    Attributes
    ----------
    network
        What was adapted and answers; None for the one that comes with the program.
    likeness
        What tells pixels of finished objects of the image from others; None if it is not known.
    """

    def __init__(self) -> None:
        self.network: UNet | None = None
        self.likeness: Head | None = None
        self._known: OrderedDict[tuple[ImagePlanes, Index], Clicker] = OrderedDict()
        # Which state of the U-Net they know the answer of.
        self._hinted: WeakKeyDictionary[Clicker, int] = WeakKeyDictionary()

    def of(self, planes: ImagePlanes, index: Index) -> Clicker:
        """Return what outlines objects of a plane."""
        key = planes, index
        if next(reversed(self._known), None) == key:
            return self._known[key]
        if key not in self._known:
            # Outlines are drawn while the next window is looked at.
            self._known[key] = Clicker(
                planes.source(index), adapted=self.network, threads=threads_beside_drawing()
            )
            while len(self._known) > _PLANES_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        for other in list(self._known.values())[-_PLANES_READY - 1 : -_PLANES_READY]:
            other.use_network(other.network)  # which lets go of the copies
        return self._known[key]

    def all(self) -> tuple[Clicker, ...]:
        """Return those that are at hand."""
        return tuple(self._known.values())

    def get_ready_job(
        self, planes: ImagePlanes, index: Index, _stop: threading.Event
    ) -> Iterator[JobEvent]:
        """Do what the first click on a plane would have to wait for."""
        with suppress(InputError):  # whoever clicks is told
            self.of(planes, index).get_ready()
        yield from ()

    def hint_job(
        self, planes: ImagePlanes, index: Index, unet: UnetAnswer, stop: threading.Event
    ) -> Iterator[JobEvent]:
        """Let clicks on a plane know what the U-Net says of it, or what is like finished objects.

        Yields
        ------
        PieceDone
            After each tile, so that clicks need not wait for all of them.
        """
        known = unet.probability
        try:
            clicker = self.of(planes, index)
            if self._hinted.get(clicker) != unet.state:
                if known is None and unet.is_fine_tuned:
                    known = yield from _predicted(unet.segmenter, clicker, stop)
                if stop.is_set():
                    return
                clicker.set_hint(None if known is None else 1 - known[0])
                self._hinted[clicker] = unet.state
        except InputError:  # an image that cannot be used, or a U-Net for images of another kind
            return
        likeness = self.likeness
        if unet.is_fine_tuned or likeness is None or clicker.likeness is likeness:
            return
        found = yield from seen_in_job(clicker.image, likeness, stop)
        if found is not None:
            clicker.set_likeness(likeness, found)

    def liken_job(
        self,
        planes: ImagePlanes,
        index: Index,
        outlines: tuple[Outline, ...],
        stop: threading.Event,
    ) -> Iterator[JobEvent]:
        """Learn what is like the objects of a plane, and nothing else."""
        with suppress(InputError):  # whoever clicks is told
            clicker = self.of(planes, index)
            clicker.objects = outlines
            yield from liken_job(clicker, stop)
            self.likeness = clicker.likeness

    def adapt_job(
        self,
        planes: ImagePlanes,
        index: Index,
        outlines: tuple[Outline, ...],
        stop: threading.Event,
    ) -> Iterator[JobEvent]:
        """Adapt the network to the objects of a plane, see `adapt_job`."""
        clicker = self.of(planes, index)
        clicker.objects = outlines
        for event in adapt_job(clicker, stop):
            if isinstance(event, ClicksAdapted):
                self.network = clicker.network if event.used else None
                self.likeness = clicker.likeness
                for other in self._known.values():
                    other.use_network(clicker.network)
            yield event

    def use_network_job(self, network: UNet, _stop: threading.Event) -> Iterator[JobEvent]:
        """Answer with a network that was adapted earlier."""
        self.network = network
        for clicker in self._known.values():
            clicker.use_network(network)
        yield from ()

    def forget_network_job(self, _stop: threading.Event) -> Iterator[JobEvent]:
        """Answer with the network that comes with the program again."""
        self.network = self.likeness = None
        for clicker in self._known.values():  # they still know what the U-Net says
            clicker.objects = ()
            clicker.set_likeness(None, None)
            clicker.use_network(load_click_network())
        yield from ()

    def forget_planes(self) -> None:
        """Let go of the planes of an image that is clicked on no longer, while no job runs."""
        self._known.clear()
        self.likeness = None

    def forget_planes_job(self, _stop: threading.Event) -> Iterator[JobEvent]:
        """Let go of the planes of an image that is clicked on no longer."""
        self.forget_planes()
        yield from ()


def _predicted(
    segmenter: Segmenter, clicker: Clicker, stop: threading.Event
) -> Generator[JobEvent, None, NDArray[np.float32] | None]:
    """Ask the U-Net about a whole plane; None if it was stopped."""
    found: NDArray[np.float32] | None = None
    for event in segmenter.predict_job(PredictRequest(clicker.image), stop):
        if isinstance(event, TilePredicted):
            if found is None:
                found = np.full((len(event.probability), *clicker.image.shape), 0.5, np.float32)
            found[:, *event.inner] = event.probability
            yield PieceDone()
    return found
