"""What an image file says about itself: axes, pixel sizes, channels, levels.

Axes have one-letter names: t (time), c (channel), z (plane), y (row), x (column). Results are
stored in that order, the one that ImageJ, OME-TIFF and OME-Zarr share.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from napari_unet.ops.errors import InputError
from napari_unet.ops.images import holds_channels_last

ORDER: Final = "tczyx"
MICROMETRE: Final = "µm"
_RGB_LENGTHS: Final = (3, 4)

# Spellings of units in OME-XML, OME-Zarr and ImageJ, and what they are called here.
_SPELLINGS: Final = {
    "um": MICROMETRE,
    "µm": MICROMETRE,
    "\u03bcm": MICROMETRE,  # with the Greek letter
    r"\u00b5m": MICROMETRE,  # as ImageJ writes it
    "micron": MICROMETRE,
    "microns": MICROMETRE,
    "micrometer": MICROMETRE,
    "micrometre": MICROMETRE,
    "nanometer": "nm",
    "nanometre": "nm",
    "millimeter": "mm",
    "millimetre": "mm",
    "centimeter": "cm",
    "centimetre": "cm",
    "meter": "m",
    "metre": "m",
    "angstrom": "Å",
    "inches": "inch",
    "second": "s",
    "seconds": "s",
    "sec": "s",
    "millisecond": "ms",
    "minute": "min",
    "hour": "h",
}
_NO_UNIT: Final = ("", "pixel", "pixels", "none", "null", "dimensionless")
_METRES: Final = {
    "Å": 1e-10,
    "nm": 1e-9,
    MICROMETRE: 1e-6,
    "mm": 1e-3,
    "cm": 1e-2,
    "inch": 0.0254,
    "m": 1.0,
}


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an image.

    Attributes
    ----------
    name
        "t", "c", "z", "y" or "x".
    length
        How many pixels, planes, time points or channels.
    size
        Distance from one to the next in `unit`; None if nobody knows.
    unit
        "µm", "nm", "s" ...; None if nobody knows.
    """

    name: str
    length: int
    size: float | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Height and width of a pixel, and their unit ("µm" for micrometres) if it is known."""

    height: float
    width: float
    unit: str | None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image file holds.

    Attributes
    ----------
    path
        The file, or the folder of an OME-Zarr.
    kind
        Its format, for people: "ImageJ TIFF", "OME-Zarr 0.5".
    axes
        In the order in which the file stores them, those of length 1 that mean nothing left out.
    dtype
        The number type, such as "uint16".
    rgb
        Whether the axis c holds the colours of one picture and not channels of their own.
    channels
        Names of the channels; empty if the file has none.
    level, levels
        Which level of a pyramid is used, and the shapes of all; one level for other files.
    notes
        What was guessed, or does not fit together, in sentences for the user.
    """

    path: Path
    kind: str
    axes: tuple[Axis, ...]
    dtype: str
    rgb: bool = False
    channels: tuple[str, ...] = ()
    level: int = 0
    levels: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """Names of the axes in one word: "zcyx"."""
        return "".join(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(axis.length for axis in self.axes)

    @property
    def leading(self) -> tuple[Axis, ...]:
        """The axes that planes are counted along (t and z), in the order of results."""
        return tuple(axis for name in "tz" for axis in self.axes if axis.name == name)

    @property
    def channel_count(self) -> int:
        """How many channels; 1 without such an axis, 3 for RGB with an alpha channel."""
        length = next((axis.length for axis in self.axes if axis.name == "c"), 1)
        return 3 if self.rgb and length in _RGB_LENGTHS else length

    def axis(self, name: str) -> Axis | None:
        """Return an axis by its name; None if there is none."""
        return next((axis for axis in self.axes if axis.name == name), None)

    @property
    def pixel_size(self) -> PixelSize | None:
        """Height and width of a pixel; None if the file does not say."""
        rows, columns = self.axis("y"), self.axis("x")
        if rows is None or columns is None or rows.size is None or columns.size is None:
            return None
        if rows.unit != columns.unit:
            factor = unit_ratio(rows.unit, columns.unit)
            return (
                None
                if factor is None
                else PixelSize(rows.size * factor, columns.size, columns.unit)
            )
        return PixelSize(rows.size, columns.size, rows.unit)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, fit for JSON."""
        return {
            "image": self.path,
            "format": self.kind,
            "axes": self.names,
            "shape": self.shape,
            "dtype": self.dtype,
            "rgb": self.rgb,
            "channels": self.channels,
            "pixel_size": {a.name: a.size for a in self.axes if a.size is not None},
            "units": {a.name: a.unit for a in self.axes if a.unit is not None},
            "level": self.level,
            "levels": self.levels,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """Return all of it for people, a title and a value in each line."""
        pairs = [
            ("image", str(self.path)),
            ("format", self.kind),
            ("axes", f"{self.names} ({self._shape_in_words()}), {self.dtype}"),
            ("pixel size", self._sizes_in_words()),
        ]
        if self.channel_count > 1:
            names = ", ".join(f"{i} {name}" for i, name in enumerate(self.channels, start=1))
            pairs.append(("channels", "RGB" if self.rgb else names or f"1 to {self.channel_count}"))
        if len(self.levels) > 1:
            sides = ", ".join(
                f"{i}{' (used)' if i == self.level else ''}: {' x '.join(map(str, shape))}"
                for i, shape in enumerate(self.levels)
            )
            pairs.append(("levels", sides))
        pairs += [("note", text) for text in self.notes]
        return [f"{title:<24}{value}" for title, value in pairs]

    def _shape_in_words(self) -> str:
        return " x ".join(str(length) for length in self.shape)

    def _sizes_in_words(self) -> str:
        known = [a for a in self.axes if a.size is not None]
        if not known:
            return "not known"
        return ", ".join(f"{a.name} {a.size:g} {a.unit or ''}".strip() for a in known)


@dataclass(frozen=True, slots=True)
class Corrections:
    """What the user knows better than the file.

    Attributes
    ----------
    axes
        Names of all axes of the stored array, "zcyx"; None believes the file.
    sizes
        Pairs of axis and distance, in `unit`; they replace what the file says.
    unit
        Unit of `sizes`.
    level
        Level of a pyramid, 0 is the finest.
    """

    axes: str | None = None
    sizes: tuple[tuple[str, float], ...] = ()
    unit: str | None = None
    level: int = 0

    def __post_init__(self) -> None:
        if self.axes is not None:
            check_names(self.axes)
        for name, size in self.sizes:
            if name not in "tzyx" or not (math.isfinite(size) and size > 0):
                raise InputError(f"a pixel size of {size} along {name!r} is not possible")


def check_names(names: str) -> str:
    """Return axis names in lower case.

    Raises
    ------
    InputError
        If a name is not one of t, c, z, y, x, comes twice, or y or x is missing.
    """
    names = names.lower()
    wrong = [name for name in names if name not in ORDER]
    if wrong or len(set(names)) != len(names) or not {"y", "x"} <= set(names):
        raise InputError(
            f"the axes {names!r} are not possible; give each axis of the image once, from "
            "t (time), c (channel), z (plane), y and x, such as zcyx"
        )
    return names


def parse_pixel_size(text: str) -> Corrections:
    """Read a pixel size as people type it.

    Parameters
    ----------
    text
        "0.5", "0.5 um", "0.5,0.25 µm" (y, x) or "2,0.5,0.5um" (z, y, x).

    Raises
    ------
    InputError
        If it cannot be read, or is not above 0.
    """
    match = re.fullmatch(r"\s*([-+0-9.eE,;x ]*[0-9.])\s*([^\d\s,]*)\s*", text)
    try:
        assert match is not None
        numbers = [float(part) for part in re.split(r"[,;x ]+", match.group(1).strip())]
        assert 1 <= len(numbers) <= 3
        assert all(math.isfinite(number) and number > 0 for number in numbers)
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"{text!r} is no pixel size; write 0.5um, or 0.5,0.25um for height and width, or "
            "2,0.5,0.5um for the distance of planes as well"
        ) from error
    if len(numbers) == 1:
        numbers *= 2
    names = "zyx"[-len(numbers) :]
    return Corrections(
        sizes=tuple(zip(names, numbers, strict=True)), unit=tidy_unit(match.group(2))
    )


def parse_size_of_plane(text: str) -> PixelSize:
    """Read height and width of a pixel as people type them; see `parse_pixel_size`."""
    corrections = parse_pixel_size(text)
    sizes = dict(corrections.sizes)
    return PixelSize(sizes["y"], sizes["x"], corrections.unit)


def tidy_unit(unit: object) -> str | None:
    """Return the usual sign of a unit; None for pixels and for nothing."""
    name = str(unit or "").strip()
    if name.lower() in _NO_UNIT:
        return None
    return _SPELLINGS.get(name.lower(), name)


def unit_ratio(unit: str | None, other: str | None) -> float | None:
    """Return how many of `other` a `unit` of length has; None if they cannot be compared."""
    if unit == other:
        return 1.0
    if unit not in _METRES or other not in _METRES:
        return None
    return _METRES[unit] / _METRES[other]


def spacing_of(info: ImageInfo) -> tuple[float, ...]:
    """Return the size of a voxel along planes, rows and columns, in one unit.

    Where nobody knows it, planes are taken to lie as far apart as pixels: (1, 1, 1).
    """
    found, columns = [], info.axis("x")
    for axis in (info.axis(name) for name in "zyx"):
        if axis is None or axis.size is None or columns is None:
            return (1.0, 1.0, 1.0)
        ratio = unit_ratio(axis.unit, columns.unit)
        if ratio is None:
            return (1.0, 1.0, 1.0)
        found.append(axis.size * ratio)
    return tuple(found)


def usable_size(size: object) -> float | None:
    """Return a size from a file if it is a finite number above 0, else None."""
    try:
        number = float(size)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def guess_names(shape: tuple[int, ...], path: Path) -> tuple[str, bool, tuple[str, ...]]:
    """Guess the axes of an array about which nothing is known.

    Returns
    -------
    tuple
        Names, whether the last axis holds colours, and a note on what was guessed. A last axis that
        is far shorter than rows and columns holds channels.

    Raises
    ------
    InputError
        If the guess would be as good as any other.
    """
    rgb = len(shape) > 2 and shape[-1] in _RGB_LENGTHS
    last = rgb or holds_channels_last(shape)
    places = len(shape) - last
    if places not in (2, 3, 4):
        raise InputError(
            f"{path} has {len(shape)} axes (shape {shape}) and does not say which; give their "
            "names with --axes, such as tzcyx"
        )
    names = "tzyx"[-places:] + "c" * last
    if places == 2 and not last:
        return names, rgb, ()
    kind = f"{names} (shape {shape}{', colours last' if rgb else ', channels last' * last})"
    return names, rgb, (f"the axes are taken as {kind}; --axes says otherwise",)


def with_corrections(info: ImageInfo, corrections: Corrections) -> ImageInfo:
    """Return a description with the user's pixel sizes in place."""
    if not corrections.sizes:
        return info
    sizes = dict(corrections.sizes)
    if missing := [name for name in sizes if info.axis(name) is None and name != "z"]:
        raise InputError(f"{info.path} has no axis {missing[0]}; its axes are {info.names}")
    axes = tuple(
        replace(axis, size=sizes[axis.name], unit=corrections.unit) if axis.name in sizes else axis
        for axis in info.axes
    )
    return replace(info, axes=axes)
