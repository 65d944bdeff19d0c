"""Records which strokes part objects, so that they weigh more after reopening as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.journal import BoxChange, LayerAdded, Painted, ProjectState, diff_box
from napari_unet.engine.journal.changes import BORDER

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController
    from napari_unet.viewer.project.session import ProjectSession

_LAYER = "borders"


class BorderRecorder:
    """Records the pixels of borders when one is drawn.

    Parameters
    ----------
    projects, controller
        Whose.
    """

    def __init__(self, projects: ProjectSession, controller: SegmentationController) -> None:
        self._projects = projects
        # Of each project's image, what is recorded of each plane.
        self._known: dict[tuple[Any, ...], NDArray[np.bool_]] = {}
        controller.layers.borders.drawn.connect(self._on_border_drawn)

    def _on_border_drawn(self, _box: Any) -> None:
        controller, project = self._projects.controller, self._projects.project
        if controller is None or project is None or not project.can_append():
            return
        layers = controller.layers
        mask = layers.borders.mask()
        if mask is None or layers.planes is None:
            return
        key = (project.folder, *layers.plane)
        known = self._known.get(key)
        known = np.zeros(mask.shape, bool) if known is None else known
        now = known | mask
        box = diff_box(known, now)
        if box is None:
            return
        if _LAYER not in project.facts.layers:
            project.append(LayerAdded(_LAYER, "borders", _LAYER, layers.planes.shape, "bool"))
        index = (None,) * len(layers.plane)
        start = (*layers.plane, *(span.start for span in box))
        change = BoxChange(start, known[box][index].copy(), now[box][index].copy())
        project.append(Painted(_LAYER, BORDER, (change,)))
        self._known[key] = now

    def restore(self, controller: SegmentationController, state: ProjectState) -> None:
        """Let the strokes part objects that did; the layer of strokes is there by now."""
        kept, layers = state.layers.get(_LAYER), controller.layers
        if kept is None or layers.annotations is None or layers.planes is None:
            return
        if kept.added.shape != layers.planes.shape:
            return
        pixels = kept.pixels.full()
        for plane in {tuple(span.start for span in box[:-2]) for box, _ in kept.pixels.pieces()}:
            mask = np.array(pixels[plane])
            layers.annotated.add_border(layers.annotations, mask, plane)
            if self._projects.project is not None:
                self._known[(self._projects.project.folder, *plane)] = mask
