"""What is clicked on: an image layer, the layer of its finished objects, and the plane shown."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Signal

from napari_unet.ops.clicks import Outline
from napari_unet.ops.tiling import Box
from napari_unet.viewer.clicking.objects import ObjectsLayer, drawn_path
from napari_unet.viewer.clicking.preview import Preview, moved
from napari_unet.viewer.planes import ImagePlanes, Index, why_not_usable

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController

#: Row and column, in pixels of the image.
Place = tuple[float, float]


class ClickScene(QObject):
    """The layers that are clicked in.

    Parameters
    ----------
    controller
        The viewer's session; held weakly.

    Attributes
    ----------
    image
        The image layer; None if there is none.
    planes
        Its planes; None if there is none that can be clicked on.
    objects
        The finished objects; None before there is a layer for them.
    preview
        What is seen of an object that is not finished; None without image.
    """

    #: The image, or the layer of objects, will be another one, or none.
    image_leaving = Signal()
    objects_leaving = Signal()
    #: There is another image, or none.
    image_changed = Signal()
    #: There is another layer of objects, or none.
    objects_replaced = Signal()
    #: Objects were undone or redone.
    objects_edited = Signal()
    #: Another plane is shown, or the same in another way.
    plane_changed = Signal()

    def __init__(self, controller: SegmentationController) -> None:
        super().__init__()
        self._controller = weakref.ref(controller)
        self.image: Image | None = None
        self.planes: ImagePlanes | None = None
        self.objects: ObjectsLayer | None = None
        self.preview: Preview | None = None
        # Where finished objects of images were kept last, for when one comes back to an image.
        self._kept_in: weakref.WeakKeyDictionary[Image, Labels] = weakref.WeakKeyDictionary()
        # The plane that is shown, and why nothing can be clicked on there.
        self._seen: tuple[Index | None, str | None] | None = None
        viewer = controller.viewer
        viewer.layers.events.removed.connect(self._on_layer_removed)
        dims = viewer.dims.events
        for event in (dims.current_step, dims.ndisplay, dims.order):
            event.connect(self._on_plane_changed)

    @property
    def viewer(self) -> Any:
        """The viewer; None if it is gone."""
        controller = self._controller()
        return None if controller is None else controller.viewer

    # ------------------------------------------------------------------ layers

    def set_image(self, layer: Image | None) -> None:
        """Choose the image, with its finished objects; those of another one stay in their layer."""
        if layer is self.image:
            return
        self.image_leaving.emit()
        if self.image is not None:
            self.image.events.data.disconnect(self._on_image_replaced)
        self.image, self.planes = layer, None
        self._watch(None)
        if layer is not None and why_not_usable(layer) is None:
            layer.events.data.connect(self._on_image_replaced)
            self.planes = ImagePlanes(layer)
        self.preview = moved(self.preview, self.viewer, self.planes)
        if layer is not None and self.planes is not None:
            self._watch(self._objects_before(layer))
        self.image_changed.emit()

    def _objects_before(self, image: Image) -> ObjectsLayer | None:
        layer, viewer = self._kept_in.get(image), self.viewer
        if layer is None or viewer is None or layer not in viewer.layers:
            return None
        return ObjectsLayer(layer) if self.why_not_objects(layer) is None else None

    def set_objects(self, layer: Labels | None) -> None:
        """Choose the layer of finished objects; None for a new one when it is needed."""
        if self.objects is not None and self.objects.layer is layer:
            return
        if self.image is not None:
            self._kept_in.pop(self.image, None)
        self.objects_leaving.emit()
        if layer is not None and (reason := self.why_not_objects(layer)) is not None:
            show_warning(reason)
            layer = None
        self._watch(None if layer is None else ObjectsLayer(layer))
        self.objects_replaced.emit()

    def need_objects(self) -> ObjectsLayer | None:
        """Return the layer of finished objects, a new one if there is none; None without image."""
        viewer = self.viewer
        if self.image is None or self.planes is None or viewer is None:
            return None
        if self.objects is None:
            objects = ObjectsLayer.for_image(self.image)
            self._watch(objects)
            viewer.add_layer(objects.layer)
            self.objects_replaced.emit()
        return self.objects

    def _watch(self, objects: ObjectsLayer | None) -> None:
        """Keep finished objects in a layer, and hear when they are undone or replaced."""
        if self.objects is not None:
            self.objects.layer.events.set_data.disconnect(self._on_objects_edited)
        self.objects = objects
        if objects is not None and self.image is not None:
            self._kept_in[self.image] = objects.layer
            objects.layer.events.set_data.connect(self._on_objects_edited)

    def _on_objects_edited(self, _event: Any = None) -> None:
        """Objects were undone or redone, or another array was put into their layer."""
        if self.objects is None or self.planes is None:
            return
        if tuple(self.objects.layer.data.shape) != self.planes.shape:
            self._lose_objects()
        else:
            self.objects_edited.emit()

    def _lose_objects(self) -> None:
        self.objects_leaving.emit()
        self._watch(None)
        self.objects_replaced.emit()

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self.image:
            self.set_image(None)
        elif self.objects is not None and event.value is self.objects.layer:
            self._lose_objects()

    def _on_image_replaced(self, _event: Any = None) -> None:
        """Another array was put into the image layer: nothing in hand fits it any more."""
        layer = self.image
        self.set_image(None)
        self.set_image(layer)

    # ------------------------------------------------------------------ what can be done

    def why_not_objects(self, layer: Labels) -> str | None:
        """Say why objects cannot be kept in a layer, with the cure; None if they can."""
        if self.planes is None:
            return why_not_usable(self.image)
        if tuple(layer.data.shape) != self.planes.shape:
            return (
                f"'{layer.name}' has shape {tuple(layer.data.shape)}, the image "
                f"{self.planes.shape}; choose a layer of the image's shape, or a new one."
            )
        if not isinstance(layer.data, np.ndarray):
            return f"'{layer.name}' is not in memory and cannot be written; choose a new layer."
        return None

    def why_not_click(self) -> str | None:
        """Say why nothing can be clicked on, with the cure; None if it can."""
        viewer = self.viewer
        if (reason := why_not_usable(self.image)) is not None:
            return reason
        if viewer is not None and viewer.dims.ndisplay != 2:
            return "Switch to the 2D view first (the button at the lower left): planes are shown."
        if viewer is not None and self.planes is not None:
            last = tuple(range(viewer.dims.ndim))[-2:]
            if tuple(viewer.dims.displayed) != last:
                return (
                    "Show rows and columns first: press the Home and Roll buttons until they are."
                )
        return None

    # ------------------------------------------------------------------ places

    @property
    def index(self) -> Index | None:
        """The plane that is shown; None if it is not one of the image."""
        viewer = self.viewer
        if self.planes is None or viewer is None:
            return None
        index, _ = self.planes.place(viewer.dims.point)
        return index if self.planes.contains(index) else None

    @property
    def is_stack(self) -> bool:
        """Whether the image has several planes."""
        return self.planes is not None and self.planes.is_stack

    def place(self, world: Any) -> tuple[Index, Place] | None:
        """Return plane, row and column of a place in the world; None if it is not on the image."""
        if self.planes is None:
            return None
        index, at = self.planes.place(world)
        return (index, at) if self.planes.contains(index, at) else None

    def nearest(self, world: Any) -> Place:
        """Return row and column on the image that are nearest to a place in the world."""
        if self.planes is None:
            return 0.0, 0.0
        _, at = self.planes.place(world)
        rows, columns = self.planes.shape[-2:]
        return min(max(at[0], 0.0), rows - 1.0), min(max(at[1], 0.0), columns - 1.0)

    def show_box(self, index: Index, box: Box) -> None:
        """Show a box while it is drawn."""
        if self.preview is not None:
            sides = tuple(span.stop - span.start for span in box)
            self.preview.show_outline(index, Outline(box, np.ones(sides, bool)))

    def show_path(self, index: Index, path: list[Place]) -> None:
        """Show a line while it is drawn."""
        if self.preview is not None and self.planes is not None:
            rows, columns = self.planes.shape[-2:]
            drawn = Outline.of_mask(drawn_path(path, (rows, columns)))
            self.preview.show_outline(index, drawn)

    def _on_plane_changed(self, _event: Any = None) -> None:
        if self.planes is None or self.preview is None:
            return
        seen = self.index, self.why_not_click()
        if seen != self._seen:
            self._seen = seen
            self.plane_changed.emit()
