"""What the click network learns from: windows around objects, and clicks into what is wrong.

Training the bundled network (``training/click_network.py``) and adapting it to the objects that a
user committed are the same: the network answers a prompt, a robot clicks into what is still wrong,
and the last answer is learned from (iterative training; Sofiiuk et al., RITM, arXiv:2102.06583).
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.engine.events import AdaptingStepMade
from napari_unet.engine.plan import ExecutionPlan
from napari_unet.model.click import window_input
from napari_unet.model.unet import UNet
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import Click, Mask, Window, click_discs

# Windows with more of the mirror image than of the image itself teach nothing.
_LEAST_REAL = 0.4
# Smaller objects, in pixels of the window, cannot be told from noise.
_FEWEST_PIXELS = 9
#: How often the same clicks are answered again, with the answer as the earlier one.
ASKED_AGAIN = 0.15
#: Specks of an error of fewer pixels are not worth a click.
WORTH_A_CLICK = 4
# Of further rounds of clicks in a step: none, one, two, three.
_ROUNDS = (0.4, 0.3, 0.2, 0.1)


@dataclass(slots=True, eq=False)
class Sample:
    """A window, its prompt, and the object that is meant.

    Attributes
    ----------
    image
        Shape (1 or 3, side, side).
    truth
        Shape (side, side): the object.
    real
        Shape (side, side): where the image is, and not its mirror image.
    earlier, hint
        As for `napari_unet.model.click.window_input`.
    clicks
        In pixels of the window.
    """

    image: Tensor
    truth: Mask
    real: Mask
    earlier: Tensor
    hint: Tensor
    clicks: list[Click] = field(default_factory=list)

    def network_input(self) -> Tensor:
        """Return what the network sees, see `window_input`."""
        side = self.truth.shape[0]
        middle = (side - 1) / 2
        discs = click_discs(self.clicks, Window(middle, middle, 1.0, side))
        return window_input(self.image, torch.from_numpy(discs), self.earlier, self.hint)


def cut_sample(
    image: Pyramid,
    known: DrawnMask,
    window: Window,
    turn: float = 0.0,
    mirrored: bool = False,
) -> Sample | None:
    """Cut out a window around an object, without a prompt; None if it shows too little.

    Parameters
    ----------
    image
        The image.
    known
        The object.
    window
        What is cut out.
    turn, mirrored
        As for `Pyramid.cut`.
    """
    truth = known.cut(window, turn, mirrored).numpy() > 0.5
    real = image.covers(window, turn, mirrored).numpy()
    if truth.sum() < _FEWEST_PIXELS or real.mean() < _LEAST_REAL:
        return None
    side = (window.side, window.side)
    pixels = image.cut(window, turn, mirrored).clamp(-0.2, 1.5)
    return Sample(pixels, truth, real, torch.zeros(side), torch.full(side, 0.5))


def click_into(region: Mask, positive: bool, rng: np.random.Generator) -> Click:
    """Click somewhere into a region, rather inside than at its border."""
    [box] = ndimage.find_objects(region.view(np.int8))
    depth = ndimage.distance_transform_edt(np.pad(region[box], 1))[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= rng.uniform(0.3, 1) * depth.max())
    chosen = int(rng.integers(len(rows)))
    row, column = rows[chosen] + box[0].start, columns[chosen] + box[1].start
    return Click(float(row), float(column), positive)


def click_again(sample: Sample, answer: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Take an answer as the earlier one, and click into one of the large regions it has wrong.

    Parameters
    ----------
    sample
        Changed in place.
    answer
        Shape (side, side), probabilities.
    rng
        Chooses.
    """
    sample.earlier = torch.from_numpy(answer)
    if rng.random() < ASKED_AGAIN:
        return
    labels, count = ndimage.label(((answer > 0.5) != sample.truth) & sample.real)
    areas = np.bincount(labels.ravel(), minlength=1)[1:].astype(float)
    shares = np.where(areas >= WORTH_A_CLICK, areas**2, 0)
    if count == 0 or shares.sum() == 0:
        return
    region = labels == 1 + rng.choice(count, p=shares / shares.sum())
    sample.clicks.append(click_into(region, bool(sample.truth[region].mean() > 0.5), rng))


def click_loss(logit: Tensor, truth: Tensor, real: Tensor) -> Tensor:
    """Cross-entropy, and one less the soft overlap of each sample, both within the image.

    Parameters
    ----------
    logit, truth, real
        Shape (N, side, side); `truth` and `real` are 0 or 1.
    """
    entropy = functional.binary_cross_entropy_with_logits(logit, truth, reduction="none")
    # Pixels at an object of 10 pixels count for as much as those at one of 100.
    area = truth.sum(dim=(1, 2), keepdim=True).clamp(min=50)
    near = real / area.sqrt()
    weighted = (entropy * near).mean() / near.mean()
    p = logit.sigmoid() * real
    common = (p * truth).sum(dim=(1, 2))
    union = p.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) - common
    return weighted + (1 - (common + 1) / (union + 1)).mean()


def stacked(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Return what is true and where the image is, as a loss takes them."""
    truth = np.stack([each.truth for each in samples]).astype(np.float32)
    real = np.stack([each.real for each in samples]).astype(np.float32)
    return torch.from_numpy(truth), torch.from_numpy(real)


def rounds_of_clicks(rng: np.random.Generator) -> int:
    """Draw how often the robot clicks before an answer is learned from."""
    return int(rng.choice(len(_ROUNDS), p=_ROUNDS))


# ---------------------------------------------------------------------- adapting

# Windows of a step, steps, and their rate: a few seconds on two cores.
_BATCH = 4
_STEPS = 40
_RATE = 3e-4
# Every so many objects one is held back, to see whether adapting helps.
_HELD_BACK = 4
#: By how much better an adapted network has to be on them. Of three objects a smaller gain says
#: nothing, and what the network had learned before may be lost.
LEAST_GAIN = 0.02
# With fewer objects nothing is held back: the measure would say nothing.
_FEWEST_TO_CHECK = 8
# How often a first look is not told what is like the objects, where it is known.
_UNTOLD = 0.25
# Windows in which objects are this much smaller or larger than where their outline is read from.
_SCALES = (0.25, 1.6)


@dataclass(frozen=True, slots=True, eq=False)
class KnownObject:
    """An object of an image that the user committed.

    Attributes
    ----------
    image
        The image at all scales.
    mask
        Where it is.
    window
        The window in which it is looked at.
    alike
        How probable pixels of the image belong to an object, as far as can be said without this
        one; None if nothing is known.
    """

    image: Pyramid
    mask: DrawnMask
    window: Window
    alike: Pyramid | None = None

    def sample(
        self, window: Window, rng: np.random.Generator, turn: float = 0.0, mirrored: bool = False
    ) -> Sample | None:
        """Return what a first click on it sees in a window; None if that shows too little."""
        sample = cut_sample(self.image, self.mask, window, turn, mirrored)
        if sample is not None:
            sample.clicks.append(click_into(sample.truth, True, rng))
            if self.alike is not None:
                sample.hint = self.alike.cut(window, turn, mirrored)[0]
        return sample


class Adaptation:
    """Fits a copy of a click network to objects that the user committed.

    Parameters
    ----------
    network
        Where it begins; not changed.
    objects
        What it learns from.
    plan
        Where and how it computes; None for the processor and float32.
    seed
        Same seed, same objects: same weights, on one machine.

    Attributes
    ----------
    before, after
        Mean intersection over union of the first answers on the objects that were held back;
        None if too few objects are known to hold any back.
    """

    def __init__(
        self,
        network: UNet,
        objects: Sequence[KnownObject],
        plan: ExecutionPlan | None = None,
        seed: int = 0,
    ) -> None:
        self._given = network
        self._plan = plan or ExecutionPlan(torch.device("cpu"))
        self._network = copy.deepcopy(network).eval().to(self._plan.device)
        for parameter in self._network.parameters():
            parameter.requires_grad_(True)
        self._rng = np.random.default_rng(seed)
        check = len(objects) >= _FEWEST_TO_CHECK
        self._held_back = [o for n, o in enumerate(objects) if check and n % _HELD_BACK == 0]
        self._objects = [o for n, o in enumerate(objects) if not check or n % _HELD_BACK]
        self.before: float | None = None
        self.after: float | None = None

    @property
    def network(self) -> UNet:
        """The adapted network, or the given one if that is as good on what was held back."""
        if self.before is None or self.after is None or self.after >= self.before + LEAST_GAIN:
            return self._network.cpu()
        return self._given

    def job(self, stop: threading.Event | None = None) -> Iterator[AdaptingStepMade]:
        """Adapt; the network can be used when the job has ended, stopped or not."""
        optimizer = torch.optim.AdamW(self._network.parameters(), lr=_RATE, weight_decay=0.0)
        self.before = self._score()
        for step in range(_STEPS):
            if stop is not None and stop.is_set():
                break
            for group in optimizer.param_groups:
                group["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * step / _STEPS))
            loss = self._step()
            if loss is None:
                break
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            optimizer.step()
            yield AdaptingStepMade(step + 1, _STEPS, float(loss.detach()))
        self.after = self._score()

    def _step(self) -> Tensor | None:
        """Return the loss of a few windows; None if no window of the objects shows enough."""
        samples: list[Sample] = []
        for _ in range(_BATCH * 4):
            known = self._objects[int(self._rng.integers(len(self._objects)))]
            if (sample := self._sample(known)) is not None:
                samples.append(sample)
            if len(samples) == _BATCH:
                break
        if not samples:
            return None
        for _ in range(min(rounds_of_clicks(self._rng), 2)):
            with torch.no_grad():
                answers = self._logit(samples).sigmoid().numpy()
            for sample, answer in zip(samples, answers, strict=True):
                click_again(sample, answer, self._rng)
                sample.hint = torch.full_like(sample.hint, 0.5)  # later looks are not told of it
        return click_loss(self._logit(samples), *stacked(samples))

    def _sample(self, known: KnownObject) -> Sample | None:
        rng, window = self._rng, known.window
        low, high = (math.log(scale) for scale in _SCALES)
        zoom = window.zoom * math.exp(rng.uniform(low, high))
        shift = rng.normal(0, 6, 2) / zoom
        moved = Window(window.row + shift[0], window.column + shift[1], zoom, window.side)
        turn, mirrored = float(rng.uniform(0, 2 * np.pi)), bool(rng.integers(2))
        sample = known.sample(moved, rng, turn, mirrored)
        if sample is not None and rng.random() < _UNTOLD:  # as where a click is denied
            sample.hint = torch.full_like(sample.hint, 0.5)
        return sample

    def _logit(self, samples: Sequence[Sample]) -> Tensor:
        batch = torch.stack([each.network_input() for each in samples])
        batch = batch.to(self._plan.device).contiguous(memory_format=self._plan.memory_format)
        with self._plan.autocast():
            found = self._network(batch).float().cpu()
        logit: Tensor = found[:, 1] - found[:, 0]
        return logit

    def _score(self) -> float | None:
        """Return the mean overlap of first answers on what was held back."""
        overlaps = []
        rng = np.random.default_rng(0)
        for known in self._held_back:
            sample = known.sample(known.window, rng)
            if sample is None:
                continue
            with torch.no_grad():
                answer = self._logit([sample])[0].numpy() > 0
            common, union = (answer & sample.truth).sum(), (answer | sample.truth).sum()
            overlaps.append(float(common / union))
        return float(np.mean(overlaps)) if overlaps else None
