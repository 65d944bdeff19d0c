"""The head of a network that learned from strokes: a linear function, and hidden units beside it.

The linear function sees the maps of all levels (`napari_unet.model.linear`). From a few strokes no
more can be learned. From many, what a linear function cannot say is worth learning too: a layer of
hidden units sees the last map and the filter responses, all of one resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.model.linear import apply_linear
from napari_unet.model.unet import UNet

#: How many hidden units a network that begins from a starter has.
HIDDEN_UNITS: Final = 64

# Of the units' training; twice as many steps gain nothing.
_STEPS = 100
_ROWS_OF_A_STEP = 512
_LEARNING_RATE = 2e-2
_WEIGHT_DECAY = 1e-2
_DROPOUT = 0.2
# Standard deviations that count as none: the feature is the same everywhere.
_FLAT = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class HiddenUnits:
    """A layer of rectified units on the last feature map.

    Attributes
    ----------
    weight
        Shape (units, L): of the L channels of the last map, filter responses included.
    bias
        Shape (units,).
    output
        Shape (units, classes): what a unit adds to the logits.
    """

    weight: Tensor
    bias: Tensor
    output: Tensor

    def scaled(self, factor: float) -> HiddenUnits:
        """Return units that add so many times as much."""
        return replace(self, output=self.output * factor)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What turns feature maps into logits.

    Attributes
    ----------
    linear
        Shape (D + 1, classes), as `napari_unet.model.linear.solve_ridge` returns it.
    hidden
        Units whose answer is added to it, or None.
    """

    linear: Tensor
    hidden: HiddenUnits | None = None

    def at(self, features: Tensor) -> Tensor:
        """Return the logits of single pixels, shape (N, classes), from features (N, D)."""
        logits = features @ self.linear[:-1] + self.linear[-1]
        if self.hidden is None:
            return logits
        units, last = self.hidden, features[:, -self.hidden.weight.shape[1] :]
        return logits + functional.relu(last @ units.weight.T + units.bias) @ units.output

    def over(self, maps: Sequence[Tensor], side: tuple[int, int]) -> Tensor:
        """Return the logits of all pixels, shape (1, classes, rows, columns), float32.

        Parameters
        ----------
        maps, side
            As for `napari_unet.model.linear.gather`.
        """
        logits = apply_linear(maps, self.linear, side)
        if self.hidden is None:
            return logits
        units, last = self.hidden, maps[-1]
        # Pixel by pixel: a 1x1 convolution that takes a third of conv2d's time.
        pixels = last.permute(0, 2, 3, 1).reshape(-1, last.shape[1]).float()
        found = torch.addmm(units.bias, pixels, units.weight.T).relu_() @ units.output
        return logits + found.T.reshape(logits.shape)


def fit_hidden(
    features: Tensor, labels: Tensor, weights: Tensor, classes: int, seed: int = 0
) -> HiddenUnits:
    """Fit hidden units to labels, without the linear function: their answers are added later.

    Parameters
    ----------
    features
        Shape (N, L), float32; brought to one size here.
    labels
        Shape (N,), int64 from 0 to `classes` - 1.
    weights
        Shape (N,), how much each row counts.
    classes
        How many classes there are; a unit says nothing about those without labels.
    seed
        Of the first weights, and of which rows are in which step.

    Returns
    -------
    HiddenUnits
        Of `HIDDEN_UNITS` units.
    """
    present = torch.bincount(labels, minlength=classes) > 0
    weights = weights / weights.sum()
    mean = (weights[:, None] * features).sum(dim=0)
    spread = (weights[:, None] * (features - mean) ** 2).sum(dim=0).sqrt()
    size = 1 / spread.clamp(min=max(_FLAT, 1e-3 * float(spread.max())))
    rows, width = (features - mean) * size, features.shape[1]
    weights = weights * len(weights)
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(width, HIDDEN_UNITS, generator=generator) * (2 / width) ** 0.5
    bias = torch.zeros(HIDDEN_UNITS)
    second = torch.randn(HIDDEN_UNITS, classes, generator=generator) * (1 / HIDDEN_UNITS) ** 0.5
    constant = torch.where(present, 0.0, -torch.inf)
    parameters = [each.requires_grad_() for each in (first, bias, second)]
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for _ in range(_STEPS):
        drawn = torch.randint(len(rows), (_ROWS_OF_A_STEP,), generator=generator)
        units = functional.relu(rows[drawn] @ first + bias)
        kept = torch.rand(units.shape, generator=generator) >= _DROPOUT
        logits = (units * kept / (1 - _DROPOUT)) @ second + constant
        losses = functional.cross_entropy(logits, labels[drawn], reduction="none")
        loss = (weights[drawn] * losses).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    weight = first.detach() * size[:, None]
    return HiddenUnits(
        weight.T.contiguous(), bias.detach() - mean @ weight, second.detach() * present
    )


def set_head(network: UNet, head: Head) -> None:
    """Let a network answer with a head that was fitted to its feature maps.

    Parameters
    ----------
    network
        With hypercolumns, and with hidden units if the head has them; its last layers are changed
        in place.
    head
        What they shall compute.
    """
    start = 0
    with torch.no_grad():
        for layer in (*network.side_outputs, network.output):
            stop = start + layer.in_channels
            layer.weight.copy_(head.linear[start:stop].T[:, :, None, None])
            start = stop
        assert network.output.bias is not None  # it has one, but torch's types do not know
        network.output.bias.copy_(head.linear[-1])
        for parameter in network.hidden.parameters():
            parameter.zero_()
        if head.hidden is not None:
            first, second = (each for each in network.hidden if isinstance(each, nn.Conv2d))
            first.weight.copy_(head.hidden.weight[:, :, None, None])
            assert first.bias is not None
            first.bias.copy_(head.hidden.bias)
            second.weight.copy_(head.hidden.output.T[:, :, None, None])
