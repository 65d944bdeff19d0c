"""Starter models: networks trained on drawn images, to begin from instead of random weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from napari_unet.model.unet import UNet


def adapted(starter: UNet, in_channels: int, classes: int) -> UNet:
    """Return a copy of a network for images of other channels and for other classes.

    Parameters
    ----------
    starter
        A network for RGB images; it is not changed.
    in_channels
        Channels of the images. The first convolution is spread over them, so that an image whose
        channels are all the same gives what the starter gives for it as grey RGB.
    classes
        Channels of the answer, a linear function of the maps of all levels; it starts at 0: every
        class is equally probable. `set_head` gives it values.

    Returns
    -------
    UNet
        In evaluation mode.
    """
    config = replace(starter.config, in_channels=in_channels, classes=classes, hypercolumns=True)
    with torch.device("meta"):  # draws no random numbers, allocates nothing
        network = UNet.from_config(config)
    weights = {name: value.clone() for name, value in starter.state_dict().items()}
    if in_channels != starter.config.in_channels:
        first = "contracting.0.0.weight"
        total = weights[first].sum(dim=1, keepdim=True)
        weights[first] = (total / in_channels).repeat(1, in_channels, 1, 1)
    for name, tensor in network.state_dict().items():
        if name.startswith(("output.", "side_outputs.")):
            weights[name] = torch.zeros(tensor.shape)
    network.load_state_dict(weights, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return network.eval()


def set_head(network: UNet, coefficients: Tensor) -> None:
    """Let a network answer with a linear function of its feature maps.

    Parameters
    ----------
    network
        With hypercolumns; its last layers are changed in place.
    coefficients
        Shape (D + 1, classes), as `napari_unet.model.linear.solve_ridge` returns them.
    """
    start = 0
    with torch.no_grad():
        for layer in (*network.side_outputs, network.output):
            stop = start + layer.in_channels
            layer.weight.copy_(coefficients[start:stop].T[:, :, None, None])
            start = stop
        network.output.bias = nn.Parameter(coefficients[-1].clone())
