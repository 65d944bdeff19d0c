"""A published network for nuclei as its users run it: the BioImage Model Zoo's nuclei broad U-Net.

Its authors trained it on nuclei of the Data Science Bowl 2018, so the test images of our split may
have been among its training images. It learns nothing here.

Nothing is executed that comes with it. The package keeps the weights as TorchScript; from that
archive only the raw numbers are read, and the network is built anew. The package's test image has
to come out as the package says.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

FOLDER = "unet2d_nuclei_broad"
# The package's description: blocks are read with so many pixels around them, which are dropped.
_HALO = 32
_BLOCK = 512 - 2 * _HALO
# Sizes that three poolings halve without a remainder, with one to spare.
_MULTIPLE = 16
_TOLERANCE = 1e-3


class NucleiBroad:
    """The network and how it is applied.

    Parameters
    ----------
    data
        The folder that holds the package's folder.

    Raises
    ------
    ValueError
        If the test image of the package comes out otherwise than the package says.
    """

    def __init__(self, data: Path) -> None:
        folder = data / FOLDER
        self._network = _Network()
        _read_weights(self._network, folder / "weights.pt")
        self._network.eval()
        image, expected = (np.load(folder / f"test_{end}.npy") for end in ("input", "output"))
        error = float(np.abs(self._apply(_standardised(image[0, 0])) - expected[0, 0]).max())
        if not error < _TOLERANCE:
            raise ValueError(f"the test output of {folder} is missed by {error:.3g}")

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probability that a pixel belongs to a nucleus.

        Parameters
        ----------
        image
            Shape (Y, X), nuclei bright on dark. Brought to mean 0 and variance 1, mirrored at
            its edges, cut into blocks of up to 512 pixels a side, halo included.

        Returns
        -------
        ndarray of float32, shape (Y, X)
            Between 0 and 1.
        """
        height, width = image.shape
        blocks = [_block_size(side) for side in image.shape]
        padding = [
            (_HALO, _HALO + -side % block) for side, block in zip(image.shape, blocks, strict=True)
        ]
        padded = np.pad(_standardised(image), padding, mode="reflect")
        result = np.empty([side + -side % b for side, b in zip(image.shape, blocks, strict=True)])
        for y in range(0, height, blocks[0]):
            for x in range(0, width, blocks[1]):
                block = padded[y : y + blocks[0] + 2 * _HALO, x : x + blocks[1] + 2 * _HALO]
                inner = self._apply(block)[_HALO:-_HALO, _HALO:-_HALO]
                result[y : y + blocks[0], x : x + blocks[1]] = inner
        return result[:height, :width].astype(np.float32)

    def _apply(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(block.copy())[None, None])
            probability: NDArray[np.float32] = torch.sigmoid(logits)[0, 0].numpy()
        return probability


class _Network(nn.Module):
    """Padded U-Net of depth 3; of each pair of convolutions only the second has a ReLU after it."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64)
        # In the order in which the archive holds their parameters.
        self.encoders = nn.ModuleList(
            _double(a, b) for a, b in zip((1, *widths), widths, strict=False)
        )
        self.base = _double(64, 128)
        self.decoders = nn.ModuleList(_double(2 * width, width) for width in widths[::-1])
        self.samplers = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for width in widths[::-1])
        self.output = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (B, 1, Y, X), of images of this shape."""
        skipped = []
        for encoder in self.encoders:
            x = encoder(x)
            skipped.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.base(x)
        for decoder, sampler in zip(self.decoders, self.samplers, strict=True):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = decoder(torch.cat([skipped.pop(), sampler(x)], dim=1))
        logits: Tensor = self.output(x)
        return logits


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()
    )


def _read_weights(network: nn.Module, path: Path) -> None:
    """Fill the parameters with the archive's numbers: one entry each, float32, in order."""
    with zipfile.ZipFile(path) as archive:
        inside = archive.namelist()[0].split("/")[0]
        for number, parameter in enumerate(network.parameters()):
            values = np.frombuffer(archive.read(f"{inside}/data/{number}"), "<f4")
            parameter.data = torch.from_numpy(values.reshape(parameter.shape).copy())


def _standardised(image: NDArray[Any]) -> NDArray[np.float32]:
    """Mean 0 and variance 1, as the package's description asks for."""
    wide = image.astype(np.float64)
    return ((wide - wide.mean()) / (wide.std() + 1e-6)).astype(np.float32)


def _block_size(side: int) -> int:
    """Return the side of a block without its halo; small images are one block."""
    return min(_BLOCK, side + -side % _MULTIPLE)
