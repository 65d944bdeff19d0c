"""Write a network for other programs, and call it done only when it gives the same answer."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import ExportAdvanced, FileSaved, Noticed
from napari_unet.engine.exchange.card import ModelCard
from napari_unet.engine.exchange.foreign import predict_blocks
from napari_unet.engine.exchange.graph import graph_axes, to_onnx
from napari_unet.engine.exchange.package import TestTensors, describe, package_files
from napari_unet.engine.usage import Usage
from napari_unet.model.checkpoint import save_model
from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.model.zoo.container import open_container
from napari_unet.model.zoo.description import read_description
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.model.zoo.onnx_file import OnnxFile
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import read_tile

Format = Literal["bioimageio", "onnx"]
FORMATS: Final[tuple[Format, ...]] = ("bioimageio", "onnx")
ENDINGS: Final[Mapping[Format, str]] = {"bioimageio": ".zip", "onnx": ".onnx"}
#: Largest difference of a probability between our network and what was exported.
TOLERANCE: Final = 1e-4
# Side of the test tensors of an image, where the network allows it; stacks take the smallest.
_TEST_SIDE = 320
# Changing what is kept for 1980-01-01, so that the same model gives the same file.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class ExportRequest:
    """What to export.

    Attributes
    ----------
    model
        The network; it must not change meanwhile.
    path
        The file. A package ends in .zip, ONNX in .onnx.
    format
        "bioimageio" writes a bioimage.io package, "onnx" the network alone.
    test_image
        Shape (Y, X) or (Y, X, C), or (Z, Y, X) for a network for stacks: its middle becomes the
        test input. None draws one.
    card
        What is told of the model.
    usage
        How it is meant to be used.

    Raises
    ------
    InputError
        If there is no such format.
    """

    model: UNet
    path: Path
    format: Format = "bioimageio"
    test_image: Any = None
    card: ModelCard = field(default_factory=ModelCard)
    usage: Usage = field(default_factory=Usage)

    @property
    def told(self) -> ModelCard:
        """The card, with the names of the classes that the network learned if it has none."""
        names = self.usage.class_names
        if self.card.class_names or len(names) != self.model.config.classes:
            return self.card
        return replace(self.card, class_names=names)

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError(f"no format {self.format!r}; choose {' or '.join(FORMATS)}")


def export_model(
    request: ExportRequest, stop: threading.Event | None = None
) -> Iterator[ExportAdvanced | Noticed | FileSaved]:
    """Write a network for other programs.

    The file is written under a temporary name, opened again as a stranger's, and asked for the test
    image, whole and in tiles. It gets its name only if the answers are ours.

    Parameters
    ----------
    request
        What to export.
    stop
        Checked between the parts of the work; when it is set, the job ends and leaves nothing.

    Yields
    ------
    ExportAdvanced, Noticed
        What is done.
    FileSaved
        Last, unless it was stopped.

    Raises
    ------
    InputError
        If the file cannot be written, the image does not fit, or the exported network gives
        another answer; then there is no file.
    """
    path = _with_ending(request.path, ENDINGS[request.format])
    image = test_tensor(request.test_image, request.model.config)
    request.told.names_of(request.model.config.classes)  # raises before any work is done
    halted = threading.Event() if stop is None else stop
    steps = _Steps()
    made = yield from _make(request, image, steps, halted)
    if made is None:
        return
    difference = yield from _put_in_place(path, *made, steps, halted)
    if difference is None:
        return
    yield steps.after(f"opened again, it gives the same answer within {difference:.1g}")
    if notes := _notes(request.usage):
        yield Noticed(notes)
    yield FileSaved((path,))


def _make(
    request: ExportRequest, image: NDArray[np.float32], steps: _Steps, halted: threading.Event
) -> Generator[ExportAdvanced, None, tuple[bytes, TestTensors] | None]:
    """Make the contents of the file, and what it has to answer; None if it was stopped."""
    model, card, usage = request.model, request.told, request.usage
    yield steps.after("the test image is cut")
    if halted.is_set():
        return None
    tensors = TestTensors(image[None], our_answer(model, image)[None])
    yield steps.after("the test output is computed")
    if halted.is_set():
        return None
    onnx = to_onnx(model, describe(model.config, card, usage.learned_from))
    yield steps.after("the network is written as ONNX")
    if halted.is_set():
        return None
    if request.format == "onnx":
        return onnx, tensors
    own = _own_file(model, replace(usage, class_names=card.class_names))
    files = package_files(model.config, card, tensors, onnx, own, usage, _notes(usage))
    return _zipped(files), tensors


def _put_in_place(
    path: Path, contents: bytes, tensors: TestTensors, steps: _Steps, halted: threading.Event
) -> Generator[ExportAdvanced, None, float | None]:
    """Write the file, and give it its name if its answers are ours.

    Returns the largest difference; None if it was stopped.
    """
    with _partial_file(path, contents) as partial:
        yield steps.after("the file is written")
        difference = 0.0
        for largest in _differences(partial, tensors):
            if halted.is_set():
                return None
            difference = largest
        if not difference <= TOLERANCE:
            raise InputError(
                f"{path} was not written: what was exported misses the network's own answer by "
                f"{difference:.3g}; save the model as .safetensors, and report this"
            )
        _rename(partial, path)
    return difference


def _with_ending(path: Path, ending: str) -> Path:
    """Give a file its ending, which may be there already; a dot in its name stays."""
    return path if path.suffix.lower() == ending else path.with_name(path.name + ending)


class _Steps:
    """Count the parts of the work."""

    total = 5

    def __init__(self) -> None:
        self.done = 0

    def after(self, what: str) -> ExportAdvanced:
        self.done += 1
        return ExportAdvanced(what, self.done, self.total)


# ---------------------------------------------------------------------------- the test


def test_tensor(image: Any, config: UNetConfig) -> NDArray[np.float32]:
    """Cut a test input out of an image; shape (C, ...), of a size that the graph allows.

    Raises
    ------
    InputError
        If the image has other channels or axes than the network takes.
    """
    channels = _as_channels(_drawn(config) if image is None else image, config)
    outer = []
    for axis, length in zip(graph_axes(config), channels.shape[1:], strict=True):
        wanted = min(length, _TEST_SIDE) if config.ndim == 2 else axis.smallest
        side = max(axis.smallest, wanted // axis.step * axis.step)
        start = max((length - side) // 2, 0)
        outer.append(slice(start, start + side))  # mirrored where the image is smaller
    return np.ascontiguousarray(read_tile(channels, tuple(outer)), np.float32)


test_tensor.__test__ = False  # type: ignore[attr-defined]  # pytest takes its name for a test's


def _as_channels(image: Any, config: UNetConfig) -> NDArray[np.float32]:
    array = np.asarray(image)
    if config.ndim == 2:
        from napari_unet.ops.images import to_channels_first

        channels = to_channels_first(array, colours=config.in_channels in (1, 3))
    elif array.ndim == 3:
        channels = array[None].astype(np.float32)
    else:
        channels = array.astype(np.float32)
    if channels.ndim != 1 + config.ndim or len(channels) != config.in_channels:
        raise InputError(
            f"the test image has shape {array.shape}, and the network takes {config.in_channels} "
            f"channels and {config.ndim} axes; choose an image of the kind it was trained on"
        )
    return channels


def _drawn(config: UNetConfig) -> NDArray[Any]:
    """Draw an image where there is none."""
    from napari_unet.ops.synthetic import touching_cells

    cells, _ = touching_cells((_TEST_SIDE, _TEST_SIDE), seed=0)
    if config.ndim == 3:
        return np.broadcast_to(cells[None, None], (config.in_channels, 16, *cells.shape))
    return cells if config.in_channels == 1 else np.stack([cells] * config.in_channels, axis=-1)


def our_answer(model: UNet, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what our own prediction gives for an image (C, ...), exactly: (classes, ...)."""
    import torch

    from napari_unet.engine.device import resolve_device
    from napari_unet.engine.plan import ExecutionPlan
    from napari_unet.ops.normalize import percentile_normalize
    from napari_unet.ops.tiling import plan_tiles

    flat = image.reshape(len(image), 1, -1)  # percentiles do not mind how pixels lie
    channels = percentile_normalize(flat).reshape(image.shape)
    run = ExecutionPlan(resolve_device("cpu")).for_prediction(model)
    geometries = model.config.geometries
    shape = image.shape[1:]
    inner = [-(-side // g.stride) * g.stride for side, g in zip(shape, geometries, strict=True)]
    (tile,) = plan_tiles(shape, geometries, inner)
    answer: NDArray[np.float32] = run(torch.from_numpy(read_tile(channels, tile.outer)[None]))[
        0
    ].numpy()
    return np.ascontiguousarray(answer[(slice(None), *tile.crop)])


def _differences(path: Path, tensors: TestTensors) -> Iterator[float]:
    """Ask an exported file for the test image, whole and in tiles; yield the largest difference."""
    if path.suffix == ".onnx":
        file = OnnxFile(path)
        model = ForeignModel(file, file.description, test=False, isolated=False)
    else:
        container = open_container(path)
        description = read_description(container)
        model = ForeignModel(container, description, isolated=False)
    image, expected = tensors.image[0], tensors.answer[0]
    whole = model.answer(model.normalize(image))
    largest = float(np.abs(whole - expected).max())
    yield largest
    # At least two tiles along each axis, and few: each is computed with its halo.
    halo = max(2 * geometry.halo for geometry in model.geometries)
    side = halo + max(image.shape[1:]) // 2
    for tile, probability, _ in predict_blocks(model, image, side=side):
        if tile is not None and probability is not None:
            wanted = expected[(slice(None), *tile.inner)]
            largest = max(largest, float(np.abs(probability[-len(wanted) :] - wanted).max()))
        yield largest


# ---------------------------------------------------------------------------- files


def _own_file(model: UNet, usage: Usage) -> bytes:
    with TemporaryDirectory() as folder:
        path = save_model(model, Path(folder) / "model.safetensors", usage.to_dict())
        return path.read_bytes()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), contents, zipfile.ZIP_DEFLATED)
    return file.getvalue()


@contextmanager
def _partial_file(path: Path, contents: bytes) -> Iterator[Path]:
    """Write a file under another name in the same folder; it is gone at the end."""
    partial = path.parent / f".{uuid4().hex}{path.suffix}"
    try:
        try:
            with partial.open("xb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = (error.strerror or "writing failed").lower()
            raise InputError(
                f"{path} cannot be written: {reason}; choose another folder"
            ) from error
        yield partial
    finally:
        with suppress(OSError):  # it was renamed, or the folder went away
            partial.unlink()


def _rename(partial: Path, path: Path) -> None:
    try:
        os.replace(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    reason = (error.strerror or "writing failed").lower()
    return InputError(f"{path} cannot be written: {reason}; choose another folder or name")


def _notes(usage: Usage) -> str:
    """Say what of the usual way of using the model another program does not do."""
    parts = []
    if usage.averaging != "none":
        parts.append(
            f"In napari-unet its answers are averaged over {usage.averaging} of the image; other "
            "programs give the plain answer."
        )
    if usage.kind == "instances":
        parts.append(
            f"Objects are cut out best by {usage.instances.sentence()}, which is no part of the "
            "model."
        )
    return " ".join(parts)
