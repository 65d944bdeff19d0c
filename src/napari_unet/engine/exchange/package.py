"""The files of a bioimage.io package of one of our networks.

Source: the bioimage.io model description 0.5 (https://bioimage-io.github.io/spec-bioimage-io/).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.exchange.card import ModelCard
from napari_unet.engine.exchange.graph import INPUT, OPSET, OUTPUT, GraphAxis, graph_axes
from napari_unet.engine.images.axes import MICROMETRE
from napari_unet.engine.pictures import coloured_labels, png, stretched
from napari_unet.engine.usage import LearnedFrom, Usage
from napari_unet.model.unet import UNetConfig
from napari_unet.model.zoo.axes import SPACE
from napari_unet.model.zoo.description import OWN_KEY
from napari_unet.model.zoo.extra import needed
from napari_unet.ops.instances import class_labels

#: The version of the format that is written.
FORMAT_VERSION: Final = "0.5.12"
DESCRIPTION_FILE: Final = "bioimageio.yaml"
ONNX_FILE: Final = "weights.onnx"
OWN_FILE: Final = "model.safetensors"
# What `napari_unet.ops.normalize` does, in the format's words. Its epsilon is as small as it may be
# for images whose values lie far below 1; the limit is that of `scale_to_range`.
_PERCENTILES: Final = (1.0, 99.8)
_EPSILON: Final = 1e-12
_LIMIT: Final = 1e4
_COVER_SIDE = 512
_UNITS: Final = {MICROMETRE: "micrometer", "nm": "nanometer", "mm": "millimeter"}


@dataclass(frozen=True, slots=True, eq=False)
class TestTensors:
    """An input and the answer to it.

    Attributes
    ----------
    image
        Shape (1, C, ...), float32, not normalised.
    answer
        Shape (1, classes, ...), float32.
    """

    __test__ = False  # no class of tests, whatever its name

    image: NDArray[np.float32]
    answer: NDArray[np.float32]


def describe(
    config: UNetConfig, card: ModelCard, learned_from: LearnedFrom | None = None
) -> dict[str, Any]:
    """Return the part of the description that says what a network takes, does and answers."""
    learned_from = learned_from or LearnedFrom()
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        **card.to_dict(config.ndim),
        "inputs": [
            {
                "id": INPUT,
                "description": "the image as it is, not normalised",
                "axes": _input_axes(config, learned_from),
                "data": {"type": "float32"},
                "pad": {"mode": "reflect"},
                "preprocessing": _normalisation(config),
            }
        ],
        "outputs": [
            {
                "id": OUTPUT,
                "description": "probability of each class",
                "axes": _output_axes(config, card, learned_from),
                "data": {"type": "float32", "range": [0.0, 1.0]},
            }
        ],
        "weights": {"onnx": {"source": ONNX_FILE, "opset_version": OPSET}},
        "config": {OWN_KEY: {"answers": "classes"}},
    }


def _input_axes(config: UNetConfig, learned_from: LearnedFrom) -> list[dict[str, Any]]:
    pixels = _pixels(learned_from)
    axes: list[dict[str, Any]] = [
        {"type": "batch"},
        {"type": "channel", "channel_names": channel_names(config, learned_from)},
    ]
    for name, axis in _space(config):
        size = {"min": axis.smallest, "step": axis.step}
        axes.append({"type": "space", "id": name, "size": size, **pixels.get(name, {})})
    return axes


def _output_axes(
    config: UNetConfig, card: ModelCard, learned_from: LearnedFrom
) -> list[dict[str, Any]]:
    pixels = _pixels(learned_from)
    names = [_identifier(name) for name in card.names_of(config.classes)]
    axes: list[dict[str, Any]] = [
        {"type": "batch"},
        {"type": "channel", "channel_names": names},
    ]
    for name, axis in _space(config):
        size = {"tensor_id": INPUT, "axis_id": name}
        halo = {"halo": axis.halo} if axis.halo else {}
        axes.append({"type": "space", "id": name, "size": size, **halo, **pixels.get(name, {})})
    return axes


def _normalisation(config: UNetConfig) -> list[dict[str, Any]]:
    """Return how an image is normalised, in the words of the format."""
    low, high = _PERCENTILES
    scale = {
        "axes": [name for name, _ in _space(config)],
        "min_percentile": low,
        "max_percentile": high,
        "eps": _EPSILON,
    }
    return [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        {"id": "scale_range", "kwargs": scale},
        {"id": "clip", "kwargs": {"min": -_LIMIT, "max": _LIMIT}},
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
    ]


def _space(config: UNetConfig) -> list[tuple[str, GraphAxis]]:
    return list(zip(SPACE[-config.ndim :], graph_axes(config), strict=True))


def channel_names(config: UNetConfig, learned_from: LearnedFrom) -> list[str]:
    """Return what the channels of the image are called: as it learned them, colours, or numbers."""
    known = [_identifier(name) for name in learned_from.channels]
    if len(set(known)) == len(known) == config.in_channels:
        return known
    if config.in_channels == 3:
        return ["red", "green", "blue"]
    return [f"channel{number}" for number in range(config.in_channels)]


def package_files(
    config: UNetConfig,
    card: ModelCard,
    tensors: TestTensors,
    onnx: bytes,
    own: bytes,
    usage: Usage,
    notes: str = "",
) -> dict[str, bytes]:
    """Return the files of a package by name.

    Parameters
    ----------
    config
        The network's shape.
    card
        What is told of it.
    tensors
        Test input and output.
    onnx, own
        The weights as ONNX and as our own model file.
    usage
        How it is meant to be used.
    notes
        Further sentences for the documentation.
    """
    files = {
        ONNX_FILE: onnx,
        OWN_FILE: own,
        "test_input.npy": _npy(tensors.image),
        "test_output.npy": _npy(tensors.answer),
        "cover.png": cover_picture(tensors),
        "README.md": card.readme(config.ndim, config.classes, notes).encode(),
    }

    def entry(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    values = describe(config, card, usage.learned_from)
    values["inputs"][0]["test_tensor"] = entry("test_input.npy")
    values["outputs"][0]["test_tensor"] = entry("test_output.npy")
    values["weights"]["onnx"].update(entry(ONNX_FILE))
    values["covers"] = [entry("cover.png")]
    values["documentation"] = entry("README.md")
    values["attachments"] = [entry(OWN_FILE)]
    values["config"][OWN_KEY]["weights"] = OWN_FILE
    yaml = needed("yaml")
    files[DESCRIPTION_FILE] = yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode()
    return files


def cover_picture(tensors: TestTensors) -> bytes:
    """Draw the test image and, beside it, the classes on it: a PNG, twice as wide as high."""
    image, answer = tensors.image[0], tensors.answer[0]
    if image.ndim == 4:  # the middle plane of a stack
        image, answer = (each[:, each.shape[1] // 2] for each in (image, answer))
    side = min(*image.shape[1:], _COVER_SIDE)
    image, answer = image[:, :side, :side], answer[:, :side, :side]
    shown = stretched(image.transpose(1, 2, 0) if len(image) == 3 else image[0])
    found = coloured_labels(class_labels(answer).astype(np.int32) - 1, shown)
    return png(np.concatenate([shown, found], axis=1))


def _pixels(learned_from: LearnedFrom) -> dict[str, dict[str, Any]]:
    """Return the pixel size of the images that it learned from, by axis, if the format knows it."""
    size = learned_from.size
    if size is None or size.unit not in _UNITS:
        return {}
    sides = {"y": size.height, "x": size.width}
    return {name: {"unit": _UNITS[size.unit], "scale": side} for name, side in sides.items()}


def _identifier(name: str) -> str:
    return name.strip() or "class"


def _npy(array: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
