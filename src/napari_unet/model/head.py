"""The head of a network that learned from strokes: a linear function, and hidden units beside it.

The linear function sees the maps of all levels (`napari_unet.model.linear`). From a few strokes no
more can be learned. From many, what a linear function cannot say is worth learning too: a layer of
hidden units sees the last map and the filter responses, all of one resolution.
"""

from __future__ import annotations

import math
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
# Pixels that are answered together.
_STRIP = 4096
# Of AdamW, as Loshchilov and Hutter (2019) and torch have them.
_DECAYS = (0.9, 0.999)
_EPSILON = 1e-8


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
        # Pixel by pixel, as matrix products, strip by strip: what the units say of all pixels at
        # once would not fit into the cache.
        pixels = last.permute(0, 2, 3, 1).reshape(-1, last.shape[1])
        weight, output = units.weight.T.contiguous(), units.output.T.contiguous()
        flat = logits.flatten(0, 1).flatten(1)  # a view, as `logits` is new and contiguous
        strips = zip(torch.split(pixels, _STRIP), torch.split(flat, _STRIP, dim=1), strict=True)
        for strip, into in strips:
            active = torch.addmm(units.bias, strip.float(), weight).relu_()
            into.addmm_(output, active.T)
        return logits


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
    learner = _Units(width, classes, present, generator)
    for step in range(_STEPS):
        drawn = torch.randint(len(rows), (_ROWS_OF_A_STEP,), generator=generator)
        kept = torch.rand(_ROWS_OF_A_STEP, HIDDEN_UNITS, generator=generator) >= _DROPOUT
        learner.learn(rows[drawn], kept, labels[drawn], weights[drawn])
        learner.descend(step)
    weight = learner.first * size[:, None]
    return HiddenUnits(
        weight.T.contiguous(), learner.bias - mean @ weight, learner.second * present
    )


class _Units:
    """The units while they are learned: their gradients and AdamW, written out.

    A step is so small that torch's autograd and optimiser, which see every weight for itself, would
    take several times as long as the multiplications.

    Parameters
    ----------
    width
        Features that a unit sees.
    classes, present
        How many there are, and which of them have labels.
    generator
        Of the first weights.
    """

    def __init__(
        self, width: int, classes: int, present: Tensor, generator: torch.Generator
    ) -> None:
        shapes = ((width, HIDDEN_UNITS), (HIDDEN_UNITS,), (HIDDEN_UNITS, classes))
        sizes = [math.prod(shape) for shape in shapes]
        # All weights in one piece, so that the optimiser sees them at once.
        self._weights, self._gradient = torch.zeros(sum(sizes)), torch.zeros(sum(sizes))
        self._mean, self._square = torch.zeros(sum(sizes)), torch.zeros(sum(sizes))
        self.first, self.bias, self.second = (
            part.view(shape)
            for part, shape in zip(torch.split(self._weights, sizes), shapes, strict=True)
        )
        self._gradients = [
            part.view(shape)
            for part, shape in zip(torch.split(self._gradient, sizes), shapes, strict=True)
        ]
        self._absent = torch.where(present, 0.0, -torch.inf)
        self.first.copy_(torch.randn(shapes[0], generator=generator) * (2 / width) ** 0.5)
        self.second.copy_(torch.randn(shapes[2], generator=generator) * (1 / HIDDEN_UNITS) ** 0.5)

    def learn(self, rows: Tensor, kept: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Compute the gradient of the mean weighted cross entropy of some rows.

        Parameters
        ----------
        rows
            Shape (N, width).
        kept
            Shape (N, units), bool: which units are not dropped.
        labels, weights
            Shape (N,).
        """
        passed = kept / (1 - _DROPOUT)
        units = torch.addmm(self.bias, rows, self.first).relu_().mul_(passed)
        # What each logit is wrong by: probability minus truth.
        wrong = torch.addmm(self._absent, units, self.second).softmax(dim=1)
        wrong[torch.arange(len(labels)), labels] -= 1
        wrong *= (weights / len(weights))[:, None]
        first, bias, second = self._gradients
        torch.mm(units.T, wrong, out=second)
        before = (wrong @ self.second.T).mul_(passed).mul_(units > 0)
        torch.mm(rows.T, before, out=first)
        torch.sum(before, dim=0, out=bias)

    def descend(self, step: int) -> None:
        """Make a step of AdamW, the learning rate falling to 0 along a cosine."""
        rate = _LEARNING_RATE * (1 + math.cos(math.pi * step / _STEPS)) / 2
        fast, slow = _DECAYS
        self._weights.mul_(1 - rate * _WEIGHT_DECAY)
        self._mean.lerp_(self._gradient, 1 - fast)
        self._square.mul_(slow).addcmul_(self._gradient, self._gradient, value=1 - slow)
        spread = (self._square / (1 - slow ** (step + 1))).sqrt_().add_(_EPSILON)
        self._weights.addcdiv_(self._mean, spread, value=-rate / (1 - fast ** (step + 1)))


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
