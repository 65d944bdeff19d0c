"""The layers that a session reads and writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from numpy.typing import NDArray

from napari_unet.engine.events import InstancesFound, TilePredicted, WeightsComputed
from napari_unet.engine.files import ImageFile
from napari_unet.ops.errors import InputError
from napari_unet.ops.guidance import uncertainty
from napari_unet.ops.images import channel_count
from napari_unet.ops.tiling import Box

# Okabe and Ito's palette, which people with any kind of colour vision can tell apart; label 1,
# background, is blue.
CLASS_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#999999",
    "#000000",
)
#: Under this key of its metadata a layer that a session made says what it shows.
ROLE_KEY: Final = "napari-unet"


def class_colour(label: int) -> str:
    """Return the colour of a class label (1, 2, ...) as #RRGGBB."""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def why_not_usable(layer: Layer | None) -> str | None:
    """Say why an image layer cannot be used, with the cure; None if it can."""
    if layer is None:
        return "Open an image first: drag a file into the window, or File > Open Sample > U-Net."
    if getattr(layer, "multiscale", False):
        return f"'{layer.name}' is a pyramid; add one of its levels as a layer of its own."
    spatial = layer.ndim
    if spatial != 2:
        return (
            f"'{layer.name}' has {spatial} axes, but 2 (rows, columns) are needed; right-click it "
            "and choose Split Stack, or add one plane as a layer of its own."
        )
    try:
        channel_count(layer.data)
    except InputError as error:
        return f"'{layer.name}': {error}."
    return None


def describe_image(layer: Image) -> str:
    """Name an image layer and the axes that are used."""
    rows, columns = layer.data.shape[:2]
    kind = "RGB" if layer.rgb else "grey"
    return f"{layer.name}: {rows} rows x {columns} columns, {kind}, {layer.data.dtype}"


def visible_box(layer: Layer) -> Box | None:
    """Return the part of a layer's data that is on screen; None if it lies outside the canvas."""
    shape = layer.data.shape[:2]
    first, last = np.asarray(layer.corner_pixels)[:, :2].astype(int)
    spans = []
    for start, stop, length in zip(first, last, shape, strict=True):
        start, stop = max(int(start), 0), min(int(stop) + 1, length)
        if start >= stop:
            return None
        spans.append(slice(start, stop))
    return spans[0], spans[1]


def present_labels(layer: Labels) -> set[int]:
    """Return the labels that were painted, 0 excepted."""
    data = np.asarray(layer.data)
    if data.dtype == np.uint8:  # twenty times faster than sorting, and the usual case
        present = np.flatnonzero(np.bincount(data.ravel(), minlength=1))
    else:
        present = np.unique(data)
    return {int(label) for label in present if label}


def annotation_colormap(classes: int) -> DirectLabelColormap:
    """Return the colours of annotations: none for label 0, the palette for the classes."""
    colours: dict[int | None, Any] = {None: "#FFFFFF", 0: "transparent"}
    colours.update({label: class_colour(label) for label in range(1, classes + 1)})
    return DirectLabelColormap(color_dict=colours)


def placement(layer: Layer) -> dict[str, Any]:
    """Return where a layer lies in the world, as keywords for a layer of the same shape."""
    return {
        "scale": layer.scale[-2:],
        "translate": layer.translate[-2:],
        "rotate": layer.rotate,
        "shear": layer.shear,
        "units": layer.units[-2:],
    }


def image_file(layer: Image) -> ImageFile:
    """Return an image layer as if it had been read from a file, for its pixel size."""
    unit = str(layer.units[-1])
    known = unit not in ("pixel", "dimensionless")
    return ImageFile(
        data=layer.data,
        axes="YXC" if layer.rgb else "YX",
        pixel_size=(float(layer.scale[-2]), float(layer.scale[-1])) if known else None,
        unit={"micrometer": "µm"}.get(unit, unit) if known else None,
        path=Path(f"{file_stem(layer)}.tif"),
    )


def file_stem(layer: Layer) -> str:
    """Return a layer's name as the beginning of a file name."""
    return re.sub(r"[^\w.-]+", "_", layer.name).strip("._") or "image"


class ResultLayers:
    """The result layers of one layer, made when they are first needed and written in place.

    Layers are known by identity, so renaming them is harmless; one that the user deleted is made
    anew when there is something to show.

    Parameters
    ----------
    viewer
        The viewer (or its model).
    source
        The layer that results belong to; they lie where it lies and have its rows and columns.
    """

    def __init__(self, viewer: Any, source: Layer) -> None:
        self.source = source
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}
        self.probability: NDArray[np.float32] | None = None
        self.predicted: NDArray[np.bool_] | None = None
        self.instances: NDArray[np.int32] | None = None
        for name in ("scale", "translate", "rotate", "shear"):
            getattr(source.events, name).connect(self._on_source_moved)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.source.data.shape[:2]
        return rows, columns

    @property
    def is_complete(self) -> bool:
        """Whether every pixel has been predicted."""
        return self.predicted is not None and bool(self.predicted.all())

    def layers(self) -> list[Layer]:
        """Return the result layers that are in the viewer."""
        return [layer for layer in self._layers.values() if layer in self._viewer.layers]

    def show_tile(self, tile: TilePredicted) -> None:
        """Write a tile into the probability layers and the class layer."""
        classes = len(tile.probability)
        if self.probability is None or self.probability.shape != (classes, *self.shape):
            self._start_prediction(classes)
        if self.probability is None or self.predicted is None:
            return
        self.probability[(slice(None), *tile.inner)] = tile.probability
        self.predicted[tile.inner] = True
        labels = self._labels_layer("classes", np.uint8, visible=False)
        labels.data[tile.inner] = tile.probability.argmax(axis=0) + 1
        self._refresh(labels)
        for label in range(1, classes + 1):
            self._refresh(self._probability_layer(label))
        if (shown := self._get("uncertainty")) is not None:
            shown.data[tile.inner] = uncertainty(tile.probability)
            self._refresh(shown)

    def show_uncertainty(self) -> None:
        """Show where two classes are about as probable; it follows the prediction."""
        layer = self._get("uncertainty")
        if layer is None and self.probability is not None and self.predicted is not None:
            known = np.where(self.predicted, uncertainty(self.probability), 0)
            self._add(
                "uncertainty",
                Image(
                    known.astype(np.float32),
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
        layer.data[box] |= labels > 0
        self._refresh(layer)

    def remove_accepted(self) -> None:
        """Take away what was accepted, and what of it changed."""
        self._remove("accepted")
        self._remove("changed")

    def show_changed(self, box: Box, mask: NDArray[np.bool_]) -> None:
        """Show which accepted pixels another round of learning changed."""
        layer = self._get("changed")
        if layer is None and not mask.any():
            return
        layer = layer or self._marks("changed", "#D55E00")
        layer.data[box] = mask
        self._refresh(layer)

    def _marks(self, role: str, colour: str) -> Labels:
        colours: dict[int | None, Any] = {None: "transparent", 0: "transparent", 1: colour}
        layer: Labels = self._add(
            role,
            Labels(
                np.zeros(self.shape, np.uint8),
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
        self.instances = found.instances
        for role, shown in self._layers.items():  # two overlays at once cannot be read
            if role.startswith("probability"):
                shown.visible = False
        layer = self._labels_layer("instances", np.int32, visible=True)
        layer.data = found.instances
        layer.visible = True

    def show_weights(self, computed: WeightsComputed) -> None:
        """Write a part of the weight map; the contrast follows the largest weight."""
        layer = self._get("weight map")
        if layer is None:
            layer = self._add(
                "weight map",
                Image(
                    np.zeros(self.shape, np.float32),
                    colormap="inferno",
                    opacity=0.8,
                    contrast_limits=(0.0, 1.0),
                ),
            )
        layer.data[computed.window] = computed.weights
        top = max(float(computed.weights.max(initial=0)), 1e-3)
        if not np.isclose(layer.contrast_limits[1], top):
            layer.contrast_limits_range = (0.0, top)
            layer.contrast_limits = (0.0, top)
        self._refresh(layer)

    def remove_weights(self) -> None:
        """Take the weight map away."""
        self._remove("weight map")

    def _remove(self, role: str) -> None:
        layer = self._get(role)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _start_prediction(self, classes: int) -> None:
        """Begin an empty probability map, in place of one with other classes."""
        for role in [role for role in self._layers if role.startswith(("probability", "classes"))]:
            layer = self._layers.pop(role)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.probability = np.zeros((classes, *self.shape), np.float32)
        self.predicted = np.zeros(self.shape, bool)
        self.instances = None

    def _probability_layer(self, label: int) -> Layer:
        role = f"probability of class {label}"
        layer = self._get(role)
        if layer is not None or self.probability is None:
            return layer
        colour = Colormap([class_colour(label) + "00", class_colour(label)], name=f"class {label}")
        return self._add(
            role,
            Image(
                self.probability[label - 1],
                colormap=colour,
                contrast_limits=(0.0, 1.0),
                blending="translucent",
                opacity=0.6,
                # One overlay at a time can be read; the last class is the one most often meant.
                visible=label == len(self.probability),
            ),
        )

    def _labels_layer(self, role: str, dtype: type, *, visible: bool) -> Labels:
        layer = self._get(role)
        if layer is None:
            colormap = annotation_colormap(len(CLASS_COLOURS)) if role == "classes" else None
            data: NDArray[Any] = np.zeros(self.shape, dtype)
            layer = self._add(role, Labels(data, opacity=0.5, visible=visible, colormap=colormap))
            layer.editable = role == "instances"
        return layer

    def _get(self, role: str) -> Any:
        layer = self._layers.get(role)
        if layer is None or layer not in self._viewer.layers:
            return None
        return layer if layer.data.shape == self.shape else None

    def _add(self, role: str, layer: Layer) -> Any:
        """Place a new layer over the image, below layers that are painted on."""
        layer.name = f"{self.source.name}: {role}"
        for key, value in placement(self.source).items():
            setattr(layer, key, value)
        layer.metadata[ROLE_KEY] = role
        layers = self._viewer.layers
        active = layers.selection.active
        mine = [layers.index(own) for own in (self.source, *self.layers())]
        layers.insert(max(mine) + 1, layer)
        layers.selection.active = active  # the brush stays where it was
        self._layers[role] = layer
        return layer

    def _on_source_moved(self, _event: Any = None) -> None:
        for layer in self.layers():
            for key, value in placement(self.source).items():
                setattr(layer, key, value)

    @staticmethod
    def _refresh(layer: Layer | None) -> None:
        if layer is not None and layer.visible:
            layer.refresh(thumbnail=False, extent=False, highlight=False)


def result_role(layer: Layer) -> str | None:
    """Return what a layer that a session made shows ("instances"); None for a user's layer."""
    role: str | None = layer.metadata.get(ROLE_KEY)
    return role
