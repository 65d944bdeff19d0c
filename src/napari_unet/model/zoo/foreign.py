"""A model of another program, ready to run: its weights, and what is done before and after."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.model.zoo.container import LARGEST_FILE, Container
from napari_unet.model.zoo.description import Description, Tensor, Weights, read_description
from napari_unet.model.zoo.isolation import IsolatedRun
from napari_unet.model.zoo.onnx_weights import Run, load_onnx
from napari_unet.model.zoo.processing import apply_operations, operations
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import TileGeometry

# Bytes of a test tensor: 512 MB are 128 million values.
_LARGEST_TENSOR = 2**29
# Rounding of 16 bit weights and of other processors; a wrong normalisation moves far more.
_TOLERANCE = 1e-2
_MISMATCHES_ALLOWED = 1e-3
_MOST_CLASSES = 255
# Of channels that are probabilities of classes, which sum to 1.
_SUM_TOLERANCE = 1e-3
_WHY_NOT: Final = {
    "pytorch_state_dict": "its architecture is given as Python source",
    "keras_hdf5": "they may hold code",
    "keras_v3": "they may hold code",
    "tensorflow_saved_model_bundle": "TensorFlow is not part of this program",
    "tensorflow_js": "TensorFlow is not part of this program",
}


@dataclass(frozen=True, slots=True)
class ForeignConfig:
    """What a foreign model takes and answers: as much of a `UNetConfig` as it has."""

    in_channels: int
    classes: int
    ndim: int


class ForeignModel:
    """A model from a package, to predict with; it cannot be trained here.

    Parameters
    ----------
    container
        The package.
    description
        What it says; None reads it from the package.
    test
        Whether the package's test input must give its test output.
    isolated
        Whether the network runs in a process of its own, as it has to if a stranger made it.

    Attributes
    ----------
    description
        What the package says.
    weights_format
        "onnx" or "torchscript".
    test_error
        Largest difference to the package's test output; None if it has none or was not run.

    Raises
    ------
    InputError
        If the package cannot be run without foreign code, does not hold what it says, misses its
        own test output, or answers with something else than probabilities.
    """

    def __init__(
        self,
        container: Container,
        description: Description | None = None,
        *,
        test: bool = True,
        isolated: bool = True,
    ) -> None:
        self.description = description or read_description(container)
        self._container = container
        self._before = operations(self.description.input, of_pixels=False)
        self._after = operations(self.description.output, of_pixels=True)
        self.weights_format, self._run = _load_weights(container, self.description, isolated)
        self._are_classes = self.description.answers_classes
        self.test_error = self._test() if test else None

    @property
    def config(self) -> ForeignConfig:
        """Channels, classes and axes in one place."""
        return ForeignConfig(self.in_channels, self.classes, self.ndim)

    @property
    def ndim(self) -> int:
        """2 for images, 3 for stacks."""
        return len(self.description.input.space)

    @property
    def in_channels(self) -> int:
        """Channels of the image that it takes."""
        return self.description.input.channels

    @property
    def classes(self) -> int:
        """Channels of what `predict_tile` returns; background is the first."""
        return self.description.output.channels + (not self._are_classes)

    @property
    def geometries(self) -> tuple[TileGeometry, ...]:
        """What it demands of its tiles along each axis, see `napari_unet.ops.tiling`."""
        tensor = self.description
        found = []
        for axis, answer in zip(tensor.input.space, tensor.output.space, strict=True):
            halo = answer.lost + answer.halo
            inner = axis.size - 2 * halo
            if not axis.step:
                if inner < 1:
                    raise InputError(
                        f"the package's halo of {halo} pixels leaves nothing of {axis.size}; "
                        "choose another package"
                    )
                found.append(TileGeometry(halo, inner, 0))
            else:
                found.append(TileGeometry(halo, axis.step, inner % axis.step))
        return tuple(found)

    def normalize(self, channels: NDArray[Any]) -> NDArray[np.float32]:
        """Do what the package asks for before the network, with the whole image's statistics.

        Parameters
        ----------
        channels
            Shape (C, Y, X) or (C, Z, Y, X).

        Returns
        -------
        ndarray of float32, same shape
        """
        with np.errstate(all="ignore"):
            prepared = apply_operations(self._before, channels)
        result = np.ascontiguousarray(prepared, np.float32)
        if not np.isfinite(result).all():
            raise InputError(
                "the package's normalisation gives values that are no numbers for this image; "
                "choose an image with contrast"
            )
        return result

    def predict_tile(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict a tile of a normalised image.

        Parameters
        ----------
        tile
            Shape (C, ...), of a size that `geometries` allows.

        Returns
        -------
        ndarray of float32, shape (classes, ...)
            Without the halo. The channels of a model that answers with probabilities of classes;
            else background, which is 1 minus the largest channel, and then the channels as they
            are.
        """
        answer = self.answer(tile)
        cut = tuple(
            slice(axis.halo, size - axis.halo)
            for axis, size in zip(self.description.output.space, answer.shape[1:], strict=True)
        )
        inner = answer[(slice(None), *cut)]
        expected = tuple(
            size - 2 * (axis.halo + axis.lost)
            for axis, size in zip(self.description.output.space, tile.shape[1:], strict=True)
        )
        if inner.shape[1:] != expected:
            raise InputError(
                f"the package's model answers with {inner.shape[1:]} pixels where it promises "
                f"{expected}; choose another package"
            )
        probability = np.clip(np.nan_to_num(inner), 0, 1)
        if self._are_classes:
            return probability
        return np.concatenate([1 - probability.max(axis=0, keepdims=True), probability])

    def answer(self, channels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on a normalised image, (C, ...), as it is, and what comes after it.

        Returns
        -------
        ndarray of float32, shape (channels, ...)
            The channels of the package's answer, halo included.
        """
        return self._answer_tensor(_as_tensor(channels, self.description.input))

    def _answer_tensor(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Run the network and what comes after it; shape (C, ...)."""
        answer = _as_channels(self._run(tensor), self.description.output)
        with np.errstate(all="ignore"):
            return np.asarray(apply_operations(self._after, answer), np.float32)

    def _test(self) -> float | None:
        """Compare what the package gives for its test input to its test output."""
        given, wanted = self.description.input, self.description.output
        if wanted.channels >= _MOST_CLASSES:
            raise InputError(f"the package's model has {wanted.channels} channels; choose another")
        if not given.test or not wanted.test:
            return None
        image, expected = (
            _as_channels(_read_array(self._container, self._path(tensor.test)), tensor)
            for tensor in (given, wanted)
        )
        answer = self.answer(self.normalize(image))
        if answer.shape != expected.shape:
            raise InputError(
                f"the package's test gives shape {answer.shape} and promises {expected.shape}; "
                "choose another copy of the package"
            )
        difference = np.abs(answer - expected.astype(np.float32))
        wrong = difference > _TOLERANCE * (1 + np.abs(expected))
        if not np.isfinite(difference).all() or wrong.mean() > _MISMATCHES_ALLOWED:
            raise InputError(
                f"the package's test output is missed by up to {difference.max():.3g}; choose "
                "another copy of the package"
            )
        self._look_at(answer)
        return float(difference.max(initial=0))

    def _look_at(self, answer: NDArray[np.float32]) -> None:
        """Learn from a typical answer what its channels are."""
        if answer.min() < -_SUM_TOLERANCE or answer.max() > 1 + _SUM_TOLERANCE:
            raise InputError(
                f"the package's model answers with values from {answer.min():.3g} to "
                f"{answer.max():.3g}, which are no probabilities; choose a model for segmentation"
            )
        if len(answer) > 1 and np.abs(answer.sum(axis=0) - 1).max() < _SUM_TOLERANCE:
            self._are_classes = True

    def _path(self, name: str) -> str:
        return _in_folder(self.description, name)


def _in_folder(description: Description, name: str) -> str:
    return f"{description.folder}/{name}" if description.folder else name


def _load_weights(
    container: Container, description: Description, isolated: bool
) -> tuple[str, Run]:
    """Load the first weights that can be run as data."""
    reasons = []
    for kind in ("onnx", "torchscript"):
        weights = description.weights.get(kind)
        if weights is None or not weights.file:
            continue
        try:
            contents = _checked_contents(container, description, weights)
            if isolated:
                return kind, IsolatedRun(kind, contents)
            if kind == "onnx":
                return kind, load_onnx(contents)
            from napari_unet.model.zoo.torchscript import load_torchscript

            return kind, load_torchscript(contents)
        except InputError as error:
            reasons.append(str(error))
    if reasons:
        raise InputError(reasons[0])
    held = [f"{name}: {_WHY_NOT.get(name, 'not known')}" for name in description.weights]
    raise InputError(
        "the package would run foreign code, which is not done: it holds no ONNX or TorchScript "
        f"weights, but {'; '.join(held)[:200] or 'none'}. Choose a package with ONNX weights"
    )


def _checked_contents(container: Container, description: Description, weights: Weights) -> bytes:
    if weights.external:
        raise InputError(
            "the ONNX weights lie in further files, which are not read; choose a package with all "
            "weights in one file"
        )
    contents = container.read(_in_folder(description, weights.file), LARGEST_FILE)
    found = hashlib.sha256(contents).hexdigest()
    if weights.sha256 and weights.sha256.lower() != found:
        raise InputError(
            f"{weights.file} is not the file that the package describes (its checksum differs); "
            "choose another copy of the package"
        )
    return contents


# ---------------------------------------------------------------------------- tensors


def _as_tensor(channels: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Bring (C, ...) into a tensor's order of axes."""
    if channels.shape[0] != tensor.channels or channels.ndim != 1 + len(tensor.space):
        raise InputError(
            f"an image of shape {channels.shape} does not fit the package's model; choose one of "
            f"{tensor.channels} channels and {len(tensor.space)} axes"
        )
    names = ["channel", *(axis.name for axis in tensor.space)]
    order = [a.name if a.kind == "space" else a.kind for a in tensor.axes]
    extra = [kind for kind in order if kind not in names]
    if "channel" not in order:
        channels, names = channels[0], names[1:]
    expanded = channels.reshape(*channels.shape, *(1 for _ in extra))
    return expanded.transpose([[*names, *extra].index(kind) for kind in order])


def _as_channels(array: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """Bring a tensor into the order (C, ...)."""
    order = [a.name if a.kind == "space" else a.kind for a in tensor.axes]
    sizes = dict(zip(order, array.shape, strict=False))
    wanted = ["channel", *(axis.name for axis in tensor.space)]
    extra = [kind for kind in order if kind not in wanted]
    if (
        array.ndim != len(order)
        or sizes.get("channel", 1) != tensor.channels
        or any(sizes[kind] != 1 for kind in extra)
    ):
        raise InputError(
            f"the package's {tensor.name[:40]} has shape {array.shape} and promises the axes "
            f"{', '.join(order)} with {tensor.channels} channels; choose another package"
        )
    present = [name for name in wanted if name in order]
    moved = array.transpose([order.index(kind) for kind in (*present, *extra)])
    shape: Sequence[int] = moved.shape[: len(present)]
    if "channel" not in order:
        shape = (1, *shape)
    return moved.reshape(shape)


def _read_array(container: Container, name: str) -> NDArray[Any]:
    """Read a NumPy file: numbers alone, and no more than the file holds."""
    contents = container.read(name, _LARGEST_TENSOR)
    return parse_npy(contents, name)


def parse_npy(contents: bytes, name: str) -> NDArray[Any]:
    """Read an array of numbers from the contents of a NumPy file.

    Raises
    ------
    InputError
        If it is damaged, holds objects, or claims to be larger than it is.
    """
    file = io.BytesIO(contents)
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        # Before anything is allocated: a header may claim terabytes.
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "biuf" or len(shape) > 8 or size != len(contents) - file.tell():
            raise ValueError(f"{dtype} {shape}")
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:
        # numpy parses the header with Python's own parser, which raises all kinds of errors.
        raise InputError(
            f"{name} is damaged or no array of numbers; choose another copy of the package"
        ) from error
    return array
