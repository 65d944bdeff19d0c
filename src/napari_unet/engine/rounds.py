"""Rounds of learning: what they must not change, and how to take one back.

A round is one job of fine-tuning. Regions that the user accepted are predicted again after it; if
too many of their pixels have another class, the weights before the round come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import RoundChecked, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.kept_tensors import KeptTensors
from napari_unet.engine.predict import PredictRequest, predict_tiles
from napari_unet.engine.trainer import PatchLosses, Trainer, copy_losses
from napari_unet.model.unet import UNet
from napari_unet.ops.tiling import Box, overlap

#: Of the accepted pixels, this share may change in a round. Outlines waver by about so much from
#: one round to the next where nothing is forgotten.
CHANGES_ALLOWED = 0.05
# Each keeps the weights, their average and two moments of them, 22 MiB for the starter.
_ROUNDS_KEPT = 8


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """A region whose prediction the user accepted.

    Attributes
    ----------
    image
        The image.
    box
        Its rows and columns.
    labels
        Shape of `box`, uint8: the classes 1, 2, ... as they were accepted.
    """

    image: SourceImage
    box: Box
    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _State:
    tensors: KeptTensors
    losses: PatchLosses
    step: int
    is_first: bool


class Rounds:
    """The states before the latest rounds, oldest first; their weights lie on the disk."""

    def __init__(self) -> None:
        self._states: deque[_State] = deque(maxlen=_ROUNDS_KEPT)

    def __len__(self) -> int:
        return len(self._states)

    def begin(self, trainer: Trainer, is_first: bool) -> None:
        """Keep the state before a round."""
        tensors, losses = KeptTensors(trainer.state()), copy_losses(trainer.losses)
        self._states.append(_State(tensors, losses, trainer.step, is_first))

    def undo(self, trainer: Trainer) -> bool:
        """Go back to before the latest round, and say whether it was the first of the network.

        Raises
        ------
        InputError
            If the optimiser is another one than in that round; the weights are back all the same.
        """
        state = self._states.pop()
        trainer.restore(state.tensors.read(), state.step)
        trainer.losses = state.losses
        return state.is_first

    def clear(self) -> None:
        """Forget all of them."""
        self._states.clear()


def check_accepted(model: UNet, accepted: Iterable[Accepted], device: str) -> RoundChecked:
    """Predict accepted regions again.

    Parameters
    ----------
    model
        The network.
    accepted
        What was accepted.
    device
        As for `napari_unet.engine.device.resolve_device`.

    Returns
    -------
    RoundChecked
        Nothing is taken back by this; whether to is told by `is_too_much`.
    """
    flips, changed, total = [], 0, 0
    for each in accepted:
        now = _predict_box(model, each.image, each.box, device)
        flipped = (each.labels > 0) & (now != each.labels)
        flips.append((each.image, each.box, flipped))
        changed += int(flipped.sum())
        total += int((each.labels > 0).sum())
    return RoundChecked(changed, total, tuple(flips), taken_back=False)


def is_too_much(checked: RoundChecked) -> bool:
    """Say whether so many accepted pixels changed that the round should be taken back."""
    return checked.changed > CHANGES_ALLOWED * checked.total


def as_annotations(accepted: Iterable[Accepted]) -> dict[SourceImage, NDArray[np.uint8]]:
    """Put all accepted regions of an image into one array, (Y, X), 0 where nothing was accepted."""
    found: dict[SourceImage, NDArray[np.uint8]] = {}
    for each in accepted:
        labels = found.setdefault(each.image, np.zeros(each.image.shape, np.uint8))
        labels[each.box] = each.labels
    return found


def _predict_box(model: UNet, image: SourceImage, box: Box, device: str) -> NDArray[np.uint8]:
    request = PredictRequest(image, region=box, precision="fast", device=device)
    labels = np.zeros(image.shape, np.uint8)
    for event in predict_tiles(model, request):
        if isinstance(event, TilePredicted) and overlap(event.inner, box):
            labels[event.inner] = event.probability.argmax(axis=0) + 1
    return labels[box]
