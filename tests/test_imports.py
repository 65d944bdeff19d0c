"""Importing is cheap, the public names are there, and imports point downwards."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import napari_unet

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "qtpy", "napari", "PySide6", "PyQt6", "magicgui", "superqt", "vispy"}
PUBLIC = ["Segmenter", "UNet", "load_model", "predict", "save_model", "weight_map"]


def modules_after(statement):
    """Names of the top-level packages that a fresh Python has loaded after `statement`."""
    code = (
        f"{statement}\nimport json, sys; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["napari_unet", "napari_unet.cli"])
def test_import_is_cheap(module):
    loaded = modules_after(f"import {module}")
    assert "napari_unet" in loaded
    assert not loaded & (HEAVY | {"numpy", "scipy", "skimage", "tifffile", "matplotlib", "tqdm"})


def test_engine_needs_no_gui():
    loaded = modules_after("from napari_unet import Segmenter")
    assert "torch" in loaded
    assert not loaded & (HEAVY - {"torch"})


def test_a_session_needs_no_compiler():
    # torch's compiler, which brings sympy, takes longer to load than all the rest of a dock.
    assert "sympy" not in modules_after("from napari_unet import Segmenter; Segmenter()")


def test_ops_need_no_torch():
    assert "torch" not in modules_after("from napari_unet import weight_map; weight_map")


def test_public_names():
    assert sorted(napari_unet.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(napari_unet, name).__doc__
        assert name in dir(napari_unet)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = napari_unet.no_such_name


def test_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert napari_unet.__version__ == project["version"]


def test_import_contract():
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
