"""All images and planes that were painted on, and the layers with their strokes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.ops.annotations import BACKGROUND
from napari_unet.ops.labels import connected_regions
from napari_unet.viewer.planes import ImagePlanes, Index
from napari_unet.viewer.stroke_planes import StrokePlanes


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedRow:
    """One line of the table of what is annotated.

    Attributes
    ----------
    name
        Of the image layer, and of the plane if there are several.
    strokes
        How many of each label.
    is_current
        Whether it is the image at hand.
    image, plane
        Where it is.
    """

    name: str
    strokes: dict[int, int]
    is_current: bool
    image: Image
    plane: Index


@dataclass(frozen=True, slots=True, eq=False)
class _Annotated:
    """An image, the strokes on it, and how many of them were counted on each plane."""

    planes: ImagePlanes
    strokes: StrokePlanes
    counted: dict[Index, dict[int, int]]

    @property
    def layer(self) -> Labels:
        return self.strokes.layer


class AnnotatedLayers(QObject):
    """Remembers which annotation layer belongs to which image, for as long as both are open.

    Parameters
    ----------
    viewer
        The viewer; held weakly.
    """

    #: Images or their strokes changed.
    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self._pairs: dict[Image, _Annotated] = {}
        # The engine's name for a plane lasts for as long as the plane has strokes.
        self._sources: dict[tuple[Image, Index], SourceImage] = {}
        self._borders: dict[tuple[Labels, Index], NDArray[np.bool_]] = {}
        viewer.layers.events.removed.connect(self._on_removed)

    def remember(
        self, image: Image, planes: ImagePlanes, plane: Index, strokes: StrokePlanes
    ) -> None:
        """Note which layer an image is painted on, and which plane was looked at last."""
        for other, known in list(self._pairs.items()):
            if known.strokes is strokes and other is not image:
                self._forget(other)
        known_here = self._pairs.get(image)
        if known_here is None or known_here.strokes is not strokes or known_here.planes != planes:
            self._pairs[image] = known_here = _Annotated(planes, strokes, {})
        known_here.counted.pop(plane, None)
        for index in strokes.look():
            self._sources[image, index] = planes.source(index)
        self.changed.emit()

    def planes_of(self, image: Image | None) -> ImagePlanes | None:
        """Return the planes of an image as they are known already; None if they are not."""
        known = None if image is None else self._pairs.get(image)
        return (
            None
            if image is None or known is None or not known.planes.is_of(image)
            else (known.planes)
        )

    def annotations_of(self, image: Image | None) -> Labels | None:
        """Return the layer that an image was painted on; None if it was not."""
        known = None if image is None else self._pairs.get(image)
        return None if known is None else known.layer

    def strokes_of(self, annotations: Labels | None) -> StrokePlanes | None:
        """Return what is painted on each plane of a layer; None if it is not known."""
        pairs = self._pairs.values()
        return next((known.strokes for known in pairs if known.layer is annotations), None)

    def image_of(self, annotations: Labels | None) -> Image | None:
        """Return the image that a layer was painted for."""
        pairs = self._pairs.items()
        return next((image for image, known in pairs if known.layer is annotations), None)

    def others(self, current: Image | None, plane: Index = ()) -> tuple[AnnotatedImage, ...]:
        """Return copies of the strokes on all images and planes but one."""
        return tuple(
            AnnotatedImage(
                self._sources.get((image, index)) or known.planes.source(index),
                np.array(known.layer.data[index]),
                self.borders_of(known.layer, index),
            )
            for image, known, index, _ in self._painted_on()
            if (image, index) != (current, plane)
        )

    def add_border(self, annotations: Labels, mask: NDArray[np.bool_], plane: Index = ()) -> None:
        """Note which pixels of a plane were drawn between objects to part them; shape (Y, X)."""
        known = self._borders.get((annotations, plane))
        self._borders[annotations, plane] = mask if known is None else known | mask

    def borders_of(self, annotations: Labels | None, plane: Index = ()) -> NDArray[np.bool_] | None:
        """Return those of them that are still painted; None if there are none."""
        known = None if annotations is None else self._borders.get((annotations, plane))
        if annotations is None or known is None or known.shape != annotations.data.shape[-2:]:
            return None
        still: NDArray[np.bool_] = known & (np.asarray(annotations.data[plane]) == BACKGROUND)
        return still if still.any() else None

    def painted_elsewhere(
        self, current: Image | None, plane: Index, channels: int | None
    ) -> set[int]:
        """Return the labels that are painted on other images and planes of so many channels."""
        found = [
            labels
            for image, known, index, labels in self._painted_on()
            if (image, index) != (current, plane)
            and (channels is None or known.planes.channel_count == channels)
        ]
        return set().union(*found)

    def rows(self, current: Image | None, plane: Index = ()) -> list[AnnotatedRow]:
        """Return what is annotated, image by image and plane by plane."""
        found = []
        for image, known, index, labels in self._painted_on():
            is_current = (image, index) == (current, plane)
            if index not in known.counted or is_current:
                known.counted[index] = _stroke_counts(np.asarray(known.layer.data[index]), labels)
            which = known.planes.describe(index) if index else ""
            name = f"{image.name}, {which}" if which else image.name
            found.append(AnnotatedRow(name, known.counted[index], is_current, image, index))
        return found

    def close(self) -> None:
        """Let go of the viewer."""
        if (viewer := self._viewer()) is not None:
            viewer.layers.events.removed.disconnect(self._on_removed)
        self._pairs.clear()
        self._sources.clear()

    def _painted_on(self) -> Iterator[tuple[Image, _Annotated, Index, set[int]]]:
        for image, known in self._pairs.items():
            if known.layer.data.shape == known.planes.shape:
                for index, labels in known.strokes.look().items():
                    yield image, known, index, labels

    def _forget(self, image: Image) -> None:
        del self._pairs[image]
        self._sources = {at: each for at, each in self._sources.items() if at[0] is not image}

    def _on_removed(self, event: Any) -> None:
        gone = [
            image
            for image, known in self._pairs.items()
            if event.value is image or event.value is known.layer
        ]
        self._borders = {at: m for at, m in self._borders.items() if at[0] is not event.value}
        for image in gone:
            self._forget(image)
        if gone:
            self.changed.emit()


def _stroke_counts(data: NDArray[Any], labels: set[int]) -> dict[int, int]:
    """Count the strokes of every label."""
    return {label: connected_regions(data == label)[1] for label in sorted(labels)}
