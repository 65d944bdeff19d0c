"""``napari-unet click``."""

import json

import numpy as np
import pytest
from tifffile import imread, imwrite

from napari_unet.cli import cli


@pytest.fixture
def image(tmp_path):
    rows, columns = np.indices((120, 140))
    disc = (rows - 60) ** 2 + (columns - 70) ** 2 <= 20**2
    noise = np.random.default_rng(0).normal(0, 5, disc.shape)
    path = tmp_path / "disc.tif"
    imwrite(path, (100 + 100 * disc + noise).astype(np.uint8))
    return path, disc


def run(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words], prog_name="napari-unet")
    return ended.value.code


def test_the_mask_of_the_object_is_written(image, tmp_path, capsys):
    path, disc = image
    assert run("click", path, "--at", "60,70", "-o", tmp_path / "mask.tif", "--json") == 0
    mask = imread(tmp_path / "mask.tif")
    assert set(np.unique(mask)) == {0, 1}
    assert ((mask > 0) & disc).sum() / ((mask > 0) | disc).sum() > 0.8
    assert json.loads(capsys.readouterr().out)["pixels"] == mask.sum()


def test_what_is_not_of_the_object_is_kept_out(image, tmp_path):
    path, _ = image
    words = ("--at", "60,70", "--at", "50,70", "--not", "72,70")
    assert run("click", path, *words, "-o", tmp_path / "mask.tif") == 0
    mask = imread(tmp_path / "mask.tif")
    assert mask.shape == image[1].shape
    assert (mask[60, 70], mask[50, 70], mask[72, 70]) == (1, 1, 0)


def test_a_box_is_enough(image, tmp_path):
    path, disc = image
    assert run("click", path, "--box", "38,48,82,92", "-o", tmp_path / "mask.tif") == 0
    assert ((imread(tmp_path / "mask.tif") > 0) & disc).sum() > 0.6 * disc.sum()


@pytest.mark.parametrize("box", ["nan,1,20,20", "1,1,inf,20"])
def test_a_box_without_finite_corners_is_refused(image, tmp_path, box):
    assert run("click", image[0], "--box", box, "-o", tmp_path / "mask.tif") == 2


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ((), "say where the object is"),
        (("--at", "60"), "give numbers with commas"),
        (("--at", "here,there"), "give numbers with commas"),
        (("--at", "600,70"), "click on the image"),
        (("--at", "nan,70"), "give numbers with commas"),
        (("--box", "1,2,3"), "give numbers with commas"),
        (("--at", "60,70", "--not", "60,70"), "positive click"),
        (("--box", "500,500,600,600"), "around an object"),
    ],
)
def test_bad_input_is_one_line_with_the_cure(image, tmp_path, capsys, words, cure):
    assert run("click", image[0], *words, "-o", tmp_path / "mask.tif") == 2
    told = capsys.readouterr().err.strip()
    assert cure in told
    assert "\n" not in told
