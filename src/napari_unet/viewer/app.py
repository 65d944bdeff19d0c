"""napari with the three docks open, on an image of the user's or on a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari

from napari_unet.engine.files import ImageFile, read_image
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.sample_data import open_ihc

_PLUGIN = "napari-unet"
_DOCKS = ("Fine-tune", "Predict", "Weight map")


def launch(image_path: Path | None) -> None:
    """Open a window and return when it is closed.

    Parameters
    ----------
    image_path
        The image to open; None opens the immunohistochemistry sample.

    Raises
    ------
    InputError
        If the image cannot be read; no window is opened then.
    """
    image = None if image_path is None else read_image(image_path)
    open_window(image)
    napari.run()


def open_window(image: ImageFile | None) -> napari.Viewer:
    """Return a viewer with an image, a layer to paint on, and the docks tabbed at the right.

    Parameters
    ----------
    image
        What is shown; None is the immunohistochemistry sample.
    """
    viewer = napari.Viewer(title="napari: U-Net")
    if image is None:
        [(data, keywords, _)] = open_ihc()
        layer = viewer.add_image(data, **keywords)
    else:
        layer = viewer.add_image(image.data, **_keywords(image))
    controller = controller_for(viewer)
    controller.set_image_layer(layer)
    controller.add_annotation_layer()
    viewer.window.add_plugin_dock_widget(_PLUGIN, _DOCKS[0], tabify=True)
    first = viewer.window.add_plugin_dock_widget(_PLUGIN, _DOCKS[0])[0]
    for name in _DOCKS[1:]:
        viewer.window.add_plugin_dock_widget(_PLUGIN, name, tabify=True)
    first.raise_()
    return viewer


def _keywords(image: ImageFile) -> dict[str, Any]:
    """Return name, colour and pixel size as keywords of a napari layer."""
    keywords: dict[str, Any] = {"name": image.path.stem, "rgb": image.axes.endswith("C")}
    if image.pixel_size is not None:
        keywords["scale"] = image.pixel_size
        keywords["units"] = (image.unit or "pixel",) * 2
    return keywords
