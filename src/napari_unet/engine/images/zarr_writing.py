"""Write OME-Zarr images and label images, plane by plane, with a pyramid.

Source: https://ngff.openmicroscopy.org/0.4 and /0.5, sections multiscales, omero and labels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_unet.engine.images.axes import MICROMETRE, Axis
from napari_unet.engine.images.lazy import PlaneIndex
from napari_unet.engine.images.omezarr import zarr_package
from napari_unet.ops.errors import InputError

Version = Literal["0.4", "0.5"]
VERSIONS: Final[tuple[Version, ...]] = ("0.4", "0.5")
# One chunk is read for every look at a plane: not too many files, not too many bytes.
_CHUNK: Final = 512
# A pyramid ends with a level that fits into a small window.
_SMALLEST_LEVEL: Final = 256
_KINDS: Final = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
# As OME-Zarr spells them.
_UNITS: Final = {
    MICROMETRE: "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "Å": "angstrom",
    "inch": "inch",
    "s": "second",
    "ms": "millisecond",
    "min": "minute",
    "h": "hour",
}


@dataclass(frozen=True, slots=True)
class _Pyramid:
    """The levels of one image."""

    arrays: tuple[Any, ...]
    is_labels: bool

    def write(self, index: PlaneIndex, plane: NDArray[Any]) -> None:
        """Write (Y, X) or (C, Y, X) into all levels; `index` stands before these axes."""
        for number, array in enumerate(self.arrays):
            if number:
                plane = plane[..., ::2, ::2] if self.is_labels else _halved(plane)
            array[index] = plane


class OmeZarrWriter:
    """An OME-Zarr that is being written: an image and label images of it.

    It is written under another name and renamed by `finish`.

    Parameters
    ----------
    path
        The folder; its name should end in ".ome.zarr".
    axes
        In the order t, c, z, y, x, those that there are; lengths, sizes and units.
    dtype
        Of the image.
    version
        Of the format: "0.4" (zarr 2) or "0.5" (zarr 3).
    channels
        Names of the channels.
    labels
        Names of the label images; they have all axes but c.

    Raises
    ------
    InputError
        If the axes are out of order, or the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        axes: tuple[Axis, ...],
        dtype: DTypeLike,
        *,
        version: Version = "0.5",
        channels: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        names = "".join(axis.name for axis in axes)
        if names != "".join(name for name in "tczyx" if name in names) or names[-2:] != "yx":
            raise InputError(f"axes {names} are out of order; OME-Zarr wants t, c, z, y, x")
        if version not in VERSIONS:
            raise InputError(f"no OME-Zarr version {version!r}; choose {' or '.join(VERSIONS)}")
        self.path = path
        self._version = version
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.discard()
        zarr = zarr_package()
        try:
            root = zarr.open_group(
                str(self._partial), mode="w", zarr_format=2 if version == "0.4" else 3
            )
            self._image = self._add_image(root, path.name.split(".")[0], axes, dtype, False)
            self._set(root, omero=_omero(channels)) if channels else None
            self._labels: dict[str, _Pyramid] = {}
            if labels:
                self._add_labels(root, axes, labels)
        except OSError as error:
            self.discard()
            raise unwritable(path, error) from error

    def write(self, index: PlaneIndex, plane: NDArray[Any]) -> None:
        """Write (C, Y, X), or (Y, X) without an axis c, of the image.

        With an axis z, `index` has a slice in its place: (t, slice(None), z).
        """
        self._write(self._image, index, plane)

    def write_labels(self, name: str, index: PlaneIndex, plane: NDArray[Any]) -> None:
        """Write (Y, X) of a label image."""
        self._write(self._labels[name], index, plane)

    def finish(self) -> Path:
        """Give the folder its name, in place of an earlier one; return it."""
        try:
            if self.path.is_dir() and not self.path.is_symlink():
                shutil.rmtree(self.path)
            os.replace(self._partial, self.path)
        except OSError as error:
            self.discard()
            raise unwritable(self.path, error) from error
        return self.path

    def discard(self) -> None:
        """Take away what was written so far."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _write(self, pyramid: _Pyramid, index: PlaneIndex, plane: NDArray[Any]) -> None:
        try:
            pyramid.write(index, plane)
        except OSError as error:
            self.discard()
            raise unwritable(self.path, error) from error

    def _add_labels(self, root: Any, axes: tuple[Axis, ...], names: Sequence[str]) -> None:
        group = root.create_group("labels")
        self._set(group, labels=list(names))
        spatial = tuple(axis for axis in axes if axis.name != "c")
        for name in names:
            node = group.create_group(name)
            self._labels[name] = self._add_image(node, name, spatial, np.uint32, True)
            about = {"source": {"image": "../../"}}
            key = "image-label"
            self._set(node, **{key: {"version": self._version, **about}})

    def _add_image(
        self, group: Any, name: str, axes: tuple[Axis, ...], dtype: DTypeLike, is_labels: bool
    ) -> _Pyramid:
        arrays: list[Any] = []
        datasets: list[dict[str, Any]] = []
        sides = [axes[-2].length, axes[-1].length]
        steps = [axis.size or 1.0 for axis in axes]
        while True:
            shape = (*(axis.length for axis in axes[:-2]), *sides)
            level = str(len(arrays))
            arrays.append(self._create(group, level, shape, axes, dtype))
            datasets.append({"path": level, "coordinateTransformations": _steps(steps)})
            if not is_labels and len(arrays) > 1:
                datasets[-1]["coordinateTransformations"] += _shift(axes, steps, len(arrays) - 1)
            if max(sides) <= _SMALLEST_LEVEL or min(sides) < 2:
                break
            sides = [-(-side // 2) for side in sides]
            steps = [*steps[:-2], *(2 * step for step in steps[-2:])]
        described = [described_axis(axis) for axis in axes]
        multiscale = {"name": name, "axes": described, "datasets": datasets}
        if self._version == "0.4":
            multiscale["version"] = "0.4"
        self._set(group, multiscales=[multiscale])
        return _Pyramid(tuple(arrays), is_labels)

    def _create(
        self,
        group: Any,
        name: str,
        shape: tuple[int, ...],
        axes: tuple[Axis, ...],
        dtype: DTypeLike,
    ) -> Any:
        chunks = (*(1 for _ in shape[:-2]), *(min(side, _CHUNK) for side in shape[-2:]))
        options: dict[str, Any] = {"shape": shape, "chunks": chunks, "dtype": np.dtype(dtype)}
        if self._version == "0.4":
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        else:
            options["dimension_names"] = [axis.name for axis in axes]
        return group.create_array(name, **options)

    def _set(self, group: Any, **values: Any) -> None:
        set_metadata(group, self._version, **values)


def set_metadata(group: Any, version: str, **values: Any) -> None:
    """Add to the metadata of a group, where this version of OME-Zarr keeps them."""
    if version == "0.4":
        group.attrs.update(values)
        return
    group.attrs["ome"] = {"version": version, **dict(group.attrs.get("ome", {})), **values}


def _halved(plane: NDArray[Any]) -> NDArray[Any]:
    """Return the means of 2 x 2 pixels; an odd last row or column counts twice."""
    odd = [(0, 0)] * (plane.ndim - 2) + [(0, side % 2) for side in plane.shape[-2:]]
    padded = np.pad(plane, odd, mode="edge")
    rows, columns = (side // 2 for side in padded.shape[-2:])
    blocks: NDArray[Any] = padded.reshape(*padded.shape[:-2], rows, 2, columns, 2)
    means: NDArray[Any] = blocks.mean(axis=(-3, -1), dtype=np.float64).astype(plane.dtype)
    return means


def described_axis(axis: Axis) -> dict[str, str]:
    """Return what OME-Zarr says of an axis: name, type, and its unit if it is known."""
    described = {"name": axis.name, "type": _KINDS[axis.name]}
    if axis.unit in _UNITS:
        described["unit"] = _UNITS[axis.unit]
    return described


def _steps(steps: Sequence[float]) -> list[dict[str, Any]]:
    return [{"type": "scale", "scale": [float(step) for step in steps]}]


def _shift(axes: tuple[Axis, ...], steps: Sequence[float], level: int) -> list[dict[str, Any]]:
    """Return where the middle of the first pixel of a coarser level lies."""
    share = (1 - 0.5**level) / 2
    shift = [
        share * step if axis.name in "yx" else 0.0 for axis, step in zip(axes, steps, strict=True)
    ]
    return [{"type": "translation", "translation": shift}]


def _omero(channels: Sequence[str]) -> dict[str, Any]:
    window = {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
    return {
        "channels": [
            {"label": name, "color": "FFFFFF", "active": True, "window": window}
            for name in channels
        ]
    }


def unwritable(path: Path, error: OSError) -> InputError:
    """Return what to tell the user when a folder cannot be written."""
    reason = (error.strerror or str(error)).lower()
    return InputError(f"{path} cannot be written: {reason}; choose another folder")
