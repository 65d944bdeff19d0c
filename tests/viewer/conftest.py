import gc
import importlib

import numpy as np
import pytest
import torch
from napari.components import ViewerModel

from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.unet import UNet
from napari_unet.viewer.controller import SegmentationController


@pytest.fixture(autouse=True, scope="session")
def _what_stays():
    """What was imported is no garbage; without it, looking for some takes little time."""
    importlib.import_module("napari._qt.qt_main_window")
    importlib.import_module("napari_unet.viewer.app")
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _garbage_is_collected_here():
    """Windows of a test that is over must not be deleted by a later test's worker thread."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _no_projects(monkeypatch):
    """Nothing is written to the folders of whoever runs the tests; those of projects say where."""
    monkeypatch.setenv("NAPARI_UNET_PROJECTS", "off")


@pytest.fixture
def two_halves():
    """A dark left and a bright right half, with noise, and three strokes in each."""
    rng = np.random.default_rng(0)
    image = rng.normal(0.2, 0.05, (64, 80))
    image[:, 40:] += 0.6
    annotations = np.zeros(image.shape, np.uint8)
    for row in (8, 30, 52):
        annotations[row : row + 3, 5:25] = 1
        annotations[row : row + 3, 50:70] = 2
    return image, annotations


def small_segmenter():
    """A network that takes a few milliseconds a step."""
    torch.manual_seed(0)
    config = FinetuneConfig(patch_size=20, precision="fp32")
    return Segmenter(UNet(base_channels=4, depth=2), config=config)


@pytest.fixture
def segmenter():
    return small_segmenter()


@pytest.fixture
def model_viewer():
    """A viewer without a window."""
    return ViewerModel()


@pytest.fixture
def session(qapp, model_viewer, segmenter, two_halves):
    """A session on an image with strokes, in a viewer without a window."""
    image, annotations = two_halves
    controller = SegmentationController(model_viewer, segmenter)
    controller.layers.set_image(model_viewer.add_image(image, name="halves"))
    controller.suspend()  # a loaded network predicts an image that is opened; not here
    layer = controller.layers.add_annotations()
    layer.data = annotations
    controller.layers.look_at_strokes()
    yield controller
    controller.close()


@pytest.fixture
def notices(monkeypatch):
    """What the user was told, as (severity, text)."""
    told = []
    modules = ("controller", "lost_layers", "reports")
    for severity in ("info", "warning", "error"):
        for module in modules:
            monkeypatch.setattr(
                f"napari_unet.viewer.{module}.show_{severity}",
                lambda text, severity=severity: told.append((severity, text)),
                raising=False,
            )
    return told
