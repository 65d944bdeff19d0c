"""Starter models: networks trained on drawn images, to begin from instead of random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import nn

from napari_unet.model.checkpoint import load_model, load_notes
from napari_unet.model.config import SHALLOWEST_LOOK
from napari_unet.model.head import HIDDEN_UNITS
from napari_unet.model.unet import UNet, blank
from napari_unet.ops.errors import InputError

_FOLDER: Final = Path(__file__).parent / "bundled" / "starters"
#: The starter that a new session begins from.
USUAL: Final = "small"


@dataclass(frozen=True, slots=True, eq=False)
class Starter:
    """A network to begin from, and how a linear classifier is fitted to its feature maps.

    Attributes
    ----------
    name
        For people.
    network
        For RGB images; not to be changed.
    penalty
        Of the ridge regression.
    scale
        By which its answer is multiplied to be a logit.
    """

    name: str
    network: UNet
    penalty: float
    scale: float


def bundled_starters() -> tuple[str, ...]:
    """Return the names of the starters that come with the program."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.safetensors")))


def load_starter(model: str | Path = USUAL) -> Starter:
    """Load a starter.

    Parameters
    ----------
    model
        One of `bundled_starters`, or a file written by ``training/starter.py``.

    Raises
    ------
    InputError
        If the file cannot be read or is no starter.
    """
    if str(model) in bundled_starters():
        return _bundled(str(model))
    return _read(Path(model))


@cache
def _bundled(name: str) -> Starter:
    return _read(_FOLDER / f"{name}.safetensors")


def _read(path: Path) -> Starter:
    network, notes = load_model(path), load_notes(path)
    try:
        return Starter(path.stem, network, float(notes["ridge"]), float(notes["scale"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is a model, but no starter; choose one of {', '.join(bundled_starters())}, "
            "or give it as the model to go on with"
        ) from error


def adapted(
    starter: UNet, in_channels: int, classes: int, *, second_look: bool | None = None
) -> UNet:
    """Return a copy of a network for images of other channels and for other classes.

    Parameters
    ----------
    starter
        A network for RGB images; it is not changed.
    in_channels
        Channels of the images. The first convolution is spread over them, so that an image whose
        channels are all the same gives what the starter gives for it as grey RGB.
    classes
        Channels of the answer. It starts at 0: every class is equally probable;
        `napari_unet.model.head.set_head` gives it values.
    second_look
        See `UNetConfig`; None: if the network is deep enough.

    Returns
    -------
    UNet
        In evaluation mode.
    """
    if second_look is None:
        second_look = starter.config.depth >= SHALLOWEST_LOOK
    config = replace(
        starter.config,
        in_channels=in_channels,
        classes=classes,
        hypercolumns=True,
        hidden=HIDDEN_UNITS,
        second_look=second_look,
    )
    network = blank(config)
    weights = {name: value.clone() for name, value in starter.state_dict().items()}
    if in_channels != starter.config.in_channels:
        first = "contracting.0.0.weight"
        total = weights[first].sum(dim=1, keepdim=True)
        weights[first] = (total / in_channels).repeat(1, in_channels, 1, 1)
    for name, tensor in network.state_dict().items():
        if name.startswith(("output.", "side_outputs.", "hidden.")):
            weights[name] = torch.zeros(tensor.shape)
    network.load_state_dict(weights, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return network.eval()
