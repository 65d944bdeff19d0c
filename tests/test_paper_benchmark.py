"""The short form of `benchmarks/paper.py`: everything that it does, on small drawn images."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from imageio.v3 import imwrite
from tifffile import imwrite as write_tiff

from napari_unet.ops.synthetic import touching_cells

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = ["--steps", "3", "--set", "base_channels=4", "--set", "depth=1", "--set", "patch_size=32"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two of the data sets, with drawn cells in place of sections and nuclei."""
    folder = tmp_path_factory.mktemp("data")
    for part in ("isbi2012_em/images", "isbi2012_em/labels", "dsb2018/images", "dsb2018/masks"):
        (folder / part).mkdir(parents=True)
    rows = ["name,kaggle_id,colour,background,height,width,n_nuclei,foreground_fraction"]
    for number in range(20):
        image, labels = touching_cells((48, 48), 5 + number % 4, seed=number)
        image = (255 * image / image.max()).astype(np.uint8)
        imwrite(folder / "isbi2012_em" / "images" / f"{number:02}.png", image)
        inside = np.where(labels > 0, 255, 0).astype(np.uint8)
        imwrite(folder / "isbi2012_em" / "labels" / f"{number:02}.png", inside)
        imwrite(folder / "dsb2018" / "images" / f"{number:03}.png", image)
        write_tiff(folder / "dsb2018" / "masks" / f"{number:03}.tif", labels.astype(np.uint16))
        rows.append(f"{number:03},x,grey,dark,48,48,{labels.max()},0.5")
    (folder / "dsb2018" / "index.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def script():
    """Return the script as a module, and forget it and its parts afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("paper")
    sys.path.remove(str(FOLDER))
    for name in set(sys.modules) - before:
        if name in ("report", "peers", "monai_unet") or name.startswith("paper"):
            del sys.modules[name]


@pytest.fixture
def run(script, data, tmp_path, monkeypatch, capsys):
    """Run the script with these arguments, as in a shell; return what it prints."""
    monkeypatch.setenv("NAPARI_UNET_DATA", str(data))

    def invoke(*arguments):
        command = ["paper.py", *map(str, arguments), "--runs", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", command)
        script.main()
        return capsys.readouterr().out

    return invoke


def test_rows_are_trained_scored_and_not_done_again(run, tmp_path):
    expected = {
        "em": {"pixel error", "Rand error", "warping error, best threshold"},
        "nuclei": {"AP@0.5", "mean AP", "SEG", "PQ"},
    }
    for name, measures in expected.items():
        assert "==" in run("run", name, *TINY)
        [result] = tmp_path.glob(f"figure_{name}_*.json")
        row = json.loads(result.read_text())
        assert measures <= set(row["scores"]["mean"])
        parts = [set(row[part]) for part in ("train", "validation", "test")]
        assert all(parts)
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
    assert "done before" in run("run", "em", *TINY)
    assert run("tables").count("| **default** | 3 steps |") == 2


def test_the_ablation_leaves_out_one_ingredient_after_the_other(run, tmp_path):
    said = run("ablation", "em", *TINY)
    assert said.count("==") == 6
    # The network whose prediction is not averaged is the one with all ingredients.
    assert len(list(tmp_path.glob("*.safetensors"))) == 5
    table = run("tables")
    for name in ("all ingredients", "no border weights", "no dropout", "no rotation averaging"):
        assert name in table
