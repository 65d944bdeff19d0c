"""Windows of a step of training the click network, and a robot that clicks into all of them.

The robot is that of `napari_unet.engine.click_learning.click_again`, for many windows at once and
wherever they are computed: a distance is a number of erosions, and a region what a seed grows to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.engine.click_learning import ASKED_AGAIN, WORTH_A_CLICK, Sample
from napari_unet.ops.clicks import DISC_RADIUS

# Channels of what the network sees, see `napari_unet.model.click`.
_POSITIVE, _NEGATIVE, _EARLIER = 3, 4, 5
# Steps by which a region grows from its seed; what is farther along its ways counts as another.
_GROWTH = 48
# Deeper places of a region are all alike.
_DEEPEST = 24


@dataclass(slots=True, eq=False)
class ClickBatch:
    """Windows with their prompts.

    Attributes
    ----------
    inputs
        Shape (N, 7, side, side): what the network sees, see `napari_unet.model.click`.
    truth
        Shape (N, side, side), bool: the objects.
    real
        Shape (N, side, side), bool: where the image is, and not its mirror image.
    """

    inputs: Tensor
    truth: Tensor
    real: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> ClickBatch:
        """Put samples together; in half precision, as they may come from another process."""
        return cls(
            torch.stack([each.network_input() for each in samples]).half(),
            torch.stack([torch.from_numpy(each.truth) for each in samples]),
            torch.stack([torch.from_numpy(each.real) for each in samples]),
        )

    def pin_memory(self) -> ClickBatch:
        """Return it where a graphics card can fetch it."""
        return ClickBatch(*(t.pin_memory() for t in (self.inputs, self.truth, self.real)))

    def to(self, device: torch.device) -> ClickBatch:
        """Return it on a device, in single precision."""
        parts = (self.inputs, self.truth, self.real)
        inputs, truth, real = (part.to(device, non_blocking=True) for part in parts)
        return ClickBatch(inputs.float(), truth, real)

    @property
    def clicked(self) -> Tensor:
        """Where the discs of clicks are; shape (N, side, side), bool."""
        return self.inputs[:, _POSITIVE : _NEGATIVE + 1].amax(dim=1) > 0

    def click_again(self, answer: Tensor, generator: torch.Generator) -> None:
        """Take an answer as the earlier one, and click into one of the large regions it has wrong.

        Parameters
        ----------
        answer
            Shape (N, side, side), probabilities.
        generator
            Chooses.
        """
        self.inputs[:, _EARLIER] = answer
        wrong = ((answer > 0.5) != self.truth) & self.real
        regions = torch.stack([_region(wrong, self.truth, generator) for _ in range(2)])
        areas = regions.sum(dim=(2, 3))
        number = torch.arange(len(answer), device=answer.device)
        larger = areas.argmax(dim=0)
        region, area = regions[larger, number], areas[larger, number]
        row, column = _place_inside(region, generator)
        chance = torch.rand(len(answer), generator=generator, device=answer.device)
        clicked = (area >= WORTH_A_CLICK) & (chance >= ASKED_AGAIN)
        steps = torch.arange(answer.shape[1], device=answer.device)
        down = (steps[None, :] - row[:, None])[:, :, None]
        right = (steps[None, :] - column[:, None])[:, None, :]
        discs = (down**2 + right**2 <= DISC_RADIUS**2) & clicked[:, None, None]
        positive = self.truth[number, row, column][:, None, None]
        for channel, drawn in ((_POSITIVE, discs & positive), (_NEGATIVE, discs & ~positive)):
            self.inputs[:, channel] = self.inputs[:, channel].maximum(drawn.float())


def _region(wrong: Tensor, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Grow a region from any wrong pixel of each window; shape (N, side, side), bool."""
    seed = _any_pixel(wrong, generator)
    number = torch.arange(len(wrong), device=wrong.device)
    kind = truth.flatten(1)[number, seed][:, None, None]
    allowed = (wrong & (truth == kind)).float()
    grown = functional.one_hot(seed, wrong[0].numel()).reshape(wrong.shape) * allowed
    for _ in range(_GROWTH):
        grown = functional.max_pool2d(grown[:, None], 3, 1, 1)[:, 0] * allowed
    return grown > 0


def _place_inside(region: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose a pixel of each region, rather inside than at its border; any, if it is empty."""
    left = region.float()
    depth = left.clone()
    for _ in range(_DEEPEST):
        # Beyond the window nothing belongs to the region.
        left = 1 - functional.max_pool2d(functional.pad(1 - left, (1, 1, 1, 1), value=1.0), 3, 1)
        depth += left
    deepest = depth.amax(dim=(1, 2), keepdim=True)
    size = (len(region), 1, 1)
    share = 0.3 + 0.7 * torch.rand(size, generator=generator, device=region.device)
    chosen = _any_pixel(region & (depth >= share * deepest), generator)
    side = region.shape[2]
    return chosen // side, chosen % side


def _any_pixel(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Return the flat position of any pixel of each mask, shape (N,); of any, if it is empty."""
    noise = torch.rand(mask.shape, generator=generator, device=mask.device)
    return (noise * mask).flatten(1).argmax(dim=1)
