"""The axes of label images: those of their image, without the channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.images.axes import Axis
from napari_unet.engine.images.lazy import OpenedImage
from napari_unet.engine.images.zarr_writing import described_axis


@dataclass(frozen=True, slots=True)
class LabelAxes:
    """The axes of an image without its channels.

    Attributes
    ----------
    places
        Their positions among the axes of the image.
    names
        What they are: t, z, y, x, or "-" for one of length 1 that means nothing.
    described
        As OME-Zarr says it.
    """

    places: tuple[int, ...]
    names: tuple[str, ...]
    described: tuple[dict[str, str], ...]

    @property
    def rows_first(self) -> bool:
        """Whether rows come before columns."""
        return self.names.index("y") < self.names.index("x")

    def named(self) -> list[tuple[str, int]]:
        """Return the name of each axis with its position among those of the image."""
        return list(zip(self.names, self.places, strict=True))

    def of(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Leave out the channels from what stands for each axis of the image."""
        return tuple(values[place] for place in self.places)

    def transformations(self, holder: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the scales and shifts of a level or of all levels, without those of channels."""
        kept: list[dict[str, Any]] = []
        for step in holder.get("coordinateTransformations") or ():
            kind = str(step.get("type")) if isinstance(step, Mapping) else ""
            values = step.get(kind) if kind in ("scale", "translation") else None
            if isinstance(values, list) and len(values) > max(self.places):
                kept.append({"type": kind, kind: list(self.of(values))})
        return kept


def label_axes(image: OpenedImage, multiscale: Mapping[str, Any]) -> LabelAxes:
    """Return the axes of the labels: the file's words, or the user's where they differ."""
    places, names, described = [], [], []
    listed = multiscale.get("axes") or ()
    for place, (name, axis) in enumerate(zip(image.stored_names, listed, strict=True)):
        told = dict(axis) if isinstance(axis, Mapping) else {"name": str(axis)}
        is_channel = told.get("type") == "channel" or told["name"] == "c"
        if name == "c" or (name == "-" and is_channel):
            continue
        if name != "-" and name != told["name"].lower():
            told = described_axis(Axis(name, 1))
        places.append(place)
        names.append(name)
        described.append(told)
    return LabelAxes(tuple(places), tuple(names), tuple(described))


def nearest(length: int, used: int) -> NDArray[np.intp]:
    """Return for each of `length` pixels the nearest of `used` pixels that span the same.

    Of two that are as near it is the first: every second one for a level of half the size.
    """
    middles = (np.arange(length) + 0.5) * (used / length) - 0.5
    sources: NDArray[np.intp] = np.clip(np.ceil(middles - 0.5), 0, used - 1).astype(np.intp)
    return sources
