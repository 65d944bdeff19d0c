"""``napari-unet predict IN OUT.zarr``."""

import json

import numpy as np
import pytest
import tifffile
import torch
import zarr

from napari_unet.engine.arrays import cluster
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.predict import predict
from napari_unet.model.checkpoint import save_model
from napari_unet.model.unet import UNet

IMAGE = (np.random.default_rng(0).random((2, 50, 44)) * 255).astype(np.uint8)
EXACT = ("--precision", "fp32", "--dtype", "float32", "--tile-size", "36")


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(base_channels=4, depth=1).eval()


@pytest.fixture
def folder(tmp_path, model):
    save_model(model, tmp_path / "model.safetensors")
    zarr.create_array(tmp_path / "in.zarr", data=IMAGE[0], chunks=(20, 20))
    zarr.create_array(tmp_path / "channels.zarr", data=IMAGE, chunks=(1, 20, 20))
    tifffile.imwrite(tmp_path / "in.tif", IMAGE[0])
    return tmp_path


@pytest.fixture
def predict_zarr(run, folder):
    def call(image, *arguments):
        return run("predict", folder / image, "-m", folder / "model.safetensors", *arguments)

    return call


@pytest.fixture
def refuses(predict_zarr):
    """Run the command, expect one line and exit code 2, and return the line."""

    def call(*arguments):
        result = predict_zarr(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1
        return result.stderr

    return call


@pytest.mark.parametrize("image", ["in.zarr", "in.tif"])
def test_an_array_is_predicted_and_not_begun_twice(predict_zarr, folder, model, image):
    output = folder / "out.zarr"
    result = predict_zarr(image, output, *EXACT, "--save", "both")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output}\n"
    expected = predict(model, IMAGE[0], tile_size=36, precision="fp32")
    group = zarr.open_group(output, mode="r")
    np.testing.assert_array_equal(group["probabilities"][:], expected)
    np.testing.assert_array_equal(group["classes"][:], expected.argmax(0) + 1)
    again = predict_zarr(image, "-o", output, *EXACT, "--save", "both", "--json")
    assert again.exit_code == 0, again.output
    summary = json.loads(again.stdout)
    assert summary["tiles"] == summary["tiles_done"] > 1
    assert summary["pixels"] == 0
    assert f"Going on: {summary['tiles']} of {summary['tiles']} tiles" in again.stderr


def test_a_channel_and_a_pixel_size(predict_zarr, folder, model):
    output = folder / "out.zarr"
    options = ("--axes", "cyx", "--channel", "2", "--pixel-size", "0.5um")
    result = predict_zarr("channels.zarr", output, *EXACT, *options)
    assert result.exit_code == 0, result.output
    expected = predict(model, IMAGE[1], tile_size=36, precision="fp32")
    with open_image(output) as image:
        np.testing.assert_array_equal(image.read_plane(), expected)
        assert (image.info.pixel_size.height, image.info.pixel_size.unit) == (0.5, "µm")
    another = predict_zarr("channels.zarr", output, *EXACT, "--axes", "cyx", "--channel", "1")
    assert another.exit_code == 2
    assert "channels of its array was [1], and is [0]" in another.stderr


def test_overwriting_has_to_be_asked_for(predict_zarr, refuses, folder):
    output = folder / "out.zarr"
    assert predict_zarr("in.zarr", output).exit_code == 0
    line = refuses("in.zarr", output, "--dtype", "float16")
    assert "--dtype was uint8, and is float16; choose another output, or give --overwrite" in line
    assert predict_zarr("in.zarr", output, "--dtype", "float16", "--overwrite").exit_code == 0
    assert zarr.open_group(output, mode="r")["probabilities"].dtype == np.float16


@pytest.mark.parametrize(
    ("image", "arguments", "words"),
    [
        ("none.zarr", ("out.zarr",), "is not there"),
        ("in.zarr", (), "where the results go is missing"),
        ("in.zarr", ("in.zarr",), "in or over its input"),
        ("in.zarr", ("channels.zarr",), "is there already"),
        ("in.zarr", ("in.tif", "-o", "out.zarr"), "2 images do not go into one zarr"),
        ("in.zarr", ("out.zarr", "--threshold", "0.4"), "--threshold is not possible"),
        ("in.zarr", ("out.zarr", "--rescale"), "--rescale is not possible"),
        ("in.zarr", ("out.zarr", "--scale-grey", "image"), "--scale-grey image is not possible"),
        ("in.zarr", ("out.zarr", "--averaging", "rotations"), "needs the whole image"),
        ("in.zarr", ("-o", "folder", "--save", "both"), "--save is for an output in zarr"),
        ("in.zarr", ("-o", "folder", "--scheduler", "tcp://x:1"), "--scheduler is for an output"),
        ("channels.zarr", ("out.zarr", "--axes", "cyx"), "choose with --channel"),
        ("channels.zarr", ("out.zarr", "--axes", "cyx", "--channel", "each"), "several answers"),
        ("in.zarr", ("out.zarr", "--scheduler", "tcp://127.0.0.1:9"), "no Dask scheduler answers"),
    ],
)
def test_what_is_not_possible_is_said(refuses, folder, monkeypatch, image, arguments, words):
    monkeypatch.setattr(cluster, "_PATIENCE", 0.3)
    monkeypatch.chdir(folder)
    assert words in refuses(image, *arguments)
    assert not (folder / "out.zarr").exists()
