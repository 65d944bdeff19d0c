"""napari with the docks open, on an image of the user's or on a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from napari.settings import get_settings
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget

from napari_unet.engine.files import ImageFile
from napari_unet.viewer.batch_widget import BatchWidget
from napari_unet.viewer.clicking.widget import ClickWidget
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.evaluate_widget import EvaluateWidget
from napari_unet.viewer.finetune_widget import FinetuneWidget
from napari_unet.viewer.opening import fit_contrast, image_layers
from napari_unet.viewer.predict_widget import PredictWidget
from napari_unet.viewer.project.places import FILE_KEY
from napari_unet.viewer.sample_data import open_ihc
from napari_unet.viewer.train.widget import TrainWidget
from napari_unet.viewer.weight_map_widget import WeightMapWidget

_DOCKS = {
    "Fine-tune": FinetuneWidget,
    "Click": ClickWidget,
    "Predict": PredictWidget,
    "Folder": BatchWidget,
    "Train": TrainWidget,
    "Weight map": WeightMapWidget,
    "Evaluate": EvaluateWidget,
}

# Of the screen, a window that opens for the first time takes so much, but no more than these pixels
# (width, height).
_SHARE_OF_SCREEN = 0.9
_LARGEST = (1600, 1000)
# Of the window's width, the docks take so much, but no more than their tabs need to be read.
_SHARE_OF_WINDOW = 0.3
_DOCKS_WIDTH = 460


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
    viewer = open_window(None if image_path is None else image_layers(image_path))
    if get_settings().application.window_size is None:  # the user has not chosen one yet
        take_room(viewer)
    napari.run()


def open_window(image: ImageFile | list[tuple[Any, dict[str, Any]]] | None) -> napari.Viewer:
    """Return a viewer with an image, a layer to paint on, and the docks tabbed at the right.

    Parameters
    ----------
    image
        What is shown: an image in memory, or layers as `image_layers` returns them, the first of
        which is worked on; None is the immunohistochemistry sample.
    """
    viewer = napari.Viewer(title="napari: U-Net")
    if image is None:
        image = [(data, keywords) for data, keywords, _ in open_ihc()]
    elif isinstance(image, ImageFile):
        image = [(image.data, _keywords(image))]
    layer, *_ = layers = [viewer.add_image(data, **keywords) for data, keywords in image]
    for each in layers:
        fit_contrast(each)
    controller = controller_for(viewer)
    controller.layers.set_image(layer)
    controller.layers.add_annotations()
    docks = [
        viewer.window.add_dock_widget(make(viewer), name=name, area="right", tabify=True)
        for name, make in _DOCKS.items()
    ]
    # The canvas has its size, and the tabs their order, once the window was drawn.
    QTimer.singleShot(0, docks[0].raise_)
    QTimer.singleShot(0, viewer.reset_view)
    return viewer


def take_room(viewer: napari.Viewer) -> None:
    """Let the window take most of the screen, and its docks a width at which tabs can be read."""
    window = viewer.window._qt_window
    room = window.screen().availableGeometry()
    sides = zip((room.width(), room.height()), _LARGEST, strict=True)
    width, height = (min(round(_SHARE_OF_SCREEN * side), most) for side, most in sides)
    window.resize(width, height)
    docks_width = min(round(_SHARE_OF_WINDOW * width), _DOCKS_WIDTH)
    docks = [dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() in _DOCKS]
    window.resizeDocks(docks, [docks_width] * len(docks), Qt.Orientation.Horizontal)


def _keywords(image: ImageFile) -> dict[str, Any]:
    """Return name, colour and pixel size as keywords of a napari layer."""
    keywords: dict[str, Any] = {"name": image.path.stem, "rgb": image.axes.endswith("C")}
    keywords["metadata"] = {FILE_KEY: str(image.path)}
    if image.pixel_size is not None:
        keywords["scale"] = image.pixel_size
        keywords["units"] = (image.unit or "pixel",) * 2
    return keywords
