"""Libraries that only the exchange of models needs, imported when they are."""

from __future__ import annotations

import importlib
from typing import Any

from napari_unet.ops.errors import InputError


def needed(module: str) -> Any:
    """Import a module of the extra "exchange".

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"models from and to elsewhere need {module}, which is not installed; "
            'run: pip install "napari-unet[exchange]"'
        ) from error
