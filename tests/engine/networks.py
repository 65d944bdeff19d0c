"""Small networks for the tests, always the same for a seed."""

import torch

from napari_unet.model.unet import UNet


def make_unet(seed=0, **config):
    settings = {"base_channels": 4, "depth": 2, "classes": 2, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(**settings).eval()
