"""How the network is run on this machine: precision and memory layout, chosen by measurement.

In bfloat16 and with channels last a processor with AMX or AVX512-bf16 runs the network several
times faster than in float32 with channels first; one without them runs it slower. So a short
measurement decides, once per process, device and network shape.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import nn

from napari_unet.engine.device import resolve_device
from napari_unet.model.unet import UNet, UNetConfig, fold_batch_norm

Precision = Literal["auto", "fast", "fp32"]
Purpose = Literal["predict", "train"]

# Output side of the tile that is measured: large enough that convolutions outweigh call overhead,
# small enough that the measurement stays under a second for a 16-channel network. By the number of
# axes.
_MEASURED_INNER = {2: 128, 3: 16}
# A lower precision has to be this much faster to be worth its rounding.
_WORTH_IT = 1.15


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """Where and how the network runs.

    Attributes
    ----------
    device
        The device that computes.
    dtype
        ``torch.float32`` or ``torch.bfloat16``. In prediction the weights are cast to it, in
        training they stay float32 and the convolutions run under autocast.
    channels_last
        Whether tensors are laid out (N, H, W, C) in memory, or (N, D, H, W, C).
    seconds
        What was measured, one entry per candidate, by name.
    ndim
        The number of axes of the images.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    seconds: tuple[tuple[str, float], ...] = ()
    ndim: int = 2

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout, as torch names it."""
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if self.ndim == 2 else torch.channels_last_3d

    @property
    def name(self) -> str:
        """The plan in a few words."""
        precision = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        layout = "channels last" if self.channels_last else "channels first"
        return f"{precision}, {layout}, {self.device}"

    def for_prediction(self, model: UNet) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from a float32 batch to float32 probabilities, on a copy of `model`.

        The copy has its BatchNorm folded away and does not follow `model` when that learns on.
        """
        network = self._running_copy(model)
        # Logits rounded to bfloat16 would move a probability by 0.015 on their own.
        for layer in (network.output, *network.side_outputs, network.hidden):
            layer.float()
            layer.register_forward_pre_hook(_in_float32)

        @torch.inference_mode()
        def probabilities(batch: torch.Tensor) -> torch.Tensor:
            batch = batch.to(self.device, self.dtype).contiguous(memory_format=self.memory_format)
            logits: torch.Tensor = network(batch)
            return logits.softmax(dim=1).cpu()

        return probabilities

    def for_features(self, model: UNet) -> Callable[[torch.Tensor], list[torch.Tensor]]:
        """Return a function from a float32 batch to `UNet.feature_maps`, on a copy of `model`.

        The maps have the plan's precision and stay on its device.
        """
        network = self._running_copy(model)

        @torch.inference_mode()
        def maps(batch: torch.Tensor) -> list[torch.Tensor]:
            batch = batch.to(self.device, self.dtype).contiguous(memory_format=self.memory_format)
            return network.feature_maps(batch)

        return maps

    def _running_copy(self, model: UNet) -> UNet:
        network = _frozen_copy(model).to(self.device, self.dtype)
        network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        return network

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which a training step computes."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def choose_plan(
    config: UNetConfig, purpose: Purpose, precision: Precision = "auto", device: str = "auto"
) -> ExecutionPlan:
    """Choose by a short measurement how a network of this shape runs fastest here.

    Parameters
    ----------
    config
        The shape of the network.
    purpose
        "predict" measures the network alone, "train" a whole step.
    precision
        "fp32" allows float32 only (its layout is measured all the same); "auto" and "fast" allow
        bfloat16 where it is faster. "auto" obliges the caller to check the answer.
    device
        As for `resolve_device`.
    """
    return _measured_plan(config, purpose, precision == "fp32", resolve_device(device))


@cache
def _measured_plan(
    config: UNetConfig, purpose: Purpose, exact: bool, device: torch.device
) -> ExecutionPlan:
    plan = ExecutionPlan(device, ndim=config.ndim)
    candidates = [plan, replace(plan, channels_last=True)]
    if not exact and device.type != "mps":
        candidates.append(replace(plan, dtype=torch.bfloat16, channels_last=True))
    measure = _prediction_seconds if purpose == "predict" else _training_seconds
    with torch.random.fork_rng(devices=[]):
        model = UNet.from_config(config)
    seconds = {plan: measure(plan, model) for plan in candidates}
    best = min(
        candidates,
        key=lambda plan: seconds[plan] * (1 if plan.dtype == torch.float32 else _WORTH_IT),
    )
    measured = tuple((plan.name, seconds[plan]) for plan in candidates)
    return replace(best, seconds=measured)


def _prediction_seconds(plan: ExecutionPlan, model: UNet) -> float:
    run = plan.for_prediction(model)
    batch = torch.zeros(_measured_shape(model.config))
    return _fastest(lambda: run(batch))


def _training_seconds(plan: ExecutionPlan, model: UNet) -> float:
    network = copy.deepcopy(model).to(plan.device).train()
    network = network.to(memory_format=plan.memory_format)  # type: ignore[call-overload]
    batch = torch.zeros(_measured_shape(model.config), device=plan.device)
    batch = batch.contiguous(memory_format=plan.memory_format)

    def step() -> float:
        with plan.autocast():
            loss = network(batch).float().square().mean()
        loss.backward()
        network.zero_grad()
        return float(loss.detach())

    with torch.random.fork_rng(devices=[]):  # dropout draws numbers
        return _fastest(step)


def _measured_shape(config: UNetConfig) -> tuple[int, ...]:
    inner = _MEASURED_INNER[config.ndim]
    sides = (g.input_size(max(inner // g.stride, 1) * g.stride) for g in config.geometries)
    return 1, config.in_channels, *sides


def _fastest(call: Callable[[], object], repeats: int = 2) -> float:
    """Return the shortest of a few runs; the first, which warms up, does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _frozen_copy(model: UNet) -> UNet:
    folded = fold_batch_norm(model) if model.config.batch_norm else copy.deepcopy(model)
    return folded.eval().requires_grad_(False)


def _in_float32(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.float() for tensor in inputs)
