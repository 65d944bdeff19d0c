"""What every benchmark prints: the machine with its measured limits, and one markdown table."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def matmul_rate(
    dtype: torch.dtype, side: int = 2048, repeats: int = 5, device: str = "cpu"
) -> float:
    """Return the machine's own matrix-product rate in GFLOP/s, the limit of every convolution."""
    a, b = (torch.randn(side, side).to(device, dtype) for _ in range(2))

    def product() -> None:
        found = a @ b
        if found.device.type == "cuda":
            torch.cuda.synchronize()

    return 2 * side**3 / seconds(product, repeats) / 1e9


def copy_rate(megabytes: int = 256, repeats: int = 5) -> float:
    """Return how many GB/s are copied in memory, each byte read and written counting once."""
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8)
    target = torch.empty_like(source)
    return source.numel() / seconds(lambda: target.copy_(source), repeats) / 1e9


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the median time of `repeats` calls; a first one, which warms up, does not count."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def machine() -> str:
    """Describe the machine in one line, with the limits that were measured just now."""
    words = (
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"matrix product fp32 {matmul_rate(torch.float32):.0f} GFLOP/s, "
        f"bf16 {matmul_rate(torch.bfloat16):.0f} GFLOP/s; copying {copy_rate():.1f} GB/s"
    )
    if torch.cuda.is_available():
        rates = ", ".join(
            f"{name} {matmul_rate(dtype, 8192, device='cuda') / 1e3:.0f} TFLOP/s"
            for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16))
        )
        words += f"; {torch.cuda.get_device_name()}: matrix product {rates}"
    return words


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def publish(title: str, text: str, output: Path | None) -> None:
    """Print a result and, if asked to, write it into a file."""
    body = f"### {title}\n\n{machine()}\n\n{text}\n"
    print(body)
    if output is not None:
        output.write_text(body, encoding="utf-8")
