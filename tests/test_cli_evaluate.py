"""``napari-unet evaluate``: table, JSON, CSV, error maps, and bad input."""

import csv
import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from napari_unet.cli import cli
from napari_unet.ops.synthetic import touching_cells


@pytest.fixture
def run():
    def invoke(*args):
        return CliRunner().invoke(cli, ["evaluate", *(str(arg) for arg in args)])

    return invoke


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
    assert "counts summed" in result.stdout
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


def test_two_files_of_borders(run, tmp_path):
    interior = np.ones((30, 30), np.uint8)
    interior[15] = 0
    tifffile.imwrite(tmp_path / "p.tif", interior * 255)
    tifffile.imwrite(tmp_path / "t.tif", interior)
    result = run(tmp_path / "p.tif", tmp_path / "t.tif", "--kind", "boundary")
    assert result.exit_code == 0, result.output
    assert "Rand error" in result.stdout
    assert "warping error" in result.stdout


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
