"""How the network is run on this machine: precision, layout and fusion, chosen by measurement.

In bfloat16 and with channels last a processor with AMX or AVX512-bf16 runs the network several
times faster than in float32 with channels first; one without them runs it slower. So a short
measurement decides, once per machine and network shape: it is kept in the user's cache folder
(`napari_unet.engine.plan_cache`) with the versions that it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch

from napari_unet.engine import plan_cache
from napari_unet.engine.device import limit_threads, resolve_device
from napari_unet.engine.execution import ExecutionPlan
from napari_unet.engine.measurement import (
    Choice,
    keep,
    machine_key,
    measurement_key,
    prediction_seconds,
    recall,
    training_seconds,
)
from napari_unet.engine.patch_plan import forget_patches
from napari_unet.model.fused import can_fuse
from napari_unet.model.unet import UNet, UNetConfig

__all__ = [
    "ExecutionPlan",
    "Precision",
    "Purpose",
    "choose_plan",
    "forget_plans",
    "kept_plans",
]

Precision = Literal["auto", "fast", "fp32"]
Purpose = Literal["predict", "train"]

# A lower precision has to be this much faster to be worth its rounding.
_WORTH_IT = 1.15


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
    forget_patches()
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
    here = machine_key()
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
    key = measurement_key(config, purpose, device)
    candidates = {plan.name: plan for plan in _candidates(device, config.ndim, purpose)}
    choice = recall(key, candidates)
    # Of other candidates than today's, the best may be among those that were not measured.
    if choice is None or set(choice.seconds) != set(candidates):
        measure = prediction_seconds if purpose == "predict" else training_seconds
        with torch.random.fork_rng(devices=[]):
            model = UNet.from_config(config)
        seconds = {name: measure(plan, model) for name, plan in candidates.items()}
        choice = Choice(
            min(candidates, key=lambda name: _worth(candidates[name], seconds)), seconds
        )
        keep(key, choice)
    return replace(candidates[choice.name], seconds=tuple(choice.seconds.items()))


def _worth(plan: ExecutionPlan, seconds: Mapping[str, float]) -> float:
    """Return the seconds of a plan; those of a lower precision count for more."""
    return seconds[plan.name] * (1 if plan.dtype == torch.float32 else _WORTH_IT)
