"""What is seen of an object before it is finished: its outline, the clicks, and proposals."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from napari.layers import Labels, Layer, Points
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_unet.ops.clicks import Click, Outline
from napari_unet.ops.tiling import Box
from napari_unet.viewer.layers import ROLE_KEY, add_quietly
from napari_unet.viewer.planes import ImagePlanes, Index, placement_of

# Okabe and Ito: sky blue and vermilion, which people with any kind of colour vision tell apart;
# beside it, positive clicks are discs and negative ones crosses.
_POSITIVE: Final = "#56B4E9"
_NEGATIVE: Final = "#D55E00"
_OUTLINE: Final = "#F0E442"
_PROPOSED: Final = "#CC79A7"
# Pixels of the screen.
_CLICK_SIZE: Final = 11
# An outline of two pixels would fill smaller objects.
_LARGE_EXTENT: Final = 40
# What is in the layer of the outline. Another colour costs nothing, another opacity a picture of
# the layer for napari's list.
_FINAL, _PROVISIONAL = 1, 2
# Empty pixels around an outline: along the rim of its data napari draws none.
_FRAME = 3


class Preview:
    """The layers of an unfinished object; they are made when they are needed.

    Parameters
    ----------
    viewer
        Held weakly.
    planes
        The image.
    """

    def __init__(self, viewer: Any, planes: ImagePlanes) -> None:
        self._viewer = weakref.ref(viewer)
        self._planes = planes
        self._layers: dict[str, Layer] = {}
        self._adding: Layer | None = None
        # What is seen; to show the same again would cost more than the network's answer does.
        self._shown: dict[str, Any] = {}

    def get_ready(self, index: Index) -> None:
        """Make the layers of outline and clicks, empty: it takes far longer than to fill them."""
        self._need("outline", _outline_layer, index, (slice(0, 1), slice(0, 1)))
        self._need("clicks", _clicks_layer, index, (slice(0, 0), slice(0, 0)))

    def show_outline(self, index: Index, outline: Outline | None, *, is_final: bool = True) -> None:
        """Show the outline of an object on a plane, paler if it is not final; None shows none."""
        layer = self._layers.get("outline")
        if self._is_shown("outline", (index, outline, is_final)):
            return
        if outline is None:
            if layer is not None:
                layer.data = np.zeros((1, 1), np.uint8)
            return
        layer = self._need("outline", _outline_layer, index, _framed(outline.box))
        contour = 2 if outline.extent >= _LARGE_EXTENT else 1
        events = layer.events
        # Each of these would draw the layer anew. Told of other data, napari would also build and
        # link the layer's shaders again, which takes as long as to draw; where it lies, napari asks
        # when it is shown.
        with layer._block_refresh(), events.data.blocker(), events.translate.blocker():
            value = np.uint8(_FINAL if is_final else _PROVISIONAL)
            layer.data = np.pad(outline.mask * value, _FRAME)
            if layer.contour != contour:
                layer.contour = contour
            self._place(layer, index, _framed(outline.box))
        _show(layer)

    def show_clicks(self, index: Index, clicks: Sequence[Click]) -> None:
        """Show where was clicked on a plane."""
        layer = self._layers.get("clicks")
        if self._is_shown("clicks", (index, tuple(clicks))):
            return
        if not clicks and (layer is None or not self._is_there(layer)):
            return
        layer = self._need("clicks", _clicks_layer, index, (slice(0, 0), slice(0, 0)))
        viewer = self._viewer()
        scale = 1.0 if viewer is None else float(viewer.scene.camera.zoom)
        pixel = abs(float(self._planes.layer.scale[-1])) or 1.0
        layer.data = np.array([(c.row, c.column) for c in clicks]).reshape(-1, 2)
        if clicks:
            layer.size = _CLICK_SIZE / max(scale * pixel, 1e-9)
            layer.face_color = [_POSITIVE if c.positive else _NEGATIVE for c in clicks]
            layer.symbol = ["disc" if c.positive else "x" for c in clicks]
            layer.selected_data = set()
            self._place(layer, index, (slice(0, 0), slice(0, 0)))
            _show(layer)

    def show_proposals(self, index: Index, proposals: Sequence[Outline]) -> None:
        """Show outlines that were proposed on a plane."""
        layer = self._layers.get("proposals")
        if not proposals:
            if layer is not None:
                layer.visible = False
            return
        if layer is None or not self._is_there(layer):
            shape = self._planes.shape[-2:]
            layer = _proposals_layer(np.zeros(shape, np.uint16))
            self._add("proposals", layer, index, (slice(0, 0), slice(0, 0)))
        data: NDArray[np.uint16] = np.zeros(layer.data.shape, np.uint16)
        for number, outline in enumerate(proposals, start=1):  # so that neighbours are parted
            data[outline.box][outline.mask] = number
        layer.data = data
        self._place(layer, index, (slice(0, 0), slice(0, 0)))
        layer.visible = True

    def _is_shown(self, role: str, what: object) -> bool:
        """Say whether the layer of a role shows that already; take it that it does from now on."""
        layer = self._layers.get(role)
        shown = self._shown.get(role) == what and layer is not None
        self._shown[role] = what
        return shown and self._is_there(layer)

    def move_to(self, planes: ImagePlanes) -> None:
        """Show nothing, and from now on what belongs to another image.

        The layers stay if they lie above it: a window is still while napari takes layers away and
        makes new ones.
        """
        layers = [] if (viewer := self._viewer()) is None else viewer.layers
        proposals = self._layers.pop("proposals", None)  # as large as the image before
        if proposals in layers:
            layers.remove(proposals)
        order = [layer for layer in layers if layer in (planes.layer, *self._layers.values())]
        if order[:1] != [planes.layer]:
            self.close()
        self._shown.clear()
        self.show_outline((), None)
        self.show_clicks((), [])
        self._planes = planes

    def close(self) -> None:
        """Take the layers away."""
        self._shown.clear()
        viewer = self._viewer()
        for layer in self._layers.values():
            if viewer is not None and layer in viewer.layers:
                viewer.layers.remove(layer)
        self._layers.clear()

    def _need(self, role: str, make: Callable[[], Layer], index: Index, box: Box) -> Any:
        """Return the layer of a role; a new one if there is none, or if it was taken away."""
        layer = self._layers.get(role)
        if layer is None or not self._is_there(layer):
            layer = make()
            self._add(role, layer, index, box)
        return layer

    def _place(self, layer: Layer, index: Index, box: tuple[slice, ...]) -> None:
        corner = (*index, box[0].start, box[1].start)
        for key, value in placement_of(self._planes.layer, corner).items():
            there = getattr(layer, key)
            if not np.array_equal(getattr(there, "affine_matrix", there), value):
                setattr(layer, key, value)  # each lays out the viewer anew

    def _add(self, role: str, layer: Layer, index: Index, box: Box) -> None:
        """Put a layer on top of all, and leave the selection as it is."""
        # Known and in place before it is added: the viewer's dims may change, and call again.
        self._layers[role] = self._adding = layer
        self._place(layer, index, box)
        viewer = self._viewer()
        if viewer is None:
            return
        add_quietly(viewer.layers, layer)
        self._adding = None
        # What is shown lies on the image: there is no need to lay out the viewer's axes anew.
        for event in (layer.events.data, layer.events.translate):
            event.disconnect(viewer._on_layers_change)

    def _is_there(self, layer: Layer | None) -> bool:
        viewer = self._viewer()
        return viewer is not None and (layer in viewer.layers or layer is self._adding)


def moved(preview: Preview | None, viewer: Any, planes: ImagePlanes | None) -> Preview | None:
    """Return a preview that shows what belongs to an image; without one there is none."""
    if planes is None:
        if preview is not None:
            preview.close()
        return None
    if preview is None:
        return Preview(viewer, planes)
    preview.move_to(planes)
    return preview


def _framed(box: Box) -> Box:
    rows, columns = (slice(span.start - _FRAME, span.stop + _FRAME) for span in box)
    return rows, columns


def _outline_layer() -> Labels:
    colours: dict[int | None, Any] = {
        None: "transparent",
        0: "transparent",
        _FINAL: _OUTLINE,
        _PROVISIONAL: f"{_OUTLINE}80",  # half as strong
    }
    return _marks("clicked object", colours, np.zeros((1, 1), np.uint8))


def _proposals_layer(data: NDArray[np.uint16]) -> Labels:
    layer = _marks("proposals", {None: _PROPOSED, 0: "transparent"}, data)
    layer.contour = 2
    return layer


def _marks(name: str, colours: dict[int | None, Any], data: NDArray[np.unsignedinteger]) -> Labels:
    layer = Labels(data, name=name, opacity=1.0, colormap=DirectLabelColormap(color_dict=colours))
    layer.metadata[ROLE_KEY] = name
    layer.editable = False
    return layer


def _clicks_layer() -> Points:
    layer = Points(ndim=2, name="clicks", border_color="white", border_width=0.15)
    layer.metadata[ROLE_KEY] = "clicks"
    return layer


def _show(layer: Layer) -> None:
    """Draw a layer anew. It is left visible when it is emptied: to hide it lays out all layers."""
    if layer.visible:
        layer.refresh(thumbnail=False)
    else:
        layer.visible = True
