"""Which layers a session works on: the image and a plane of it, the strokes on it, its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from superqt.utils import QSignalThrottler

from napari_unet.engine.image import AnnotatedImage
from napari_unet.ops.annotations import BACKGROUND
from napari_unet.ops.clicks import OBJECT, objects_as_strokes
from napari_unet.ops.errors import InputError
from napari_unet.viewer.border_strokes import BorderStrokes
from napari_unet.viewer.layers import annotation_colormap
from napari_unet.viewer.planes import Index, why_not_usable
from napari_unet.viewer.session_image import SessionImage, unwrap, why_no_planes_shown
from napari_unet.viewer.stroke_planes import StrokePlanes

__all__ = ["MOST_CLASSES", "SessionLayers", "unwrap", "why_no_planes_shown"]

# The first dab is taken in at once; those that follow within this time are taken in together.
_STROKE_PAUSE_MS = 200
# Pixels that the brush is wide at first. What is to be painted on small images is small, too: of
# those the brush has this share of the shorter side.
_BRUSH = (2, 8)
_BRUSH_SHARE = 1 / 64
#: As many classes as have colours that can be told apart.
MOST_CLASSES = 9


class SessionLayers(SessionImage):
    """The image and the annotations that the user chose, as long as they are in the viewer.

    Parameters
    ----------
    viewer
        The viewer; held weakly.

    Attributes
    ----------
    annotations
        The layer with the strokes; None if there is none.
    borders
        Which of the strokes part objects.
    painted
        The labels that were painted on the plane, 0 excepted.
    """

    #: Strokes were painted, erased or undone; comes at once, and then once for several quick ones.
    painting_paused = Signal()
    #: (str): the annotations went away; their name.
    annotations_lost = Signal(str)

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        self.annotations: Labels | None = None
        self.borders = BorderStrokes(self)
        self._strokes: StrokePlanes | None = None
        self.painted: set[int] = set()
        # An image and its finished objects, which count as strokes on it.
        self._taught: tuple[Image, Labels] | None = None
        self._stroke_pause = QSignalThrottler(parent=self)
        self._stroke_pause.setTimeout(_STROKE_PAUSE_MS)
        self._stroke_pause.triggered.connect(self.look_at_strokes)
        # napari tells of some changes just before it writes them.
        self._written = QTimer(self)
        self._written.setSingleShot(True)
        self._written.timeout.connect(self._stroke_pause.throttle)
        # Whether strokes were painted that were not looked at yet.
        self._is_painting = False

    def _on_image_set(self) -> None:
        """Paint on the layer that the image was painted on before; on none of another image."""
        known = self.annotated.annotations_of(self.image)
        owner = self.annotated.image_of(self.annotations)
        if known is not None or (owner is not None and owner is not self.image):
            self.set_annotations(known)

    def _on_refitted(self) -> None:
        self.look_at_strokes()  # they are on other channels now

    def _on_plane_left(self) -> None:
        self.catch_up()  # with strokes on the plane that is left

    def _on_plane_shown(self) -> None:
        self.borders.follow_plane()
        self._look()

    def go_to(self, layer: Image, plane: Index = ()) -> None:
        """Choose an image and show it, with its results, in place of the one that was chosen."""
        viewer = self._viewer()
        if viewer is None or layer not in viewer.layers:
            return
        if layer is not self.image:
            self._show_instead(viewer, layer)
        if plane:
            self._show_plane(plane)

    def _show_instead(self, viewer: Any, layer: Image) -> None:
        if self.results is not None:
            self.results.hide()
        for shown in (self.image, self.annotations):
            if shown is not None:
                shown.visible = False
        self.set_image(layer)
        if self.results is not None:
            self.results.show_again()
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
        self.borders.forget()
        known = self.annotated.strokes_of(layer)
        self._strokes = None if layer is None else known or StrokePlanes(layer)
        if layer is not None:
            layer.events.paint.connect(self._on_painted)
            layer.events.set_data.connect(self._on_painted)  # undo and redo come this way
        self.look_at_strokes()

    def why_not_paint(self) -> str | None:
        """Say why nothing can be painted on the image, with the cure; None if something can."""
        if (reason := why_not_usable(self.image)) is not None:
            return reason
        if self.image is None or self.planes is None:
            return None
        if self.planes.layer_shape == self.planes.shape:
            return None
        return (
            f"The channels of '{self.image.name}' lie between its planes, where no strokes fit in. "
            "Open it with the channels first, or split it into a layer for each channel."
        )

    def add_annotations(self) -> Labels:
        """Add an empty layer to paint on over the image, ready to paint background.

        Raises
        ------
        InputError
            If there is no image that can be used.
        """
        reason = self.why_not_paint()
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
        layer.brush_size = _usual_brush(self.planes.shape[-2:])
        layer.selected_label = 1
        layer.mode = "paint"
        self.set_annotations(layer)
        return layer

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
        """Return the labels that are painted on other images, and other planes of this one.

        Images of other channels than this one do not count: one network cannot learn from both.
        """
        channels = None if self.planes is None else self.planes.channel_count
        return self.annotated.painted_elsewhere(self.image, self.plane, channels)

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
        self.borders.take_in()
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
        self._let_go()
        self.set_annotations(None)
        self.set_image(None)
        self.annotated.close()

    def _on_painted(self) -> None:
        self._is_painting = True
        self._written.start(0)

    def _on_layer_removed(self, event: Any) -> None:
        layer = self.annotations
        if layer is not None and event.value is layer:
            self.annotations_lost.emit(str(layer.name))
            self.set_annotations(None)
        super()._on_layer_removed(event)


def _usual_brush(shape: Sequence[int]) -> int:
    """Return the width of the brush in pixels for an image of so many rows and columns."""
    thinnest, widest = _BRUSH
    return max(thinnest, min(widest, round(_BRUSH_SHARE * min(shape))))
