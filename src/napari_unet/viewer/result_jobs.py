"""Jobs that make results of what is shown: predictions, objects, files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from napari.layers import Image

from napari_unet.engine.events import JobEvent
from napari_unet.engine.images.axes import spacing_of
from napari_unet.engine.images.plane_saving import save_into_image, save_stack
from napari_unet.engine.planes import (
    PlanesRequest,
    check_room,
    find_stack_instances,
    find_volume_instances,
    on_plane,
    predict_planes,
)
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.results import (
    InstanceSettings,
    instances_job,
    save_model_job,
)
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.layers import file_stem, image_file, image_info
from napari_unet.viewer.planes import ImagePlanes, Index
from napari_unet.viewer.result_layers import ResultLayers
from napari_unet.viewer.session_layers import SessionLayers

#: Makes a job that ends when the event is set.
MakeJob = Callable[[threading.Event], Iterator[JobEvent]]


def saving_model(segmenter: Segmenter, target: Path, image: Image | None) -> MakeJob:
    """Return what writes the network; with the pixel size of the image that it learned from."""
    size = None if image is None else image_file(image).size
    return lambda stop: save_model_job(
        segmenter.model, target, segmenter.usage.learned_at(size).to_dict()
    )


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
        spacing = _voxels(planes)
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
    stack = planes.stack(plane[:-1], _voxels(planes))
    here = slice(plane[-1], plane[-1] + 1)
    visible, region = (
        None if box is None else (here, *box) for box in (request.visible, request.region)
    )
    return replace(request, image=stack, visible=visible, region=region)


def _voxels(planes: ImagePlanes) -> tuple[float, ...]:
    """Return the size of a voxel along planes, rows and columns, in pixels of the plane."""
    sizes = spacing_of(image_info(planes.layer, planes))
    return tuple(size / sizes[-1] for size in sizes)


def finding_objects(results: ResultLayers, settings: InstanceSettings) -> MakeJob | None:
    """Return what cuts objects out of all that is predicted whole; None without any.

    Of what came stack by stack they are cut out in three dimensions, else on planes and joined.
    """
    known, probability = results.everything, results.probability
    if known is None or probability is None:
        return None
    if known.ndim > 2:
        spacing, stacks = _voxels(results.planes), known.pieces()
        return lambda stop: find_volume_instances(
            known.probability, stacks, settings, spacing, stop
        )
    if results.planes.count == 1:
        snapshot = probability.copy()
        return lambda stop: instances_job(snapshot, settings)
    planes = known.pieces()
    return lambda stop: find_stack_instances(known.probability, planes, settings, stop)


def saving_into_image(
    results: ResultLayers, path: Path, name: str, *, replace: bool
) -> MakeJob | None:
    """Return what writes the results into the OME-Zarr of the image; None if there are none."""
    known, instances = results.everything, results.instances
    if known is None:
        return None
    planes, names = known.planes(), results.class_names
    return lambda stop: save_into_image(
        path, name, known.probability, planes, instances, stop, replace=replace, names=names
    )


def saving_results(results: ResultLayers, image: Image, folder: Path) -> MakeJob | None:
    """Return what writes the results of an image into a folder; None if there are none."""
    if results.everything is None:
        return None
    stem, known, instances = folder / file_stem(image), results.everything, results.instances
    info, planes, names = image_info(image, results.planes), known.planes(), results.class_names
    # Of a single plane a copy: a live preview may write into it meanwhile.
    probability = known.probability if len(info.leading) else known.probability.copy()
    return lambda stop: save_stack(stem, info, probability, planes, instances, stop, names)
