"""What is made of a prediction: objects that are cut out of it, and files."""

from __future__ import annotations

from pathlib import Path

from napari_unet.engine.images.plane_saving import save_into_image, save_stack
from napari_unet.engine.planes import find_stack_instances, find_volume_instances
from napari_unet.engine.results import InstanceSettings, instances_job
from napari_unet.viewer.actions import Action
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.lane import MakeJob
from napari_unet.viewer.layers import file_stem, image_info, voxels
from napari_unet.viewer.result_layers import ResultLayers
from napari_unet.viewer.status import Phase


def find_objects(session: SegmentationController, settings: InstanceSettings) -> None:
    """Cut objects out of all that is predicted whole, and show them.

    Of what came stack by stack they are cut out in three dimensions, else on planes and joined.
    """
    results = session.layers.results
    if session.refuse(Action.INSTANCES) or results is None:
        return
    if (job := _cutting_out(results, settings)) is not None:
        session.submit("Finding objects", job, phase=Phase.PREDICTING)


def _cutting_out(results: ResultLayers, settings: InstanceSettings) -> MakeJob | None:
    known, probability = results.everything, results.probability
    if known is None or probability is None:
        return None
    if known.ndim > 2:
        spacing, stacks = voxels(results.planes), known.pieces()
        return lambda stop: find_volume_instances(
            known.probability, stacks, settings, spacing, stop
        )
    if results.planes.count == 1:
        snapshot = probability.copy()
        return lambda stop: instances_job(snapshot, settings)
    planes = known.pieces()
    return lambda stop: find_stack_instances(known.probability, planes, settings, stop)


def save_as_tiff(session: SegmentationController, folder: str | Path) -> None:
    """Write probabilities, classes and objects of the image as TIFF into a folder."""
    results, image = session.layers.results, session.layers.image
    if session.refuse(Action.SAVE_RESULT) or results is None or image is None:
        return
    if (known := results.everything) is None:
        return
    stem, instances = Path(folder) / file_stem(image), results.instances
    info, planes, names = image_info(image, results.planes), known.planes(), results.class_names
    # Of a single plane a copy: a live preview may write into it meanwhile.
    probability = known.probability if len(info.leading) else known.probability.copy()
    session.submit(
        "Saving the result",
        lambda stop: save_stack(stem, info, probability, planes, instances, stop, names),
    )


def save_as_labels(
    session: SegmentationController, path: Path, name: str, *, replace: bool = False
) -> None:
    """Write objects and classes into the OME-Zarr that the image is, as labels of this name."""
    results = session.layers.results
    if session.refuse(Action.SAVE_RESULT) or results is None:
        return
    if (known := results.everything) is None:
        return
    planes, instances, names = known.planes(), results.instances, results.class_names
    session.submit(
        "Saving into the image",
        lambda stop: save_into_image(
            path, name, known.probability, planes, instances, stop, replace=replace, names=names
        ),
    )
