"""Whole images: beside MONAI's sliding windows, and what an image costs by its size.

MONAI's `sliding_window_inference` at its defaults (overlap 0.25, constant weights, float32,
channels first), with windows of 512 pixels (it has no default), in two ways: the same network,
which sees the mirrored context of each window as it needs to; and the same weights with padded
convolutions, which is how networks for MONAI are built and costs less. A third row gives MONAI
bfloat16 and channels last, which are not its defaults. Needs monai
(``pip install --no-deps monai``).

A graphics card is taken for both if there is one.

On a machine that others use as well, `--one-thread` counts the processor time of a single thread.

Usage: python benchmarks/whole_image.py peers|sizes [--quick] [--output FILE] [--plot FILE]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from report import publish, table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from napari_unet import UNet
from napari_unet.engine.device import resolve_device
from napari_unet.engine.events import TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import choose_plan
from napari_unet.engine.predict import PredictRequest, predict_tiles
from napari_unet.engine.remaining_tiles import inner_sizes
from napari_unet.ops.tiling import plan_tiles

_DEVICE = resolve_device("auto")
_SIZES = (256, 512, 1024, 2048, 4096, 8192, 16384)


def padded(model: UNet) -> UNet:
    """Return a network with the same weights whose 3x3 convolutions are padded with zeros."""
    found = UNet.from_config(model.config)
    found.load_state_dict(model.state_dict())
    for layer in found.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.padding = (1, 1)
    found._check = lambda _image, _config: None  # type: ignore[method-assign]
    return found.eval()


def flops(model: UNet, *sides: int) -> float:
    """Return the floating-point operations of one input."""
    meta = padded(model) if model.contracting[0][0].padding == (1, 1) else None
    meta = (meta or UNet.from_config(model.config)).to("meta")
    with FlopCounterMode(display=False) as counter:
        meta(torch.empty(1, model.config.in_channels, *sides, device="meta"))
    return float(counter.get_total_flops())


def our_work(model: UNet, side: int) -> tuple[float, float]:
    """Return the operations of all our tiles, and of the image if each pixel counted once."""
    config = model.config
    sizes = inner_sizes(config, choose_plan(config, "predict", "fast", str(_DEVICE)), None)
    tiles = plan_tiles((side, side), config.geometries, sizes)
    outer = [span.stop - span.start for span in tiles[0].outer]
    grid = -(-side // config.stride) * config.stride
    once = flops(padded(model), grid, grid) * (side / grid) ** 2
    return len(tiles) * flops(model, *outer), once


def ours(model: UNet, channels: np.ndarray) -> Callable[[], object]:
    """Return what predicts an image in our way."""
    request = PredictRequest(
        SourceImage.from_normalized(channels), precision="fast", device=str(_DEVICE)
    )
    return lambda: [e for e in predict_tiles(model, request) if not isinstance(e, TilePredicted)]


def monai(
    predictor: Callable[[Tensor], Tensor], channels: np.ndarray, window: int
) -> Callable[[], object]:
    """Return what predicts an image in MONAI's way."""
    from monai.inferers import sliding_window_inference

    @torch.inference_mode()
    def run() -> Tensor:
        batch = torch.from_numpy(channels)[None].to(_DEVICE)
        return sliding_window_inference(batch, (window, window), 4, predictor).softmax(1).cpu()

    return run


def with_context(model: UNet, window: int) -> Callable[[Tensor], Tensor]:
    """Let the network without padding answer for a whole window: its surroundings are mirrored."""
    halo, surplus = model.config.halo, model.config.geometry.surplus

    def predict(x: Tensor) -> Tensor:
        wide = functional.pad(x, (halo, halo + surplus, halo, halo + surplus), mode="reflect")
        return model(wide)[:, :, :window, :window]

    return predict


def in_bf16(model: UNet) -> Callable[[Tensor], Tensor]:
    """Run a network in bfloat16 with channels last, as an experienced user would."""
    fast = padded(model).to(_DEVICE, torch.bfloat16).to(memory_format=torch.channels_last)

    def predict(x: Tensor) -> Tensor:
        return fast(x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)).float()

    return predict


def _there(model: UNet) -> UNet:
    """Return a copy on the device that MONAI computes on."""
    return copy.deepcopy(model).to(_DEVICE)


def product_rate(clock: Callable[[], float], side: int = 2048) -> float:
    """Return the bf16 matrix-product rate in GFLOP/s by this clock, the best of three."""
    a, b = (torch.randn(side, side, device=_DEVICE).bfloat16() for _ in range(2))
    best = float("inf")
    for _ in range(3):
        start = clock()
        _ = a @ b
        if _DEVICE.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    return 2 * side**3 / best / 1e9


def windows_of(side: int, window: int) -> int:
    """Return how many windows MONAI lays over an image at its default overlap of a quarter."""
    step = int(window * 0.75)
    return (max(-(-(side - window) // step), 0) + 1) ** 2


def peers(channels: int, side: int, window: int, repeats: int, clock: Callable[[], float]) -> str:
    """Compare in turn, so that all see the same machine."""
    torch.manual_seed(0)
    model = UNet(base_channels=channels).eval()
    image = np.random.default_rng(0).random((1, side, side), dtype=np.float32)
    once = our_work(model, side)[1]
    windows = windows_of(side, window)
    context_side = model.config.geometry.input_size(window)
    runs = {
        "napari-unet": (ours(model, image), our_work(model, side)[0]),
        "MONAI, defaults, same network": (
            monai(with_context(_there(model), window), image, window),
            windows * flops(model, context_side, context_side),
        ),
        "MONAI, defaults, padded network": (
            monai(_there(padded(model)), image, window),
            windows * flops(padded(model), window, window),
        ),
        "MONAI, bf16, channels last, padded network": (
            monai(in_bf16(model), image, window),
            windows * flops(padded(model), window, window),
        ),
    }
    best = dict.fromkeys(runs, float("inf"))
    products = []
    for _ in range(repeats):
        for name, (run, _work) in runs.items():
            products.append(product_rate(clock))
            start = clock()
            run()
            best[name] = min(best[name], clock() - start)
    product = float(np.median(products))
    rows = [
        [
            name,
            f"{best[name]:.2f}",
            f"{work / 1e12:.2f}",
            f"{1 - once / work:.0%}",
            f"{work / best[name] / 1e9:.0f}",
            f"{work / best[name] / 1e9 / product:.0%}",
            f"{best[name] / best['napari-unet']:.1f} x",
        ]
        for name, (_, work) in runs.items()
    ]
    header = ["", "s", "TFLOP", "of it wasted", "GFLOP/s", "of the bf16 product", "takes"]
    plan = choose_plan(model.config, "predict", "fast", str(_DEVICE)).name
    told = (
        f"{channels} channels, {side} x {side} pixels, MONAI's windows {window}, best of {repeats} "
        f"in turn; plan: {plan}; bf16 matrix product between the runs {product:.0f} GFLOP/s"
    )
    return f"{told}\n\n{table(header, rows)}"


def sizes(channels: int, sides: tuple[int, ...], plot: Path | None) -> str:
    """Measure what an image costs by its size."""
    torch.manual_seed(0)
    model = UNet(base_channels=channels).eval()
    rows, times = [], []
    ours(model, np.zeros((1, 256, 256), np.float32))()  # the plan is measured, torch is warm
    for side in sides:
        image = np.random.default_rng(0).random((1, side, side), dtype=np.float32)
        run = ours(model, image)
        start, count = time.perf_counter(), 0
        while count < 1 or (time.perf_counter() - start < 2 and count < 5):
            run()
            count += 1
        times.append((time.perf_counter() - start) / count)
        work, once = our_work(model, side)
        rows.append(
            [
                f"{side} x {side}",
                f"{times[-1]:.2f}",
                f"{times[-1] / side**2 * 1e6:.3f}",
                f"{work / times[-1] / 1e9:.0f}",
                f"{1 - once / work:.0%}",
            ]
        )
        print(*rows[-1], flush=True)
    if plot is not None:
        draw(sides, times, channels, plot)
    header = ["image", "s", "s per Mpx", "GFLOP/s", "of it wasted on halo and padding"]
    return f"{channels} channels\n\n" + table(header, rows)


def draw(sides: tuple[int, ...], times: list[float], channels: int, plot: Path) -> None:
    """Draw the cost against the size, and a line of constant cost a pixel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog(sides, times, "o-", label=f"{channels} channels")
    line = [times[-1] * (side / sides[-1]) ** 2 for side in sides]
    axes.loglog(sides, line, ":", color="grey", label="the same for every pixel")
    axes.set(xlabel="side of the image, pixels", ylabel="seconds")
    axes.set_xscale("log", base=2)
    axes.legend()
    figure.savefig(plot, dpi=150)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("peers", "sizes"))
    parser.add_argument("--quick", action="store_true", help="a narrow network and small images")
    parser.add_argument("--channels", type=int, help="64 beside MONAI, 16 for the sizes")
    parser.add_argument("--side", type=int, default=2048, help="of the image beside MONAI")
    parser.add_argument("--window", type=int, default=512, help="side of MONAI's windows")
    parser.add_argument("--largest", type=int, default=_SIZES[-1], help="of the sizes")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--one-thread", action="store_true", help="processor time of one thread")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    if arguments.part == "peers":
        channels = arguments.channels or (8 if arguments.quick else 64)
        side = 1024 if arguments.quick else arguments.side
        if arguments.one_thread:
            torch.set_num_threads(1)
        clock = time.thread_time if arguments.one_thread else time.perf_counter
        repeats = 1 if arguments.quick else arguments.repeats
        text = peers(channels, side, arguments.window, repeats, clock)
        publish("Whole images, beside MONAI", text, arguments.output)
    else:
        channels = arguments.channels or 16
        largest = 1024 if arguments.quick else arguments.largest
        sides = tuple(side for side in _SIZES if side <= largest)
        publish("Whole images, by size", sizes(channels, sides, arguments.plot), arguments.output)


if __name__ == "__main__":
    main()
