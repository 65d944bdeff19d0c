"""``napari-unet evaluate``: table, JSON, CSV, error maps, and bad input."""

import csv
import functools
import json

import numpy as np
import pytest
import tifffile

from napari_unet.ops.synthetic import touching_cells


@pytest.fixture
def run(run):
    """Run ``napari-unet evaluate`` with these arguments."""
    return functools.partial(run, "evaluate")


@pytest.fixture
def folders(tmp_path):
    for part in ("predicted", "truth"):
        (tmp_path / part).mkdir()
    for seed in range(3):
        labels = touching_cells((64, 64), seed=seed)[1].astype(np.uint16)
        tifffile.imwrite(tmp_path / "truth" / f"cells{seed}.tif", labels)
        lost = np.where(labels == 1, 0, labels)
        tifffile.imwrite(tmp_path / "predicted" / f"cells{seed}_instances.tif", lost)
    return tmp_path / "predicted", tmp_path / "truth"


def test_a_table_with_a_line_for_each_image_and_one_for_all(run, folders):
    result = run(*folders)
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()[:5]
    assert "AP@0.5" in header
    assert [row.split()[0] for row in rows] == ["cells0", "cells1", "cells2", "all"]
    column = header.split().index("AP@0.5") + 1
    values = [float(row.split()[column]) for row in rows]
    assert 0 < values[0] < 1
    assert values[3] == pytest.approx(np.mean(values[:3]), abs=1e-4)
    assert "counted together" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 110


def test_json_csv_and_error_maps(run, folders, tmp_path):
    table, errors = tmp_path / "new" / "scores.csv", tmp_path / "errors"
    result = run(*folders, "--json", "--csv", table, "--errors", errors)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["kind"] == "instances"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["image"] for row in rows] == ["cells0", "cells1", "cells2", "all"]
    assert float(rows[-1]["PQ"]) == pytest.approx(found["all"]["PQ"])
    missed = tifffile.imread(errors / "cells0_errors.tif")
    truth = tifffile.imread(folders[1] / "cells0.tif")
    np.testing.assert_array_equal(missed == 1, truth == 1)


def test_a_pair_that_cannot_be_compared_is_named_and_the_rest_goes_on(run, folders):
    predicted, truth = folders
    tifffile.imwrite(predicted / "cells1_instances.tif", np.zeros((9, 9), np.uint8))
    (truth / "cells2.tif").unlink()
    result = run(predicted, truth)
    assert result.exit_code == 2
    assert "cells0" in result.stdout
    assert "cells1" in result.stderr
    assert "cells2" in result.stderr


def test_many_problems_are_not_all_listed(run, folders):
    predicted, truth = folders
    for number in range(30):
        tifffile.imwrite(truth / f"more{number}.tif", np.eye(64, dtype=np.uint16) * 5)
    result = run(predicted, truth, "--kind", "instances", "--json")
    assert result.exit_code == 2
    assert len(json.loads(result.stdout)["problems"]) == 30
    assert result.stderr.count("left out") == 21
    assert "10 more" in result.stderr


def test_two_files_of_borders(run, tmp_path):
    interior = np.ones((30, 30), np.uint8)
    interior[15] = 0
    tifffile.imwrite(tmp_path / "p.tif", interior * 255)
    tifffile.imwrite(tmp_path / "t.tif", interior)
    result = run(tmp_path / "p.tif", tmp_path / "t.tif", "--kind", "boundary")
    assert result.exit_code == 0, result.output
    assert "Rand error" in result.stdout
    assert "warping error" in result.stdout


def test_only_the_line_for_all(run, folders):
    result = run(*folders, "--no-per-image")
    assert result.exit_code == 0, result.output
    assert "cells0" not in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()[1:2]] == ["all"]
    together = result.stdout.split("counted together:")[1].splitlines()
    assert "AP@0.5" in together[1]
    assert together[2].startswith("all")


def test_a_single_image_is_not_summed_up(run, folders):
    prediction, truth = folders
    result = run(prediction / "cells1_instances.tif", truth / "cells1.tif", "--kind", "instances")
    assert result.exit_code == 0, result.output
    assert "all" not in [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    assert "together" not in result.stdout


def test_what_predict_writes_and_a_truth_with_background_0(run, tmp_path):
    truth = np.zeros((20, 20), np.uint8)
    truth[5:12, 5:12] = 255
    tifffile.imwrite(tmp_path / "a_classes.tif", np.where(truth, 2, 1).astype(np.uint8))
    tifffile.imwrite(tmp_path / "a.tif", truth)
    result = run(tmp_path / "a_classes.tif", tmp_path / "a.tif", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["all"]["Dice 255"] == 1
    assert "background is 1 in the prediction" in result.stderr
    result = run(tmp_path / "a_classes.tif", tmp_path / "a.tif", "--json", "--background", "0")
    assert json.loads(result.stdout)["all"]["Dice 255"] == 0


def test_a_probability_map_gets_the_best_threshold_or_the_given_one(run, tmp_path):
    interior = np.ones((30, 30), np.uint8)
    interior[15] = 0
    probability = np.where(interior, 0.9, 0.7).astype(np.float32)
    tifffile.imwrite(tmp_path / "p.tif", probability)
    tifffile.imwrite(tmp_path / "t.tif", interior)
    best = run(tmp_path / "p.tif", tmp_path / "t.tif", "--json")
    assert best.exit_code == 0, best.output
    found = json.loads(best.stdout)
    assert (found["kind"], found["all"]["Rand error"]) == ("boundary", 0)
    assert 0.7 < found["all"]["threshold"] <= 0.9
    assert "the threshold with the best Rand error" in best.stderr
    given = run(tmp_path / "p.tif", tmp_path / "t.tif", "--json", "--threshold", "0.5")
    assert json.loads(given.stdout)["all"]["merged objects"] == 1


def test_a_folder_for_errors_that_cannot_be_made(run, folders):
    file = folders[1] / "cells0.tif"
    result = run(*folders, "--errors", file)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "is a file" in result.stderr


@pytest.mark.parametrize("empty", ["predicted", "truth"])
def test_nothing_to_compare(run, folders, tmp_path, empty):
    for path in (tmp_path / empty).iterdir():
        path.unlink()
    result = run(*folders)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: nothing of")


def test_what_is_not_there(run, tmp_path):
    result = run(tmp_path / "a.tif", tmp_path / "b.tif")
    assert result.exit_code == 2
    assert "is not there" in result.stderr
