"""Give memory that is no longer used back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Let the allocator return what it keeps for later, where it is that of glibc.

    Tiles and patches of many sizes, allocated on several threads, leave holes that glibc keeps: in
    a window it came to a third of the memory within an hour (docs/benchmarks.md). Takes some
    milliseconds, so not on the main thread.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
