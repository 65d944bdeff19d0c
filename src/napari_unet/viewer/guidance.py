"""Where to paint next: asks for regions, and moves the view to one after the other."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_unet.engine.events import JobEvent, PredictionFinished, RegionsSuggested
from napari_unet.engine.guidance import suggest_job
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.session_layers import SessionLayers

# A region fills this share of the canvas: enough to see what lies around it.
_SHARE_OF_CANVAS = 0.4


class Guidance(QObject):
    """The regions of the image where strokes are expected to help most.

    Parameters
    ----------
    viewer
        The viewer; held weakly.
    lane
        The thread that computes.
    layers
        The image, its annotations and its prediction.

    Attributes
    ----------
    suggested
        The latest answer; None before there is one.
    current
        Number of the region that was visited last; None before the first.
    """

    #: Another answer, or another region is visited.
    changed = Signal()

    def __init__(self, viewer: Any, lane: JobLane, layers: SessionLayers) -> None:
        super().__init__(lane)
        self._viewer = weakref.ref(viewer)
        self._lane = lane
        self._layers = layers
        self._ticket: JobTicket | None = None
        self._visit_when_found = False
        self.suggested: RegionsSuggested | None = None
        self.current: int | None = None
        lane.told.connect(self._on_event)
        layers.leaving.connect(self.forget)
        layers.plane_changed.connect(self.forget)

    def why_not(self) -> str | None:
        """Say why nothing can be suggested, with the cure; None if it can."""
        results = self._layers.results
        if results is None or results.predicted is None or not results.predicted.any():
            return "Predict first: what is uncertain is known only then."
        return None

    def next(self) -> None:
        """Move the view to the next region; after the last one comes the first."""
        if self.why_not() is not None:
            return
        if self.suggested is None or not self.suggested.regions:
            self._visit_when_found = True
            self.refresh()
            return
        count = len(self.suggested.regions)
        self.visit(0 if self.current is None else (self.current + 1) % count)

    def visit(self, number: int) -> None:
        """Move the view to a region, and show a bit of what lies around it."""
        viewer, planes = self._viewer(), self._layers.planes
        if self.suggested is None or viewer is None or planes is None:
            return
        box = self.suggested.regions[number].box
        first, last = (box[0].start, box[1].start), (box[0].stop, box[1].stop)
        world = np.array([planes.world(self._layers.plane, at)[-2:] for at in (first, last)])
        camera = viewer.scene.camera
        camera.center = tuple(world.mean(axis=0))
        side = float(np.abs(world[1] - world[0]).max())
        camera.zoom = _SHARE_OF_CANVAS * min(viewer.canvas.size) / max(side, 1e-9)
        self.current = number
        self.changed.emit()

    def refresh(self) -> None:
        """Look for regions anew."""
        results, strokes = self._layers.results, self._layers.strokes()
        if results is None or results.probability is None or results.predicted is None:
            return
        if strokes is None or strokes.shape != results.shape:
            strokes = np.zeros(results.shape, np.uint8)
        probability = np.where(results.predicted, results.probability, np.nan)
        self._ticket = self._lane.submit(
            lambda stop: suggest_job(probability, strokes),
            name="Where to paint next",
            priority=Priority.PREVIEW,
            replaces="guidance",
        )

    def forget(self) -> None:
        """Forget the regions: the image will be another one."""
        self._ticket, self._visit_when_found = None, False
        self.suggested = self.current = None
        self.changed.emit()

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if isinstance(event, PredictionFinished) and not event.stopped and self.suggested:
            self.refresh()
        elif ticket == self._ticket and isinstance(event, RegionsSuggested):
            self.suggested, self.current = event, None
            self.changed.emit()
            if self._visit_when_found:
                self._visit_when_found = False
                self.next()
