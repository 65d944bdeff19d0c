"""The network that outlines the object under a click.

A U-Net whose input has the image as RGB, the positive and the negative clicks as discs, an earlier
answer, and the probability of another network, if there is one (guidance channels as in Sofiiuk et
al., RITM, arXiv:2102.06583, and Diaz-Pinto et al., DeepEdit, arXiv:2305.10655). It looks at a
window that is scaled so that objects of any size come out alike. The window is all that it sees,
and its convolutions are padded: it is never run over an image, tile by tile.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from napari_unet.model.checkpoint import load_model
from napari_unet.model.unet import UNet
from napari_unet.ops.errors import InputError

_FILE: Final = Path(__file__).parent / "bundled" / "clicks" / "click.safetensors"
#: Red, green, blue, positive clicks, negative clicks, earlier answer, other network.
CHANNELS: Final = 7
# A window with less contrast than this, of the image's own range, is not amplified further: it
# would show nothing but noise.
_LEAST_CONTRAST = 0.02


def window_input(image: Tensor, discs: Tensor, earlier: Tensor, hint: Tensor) -> Tensor:
    """Put together what the network sees of a window.

    Parameters
    ----------
    image
        Shape (1 or 3, side, side), any range.
    discs
        Shape (2, side, side): positive and negative clicks, see `ops.clicks.click_discs`.
    earlier
        Shape (side, side): an earlier answer, probabilities in [0, 1]; 0 if there is none.
    hint
        Shape (side, side): how probable another network thinks that the class of the object is,
        in [0, 1]; 0.5 if there is none.

    Returns
    -------
    Tensor
        Shape (7, side, side). The image is scaled by its mean and its standard deviation in the
        window, so that dim objects come out as bright ones do.
    """
    rgb = image if image.shape[0] == 3 else image[:1].expand(3, -1, -1)
    scaled = (rgb - image.mean()) / image.std().clamp(min=_LEAST_CONTRAST)
    return torch.cat([scaled.clamp(-4, 4), discs, earlier[None], 2 * hint[None] - 1])


def load_click_network(path: str | Path | None = None) -> UNet:
    """Load a network that answers clicks.

    Parameters
    ----------
    path
        A file written by ``training/click_network.py``, or an adapted network out of a project, of
        any version of the program; None for the one that comes with the
        program, which is shared and must not be changed.

    Raises
    ------
    InputError
        If the file cannot be read or is no such network.
    """
    return _bundled() if path is None else _read(Path(path))


@cache
def _bundled() -> UNet:
    return _read(_FILE)


def _read(path: Path) -> UNet:
    network = load_model(path)
    if network.config.in_channels != CHANNELS or network.config.classes != 2:
        raise InputError(
            f"{path} is a model, but does not answer clicks; choose one that was written by "
            "training/click_network.py"
        )
    return network if network.config.padded else _padded(network)


def _padded(network: UNet) -> UNet:
    """Return a network of an earlier version, whose windows had a margin that only gave context.

    It was trained with padded convolutions then, too.
    """
    padded = UNet.from_config(replace(network.config, padded=True))
    padded.load_state_dict(network.state_dict())
    return padded.eval()
