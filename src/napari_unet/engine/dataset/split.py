"""Holds out a part of a labelled set, so that a network is judged on what it has not learned."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.dataset.labelled_set import LabelledImage, LabelledSet
from napari_unet.engine.dataset.layouts import natural_order
from napari_unet.ops.errors import InputError

# Pixels between what is learned and what is judged in one image, so that an object on the border
# is not in both; and the share of the side that they may take at the most.
_GAP: Final = 32
_GAP_SHARE: Final = 1 / 16


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Two parts of a labelled set and a note on how they were made, to be shown to the user."""

    train: LabelledSet
    validation: LabelledSet
    note: str


def split_by_image(labelled_set: LabelledSet, fraction: float = 0.2, seed: int = 0) -> Split:
    """Hold out whole images for validation.

    Images that stand alone are drawn by a hash of seed and name, so the draw depends neither on the
    order of the files nor, for most images, on which others are there. Of a group (a sequence, a
    stack) the last images are held out whatever the seed: consecutive images are near-copies, and
    any drawn from the middle would have been learned by heart from its neighbours.

    An image is held out only if each class that it shows is also in an image that is learned from.
    So a class that one image alone shows is learned and cannot be validated; the note says so.

    If no image can be held out (there is one, or each has a class of its own), a strip along one
    edge of every image is held out instead, by `valid`. Between it and the rest a gap of up to 32
    pixels belongs to neither. The network may see the grey values of the strip as context of what
    it learns from, but none of its labels. The edge is drawn by the seed among those whose strip
    and rest show the most classes.

    Parameters
    ----------
    labelled_set
        The images.
    fraction
        Share to hold out, below 1; of images, rounded, at least one and never all. 0 holds out
        none.
    seed
        Draws the images and the edge.

    Raises
    ------
    InputError
        If `fraction` is not at least 0 and below 1, or a single image is too small to cut.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"the share to hold out is {fraction}; give 0 or more, below 1")
    if fraction == 0:
        nothing = replace(labelled_set, images=())
        return Split(labelled_set, nothing, "no image is held out, so there will be no score")
    held_out = _choose(labelled_set, fraction, seed)
    if not held_out:
        return _split_strips(labelled_set, fraction, seed)
    images = labelled_set.images
    train = replace(labelled_set, images=tuple(i for i in images if i.name not in held_out))
    validation = replace(labelled_set, images=tuple(i for i in images if i.name in held_out))
    note = f"{len(held_out)} of {len(images)} images are held out for validation"
    if any(each.group for each in validation.images):
        note += ", the last ones of each sequence"
    return Split(train, validation, ". ".join((note, *_missing_classes(labelled_set, validation))))


def _choose(labelled_set: LabelledSet, fraction: float, seed: int) -> set[str]:
    """Return the names of the images to hold out; empty if none can be."""
    present = {each.name: _classes(labelled_set, each) for each in labelled_set.images}
    left = Counter(each for classes in present.values() for each in classes)
    held_out: set[str] = set()
    for candidates, count in _candidates(labelled_set, fraction, seed):
        taken = 0
        for name in candidates:
            if taken == count:
                break
            if len(held_out) + 1 < len(present) and all(left[each] > 1 for each in present[name]):
                held_out.add(name)
                left.subtract(present[name])
                taken += 1
    return held_out


def _candidates(
    labelled_set: LabelledSet, fraction: float, seed: int
) -> list[tuple[list[str], int]]:
    """Names in the order in which they may be held out, and how many of them, group by group."""
    groups: dict[str, list[str]] = defaultdict(list)
    for each in labelled_set.images:
        groups[each.group].append(each.name)
    alone = groups.pop("", [])
    alone += [names[0] for names in groups.values() if len(names) == 1]
    pools = [sorted(alone, key=lambda name: _draw(seed, name))] if alone else []
    pools += [
        sorted(names, key=natural_order, reverse=True)
        for _, names in sorted(groups.items())
        if len(names) > 1
    ]
    counts = [round(fraction * len(names)) for names in pools]
    counts = [min(count, len(names) - 1) for count, names in zip(counts, pools, strict=True)]
    if not any(counts):
        counts[max(range(len(pools)), key=lambda i: len(pools[i]))] = 1
    return list(zip(pools, counts, strict=True))


def _classes(labelled_set: LabelledSet, image: LabelledImage) -> frozenset[int]:
    values = image.values()
    if labelled_set.kind == "instances":
        return frozenset(min(value, 1) for value in values)
    return values


def _missing_classes(labelled_set: LabelledSet, validation: LabelledSet) -> list[str]:
    """Say which classes the validation images do not show."""
    seen = {value for each in validation.images for value in _classes(labelled_set, each)}
    missing = [value for value in labelled_set.class_values if value not in seen]
    if not missing:
        return []
    shown = Counter(v for each in labelled_set.images for v in _classes(labelled_set, each))
    notes = []
    for value in missing:
        name = (
            f"Class {value}"
            if labelled_set.kind == "semantic"
            else ("Background", "Objects")[value]
        )
        if shown[value] == 1 and len(labelled_set.images) > 1:
            why = "only one image shows it, which is learned from"
        else:
            why = "nothing that is held out shows it"
        notes.append(f"{name} cannot be validated: {why}")
    return notes


def _split_strips(labelled_set: LabelledSet, fraction: float, seed: int) -> Split:
    parts = [_cut(labelled_set, each, fraction, seed) for each in labelled_set.images]
    train = replace(labelled_set, images=tuple(part[0] for part in parts))
    validation = replace(labelled_set, images=tuple(part[1] for part in parts))
    why = "there is one image" if len(parts) == 1 else "each image has a class of its own"
    note = (
        f"A strip of {fraction:.0%} along one edge of {'the' if len(parts) == 1 else 'each'} image "
        f"is held out for validation, because {why}; scores on new images will be lower"
    )
    return Split(train, validation, ". ".join((note, *_missing_classes(labelled_set, validation))))


def _cut(
    labelled_set: LabelledSet, image: LabelledImage, fraction: float, seed: int
) -> tuple[LabelledImage, LabelledImage]:
    """Cut the strip off that leaves the most classes in both parts."""
    rows, columns = image.labels.shape[-2:]
    if min(rows, columns) < 3:
        raise InputError(
            f"{image.name} is {rows} x {columns} pixels, too small "
            "to hold a part out; give a larger image or a second one"
        )
    edges = sorted(("top", "bottom", "left", "right"), key=lambda e: _draw(seed, image.name, e))
    cuts = [_cut_at(image, edge, fraction) for edge in edges]
    shown = [[len(_classes(labelled_set, part)) for part in cut] for cut in cuts]
    return cuts[max(range(len(cuts)), key=lambda i: (min(shown[i]), sum(shown[i]), -i))]


def _cut_at(
    image: LabelledImage, edge: str, fraction: float
) -> tuple[LabelledImage, LabelledImage]:
    shape = image.labels.shape
    side = shape[-2] if edge in ("top", "bottom") else shape[-1]
    gap = min(_GAP, int(_GAP_SHARE * side))
    width = min(max(1, round(fraction * side)), side - gap - 1)
    depth = np.arange(side) if edge in ("top", "left") else np.arange(side)[::-1]
    depth = depth[:, np.newaxis] if edge in ("top", "bottom") else depth[np.newaxis]
    parts = []
    for mask in (depth >= width + gap, depth < width):
        valid: NDArray[np.bool_] = np.broadcast_to(mask, shape)
        valid = valid & image.valid if image.valid is not None else valid.copy()
        parts.append(replace(image, valid=valid))
    return parts[0], parts[1]


def _draw(seed: int, *names: str) -> str:
    """Return a random-looking key that depends on nothing but its arguments."""
    return hashlib.sha256("\0".join((str(seed), *names)).encode()).hexdigest()
