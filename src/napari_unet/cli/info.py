"""``napari-unet info``: what is installed and how it will compute here, or what an image holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_unet.cli.console import json_option, report
from napari_unet.cli.image_options import chosen_corrections, image_options

_PACKAGES = ("napari-unet", "torch", "numpy", "scikit-image", "tifffile", "napari", "PySide6")


@click.command("info", short_help="Show versions, device and precision, or what an image holds.")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@image_options
@json_option
def info_command(
    image: Path | None, axes: str | None, pixel_size: str | None, level: int, as_json: bool
) -> None:
    """Show versions, device, memory and the precision chosen by a short measurement.

    With an IMAGE: its format, axes, pixel size, channels and levels, as `predict` would take them
    with the same options.
    """
    if image is not None:
        from napari_unet.engine.images.opening import open_image

        with open_image(image, chosen_corrections(axes, pixel_size, level)) as opened:
            return report(opened.info.to_dict(), opened.info.lines(), as_json)
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
