from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

import napari_unet
from napari_unet.engine.samples import SAMPLES


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(Path(napari_unet.__file__).with_name("napari.yaml"))


def test_napari_finds_the_manifest():
    found = {entry.name: entry.value for entry in entry_points(group="napari.manifest")}
    assert found["napari-unet"] == "napari_unet:napari.yaml"


def test_the_plugin_has_its_docks(manifest):
    assert manifest.display_name == "U-Net"
    names = [widget.display_name for widget in manifest.contributions.widgets]
    assert names == ["Fine-tune", "Click", "Predict", "Folder", "Train", "Weight map", "Evaluate"]


def test_every_command_can_be_imported(manifest):
    manifest.validate_imports()


def test_every_sample_is_offered_under_its_title(manifest):
    offered = {sample.key: sample.display_name for sample in manifest.contributions.sample_data}
    assert offered == {name: sample.title for name, sample in SAMPLES.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_opens_as_one_image(manifest, name):
    commands = {command.id: command for command in manifest.contributions.commands}
    samples = {sample.key: sample for sample in manifest.contributions.sample_data}
    module, function = commands[samples[name].command].python_name.split(":")
    opened = getattr(__import__(module, fromlist=[function]), function)()
    [(data, keywords, kind)] = opened
    assert kind == "image"
    assert keywords["rgb"] == (data.ndim == 3)
    np.testing.assert_array_equal(data, SAMPLES[name].load())
