"""The result layers of an image: probabilities, classes, objects, what was accepted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

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
    is_adding
        Whether layers that are hidden at first are still to be added.
    """

    def __init__(self, viewer: Any, source: Layer, planes: ImagePlanes | None = None) -> None:
        super().__init__(viewer, source, planes)
        self.everything: Prediction | None = None
        self.instances: NDArray[np.int32] | None = None
        self.class_names: tuple[str, ...] = ()
        self.is_adding = False

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
        """Write a tile into the probability layers and the class layer.

        Of a new prediction the layer that is seen is added at once, the others a little later.
        """
        classes = len(tile.probability)
        where: tuple[Any, ...] = (*tile.plane, *tile.inner)
        if len(where) != len(self.planes.shape):
            return  # of another image
        known, ndim = self.everything, len(tile.inner)
        if known is None or (known.classes, known.ndim) != (classes, ndim):
            self._start_prediction(classes, ndim)
        if self.everything is None:
            return
        self.everything.write(where, tile.probability)
        self._refresh(self._probability_layer(classes))
        for role in ("classes", *map(_probability_role, range(1, classes))):
            self._refresh(self._get(role))
        self._add_the_hidden()
        if (shown := self._get("uncertainty")) is not None:
            self._pixels(shown)[where] = uncertainty(tile.probability)
            self._refresh(shown)

    def _add_the_hidden(self) -> None:
        """Add the layers that are hidden at first, one in each turn of the event loop.

        A layer takes a tenth of a second, for which neither the answer nor the hand has to wait.
        """
        if not self.is_adding and self._missing():
            self.is_adding = True
            QTimer.singleShot(0, self._add_one_of_the_hidden)

    def _add_one_of_the_hidden(self) -> None:
        self.is_adding = False
        for add in self._missing()[:1]:
            add()
        self._add_the_hidden()

    def _missing(self) -> list[Callable[[], Layer]]:
        """Return what adds those of the hidden layers that are not there."""
        known = self.everything
        if known is None or self.source not in self._viewer.layers:
            return []
        hidden: dict[str, Callable[[], Layer]] = {"classes": partial(self._add_classes, known)}
        for label in range(1, known.classes):
            hidden[_probability_role(label)] = partial(self._probability_layer, label)
        return [add for role, add in hidden.items() if self._get(role) is None]

    def _add_classes(self, known: Prediction) -> Layer:
        layer: Labels = self._add(
            "classes",
            Labels(
                known.labels.reshape(self.planes.layer_shape),
                opacity=0.5,
                visible=False,
                colormap=annotation_colormap(len(CLASS_COLOURS)),
            ),
            below=self._get(_probability_role(known.classes)),
        )
        layer.editable = False
        return layer

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
        where: tuple[Any, ...] = (*self.plane, *box)
        if self.everything is None or not self.everything.predicted[where].any():
            return None
        labels: NDArray[np.uint8] = self.everything.labels[where].copy()
        return labels

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
        data = self.instances.reshape(self.planes.layer_shape)
        if (layer := self._get("instances")) is None:
            self._add("instances", Labels(data, opacity=0.5))
        else:
            layer.data, layer.visible = data, True

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
        role, known = _probability_role(label), self.everything
        layer = self._get(role)
        if layer is not None or known is None:
            return layer
        names = self.class_names
        title = names[label - 1] if len(names) == known.classes else f"class {label}"
        colour = Colormap([class_colour(label) + "00", class_colour(label)], name=f"class {label}")
        return self._add(
            role,
            Image(
                known.probability[label - 1].reshape(self.planes.layer_shape),
                colormap=colour,
                contrast_limits=(0.0, 1.0),
                blending="translucent",
                opacity=0.6,
                # One overlay at a time can be read; the last class is the one most often meant.
                visible=label == known.classes,
            ),
            f"probability of {title}",
            below=None if label == known.classes else self._get(_probability_role(known.classes)),
        )


def _probability_role(label: int) -> str:
    return f"probability of class {label}"
