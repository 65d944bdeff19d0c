"""Which layers a session works on: the image and a plane of it, the strokes on it, its results."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import QSignalDebouncer, QSignalThrottler

from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.ops.annotations import BACKGROUND, annotated_box
from napari_unet.ops.clicks import OBJECT, objects_as_strokes
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box
from napari_unet.viewer.annotated_layers import AnnotatedLayers
from napari_unet.viewer.layers import annotation_colormap, describe_image
from napari_unet.viewer.planes import ImagePlanes, Index, planes_of, why_not_usable
from napari_unet.viewer.result_layers import ResultLayers
from napari_unet.viewer.stroke_planes import StrokePlanes

# The first dab is taken in at once; those that follow within this time are taken in together.
_STROKE_PAUSE_MS = 200
# A slider runs through many planes; what is asked of a plane is asked when it rests this long.
_PLANE_PAUSE_MS = 150
# Pixels around a border that may come out otherwise after it was drawn.
_AROUND_BORDER = 32
#: As many classes as have colours that can be told apart.
MOST_CLASSES = 9


class SessionLayers(QObject):
    """The image and the annotations that the user chose, as long as they are in the viewer.

    Parameters
    ----------
    viewer
        The viewer; held weakly.

    Attributes
    ----------
    image, annotations
        The layers; None if there is none.
    planes
        The planes of the image; None if there is no usable one.
    plane
        Which of them is shown and worked on; () if there is but one.
    source
        That plane as the engine takes it; None if there is no usable one.
    results
        The result layers of the image.
    painted
        The labels that were painted on the plane, 0 excepted.
    annotated
        All images that were painted on, this one among them.
    """

    #: The image will be another one, or none: jobs on it must end now.
    leaving = Signal()
    #: Image or annotations are other ones, or their labels changed.
    changed = Signal()
    #: Strokes were painted, erased or undone; comes at once, and then once for several quick ones.
    painting_paused = Signal()
    #: (str): a layer in use went away; its name.
    image_lost = Signal(str)
    annotations_lost = Signal(str)
    #: Another array was put into the image layer.
    image_replaced = Signal()
    #: (row slice, column slice): a border was drawn between objects; where.
    border_drawn = Signal(object)
    #: There is another image that can be used, or another plane of it.
    image_chosen = Signal()
    #: Another plane is shown; jobs on the image go on.
    plane_changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self.image: Image | None = None
        self.annotations: Labels | None = None
        self.planes: ImagePlanes | None = None
        self.plane: Index = ()
        self.source: SourceImage | None = None
        self.results: ResultLayers | None = None
        self._strokes: StrokePlanes | None = None
        self.painted: set[int] = set()
        self.annotated = AnnotatedLayers(viewer)
        # An image and its finished objects, which count as strokes on it.
        self._taught: tuple[Image, Labels] | None = None
        # What was painted when a border began to be drawn; None while ordinary strokes are.
        self._before_border: NDArray[Any] | None = None
        self._stroke_pause = QSignalThrottler(parent=self)
        self._stroke_pause.setTimeout(_STROKE_PAUSE_MS)
        self._stroke_pause.triggered.connect(self.look_at_strokes)
        # napari tells of some changes just before it writes them.
        self._written = QTimer(self)
        self._written.setSingleShot(True)
        self._written.timeout.connect(self._stroke_pause.throttle)
        # Whether strokes were painted that were not looked at yet.
        self._is_painting = False
        self._plane_pause = QSignalDebouncer(parent=self)
        self._plane_pause.setTimeout(_PLANE_PAUSE_MS)
        self._plane_pause.triggered.connect(self._on_plane_settled)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        for event in (viewer.dims.events.current_step, viewer.dims.events.order):
            event.connect(self._on_dims_moved)

    def set_image(self, layer: Image | None) -> None:
        """Choose the image."""
        layer = unwrap(layer)
        if layer is self.image and layer is not None:
            return
        self.leaving.emit()
        if self.image is not None:
            self.image.events.data.disconnect(self._on_image_changed)
        self._plane_pause.cancel()
        self.image = layer
        self.planes, self.source, self.results, self.plane = None, None, None, ()
        usable = layer is not None and why_not_usable(layer) is None
        if layer is not None:
            layer.events.data.connect(self._on_image_changed)
        if layer is not None and usable:
            self.planes = self.annotated.planes_of(layer) or planes_of(layer)
            self.results = ResultLayers(self._viewer(), layer, self.planes)
            self._go_to_plane(self._shown_plane() or (0,) * (len(self.planes.shape) - 2))
        self._take_up_annotations()
        self.changed.emit()
        if usable:
            self.image_chosen.emit()

    def _take_up_annotations(self) -> None:
        """Paint on the layer that the image was painted on before; on none of another image."""
        known = self.annotated.annotations_of(self.image)
        owner = self.annotated.image_of(self.annotations)
        if known is not None or (owner is not None and owner is not self.image):
            self.set_annotations(known)

    # ------------------------------------------------------------------ planes

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
        self.catch_up()  # with strokes on the plane that is left
        self._go_to_plane(plane)
        if self.draws_borders:
            self._before_border = self.strokes()
        self._look()
        self.plane_changed.emit()
        self._plane_pause.throttle()

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

    def describe(self) -> str:
        """Name the image, its plane and its size, or say why it cannot be used."""
        if self.image is None or self.planes is None:
            return why_not_usable(self.image) or ""
        return describe_image(self.image, self.planes, self.plane)

    def go_to(self, layer: Image, plane: Index = ()) -> None:
        """Choose an image and show it, with its results, in place of the one that was chosen."""
        viewer = self._viewer()
        if viewer is None or layer not in viewer.layers:
            return
        if layer is not self.image:
            self._show_instead(viewer, layer)
        if self.planes is not None and plane:
            first = viewer.dims.ndim - len(self.planes.shape)
            at = self.planes.world(plane)
            for axis, value in enumerate(at[-len(self.planes.shape) : -2]):
                viewer.dims.set_point(first + axis, float(value))

    def _show_instead(self, viewer: Any, layer: Image) -> None:
        before = [self.image, self.annotations, *(self.results.layers() if self.results else [])]
        for shown in before:
            if shown is not None:
                shown.visible = False
        self.set_image(layer)
        for hidden in (layer, self.annotations):
            if hidden is not None:
                hidden.visible = True
        if self.annotations is not None:
            viewer.layers.selection.active = self.annotations

    def set_annotations(self, layer: Labels | None) -> None:
        """Choose the layer that strokes are read from."""
        layer = unwrap(layer)
        if layer is self.annotations:
            return
        if self.annotations is not None:
            self.annotations.events.paint.disconnect(self._on_painted)
            self.annotations.events.set_data.disconnect(self._on_painted)
        self.annotations = layer
        self._before_border = None
        known = self.annotated.strokes_of(layer)
        self._strokes = None if layer is None else known or StrokePlanes(layer)
        if layer is not None:
            layer.events.paint.connect(self._on_painted)
            layer.events.set_data.connect(self._on_painted)  # undo and redo come this way
        self.look_at_strokes()

    def add_annotations(self) -> Labels:
        """Add an empty layer to paint on over the image, ready to paint background.

        Raises
        ------
        InputError
            If there is no image that can be used.
        """
        reason = why_not_usable(self.image)
        viewer = self._viewer()
        if reason is not None or self.image is None or self.planes is None or viewer is None:
            raise InputError(reason or "choose an image first")
        layer = Labels(
            np.zeros(self.planes.shape, np.uint8),
            name=f"{self.image.name}: annotations",
            colormap=annotation_colormap(MOST_CLASSES),
            opacity=0.8,
            **self.planes.placement(),
        )
        viewer.add_layer(layer)
        viewer.layers.selection.active = layer
        layer.brush_size = 8
        layer.selected_label = 1
        layer.mode = "paint"
        self.set_annotations(layer)
        return layer

    @property
    def draws_borders(self) -> bool:
        """Whether the brush parts objects."""
        return self._before_border is not None

    def draw_borders(self, wanted: bool) -> None:
        """Let what is painted from now on part objects, or be ordinary strokes again."""
        if wanted and self.strokes_fit():
            self._before_border = self.strokes()
        elif not wanted:
            self._before_border = None
        self.changed.emit()

    def why_no_borders(self) -> str | None:
        """Say why no border can be drawn, with the cure; None if one can."""
        if not self.strokes_fit():
            return "Paint a few strokes first."
        predicted = self.results is not None and self.results.predicted is not None
        return None if predicted else "Predict first: what came out as one is known only then."

    def borders(self) -> NDArray[np.bool_] | None:
        """Return the pixels of the image that were drawn to part objects; None without any."""
        fit = self.strokes_fit()
        return self.annotated.borders_of(self.annotations, self.plane) if fit else None

    def _take_in_border(self) -> None:
        now, before = self.strokes(), self._before_border
        if now is None or before is None or now.shape != before.shape:
            return
        drawn = (now == BACKGROUND) & (before != BACKGROUND)
        self._before_border = now
        if self.annotations is not None and (box := annotated_box(drawn, _AROUND_BORDER)):
            self.annotated.add_border(self.annotations, drawn, self.plane)
            self.border_drawn.emit(box)

    def strokes(self) -> NDArray[Any] | None:
        """Return a copy of the annotations of the plane as they are now; None if none fit."""
        if self.annotations is None or not self.strokes_fit():
            return None
        return np.array(self.annotations.data[self.plane])

    def strokes_fit(self) -> bool:
        """Whether there is an annotation layer, as large as the image."""
        if self.annotations is None or self.planes is None:
            return False
        return tuple(self.annotations.data.shape) == self.planes.shape

    def others(self) -> tuple[AnnotatedImage, ...]:
        """Return copies of the strokes on other images, and on other planes of this one."""
        return self.annotated.others(self.image, self.plane)

    def painted_elsewhere(self) -> set[int]:
        """Return the labels that are painted on other images, and other planes of this one."""
        return self.annotated.painted_elsewhere(self.image, self.plane)

    def fitting_strokes(self) -> NDArray[Any]:
        """Return a copy of the annotations of the image; all 0 if there are none.

        Raises
        ------
        InputError
            If there is no image that can be used.
        """
        if self.source is None:
            raise InputError("choose an image first")
        strokes = self.strokes()
        if strokes is None:
            strokes = np.zeros(self.source.shape, np.uint8)
        objects = self._teaching_objects()
        return (
            strokes if objects is None else np.where(strokes, strokes, objects_as_strokes(objects))
        )

    def teach_with(self, image: Image | None, objects: Labels | None) -> None:
        """Let the finished objects of an image count as strokes on it; None for none."""
        self._taught = None if image is None or objects is None else (image, objects)
        self.changed.emit()

    def _teaching_objects(self) -> NDArray[Any] | None:
        """Return the finished objects that count as strokes on the image; None without any."""
        if self._taught is None or self.planes is None or self._taught[0] is not self.image:
            return None
        layer = self._taught[1]
        if tuple(layer.data.shape) != self.planes.shape:
            return None
        objects = np.asarray(layer.data[self.plane])
        return objects if objects.any() else None

    @property
    def present(self) -> set[int]:
        """The labels that can be learned from on the image: painted, or of finished objects."""
        painted = self.painted if self.strokes_fit() else set()
        return painted if self._teaching_objects() is None else painted | {BACKGROUND, OBJECT}

    def has_image(self) -> bool:
        """Whether there is an image, and it is in the viewer."""
        viewer = self._viewer()
        return viewer is not None and self.image is not None and self.image in viewer.layers

    def why_no_strokes(self, classes: int) -> str | None:
        """Say why there is nothing to learn from, with the cure; None if there is.

        Parameters
        ----------
        classes
            How many classes there are.
        """
        elsewhere = self.painted_elsewhere()
        taught = self._teaching_objects() is not None
        if self.image is None or (self.annotations is None and not elsewhere and not taught):
            return "Add an annotation layer and paint on it first."
        if self.annotations is not None and not self.strokes_fit():
            shape = tuple(self.annotations.data.shape)
            wanted = () if self.planes is None else self.planes.shape
            return (
                f"'{self.annotations.name}' has shape {shape}, the image {wanted}; "
                "add a new annotation layer."
            )
        painted = self.present | elsewhere
        if painted and max(painted) > classes:
            return f"Label {max(painted)} is painted; raise the number of classes to it."
        if len(painted) < 2:
            missing = "one more class" if painted else "two classes"
            return f"Paint a few strokes of {missing} first."
        return None

    def show_uncertainty(self, shown: bool) -> None:
        """Show or hide where the prediction is uncertain."""
        if self.results is not None and shown:
            self.results.show_uncertainty()
        elif self.results is not None:
            self.results.remove_uncertainty()

    def look_at_strokes(self) -> None:
        """Take in what is painted now; called by itself after strokes."""
        self._is_painting = False
        self._written.stop()
        self._stroke_pause.cancel()
        if self._strokes is not None and self.strokes_fit():
            self._strokes.look_again(self.plane)
        self._look()
        if self.image is not None and self.planes is not None and self._strokes is not None:
            known = self.annotated.annotations_of(self.image) is self.annotations
            if self.strokes_fit() and (self._strokes.look() or known):
                self.annotated.remember(self.image, self.planes, self.plane, self._strokes)
        if self.draws_borders:
            self._take_in_border()
        self.painting_paused.emit()
        self.changed.emit()

    def catch_up(self) -> None:
        """Take in strokes that were painted or undone a moment ago, before they are asked about."""
        if self._is_painting:
            self.look_at_strokes()

    def _look(self) -> None:
        known = self._strokes.look() if self._strokes is not None and self.strokes_fit() else {}
        self.painted = known.get(self.plane, set())

    def rest(self) -> None:
        """Cancel what is still to be taken in."""
        self._written.stop()
        self._stroke_pause.cancel()
        self._plane_pause.cancel()

    def close(self) -> None:
        """Let go of all layers."""
        self.rest()
        if (viewer := self._viewer()) is not None:
            viewer.layers.events.removed.disconnect(self._on_layer_removed)
            viewer.dims.events.current_step.disconnect(self._on_dims_moved)
            viewer.dims.events.order.disconnect(self._on_dims_moved)
        self.set_annotations(None)
        self.set_image(None)
        self.annotated.close()

    def _on_painted(self) -> None:
        self._is_painting = True
        self._written.start(0)

    def _on_layer_removed(self, event: Any) -> None:
        layer, name = event.value, str(event.value.name)
        if layer is self.image:
            self.image_lost.emit(name)
            self.set_image(None)
        elif layer is self.annotations:
            self.annotations_lost.emit(name)
            self.set_annotations(None)

    def _on_image_changed(self) -> None:
        """Another array was put into the image layer."""
        layer = self.image
        self.image_replaced.emit()
        self.set_image(None)
        self.set_image(layer)


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
