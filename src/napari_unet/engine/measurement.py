"""How long a network takes here, what that depends on, and what is kept of it."""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

import napari_unet
from napari_unet.engine import plan_cache
from napari_unet.engine.device import threads_at_most
from napari_unet.engine.execution import ExecutionPlan
from napari_unet.model.unet import UNet, UNetConfig

# Output side of the tile that is measured: large enough that convolutions outweigh call overhead,
# small enough that the measurement stays under a second for a 16-channel network. By the number of
# axes.
_MEASURED_INNER = {2: 128, 3: 16}
# Windows counts processor time in steps of 1/64 s, so a run is repeated until this many seconds
# have passed, so many times at the most.
_SHORTEST, _MOST_CALLS = 0.1, 20


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen by a measurement.

    Attributes
    ----------
    name
        What was chosen.
    seconds
        How long each candidate took, by name.
    """

    name: str
    seconds: dict[str, float]


def recall(key: Mapping[str, Any], candidates: Collection[str]) -> Choice | None:
    """Return what was chosen for this key earlier, on this machine; None if that is not known.

    Parameters
    ----------
    key
        Everything that the measurement depends on, see `measurement_key`.
    candidates
        Today's; what was measured of others is not believed.
    """
    if (kept := plan_cache.load(key)) is None:
        return None
    name, seconds = kept.get("plan"), kept.get("seconds")
    if not isinstance(seconds, dict):
        return None
    if any(type(value) is not float or not 0 < value < math.inf for value in seconds.values()):
        return None
    known = set(seconds) <= set(candidates) and isinstance(name, str) and name in seconds
    return Choice(str(name), seconds) if known else None


def keep(key: Mapping[str, Any], choice: Choice) -> None:
    """Keep what was chosen for the next time, if there is a place for it."""
    today = datetime.now(UTC).isoformat(timespec="seconds")
    plan_cache.store(key, {"plan": choice.name, "seconds": choice.seconds, "measured": today})


def measurement_key(config: UNetConfig, purpose: str, device: torch.device) -> dict[str, Any]:
    """Return everything that a measurement depends on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        **machine_key(),
        "device": f"{device} {gpu}".strip(),
        "purpose": purpose,
        "network": config.to_dict(),
    }


def machine_key() -> dict[str, Any]:
    """Return what of this machine and its programs a measurement depends on."""
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


def prediction_seconds(plan: ExecutionPlan, model: UNet) -> float:
    """Measure how long a network takes for a tile, in seconds."""
    run = plan.for_prediction(model)
    batch = torch.zeros(_measured_shape(model.config))
    return _fastest(lambda: run(batch), plan.device)


def training_seconds(
    plan: ExecutionPlan, model: UNet, shape: tuple[int, ...] | None = None, repeats: int = 2
) -> float:
    """Measure how long a network takes for a step of learning, without the optimiser's part.

    Parameters
    ----------
    plan
        How it is run.
    model
        The network; it is not changed.
    shape
        Of the input, (N, C, H, W) or (N, C, D, H, W); None: a tile of middling size.
    repeats
        How many times it is measured; the shortest counts.

    Returns
    -------
    float
        Seconds; on the CPU, of one thread.
    """
    network = copy.deepcopy(model).to(plan.device).train()
    network = network.to(memory_format=plan.memory_format)  # type: ignore[call-overload]
    batch = torch.zeros(shape or _measured_shape(model.config), device=plan.device)
    batch = batch.contiguous(memory_format=plan.memory_format)

    def step() -> float:
        with plan.autocast():
            loss = network(batch).float().square().mean()
        loss.backward()
        network.zero_grad()
        return float(loss.detach())

    with torch.random.fork_rng(devices=[]):  # dropout draws numbers
        return _fastest(step, plan.device, repeats)


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
    with threads_at_most(1 if device.type == "cpu" else None):
        call()
        return min(_duration(call, clock) for _ in range(repeats))


def _duration(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the seconds of one call, of as many as a coarse clock needs."""
    count, start = 0, clock()
    while (passed := clock() - start) <= 0 or (passed < _SHORTEST and count < _MOST_CALLS):
        call()
        count += 1
    return passed / count
