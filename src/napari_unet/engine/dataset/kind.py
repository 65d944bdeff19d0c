"""Tells whether label values are classes or the objects of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset.labelled_set import Kind
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import connected_regions

# Class schemes of microscopy are short; an image with more objects than this is the rule.
_FEW_VALUES: Final = 12
# Beyond this, values in scattered pieces are grey values rather than classes.
_MOST_CLASSES: Final = 64
# A value is "in one piece" if one region holds this share of its pixels. Real instance masks have
# specks and cells that another one divides: of 13,223 nuclei in the Data Science Bowl's images one,
# of 371 in a simulated sequence four.
_ONE_PIECE: Final = 0.9
# Share of the values in one piece above which they are objects.
_MOSTLY: Final = 0.7
# Images that are looked at for pieces; more say nothing new and cost time.
_LOOKED_AT: Final = 20


def judge_kind(
    labels: Sequence[NDArray[np.integer[Any]]], values: Sequence[frozenset[int]]
) -> tuple[Kind, str]:
    """Judge whether label values are classes or objects.

    The rule, over the values that are not 0:

    1. At most two distinct values over all images, 0 among them or not: semantic.
    2. Up to 12 values. Mostly in several pieces each: semantic. Mostly in one piece each:
       semantic if two images or more hold the same values and no others, as organs do;
       otherwise instances.
    3. More than 12 values. Mostly in one piece each: instances. In several pieces: semantic up to
       64 values; beyond, they are grey values, and nothing can be said.

    A value is in one piece in an image if one 8-connected region holds 90 % of its pixels there;
    "mostly" is 70 % of all values of all images. Up to 20 images are looked at for pieces.

    Parameters
    ----------
    labels
        Label images, shape (Y, X) each.
    values
        The distinct values of each.

    Returns
    -------
    tuple
        The kind and a sentence that gives the reason.

    Raises
    ------
    InputError
        If the labels look like neither.
    """
    everything = frozenset[int]().union(*values)
    objects = everything - {0}
    if len(everything) <= 2:
        listed = " and ".join(map(str, sorted(everything)))
        return "semantic", f"semantic, because all labels together have two values, {listed}"
    whole = _share_in_one_piece(labels)
    pieces = f"{whole:.0%} of them are in one piece in their image"
    if len(objects) > _FEW_VALUES:
        if whole >= _MOSTLY:
            return "instances", f"instances, because there are {len(objects)} values and {pieces}"
        if len(objects) > _MOST_CLASSES:
            raise InputError(
                f"the labels have {len(objects)} values and only {pieces}: they look like grey "
                "values, neither classes nor objects; number classes or objects from 1, or say "
                "which kind they are"
            )
        return "semantic", f"semantic, because only {pieces}, of {len(objects)} values"
    if whole < _MOSTLY:
        return "semantic", f"semantic, because there are {len(objects)} values and only {pieces}"
    filled = [each - {0} for each in values if each - {0}]
    if len(filled) > 1 and all(each == filled[0] for each in filled):
        return "semantic", f"semantic, because all images share the same {len(objects)} values"
    why = "the values differ between images" if len(filled) > 1 else "there is one image"
    return "instances", f"instances, because {pieces} and {why}"


def _share_in_one_piece(labels: Sequence[NDArray[np.integer[Any]]]) -> float:
    """Share of the values, counted once an image, that mostly form one connected region."""
    step = -(-len(labels) // _LOOKED_AT)
    whole = [piece for each in labels[::step] for piece in _in_one_piece(each)]
    return float(np.mean(whole)) if whole else 0.0


def _in_one_piece(labels: NDArray[np.integer[Any]]) -> list[bool]:
    regions, count = connected_regions(labels)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    value_of_region = np.zeros(count + 1, np.int64)
    value_of_region[regions] = labels
    values, index = np.unique(value_of_region[1:], return_inverse=True)
    total = np.bincount(index, weights=sizes[1:], minlength=len(values))
    largest = np.zeros(len(values))
    np.maximum.at(largest, index, sizes[1:])
    return [bool(piece) for piece in largest >= _ONE_PIECE * total]
