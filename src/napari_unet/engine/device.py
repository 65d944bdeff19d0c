"""Which device computes, and how much memory it has left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from napari_unet.ops.cores import usable_cores
from napari_unet.ops.errors import InputError


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    name
        "auto" takes the first that is there of CUDA, Apple's MPS and the CPU; any name that torch
        knows ("cpu", "cuda:1") takes that one.

    Raises
    ------
    InputError
        If the device does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"there is no device {name!r} here; use 'auto' or 'cpu'") from error
    return device


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on `device`, as far as the system tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch's allocator holds without using it can be used again.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    available = int(psutil.virtual_memory().available)
    limit = _container_headroom()
    return available if limit is None else min(available, limit)


def limit_threads(*, window: bool = False) -> int:
    """Let torch use the cores that this process has, and return how many threads that makes.

    torch counts the machine's cores. A container may have fewer, and more threads than cores wait
    for each other. What the user chose with OMP_NUM_THREADS stays, and so does a smaller number.

    Parameters
    ----------
    window
        Whether a window is open, which gets a core for itself where there are more than two. Of two
        cores the network keeps both: the window needs little of one, and is served first because it
        mostly sleeps, while the network would take twice as long.
    """
    cores = usable_cores()
    wanted = cores - 1 if window and cores > 2 else cores
    if wanted < torch.get_num_threads() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


def threads_beside_drawing() -> int:
    """Return how many threads leave a core to a window that draws what is computed meanwhile.

    Of two cores one is left, too, other than by `limit_threads`: two threads wait for each other
    after each layer, and the one that shares its core with the drawing keeps both waiting.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    return min(torch.get_num_threads(), max(usable_cores() - 1, 1))


@contextmanager
def threads_at_most(count: int | None) -> Iterator[None]:
    """Let torch compute with no more threads meanwhile, on this thread; None for as many."""
    before = torch.get_num_threads()
    if count is None or count >= before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _container_headroom() -> int | None:
    """Return what the container's memory limit leaves, in bytes, if it has one."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        return None
    return max(limit - used, 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether `error` is how torch or numpy report that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU allocator raises a plain RuntimeError and tells only in words.
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )
