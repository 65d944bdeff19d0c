"""MONAI's U-Net with residual units, trained as MONAI's own tutorials train it.

Random crops around foreground and background in turn, flips, quarter turns, small rotations and
zooms, grey-value changes; Dice plus cross-entropy; AdamW with a cosine schedule over the time there
is; bfloat16 where the processor computes it; sliding windows with Gaussian weights. The weights
with the best Dice on the validation images are kept.

Needs monai, which nothing but this benchmark uses; of its dependencies, numpy and torch are enough
(``pip install --no-deps monai``).
"""

from __future__ import annotations

import copy
import sys
import time
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    NormalizeIntensity,
    NormalizeIntensityd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)
from monai.utils import set_determinism
from numpy.typing import NDArray
from paper_data import foreground
from torch import Tensor

from napari_unet.engine.dataset import LabelledSet

_PATCH = 192
_WINDOW = 256
_BATCH = 8
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 1e-5
# Validations in the whole training, and the least seconds between two of them.
_VALIDATIONS = 40
_LEAST_SECONDS = 20.0


class MonaiUNet:
    """A network that is trained from random weights.

    Parameters
    ----------
    labelled, validation
        What to learn from, and what decides which weights are kept.
    seconds
        How long to train, validations included.
    seed
        Of weights, crops and augmentation.
    """

    def __init__(
        self, labelled: LabelledSet, validation: LabelledSet, seconds: float, seed: int = 0
    ) -> None:
        set_determinism(seed)
        self._network = UNet(
            spatial_dims=2,
            in_channels=labelled.channels,
            out_channels=1,
            channels=(16, 32, 64, 128, 256),
            strides=(2, 2, 2, 2),
            num_res_units=2,
            norm="batch",
        )
        self._standardise = NormalizeIntensity(channel_wise=True)
        self.steps, self.best_dice = 0, -1.0
        self._train(_items(labelled), validation, seconds, np.random.default_rng(seed))

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probability that a pixel is foreground.

        Parameters
        ----------
        image
            Shape (Y, X) or (Y, X, C).

        Returns
        -------
        ndarray of float32, shape (Y, X)
            Between 0 and 1.
        """
        channels = np.moveaxis(np.atleast_3d(image), -1, 0).astype(np.float32)
        self._network.eval()
        with torch.inference_mode():
            logits = sliding_window_inference(
                torch.as_tensor(self._standardise(channels))[None],
                roi_size=(_WINDOW, _WINDOW),
                sw_batch_size=4,
                predictor=self._logits,
                overlap=0.25,
                mode="gaussian",
                padding_mode="reflect",
            )
            probability: NDArray[np.float32] = torch.sigmoid(logits)[0, 0].numpy()
        return probability

    def _logits(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = self._network(x)
        return logits.float()

    def _train(
        self,
        items: list[dict[str, Any]],
        validation: LabelledSet,
        seconds: float,
        rng: np.random.Generator,
    ) -> None:
        vary, loss = _augmentation(), DiceCELoss(sigmoid=True)
        optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )
        pause = max(_LEAST_SECONDS, seconds / _VALIDATIONS)
        start = time.perf_counter()
        validated, best = start, copy.deepcopy(self._network.state_dict())
        while (passed := time.perf_counter() - start) < seconds:
            for group in optimizer.param_groups:
                group["lr"] = _LEARNING_RATE * (1 + np.cos(np.pi * passed / seconds)) / 2
            self._network.train()
            drawn = [vary(items[i])[0] for i in rng.integers(len(items), size=_BATCH)]
            x, y = (torch.stack([d[k].as_tensor() for d in drawn]) for k in ("image", "label"))
            value = loss(self._logits(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            self.steps += 1
            if time.perf_counter() - validated > pause:
                best = self._keep_better(best, validation)
                validated = time.perf_counter()
        self._network.load_state_dict(self._keep_better(best, validation))

    def _keep_better(self, best: dict[str, Tensor], validation: LabelledSet) -> dict[str, Tensor]:
        """Validate, and return the weights of now if they are better than `best`."""
        dice = float(
            np.mean(
                [
                    _dice(self.predict(each.image) > 0.5, foreground(each, validation.kind))
                    for each in validation.images
                ]
            )
        )
        print(f"  step {self.steps}: validation Dice {dice:.4f}", file=sys.stderr, flush=True)
        if dice <= self.best_dice:
            return best
        self.best_dice = dice
        return copy.deepcopy(self._network.state_dict())


def _items(labelled: LabelledSet) -> list[dict[str, Any]]:
    """Images and targets, as far as they can be prepared once for all steps."""
    keys = ("image", "label")
    prepare = Compose(
        [
            EnsureChannelFirstd("image", channel_dim=-1),
            EnsureChannelFirstd("label", channel_dim="no_channel"),
            EnsureTyped(keys, dtype=torch.float32),
            NormalizeIntensityd("image", channel_wise=True),
            SpatialPadd(keys, (_PATCH, _PATCH), mode="reflect"),
        ]
    )
    return [
        prepare(
            {
                "image": np.atleast_3d(each.image).astype(np.float32),
                "label": foreground(each, labelled.kind).astype(np.float32),
            }
        )
        for each in labelled.images
    ]


def _augmentation() -> Compose:
    """One random patch of an image, varied."""
    keys = ("image", "label")
    return Compose(
        [
            RandCropByPosNegLabeld(keys, "label", (_PATCH, _PATCH), pos=1, neg=1, num_samples=1),
            RandFlipd(keys, prob=0.5, spatial_axis=0),
            RandFlipd(keys, prob=0.5, spatial_axis=1),
            RandRotate90d(keys, prob=0.5),
            RandAffined(
                keys,
                prob=0.3,
                rotate_range=np.pi / 6,
                scale_range=0.15,
                mode=("bilinear", "nearest"),
                padding_mode="reflection",
            ),
            RandGaussianNoised("image", prob=0.15, std=0.1),
            RandScaleIntensityd("image", factors=0.2, prob=0.5),
            RandShiftIntensityd("image", offsets=0.2, prob=0.5),
        ]
    )


def _dice(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(prediction.sum() + truth.sum())
    return 1.0 if total == 0 else 2 * float((prediction & truth).sum()) / total
