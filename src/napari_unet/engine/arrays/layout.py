"""What the output of a large prediction holds, and how it is cut into chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from napari_unet.engine.arrays.grid import TileGrid
from napari_unet.engine.images.axes import Axis
from napari_unet.engine.images.zarr_writing import described_axis
from napari_unet.ops.errors import InputError

OutputType = Literal["uint8", "float16", "float32"]
OUTPUT_TYPES: Final[tuple[OutputType, ...]] = ("uint8", "float16", "float32")
Content = Literal["probabilities", "classes", "both"]
CONTENTS: Final[tuple[Content, ...]] = ("probabilities", "classes", "both")


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """What is stored and how it is cut.

    Attributes
    ----------
    leading_axes, spatial_axes
        Names of the axes that the network does not look along, and of those that it does.
    grid
        The tiles.
    classes, channels
        Of the network: channels of its answer and of its image.
    content
        "probabilities", "classes" or "both".
    dtype
        Of the probabilities; as "uint8" they are stored as round(255 p).
    pixel_sizes
        For any axis by name: the distance from one to the next, and its unit or None.
    """

    leading_axes: str
    spatial_axes: str
    grid: TileGrid
    classes: int
    channels: int
    content: Content = "probabilities"
    dtype: OutputType = "uint8"
    pixel_sizes: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.content not in CONTENTS:
            raise InputError(f"no output {self.content!r}; choose one of {', '.join(CONTENTS)}")
        if self.dtype not in OUTPUT_TYPES:
            raise InputError(
                f"probabilities cannot be stored as {self.dtype!r}; choose one of "
                f"{', '.join(OUTPUT_TYPES)}"
            )

    @property
    def with_probabilities(self) -> bool:
        """Whether probabilities are stored."""
        return self.content != "classes"

    @property
    def with_classes(self) -> bool:
        """Whether class labels are stored."""
        return self.content != "probabilities"

    @property
    def axes(self) -> dict[str, str]:
        """Name of each array that is stored, and of its axes."""
        before, after = self.leading_axes, self.spatial_axes
        # OME-Zarr has its axes in the order t, c, z, y, x.
        time, planes = before.replace("z", ""), before.replace("t", "")
        names = {"probabilities": f"{time}c{planes}{after}", "classes": f"{before}{after}"}
        return {
            name: axes
            for name, axes in names.items()
            if (self.with_classes if name == "classes" else self.with_probabilities)
        }


def array_shape(layout: OutputLayout, axes: str, *, chunk: bool) -> tuple[int, ...]:
    """Shape of an array with these axes, or of its chunks."""
    grid = layout.grid
    lengths = dict(zip(layout.leading_axes, grid.leading_shape, strict=True))
    lengths |= dict(zip(layout.spatial_axes, grid.shape, strict=True))
    lengths["c"] = layout.classes
    if chunk:
        sides = dict(zip(layout.spatial_axes, grid.sides, strict=True))
        lengths = {name: sides.get(name, 1) for name in lengths}
    return tuple(lengths[name] for name in axes)


def ome_attributes(layout: OutputLayout, name: str) -> dict[str, Any]:
    """Return what OME-Zarr 0.5 says of an image, one level for each array."""
    sizes = layout.pixel_sizes
    images = []
    for array, axes in layout.axes.items():
        entries = [described_axis(Axis(axis, 0, *sizes.get(axis, (None, None)))) for axis in axes]
        scale = [sizes.get(axis, (1.0, None))[0] for axis in axes]
        level = {
            "path": array,
            "coordinateTransformations": [{"type": "scale", "scale": scale}],
        }
        images.append({"name": f"{name} {array}", "axes": entries, "datasets": [level]})
    return {"version": "0.5", "multiscales": images}
