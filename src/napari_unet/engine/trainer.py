"""The weights while they learn: how to learn, and one step of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_unet.engine.events.learning import LearningPlanned
from napari_unet.engine.image import SourceImage
from napari_unet.engine.patch_plan import choose_patches
from napari_unet.engine.plan import Precision, choose_plan
from napari_unet.model.augment import AugmentConfig, Patch
from napari_unet.model.losses import weighted_entropies, weighted_mean
from napari_unet.model.unet import BATCH_NORMS, UNet, blank
from napari_unet.ops.errors import InputError
from napari_unet.ops.held_out import HeldOut, hold_out_strokes

# Learning rates that went furthest in 30 s on a few strokes; see docs/architecture.md.
_LEARNING_RATE = {"adamw": 1e-3, "sgd": 1e-3}
#: Pixels of the side of a place, of which it is remembered how well it was answered.
PLACE = 16
PatchLosses = WeakKeyDictionary[SourceImage, dict[int, NDArray[np.float64]]]

# What a patch weighs in which nothing is annotated: it has no loss, and no division by 0 either.
_NO_WEIGHT = 1e-12
_SETTLED_RATE = {"adamw": 5e-4, "sgd": 5e-4}


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """How to learn.

    Attributes
    ----------
    optimizer
        "adamw" (default: it gets further in the first minute) or "sgd" as in the paper.
    learning_rate
        None takes the optimiser's default.
    momentum
        Of SGD; the paper's 0.99 makes a large number of earlier patches count in each step.
    w0, sigma, balance
        Of the weight map, see `napari_unet.ops.weight_map.annotation_weights`.
    patch_size
        Output side of the patches, in pixels; rounded up to the network's pooling grid. The
        network reads its halo around it (388 from 572 in the paper). None: chosen by a short
        measurement (`napari_unet.engine.patch_plan`); in "fp32" 48, or 24 in three dimensions.
    batch
        Patches in a step, each around a pixel of another class in turn; the paper takes 1. None:
        chosen with the side.
    augment
        Random deformation and grey-value variation of the patches.
    held_out
        Share of the strokes of a class that is kept for the score.
    precision, device
        As for prediction; "auto" takes the faster of float32 and bfloat16 with float32 weights.
    seed
        Of patch positions, augmentation and dropout.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float | None = None
    momentum: float = 0.99
    w0: float = 10.0
    sigma: float = 5.0
    balance: float = 1.0
    patch_size: int | None = None
    batch: int | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    held_out: float = 0.2
    precision: Precision = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in _LEARNING_RATE:
            raise InputError(f"no optimizer {self.optimizer!r}; choose 'adamw' or 'sgd'")
        if self.learning_rate is not None and not 0 < self.learning_rate < np.inf:
            raise InputError("the learning rate must be above 0; leave it out for the default")
        if not 0 <= self.momentum < 1:
            raise InputError("momentum must be at least 0 and below 1; the paper's is 0.99")
        if self.patch_size is not None and self.patch_size < 1:
            raise InputError(
                "the patch size must be 1 pixel or more; leave it out to have it measured"
            )
        if self.batch is not None and self.batch < 1:
            raise InputError("a step needs at least 1 patch; the paper takes 1")
        if not 0 <= self.held_out < 1:
            raise InputError("the held-out share must be at least 0 and below 1; 0.2 is usual")


class WeightAverage:
    """The average of a network's weights over all steps, the beginning among them.

    It follows the strokes more slowly than the weights and overfits less (Wortsman et al. 2022,
    arXiv 2109.01903, section 3: halfway between the weights before and after fine-tuning).

    Parameters
    ----------
    model
        The network as it begins.

    Attributes
    ----------
    tensors
        The average, by name.
    steps
        How many steps it is of.
    """

    def __init__(self, model: UNet) -> None:
        self._model = model
        self.steps = 0
        self.tensors = {name: value.detach().clone() for name, value in _floats(model).items()}

    def add(self, model: UNet) -> None:
        """Take in the weights after another step."""
        self.steps += 1
        with torch.no_grad():
            for name, value in _floats(model).items():
                self.tensors[name].lerp_(value, 1 / (self.steps + 1))

    def network(self) -> UNet:
        """Return a copy of the network with the average as its weights."""
        network = blank(self._model.config)
        tensors = {**self._model.state_dict(), **self.tensors}
        copies = {name: value.detach().clone() for name, value in tensors.items()}
        network.load_state_dict(copies, assign=True)
        return network.eval()


def _floats(model: UNet) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}


class Trainer:
    """The state of a training that outlives one job: weights, optimiser, random numbers, steps.

    It belongs to the thread that runs the jobs. A second job goes on where the first one ended.

    Parameters
    ----------
    model
        The network; its weights are changed in place.
    config
        How to learn.
    settled
        Whether the network was trained before: its BatchNorm statistics stay as they are, steps
        are smaller, and it predicts with the average of its weights over all steps.

    Attributes
    ----------
    step
        How many steps it made.
    patches
        Which patches it is to learn from.
    patch_losses
        Of the patches of the latest step, one by one.
    losses
        See `patch_losses_on`; what is known of all images.
    held_out
        Which strokes of an image are kept for the score.
    """

    def __init__(
        self, model: UNet, config: FinetuneConfig | None = None, *, settled: bool = False
    ) -> None:
        self.model = model
        self.settled = settled
        self.config = config or FinetuneConfig()
        self.step = 0
        self.patch_losses: list[float] = []
        self.losses: PatchLosses = WeakKeyDictionary()
        self.held_out: WeakKeyDictionary[SourceImage, HeldOut] = WeakKeyDictionary()
        self.generator = torch.Generator().manual_seed(self.config.seed)
        self.plan = choose_plan(model.config, "train", self.config.precision, self.config.device)
        self.patches = choose_patches(
            model.config,
            self.plan,
            settled=settled,
            side=self.config.patch_size,
            batch=self.config.batch,
        )
        model.to(self.plan.device)
        model.to(memory_format=self.plan.memory_format)  # type: ignore[call-overload]
        self._optimizer = self._make_optimizer()
        self._average = WeightAverage(model) if settled else None
        self._dropout_state = torch.Generator().manual_seed(self.config.seed).get_state()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        config, parameters = self.config, self.model.parameters()
        rate = self._rate()
        if config.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum)
        return torch.optim.AdamW(parameters, lr=rate)

    def _rate(self) -> float:
        if self.config.learning_rate is not None:
            return self.config.learning_rate
        return (_SETTLED_RATE if self.settled else _LEARNING_RATE)[self.config.optimizer]

    def hold_out(self, image: SourceImage, annotations: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Keep some strokes of an image apart for the score, and return those to learn from.

        Strokes that were learned from are never held out later, and the other way round; which
        ones, is decided image by image.
        """
        found = hold_out_strokes(
            annotations,
            fraction=self.config.held_out,
            previous=self.held_out.get(image),
            seed=self.config.seed,
        )
        self.held_out[image] = found
        return np.where(found.mask, 0, annotations).astype(np.uint8)

    def patch_losses_on(self, image: SourceImage, label: int) -> NDArray[np.float64]:
        """Return the latest loss of the patches around a label, place by place, to be written to.

        A place is a square of `PLACE` pixels a side; one that no patch was drawn around is nan.
        """
        grids = self.losses.setdefault(image, {})
        if label not in grids:
            grids[label] = np.full([-(-length // PLACE) for length in image.shape], np.nan)
        return grids[label]

    def shown_model(self) -> UNet:
        """Return the network to predict with: of a settled one, its weights' average."""
        return self.model if self._average is None else self._average.network()

    @property
    def planned(self) -> LearningPlanned:
        """How it computes, and why so."""
        stride = max(geometry.stride for geometry in self.model.config.geometries)
        on_cpu = self.plan.device.type == "cpu"
        threads = "as many as the processor's cores that may be used, unless OMP_NUM_THREADS is set"
        reasons = [
            f"Patches: {self.patches.reason}{_times(self.patches.seconds)}.",
            f"Precision: {self.plan.reason}{_times(self.plan.seconds)}.",
            f"Threads: {threads}." if on_cpu else f"Device: {self.plan.device}.",
        ]
        return LearningPlanned(
            self.patches.batch,
            -(-self.patches.side // stride) * stride,
            str(self.plan.dtype).removeprefix("torch."),
            torch.get_num_threads() if on_cpu else 0,
            "\n".join(reasons),
        )

    def begin_from_here(self) -> None:
        """Take the weights as they are for the beginning: they were changed by somebody else."""
        if self._average is not None:
            self._average = WeightAverage(self.model)

    def scale_learning_rate(self, factor: float) -> None:
        """Make the next steps with so many times the configured learning rate."""
        rate = self._rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate * factor

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything that the next step depends on, by name; `restore` takes it back."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for number, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if value is not None:
                    tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
        if self._average is not None:
            tensors |= {f"average.{name}": value for name, value in self._average.tensors.items()}
        tensors["random.patches"] = self.generator.get_state()
        tensors["random.dropout"] = self._dropout_state
        return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Go on where `state` was taken, after so many steps.

        Raises
        ------
        InputError
            If the state is of another network or optimiser.
        """
        model: dict[str, torch.Tensor] = {}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            if part == "model":
                model[rest] = value
            elif part == "average" and self._average is not None:
                self._average.tensors[rest] = value.to(self.plan.device)
            elif part == "optimizer":
                number, _, key = rest.partition(".")
                moments.setdefault(int(number), {})[key] = value
        optimizer = self._optimizer.state_dict()
        try:
            self.model.load_state_dict(model)
            self._optimizer.load_state_dict({**optimizer, "state": moments})
            self.generator.set_state(state["random.patches"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError("the saved state is of another training; start anew") from error
        self._dropout_state = state["random.dropout"]
        self.step = step
        if self._average is not None:
            self._average.steps = step

    def learn(self, patch: Patch) -> float:
        """Make one step on `patch` and return its loss."""
        device = self.plan.device
        inputs = [
            each.to(device).contiguous(memory_format=self.plan.memory_format)
            for each in (patch.image, patch.smaller)
            if each is not None
        ]
        # Dropout draws from torch's global generator; with a state of its own the training does
        # not depend on what else runs between two steps.
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._dropout_state)
            self.model.train()
            if self.settled:
                _keep_statistics(self.model)
            with self.plan.autocast():
                logits = self.model(*inputs)
            sums, weights = weighted_entropies(
                logits, patch.annotations.to(device), patch.weights.to(device)
            )
            loss = weighted_mean(sums, weights)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._dropout_state = torch.get_rng_state()
        self.model.eval()
        self.step += 1
        if self._average is not None:
            self._average.add(self.model)
        each = sums.detach() / weights.clamp(min=_NO_WEIGHT)
        self.patch_losses = each.tolist()
        return float(loss.detach())


def _times(seconds: Sequence[tuple[str, float]]) -> str:
    """Return what was measured, in parentheses; nothing if nothing was."""
    words = "; ".join(f"{name}: {1000 * each:.0f} ms" for name, each in seconds)
    return f" ({words})" if words else ""


def copy_losses(losses: PatchLosses) -> PatchLosses:
    """Return a copy that does not follow."""
    copy: PatchLosses = WeakKeyDictionary()
    for image, grids in losses.items():
        copy[image] = {label: grid.copy() for label, grid in grids.items()}
    return copy


def _keep_statistics(model: nn.Module) -> None:
    """Let BatchNorm normalise by its running statistics, and leave them as they are."""
    for module in model.modules():
        if isinstance(module, BATCH_NORMS):
            module.eval()
