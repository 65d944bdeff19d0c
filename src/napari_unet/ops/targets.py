"""What a network is taught about a densely labelled image: a class and a weight for every pixel.

Sources: Ronneberger et al. 2015, section 3 and equation 2 (background ridges between touching
objects, weights); Caicedo et al., Cytometry A 95, 2019 (a class for the outlines of nuclei).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.ops.annotations import BACKGROUND, NOT_ANNOTATED
from napari_unet.ops.distances import check_spacing
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import as_label_image
from napari_unet.ops.weight_map import annotation_weights, separate_touching, weight_map

Outline = Literal["none", "inner", "wide"]
OUTLINES: Final[tuple[Outline, ...]] = ("none", "inner", "wide")
# Pixels from the border of an object inwards.
_OUTLINE_WIDTH = {"inner": 1, "wide": 2}

FOREGROUND: Final = 2
OUTLINE: Final = 3


def instance_annotations(
    labels: NDArray[Any],
    outline: Outline = "none",
    valid: NDArray[np.bool_] | None = None,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """Turn instance labels into the classes that a network learns.

    Touching objects are parted by a ridge of background first (section 3 of the paper).

    Parameters
    ----------
    labels
        Shape (Y, X), whole numbers: 0 is background, every other value one object.
    outline
        "none": background and objects. "inner": the outermost pixels of every object are a third
        class. "wide": the two outermost, so that the middles of touching objects lie further apart.
    valid
        Shape (Y, X); where it is False, nothing is taught.
    spacing
        Size of a pixel along each axis, in pixels of the plane; three numbers for a stack, shape
        (Z, Y, X). Across planes that lie far apart objects have no outline. None: an image.

    Returns
    -------
    ndarray of uint8, shape of the labels
        0 not annotated, 1 background, 2 object, 3 outline.

    Raises
    ------
    InputError
        If the labels are not 2D whole numbers >= 0, or there is no such outline.
    """
    if outline not in OUTLINES:
        raise InputError(f"no outline {outline!r}; choose one of {', '.join(OUTLINES)}")
    spacing = check_spacing(spacing)
    objects = separate_touching(labels, ndim=len(spacing))
    annotations = np.where(objects > 0, FOREGROUND, BACKGROUND).astype(np.uint8)
    if outline != "none":
        # A pixel is inside if the square around it belongs to the same object; the image's own
        # border is no outline.
        side = [2 * round(_OUTLINE_WIDTH[outline] / size) + 1 for size in spacing]
        lowest = ndimage.minimum_filter(objects, side, mode="nearest")
        highest = ndimage.maximum_filter(objects, side, mode="nearest")
        annotations[(objects > 0) & (lowest != highest)] = OUTLINE
    if valid is not None:
        annotations[~valid] = NOT_ANNOTATED
    return annotations


def semantic_annotations(
    labels: NDArray[Any],
    class_values: Sequence[int],
    valid: NDArray[np.bool_] | None = None,
    ndim: int = 2,
) -> NDArray[np.uint8]:
    """Turn class labels into annotations.

    Parameters
    ----------
    labels
        Shape (Y, X), whole numbers.
    class_values
        The label of each class, ascending; the first is background.
    valid
        Shape of the labels; where it is False, nothing is taught.
    ndim
        3 for a stack, shape (Z, Y, X).

    Returns
    -------
    ndarray of uint8, shape of the labels
        0 not annotated, and k + 1 where `labels` is ``class_values[k]``.

    Raises
    ------
    InputError
        If a label is none of the classes.
    """
    values = np.asarray(class_values)
    checked = as_label_image(labels, ndim=ndim)
    index = np.minimum(np.searchsorted(values, checked), len(values) - 1)
    if wrong := np.setdiff1d(checked, values)[:3].tolist():
        raise InputError(f"labels {wrong} are none of the classes {list(class_values)}; add them")
    annotations = (index + 1).astype(np.uint8)
    if valid is not None:
        annotations[~valid] = NOT_ANNOTATED
    return annotations


def instance_border_weights(
    labels: NDArray[Any], w0: float, sigma: float, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Compute the border term of equation 2 for instance labels; parameters as in `weight_map`.

    Returns
    -------
    ndarray of float32, shape of the labels
        What is added to the class weights: above 0 between objects, 0 on them.
    """
    # With balance 0 every class weighs 1.
    return weight_map(labels, w0, sigma, balance=0.0, spacing=spacing) - 1


def semantic_border_weights(
    annotations: NDArray[np.uint8],
    w0: float,
    sigma: float,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Compute the border term of equation 2 for classes; their connected regions are the objects.

    Returns
    -------
    ndarray of float32, shape of the annotations
        What is added to the class weights: above 0 on background between regions of classes.
    """
    annotated = annotations != NOT_ANNOTATED
    weights = annotation_weights(annotations, w0, sigma, balance=0.0, spacing=spacing)
    return np.where(annotated, weights - 1, 0)


def dense_weights(
    annotations: NDArray[np.uint8], border: NDArray[np.float32], class_weight: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Put the weight of every pixel together (equation 2).

    Parameters
    ----------
    annotations
        Shape (Y, X) or (Z, Y, X): 0 not annotated, 1 background, 2 and up classes.
    border
        Shape of the annotations, the border term.
    class_weight
        The weight of each label, of the whole set: `napari_unet.ops.weight_map.class_weights`.

    Returns
    -------
    ndarray of float32, shape of the annotations
        0 where nothing is taught.
    """
    weights = class_weight[annotations] + border
    return np.where(annotations == NOT_ANNOTATED, 0, weights).astype(np.float32)
