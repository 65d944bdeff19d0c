"""What answers clicks on the planes of an image; all of it belongs to the worker thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from napari_unet.engine.click import Clicker
from napari_unet.engine.events import ClicksAdapted, JobEvent
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.planes import ImagePlanes, Index

# Planes whose windows are kept at hand.
_PLANES_KEPT: Final = 6


class PlaneClickers:
    """Clickers of planes, the latest used last, all of which answer with one network.

    Attributes
    ----------
    network
        What was adapted and answers; None for the one that comes with the program.
    """

    def __init__(self) -> None:
        self.network: UNet | None = None
        self._known: OrderedDict[tuple[ImagePlanes, Index], Clicker] = OrderedDict()

    def of(self, planes: ImagePlanes, index: Index) -> Clicker:
        """Return what outlines objects of a plane."""
        key = planes, index
        if key not in self._known:
            self._known[key] = Clicker(planes.source(index), adapted=self.network)
            while len(self._known) > _PLANES_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def all(self) -> tuple[Clicker, ...]:
        """Return those that are at hand."""
        return tuple(self._known.values())

    def adapt_job(
        self,
        planes: ImagePlanes,
        index: Index,
        outlines: tuple[Outline, ...],
        stop: threading.Event,
    ) -> Iterator[JobEvent]:
        """Adapt the network to the objects of a plane, see `Clicker.adapt_job`."""
        clicker = self.of(planes, index)
        clicker.objects = outlines
        for event in clicker.adapt_job(stop):
            if isinstance(event, ClicksAdapted):
                self.network = clicker.network if event.used else None
                for other in self._known.values():
                    other.use_network(clicker.network)
            yield event

    def forget_network_job(self, _stop: threading.Event) -> Iterator[JobEvent]:
        """Answer with the network that comes with the program again."""
        self.network = None
        self._known.clear()
        yield from ()

    def forget_planes_job(self, _stop: threading.Event) -> Iterator[JobEvent]:
        """Let go of the planes of an image that is clicked on no longer."""
        self._known.clear()
        yield from ()
