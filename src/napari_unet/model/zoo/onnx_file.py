"""A single ONNX file that says how it is to be used.

ONNX knows no halo and no normalisation. In a file of ours they stand in its metadata, as the JSON
of a package's description; so it is read like a package that holds one file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from napari_unet.model.zoo.container import LARGEST_FILE
from napari_unet.model.zoo.description import Description, parse_description
from napari_unet.model.zoo.extra import needed
from napari_unet.model.zoo.yaml_text import LONGEST_TEXT
from napari_unet.ops.errors import InputError

#: The metadata's key.
METADATA_KEY: Final = "napari_unet"


def is_onnx(path: Path) -> bool:
    """Say whether a path names an ONNX file."""
    return path.suffix.lower() == ".onnx"


class OnnxFile:
    """An ONNX file as the container of itself.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    path
        The file.
    description
        What its metadata say.

    Raises
    ------
    InputError
        If it cannot be read, or says nothing of how it is to be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not path.is_file():
                raise InputError(f"there is no file {path}; choose an ONNX file")
            if path.stat().st_size > LARGEST_FILE:
                raise InputError(f"{path} has more than {LARGEST_FILE} bytes; choose another model")
            self._contents = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read; choose another copy") from error
        self.description = self._described()

    def names(self) -> frozenset[str]:
        """Return its own name."""
        return frozenset({self.path.name})

    def read(self, name: str, limit: int) -> bytes:
        """Return the file, whatever its name was when it was exported."""
        return self._contents

    def _described(self) -> Description:
        model = needed("onnx").ModelProto()
        try:
            model.ParseFromString(self._contents)
            found = {entry.key: entry.value for entry in model.metadata_props}
        except Exception as error:  # protobuf's errors have no common public base
            raise InputError(f"{self.path} is damaged or no ONNX; choose another copy") from error
        if METADATA_KEY not in found:
            raise InputError(
                f"{self.path} does not say how its input is normalised and cut; choose a "
                "bioimage.io package of the model, or an ONNX file that this program exported"
            )
        return parse_description(_values(found[METADATA_KEY]))


def _values(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text[:LONGEST_TEXT])
    except (ValueError, RecursionError) as error:
        raise InputError("the ONNX file's metadata are damaged; export the model again") from error
    if not isinstance(values, dict):
        raise InputError("the ONNX file's metadata are damaged; export the model again")
    return values
