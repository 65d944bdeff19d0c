"""The short form of `benchmarks/fuzz_packages.py`: whatever is read, only InputError comes out."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fuzz():
    before = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("fuzz_packages")
    finally:
        sys.path[:] = before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["model", "zip", "description", "array", "onnx", "torchscript"])
def test_only_input_errors_come_out(fuzz, tmp_path, name):
    (reader,) = fuzz.fuzz(tmp_path, 150, seed=7, names=[name])
    assert reader.faults == []
    # Else the inputs are all good, or so bad that the first look ends it.
    assert reader.refused
    assert reader.accepted


def test_a_fault_is_found_and_counted(fuzz):
    def read(contents):
        raise KeyError(contents)

    reader = fuzz.Reader("broken", read, (b"",))
    reader.feed(b"input")
    assert [contents for _, contents in reader.faults] == [b"input"]
    assert "KeyError" in reader.faults[0][0]
