"""How long a training step takes, as everybody runs it and on the plan that measurement chose.

Usage: python benchmarks/training_step.py [--quick] [--output FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from report import publish, seconds, table

from napari_unet import UNet
from napari_unet.engine.ahead import Ahead
from napari_unet.engine.device import resolve_device
from napari_unet.engine.finetune import FinetuneRequest, finetune
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import ExecutionPlan, choose_plan
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.model.augment import AugmentConfig, Patch, sample_patch
from napari_unet.model.losses import weighted_cross_entropy


def step_row(channels: int, side: int, repeats: int, device: torch.device) -> list[str]:
    """Time forward, loss, backward and update on one patch, in every plan."""
    times = []
    plans = (
        ExecutionPlan(device),
        ExecutionPlan(device, channels_last=True),
        ExecutionPlan(device, torch.bfloat16, channels_last=True),
    )
    for plan in plans:
        model = UNet(base_channels=channels).train().to(device, memory_format=plan.memory_format)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.99)
        batch = torch.rand(1, 1, side, side, device=device)
        batch = batch.contiguous(memory_format=plan.memory_format)
        output = side - 2 * model.config.halo
        labels = torch.randint(0, 3, (1, output, output), device=device)

        def step(model=model, optimizer=optimizer, batch=batch, labels=labels, plan=plan) -> None:
            with plan.autocast():
                logits = model(batch)
            optimizer.zero_grad()
            weighted_cross_entropy(logits, labels, None).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()

        times.append(seconds(step, repeats))
    chosen = choose_plan(UNet(base_channels=channels).config, "train", device=str(device))
    return [
        str(channels),
        f"{side} -> {output}",
        *(f"{t:.4f}" if device.type == "cuda" else f"{t:.3f}" for t in times),
        f"{times[0] / min(times):.1f} x",
        chosen.name,
    ]


def patch_row(side: int, repeats: int) -> list[str]:
    """Time the drawing of one augmented patch."""
    image, labels = torch.rand(1, 1024, 1024), torch.ones(1024, 1024, dtype=torch.uint8)
    weights = torch.ones(1024, 1024)
    generator = torch.Generator().manual_seed(0)

    def draw(config: AugmentConfig) -> float:
        return seconds(
            lambda: sample_patch(
                image,
                labels,
                weights,
                centre=(500.0, 500.0),
                input_size=side,
                output_size=side - 184,
                config=config,
                generator=generator,
            ),
            repeats,
        )

    return [
        f"{side}",
        f"{draw(AugmentConfig.none()) * 1e3:.1f}",
        f"{draw(AugmentConfig()) * 1e3:.1f}",
    ]


def ahead_row(channels: int, side: int, batch: int, steps: int) -> list[str]:
    """Time steps whose patches are drawn before each, and steps whose patches are drawn ahead."""
    model = UNet(base_channels=channels, depth=3, batch_norm=True)
    trainer = Trainer(model, FinetuneConfig())
    image, weights = torch.rand(1, 1024, 1024), torch.ones(1024, 1024)
    labels = torch.randint(1, 3, (1024, 1024), dtype=torch.uint8)
    halo = 2 * model.config.halo

    def draw(_number: int) -> Patch:
        patches = [
            sample_patch(
                image,
                labels,
                weights,
                centre=(500.0, 500.0),
                input_size=side,
                output_size=side - halo,
                config=AugmentConfig(),
                generator=trainer.generator,
            )
            for _ in range(batch)
        ]
        return Patch.joined(patches)

    drawing, learning = time_steps(draw, trainer, steps)
    with Ahead(draw, trainer.generator) as ahead:
        waiting, beside = time_steps(ahead.take, trainer, steps)
    return [
        f"{channels}, {batch} patches of {side}",
        f"{drawing * 1e3:.0f}",
        f"{learning * 1e3:.0f}",
        f"{drawing / (drawing + learning):.0%}",
        f"{waiting * 1e3:.1f}",
        f"{beside * 1e3:.0f}",
        f"{waiting / (waiting + beside):.0%}",
        f"{(drawing + learning) / (waiting + beside):.2f} x",
    ]


def time_steps(take: Callable[[int], Patch], trainer: Trainer, steps: int) -> tuple[float, float]:
    """Return the median seconds until there are patches, and the step's own; not of the first."""
    until, own = [], []
    for number in range(steps + 1):
        begun = time.perf_counter()
        patch = take(number)
        drawn = time.perf_counter()
        trainer.learn(patch)
        until.append(drawn - begun)
        own.append(time.perf_counter() - drawn)
    return statistics.median(until[1:]), statistics.median(own[1:])


def loop_row(channels: int, duration: float) -> list[str]:
    """Count the steps of the real job, patches, scores and all."""
    rng = np.random.default_rng(0)
    image = SourceImage(rng.random((512, 512), dtype=np.float32))
    annotations = np.zeros((512, 512), np.uint8)
    annotations[50:450:80, 40:200] = 1
    annotations[50:450:80, 300:460] = 2
    trainer = Trainer(UNet(base_channels=channels), FinetuneConfig())
    started = time.perf_counter()
    events = list(finetune(trainer, FinetuneRequest(image, annotations, seconds=duration)))
    elapsed = time.perf_counter() - started
    return [str(channels), f"{events[-1].steps / elapsed:.1f}"]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="narrow networks only, one repeat")
    parser.add_argument("--device", default="cpu", help="where the first table is measured")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    widths = (16,) if arguments.quick else (16, 32, 64)
    repeats = 1 if arguments.quick else 3
    device = resolve_device(arguments.device)
    repeats = repeats if device.type == "cpu" else 20
    steps = table(
        [
            "channels",
            "patch",
            "fp32, s",
            "fp32 channels last, s",
            "bf16 channels last, s",
            "gain",
            "chosen here",
        ],
        [step_row(width, side, repeats, device) for width in widths for side in (252, 572)],
    )
    if device.type != "cpu":
        publish("Training step on a graphics card", steps, arguments.output)
        return
    patches = table(
        ["patch", "cut out, ms", "augmented, ms"],
        [patch_row(side, repeats) for side in (252, 572)],
    )
    drawn = table(
        [
            "channels, patches",
            "drawing, ms",
            "step, ms",
            "share",
            "drawn ahead: waiting, ms",
            "step, ms",
            "share",
            "gain",
        ],
        [
            ahead_row(width, side, 4, 3 if arguments.quick else 15)
            for width in widths
            for side in (140, 300)
        ],
    )
    loops = table(
        ["channels", "steps a second, whole job"],
        [loop_row(width, 3 if arguments.quick else 15) for width in widths[:2]],
    )
    publish("Training step", f"{steps}\n\n{patches}\n\n{drawn}\n\n{loops}", arguments.output)


if __name__ == "__main__":
    main()
