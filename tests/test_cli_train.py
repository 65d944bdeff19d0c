"""``napari-unet train``: every layout of data, every bad input, and going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.model.checkpoint import load_model
from napari_unet.ops.synthetic import touching_cells

# The smallest network that is one.
SMALL = ["--set", "base_channels=4", "--set", "depth=1", "--set", "patch_size=32"]
QUICK = ["--steps", "4", *SMALL]


@pytest.fixture
def refuses(run):
    """Run a command that has to end with exit code 2; return its error line."""

    def invoke(*args):
        result = run(*args)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        line = result.stderr.splitlines()[-1]
        assert line.startswith("Error: ")
        return line

    return invoke


def cells(seed, shape=(48, 56)):
    image, labels = touching_cells(shape, seed=seed)
    return (image * 255 / image.max()).astype(np.uint8), labels.astype(np.uint16)


def folders(path, count=5):
    """Two folders with files of the same names."""
    for part in ("images", "labels"):
        (path / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, labels = cells(number)
        tifffile.imwrite(path / "images" / f"{number:02}.tif", image)
        tifffile.imwrite(path / "labels" / f"{number:02}.tif", labels)
    return path / "images", path / "labels"


def ctc(path, frames=5):
    """A small data set in the layout of the Cell Tracking Challenge."""
    for part in ("01", "01_GT/SEG", "01_GT/TRA", "01_ST/SEG"):
        (path / part).mkdir(parents=True)
    for number in range(frames):
        image, labels = cells(number)
        tifffile.imwrite(path / "01" / f"t{number:03}.tif", image)
        tifffile.imwrite(path / "01_GT" / "TRA" / f"man_track{number:03}.tif", labels)
        if number != 1:  # not every frame is annotated
            tifffile.imwrite(path / "01_GT" / "SEG" / f"man_seg{number:03}.tif", labels)
        tifffile.imwrite(path / "01_ST" / "SEG" / f"man_seg{number:03}.tif", labels)
    return path


def trained(run, tmp_path, *args):
    output = tmp_path / "out" / "cells.safetensors"
    result = run("train", *args, "--output", output, *QUICK, "--json")
    assert result.exit_code == 0, result.output + result.stderr
    return json.loads(result.stdout), output, result.stderr


def test_folders_give_a_model_a_report_and_a_score(run, tmp_path):
    summary, output, said = trained(run, tmp_path, *folders(tmp_path))
    assert summary["files"] == [str(output), str(output.with_suffix(".html"))]
    assert summary["steps"] == 4
    assert summary["measure"] == "mean AP"
    assert 0 <= summary["score"] <= 1
    assert "instances" in said
    assert "1 of 5 images" in said
    # The model is used as it was trained to be.
    image = tmp_path / "images" / "00.tif"
    result = run("predict", image, "-m", output, "-o", tmp_path / "predicted")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "predicted" / "00_instances.tif").exists()


def test_the_same_command_gives_the_same_model(run, tmp_path):
    data = folders(tmp_path)
    models = []
    for name in ("a", "b"):
        output = tmp_path / f"{name}.safetensors"
        assert run("train", *data, "-o", output, *QUICK).exit_code == 0
        models.append(load_model(output).state_dict())
    for name, tensor in models[0].items():
        assert torch.equal(tensor, models[1][name]), name


def test_the_em_challenges_stacks(run, tmp_path):
    images, labels = zip(*(cells(number) for number in range(4)), strict=True)
    stack, truth = tmp_path / "train-volume.tif", tmp_path / "train-labels.tif"
    tifffile.imwrite(stack, np.stack(images), photometric="minisblack")
    binary = np.where(np.stack(labels) > 0, 255, 0).astype(np.uint8)
    tifffile.imwrite(truth, binary, photometric="minisblack")
    summary, _, said = trained(run, tmp_path, stack, truth)
    assert summary["measure"] == "mean IoU"
    assert "4 images, semantic" in said


@pytest.mark.parametrize(
    ("images", "labels"), [("01", "01_GT"), ("01", "01_GT/SEG"), ("01", "01_ST/SEG"), (".", ".")]
)
def test_the_cell_tracking_challenges_layout(run, tmp_path, images, labels):
    data = ctc(tmp_path / "PhC-C2DH-U373")
    summary, _, said = trained(run, tmp_path, data / images, data / labels)
    assert summary["measure"] == "mean AP"
    assert "images, instances" in said


def test_the_papers_recipe_can_be_made_small(run, tmp_path):
    summary, output, _ = trained(run, tmp_path, *folders(tmp_path), "--recipe", "paper")
    page = output.with_suffix(".html").read_text("utf-8")
    assert summary["steps"] == 4
    assert "paper" in page
    assert "momentum" in page


def test_the_recipe_for_nuclei_learns_outlines_as_well(run, tmp_path):
    _, output, _ = trained(run, tmp_path, *folders(tmp_path), "--recipe", "nuclei")
    assert load_model(output).config.classes == 3  # background, inside, outline
    assert "nuclei" in output.with_suffix(".html").read_text("utf-8")


def test_one_image_holds_out_a_part_of_it(run, tmp_path):
    image, labels = cells(0, (160, 160))
    tifffile.imwrite(tmp_path / "image.tif", image)
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    summary, _, said = trained(
        run, tmp_path, tmp_path / "image.tif", tmp_path / "labels.tif", "--kind", "instances"
    )
    assert summary["measure"] == "mean AP"
    assert "strip" in said


def test_no_validation_images(run, tmp_path):
    summary, output, _ = trained(run, tmp_path, *folders(tmp_path), "--validation", 0)
    assert summary["measure"] is None
    assert output.exists()


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(run, tmp_path):
    images, labels = folders(tmp_path, 7)
    (labels / "00.tif").unlink()
    (images / "01.tif").unlink()
    tifffile.imwrite(labels / "02.tif", np.zeros((9, 9), np.uint8))
    (images / "03.tif").write_bytes((images / "03.tif").read_bytes()[:300])
    summary, _, said = trained(run, tmp_path, images, labels)
    assert summary["steps"] == 4
    assert "3 images" in said
    for name in ("00", "01", "02", "03"):
        assert f"{name}" in said
    assert said.count("left out") == 4


def test_strict_stops_at_what_cannot_be_used(refuses, tmp_path):
    images, labels = folders(tmp_path)
    (labels / "00.tif").unlink()
    error = refuses("train", images, labels, "-o", tmp_path / "m.safetensors", *QUICK, "--strict")
    assert "00" in error
    assert not (tmp_path / "m.safetensors").exists()


def test_rgb_labels_are_refused_with_the_cure(refuses, tmp_path):
    images, labels = folders(tmp_path, 2)
    for path in labels.iterdir():
        coloured = np.random.default_rng(0).integers(0, 255, (48, 56, 3)).astype(np.uint8)
        tifffile.imwrite(path, coloured, photometric="rgb")
    error = refuses("train", images, labels, "-o", tmp_path / "m.safetensors", *QUICK)
    assert "grey" in error


def test_only_background_is_refused(refuses, tmp_path):
    images, labels = folders(tmp_path, 2)
    for path in labels.iterdir():
        tifffile.imwrite(path, np.zeros((48, 56), np.uint8))
    error = refuses("train", images, labels, "-o", tmp_path / "m.safetensors", *QUICK)
    assert "background" in error


def test_folders_that_do_not_belong_together(refuses, tmp_path):
    images, labels = folders(tmp_path, 2)
    for path in labels.iterdir():
        path.rename(path.with_name(f"other{path.name}"))
    error = refuses("train", images, labels, "-o", tmp_path / "m.safetensors", *QUICK)
    assert "other00" in error


def test_an_output_that_exists_is_kept(refuses, run, tmp_path):
    images, labels = folders(tmp_path, 3)
    output = tmp_path / "m.safetensors"
    output.write_bytes(b"precious")
    assert "exists" in refuses("train", images, labels, "-o", output, *QUICK)
    assert output.read_bytes() == b"precious"
    assert run("train", images, labels, "-o", output, *QUICK, "--overwrite").exit_code == 0
    assert output.read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("colour=red", "colour"),
        ("base_channels=many", "whole number"),
        ("batch_norm=maybe", "true or false"),
        ("augment.elastic_sigma=-1", "elastic_sigma"),
        ("augment=3", "augment"),
        ("depth=99", "depth"),
        ("w0=nan", "w0"),
    ],
)
def test_a_recipe_that_is_not_possible(refuses, tmp_path, change, word):
    data = folders(tmp_path, 3)
    error = refuses("train", *data, "-o", tmp_path / "m.safetensors", *QUICK, "--set", change)
    assert word in error


def test_after_a_kill_the_same_command_goes_on(tmp_path):
    """Killed for good, as by a power cut: what was saved before is not done again."""
    images, labels = folders(tmp_path)
    output = tmp_path / "cells.safetensors"
    command = [sys.executable, "-m", "napari_unet", "train", images, labels, "-o", output]
    command += ["--steps", "200", *SMALL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [str(part) for part in command], env=environment, stderr=subprocess.PIPE
    )
    state = output.with_name("cells.training")
    deadline = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state.exists()
    assert not output.exists()
    again = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert "going on with the training from step" in again.stderr
    assert "200 steps" in again.stdout
    assert output.exists()
    assert not state.exists()
