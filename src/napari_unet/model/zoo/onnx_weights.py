"""ONNX from strangers: looked at before it is run, and run with onnxruntime.

ONNX is a list of operations on arrays. The standard ones read no files and call no code; so a file
with other operations, or with weights in further files, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.model.zoo.extra import needed
from napari_unet.ops.errors import InputError

#: A function from a tensor to the model's first answer.
Run = Callable[[NDArray[Any]], NDArray[Any]]

_DOMAINS: Final = frozenset({"", "ai.onnx"})
_MOST_NODES = 100_000
_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


def load_onnx(contents: bytes) -> Run:
    """Make a function of an ONNX model.

    Parameters
    ----------
    contents
        The file.

    Returns
    -------
    callable
        From a tensor in the model's order of axes to its first output. It raises InputError if
        the model fails.

    Raises
    ------
    InputError
        If it is no ONNX, or a model that would read other files or needs other programs' parts.
    """
    check_onnx(contents)
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    # Threads that spin between two tiles take the time of everybody else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(contents, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _refused("onnxruntime cannot read them", error) from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _DTYPES:
        raise InputError("the ONNX weights take other inputs than one image; choose another model")
    name, dtype = inputs[0].name, _DTYPES[inputs[0].type]
    output = session.get_outputs()[0].name

    def run(tensor: NDArray[Any]) -> NDArray[Any]:
        try:
            (answer,) = session.run([output], {name: np.ascontiguousarray(tensor, dtype)})
        except Exception as error:
            raise _refused("they failed", error) from error
        if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fiub":
            raise InputError("the ONNX weights do not answer with an array; choose another model")
        return answer

    return run


def check_onnx(contents: bytes) -> None:
    """Refuse ONNX weights that could do anything but compute.

    Raises
    ------
    InputError
        With the reason.
    """
    onnx = needed("onnx")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(contents)
        _check_model(onnx, model)
    except InputError:
        raise
    except Exception as error:  # protobuf's errors have no common public base
        raise _refused("they are damaged", error) from error


def _check_model(onnx: Any, model: Any) -> None:
    if not model.graph.node or not model.graph.output:
        raise InputError("the ONNX weights hold no network; choose another copy of the package")
    if model.functions or model.training_info:
        raise InputError("the ONNX weights define functions of their own; choose another model")
    graphs, nodes = [model.graph], 0
    while graphs:
        graph = graphs.pop()
        for tensor in graph.initializer:
            _check_tensor(onnx, tensor)
        if graph.sparse_initializer:
            raise InputError("the ONNX weights are sparse; choose another model")
        for node in graph.node:
            nodes += 1
            if node.domain not in _DOMAINS or nodes > _MOST_NODES:
                raise InputError(
                    f"the ONNX weights need {node.domain[:40]}.{node.op_type[:40]}, which is no "
                    "part of ONNX; choose another model"
                )
            for attribute in node.attribute:
                graphs.extend([attribute.g] if attribute.HasField("g") else [])
                graphs.extend(attribute.graphs)
                for tensor in (*attribute.tensors, attribute.t):
                    _check_tensor(onnx, tensor)


def _check_tensor(onnx: Any, tensor: Any) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise InputError(
            "the ONNX weights lie in further files, which are not read; save the model with its "
            "weights inside"
        )


def _refused(problem: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"the ONNX weights cannot be used, {problem} ({reason}); choose another copy of the package"
    )
