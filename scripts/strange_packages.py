"""Small bioimage.io packages as strangers make them: for the tests and for fuzzing."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 16
HALO = 2


def npy(array: NDArray[Any]) -> bytes:
    """Return the contents of a NumPy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def mean_filter_onnx(
    *, ndim: int = 2, channels: int = 1, padded: bool = True, domain: str = "", outputs: int = 1
) -> bytes:
    """Return ONNX of one convolution whose answer is the mean over 3 pixels along each axis."""
    from onnx import TensorProto, helper, numpy_helper

    sides = [None] * ndim
    weights = np.full((outputs, channels, *[3] * ndim), 1 / (channels * 3**ndim), np.float32)
    node = helper.make_node(
        "Conv", ["image", "weights"], ["answer"], pads=[int(padded)] * (2 * ndim), domain=domain
    )
    graph = helper.make_graph(
        [node],
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, *sides])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, outputs, *sides])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid(domain, 1) if domain else helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model.SerializeToString()


def mean_filter(image: NDArray[Any]) -> NDArray[Any]:
    """Return what the ONNX of `mean_filter_onnx` answers to a padded image (Y, X)."""
    from scipy import ndimage

    return ndimage.uniform_filter(image.astype(np.float64), 3, mode="constant")


def package_files(
    *, changes: Mapping[str, Any] | None = None, weights: bytes | None = None
) -> dict[str, bytes]:
    """Return the files of a good package of format 0.5, by name.

    Parameters
    ----------
    changes
        Entries of the description that are put in place of the usual ones.
    weights
        The ONNX file; None is the mean filter.
    """
    import yaml

    onnx = mean_filter_onnx() if weights is None else weights
    image = np.random.default_rng(0).random((1, 1, SIDE, SIDE), np.float32)
    answer = mean_filter(image[0, 0])[None, None].astype(np.float32)
    values = {**_description(onnx), **(changes or {})}
    return {
        "bioimageio.yaml": yaml.safe_dump(values).encode(),
        "weights.onnx": onnx,
        "test_input.npy": npy(image),
        "test_output.npy": npy(answer),
    }


def _description(onnx: bytes) -> dict[str, Any]:
    """Return the description of the mean filter in a file of ONNX."""
    size = {"min": 8, "step": 4}
    return {
        "format_version": "0.5.4",
        "type": "model",
        "name": "mean filter",
        "authors": [{"name": "Somebody"}],
        "inputs": [
            {
                "id": "raw",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["grey"]},
                    {"type": "space", "id": "y", "size": dict(size)},
                    {"type": "space", "id": "x", "size": dict(size)},
                ],
                "test_tensor": {"source": "test_input.npy"},
            }
        ],
        "outputs": [
            {
                "id": "probability",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["object"]},
                    *(
                        {
                            "type": "space",
                            "id": axis,
                            "size": {"tensor_id": "raw", "axis_id": axis},
                            "halo": HALO,
                        }
                        for axis in "yx"
                    ),
                ],
                "test_tensor": {"source": "test_output.npy"},
            }
        ],
        "weights": {"onnx": {"source": "weights.onnx", "sha256": hashlib.sha256(onnx).hexdigest()}},
    }


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return path


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files into a folder."""
    path.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        (path / name).write_bytes(contents)
    return path
