"""Pre- and postprocessing of bioimage.io models, as their format defines it.

Source: the bioimage.io model description, format 0.5, "preprocessing" and "postprocessing". Arrays
are (C, Y, X) or (C, Z, Y, X) here, whatever the order of the model's tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.model.zoo.description import Step, Tensor
from napari_unet.model.zoo.fields import number, text, unexpected
from napari_unet.ops.errors import InputError

Operation = Callable[[NDArray[Any]], NDArray[Any]]

_DTYPES: Final = frozenset(
    {"float32", "float64", "bool"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
# Of format 0.4.
_LETTERS = {"b": "batch", "c": "channel", "z": "z", "y": "y", "x": "x"}


def operations(tensor: Tensor, *, of_pixels: bool) -> tuple[Operation, ...]:
    """Return the steps of a tensor's pre- or postprocessing as functions, to be applied in order.

    Parameters
    ----------
    tensor
        An input or an answer.
    of_pixels
        Whether only such steps are possible that look at each pixel alone: an answer is worked on
        tile by tile.

    Raises
    ------
    InputError
        If a step is not known, is code that comes with the package, or has other parameters.
    """
    found = []
    for step in tensor.steps:
        if step.name == "custom":
            raise InputError(
                "the package brings code of its own for pre- or postprocessing, and foreign code "
                "is not run; choose another package"
            )
        if step.name in _OF_PIXELS:
            make = _OF_PIXELS[step.name]
        elif step.name in _OF_IMAGES and not of_pixels:
            make = _OF_IMAGES[step.name]
        else:
            known = ", ".join(sorted({*_OF_PIXELS, *(() if of_pixels else _OF_IMAGES)}))
            raise InputError(
                f"the package asks for the step {step.name[:40]!r}, which this program does not "
                f"have here; choose a model that needs {known} alone"
            )
        found.append(make(step, tensor))
    return tuple(found)


# ---------------------------------------------------------------------------- pixels


def _ensure_dtype(step: Step, _tensor: Tensor) -> Operation:
    name = text(step.values.get("dtype"), "dtype")
    if name not in _DTYPES:
        raise unexpected("dtype", name, "a numerical one")
    return lambda x: x.astype(name)


def _binarize(step: Step, tensor: Tensor) -> Operation:
    limit = _per_channel(step.values.get("threshold"), "threshold", step, tensor)
    return lambda x: x > limit


def _clip(step: Step, tensor: Tensor) -> Operation:
    _known(step, "min", "max")
    low, high = (
        None if step.values.get(end) is None else number(step.values[end], end)
        for end in ("min", "max")
    )
    return lambda x: np.clip(x, low, high)


def _scale_linear(step: Step, tensor: Tensor) -> Operation:
    gain = _per_channel(step.values.get("gain", 1.0), "gain", step, tensor)
    offset = _per_channel(step.values.get("offset", 0.0), "offset", step, tensor)
    return lambda x: x * gain + offset


def _fixed(step: Step, tensor: Tensor) -> Operation:
    mean = _per_channel(step.values.get("mean"), "mean", step, tensor)
    deviation = _per_channel(step.values.get("std"), "std", step, tensor)
    if (deviation <= 0).any():
        raise unexpected("std", step.values.get("std"), "above 0")
    # Format 0.4 adds its epsilon to a given deviation too.
    epsilon = _epsilon(step) if "mode" in step.values else 0.0
    return lambda x: (x - mean) / (deviation + epsilon)


def _sigmoid(_step: Step, _tensor: Tensor) -> Operation:
    return lambda x: 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def _softmax(step: Step, _tensor: Tensor) -> Operation:
    axis = text(step.values.get("axis", "channel"), "axis of softmax")
    if axis != "channel":
        raise unexpected("axis of softmax", axis, "channel")

    def apply(x: NDArray[Any]) -> NDArray[Any]:
        powers = np.exp(x - x.max(axis=0))
        result: NDArray[Any] = powers / powers.sum(axis=0)
        return result

    return apply


# ---------------------------------------------------------------------------- whole images


def _zero_mean(step: Step, tensor: Tensor) -> Operation:
    if step.values.get("mode") == "fixed":  # of format 0.4
        return _fixed(step, tensor)
    axes, epsilon = _reduced(step, tensor), _epsilon(step)

    def apply(x: NDArray[Any]) -> NDArray[Any]:
        wide = x.astype(np.float64)
        mean, deviation = (f(wide, axis=axes, keepdims=True) for f in (np.mean, np.std))
        result: NDArray[Any] = (wide - mean) / (deviation + epsilon)
        return result

    return apply


def _scale_range(step: Step, tensor: Tensor) -> Operation:
    axes, epsilon = _reduced(step, tensor), _epsilon(step)
    low = number(step.values.get("min_percentile", 0.0), "min_percentile")
    high = number(step.values.get("max_percentile", 100.0), "max_percentile")
    if not 0 <= low < high <= 100:
        raise unexpected("the percentiles", (low, high), "0 <= low < high <= 100")

    def apply(x: NDArray[Any]) -> NDArray[Any]:
        wide = x.astype(np.float64)
        floor, ceiling = np.percentile(wide, [low, high], axis=axes, keepdims=True)
        result: NDArray[Any] = (wide - floor) / (ceiling - floor + epsilon)
        return result

    return apply


def _reduced(step: Step, tensor: Tensor) -> tuple[int, ...]:
    """Return the axes of (C, ...) over which statistics are taken."""
    other = step.values.get("reference_tensor")
    if other not in (None, tensor.name):
        raise unexpected("reference_tensor", other, "the input itself")
    if step.values.get("mode", "per_sample") == "per_dataset":
        raise InputError(
            "the package normalises by the statistics of a whole set of images; choose a model "
            "that looks at one image"
        )
    places = {"channel": 0, **{axis.name: 1 + n for n, axis in enumerate(tensor.space)}}
    axes = step.values.get("axes")
    if axes is None:
        return tuple(sorted(places.values()))
    if isinstance(axes, str):
        axes = [_LETTERS.get(letter, letter) for letter in axes]
    if not isinstance(axes, list) or not all(isinstance(axis, str) for axis in axes):
        raise unexpected("axes", axes, "a list of names")
    found = {places[axis] for axis in axes if axis in places}
    if unknown := set(axes) - set(places) - {"batch", "time", "index"}:
        raise unexpected("axes", min(unknown), "an axis of the tensor")
    if not found:
        raise unexpected("axes", axes, "an axis of the image")
    return tuple(sorted(found))


def _epsilon(step: Step) -> float:
    value = number(step.values.get("eps", 1e-6), "eps")
    if not 0 < value <= 0.1:
        raise unexpected("eps", value, "above 0 and at most 0.1")
    return value


def _known(step: Step, *names: str) -> None:
    if unknown := sorted(set(step.values) - set(names)):
        raise unexpected(f"kwargs of {step.name}", unknown[0], " and ".join(names))


def _per_channel(value: Any, what: str, step: Step, tensor: Tensor) -> NDArray[np.float64]:
    """Return a number for all channels, or one for each, in a shape that fits (C, ...)."""
    if not isinstance(value, list):
        return np.float64(number(value, what)) * np.ones(1)
    values = [number(each, what) for each in value]
    if len(values) not in (1, tensor.channels) or step.values.get("axis") not in (None, "channel"):
        raise unexpected(what, values, f"a number, or one for each of {tensor.channels} channels")
    return np.reshape(values, (-1, *(1 for _ in tensor.space)))


_Maker = Callable[[Step, Tensor], Operation]
_OF_PIXELS: Final[Mapping[str, _Maker]] = {
    "ensure_dtype": _ensure_dtype,
    "binarize": _binarize,
    "clip": _clip,
    "scale_linear": _scale_linear,
    "fixed_zero_mean_unit_variance": _fixed,
    "sigmoid": _sigmoid,
    "softmax": _softmax,
}
_OF_IMAGES: Final[Mapping[str, _Maker]] = {
    "zero_mean_unit_variance": _zero_mean,
    "scale_range": _scale_range,
}


def apply_operations(steps: Sequence[Operation], array: NDArray[Any]) -> NDArray[Any]:
    """Apply functions one after the other."""
    for step in steps:
        array = step(array)
    return array
