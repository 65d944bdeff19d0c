"""The layer that shows in colours what a prediction got wrong."""

from __future__ import annotations

import weakref
from typing import Any

import napari.layers
import numpy as np
from napari.utils import DirectLabelColormap
from numpy.typing import NDArray

from napari_unet.engine.score_table import ScoreTable
from napari_unet.ops.error_map import ERROR_COLOURS, ERROR_NAMES
from napari_unet.viewer.layers import add_quietly, result_role
from napari_unet.viewer.session_layers import unwrap

_OPACITY = 0.7


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
        self.opacity = _OPACITY

    def show(self, errors: NDArray[np.uint8], name: str, like: dict[str, Any]) -> None:
        """Show a map, in place of an earlier one of that name.

        Parameters
        ----------
        errors
            Shape (Y, X) or (Z, Y, X): the codes of `napari_unet.ops.error_map`.
        name
            Of the layer.
        like
            Its place and pixel size, as keywords of a layer; see `place_of`.
        """
        viewer = self._viewer()
        if viewer is None:
            return
        if name in viewer.layers and result_role(viewer.layers[name]) == "errors":
            self._layer = viewer.layers[name]
            self._layer.data = errors
            self._layer.visible = True
            for key, value in like.items():
                setattr(self._layer, key, value)
            return
        colours: dict[int | None, Any] = {0: np.zeros(4), None: np.zeros(4)}
        for code, colour in ERROR_COLOURS.items():
            colours[code] = np.array([*colour, 255]) / 255
        # The role keeps it out of the lists of layers to learn from or to compare with.
        self._layer = napari.layers.Labels(
            errors,
            name=name,
            opacity=self.opacity,
            colormap=DirectLabelColormap(color_dict=colours),
            metadata={"napari-unet": "errors"},
            **like,
        )
        add_quietly(viewer.layers, self._layer)  # the brush stays where it was
        self._layer.editable = False

    def set_opacity(self, opacity: float) -> None:
        """Let the layer cover what is below it more or less, 0 to 1."""
        self.opacity = opacity
        viewer = self._viewer()
        if self._layer is not None and viewer is not None and self._layer in viewer.layers:
            self._layer.opacity = opacity


def place_of(layer: Any) -> dict[str, Any]:
    """Return where a layer lies in the world and how large its pixels are, as keywords."""
    return {key: getattr(layer, key) for key in ("scale", "translate", "rotate", "shear", "units")}


def legend(errors: NDArray[np.uint8], table: ScoreTable) -> str:
    """Return what the colours mean, how many objects are wrong and where, as rich text.

    Parameters
    ----------
    errors
        The error map.
    table
        The scores that go with it; of objects the wrong ones are counted there.
    """
    pixels = np.bincount(errors.ravel(), minlength=max(ERROR_COLOURS) + 1)
    lines = []
    for code, colour in ERROR_COLOURS.items():
        objects = int(table.total.get(f"{ERROR_NAMES[code]} objects") or 0)
        if not pixels[code] and not objects:
            continue
        counted = [] if not objects else ["1 object" if objects == 1 else f"{objects} objects"]
        counted.append(f"{pixels[code]} pixels")
        square = f'<span style="color: #{"".join(f"{part:02x}" for part in colour)}">■</span>'
        lines.append(f"{square} {ERROR_NAMES[code]}: {', '.join(counted)}")
    right = (
        "Every pixel has its class."
        if table.kind == "semantic"
        else ("No object is missed, spurious, split or merged; how well they fit is in the table.")
    )
    return "<br>".join(lines) or right
