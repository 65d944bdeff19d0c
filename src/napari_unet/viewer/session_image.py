"""The image that a session works on: the plane that is shown, the channels a model sees of it."""

from __future__ import annotations

import weakref
from typing import Any

from napari.layers import Image
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import QSignalDebouncer

from napari_unet.engine.image import SourceImage
from napari_unet.ops.tiling import Box
from napari_unet.viewer.annotated_layers import AnnotatedLayers
from napari_unet.viewer.channel_choices import ChannelChoices
from napari_unet.viewer.channels import ChannelChoice
from napari_unet.viewer.channels_last import bring_channels_first, has_channels_last
from napari_unet.viewer.layers import describe_image, result_role
from napari_unet.viewer.model_fit import why_unfitting
from napari_unet.viewer.planes import ImagePlanes, Index, planes_of, why_not_usable
from napari_unet.viewer.result_layers import ResultLayers

# A slider runs through many planes; what is asked of a plane is asked when it rests this long.
_PLANE_PAUSE_MS = 150


class SessionImage(QObject):
    """The image that the user chose, as long as it is in the viewer.

    Parameters
    ----------
    viewer
        The viewer; held weakly.

    Attributes
    ----------
    image
        The layer; None if there is none.
    planes
        The planes of the image; None if there is no usable one.
    plane
        Which of them is shown and worked on; () if there is but one.
    source
        That plane as the engine takes it; None if there is no usable one.
    results
        The result layers of the image.
    annotated
        All images that were painted on.
    channels
        What the network is shown of each image.
    """

    #: (bool): the image will be another one (True) or none: jobs on it must end.
    leaving = Signal(bool)
    #: The image is another one, or what is known of it changed.
    changed = Signal()
    #: (str): the image went away; its name.
    image_lost = Signal(str)
    #: Another array was put into the image layer.
    image_replaced = Signal()
    #: There is another image that can be used, or another plane of it.
    image_chosen = Signal()
    #: Another plane is shown; jobs on the image go on.
    plane_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self.image: Image | None = None
        self.planes: ImagePlanes | None = None
        self.plane: Index = ()
        self.source: SourceImage | None = None
        self.results: ResultLayers | None = None
        # Of all images that were chosen: each of their layers takes some ten MiB in a window, so an
        # image that is chosen again goes on with those that it has.
        self._results: dict[Image, ResultLayers] = {}
        self.annotated = AnnotatedLayers(viewer)
        self.channels = ChannelChoices(viewer)
        self._plane_pause = QSignalDebouncer(parent=self)
        self._plane_pause.setTimeout(_PLANE_PAUSE_MS)
        self._plane_pause.triggered.connect(self._on_plane_settled)
        # Files with several channels come as several layers, one after the other.
        self._refitting = QTimer(self)
        self._refitting.setSingleShot(True)
        self._refitting.timeout.connect(self.refit)
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        for event in (viewer.dims.events.current_step, viewer.dims.events.order):
            event.connect(self._on_dims_moved)

    # ------------------------------------------------------------------ the image

    def set_image(self, layer: Image | None) -> None:
        """Choose the image."""
        layer = unwrap(layer)
        if layer is self.image and layer is not None:
            return
        self.leaving.emit(layer is not None)
        if self.image is not None:
            self.image.events.data.disconnect(self._on_image_changed)
        self._plane_pause.cancel()
        self.image = layer
        self.planes, self.source, self.results, self.plane = None, None, None, ()
        if layer is not None and has_channels_last(layer):
            bring_channels_first(layer)
            show_info(f"The last axis of '{layer.name}' holds channels; it was moved to the front.")
        usable = layer is not None and why_not_usable(layer) is None
        if layer is not None:
            layer.events.data.connect(self._on_image_changed)
        if layer is not None and usable:
            self._take_planes(layer)
            self._take_results(layer)
            self._go_to_plane(self._shown_plane() or self._first_plane())
        self._on_image_set()
        self.changed.emit()
        if usable:
            self.image_chosen.emit()

    def _take_planes(self, layer: Image) -> None:
        known, choice = self.annotated.planes_of(layer), self.channels.of(layer)
        fits = known is not None and known.choice == choice
        self.planes = known if fits else planes_of(layer, choice)

    def _take_results(self, layer: Image) -> None:
        """Take the results that there are of an image as it is now, or begin with none."""
        assert self.planes is not None
        known = self._results.get(layer)
        if known is None or not known.planes.is_of(layer):
            known = None
        elif known.planes.layer_shape != self.planes.layer_shape:
            known.forget_prediction()
            known = None
        if known is None:
            known = self._results[layer] = ResultLayers(self._viewer(), layer, self.planes)
        known.planes, self.results = self.planes, known

    def has_image(self) -> bool:
        """Whether there is an image, and it is in the viewer."""
        viewer = self._viewer()
        return viewer is not None and self.image is not None and self.image in viewer.layers

    def describe(self) -> str:
        """Name the image, its plane and its size, or say why it cannot be used."""
        if self.image is None or self.planes is None:
            return why_not_usable(self.image) or ""
        return describe_image(self.image, self.planes, self.plane)

    def _on_image_set(self) -> None:
        """Do what is to be done when another image was chosen."""

    def _on_refitted(self) -> None:
        """Do what is to be done when the image has other channels."""

    def _on_image_changed(self) -> None:
        """Another array was put into the image layer."""
        layer = self.image
        self.image_replaced.emit()
        self.set_image(None)
        self.set_image(layer)

    def _on_layer_removed(self, event: Any) -> None:
        layer, name = event.value, str(event.value.name)
        self.channels.forget(layer)
        self._results.pop(layer, None)
        if layer is self.image:
            self.image_lost.emit(name)
            self.set_image(None)
        else:
            self._refitting.start(0)

    def _on_layer_inserted(self, event: Any) -> None:
        if isinstance(event.value, Image) and result_role(event.value) is None:
            self._refitting.start(0)

    # ------------------------------------------------------------------ channels

    def choose_channels(self, choice: ChannelChoice | None) -> None:
        """Show a model these channels with the image; None for the usual ones."""
        if self.image is not None:
            self.channels.choose(self.image, choice)
            self.refit()

    def refit(self) -> None:
        """See to it that the image has the channels that the network takes, if it can have them."""
        if self.image is None or self.planes is None:
            return
        if self.channels.may_stay(self.planes):
            if self.channels.takes() is not None:
                self.changed.emit()
            return
        self.leaving.emit(True)
        self._take_planes(self.image)
        self._take_results(self.image)
        self._go_to_plane(self._shown_plane() or self._first_plane())
        self._on_refitted()
        self.changed.emit()

    def why_unfitting(self) -> str | None:
        """Say why the network does not take the image, with the cure; None if it does."""
        kind = self.channels.takes()
        if kind is None or self.planes is None:
            return None
        return why_unfitting(kind, self.planes, len(self.channels.candidates(self.planes)))

    # ------------------------------------------------------------------ planes

    def _first_plane(self) -> Index:
        return () if self.planes is None else (0,) * (len(self.planes.shape) - 2)

    def _shown_plane(self) -> Index | None:
        """Return the plane that the viewer shows; None if it is not one of the image."""
        viewer = self._viewer()
        if viewer is None or self.planes is None:
            return None
        plane, _ = self.planes.place(viewer.dims.point)
        return plane if self.planes.contains(plane) else None

    def _go_to_plane(self, plane: Index) -> None:
        if self.planes is not None and self.results is not None:
            self.plane = self.results.plane = plane
            self.source = self.planes.source(plane)

    def _on_dims_moved(self, _event: Any = None) -> None:
        plane = self._shown_plane()
        if plane is None or plane == self.plane:
            return
        self._on_plane_left()
        self._go_to_plane(plane)
        self._on_plane_shown()
        self.plane_changed.emit()
        self._plane_pause.throttle()

    def _on_plane_left(self) -> None:
        """Do what is to be done before another plane is shown."""

    def _on_plane_shown(self) -> None:
        """Do what is to be done when another plane is shown."""

    def _on_plane_settled(self) -> None:
        if self.source is not None:
            self.changed.emit()
            self.image_chosen.emit()

    def visible(self) -> Box | None:
        """Return rows and columns that are on screen; None if they are not shown as a plane."""
        viewer = self._viewer()
        if viewer is None or self.planes is None or why_no_planes_shown(viewer) is not None:
            return None
        return self.planes.visible_box()

    def _show_plane(self, plane: Index) -> None:
        """Move the viewer's sliders to a plane of the image."""
        viewer, planes = self._viewer(), self.planes
        if viewer is None or planes is None:
            return
        at, first = planes.world(plane), viewer.dims.ndim - planes.layer.ndim
        for axis in planes.axes[:-2]:
            viewer.dims.set_point(first + axis, float(at[axis - planes.layer.ndim]))

    def _let_go(self) -> None:
        """Listen to the viewer no more."""
        self._refitting.stop()
        self._results.clear()
        if (viewer := self._viewer()) is not None:
            viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
            viewer.layers.events.removed.disconnect(self._on_layer_removed)
            viewer.dims.events.current_step.disconnect(self._on_dims_moved)
            viewer.dims.events.order.disconnect(self._on_dims_moved)


def why_no_planes_shown(viewer: Any) -> str | None:
    """Say why the viewer does not show rows and columns, with the cure; None if it does."""
    if viewer.dims.ndisplay != 2:
        return "Switch to the 2D view first (the button at the lower left): planes are shown."
    if tuple(viewer.dims.displayed) != tuple(range(viewer.dims.ndim))[-2:]:
        return "Show rows and columns first: press the Home and Roll buttons until they are."
    return None


def unwrap(thing: Any) -> Any:
    """Return the layer or viewer behind the proxy that napari hands to plugins."""
    return getattr(thing, "__wrapped__", thing)
