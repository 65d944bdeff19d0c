"""The result layers of an image: probabilities, classes, objects, what was accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from numpy.typing import NDArray

from napari_unet.engine.events import InstancesFound, TilePredicted
from napari_unet.ops.guidance import uncertainty
from napari_unet.ops.tiling import Box
from napari_unet.viewer.layers import CLASS_COLOURS, annotation_colormap, class_colour
from napari_unet.viewer.overlays import Overlays
from napari_unet.viewer.planes import ImagePlanes, Index
from napari_unet.viewer.prediction import Prediction, blank


class ResultLayers(Overlays):
    """The result layers of one layer.

    Parameters
    ----------
    viewer, source, planes
        See `Overlays`.

    Attributes
    ----------
    everything
        What is known of all planes; None before anything was predicted.
    instances
        Objects of all planes, shape of the planes, int32; None before they were cut out.
    class_names
        What the classes of the network are called, background first; empty numbers them.
    """

    def __init__(self, viewer: Any, source: Layer, planes: ImagePlanes | None = None) -> None:
        super().__init__(viewer, source, planes)
        self.everything: Prediction | None = None
        self.instances: NDArray[np.int32] | None = None
        self.class_names: tuple[str, ...] = ()

    @property
    def probability(self) -> NDArray[np.float32] | None:
        """Of the plane that is worked on, shape (classes, Y, X); None before a prediction."""
        return None if self.everything is None else self.everything.of_plane(self.plane)

    @property
    def predicted(self) -> NDArray[np.bool_] | None:
        """Which pixels of that plane were predicted, shape (Y, X); None before a prediction."""
        return None if self.everything is None else self.everything.predicted[self.plane]

    @property
    def is_complete(self) -> bool:
        """Whether every pixel of that plane, or of its stack, has been predicted."""
        known = self.everything
        if known is None:
            return False
        piece = self.plane if known.ndim == len(self.shape) else self.plane[:-1]
        return bool(known.predicted[piece].all())

    def show_tile(self, tile: TilePredicted) -> None:
        """Write a tile into the probability layers and the class layer."""
        classes = len(tile.probability)
        where: tuple[Any, ...] = (*tile.plane, *tile.inner)
        if len(where) != len(self.planes.shape):
            return  # of another image
        known, ndim = self.everything, len(tile.inner)
        if known is None or (known.classes, known.ndim) != (classes, ndim):
            self._start_prediction(classes, ndim)
        if self.everything is None:
            return
        self.everything.probability[:, *where] = tile.probability
        self.everything.predicted[where] = True
        labels = self._labels_layer("classes", np.uint8, visible=False)
        self._pixels(labels)[where] = tile.probability.argmax(axis=0) + 1
        self._refresh(labels)
        for label in range(1, classes + 1):
            self._refresh(self._probability_layer(label))
        if (shown := self._get("uncertainty")) is not None:
            self._pixels(shown)[where] = uncertainty(tile.probability)
            self._refresh(shown)

    def show_uncertainty(self) -> None:
        """Show where two classes are about as probable; it follows the prediction."""
        layer = self._get("uncertainty")
        if layer is None and self.everything is not None:
            known = blank(self.planes.shape, np.float32)
            for plane in self.everything.planes():
                answered = self.everything.predicted[plane]
                sure = uncertainty(self.everything.of_plane(plane))
                known[plane] = np.where(answered, sure, 0)
            self._add(
                "uncertainty",
                Image(
                    known.reshape(self.planes.layer_shape),
                    colormap="magma",
                    contrast_limits=(0.0, 1.0),
                    blending="additive",
                ),
            )

    def classes_of(self, box: Box) -> NDArray[np.uint8] | None:
        """Return the classes of a region, 0 where it was not predicted; None if nothing was."""
        if self.probability is None or self.predicted is None or not self.predicted[box].any():
            return None
        labels = self.probability[(slice(None), *box)].argmax(axis=0) + 1
        return np.where(self.predicted[box], labels, 0).astype(np.uint8)

    def show_accepted(self, box: Box, labels: NDArray[np.uint8]) -> None:
        """Outline what was accepted, beside what was before."""
        layer = self._get("accepted")
        if layer is None:
            layer = self._marks("accepted", "#56B4E9")
            layer.contour = 2
        self._pixels(layer)[(*self.plane, *box)] |= labels > 0
        self._refresh(layer)

    def remove_accepted(self) -> None:
        """Take away what was accepted on the plane that is worked on, and what of it changed."""
        for role in ("accepted", "changed"):
            if (layer := self._get(role)) is not None:
                self._pixels(layer)[self.plane] = 0
                self._refresh(layer)
                if not layer.data.any():
                    self._remove(role)

    def show_changed(self, box: Box, mask: NDArray[np.bool_], plane: Index | None = None) -> None:
        """Show which accepted pixels another round of learning changed."""
        layer = self._get("changed")
        if layer is None and not mask.any():
            return
        layer = layer or self._marks("changed", "#D55E00")
        self._pixels(layer)[(*(self.plane if plane is None else plane), *box)] = mask
        self._refresh(layer)

    def _marks(self, role: str, colour: str) -> Labels:
        colours: dict[int | None, Any] = {None: "transparent", 0: "transparent", 1: colour}
        layer: Labels = self._add(
            role,
            Labels(
                blank(self.planes.layer_shape, np.uint8),
                opacity=0.9,
                colormap=DirectLabelColormap(color_dict=colours),
            ),
        )
        layer.editable = False
        return layer

    def remove_uncertainty(self) -> None:
        """Take the uncertainty away."""
        self._remove("uncertainty")

    def show_instances(self, found: InstancesFound) -> None:
        """Show objects in a Labels layer, in place of earlier ones."""
        self.instances = found.instances.reshape(self.planes.shape)
        for role, shown in self._layers.items():  # two overlays at once cannot be read
            if role.startswith("probability"):
                shown.visible = False
        layer = self._labels_layer("instances", np.int32, visible=True)
        layer.data = self.instances.reshape(self.planes.layer_shape)
        layer.visible = True

    def _start_prediction(self, classes: int, ndim: int) -> None:
        """Begin an empty probability map, in place of one with other classes."""
        self.forget_prediction()
        self.everything = Prediction(classes, self.planes.shape, ndim)

    def forget_prediction(self) -> None:
        """Take the prediction and its layers away; objects that were cut out of it stay."""
        for role in [role for role in self._layers if role.startswith(("probability", "classes"))]:
            layer = self._layers.pop(role)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.everything = self.instances = None

    def _probability_layer(self, label: int) -> Layer:
        role = f"probability of class {label}"
        layer = self._get(role)
        if layer is not None or self.everything is None:
            return layer
        names = self.class_names
        title = names[label - 1] if len(names) == self.everything.classes else f"class {label}"
        colour = Colormap([class_colour(label) + "00", class_colour(label)], name=f"class {label}")
        return self._add(
            role,
            Image(
                self.everything.probability[label - 1].reshape(self.planes.layer_shape),
                colormap=colour,
                contrast_limits=(0.0, 1.0),
                blending="translucent",
                opacity=0.6,
                # One overlay at a time can be read; the last class is the one most often meant.
                visible=label == self.everything.classes,
            ),
            f"probability of {title}",
        )

    def _labels_layer(self, role: str, dtype: type, *, visible: bool) -> Labels:
        layer = self._get(role)
        if layer is None:
            colormap = annotation_colormap(len(CLASS_COLOURS)) if role == "classes" else None
            data = blank(self.planes.layer_shape, dtype)
            layer = self._add(role, Labels(data, opacity=0.5, visible=visible, colormap=colormap))
            layer.editable = role == "instances"
        return layer
