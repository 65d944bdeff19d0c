"""How the network is run on this machine: precision, layout and fusion, chosen by measurement.

In bfloat16 and with channels last a processor with AMX or AVX512-bf16 runs the network several
times faster than in float32 with channels first; one without them runs it slower. So a short
measurement decides, once per machine and network shape: it is kept in the user's cache folder
(`napari_unet.engine.plan_cache`) with the versions that it was made with.
"""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from scipy.special import softmax
from torch import nn

import napari_unet
from napari_unet.engine import plan_cache
from napari_unet.engine.device import limit_threads, resolve_device
from napari_unet.model.fused import can_fuse, fuse
from napari_unet.model.unet import UNet, UNetConfig, fold_batch_norm

Precision = Literal["auto", "fast", "fp32"]
Purpose = Literal["predict", "train"]

# Output side of the tile that is measured: large enough that convolutions outweigh call overhead,
# small enough that the measurement stays under a second for a 16-channel network. By the number of
# axes.
_MEASURED_INNER = {2: 128, 3: 16}
# Windows counts processor time in steps of 1/64 s, so a run is repeated until this many seconds
# have passed, so many times at the most.
_SHORTEST, _MOST_CALLS = 0.1, 20
# A lower precision has to be this much faster to be worth its rounding.
_WORTH_IT = 1.15
_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """Where and how the network runs.

    Attributes
    ----------
    device
        The device that computes.
    dtype
        ``torch.float32``, ``torch.bfloat16`` or, on a GPU, ``torch.float16``. In prediction the
        weights are cast to it, in training they stay float32 and the convolutions run under
        autocast.
    channels_last
        Whether tensors are laid out (N, H, W, C) in memory, or (N, D, H, W, C).
    seconds
        What was measured, one entry per candidate, by name.
    ndim
        The number of axes of the images.
    fused
        Whether prediction computes a convolution and its ReLU in one (`napari_unet.model.fused`).
    exact
        Whether the bits of the answer may depend neither on the number of threads nor on the run; a
        GPU then takes no lower precision inside.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    seconds: tuple[tuple[str, float], ...] = ()
    ndim: int = 2
    fused: bool = False
    exact: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout, as torch names it."""
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if self.ndim == 2 else torch.channels_last_3d

    @property
    def name(self) -> str:
        """The plan in a few words."""
        layout = "channels last" if self.channels_last else "channels first"
        fused = ", fused" if self.fused else ""
        return f"{_NAMES[self.dtype]}, {layout}{fused}, {self.device}"

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
            with self._algorithms():
                logits: torch.Tensor = network(self._brought(batch))
                return self._softmax(logits)

        return probabilities

    def _softmax(self, logits: torch.Tensor) -> torch.Tensor:
        if not self.exact:
            return logits.softmax(dim=1).cpu()
        # torch rounds the exponential in another way where a thread's share ends.
        return torch.from_numpy(softmax(logits.cpu().numpy(), axis=1))

    def for_features(self, model: UNet) -> Callable[[torch.Tensor], list[torch.Tensor]]:
        """Return a function from a float32 batch to `UNet.feature_maps`, on a copy of `model`.

        The maps have the plan's precision and stay on its device.
        """
        network = self._running_copy(model)

        @torch.inference_mode()
        def maps(batch: torch.Tensor) -> list[torch.Tensor]:
            with self._algorithms():
                return network.feature_maps(self._brought(batch))

        return maps

    def _brought(self, batch: torch.Tensor) -> torch.Tensor:
        """Bring a batch to the device, in the plan's precision and layout."""
        if self.device.type == "cuda" and batch.device.type == "cpu":
            # Without waiting: what the device computes before goes on meanwhile.
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device, self.dtype).contiguous(memory_format=self.memory_format)

    def _algorithms(self) -> AbstractContextManager[object]:
        """Return the context that says which algorithms a GPU may take."""
        if self.device.type != "cuda":
            return nullcontext()
        # Tiles have one shape, so looking for the fastest algorithm pays from the second one on.
        return torch.backends.cudnn.flags(
            enabled=True,
            benchmark=not self.exact,
            deterministic=self.exact,
            allow_tf32=not self.exact,
        )

    def _running_copy(self, model: UNet) -> UNet:
        network = _frozen_copy(model).to(self.device, self.dtype)
        network.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        # The plan may come from another machine.
        can = self.fused and self.device.type == "cpu" and can_fuse(self.dtype, self.ndim)
        return fuse(network) if can else network

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
        "fp32" is float32 in one fixed layout, so that the answer is the same in every run; "auto"
        and "fast" allow a lower precision where it is faster. "auto" obliges the caller to check
        the answer.
    device
        As for `resolve_device`.
    """
    found = resolve_device(device)
    if precision == "fp32":
        return _exact_plan(found, config.ndim, purpose)
    limit_threads()
    # Neither changes how long it takes, and both change in the middle of a session.
    return _measured_plan(replace(config, classes=2, dropout=0.0), purpose, found)


def forget_plans() -> int:
    """Delete all measurements of this machine, and return how many there were."""
    _measured_plan.cache_clear()
    return plan_cache.clear()


def kept_plans() -> list[dict[str, Any]]:
    """Return what was measured on this machine and is kept, each fit for JSON.

    Returns
    -------
    list of dict
        ``purpose``; ``network``, its shape in a few words; ``plan``, its name; ``seconds`` by plan;
        ``measured``, when; ``current``, whether it holds for today's versions and threads.
    """
    found = []
    here = _machine_key()
    for entry in plan_cache.entries():
        network, seconds = entry.key.get("network"), entry.value.get("seconds")
        if not isinstance(network, dict) or not isinstance(seconds, dict):
            continue
        known = {name: s for name, s in seconds.items() if isinstance(s, float)}
        found.append(
            {
                "purpose": str(entry.key.get("purpose")),
                "network": _shape_in_words(network),
                "plan": str(entry.value.get("plan")),
                "seconds": known,
                "measured": str(entry.value.get("measured")),
                "current": all(entry.key.get(name) == value for name, value in here.items()),
            }
        )
    return found


def _shape_in_words(network: Mapping[str, Any]) -> str:
    kinds = {"batch_norm": "BatchNorm", "hypercolumns": "hypercolumns"}
    parts = [f"{network.get('base_channels')} channels", f"depth {network.get('depth')}"]
    parts += [word for name, word in kinds.items() if network.get(name)]
    if network.get("ndim", 2) == 3:
        parts.append("3D")
    return ", ".join(parts)


def _exact_plan(device: torch.device, ndim: int, purpose: Purpose) -> ExecutionPlan:
    on_cpu = device.type == "cpu"
    fused = on_cpu and purpose == "predict" and can_fuse(torch.float32, ndim)
    return ExecutionPlan(device, channels_last=on_cpu, ndim=ndim, fused=fused, exact=True)


def _candidates(device: torch.device, ndim: int, purpose: Purpose) -> list[ExecutionPlan]:
    """Return the plans that are worth a measurement on this kind of device."""
    plan = ExecutionPlan(device, ndim=ndim)
    last = replace(plan, channels_last=True)
    found = [plan, last]
    if device.type != "mps":
        found.append(replace(last, dtype=torch.bfloat16))
    if purpose == "predict":
        if device.type == "cuda":
            found.append(replace(last, dtype=torch.float16))
        elif device.type == "cpu":
            found += [replace(p, fused=True) for p in found[1:] if can_fuse(p.dtype, ndim)]
    return found


@cache
def _measured_plan(config: UNetConfig, purpose: Purpose, device: torch.device) -> ExecutionPlan:
    """Return the plan of this machine from the cache, or measure and keep it."""
    key = _measurement_key(config, purpose, device)
    candidates = _candidates(device, config.ndim, purpose)
    if (kept := _from_cache(key, candidates)) is not None:
        return kept
    measure = _prediction_seconds if purpose == "predict" else _training_seconds
    with torch.random.fork_rng(devices=[]):
        model = UNet.from_config(config)
    seconds = {plan: measure(plan, model) for plan in candidates}
    best = min(
        candidates,
        key=lambda plan: seconds[plan] * (1 if plan.dtype == torch.float32 else _WORTH_IT),
    )
    measured = {plan.name: seconds[plan] for plan in candidates}
    today = datetime.now(UTC).isoformat(timespec="seconds")
    plan_cache.store(key, {"plan": best.name, "seconds": measured, "measured": today})
    return replace(best, seconds=tuple(measured.items()))


def _from_cache(key: Mapping[str, Any], candidates: list[ExecutionPlan]) -> ExecutionPlan | None:
    """Return the plan that was kept for this key, if it is one of today's candidates."""
    if (kept := plan_cache.load(key)) is None:
        return None
    seconds = kept.get("seconds")
    if not isinstance(seconds, dict) or any(
        type(value) is not float or not 0 < value < math.inf for value in seconds.values()
    ):
        return None
    # Of other candidates than today's, the best may be among those that were not measured.
    if set(seconds) != {plan.name for plan in candidates}:
        return None
    for plan in candidates:
        if plan.name == kept.get("plan"):
            return replace(plan, seconds=tuple(seconds.items()))
    return None


def _measurement_key(config: UNetConfig, purpose: Purpose, device: torch.device) -> dict[str, Any]:
    """Return everything that a measurement depends on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        **_machine_key(),
        "device": f"{device} {gpu}".strip(),
        "purpose": purpose,
        "network": config.to_dict(),
    }


def _machine_key() -> dict[str, Any]:
    return {
        "torch": str(torch.__version__),
        "napari-unet": napari_unet.__version__,
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


@cache
def processor_name() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _prediction_seconds(plan: ExecutionPlan, model: UNet) -> float:
    run = plan.for_prediction(model)
    batch = torch.zeros(_measured_shape(model.config))
    return _fastest(lambda: run(batch), plan.device)


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
        return _fastest(step, plan.device)


def _measured_shape(config: UNetConfig) -> tuple[int, ...]:
    inner = _MEASURED_INNER[config.ndim]
    sides = (g.input_size(max(inner // g.stride, 1) * g.stride) for g in config.geometries)
    return 1, config.in_channels, *sides


def _fastest(call: Callable[[], object], device: torch.device, repeats: int = 2) -> float:
    """Return the shortest of a few runs; the first, which warms up, does not count.

    On the CPU it is the processor time of one thread: the wall clock would choose wrongly, and for
    a long time, where other programs happen to be busy just now.
    """
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        call()
        return min(_duration(call, clock) for _ in range(repeats))
    finally:
        torch.set_num_threads(threads)


def _duration(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the seconds of one call, of as many as a coarse clock needs."""
    count, start = 0, clock()
    while (passed := clock() - start) <= 0 or (passed < _SHORTEST and count < _MOST_CALLS):
        call()
        count += 1
    return passed / count


def _frozen_copy(model: UNet) -> UNet:
    folded = fold_batch_norm(model) if model.config.batch_norm else copy.deepcopy(model)
    return folded.eval().requires_grad_(False)


def _in_float32(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.float() for tensor in inputs)
