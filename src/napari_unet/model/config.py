"""The shape of a network, and what it demands of the images that it sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from reprlib import repr as shortened
from typing import Any, Final

from napari_unet.model.filters import response_count
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import TileGeometry

# What a configuration may ask for. Wide enough for every use, and narrow enough that a damaged or
# hostile model file cannot ask for a network that no machine could hold.
_LIMITS = {
    "in_channels": (1, 1024),
    "classes": (2, 255),  # labels are stored in 8 bits, and 0 is "not annotated"
    "base_channels": (1, 512),
    "depth": (1, 6),
    "hidden": (0, 1024),
    "ndim": (2, 3),
}
# What older files do not say.
_LATER_VALUES = {
    "hypercolumns": False,
    "hidden": 0,
    "ndim": 2,
    "pooling": (),
    "second_look": False,
    "padded": False,
}
#: So many pixels of the image, along each axis, are one of its second look.
SECOND_LOOK_SCALE: Final = 4
#: Depth from which on a network may look twice. The answers of flatter ones have no surplus, which
#: leaves nothing around a tile to interpolate a second look with.
SHALLOWEST_LOOK: Final = 3
# Planes further apart than this many pixels are not pooled yet: pooling the others first brings
# the two nearer to each other than pooling all would.
_FAR_APART = math.sqrt(2)


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """The shape of a network.

    Attributes
    ----------
    in_channels
        Channels of the image: 1 for grey, 3 for RGB.
    classes
        Channels of the answer, background included.
    base_channels
        Channels of the first level; each level below has twice as many. The paper's is 64.
    depth
        How often the image is halved. The paper's is 4.
    batch_norm
        Whether BatchNorm follows every 3x3 convolution. The paper has none.
    dropout
        Probability, in [0, 1), that a feature is dropped at the end of the contracting path.
    hypercolumns
        Whether the answer is a linear function of the maps of all levels of the expanding path,
        enlarged, and of fixed filters (`napari_unet.model.filters`), and not of the last map alone
        (Hariharan et al. 2015, section 2). The paper's is not. Only in two dimensions.
    hidden
        How many rectified units see what the last layer sees, and add to its answer
        (`napari_unet.model.head`). The paper has none.
    ndim
        2 for images (Y, X), 3 for stacks (Z, Y, X).
    pooling
        For each level, from the top down, by how much its max pooling shrinks each axis: 2 along
        rows and columns, 1 or 2 along planes, such as ((1, 2, 2), (2, 2, 2)) where planes lie far
        apart (`pooling_for`). Where planes are not pooled they are not convolved either, so their
        kernels are 1x3x3. Empty: every axis is halved at every level.
    second_look
        Whether the same weights also look at the image scaled down by `SECOND_LOOK_SCALE`, and the
        last layers see the maps of both looks: what surrounds a pixel further out. Needs
        hypercolumns and a depth of 3. The paper's has none.
    padded
        Whether convolutions are padded with zeros, so that the answer is as large as the image, at
        a fraction of the cost. It then depends on where the image ends: such a network answers for
        windows (`napari_unet.model.click`), and never tile by tile. The paper's is not.

    Raises
    ------
    InputError
        If a value is of the wrong kind or outside its range.
    """

    in_channels: int = 1
    classes: int = 2
    base_channels: int = 64
    depth: int = 4
    batch_norm: bool = False
    dropout: float = 0.5
    hypercolumns: bool = False
    hidden: int = 0
    ndim: int = 2
    pooling: tuple[tuple[int, ...], ...] = ()
    second_look: bool = False
    padded: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InputError(
                    f"{name} = {shortened(value)} is not possible; "
                    f"choose a whole number from {low} to {high}"
                )
        for name in ("batch_norm", "hypercolumns", "second_look", "padded"):
            flag: object = getattr(self, name)  # a file may hold anything
            if not isinstance(flag, bool):
                raise InputError(
                    f"{name} = {shortened(flag)} is not possible; choose true or false"
                )
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise InputError(
                f"dropout = {shortened(self.dropout)} is not possible; "
                "choose a number of at least 0 and below 1"
            )
        if self.hypercolumns and self.ndim != 2:
            raise InputError("hypercolumns are for two dimensions; leave them out of a 3D network")
        if self.second_look and not (self.hypercolumns and self.depth >= SHALLOWEST_LOOK):
            raise InputError(
                f"a second look needs hypercolumns and a depth of {SHALLOWEST_LOOK}; leave it out"
            )
        if self.padded and (self.hypercolumns or self.ndim != 2):
            raise InputError(
                "a padded network has two dimensions and no hypercolumns; leave padding out"
            )
        object.__setattr__(self, "pooling", self._checked_pooling())

    def _checked_pooling(self) -> tuple[tuple[int, ...], ...]:
        """Return the pooling as tuples: a file holds lists, and anything else."""
        possible = [(2, 2)] if self.ndim == 2 else [(1, 2, 2), (2, 2, 2)]
        listed = isinstance(self.pooling, (list, tuple)) and all(
            isinstance(level, (list, tuple)) for level in self.pooling
        )
        levels = tuple(tuple(level) for level in self.pooling) if listed else None
        whole = levels is not None and all(type(each) is int for level in levels for each in level)
        if (
            levels is None
            or not whole
            or len(levels) not in (0, self.depth)
            or any(level not in possible for level in levels)
        ):
            raise InputError(
                f"pooling = {shortened(self.pooling)} is not possible; give {self.depth} levels, "
                f"each {' or '.join(map(str, possible))}, or none"
            )
        return levels

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """By how much the max pooling of each level, from the top down, shrinks each axis."""
        return self.pooling or ((2,) * self.ndim,) * self.depth

    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]:
        """Sides of the convolutions of each level, from the top down; the bottom is the last."""
        levels = [tuple(1 if factor == 1 else 3 for factor in level) for level in self.levels]
        return (*levels, (3,) * self.ndim)

    @property
    def geometries(self) -> tuple[TileGeometry, ...]:
        """What the network demands of its tiles, axis by axis."""
        return tuple(map(_seen_twice, self.looks)) if self.second_look else self.looks

    @property
    def looks(self) -> tuple[TileGeometry, ...]:
        """What a single look demands of what it looks at: `geometries`, if there is no second."""
        if self.padded:
            return (TileGeometry(halo=0, stride=2**self.depth, surplus=0),) * self.ndim
        return tuple(
            _geometry(factors, sides)
            for factors, sides in zip(
                zip(*self.levels, strict=True), zip(*self.kernels, strict=True), strict=True
            )
        )

    @property
    def geometry(self) -> TileGeometry:
        """What the network demands of the rows and columns of its tiles."""
        return self.geometries[-1]

    @property
    def halo(self) -> int:
        """Pixels that each side of the input is larger than the answer: 92 at depth 4, or 0.

        Along rows and columns; `geometries` tells it for planes as well.
        """
        return self.geometry.halo

    @property
    def responses(self) -> int:
        """How many filter responses the last layer sees; 0 without hypercolumns."""
        return response_count(self.in_channels, self.looks[-1].halo) if self.hypercolumns else 0

    @property
    def stride(self) -> int:
        """Pixels of the image, along rows and columns, that fall into one of the bottom: 16."""
        return self.geometry.stride

    def output_size(self, input_size: int, axis: int = -1) -> int:
        """Side of the answer for a side of the input: 572 -> 388 at depth 4.

        Every max pooling must see an even side, so valid sides are `stride` apart.

        Parameters
        ----------
        input_size
            Side of the input, in pixels.
        axis
            Of the image's axes (Z, Y, X) or (Y, X); where planes are pooled as rows and columns
            are, all are alike.

        Raises
        ------
        InputError
            If the side does not fit; the nearest that do are named.
        """
        below, above = _valid_sizes_around(self.geometries[axis], input_size)
        if input_size in (below, above):
            return input_size - 2 * self.geometries[axis].halo
        nearest = f"{above}" if below is None else f"{below} or {above}"
        raise InputError(f"a side of {input_size} pixels does not fit the network; use {nearest}")

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, all of them fit for JSON.

        Of a network for images what is said of stacks alone is left out, and a second look or
        padding that there is not, so that programs that do not know of them yet read its file.
        """
        values = asdict(self) | {"pooling": [list(level) for level in self.pooling]}
        if self.ndim == 2 and not self.pooling:
            del values["ndim"], values["pooling"]
        for name in ("second_look", "padded"):
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> UNetConfig:
        """Make a configuration from what `to_dict` returned.

        Raises
        ------
        InputError
            If names are missing or unknown, or a value is of the wrong kind or out of range.
        """
        if not isinstance(values, Mapping):
            raise InputError("the network's configuration is not a table; save the model again")
        names = {field.name for field in fields(cls)}
        values = {**_LATER_VALUES, **values}
        if wrong := sorted(names.symmetric_difference(values), key=str):
            listed = ", ".join(str(name)[:40] for name in wrong[:6])
            raise InputError(
                f"missing or unknown in the network's configuration: {listed}; save the model again"
            )
        return cls(**values)


def pooling_for(spacing: Sequence[float], depth: int) -> tuple[tuple[int, ...], ...]:
    """Choose the pooling that makes voxels as wide as they are high, level by level.

    Planes that lie further apart than pixels are not pooled until the pixels have become about as
    large, as in nnU-Net (Isensee et al., Nature Methods 18, 2021, online methods).

    Parameters
    ----------
    spacing
        Distance of planes, height and width of a pixel, in one unit.
    depth
        How many levels there are.

    Returns
    -------
    tuple
        For `UNetConfig.pooling`: 3, 1, 1 gives ((1, 2, 2), (1, 2, 2), (2, 2, 2)) at depth 3.

    Raises
    ------
    InputError
        If the spacing is not three numbers above 0.
    """
    if len(spacing) != 3 or not all(0 < each < math.inf for each in spacing):
        raise InputError(
            f"a spacing of {tuple(spacing)} is not possible; give the distance of planes, height "
            "and width of a pixel, each above 0"
        )
    planes, pixels = spacing[0], min(spacing[1:])
    levels = []
    for _ in range(depth):
        factor = 1 if planes / pixels > _FAR_APART else 2
        levels.append((factor, 2, 2))
        planes, pixels = planes * factor, pixels * 2
    return tuple(levels)


def _geometry(factors: Sequence[int], sides: Sequence[int]) -> TileGeometry:
    """Work out the demands along one axis from the pooling and the kernels of all levels.

    Two convolutions of side 3 take 2 pixels from each end, which are 2 * scale pixels of the
    image; they do so twice at each level, and once at the bottom: 6 * 2**depth - 4 where every
    level is pooled by 2.
    """
    halo, lost, scale = 0, 0, 1
    for factor, side in zip(factors, sides, strict=False):  # the bottom has no pooling
        halo += 2 * (side - 1) * scale
        lost += 2 * (side - 1) * scale
        scale *= factor
    halo += (sides[-1] - 1) * scale
    # Going up the contracting path, a bottom of b pixels becomes scale * b + lost at the top.
    return TileGeometry(halo=halo, stride=scale, surplus=(lost - 2 * halo) % scale)


def _seen_twice(look: TileGeometry) -> TileGeometry:
    """Work out the demands along one axis when a look at a smaller image adds to the answer.

    The smaller image's answer, `surplus` beyond a multiple of the stride, covers the tile's with
    1.5 times the surplus to spare on each side: 6 pixels, of which interpolation takes 2.
    """
    scale = SECOND_LOOK_SCALE
    halo = scale * look.halo + (scale - 1) * look.surplus // 2
    return TileGeometry(halo=halo, stride=scale * look.stride, surplus=look.surplus)


def _valid_sizes_around(geometry: TileGeometry, input_size: int) -> tuple[int | None, int]:
    """Largest valid side of at most `input_size` (None if there is none), and the next."""
    stride, context = geometry.stride, 2 * geometry.halo
    # Outputs are `surplus` beyond a multiple of the stride; the smallest has a pixel at least.
    smallest = context + (geometry.surplus or stride)
    if input_size < smallest:
        return None, smallest
    below = smallest + (input_size - smallest) // stride * stride
    return below, below + stride
