"""The layer that shows in colours what a prediction got wrong."""

from __future__ import annotations

import weakref
from typing import Any

import napari.layers
import numpy as np
from napari.utils import DirectLabelColormap
from numpy.typing import NDArray

from napari_unet.ops.error_map import ERROR_COLOURS, ERROR_NAMES
from napari_unet.viewer.session_layers import unwrap


class ErrorLayer:
    """Shows error maps as a Labels layer, one for each prediction that was judged.

    Parameters
    ----------
    viewer
        Where the layer is added; held weakly.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(unwrap(viewer))
        self._layer: Any = None
        self.opacity = 0.7

    def show(self, errors: NDArray[np.uint8], name: str, like: Any) -> None:
        """Show a map, in place of an earlier one of that name.

        Parameters
        ----------
        errors
            Shape (Y, X) or (Z, Y, X): the codes of `napari_unet.ops.error_map`.
        name
            Of the layer.
        like
            The layer whose place and pixel size it takes.
        """
        viewer = self._viewer()
        if viewer is None:
            return
        if name in viewer.layers and isinstance(viewer.layers[name], napari.layers.Labels):
            self._layer = viewer.layers[name]
            self._layer.data = errors
            return
        colours: dict[int | None, Any] = {0: np.zeros(4), None: np.zeros(4)}
        for code, colour in ERROR_COLOURS.items():
            colours[code] = np.array([*colour, 255]) / 255
        self._layer = viewer.add_labels(
            errors,
            name=name,
            opacity=self.opacity,
            scale=like.scale,
            translate=like.translate,
            colormap=DirectLabelColormap(color_dict=colours),
        )

    def set_opacity(self, opacity: float) -> None:
        """Let the layer cover what is below it more or less, 0 to 1."""
        self.opacity = opacity
        viewer = self._viewer()
        if self._layer is not None and viewer is not None and self._layer in viewer.layers:
            self._layer.opacity = opacity


def legend(errors: NDArray[np.uint8]) -> str:
    """Return what the colours mean and how many pixels have them, as rich text."""
    counts = np.bincount(errors.ravel(), minlength=max(ERROR_COLOURS) + 1)
    lines = [
        f'<span style="color: #{"".join(f"{part:02x}" for part in colour)}">■</span> '
        f"{ERROR_NAMES[code]}: {counts[code]} pixels"
        for code, colour in ERROR_COLOURS.items()
        if counts[code]
    ]
    return "<br>".join(lines) or "Nothing is wrong."
