"""OME-Zarr, versions 0.4 and 0.5, and plain zarr arrays, read chunk by chunk.

Source: https://ngff.openmicroscopy.org/0.4 and /0.5, sections multiscales, omero and labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from napari_unet.engine.images.axes import (
    Corrections,
    ImageInfo,
    guess_names,
    tidy_unit,
    usable_size,
)
from napari_unet.engine.images.lazy import OpenedImage, describe
from napari_unet.ops.errors import InputError

_METADATA_FILES: Final = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
# Counting which chunks are there lists all files; not for an array of millions.
_MOST_CHUNKS_COUNTED: Final = 100_000
_Sizes = dict[str, tuple[float, str | None]]


def is_zarr(path: Path) -> bool:
    """Say whether a path is a zarr group or array, or at least is called one."""
    if not path.is_dir():
        return False
    return path.suffix == ".zarr" or any((path / name).is_file() for name in _METADATA_FILES)


def open_zarr(path: Path, corrections: Corrections) -> OpenedImage:
    """Open an OME-Zarr image, one of its label images, or a plain zarr array.

    Raises
    ------
    InputError
        If metadata or pixels are missing, the level does not exist, or the zarr package does.
    """
    zarr = zarr_package()
    if not any((path / name).is_file() for name in _METADATA_FILES):
        raise InputError(
            f"{path} has no zarr metadata (zarr.json or .zgroup); the copy may be incomplete: copy "
            "the whole folder again"
        )
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return _open_array(path, node, corrections)
    found = first_multiscale(node)
    _, metadata = _ome_metadata(dict(node.attrs))
    if found is None:
        raise InputError(_no_image(path, node, metadata))
    version, multiscale = found
    return _open_multiscale(path, node, multiscale, metadata, version, corrections)


def zarr_package() -> Any:
    """Return the module zarr; raise InputError, with the cure, if it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(
            'zarr is not installed; install it with: pip install "napari-unet[zarr]"'
        ) from error
    return zarr


def _ome_metadata(attributes: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return version and metadata; 0.5 has them under "ome", earlier ones at the top."""
    inner = attributes.get("ome")
    if isinstance(inner, Mapping):
        return str(inner.get("version", "0.5")), inner
    scales = attributes.get("multiscales")
    first = scales[0] if isinstance(scales, list) and scales else {}
    version = first.get("version", "0.4") if isinstance(first, Mapping) else "0.4"
    return str(version), attributes


def first_multiscale(group: Any) -> tuple[str, Mapping[str, Any]] | None:
    """Return version and description of the image of a zarr group; None if it describes none."""
    version, metadata = _ome_metadata(dict(group.attrs))
    multiscales = metadata.get("multiscales")
    if isinstance(multiscales, list) and multiscales and isinstance(multiscales[0], Mapping):
        return version, multiscales[0]
    return None


def _no_image(path: Path, group: Any, metadata: Mapping[str, Any]) -> str:
    if "plate" in metadata or "well" in metadata:
        return f"{path} is a plate of many images; give the path of one, such as {path}/A/1/0"
    inside = sorted(str(name) for name in group)[:5]
    if inside:
        return (
            f"{path} describes no image (no multiscales); give the path of one of those that it "
            f"holds: {', '.join(f'{path}/{name}' for name in inside)}"
        )
    return f"{path} holds neither an image nor its description; copy the whole folder again"


def _open_array(path: Path, array: Any, corrections: Corrections) -> OpenedImage:
    base = ImageInfo(path, f"zarr {array.metadata.zarr_format}", (), "")
    if corrections.axes is not None:
        names = "?" * array.ndim
    else:
        names, rgb, notes = guess_names(tuple(array.shape), path)
        base = ImageInfo(path, base.kind, (), "", rgb=rgb, notes=notes)
    info, drop = describe(array, names, base, corrections)
    _check_chunks(path, array)
    return OpenedImage(info, array, drop)


def _open_multiscale(
    path: Path,
    group: Any,
    multiscale: Mapping[str, Any],
    metadata: Mapping[str, Any],
    version: str,
    corrections: Corrections,
) -> OpenedImage:
    datasets = multiscale.get("datasets")
    if not (isinstance(datasets, list) and datasets):
        raise InputError(f"{path} names no level of the image; copy the whole folder again")
    if corrections.level >= len(datasets):
        last = len(datasets) - 1
        cure = "leave out --level" if last == 0 else f"choose --level 0 to {last}"
        raise InputError(f"{path} has {len(datasets)} level{'s' * (last > 0)}; {cure}")
    arrays = [_level(path, group, dataset) for dataset in datasets]
    array = arrays[corrections.level]
    names, units = _axes(path, multiscale, array.ndim)
    base = ImageInfo(
        path=path,
        kind=f"OME-Zarr {version}",
        axes=(),
        dtype="",
        channels=_channel_names(metadata),
        level=corrections.level,
        levels=tuple(tuple(each.shape) for each in arrays),
        notes=_check_chunks(path, array),
    )
    sizes = _sizes(multiscale, datasets[corrections.level], names, units)
    info, drop = describe(array, names, base, corrections, sizes=sizes)
    return OpenedImage(info, array, drop)


def _level(path: Path, group: Any, dataset: Any) -> Any:
    """Open one level; a path that leads out of the image is refused."""
    name = dataset.get("path") if isinstance(dataset, Mapping) else None
    parts = Path(name).parts if isinstance(name, str) else ("..",)
    if ".." in parts or Path(*parts).is_absolute():
        raise InputError(f"{path} names a level outside of itself ({name!r}); it is not opened")
    try:
        array = group[name]
    except (KeyError, FileNotFoundError) as error:
        raise InputError(
            f"{path} names a level {name!r} that is not there; copy the whole folder again"
        ) from error
    if not hasattr(array, "dtype"):
        raise InputError(f"{path} names a level {name!r} that is no array; copy the folder again")
    return array


def _axes(
    path: Path, multiscale: Mapping[str, Any], ndim: int
) -> tuple[str, dict[str, str | None]]:
    """Return names and units of the axes."""
    axes = multiscale.get("axes")
    if axes is None and ndim == 5:  # before version 0.3 all images had these
        return "tczyx", {}
    names, units = "", {}
    for axis in axes if isinstance(axes, list) else ():
        name = axis.get("name", "?") if isinstance(axis, Mapping) else axis
        name = str(name).lower()
        name = name if name in tuple("tczyx") else "?"
        names += name
        if isinstance(axis, Mapping):
            units[name] = tidy_unit(axis.get("unit"))
    if len(names) != ndim:
        raise InputError(
            f"{path} names {len(names)} axes ({names}), but its array has {ndim}; say which they "
            "are with --axes on the path of the array itself"
        )
    return names, units


def _sizes(
    multiscale: Mapping[str, Any],
    dataset: Mapping[str, Any],
    names: str,
    units: Mapping[str, str | None],
) -> _Sizes:
    """Multiply the scales of the level with those of the whole pyramid."""
    factors = [1.0] * len(names)
    found = False
    for holder in (dataset, multiscale):
        for step in holder.get("coordinateTransformations") or ():
            scale = step.get("scale") if isinstance(step, Mapping) else None
            if not isinstance(scale, list) or len(scale) != len(names):
                continue
            found = True
            factors = [
                factor * (usable_size(each) or 1.0)
                for factor, each in zip(factors, scale, strict=True)
            ]
    if not found or not any(units.get(name) for name in "yx"):
        return {}
    return {
        name: (factor, units.get(name))
        for name, factor in zip(names, factors, strict=True)
        if name in tuple("tzyx") and units.get(name) is not None
    }


def _channel_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    omero = metadata.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list):
        return ()
    names = [each.get("label") for each in channels if isinstance(each, Mapping)]
    return tuple(str(name) for name in names) if all(names) else ()


def _check_chunks(path: Path, array: Any) -> tuple[str, ...]:
    """Say how many chunks are not there; none at all is an error.

    A chunk that is not there means the fill value, and writers leave out chunks that hold nothing
    else; so it need not be a fault, and only the user can know.
    """
    total = int(array.nchunks)
    if not 0 < total <= _MOST_CHUNKS_COUNTED:
        return ()
    missing = total - int(array.nchunks_initialized)
    if missing == total:
        raise InputError(
            f"{path} describes an image, but none of its {total} chunks is there; copy the whole "
            "folder again"
        )
    if missing > 0:
        return (
            f"{missing} of {total} chunks are not there and read as {array.fill_value}; if the "
            "folder was copied, check that it is complete",
        )
    return ()
