"""Layers that lie over another one, each known by what it shows."""

from __future__ import annotations

from typing import Any

from napari.layers import Layer

from napari_unet.viewer.layers import ROLE_KEY, add_quietly
from napari_unet.viewer.planes import ImagePlanes, Index


class Overlays:
    """Layers over one layer, made when they are first needed and written in place.

    Layers are known by identity, so renaming them is harmless; one that the user deleted is made
    anew when there is something to show.

    Parameters
    ----------
    viewer
        The viewer (or its model).
    source
        The layer that they belong to; they lie where it lies.
    planes
        The planes of `source`; None for those of the layer as it is.

    Attributes
    ----------
    plane
        The plane that is worked on; () if there is but one.
    """

    def __init__(self, viewer: Any, source: Layer, planes: ImagePlanes | None = None) -> None:
        self.source = source
        self.planes = planes or ImagePlanes(source)
        self.plane: Index = (0,) * (len(self.planes.shape) - 2)
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}
        self._hidden: list[Layer] = []
        for name in ("scale", "translate", "rotate", "shear", "affine"):
            getattr(source.events, name).connect(self._on_source_moved)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.planes.shape[-2:]
        return rows, columns

    def layers(self) -> list[Layer]:
        """Return those that are in the viewer."""
        return [layer for layer in self._layers.values() if layer in self._viewer.layers]

    def hide(self) -> None:
        """Hide them until `show_again`."""
        self._hidden = [layer for layer in self.layers() if layer.visible]
        for layer in self._hidden:
            layer.visible = False

    def show_again(self) -> None:
        """Show those that `hide` hid."""
        for layer in self._hidden:
            layer.visible = True
        self._hidden = []

    def _get(self, role: str) -> Any:
        layer = self._layers.get(role)
        if layer is None or layer not in self._viewer.layers:
            return None
        return layer if layer.data.shape == self.planes.layer_shape else None

    def _pixels(self, layer: Layer) -> Any:
        """Return the pixels of one of them in the shape of the planes, to be written to."""
        return layer.data.reshape(self.planes.shape)

    def _add(self, role: str, layer: Layer, title: str = "", *, below: Layer | None = None) -> Any:
        """Place a new layer over the image, below one of them or layers that are painted on."""
        layer.name = f"{self.source.name}: {title or role}"
        for key, value in self.planes.placement().items():
            setattr(layer, key, value)
        layer.metadata[ROLE_KEY] = role
        layers = self._viewer.layers
        mine = [layers.index(own) for own in (self.source, *self.layers())]
        place = max(mine) + 1 if below is None else layers.index(below)
        add_quietly(layers, layer, place)  # the brush stays where it was
        self._layers[role] = layer
        return layer

    def _remove(self, role: str) -> None:
        layer = self._get(role)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _on_source_moved(self, _event: Any = None) -> None:
        for layer in self.layers():
            for key, value in self.planes.placement().items():
                setattr(layer, key, value)

    @staticmethod
    def _refresh(layer: Layer | None) -> None:
        if layer is not None and layer.visible:
            layer.refresh(thumbnail=False, extent=False, highlight=False)
