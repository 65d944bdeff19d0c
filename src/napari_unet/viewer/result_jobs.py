"""Jobs that make results of what is shown: predictions, objects, files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from napari.layers import Image

from napari_unet.engine.events import JobEvent
from napari_unet.engine.planes import (
    PlanesRequest,
    find_stack_instances,
    on_plane,
    predict_planes,
    save_stack,
)
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.results import (
    InstanceSettings,
    instances_job,
    save_model_job,
    save_results_job,
)
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.layers import file_stem, image_file, image_info
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
    """Return what predicts the plane that is shown now."""
    plane = layers.plane
    return lambda stop: on_plane(plane, segmenter.predict_job(request, stop))


def stack_prediction(layers: SessionLayers, segmenter: Segmenter, like: PredictRequest) -> MakeJob:
    """Return what predicts all planes of a stack, the one on screen first."""
    planes = layers.planes
    assert planes is not None
    request = PlanesRequest(planes.source, list(planes.indices()), lambda: layers.plane, like)
    return lambda stop: predict_planes(
        lambda each: segmenter.predict_job(each, stop), request, stop
    )


def finding_objects(results: ResultLayers, settings: InstanceSettings) -> MakeJob | None:
    """Return what cuts objects out of all planes that are predicted whole; None without any."""
    known, probability = results.everything, results.probability
    if known is None or probability is None:
        return None
    if results.planes.count == 1:
        snapshot = probability.copy()
        return lambda stop: instances_job(snapshot, settings)
    planes = known.planes(complete=True)
    return lambda stop: find_stack_instances(known.probability, planes, settings, stop)


def saving_results(results: ResultLayers, image: Image, folder: Path) -> MakeJob | None:
    """Return what writes the results of an image into a folder; None if there are none."""
    if results.everything is None:
        return None
    stem, known, instances = folder / file_stem(image), results.everything, results.instances
    if len(results.planes.shape) > 2:
        info = image_info(image, results.planes)
        planes = known.planes()
        return lambda stop: save_stack(stem, info, known.probability, planes, instances, stop)
    snapshot, like = known.probability.copy(), image_file(image, results.planes)
    return lambda stop: save_results_job(stem, snapshot, instances, like)
