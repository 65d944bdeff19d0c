"""All images that were painted on, and the layers with their strokes."""

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
from napari_unet.viewer.layers import present_labels


@dataclass(frozen=True, slots=True)
class AnnotatedRow:
    """One line of the table of what is annotated.

    Attributes
    ----------
    name
        Of the image layer.
    strokes
        How many of each label.
    is_current
        Whether it is the image at hand.
    """

    name: str
    strokes: dict[int, int]
    is_current: bool


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
        self._pairs: dict[Image, tuple[SourceImage, Labels]] = {}
        self._borders: dict[Labels, NDArray[np.bool_]] = {}
        self._counted: dict[Image, dict[int, int]] = {}
        viewer.layers.events.removed.connect(self._on_removed)

    def remember(self, image: Image, source: SourceImage, annotations: Labels) -> None:
        """Note which layer an image is painted on."""
        for other in [i for i, (_, layer) in self._pairs.items() if layer is annotations]:
            if other is not image:
                del self._pairs[other]
        self._pairs[image] = (source, annotations)
        self._counted.pop(image, None)
        self.changed.emit()

    def source_of(self, image: Image | None) -> SourceImage | None:
        """Return an image as the engine knows it already; None if it does not."""
        known = None if image is None else self._pairs.get(image)
        if image is None or known is None or known[0].data is not image.data:
            return None
        return known[0]

    def annotations_of(self, image: Image | None) -> Labels | None:
        """Return the layer that an image was painted on; None if it was not."""
        known = None if image is None else self._pairs.get(image)
        return None if known is None else known[1]

    def image_of(self, annotations: Labels | None) -> Image | None:
        """Return the image that a layer was painted for."""
        pairs = self._pairs.items()
        return next((image for image, (_, layer) in pairs if layer is annotations), None)

    def layer_named(self, name: str) -> Image | None:
        """Return the image layer of a name that the table shows."""
        return next((image for image in self._pairs if image.name == name), None)

    def others(self, current: Image | None) -> tuple[AnnotatedImage, ...]:
        """Return copies of the strokes on all images but one."""
        return tuple(
            AnnotatedImage(source, np.array(layer.data), self.borders_of(layer))
            for _, source, layer in self._painted_on(except_for=current)
        )

    def add_border(self, annotations: Labels, mask: NDArray[np.bool_]) -> None:
        """Note which pixels were drawn between objects to part them; shape (Y, X)."""
        known = self._borders.get(annotations)
        self._borders[annotations] = mask if known is None else known | mask

    def borders_of(self, annotations: Labels | None) -> NDArray[np.bool_] | None:
        """Return those of them that are still painted; None if there are none."""
        known = None if annotations is None else self._borders.get(annotations)
        if annotations is None or known is None or known.shape != annotations.data.shape:
            return None
        still: NDArray[np.bool_] = known & (np.asarray(annotations.data) == BACKGROUND)
        return still if still.any() else None

    def painted_elsewhere(self, current: Image | None) -> set[int]:
        """Return the labels that are painted on other images."""
        found = [present_labels(layer) for _, _, layer in self._painted_on(except_for=current)]
        return set().union(*found)

    def rows(self, current: Image | None) -> list[AnnotatedRow]:
        """Return what is annotated, image by image."""
        found = []
        for image, _, layer in self._painted_on():
            if image not in self._counted or image is current:
                self._counted[image] = _stroke_counts(layer)
            found.append(AnnotatedRow(image.name, self._counted[image], image is current))
        return found

    def close(self) -> None:
        """Let go of the viewer."""
        if (viewer := self._viewer()) is not None:
            viewer.layers.events.removed.disconnect(self._on_removed)
        self._pairs.clear()

    def _painted_on(
        self, except_for: Image | None = None
    ) -> Iterator[tuple[Image, SourceImage, Labels]]:
        for image, (source, layer) in self._pairs.items():
            fits = layer.data.shape == source.shape
            if image is not except_for and fits and present_labels(layer):
                yield image, source, layer

    def _on_removed(self, event: Any) -> None:
        gone = [
            image
            for image, (_, layer) in self._pairs.items()
            if event.value is image or event.value is layer
        ]
        self._borders.pop(event.value, None)
        for image in gone:
            del self._pairs[image]
            self._counted.pop(image, None)
        if gone:
            self.changed.emit()


def _stroke_counts(layer: Labels) -> dict[int, int]:
    """Count the strokes of every label."""
    data = np.asarray(layer.data)
    return {label: connected_regions(data == label)[1] for label in sorted(present_labels(layer))}
