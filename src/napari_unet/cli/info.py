"""``napari-unet info``: what is installed, and how it will compute here."""

from __future__ import annotations

from typing import Any

import click

from napari_unet.cli.console import json_option, report

_PACKAGES = ("napari-unet", "torch", "numpy", "scikit-image", "tifffile", "napari", "PySide6")


@click.command("info", short_help="Show versions, device, memory and precision.")
@json_option
def info_command(as_json: bool) -> None:
    """Show versions, device, memory and the precision chosen by a short measurement."""
    result = _gather()
    lines = [f"{name:<24}{value}" for name, value in result["versions"].items()]
    lines += [
        f"{'device':<24}{result['device']}",
        f"{'threads':<24}{result['threads']}",
        f"{'free memory':<24}{result['free_memory'] / 2**30:.1f} GiB",
    ]
    for purpose in ("predict", "train"):
        plan = result[purpose]
        times = ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in plan["seconds"].items())
        lines.append(f"{'precision to ' + purpose:<24}{plan['plan']} ({times})")
    report(result, lines, as_json)


def _gather() -> dict[str, Any]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from napari_unet.engine.device import free_memory, resolve_device
    from napari_unet.engine.plan import choose_plan
    from napari_unet.engine.segmenter import Segmenter

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    device = resolve_device()
    config = _usual_config(Segmenter())
    result: dict[str, Any] = {
        "versions": versions,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "free_memory": free_memory(device),
    }
    for purpose in ("predict", "train"):
        plan = choose_plan(config, "predict" if purpose == "predict" else "train")
        result[purpose] = {"plan": plan.name, "seconds": dict(plan.seconds)}
    return result


def _usual_config(segmenter: Any) -> Any:
    """Return the shape of the network that a grey image gets."""
    import numpy as np

    segmenter.set_image(np.zeros((8, 8), np.uint8))
    return segmenter.model.config
