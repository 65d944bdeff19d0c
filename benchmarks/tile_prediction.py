"""How fast the network predicts, as everybody runs it and on the plan that measurement chose.

Usage: python benchmarks/tile_prediction.py [--quick] [--output FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from report import publish, seconds, table
from torch.utils.flop_counter import FlopCounterMode

from napari_unet import UNet
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import ExecutionPlan, choose_plan
from napari_unet.engine.predict import PredictRequest, predict_tiles


def flops(model: UNet, side: int) -> float:
    """Return the floating-point operations of one tile."""
    meta = UNet.from_config(model.config).to("meta")
    with FlopCounterMode(display=False) as counter:
        meta(torch.empty(1, model.config.in_channels, side, side, device="meta"))
    return float(counter.get_total_flops())


def tile_row(channels: int, side: int, repeats: int) -> list[str]:
    """Time one tile in every plan."""
    model = UNet(base_channels=channels).eval()
    batch = torch.rand(1, 1, side, side)
    cpu = torch.device("cpu")
    plans = {
        "fp32": ExecutionPlan(cpu),
        "fp32 nhwc": ExecutionPlan(cpu, channels_last=True),
        "bf16 nhwc": ExecutionPlan(cpu, torch.bfloat16, channels_last=True),
    }
    work = flops(model, side)
    times = []
    for plan in plans.values():
        run = plan.for_prediction(model)
        times.append(seconds(lambda run=run: run(batch), repeats))
    chosen = choose_plan(model.config, "predict")
    best = min(times)
    return [
        str(channels),
        f"{side} -> {side - 2 * model.config.halo}",
        f"{work / 1e9:.0f}",
        *(f"{t:.3f}" for t in times),
        f"{times[0] / best:.1f} x",
        f"{work / best / 1e9:.0f}",
        chosen.name,
    ]


def image_row(channels: int, side: int, repeats: int) -> list[str]:
    """Time a whole image with the network of a new session, tiles, check and all."""
    model = UNet(base_channels=channels, depth=3, batch_norm=True).eval()
    image = SourceImage(np.random.default_rng(0).random((side, side), dtype=np.float32))
    _ = image.normalized
    times = []
    for precision in ("fp32", "auto", "fast"):
        request = PredictRequest(image, precision=precision)
        times.append(seconds(lambda request=request: list(predict_tiles(model, request)), repeats))
    return [str(channels), f"{side} x {side}", *(f"{t:.2f}" for t in times)]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="narrow networks only, one repeat")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    widths = (16,) if arguments.quick else (16, 32, 64)
    repeats = 1 if arguments.quick else 3
    tiles = table(
        [
            "channels",
            "tile",
            "GFLOP",
            "fp32, s",
            "fp32 channels last, s",
            "bf16 channels last, s",
            "gain",
            "GFLOP/s at best",
            "chosen here",
        ],
        [tile_row(width, side, repeats) for width in widths for side in (572, 700)],
    )
    images = table(
        ["channels", "image", "fp32, s", "checked (auto), s", "unchecked (previews), s"],
        [image_row(width, side, repeats) for width in widths[:2] for side in (512, 1024)],
    )
    publish("Prediction", f"{tiles}\n\n{images}", arguments.output)


if __name__ == "__main__":
    main()
