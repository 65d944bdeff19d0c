"""The weight map of a labels layer, kept up to date for what is on screen."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QObject, Signal
from superqt.utils import QSignalDebouncer

from napari_unet.engine.events import JobEvent, WeightsComputed
from napari_unet.engine.results import WeightSettings, weights_job
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.overlays import Overlays

# Sliders and the camera move in many small steps; the map follows when they rest this long.
_REST_MS = 80


class WeightLayer(Overlays):
    """The layer that shows the weight map of another one."""

    def show(self, computed: WeightsComputed) -> None:
        """Write a part of the weight map; the contrast follows the largest weight."""
        layer = self._get("weight map")
        if layer is None:
            layer = self._add(
                "weight map",
                Image(
                    np.zeros(self.planes.layer_shape, np.float32),
                    colormap="inferno",
                    opacity=0.8,
                    contrast_limits=(0.0, 1.0),
                ),
            )
        self._pixels(layer)[(*self.plane, *computed.window)] = computed.weights
        top = max(float(computed.weights.max(initial=0)), 1e-3)
        if not np.isclose(layer.contrast_limits[1], top):
            layer.contrast_limits_range = (0.0, top)
            layer.contrast_limits = (0.0, top)
        self._refresh(layer)

    def remove(self) -> None:
        """Take the weight map away."""
        self._remove("weight map")


class WeightPreview(QObject):
    """Computes the weight map where the user looks, whenever labels, settings or the view change.

    Parameters
    ----------
    viewer
        The viewer.
    lane
        The thread that computes.
    """

    #: (float, float): the smallest and the largest weight on screen.
    computed = Signal(float, float)
    #: (str): why there is no map, with the cure.
    failed = Signal(str)

    def __init__(self, viewer: Any, lane: JobLane) -> None:
        super().__init__(lane)
        self._viewer = viewer
        self._lane = lane
        self._labels: Labels | None = None
        self._settings = WeightSettings()
        self._shown: WeightLayer | None = None
        self._ticket: JobTicket | None = None
        self._rest = QSignalDebouncer(parent=self)
        self._rest.setTimeout(_REST_MS)
        self._rest.triggered.connect(self._compute)
        lane.told.connect(self._on_event)
        lane.failed.connect(self._on_failed)

    @property
    def labels(self) -> Labels | None:
        """The layer whose weight map is shown; None while the preview is off."""
        return self._labels

    def owns(self, ticket: JobTicket) -> bool:
        """Say whether a job computes the map."""
        return ticket == self._ticket

    def show(self, labels: Labels, settings: WeightSettings) -> None:
        """Show the weight map of `labels` from now on, with these settings."""
        self._settings = settings
        if labels is not self._labels:
            self.hide()
            self._labels = labels
            self._shown = WeightLayer(self._viewer, labels)
            for emitter in self._sources(labels):
                emitter.connect(self._on_changed)
        self._rest.throttle()

    def hide(self) -> None:
        """Take the weight map away."""
        self._rest.cancel()
        if self._ticket is not None:
            self._lane.stop(self._ticket, silence=True)
        if self._labels is not None:
            for emitter in self._sources(self._labels):
                emitter.disconnect(self._on_changed)
        if self._shown is not None:
            self._shown.remove()
        self._labels = self._shown = self._ticket = None

    def _sources(self, labels: Labels) -> tuple[Any, ...]:
        camera, dims = self._viewer.scene.camera.events, self._viewer.dims.events
        painted = labels.events.paint, labels.events.set_data
        return *painted, camera.center, camera.zoom, dims.current_step

    def _on_changed(self, _event: Any = None) -> None:
        self._rest.throttle()

    def _compute(self) -> None:
        if self._labels is None or self._shown is None:
            return
        planes = self._shown.planes
        plane, _ = planes.place(self._viewer.dims.point)
        window = planes.visible_box()
        if window is None or not planes.contains(plane):
            return
        self._shown.plane = plane
        labels, settings = np.array(self._labels.data[plane]), self._settings
        self._ticket = self._lane.submit(
            lambda stop: weights_job(labels, settings, window),
            name="Weight map",
            priority=Priority.PREVIEW,
            replaces="weight map",
        )

    def _on_event(self, ticket: JobTicket, event: JobEvent) -> None:
        if ticket == self._ticket and isinstance(event, WeightsComputed) and self._shown:
            if event.window[0].stop > self._shown.shape[0] or self._labels is None:
                return
            self._shown.show(event)
            self.computed.emit(float(event.weights.min()), float(event.weights.max()))

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if ticket == self._ticket:
            self.failed.emit(str(error))
