"""What is made of a probability map: objects, weight maps and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import FileSaved, InstancesFound, WeightsComputed
from napari_unet.engine.files import ImageFile, write_labels, write_probabilities
from napari_unet.model.checkpoint import save_model
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import (
    class_labels,
    connected_instances,
    fill_holes,
    seeded_instances,
    watershed_instances,
)
from napari_unet.ops.tiling import Box
from napari_unet.ops.weight_map import annotation_weights, weight_map

LabelKind = Literal["annotations", "instances"]
Method = Literal["components", "watershed", "seeds"]
METHODS: Final[tuple[Method, ...]] = ("components", "watershed", "seeds")


@dataclass(frozen=True, slots=True)
class InstanceSettings:
    """How objects are cut out of a probability map.

    Attributes
    ----------
    method
        "components" takes what is connected as one object; "watershed" parts objects at their
        necks; "seeds" parts them where the probability sags between certain middles.
    threshold
        Probability from which a pixel belongs to an object, above 0 to below 1.
    min_size
        Smaller objects are dropped, in pixels.
    label
        The class whose objects are wanted, 2 and up; None takes all that is not background.
    seed_threshold
        For "seeds": probability from which connected pixels are the middle of one object.
    outline_label
        The class of the objects' outlines, if the network has one: it belongs to the objects, but
        not to their middles.
    fill_holes
        Whether background that one object encloses is given to the object.
    """

    method: Method = "components"
    threshold: float = 0.5
    min_size: int = 16
    label: int | None = None
    seed_threshold: float = 0.8
    outline_label: int | None = None
    fill_holes: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"no method {self.method!r}; choose one of {', '.join(METHODS)}")
        for threshold in (self.threshold, self.seed_threshold):
            if not 0 < threshold < 1:
                raise InputError("the threshold must lie between 0 and 1; 0.5 is usual")
        if self.min_size < 0:
            raise InputError("the minimum size must be 0 pixels or more")

    def sentence(self) -> str:
        """Return the settings in words."""
        text = f"{self.method}, threshold {self.threshold:g}"
        if self.method == "seeds":
            text += f", seeds from {self.seed_threshold:g}"
        if self.fill_holes:
            text += ", holes filled"
        return f"{text}, at least {self.min_size} pixels"


@dataclass(frozen=True, slots=True)
class WeightSettings:
    """Parameters of the weight map (Ronneberger et al. 2015, equation 2).

    Attributes
    ----------
    w0, sigma
        Height and width (pixels) of the border term.
    balance
        Strength of the class balance, 0 to 1.
    kind
        "instances": label 0 is background, every other one object. "annotations": label 0 is not
        annotated, 1 background, 2 and up are classes.
    """

    w0: float = 10.0
    sigma: float = 5.0
    balance: float = 1.0
    kind: LabelKind = "instances"


def find_instances(
    probability: NDArray[np.float32],
    settings: InstanceSettings,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.int32]:
    """Cut objects out of a probability map.

    Parameters
    ----------
    probability
        Shape (classes, Y, X), or (classes, Z, Y, X) of a stack, in [0, 1].
    settings
        How.
    spacing
        Size of a pixel along each axis, in pixels of the plane; None: all alike.

    Returns
    -------
    NDArray
        Shape of the image, int32: 0 is background, objects are 1, 2, ... without gaps.

    Raises
    ------
    InputError
        If there is no such class, or the map has pixels that were not predicted.
    """
    if settings.label is None:
        foreground = 1 - probability[0]
    elif 1 <= settings.label <= len(probability):
        foreground = probability[settings.label - 1]
    else:
        raise InputError(f"there is no class {settings.label}; choose 1 to {len(probability)}")
    objects = _cut_out(foreground, probability, settings, spacing or (1.0,) * foreground.ndim)
    return fill_holes(objects) if settings.fill_holes else objects


def _cut_out(
    foreground: NDArray[np.float32],
    probability: NDArray[np.float32],
    settings: InstanceSettings,
    spacing: Sequence[float],
) -> NDArray[np.int32]:
    if settings.method == "seeds":
        interior = foreground
        if settings.outline_label is not None:
            interior = foreground - probability[settings.outline_label - 1]
        return seeded_instances(
            foreground,
            interior,
            threshold=settings.threshold,
            seed_threshold=settings.seed_threshold,
            min_size=settings.min_size,
            spacing=spacing,
        )
    if settings.method == "watershed":
        return watershed_instances(
            foreground,
            threshold=settings.threshold,
            min_size=settings.min_size,
            spacing=spacing,
        )
    mask = foreground >= settings.threshold
    return connected_instances(mask, settings.min_size, ndim=mask.ndim)


def instances_job(
    probability: NDArray[np.float32],
    settings: InstanceSettings,
    spacing: Sequence[float] | None = None,
) -> Iterator[InstancesFound]:
    """Return the job of `find_instances`."""
    instances = find_instances(probability, settings, spacing)
    yield InstancesFound(instances, int(instances.max(initial=0)))


def weights_job(
    labels: NDArray[Any], settings: WeightSettings, window: Box
) -> Iterator[WeightsComputed]:
    """Return the job that computes the weight map of `labels`, (Y, X), in a window of it."""
    compute: Callable[..., NDArray[np.float32]]
    compute = annotation_weights if settings.kind == "annotations" else weight_map
    weights = compute(labels, settings.w0, settings.sigma, balance=settings.balance, window=window)
    yield WeightsComputed(window, weights)


def save_results(
    stem: Path,
    probability: NDArray[np.float32],
    instances: NDArray[np.int32] | None = None,
    like: ImageFile | None = None,
) -> tuple[Path, ...]:
    """Write STEM_probabilities.tif, STEM_classes.tif and, if there are any, STEM_instances.tif.

    Parameters
    ----------
    stem
        Folder and name without an ending; a missing folder is made.
    probability
        Shape (classes, Y, X).
    instances
        Shape (Y, X), 0 is background.
    like
        The image, for the pixel size.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    InputError
        If a file cannot be written.
    """

    def path(kind: str) -> Path:
        return stem.with_name(f"{stem.name}_{kind}.tif")

    paths = [
        write_probabilities(path("probabilities"), probability, like),
        write_labels(path("classes"), class_labels(probability), like),
    ]
    if instances is not None:
        paths.append(write_labels(path("instances"), instances, like))
    return tuple(paths)


def save_model_job(
    model: UNet, path: Path, notes: Mapping[str, Any] | None = None
) -> Iterator[FileSaved]:
    """Return the job that writes the model, and how it is meant to be used, to a file."""
    yield FileSaved((save_model(model, path, notes),))
