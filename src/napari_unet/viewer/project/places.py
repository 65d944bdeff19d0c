"""Where the project of an image is kept, and where it is looked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from napari.layers import Image
from platformdirs import user_data_path

from napari_unet.engine.journal import FOLDER, Header, find_projects, fingerprint
from napari_unet.viewer.layers import file_stem
from napari_unet.viewer.planes import finest

#: "off", or a folder to keep the projects of images in that have no folder of their own.
VARIABLE: Final = "NAPARI_UNET_PROJECTS"
#: Under this key of its metadata a layer says which file it is of, if napari does not know.
FILE_KEY: Final = "napari-unet file"


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found out about an image.

    Attributes
    ----------
    header
        How it is known again.
    parent
        The folder that its projects are kept in.
    found
        Its projects, the latest first.
    """

    header: Header
    parent: Path
    found: tuple[Path, ...]


def is_off() -> bool:
    """Whether the user wants nothing to be saved."""
    return os.environ.get(VARIABLE, "").strip().lower() in ("off", "0", "no")


def home() -> Path:
    """Return the folder for projects of images that are in no file, or in one that is closed."""
    chosen = os.environ.get(VARIABLE, "").strip()
    return Path(chosen) if chosen else user_data_path("napari-unet", appauthor=False) / "projects"


def file_of(layer: Image) -> Path | None:
    """Return the file, or the folder of an OME-Zarr, that an image was opened from."""
    path = layer.source.path or layer.metadata.get(FILE_KEY)
    if not path or "://" in str(path):
        return None
    file = Path(path).absolute()
    return file if file.exists() else None


def folder_of(layer: Image) -> Path | None:
    """Return the folder that an image was opened from; None if it was not."""
    file = file_of(layer)
    return None if file is None else file.parent


def look(layer: Image, beside: Path | None, name: str) -> Looked:
    """Know an image by its pixels, and look for its projects; takes a while, on any thread.

    Parameters
    ----------
    layer
        The image.
    beside
        The folder it was opened from.
    name
        Of the image.
    """
    data: Any = finest(layer)
    mark = fingerprint(data)
    shape = tuple(int(side) for side in data.shape)
    header = Header(mark, name, shape, str(data.dtype)[:40])
    places = [home()] if beside is None else [beside / FOLDER, home()]
    parent = places[0] if _can_write(places[0]) else home()
    return Looked(header, parent, tuple(find_projects(places, mark)))


def name_of(layer: Image) -> str:
    """Return what the project of an image is called."""
    return file_stem(layer)


def _can_write(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)
