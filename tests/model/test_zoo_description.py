"""What a package says is understood in both formats, and refused where it cannot be done."""

import copy

import pytest
import yaml
from strange_packages import HALO, package_files

from napari_unet.model.zoo.description import parse_description
from napari_unet.model.zoo.yaml_text import parse_yaml
from napari_unet.ops.errors import InputError

GOOD = yaml.safe_load(package_files()["bioimageio.yaml"])
OLD = {
    "format_version": "0.4.10",
    "name": "old",
    "inputs": [
        {
            "name": "raw",
            "axes": "bcyx",
            "shape": {"min": [1, 1, 32, 32], "step": [0, 0, 8, 8]},
            "preprocessing": [{"name": "zero_mean_unit_variance", "kwargs": {"axes": "yx"}}],
        }
    ],
    "outputs": [
        {
            "name": "probability",
            "axes": "bcyx",
            "shape": {
                "reference_tensor": "raw",
                "scale": [1, 1, 1, 1],
                "offset": [0, 0.5, -4, -4],
            },
            "halo": [0, 0, 3, 3],
        }
    ],
    "test_inputs": ["in.npy"],
    "test_outputs": ["out.npy"],
    "weights": {"onnx": {"source": "w.onnx"}},
}


def changed(path, value):
    """Return the good description with one value in place of another."""
    values = copy.deepcopy(GOOD)
    *parents, last = path
    inner = values
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return values


def test_the_axes_of_a_package_are_read():
    found = parse_description(GOOD)
    assert [axis.name for axis in found.input.space] == ["y", "x"]
    assert [(axis.size, axis.step) for axis in found.input.space] == [(8, 4), (8, 4)]
    assert [axis.halo for axis in found.output.space] == [HALO, HALO]
    assert found.weights["onnx"].file == "weights.onnx"


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["nuclei"], ("nuclei",)), (["raw"], ()), (["channel0"], ()), (["probability"], ())],
)
def test_names_of_channels_are_read_unless_they_are_made_up(names, expected):
    place = next(n for n, axis in enumerate(GOOD["inputs"][0]["axes"]) if axis["type"] == "channel")
    found = parse_description(changed(("inputs", 0, "axes", place, "channel_names"), names))
    assert found.input.channel_names == expected
    assert any(str(axis) == f"channel ({(expected or ('1',))[0]})" for axis in found.input.axes)


def test_an_answer_without_background_gets_one():
    place = next(
        n for n, axis in enumerate(GOOD["outputs"][0]["axes"]) if axis["type"] == "channel"
    )
    values = changed(("outputs", 0, "axes", place, "channel_names"), ["nuclei"])
    assert parse_description(values).class_names == ("background", "nuclei")
    values["config"] = {"napari_unet": {"answers": "classes"}}
    assert parse_description(values).class_names == ("nuclei",)


def test_the_older_format_says_the_same_in_other_words():
    found = parse_description(OLD)
    assert [(axis.size, axis.step) for axis in found.input.space] == [(32, 8), (32, 8)]
    # an offset of -4 is counted on both sides
    assert [(axis.lost, axis.halo) for axis in found.output.space] == [(4, 3), (4, 3)]
    assert found.output.channels == 2
    assert (found.input.test, found.output.test) == ("in.npy", "out.npy")
    assert found.input.steps[0].name == "zero_mean_unit_variance"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("format_version",), "0.3.1", "format '0.3.1'"),
        (("type",), "dataset", "holds a dataset"),
        (("inputs",), [], "takes 0 inputs"),
        (("outputs",), [], "outputs"),
        (("outputs",), None, "outputs"),
        (("inputs", 0, "axes", 2, "size"), {"min": 2**40, "step": 1}, "whole number"),
        (("inputs", 0, "axes", 2, "size"), -1, "whole number"),
        (("inputs", 0, "axes", 2, "id"), "q", "z, y or x"),
        (("inputs", 0, "axes", 2, "type"), "taste", "batch, channel, space"),
        (("outputs", 0, "axes", 2, "halo"), 10**9, "halo"),
        (("outputs", 0, "axes", 2, "scale"), 2.0, "another resolution"),
        (("inputs", 0, "test_tensor", "source"), "../../secret.npy", "does not lie in it"),
        (("inputs", 0, "test_tensor", "source"), "https://example.com/x.npy", "nothing is downl"),
        (("weights", "onnx", "source"), "/etc/passwd", "does not lie in it"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(path, value, reason):
    with pytest.raises(InputError, match=reason):
        parse_description(changed(path, value))


@pytest.mark.parametrize(
    "text",
    [
        b"a: &x [1]\nb: *x",
        b"a: !!python/object/apply:os.system ['true']",
        b"a: !tag 1",
        b"[" * 1000,
        b"a: " + b"[" * 100 + b"]" * 100,
        b"- 1\n" * 100_000,
        b"x" * 2**20,
        b"\xff\xfe\x00",
        b"a: {",
        b"",
        b"[1, 2]",
        b"1: 2",
        b"a: " + b"9" * 10_000,
    ],
)
def test_yaml_that_is_more_than_plain_values_is_refused(text):
    with pytest.raises(InputError):
        parse_yaml(text, "rdf.yaml")
