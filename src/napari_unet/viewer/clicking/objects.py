"""The layer of finished objects; every change of it is one step of napari's own undo."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import line

from napari_unet.ops.clicks import Outline, known_outlines
from napari_unet.viewer.planes import ImagePlanes, Index

ROLE: Final = "objects"


class ObjectsLayer:
    """Finished objects in a Labels layer: 0 is none, each object has a number of its own.

    Parameters
    ----------
    layer
        Of the shape of the image.
    """

    def __init__(self, layer: Labels) -> None:
        self.layer = layer
        # napari keeps a hundred steps; nothing that was drawn is to be out of reach.
        layer._history_limit = None
        layer._undo_history = deque(layer._undo_history)
        layer._redo_history = deque(layer._redo_history)

    @classmethod
    def for_image(cls, image: Image) -> ObjectsLayer:
        """Make an empty layer over an image; it is not in a viewer yet."""
        data = np.zeros(ImagePlanes(image).shape, np.int32)
        layer = Labels(
            data,
            name=f"{image.name}: {ROLE}",
            opacity=0.5,
            scale=image.scale,
            translate=image.translate,
            rotate=image.rotate,
            shear=image.shear,
            units=image.units,
            affine=image.affine,
        )
        return cls(layer)

    def plane(self, index: Index) -> NDArray[Any]:
        """Return the labels of a plane, a view."""
        return np.asarray(self.layer.data[index])

    def outlines(self, index: Index) -> tuple[Outline, ...]:
        """Return the objects of a plane."""
        return known_outlines(self.plane(index))

    def count(self, index: Index) -> int:
        """Count the objects of a plane; takes 5 ms for 16 million pixels."""
        return len(_labels_of(self.plane(index)))

    def label_at(self, index: Index, at: tuple[float, float]) -> int:
        """Return the number of the object at a pixel; 0 if there is none."""
        row, column = round(at[0]), round(at[1])
        plane = self.plane(index)
        if not (0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]):
            return 0
        return int(plane[row, column])

    def outline_of(self, index: Index, label: int) -> Outline | None:
        """Return an object on a plane; None if it is not there."""
        return Outline.of_mask(self.plane(index) == label)

    def planes_of(self, label: int) -> list[Index]:
        """Return the planes on which an object is."""
        leading = self.layer.data.ndim - 2
        if not leading:
            return [()]
        data = np.asarray(self.layer.data)
        there = (data == label).any(axis=(-2, -1))
        return [tuple(int(i) for i in index) for index in np.argwhere(there)]

    # ------------------------------------------------------------------ changes

    def write(
        self, parts: Mapping[Index, Outline], label: int | None = None, *, preserve: bool = True
    ) -> int:
        """Write an object in place of what it was before, as one step that can be undone.

        Parameters
        ----------
        parts
            Its outline on each plane.
        label
            Its number if it is there already; None for a new one.
        preserve
            Whether pixels of other objects stay theirs.

        Returns
        -------
        int
            Its number; 0 if other objects left nothing of it.
        """
        number = label or self._free_number()
        masks = {}
        for index, outline in parts.items():
            there = self.plane(index)[outline.box]
            free = (there == 0) | (there == number) if preserve else True
            masks[index] = outline.mask & free
        if not any(mask.any() for mask in masks.values()):
            return 0
        with self.layer.block_history():
            for index, mask in masks.items():
                if label is not None:
                    self._erase_outside(index, number, parts[index], mask)
                self._set(index, parts[index].box, mask, number)
        return number

    def write_all(self, outlines: tuple[Outline, ...], index: Index) -> None:
        """Write new objects on a plane, as one step that can be undone."""
        number = self._free_number()
        with self.layer.block_history():
            for outline in outlines:
                mask = outline.mask & (self.plane(index)[outline.box] == 0)
                if mask.any():
                    self._set(index, outline.box, mask, number)
                    number += 1

    def delete(self, label: int) -> None:
        """Delete an object on all planes."""
        places = np.nonzero(np.asarray(self.layer.data) == label)
        if label and len(places[0]):
            self.layer.data_setitem(places, 0)

    def join(self, label: int, other: int) -> None:
        """Make two objects one, with the number of the first."""
        places = np.nonzero(np.asarray(self.layer.data) == other)
        if label and other and label != other and len(places[0]):
            self.layer.data_setitem(places, label)

    def split(self, index: Index, path: list[tuple[float, float]]) -> int:
        """Part the objects of a plane along a line that was drawn.

        Parameters
        ----------
        index
            The plane.
        path
            Places on it, in the order in which they were drawn.

        Returns
        -------
        int
            How many objects came apart. The largest part keeps its number.
        """
        plane = self.plane(index)
        drawn = drawn_path(path, plane.shape)
        count = 0
        with self.layer.block_history():
            for label in np.unique(plane[drawn]):
                if label and self._part(index, int(label), drawn):
                    count += 1
        return count

    def _part(self, index: Index, label: int, drawn: NDArray[np.bool_]) -> bool:
        outline = self.outline_of(index, label)
        if outline is None:
            return False
        cut = drawn[outline.box]
        # A line of pixels that touch at their corners alone parts only over edges of pixels.
        pieces, count = ndimage.label(outline.mask & ~cut)
        if count < 2:
            return False
        # The line itself goes to the piece that is nearest.
        nearest = ndimage.distance_transform_edt(
            pieces == 0, return_distances=False, return_indices=True
        )
        whole = np.where(outline.mask, pieces[tuple(nearest)], 0)
        areas = np.bincount(whole.ravel(), minlength=count + 1)
        areas[0] = 0
        number = self._free_number()
        for piece in range(1, count + 1):
            if piece != areas.argmax():
                self._set(index, outline.box, whole == piece, number)
                number += 1
        return True

    def _erase_outside(
        self, index: Index, label: int, outline: Outline, mask: NDArray[np.bool_]
    ) -> None:
        """Take away the pixels of an object that its new outline has not."""
        old = self.outline_of(index, label)
        if old is None:
            return
        kept = np.zeros(self.plane(index).shape, bool)
        kept[outline.box] = mask
        self._set(index, old.box, old.mask & ~kept[old.box], 0)

    def _set(
        self, index: Index, box: tuple[slice, ...], mask: NDArray[np.bool_], value: int
    ) -> None:
        rows, columns = np.nonzero(mask)
        if not len(rows):
            return
        leading = tuple(np.full(len(rows), i) for i in index)
        places = (*leading, rows + box[0].start, columns + box[1].start)
        self.layer.data_setitem(places, value)

    def _free_number(self) -> int:
        data = np.asarray(self.layer.data)
        number = int(data.max(initial=0)) + 1
        if number > np.iinfo(data.dtype).max:
            number = int(np.setdiff1d(np.arange(1, number), data)[0])
        return number


def _labels_of(plane: NDArray[Any]) -> NDArray[Any]:
    """Return the numbers in a plane, without 0: each is where a run of it ends.

    There are few such pixels, which are sorted in no time; all of them take twenty times as long.
    """
    flat = plane.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    found = np.unique(np.append(flat[ends], flat[-1:]))
    return np.asarray(found[found != 0])


def drawn_path(path: list[tuple[float, float]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Draw a line through places into a plane of that shape."""
    drawn = np.zeros(shape, bool)
    places = [(round(row), round(column)) for row, column in path]
    for first, last in pairwise(places):
        rows, columns = line(*first, *last)
        drawn[rows.clip(0, shape[0] - 1), columns.clip(0, shape[1] - 1)] = True
    return drawn
