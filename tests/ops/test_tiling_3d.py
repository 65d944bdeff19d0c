"""Tiles of stacks: they cover each voxel once, lie on the pooling grid, and mirror in all axes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import (
    TileGeometry,
    halved,
    overlap,
    plan_tiles,
    read_tile,
    visible_first,
)

# Planes are pooled once, rows and columns twice.
GEOMETRIES = (TileGeometry(8, 2, 0), TileGeometry(20, 4, 0), TileGeometry(20, 4, 0))
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 30), st.integers(1, 30))


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, blocks=st.tuples(*[st.integers(1, 4)] * 3))
def test_inner_boxes_partition_the_stack(shape, blocks):
    sizes = [block * g.stride for block, g in zip(blocks, GEOMETRIES, strict=True)]
    seen = np.zeros(shape, int)
    for index, tile in enumerate(plan_tiles(shape, GEOMETRIES, sizes)):
        assert tile.index == index
        seen[tile.inner] += 1
    assert (seen == 1).all()


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, blocks=st.tuples(*[st.integers(1, 4)] * 3))
def test_every_axis_follows_its_own_grid(shape, blocks):
    sizes = [block * g.stride for block, g in zip(blocks, GEOMETRIES, strict=True)]
    tiles = plan_tiles(shape, GEOMETRIES, sizes)
    assert len({tuple(s.stop - s.start for s in tile.outer) for tile in tiles}) == 1
    for tile in tiles:
        for inner, outer, geometry, size in zip(
            tile.inner, tile.outer, GEOMETRIES, sizes, strict=True
        ):
            assert inner.start % geometry.stride == 0
            assert outer.start == inner.start - geometry.halo
            assert inner.stop <= outer.stop - geometry.halo
            assert outer.stop - outer.start <= geometry.input_size(size)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    starts=st.tuples(*[st.integers(-15, 10)] * 3),
    lengths=st.tuples(*[st.integers(1, 12)] * 3),
)
def test_windows_are_mirrored_as_numpy_does(shape, starts, lengths):
    volume = np.random.default_rng(0).random((2, *shape))
    outer = tuple(slice(s, s + n) for s, n in zip(starts, lengths, strict=True))
    margin = 40
    padded = np.pad(volume, ((0, 0), *[(margin, margin)] * 3), mode="reflect")
    expected = padded[(slice(None), *(slice(s.start + margin, s.stop + margin) for s in outer))]
    np.testing.assert_array_equal(read_tile(volume, outer), expected)


def test_a_plane_alone_is_repeated_across():
    volume = np.arange(6.0).reshape(1, 1, 2, 3)
    tile = read_tile(volume, np.s_[-2:3, 0:2, 0:3])
    np.testing.assert_array_equal(tile, np.repeat(volume, 5, axis=1))


def test_what_is_on_screen_comes_first():
    tiles = plan_tiles((8, 16, 16), GEOMETRIES, (2, 4, 4))
    visible = np.s_[5:6, 0:16, 0:16]
    ordered = visible_first(tiles, visible)
    shown = [overlap(tile.inner, visible) for tile in ordered]
    assert sorted(tile.index for tile in ordered) == list(range(len(tiles)))
    assert shown == sorted(shown, reverse=True)
    assert sum(shown) == 16


def test_tiles_are_halved_until_no_axis_can_be():
    sizes = (4, 16, 4)
    steps = []
    while sizes is not None:
        steps.append(sizes)
        sizes = halved(GEOMETRIES, sizes)
    assert steps == [(4, 16, 4), (2, 8, 4), (2, 4, 4)]


def test_each_axis_is_checked():
    with pytest.raises(InputError, match="multiple of 4"):
        plan_tiles((5, 5, 5), GEOMETRIES, (2, 4, 6))
    with pytest.raises(InputError, match="empty"):
        plan_tiles((0, 5, 5), GEOMETRIES, (2, 4, 4))
