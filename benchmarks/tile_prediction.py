"""How fast the network predicts, as everybody runs it and on the plan that measurement chose.

Usage: python benchmarks/tile_prediction.py [--quick] [--repeats 3] [--device cuda] [--output FILE]
With `--device` a graphics card is measured, and not the processor.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from report import matmul_rate, publish, seconds, table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from napari_unet import UNet
from napari_unet.engine.device import resolve_device
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import ExecutionPlan, choose_plan
from napari_unet.engine.predict import PredictRequest, predict_tiles

_CPU = torch.device("cpu")
_PLANS = {
    "fp32": ExecutionPlan(_CPU),
    "fp32 nhwc": ExecutionPlan(_CPU, channels_last=True),
    "bf16 nhwc": ExecutionPlan(_CPU, torch.bfloat16, channels_last=True),
    "bf16 nhwc fused": ExecutionPlan(_CPU, torch.bfloat16, channels_last=True, fused=True),
}
# Kinds of work in a profile, by what the names of torch's operators contain.
_KINDS = {
    "convolution": ("convolution_pointwise", "mkldnn_convolution", "_convolution", "slow_conv"),
    "ReLU": ("clamp_min", "relu"),
    "concatenation": ("cat",),
    "pooling": ("max_pool", "maximum"),
    "copies, conversion": ("copy_", "contiguous", "_to_copy"),
}


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
    work = flops(model, side)
    times = []
    for plan in _PLANS.values():
        run = plan.for_prediction(model)
        times.append(seconds(lambda run=run: run(batch), repeats))
    product = matmul_rate(torch.bfloat16, repeats=3)
    chosen = choose_plan(model.config, "predict")
    best = min(times)
    return [
        str(channels),
        f"{side} -> {side - 2 * model.config.halo}",
        f"{work / 1e9:.0f}",
        *(f"{t:.3f}" for t in times),
        f"{times[0] / best:.1f} x",
        f"{work / best / 1e9:.0f}",
        f"{work / best / 1e9 / product:.0%}",
        chosen.name,
    ]


def device_row(channels: int, side: int, device: torch.device, repeats: int) -> list[str]:
    """Time a tile on a graphics card, from an array in memory to an array in memory."""
    model = UNet(base_channels=channels).eval()
    batch = torch.rand(1, 1, side, side)
    work = flops(model, side)
    plain = ExecutionPlan(device)
    plans = {
        "fp32": plain,
        "bf16": replace(plain, dtype=torch.bfloat16, channels_last=True),
        "fp16": replace(plain, dtype=torch.float16, channels_last=True),
        "chosen": choose_plan(model.config, "predict", "fast", str(device)),
    }
    times = {}
    for name, plan in plans.items():
        run = plan.for_prediction(model)
        times[name] = seconds(lambda run=run: run(batch), repeats)
    request = PredictRequest(
        SourceImage(np.random.default_rng(0).random((512, 512), dtype=np.float32)),
        precision="fast",
        device=str(device),
    )
    whole = seconds(lambda: list(predict_tiles(model, request)), repeats)
    product = matmul_rate(torch.bfloat16, 8192, repeats=20, device=device.type)
    best = min(times.values())
    return [
        str(channels),
        f"{side} -> {side - 2 * model.config.halo}",
        f"{work / 1e9:.0f}",
        *(f"{time * 1e3:.2f}" for time in times.values()),
        plans["chosen"].name,
        f"{work / best / 1e12:.0f}",
        f"{work / best / 1e9 / product:.0%}",
        f"{whole * 1e3:.1f}",
    ]


def device_table(widths: tuple[int, ...], device: torch.device, repeats: int) -> str:
    """Measure a graphics card."""
    header = [
        "channels",
        "tile",
        "GFLOP",
        "fp32, ms",
        "bf16, ms",
        "fp16, ms",
        "as chosen, ms",
        "chosen",
        "TFLOP/s at best",
        "of the bf16 matrix product",
        "512 x 512 image as a job, ms",
    ]
    sides = (572, 700, 1212)
    return table(header, [device_row(w, s, device, repeats) for w in widths for s in sides])


def size_row(channels: int, inner: int, repeats: int) -> list[str]:
    """Time one tile of a size, fused and not; what a pixel of the answer costs."""
    model = UNet(base_channels=channels).eval()
    side = model.config.geometry.input_size(inner)
    batch = torch.rand(1, 1, side, side)
    work = flops(model, side)
    cells = [str(channels), f"{side} -> {inner}", f"{work / inner**2 / 1e3:.0f}"]
    for name in ("bf16 nhwc", "bf16 nhwc fused"):
        run = _PLANS[name].for_prediction(model)
        time = seconds(lambda run=run: run(batch), repeats)
        cells += [f"{time / inner**2 * 1e6:.3f}", f"{work / time / 1e9:.0f}"]
    return cells


def profile_row(name: str, channels: int, side: int) -> list[str]:
    """Say on what one tile spends its time."""
    run = _PLANS[name].for_prediction(UNet(base_channels=channels).eval())
    batch = torch.rand(1, 1, side, side)
    run(batch)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run(batch)
    spent = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total, shares = sum(spent.values()), []
    for parts in _KINDS.values():
        names = [key for key in spent if any(part in key for part in parts)]
        shares.append(f"{sum(spent.pop(key) for key in names) / total:.0%}")
    return [name, str(channels), str(side), *shares, f"{sum(spent.values()) / total:.0%}"]


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


def tables(widths: tuple[int, ...], sizes: tuple[int, ...], repeats: int) -> list[str]:
    """Measure everything."""
    rate = ["s per Mpx", "GFLOP/s"]
    return [
        table(
            [
                "channels",
                "tile",
                "GFLOP",
                "fp32, s",
                "fp32 channels last, s",
                "bf16 channels last, s",
                "bf16 channels last, fused, s",
                "gain",
                "GFLOP/s at best",
                "of the bf16 matrix product",
                "chosen here",
            ],
            [tile_row(width, side, repeats) for width in widths for side in (572, 700)],
        ),
        table(
            ["channels", "tile", "kFLOP a pixel", *rate, *(f"fused, {name}" for name in rate)],
            [size_row(width, inner, repeats) for width in widths for inner in sizes],
        ),
        table(
            ["plan", "channels", "tile", *_KINDS, "other"],
            [profile_row(n, w, 572) for w in widths for n in ("bf16 nhwc", "bf16 nhwc fused")],
        ),
        table(
            ["channels", "image", "fp32, s", "checked (auto), s", "unchecked (previews), s"],
            [image_row(width, side, repeats) for width in widths[:2] for side in (512, 1024)],
        ),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="narrow networks only, one repeat")
    parser.add_argument("--repeats", type=int, default=3, help="each time is the median of these")
    parser.add_argument("--device", help="a graphics card that is measured, such as cuda")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    widths = (16,) if arguments.quick else (16, 32, 64)
    if arguments.device:
        device = resolve_device(arguments.device)
        text = device_table(widths, device, 3 if arguments.quick else 30)
        publish("Prediction on a graphics card", text, arguments.output)
        return
    sizes = (256, 512) if arguments.quick else (256, 384, 512, 640, 704, 768, 1024)
    repeats = 1 if arguments.quick else max(1, arguments.repeats)
    publish("Prediction", "\n\n".join(tables(widths, sizes, repeats)), arguments.output)


if __name__ == "__main__":
    main()
