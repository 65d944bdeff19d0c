"""Memory that is no longer used goes back to the system."""

import sys

import numpy as np
import psutil
import pytest

from napari_unet.engine.memory import give_back

_PIECES, _PIECE = 3000, 60_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator alone keeps so much")
def test_holes_between_what_is_in_use_are_given_back():
    """What is kept between the holes hinders the allocator from shrinking its heap by itself."""
    process = psutil.Process()
    arrays = [np.ones(_PIECE, np.uint8) for _ in range(_PIECES)]
    kept = arrays[::20]
    arrays.clear()
    before = process.memory_info().rss
    give_back()
    freed = before - process.memory_info().rss
    assert freed > _PIECES * _PIECE // 2
    assert all((array == 1).all() for array in kept)
