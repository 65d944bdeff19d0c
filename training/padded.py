"""The starter's network as it is trained: with mirrored padding, and run without any.

Unpadded convolutions would spend most of the work on margins. Mirrored padding changes only what
lies near the border of a patch; the weights are the same. The click network is padded when it runs,
too, with zeros: `UNetConfig.padded`.
"""

from __future__ import annotations

from torch import Tensor, nn

from napari_unet.model.unet import UNet, UNetConfig


class PaddedUNet(UNet):
    """A U-Net with BatchNorm and two classes, whose answer is as large as what it sees.

    Parameters
    ----------
    in_channels, base_channels, depth
        As for `UNet`.
    """

    def __init__(self, in_channels: int, base_channels: int, depth: int) -> None:
        super().__init__(in_channels, 2, base_channels, depth, batch_norm=True, dropout=0.0)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.padding, module.padding_mode = (1, 1), "reflect"
                module._reversed_padding_repeated_twice = [1, 1, 1, 1]

    def _check(self, image: Tensor, config: UNetConfig) -> None:
        """Any side that can be halved often enough is welcome."""


def follow_statistics(network: nn.Module, step: int, longest: int, follow: bool) -> None:
    """Let BatchNorm follow the samples, or leave it as it is.

    Parameters
    ----------
    network
        Changed in place.
    step
        At the beginning the statistics are averaged over fewer steps.
    longest
        Steps over which they are averaged later.
    follow
        Whether they still change. What is learned afterwards is learned with the normalisation
        that prediction has.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1 / min(max(step / 5, 10), longest)
            module.train(follow)
