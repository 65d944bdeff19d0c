"""Jobs that predict what is shown: a plane, its stack, or all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from napari_unet.engine.events import JobEvent
from napari_unet.engine.planes import PlanesRequest, check_room, on_plane, predict_planes
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.lane import MakeJob
from napari_unet.viewer.layers import voxels
from napari_unet.viewer.planes import Index
from napari_unet.viewer.session_layers import SessionLayers


def plane_prediction(
    layers: SessionLayers, segmenter: Segmenter, request: PredictRequest
) -> MakeJob:
    """Return what predicts the plane that is shown now, or its stack if the network wants that."""
    plane = layers.plane
    if _looks_at_stacks(segmenter):
        request, plane = _of_stack(layers, request, plane), plane[:-1]
    return lambda stop: on_plane(plane, _predict(segmenter, request, stop))


def stack_prediction(layers: SessionLayers, segmenter: Segmenter, like: PredictRequest) -> MakeJob:
    """Return what predicts all planes of a stack, or all stacks, the one on screen first."""
    planes = layers.planes
    assert planes is not None
    if _looks_at_stacks(segmenter):
        spacing = voxels(planes)
        like = _of_stack(layers, like, layers.plane)
        request = PlanesRequest(
            lambda index: planes.stack(index, spacing),
            list(np.ndindex(*planes.shape[:-3])),
            lambda: layers.plane[:-1],
            like,
        )
    else:
        request = PlanesRequest(planes.source, list(planes.indices()), lambda: layers.plane, like)
    return lambda stop: predict_planes(lambda each: _predict(segmenter, each, stop), request, stop)


def _predict(
    segmenter: Segmenter, request: PredictRequest, stop: threading.Event
) -> Iterator[JobEvent]:
    if request.image.ndim > 2:
        check_room(request.image)
    yield from segmenter.predict_job(request, stop)


def _looks_at_stacks(segmenter: Segmenter) -> bool:
    kind = segmenter.takes
    return kind is not None and kind.ndim > 2


def _of_stack(layers: SessionLayers, request: PredictRequest, plane: Index) -> PredictRequest:
    """Ask for the stack in place of a plane of it; what is on screen is a plane of the stack."""
    planes = layers.planes
    assert planes is not None
    stack = planes.stack(plane[:-1], voxels(planes))
    here = slice(plane[-1], plane[-1] + 1)
    visible, region = (
        None if box is None else (here, *box) for box in (request.visible, request.region)
    )
    return replace(request, image=stack, visible=visible, region=region)
