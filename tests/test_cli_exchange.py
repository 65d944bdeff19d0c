"""Models to and from other programs on the command line."""

import json

import numpy as np
import pytest
import tifffile
import torch
from strange_packages import mean_filter, package_files, write_folder

from napari_unet.model.checkpoint import save_model
from napari_unet.model.unet import UNet


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return save_model(UNet(base_channels=2, depth=1), path)


def test_export_inspect_and_predict(run, model, tmp_path):
    image = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    tifffile.imwrite(tmp_path / "image.tif", image)
    package = tmp_path / "package.zip"
    done = run(
        "export", model, "-o", package, "--test-image", tmp_path / "image.tif", "--author", "Ada",
        "--licence", "CC0-1.0", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"files": [str(package)]}

    said = json.loads(run("inspect", package, "--json").stdout)
    assert said["made_by"] == "napari-unet"
    assert said["can_learn"]

    done = run("predict", tmp_path / "image.tif", "-m", package, "-o", tmp_path / "results")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "results" / "image_probabilities.tif").exists()


def test_outputs_have_the_names_that_the_package_gives_its_channels(run, model, tmp_path):
    from napari_unet.engine.images.opening import open_image

    image = np.random.default_rng(0).random((2, 40, 50)).astype(np.float32)
    tifffile.imwrite(tmp_path / "image.tif", image, imagej=True, metadata={"axes": "ZYX"})
    package = tmp_path / "package.zip"
    names = ("--class-name", "background", "--class-name", "nuclei")
    assert run("export", model, "-o", package, *names).exit_code == 0
    said = run("inspect", package).stdout
    assert "background; nuclei" in said

    for kind in ("tiff", "ome-zarr"):
        options = ("-m", package, "-o", tmp_path, "--format", kind)
        assert run("predict", tmp_path / "image.tif", *options).exit_code == 0
    with open_image(tmp_path / "image_prediction.ome.zarr") as found:
        assert found.info.channels == ("background", "nuclei")
    with tifffile.TiffFile(tmp_path / "image_probabilities.tif") as file:
        assert file.series[0].axes == "ZCYX"
        assert file.imagej_metadata["Labels"] == ["background", "nuclei"] * 2
    options = ("-m", package, "--channel", "1", "--labels-into-image", "cells")
    done = run("predict", tmp_path / "image_prediction.ome.zarr", *options)
    assert done.exit_code == 0, done.output
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(tmp_path / "image_prediction.ome.zarr" / "labels" / "cells_classes")
    told = group.attrs["ome"]["image-label"]["properties"]
    assert told == [
        {"label-value": 1, "class": "background"},
        {"label-value": 2, "class": "nuclei"},
    ]


def test_what_a_package_of_another_program_takes_and_answers_is_told(run, tmp_path):
    package = write_folder(tmp_path / "package", package_files())
    said = json.loads(run("inspect", package, "--json").stdout)
    assert "y (8 + n x 4)" in said["input"]
    assert said["class_names"] == ["background", "object"]


def test_onnx_by_the_ending_of_the_file(run, model, tmp_path):
    done = run("export", model, "-o", tmp_path / "network.onnx")
    assert done.exit_code == 0, done.output
    said = json.loads(run("inspect", tmp_path / "network.onnx", "--json").stdout)
    assert said["weights"] == "onnx"
    assert not said["can_learn"]


def test_predict_with_a_package_of_another_program(run, tmp_path):
    package = write_folder(tmp_path / "package", package_files())
    image = np.random.default_rng(1).random((30, 33)).astype(np.float32)
    tifffile.imwrite(tmp_path / "image.tif", image)
    done = run("predict", tmp_path / "image.tif", "-m", package, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    found = tifffile.imread(tmp_path / "image_probabilities.tif")
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(found[1][inner], mean_filter(image)[inner], atol=1e-5)


def test_a_package_with_foreign_code_is_refused_in_one_line(run, tmp_path):
    weights = {"pytorch_state_dict": {"source": "w.pt", "architecture": {"source": "net.py"}}}
    package = write_folder(tmp_path, package_files(changes={"weights": weights}))
    done = run("inspect", package)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "foreign code" in done.stderr


def test_a_package_of_another_program_is_not_exported(run, tmp_path):
    package = write_folder(tmp_path / "package", package_files())
    done = run("export", package, "-o", tmp_path / "again.zip")
    assert done.exit_code == 2
    assert "another program" in done.stderr
    assert not (tmp_path / "again.zip").exists()
