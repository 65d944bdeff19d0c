"""``napari-unet info``: what is installed and how it will compute here, or what an image holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_unet.cli.console import json_option, report
from napari_unet.cli.image_options import chosen_corrections, image_options

_PACKAGES = ("napari-unet", "torch", "numpy", "scikit-image", "tifffile", "napari", "PySide6")


@click.command("info", short_help="Show how networks run here, or what an image holds.")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@image_options
@click.option("--measure", is_flag=True, help="Forget what was measured, and measure again.")
@json_option
def info_command(
    image: Path | None,
    axes: str | None,
    pixel_size: str | None,
    level: int,
    measure: bool,
    as_json: bool,
) -> None:
    """Show versions, device, memory, and how networks run here.

    With an IMAGE: its format, axes, pixel size, channels and levels, as `predict` takes them with
    the same options.

    The precision and layout in which a network runs fastest are measured once for each machine
    and shape of network, and kept in the user's cache folder. The environment variable
    NAPARI_UNET_CACHE names another folder; "off" keeps nothing.
    """
    if image is not None:
        from napari_unet.engine.images.opening import open_image

        with open_image(image, chosen_corrections(axes, pixel_size, level)) as opened:
            return report(opened.info.to_dict(), opened.info.lines(), as_json)
    result = _gather(measure)
    return report(result, _lines(result), as_json)


def _lines(result: dict[str, Any]) -> list[str]:
    facts = {
        **result["versions"],
        "processor": f"{result['processor']}, {result['instructions']}",
        "device": result["device"],
        "threads": result["threads"],
        "free memory": f"{result['free_memory'] / 2**30:.1f} GiB",
    }
    for purpose in ("predict", "train"):
        facts[f"to {purpose}"] = _in_words(result[purpose])
    facts["to fine-tune"] = f"{_in_words(result['fine-tune'])}: {result['fine-tune']['reason']}"
    facts["measurements"] = result["cache"] or "are not kept (NAPARI_UNET_CACHE)"
    lines = [f"{name:<24}{value}" for name, value in facts.items()]
    for kept in result["measurements"]:
        note = "" if kept["current"] else "; of other versions or another machine, not used"
        lines.append(f"  to {kept['purpose']} with {kept['network']}: {_in_words(kept)}{note}")
    return lines


def _in_words(plan: dict[str, Any]) -> str:
    times = ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in plan["seconds"].items())
    return f"{plan['plan']} ({times})"


def _gather(measure: bool) -> dict[str, Any]:
    import torch

    from napari_unet.engine import plan_cache
    from napari_unet.engine.device import free_memory, resolve_device
    from napari_unet.engine.measurement import processor_name
    from napari_unet.engine.patch_plan import choose_patches
    from napari_unet.engine.plan import choose_plan, forget_plans, kept_plans
    from napari_unet.engine.segmenter import Segmenter

    if measure:
        forget_plans()
    device = resolve_device()
    config = _usual_config(Segmenter())
    result: dict[str, Any] = {
        "versions": _versions(),
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "free_memory": free_memory(device),
    }
    for purpose in ("predict", "train"):
        plan = choose_plan(config, "predict" if purpose == "predict" else "train")
        result[purpose] = {"plan": plan.name, "seconds": dict(plan.seconds)}
    patches = choose_patches(config, plan, settled=True)
    result["fine-tune"] = {
        "plan": patches.name,
        "seconds": dict(patches.seconds),
        "reason": patches.reason,
    }
    place = plan_cache.folder()
    result["cache"] = None if place is None else str(place)
    result["measurements"] = kept_plans()
    return result


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _usual_config(segmenter: Any) -> Any:
    """Return the shape of the network that a grey image gets."""
    import numpy as np

    segmenter.set_image(np.zeros((8, 8), np.uint8))
    return segmenter.model.config
