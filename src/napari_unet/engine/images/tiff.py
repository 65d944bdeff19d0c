"""TIFF, OME-TIFF and ImageJ hyperstacks, read page by page and never whole."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_unet.engine.images.axes import (
    MICROMETRE,
    Corrections,
    ImageInfo,
    guess_names,
    tidy_unit,
    usable_size,
)
from napari_unet.engine.images.lazy import OpenedImage, Stored, describe
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import holds_channels_last

# A damaged file is reported once, by InputError; tifffile would also log every damaged tag to the
# terminal of a program that has not set up logging.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_BASELINE_UNITS: Final = {2: "inch", 3: "cm"}
_Sizes = dict[str, tuple[float, str | None]]


def open_tiff(path: Path, corrections: Corrections) -> OpenedImage:
    """Open the first image of a TIFF file.

    Raises
    ------
    InputError
        If the file is cut off, its axes are not known, or its description promises more planes
        than there are.
    """
    tiff: tifffile.TiffFile | None = None
    try:
        with _noticing_damage(path):
            tiff = tifffile.TiffFile(path)
            series = tiff.series[0]
            len(tiff.pages)  # looks for all of them
        levels = [tuple(level.shape) for level in series.levels]
        if corrections.level >= len(levels):
            raise InputError(
                f"{path} has {_count(len(levels), 'level')}; choose --level 0"
                + (f" to {len(levels) - 1}" if len(levels) > 1 else "")
            )
        level = series.levels[corrections.level]
        _check_not_cut_off(level, path)
        names, notes = _named(series, _kind(tiff), path)
        base = ImageInfo(
            path=path,
            kind=_kind(tiff),
            axes=(),
            dtype="",
            rgb="S" in series.axes.upper(),
            channels=_channel_names(tiff),
            level=corrections.level,
            levels=tuple(levels),
            notes=(*_notes(tiff), *notes),
        )
        sizes = _scaled(_sizes(tiff), names, levels[0], tuple(level.shape))
        stored = _stored(tiff, level)
        info, drop = describe(stored, names, base, corrections, sizes=sizes)
        return OpenedImage(info, stored, drop, tiff.close)
    except BaseException:
        if tiff is not None:
            tiff.close()
        raise


class _DamageLog(logging.Handler):
    """Collects what tifffile tells of this thread's file and goes on without."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lost = False
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # Pages behind the end of the file, or the description that names axes and sizes.
        lost = "invalid page offset" in text or ("TiffTag 270" in text and "invalid value" in text)
        self.lost = self.lost or (lost and record.thread == self._thread)


@contextmanager
def _noticing_damage(path: Path) -> Iterator[None]:
    """Raise if pages or the description lie behind the end of the file.

    tifffile reads what is left as if it were all, and only logs it.
    """
    log = _DamageLog()
    logger = logging.getLogger("tifffile")
    logger.addHandler(log)
    try:
        yield
    finally:
        logger.removeHandler(log)
    if log.lost:
        raise InputError(
            f"{path} is cut off: pages or the description at its end are missing; copy the file "
            "again"
        )


def _names(axes: str) -> str:
    """Return tifffile's names of axes as ours: samples are channels, what is unknown is "?"."""
    if "S" in axes and "C" in axes:  # colours of channels: none of ours
        return "".join(name.lower() if name in "TZYXC" else "?" for name in axes)
    return "".join(name.lower() if name in "TZYXC" else "?" for name in axes.replace("S", "C"))


def _named(series: tifffile.TiffPageSeries, kind: str, path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the names of the axes and what was guessed: channels of plain TIFF may be last."""
    names, shape = _names(series.axes.upper()), tuple(series.shape)
    if kind == "TIFF" and "?" in names and "c" not in names and holds_channels_last(shape):
        names, _, notes = guess_names(shape, path)
        return names, notes
    return names, ()


def _kind(tiff: tifffile.TiffFile) -> str:
    if tiff.is_ome:
        return "OME-TIFF"
    return "ImageJ TIFF" if tiff.is_imagej else "TIFF"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _notes(tiff: tifffile.TiffFile) -> tuple[str, ...]:
    if len(tiff.series) > 1:
        return (f"the file holds {len(tiff.series)} images; the first one is used",)
    return ()


def _check_not_cut_off(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise if the data of an image reach past the end of the file, or planes are missing."""
    # tifffile fills some kinds of missing data with zeros and only logs it.
    if any(page is None for page in series.pages) and series.dataoffset is None:
        held = sum(page is not None for page in series.pages)
        raise InputError(
            f"{path} describes {_count(len(series.pages), 'plane')} but holds {held}; copy the "
            "file again, with all files that belong to it, or open it in Fiji and save it anew"
        )
    for page in series.pages:
        if page is None:
            continue
        size = page.parent.filehandle.size
        missing = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)), default=0)
        if series.dataoffset is not None and page is series.pages[0]:
            missing = max(missing, series.dataoffset + series.nbytes)
        if missing > size:
            raise InputError(
                f"{path} is cut off: {missing - size} bytes of the image are missing; copy the "
                "file again"
            )


# ---------------------------------------------------------------------------- pixels


def _stored(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stored:
    """Return the pixels: as they lie in the file if they lie in one piece, else page by page."""
    single = all(page is None or page.parent is tiff for page in series.pages)
    plain = np.dtype(series.dtype).kind != "b" and math.prod(series.shape) > 0
    if single and plain and series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(tiff.byteorder)
        mapped: NDArray[Any] = np.memmap(
            tiff.filehandle.path, dtype, "r", series.dataoffset, tuple(series.shape)
        )
        return mapped
    return _Pages(series)


class _Pages:
    """The pages of a series as one array; only those that are asked for are decoded."""

    def __init__(self, series: tifffile.TiffPageSeries) -> None:
        self.shape: tuple[int, ...] = tuple(series.shape)
        self.dtype = series.dtype
        self._series = series
        page = tuple(series.keyframe.shape)
        # Where series and pages do not share their last axes, the series is read as a whole.
        pages = len(series.pages)
        self._outer = next(
            (
                n
                for n in range(len(self.shape) + 1)
                if math.prod(self.shape[:n]) == pages
                and math.prod(self.shape[n:]) == math.prod(page)
            ),
            None,
        )

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        if self._outer is None:
            whole: NDArray[Any] = np.asarray(self._series.asarray())[index]
            return whole
        outer, inner = index[: self._outer], index[self._outer :]
        ranges = [
            range(length)[part] if isinstance(part, slice) else (part,)
            for part, length in zip(outer, self.shape, strict=False)
        ]
        pages = [self._page(position)[inner] for position in itertools.product(*ranges)]
        lengths = [
            len(span) for span, part in zip(ranges, outer, strict=True) if isinstance(part, slice)
        ]
        return np.stack(pages).reshape(*lengths, *pages[0].shape)

    def _page(self, position: tuple[int, ...]) -> NDArray[Any]:
        number = 0
        for place, length in zip(position, self.shape, strict=False):
            number = number * length + place
        page = self._series.pages[number]
        assert page is not None  # looked at when the file was opened
        try:
            data = np.asarray(page.asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            # LZW and JPEG, which tifffile cannot read alone.
            data = np.asarray(
                iio.imread(page.parent.filehandle.path, index=page.index, plugin="pillow")
            )
        return data.reshape(self.shape[self._outer :])


# ---------------------------------------------------------------------------- sizes and names


def _sizes(tiff: tifffile.TiffFile) -> _Sizes:
    """Read distances and units by axis."""
    if tiff.ome_metadata is not None:
        return _ome_sizes(tiff.ome_metadata)
    tags = tiff.pages.first.tags
    height, width = (_size_from_resolution(tags, name) for name in ("YResolution", "XResolution"))
    if height is None or width is None:
        return {}
    if tiff.imagej_metadata is not None:
        return _imagej_sizes(tiff.imagej_metadata, height, width)
    code = tags.get("ResolutionUnit")
    unit = "inch" if code is None else _BASELINE_UNITS.get(int(code.value))
    if unit is None and height == width == 1:  # what writers put when they know nothing
        return {}
    return {"y": (height, unit), "x": (width, unit)}


def _imagej_sizes(metadata: dict[str, Any], height: float, width: float) -> _Sizes:
    sizes: _Sizes = {}
    if (unit := tidy_unit(metadata.get("unit"))) is not None:
        sizes = {"y": (height, unit), "x": (width, unit)}
        if (spacing := usable_size(metadata.get("spacing"))) is not None:
            sizes["z"] = (spacing, unit)
    if (interval := usable_size(metadata.get("finterval"))) is not None:
        sizes["t"] = (interval, tidy_unit(metadata.get("tunit")) or "s")
    return sizes


def _size_from_resolution(tags: tifffile.TiffTags, name: str) -> float | None:
    """Size of a pixel from a resolution tag, which holds pixels per unit as a fraction."""
    tag = tags.get(name)
    if tag is None:
        return None
    pixels, units = tag.value
    return float(units) / float(pixels) if pixels and units else None


def _ome_sizes(xml: str) -> _Sizes:
    pixels = _ome_pixels(xml)
    if pixels is None:
        return {}
    sizes: _Sizes = {}
    for name in "xyz":
        if (size := usable_size(pixels.get(f"PhysicalSize{name.upper()}"))) is not None:
            # The OME schema says micrometres where nothing is said.
            unit = pixels.get(f"PhysicalSize{name.upper()}Unit", MICROMETRE)
            sizes[name] = (size, tidy_unit(unit))
    if not {"x", "y"} <= set(sizes):  # the distance of planes alone says nothing
        sizes.clear()
    if (interval := usable_size(pixels.get("TimeIncrement"))) is not None:
        sizes["t"] = (interval, tidy_unit(pixels.get("TimeIncrementUnit", "s")))
    return sizes


def _ome_nodes(xml: str) -> Iterator[ElementTree.Element]:
    try:
        yield from ElementTree.fromstring(xml).iter()
    except ElementTree.ParseError:
        return


def _ome_pixels(xml: str) -> dict[str, str] | None:
    return next((n.attrib for n in _ome_nodes(xml) if n.tag.endswith("}Pixels")), None)


def _channel_names(tiff: tifffile.TiffFile) -> tuple[str, ...]:
    """Return the names of the channels of the first image; empty unless all have one."""
    if tiff.ome_metadata is None:
        return ()
    pixels = next((n for n in _ome_nodes(tiff.ome_metadata) if n.tag.endswith("}Pixels")), None)
    if pixels is None:
        return ()
    names = [node.get("Name") for node in pixels if node.tag.endswith("}Channel")]
    return tuple(name for name in names if name) if all(names) else ()


def _scaled(sizes: _Sizes, names: str, finest: tuple[int, ...], used: tuple[int, ...]) -> _Sizes:
    """Return the sizes of the pixels of a coarser level."""
    factors = {
        name: full / length
        for name, full, length in zip(names, finest, used, strict=True)
        if length
    }
    return {name: (size * factors.get(name, 1.0), unit) for name, (size, unit) in sizes.items()}
