"""Starter models: networks trained on drawn images, to begin from instead of random weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

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
        Channels of the answer. The last convolution starts at 0: every class is equally probable.

    Returns
    -------
    UNet
        In evaluation mode.
    """
    config = replace(starter.config, in_channels=in_channels, classes=classes)
    with torch.device("meta"):  # draws no random numbers, allocates nothing
        network = UNet.from_config(config)
    weights = {name: value.clone() for name, value in starter.state_dict().items()}
    if in_channels != starter.config.in_channels:
        first = "contracting.0.0.weight"
        total = weights[first].sum(dim=1, keepdim=True)
        weights[first] = (total / in_channels).repeat(1, in_channels, 1, 1)
    weights["output.weight"] = torch.zeros(classes, starter.config.base_channels, 1, 1)
    weights["output.bias"] = torch.zeros(classes)
    network.load_state_dict(weights, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return network.eval()
