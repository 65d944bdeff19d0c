"""Interactive microscopy segmentation with a U-Net that learns from brush strokes.

Importing this package is cheap: the public names are loaded when they are first used, so that
neither torch nor Qt nor napari is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet.engine.predict import predict
    from napari_unet.engine.segmenter import Segmenter
    from napari_unet.model.checkpoint import load_model, save_model
    from napari_unet.model.unet import UNet
    from napari_unet.ops.weight_map import weight_map

__version__ = "0.1.0"

__all__ = ["Segmenter", "UNet", "load_model", "predict", "save_model", "weight_map"]

_HOME = {
    "Segmenter": "napari_unet.engine.segmenter",
    "UNet": "napari_unet.model.unet",
    "load_model": "napari_unet.model.checkpoint",
    "predict": "napari_unet.engine.predict",
    "save_model": "napari_unet.model.checkpoint",
    "weight_map": "napari_unet.ops.weight_map",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
