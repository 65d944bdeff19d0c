"""Put what a project holds into the viewer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.notifications import show_info

from napari_unet.engine.journal import ProjectState
from napari_unet.engine.journal.changes import Role
from napari_unet.engine.journal.state import LayerState
from napari_unet.engine.journal.weights import read_config
from napari_unet.engine.rounds import Accepted as AcceptedRegion
from napari_unet.ops.errors import InputError
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.project.bound import BoundProject
from napari_unet.viewer.project.watch import LayerWatch

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController
    from napari_unet.viewer.project.session import ProjectSession


def restore(
    projects: ProjectSession,
    controller: SegmentationController,
    bound: BoundProject,
    state: ProjectState,
) -> None:
    """Show layers, accepted predictions, network, settings and view as they were.

    Parameters
    ----------
    projects, controller, bound
        Where to.
    state
        What the project held when it was opened.
    """
    if controller.layers.image is None:
        controller.layers.set_image(bound.image)
    _take_settings(controller, state)
    _add_strokes(projects, controller, bound, state)
    _add_objects(projects, controller, bound, state)
    show_accepted(controller, bound, state)
    projects.facts.forget()
    if state.model is not None:
        projects.learned.load(bound, state.model, lambda: None)
    else:
        projects.learned.take()
        controller.show_answer()
    _take_view(controller.viewer, state.view)
    projects.clicked.restore(controller, bound, state)


def _take_settings(controller: SegmentationController, state: ProjectState) -> None:
    values = state.settings
    segmenter = controller.segmenter
    with suppress(InputError):
        segmenter.config = read_config(values.get("learning"), segmenter.config)
    classes = values.get("classes")
    if isinstance(classes, int) and 2 <= classes <= 16 and classes != controller.network.classes:
        controller.network.set_class_count(classes)


def _latest(state: ProjectState, role: Role, wanted: Any) -> LayerState | None:
    """Return the layer of a role that was worked on last."""
    found = [layer for layer in state.layers.values() if layer.added.role == role]
    chosen = next((layer for layer in found if layer.added.layer == wanted), None)
    if chosen is not None:
        return chosen
    painted = [layer for layer in found if layer.pixels.blocks]
    return next(iter(reversed(painted or found)), None)


def _add_strokes(
    projects: ProjectSession,
    controller: SegmentationController,
    bound: BoundProject,
    state: ProjectState,
) -> None:
    kept = _latest(state, "annotations", state.settings.get("annotations"))
    layers = controller.layers
    if kept is None or layers.planes is None or kept.added.shape != layers.planes.shape:
        return
    layer = layers.annotations if layers.strokes_fit() else None
    if layer is None or np.any(layer.data) or layer.data.dtype.name != kept.added.dtype:
        layer = layers.add_annotations()
    _fill(projects, bound, layer, kept)
    layers.look_at_strokes()
    projects.borders.restore(controller, state)


def _add_objects(
    projects: ProjectSession,
    controller: SegmentationController,
    bound: BoundProject,
    state: ProjectState,
) -> None:
    kept = _latest(state, "objects", None)
    if kept is None or not kept.pixels.blocks:
        return
    clicks = click_session_for(controller)
    if clicks.scene.image is not bound.image:
        clicks.scene.set_image(bound.image)
    objects = clicks.scene.need_objects()
    if objects is None or tuple(objects.layer.data.shape) != kept.added.shape:
        return
    if np.any(objects.layer.data):
        clicks.scene.set_objects(None)
        objects = clicks.scene.need_objects()
    if objects is not None:
        _fill(projects, bound, objects.layer, kept)
    clicks.changed.emit()


def _fill(projects: ProjectSession, bound: BoundProject, layer: Labels, kept: LayerState) -> None:
    """Write what was painted into a layer, past napari's history, and watch it."""
    if (watch := bound.watch_of(layer)) is not None:
        watch.close()
        bound.watches.remove(watch)
    if layer.data.dtype.name != kept.added.dtype:
        layer.data = np.zeros(kept.added.shape, kept.added.dtype)
    for box, pixels in kept.pixels.pieces():  # the others are 0, and take no memory
        layer.data[box] = pixels
    layer.refresh()
    projects.watch(bound, layer, kept.added.layer, kept.added.role, kept.pixels.full())


def show_again(controller: SegmentationController, bound: BoundProject, watch: LayerWatch) -> None:
    """Put a layer back into the viewer that was removed, and go on with it.

    Parameters
    ----------
    controller, bound
        Where to.
    watch
        What watches the layer.
    """
    assert bound.project is not None
    viewer, layer = controller.viewer, watch.layer
    # The buttons that napari makes for a layer begin with this, whatever the layer's mode is.
    mode, layer.mode = layer.mode, "pan_zoom"
    viewer.layers.append(layer)
    viewer.layers.selection.active = layer
    layer.mode = mode
    if bound.project.facts.layers[watch.name].added.role == "annotations":
        controller.layers.set_annotations(layer)
    else:
        click_session_for(controller).scene.set_objects(layer)
    show_info(f"'{layer.name}' is back.")


def show_accepted(
    controller: SegmentationController, bound: BoundProject, state: ProjectState
) -> None:
    """Let the accepted predictions count that a project says, and show those of the plane."""
    layers = controller.layers
    if layers.planes is None:
        return
    mine = set(map(id, bound.accepted.values()))
    others = [each for each in controller.segmenter.accepted if id(each) not in mine]
    counted = []
    for number in state.accepted:
        if number not in bound.accepted:
            bound.accepted[number] = _region(layers.planes, state.regions[number])
        counted.append(bound.accepted[number])
    controller.segmenter.accepted = (*others, *counted)
    if layers.results is not None:
        layers.results.remove_accepted()
        for each in counted:
            if each.image is layers.source:
                layers.results.show_accepted(each.box, each.labels)


def _region(planes: Any, region: Any) -> AcceptedRegion:
    *plane, row, column = region.start
    labels = region.labels.reshape(region.labels.shape[-2:])
    rows, columns = labels.shape
    box = slice(row, row + rows), slice(column, column + columns)
    return AcceptedRegion(planes.source(tuple(plane)), box, np.array(labels, np.uint8))


def _take_view(viewer: Any, view: Any) -> None:
    with suppress(KeyError, TypeError, ValueError):
        viewer.dims.ndisplay = 3 if view["ndisplay"] == 3 else 2
        steps = [int(value) for value in view["step"]]
        if len(steps) == viewer.dims.ndim:
            viewer.dims.current_step = tuple(steps)
        viewer.scene.camera.center = tuple(float(value) for value in view["center"])[-3:]
        viewer.scene.camera.zoom = float(view["zoom"])
        viewer.scene.camera.angles = tuple(float(value) for value in view["angles"])
