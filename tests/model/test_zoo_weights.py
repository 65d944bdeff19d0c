"""Weights from strangers are looked at before they are run, and run by themselves."""

import io
import os
import struct

import numpy as np
import pytest
import torch
from strange_packages import mean_filter, mean_filter_onnx, npy

from napari_unet.model.zoo.axes import Axis
from napari_unet.model.zoo.description import Step, Tensor
from napari_unet.model.zoo.foreign import parse_npy
from napari_unet.model.zoo.isolation import IsolatedRun
from napari_unet.model.zoo.onnx_weights import check_onnx, load_onnx
from napari_unet.model.zoo.processing import apply_operations, operations
from napari_unet.model.zoo.torchscript import check_torchscript, load_torchscript
from napari_unet.ops.errors import InputError

IMAGE = np.random.default_rng(1).random((1, 1, 12, 10), np.float32)


def script(module):
    """Return the file of a module as TorchScript."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


class Halved(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.ReLU(), torch.nn.Upsample(scale_factor=2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.max_pool2d(self.layers(x), 2)


class OpensFile(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/tmp/napari-unet-evil", True, 4) + x


class RunsWhenLoaded(torch.nn.Module):
    @torch.jit.export
    def __getstate__(self):
        return self.training

    @torch.jit.export
    def __setstate__(self, state: bool):
        self.training = state

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


# ---------------------------------------------------------------- ONNX


def test_onnx_gives_what_it_says():
    answer = load_onnx(mean_filter_onnx())(IMAGE)
    np.testing.assert_allclose(answer[0, 0], mean_filter(IMAGE[0, 0]), atol=1e-6)


def test_onnx_in_its_own_process_gives_the_same():
    run = IsolatedRun("onnx", mean_filter_onnx())
    np.testing.assert_array_equal(run(IMAGE), load_onnx(mean_filter_onnx())(IMAGE))
    run.close()


def test_a_process_that_ends_is_named_and_begun_anew():
    run = IsolatedRun("onnx", mean_filter_onnx())
    run._process.kill()
    with pytest.raises(InputError, match="ended the process"):
        run(IMAGE)
    assert run(IMAGE).shape == IMAGE.shape
    run.close()


def onnx_of(nodes, **constants):
    """Return ONNX that takes an image and runs these nodes."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, None, None])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def test_a_network_that_asks_for_a_terabyte_fails_alone():
    from onnx import helper

    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["image", "sum"], ["answer"]),
    ]
    with pytest.raises(InputError):
        IsolatedRun("onnx", onnx_of(nodes, shape=np.array([2**18, 2**20])))(IMAGE)


def test_a_network_that_never_ends_is_ended():
    from onnx import TensorProto, helper

    scalar, floats = [], TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["value", "value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, scalar),
            helper.make_tensor_value_info("go", TensorProto.BOOL, scalar),
            helper.make_tensor_value_info("value", floats, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, scalar),
            helper.make_tensor_value_info("next", floats, None),
        ],
    )
    loop = helper.make_node("Loop", ["count", "true", "image"], ["answer"], body=body)
    weights = onnx_of([loop], count=np.array(2**62), true=np.array(True))
    with pytest.raises(InputError, match="took too long"):
        IsolatedRun("onnx", weights, seconds=3)(IMAGE)


def test_onnx_that_needs_other_programs_is_refused():
    with pytest.raises(InputError, match="no part of ONNX"):
        check_onnx(mean_filter_onnx(domain="com.evil"))


def test_onnx_whose_weights_lie_elsewhere_is_refused():
    import onnx

    model = onnx.load_from_string(mean_filter_onnx())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    with pytest.raises(InputError, match="further files"):
        check_onnx(model.SerializeToString())


@pytest.mark.parametrize("contents", [b"", b"\x80\x04cos\nsystem", bytes(100), os.urandom(1000)])
def test_what_is_no_onnx_is_refused(contents):
    with pytest.raises(InputError):
        load_onnx(contents)


# ---------------------------------------------------------------- TorchScript


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_that_computes_is_run():
    module = Halved().eval()
    run = load_torchscript(script(module))
    with torch.no_grad():
        expected = module(torch.from_numpy(IMAGE)).numpy()
    np.testing.assert_allclose(run(IMAGE), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("module", "reason"), [(OpensFile(), "from_file"), (RunsWhenLoaded(), "while it is loaded")]
)
def test_torchscript_that_does_more_is_refused_before_it_is_loaded(module, reason, monkeypatch):
    contents = script(module)
    monkeypatch.setattr(torch.jit, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=reason):
        load_torchscript(contents)


def test_a_pickled_file_is_no_torchscript():
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(InputError, match="pickled PyTorch file"):
        check_torchscript(file.getvalue())


# ---------------------------------------------------------------- tensors and steps


def test_an_array_is_read_and_one_that_lies_is_not():
    array = np.arange(6, dtype=np.uint16).reshape(2, 3)
    np.testing.assert_array_equal(parse_npy(npy(array), "a"), array)
    huge = npy(array).replace(b"(2, 3)", b"(2, 3000000000000)"[:6])
    for contents in (huge, npy(array)[:-1], b"", npy(np.array([1, None], object))):
        with pytest.raises(InputError):
            parse_npy(contents, "a")


def test_a_header_that_claims_terabytes_is_refused():
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    contents = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(InputError):
        parse_npy(contents, "a")


def tensor(*steps):
    axes = (Axis("channel", "channel", 2), Axis("space", "y", 8), Axis("space", "x", 8))
    return Tensor("raw", axes, tuple(Step(name, values) for name, values in steps), "")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("zero_mean_unit_variance", {"axes": ["y", "x"]}),
        ("zero_mean_unit_variance", {}),
        ("scale_range", {"axes": ["y", "x"], "min_percentile": 1.0, "max_percentile": 99.8}),
        ("scale_linear", {"gain": [2.0, 3.0], "offset": [1.0, -1.0], "axis": "channel"}),
        ("clip", {"min": 0.2, "max": 0.7}),
        ("binarize", {"threshold": 0.4}),
        ("fixed_zero_mean_unit_variance", {"mean": [1, 2], "std": [3, 4], "axis": "channel"}),
        ("sigmoid", {}),
        ("softmax", {"axis": "channel"}),
        ("ensure_dtype", {"dtype": "uint8"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_step_does_what_the_formats_own_library_does(name, values):
    core = pytest.importorskip("bioimageio.core.proc_ops")
    from bioimageio.core import Sample
    from bioimageio.core import Tensor as CoreTensor
    from bioimageio.core.stat_calculators import compute_measures
    from bioimageio.spec.model import v0_5

    array = np.random.default_rng(2).random((2, 8, 8)).astype(np.float32) * 3
    ours = apply_operations(operations(tensor((name, values)), of_pixels=False), array)

    kinds = {
        kind.implemented_id: kind
        for kind in vars(v0_5).values()
        if isinstance(getattr(kind, "implemented_id", None), str)
    }
    given = {"id": name, "kwargs": values} if values else {"id": name}
    description = kinds[name].model_validate(given)
    sample = Sample(
        members={"raw": CoreTensor.from_numpy(array, dims=["channel", "y", "x"])}, stat={}, id="s"
    )
    step = core.get_proc(description, _core_tensor())
    sample.stat = compute_measures(step.required_measures, [sample])
    step(sample)
    theirs = sample.members["raw"].data.to_numpy()
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), atol=1e-5)


def _core_tensor():
    from bioimageio.spec.model import v0_5

    return v0_5.InputTensorDescr.model_validate(
        {
            "id": "raw",
            "axes": [
                {"type": "channel", "channel_names": ["a", "b"]},
                {"type": "space", "id": "y", "size": 8},
                {"type": "space", "id": "x", "size": 8},
            ],
            "test_tensor": None,
        }
    )


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (("custom", {"callable": "f"}), "code of its own"),
        (("stardist_postprocessing", {}), "does not have"),
        (("scale_range", {"min_percentile": 90, "max_percentile": 10}), "percentiles"),
        (("zero_mean_unit_variance", {"axes": ["q"]}), "axis of the tensor"),
        (("scale_linear", {"gain": [1, 2, 3]}), "2 channels"),
        (("ensure_dtype", {"dtype": "object"}), "dtype"),
        (("scale_linear", {"gain": float("nan")}), "finite"),
    ],
)
def test_a_step_that_cannot_be_done_is_refused(step, reason):
    with pytest.raises(InputError, match=reason):
        operations(tensor(step), of_pixels=False)


def test_statistics_of_a_whole_answer_are_no_step_for_tiles():
    with pytest.raises(InputError, match="does not have here"):
        operations(tensor(("zero_mean_unit_variance", {})), of_pixels=True)
