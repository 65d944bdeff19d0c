"""TorchScript from strangers: a program in a small language, read in full before it is loaded.

Loading TorchScript calls no Python, and its unpickler makes nothing but tensors, containers and the
archive's own classes. But it is a program: it may call any operator of torch, some of which open
files, and its ``__setstate__`` methods run while it is loaded. So its text is parsed first, and
refused if it calls anything beyond arithmetic on tensors. ONNX is preferred where there is both.

Source: the serialization format of TorchScript (torch/csrc/jit/docs/serialization.md).
"""

from __future__ import annotations

import ast
import io
import warnings
import zipfile
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.model.zoo.container import DAMAGE
from napari_unet.model.zoo.onnx_weights import Run
from napari_unet.ops.errors import InputError

_LONGEST_CODE = 4 * 2**20
_LARGEST_GROWTH = 20

# Operators that networks for images use; each computes a value from its arguments and does no more.
_OPERATORS: Final = frozenset(
    """
    __and__ __contains__ __derive_index __getitem__ __is__ __isnot__ __not__ __or__
    __range_length _convolution _native_multi_head_attention _set_item _unwrap_optional
    _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_lanczos2d_aa
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d abs
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d
    adaptive_max_pool3d add add_ addmm all alpha_dropout alpha_dropout_ any append arange argmax
    as_tensor avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bmm broadcast_tensors cat ceil
    celu celu_ chunk clamp clamp_ clamp_min clone constant_pad_nd contiguous conv1d conv2d
    conv3d conv_transpose1d conv_transpose2d conv_transpose3d cos cumsum detach device dim div
    div_ dropout dropout_ einsum elu elu_ embedding empty empty_like eq erf exp expand expand_as
    extend feature_dropout feature_dropout_ flatten flip float floor floor_divide floordiv
    format full full_like gather ge gelu glu group_norm gru gt hardsigmoid hardswish hardswish_
    hardtanh hardtanh_ hypot im2col index index_select instance_norm is_floating_point
    is_grad_enabled isnan item keys l1_loss layer_norm le leaky_relu leaky_relu_ len lerp linear
    linspace list log log_softmax lt masked_fill masked_fill_ matmul max max_pool1d max_pool2d
    max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum
    mean meshgrid min minimum mish mish_ mm mul mul_ narrow native_group_norm native_layer_norm
    ne neg new_full new_ones new_zeros norm normalize numel ones ones_like pad percentFormat
    permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal reflection_pad1d
    reflection_pad2d reflection_pad3d relu relu6 relu6_ relu_ remainder repeat repeat_interleave
    replication_pad1d replication_pad2d replication_pad3d requires_grad_ reshape roll round
    rsqrt rsub scaled_dot_product_attention select selu selu_ sigmoid sigmoid_ sign silu silu_
    sin size slice softmax softplus split split_with_sizes sqrt square squeeze squeeze_ stack
    std sub sub_ sum t tan tanh tanh_ tensor to transpose tril triu type_as unbind unflatten
    unfold unsqueeze unsqueeze_ upsample_bicubic2d upsample_bilinear2d upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d values var
    view view_as warn where zero_ zeros zeros_like
    """.split()
)
_PRIMITIVES: Final = frozenset(
    (
        "NumToTensor RaiseException data device dtype is_cuda is_nested layout max min name "
        "requires_grad shape type"
    ).split()
)
_CONSTANTS: Final = frozenset({"device", "dtype", "inf", "nan", "pi"})
_BUILTINS: Final = frozenset(
    "annotate unchecked_cast uninitialized getattr isinstance range int float bool len str "
    "AssertionError ValueError RuntimeError NotImplementedError Exception ops torch __torch__ "
    "CONSTANTS ord abs round slice tuple".split()
)


def load_torchscript(contents: bytes) -> Run:
    """Make a function of a TorchScript model.

    Parameters
    ----------
    contents
        The file.

    Returns
    -------
    callable
        From a tensor in the model's order of axes to its first answer. It raises InputError if the
        model fails.

    Raises
    ------
    InputError
        If it is no TorchScript, or a program that does more than compute.
    """
    check_torchscript(contents)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            loaded = torch.jit.load(io.BytesIO(contents), "cpu")  # type: ignore[no-untyped-call]
            network = loaded.eval()
    except Exception as error:
        raise _unusable("torch cannot load them", error) from error

    def run(tensor: NDArray[Any]) -> NDArray[Any]:
        try:
            with torch.inference_mode():
                answer = network(torch.from_numpy(np.ascontiguousarray(tensor, np.float32)))
        except Exception as error:
            raise _unusable("they failed", error) from error
        if isinstance(answer, tuple | list) and answer:
            answer = answer[0]
        if not isinstance(answer, torch.Tensor):
            raise InputError(
                "the TorchScript weights do not answer with a tensor; choose another model"
            )
        result: NDArray[Any] = answer.float().numpy()
        return result

    return run


def check_torchscript(contents: bytes) -> None:
    """Refuse TorchScript that could do anything but compute; nothing of it is run.

    Raises
    ------
    InputError
        With the reason.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            _check_archive(archive, len(contents))
    except InputError:
        raise
    except (*DAMAGE, SyntaxError, MemoryError) as error:  # Python's own parser raises the last two
        raise _unusable("they are damaged or no TorchScript", error) from error


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > _LARGEST_GROWTH * size + _LONGEST_CODE:
        # Weights hardly shrink; torch would unpack a bomb without asking.
        raise InputError("the TorchScript weights would unpack to too much; choose another copy")
    names = [entry.filename for entry in entries]
    code = [entry for entry in entries if "/code/" in entry.filename]
    if not any(name.endswith("/constants.pkl") for name in names) or not code:
        raise InputError(
            "the weights are a pickled PyTorch file, which could run code when it is opened, "
            "and no TorchScript; choose a package with ONNX weights"
        )
    if sum(entry.file_size for entry in code) > _LONGEST_CODE:
        raise InputError("the TorchScript weights hold too much code; choose another model")
    for entry in entries:
        if entry.filename.endswith(".pkl") and b"torch.classes" in archive.read(entry):
            raise _beyond("classes of other libraries")
    texts = [archive.read(e).decode("utf-8") for e in code if e.filename.endswith(".py")]
    trees = [ast.parse(text) for text in texts]
    defined = {
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    for tree in trees:
        _check_code(tree, defined)


def _check_code(tree: ast.Module, defined: set[str]) -> None:
    """Refuse code that names anything but arithmetic; `defined` are the archive's own methods."""
    spaces = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    functions = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute)
        for target in node.targets
        if isinstance(target, ast.Name) and _dotted(node.value)[0] == "__torch__"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in ("__setstate__", "__getstate__"):
            raise _beyond("code that runs while it is loaded")
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Lambda | ast.AsyncFunctionDef):
            raise _beyond("Python")
        if isinstance(node, ast.Name) and node.id in ("torch", "ops") and id(node) not in spaces:
            raise _beyond(f"{node.id} as a value")
        if isinstance(node, ast.Attribute):
            _check_dotted(_dotted(node))
        if isinstance(node, ast.Call):
            _check_call(node.func, defined, functions)


def _check_dotted(parts: list[str]) -> None:
    """Look at a name such as ``torch.conv2d`` or ``ops.prim.data``."""
    root, rest = parts[0], parts[1:]
    if root == "torch" and (len(rest) != 1 or rest[0] not in _OPERATORS | _CONSTANTS):
        raise _beyond(".".join(parts))
    if root == "ops" and rest != ["prim"] and (rest[0] != "prim" or rest[-1] not in _PRIMITIVES):
        raise _beyond(".".join(parts))
    if root == "__torch__" and rest[:2] == ["torch", "classes"]:
        raise _beyond("classes of other libraries")


def _check_call(called: ast.expr, defined: set[str], functions: set[str]) -> None:
    """Look at what is called: by its bare name, or as a method of a value."""
    if isinstance(called, ast.Name):
        if called.id not in _BUILTINS | functions:
            raise _beyond(called.id)
    elif isinstance(called, ast.Attribute):
        if _dotted(called)[0] in ("torch", "ops", "__torch__") or called.attr in _OPERATORS:
            return
        # What is no method of the archive's, torch looks up among all its operators.
        if called.attr not in defined or torch._C._jit_get_schemas_for_operator(
            f"aten::{called.attr}"
        ):
            raise _beyond(called.attr)
    else:
        raise _beyond("what is computed as a function")


def _dotted(node: ast.Attribute) -> list[str]:
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    parts.append(inner.id if isinstance(inner, ast.Name) else "")
    return parts[::-1]


def _beyond(what: str) -> InputError:
    return InputError(
        f"the TorchScript weights use {what[:80]}, which is more than arithmetic, and foreign code "
        "is not run; choose a package with ONNX weights"
    )


def _unusable(problem: str, error: BaseException) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"the TorchScript weights cannot be used, {problem} ({reason}); choose another copy"
    )
