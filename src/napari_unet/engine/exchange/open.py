"""Open a model file, whatever made it: our own, a package, or ONNX that we exported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from napari_unet.engine.images.axes import tidy_unit
from napari_unet.engine.usage import LearnedFrom, Usage, load_usage
from napari_unet.model.checkpoint import load_model
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.container import LARGEST_FILE, Container, open_container
from napari_unet.model.zoo.description import Description, read_description
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.model.zoo.onnx_file import OnnxFile, is_onnx
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import numbered_classes

_ENDINGS = (".zip", ".yaml", ".yml", ".onnx")


@dataclass(frozen=True, slots=True, eq=False)
class OpenedModel:
    """A model from a file.

    Attributes
    ----------
    network
        Our own network, which can learn on, or one of another program, which cannot.
    usage
        How it is meant to be used.
    description
        What its package says; None for a model file of ours.
    """

    network: UNet | ForeignModel
    usage: Usage
    description: Description | None = None


def is_package(path: str | Path) -> bool:
    """Say whether a path is that of a model from elsewhere, by its name alone."""
    path = Path(path)
    return path.suffix.lower() in _ENDINGS or path.is_dir()


def open_model(path: str | Path) -> OpenedModel:
    """Open a model file.

    Parameters
    ----------
    path
        A .safetensors file of this program, a bioimage.io package (folder, zip, or the description
        in a folder), or an .onnx file that this program exported.

    Returns
    -------
    OpenedModel
        A package that this program exported gives the network itself, ready to learn on.

    Raises
    ------
    InputError
        If it cannot be opened or run without foreign code.
    """
    path = Path(path)
    if not is_package(path):
        return OpenedModel(_for_images(load_model(path), path), load_usage(path))
    if is_onnx(path):
        file = OnnxFile(path)
        return _foreign(file, file.description)
    container = open_container(path)
    description = read_description(container)
    if description.own_weights:
        return _own(container, description)
    return _foreign(container, description)


def open_own_model(path: str | Path) -> UNet:
    """Open a model file whose network is one of ours.

    Raises
    ------
    InputError
        If it cannot be opened, or is one of another program.
    """
    network = open_model(path).network
    if isinstance(network, ForeignModel):
        raise InputError(
            f"{path} is a model of another program, which can predict images and stacks, but not "
            "this; give a folder as the output, or choose a model of napari-unet"
        )
    return network


def usage_of(path: str | Path) -> Usage:
    """Return how a model file is meant to be used, without running what is in it.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    path = Path(path)
    if not is_package(path):
        return load_usage(path)
    if is_onnx(path):
        return _told(OnnxFile(path).description)
    container = open_container(path)
    description = read_description(container)
    if description.own_weights:
        return _own(container, description).usage
    return _told(description)


def model_fingerprint(path: str | Path) -> bytes:
    """Return what stands for the contents of a model file or a package's folder."""
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        path = path.parent
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for each in files:
        with each.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()


def _foreign(container: Container, description: Description) -> OpenedModel:
    return OpenedModel(ForeignModel(container, description), _told(description), description)


def _told(description: Description) -> Usage:
    """Return what a package tells of how its model is used."""
    names, channels = description.class_names, description.input.channel_names
    if description.pixel is None:
        return Usage(learned_from=LearnedFrom(channels=channels), class_names=names)
    height, width, unit = description.pixel
    learned_from = LearnedFrom((height, width), tidy_unit(unit), channels)
    return Usage(learned_from=learned_from, class_names=names)


def _for_images(network: UNet, path: Path) -> UNet:
    """Refuse a network that answers clicks: run tile by tile, it would leave seams."""
    if network.config.padded:
        raise InputError(
            f"{path} answers clicks and does not predict images; choose a model that was saved "
            "after learning or training"
        )
    return network


def _own(container: Container, description: Description) -> OpenedModel:
    """Read our own weights out of a package."""
    name = description.own_weights
    inside = f"{description.folder}/{name}" if description.folder else name
    contents = container.read(inside, LARGEST_FILE)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        file.write_bytes(contents)
        try:
            model, usage = _for_images(load_model(file), file), load_usage(file)
        except InputError as error:
            raise InputError(str(error).replace(str(file), f"{container.path}: {name}")) from error
    names = description.class_names
    if not usage.class_names and names != numbered_classes(model.config.classes):
        usage = replace(usage, class_names=names)  # older packages name them in the description
    return OpenedModel(model, usage, description)
