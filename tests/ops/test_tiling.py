import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import TileGeometry, plan_tiles, read_tile, visible_first

quick = settings(max_examples=30, deadline=None)


def geometry_of(depth):
    """Two unpadded 3x3 convolutions per level, 2x2 pooling: what the network loses."""
    stride = 2**depth
    return TileGeometry(halo=2 * (3 * stride - 2), stride=stride, surplus=4 % stride)


def is_valid_input(size, depth):
    """Follow the side of a tile down the network: every pooling must see an even number."""
    for _ in range(depth):
        size -= 4
        if size % 2 or size <= 0:
            return False
        size //= 2
    return size > 4


lengths = st.one_of(st.just(1), st.integers(1, 700))
plans = st.tuples(lengths, lengths, st.integers(0, 4), st.integers(1, 12))


def test_the_papers_tile():
    geometry = geometry_of(4)
    assert (geometry.halo, geometry.stride, geometry.surplus) == (92, 16, 4)
    assert geometry.input_size(384) == 572
    assert geometry.inner_size(572) == 384
    assert geometry.inner_size(587) == 384
    assert geometry.inner_size(588) == 400
    (tile,) = plan_tiles((388, 388), geometry, 384)
    assert tile.inner == (slice(0, 388), slice(0, 388))
    assert tile.outer == (slice(-92, 480), slice(-92, 480))


@quick
@given(plans)
def test_inner_boxes_partition_the_image(plan):
    rows, columns, depth, blocks = plan
    geometry = geometry_of(depth)
    written = np.zeros((rows, columns), int)
    for index, tile in enumerate(plan_tiles((rows, columns), geometry, blocks * geometry.stride)):
        assert tile.index == index
        for span, length in zip(tile.inner, (rows, columns), strict=True):
            assert 0 <= span.start < span.stop <= length
        written[tile.inner] += 1
    assert (written == 1).all()


@quick
@given(plans)
def test_outer_boxes_suit_the_network(plan):
    rows, columns, depth, blocks = plan
    geometry = geometry_of(depth)
    tiles = plan_tiles((rows, columns), geometry, blocks * geometry.stride)
    shapes = {tuple(span.stop - span.start for span in tile.outer) for tile in tiles}
    assert len(shapes) == 1
    for size in shapes.pop():
        assert is_valid_input(size, depth)
        assert size <= geometry.input_size(blocks * geometry.stride)
    for tile in tiles:
        for inner, outer, crop in zip(tile.inner, tile.outer, tile.crop, strict=True):
            assert inner.start % geometry.stride == 0
            assert outer.start == inner.start - geometry.halo
            # The network answers for outer less a halo at both sides; inner must lie therein.
            assert inner.stop <= outer.stop - geometry.halo
            assert (crop.start, crop.stop) == (0, inner.stop - inner.start)


@pytest.mark.parametrize("depth", range(5))
def test_sizes_answer_each_other(depth):
    geometry = geometry_of(depth)
    smallest = geometry.input_size(geometry.stride)
    for size in range(smallest, smallest + 100):
        inner = geometry.inner_size(size)
        assert geometry.input_size(inner) <= size < geometry.input_size(inner + geometry.stride)
        assert is_valid_input(geometry.input_size(inner), depth)


def test_tiles_are_balanced():
    tiles = plan_tiles((1, 400), geometry_of(2), 384)
    assert [tile.inner[1] for tile in tiles] == [slice(0, 200), slice(200, 400)]


@quick
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pads=st.tuples(*[st.integers(0, 30)] * 4),
)
def test_reading_outside_equals_numpys_reflection(shape, pads):
    channels = np.arange(2 * shape[0] * shape[1]).reshape(2, *shape)
    top, bottom, left, right = pads
    expected = np.pad(channels, [(0, 0), (top, bottom), (left, right)], mode="reflect")
    box = (slice(-top, shape[0] + bottom), slice(-left, shape[1] + right))
    np.testing.assert_array_equal(read_tile(channels, box), expected)


@quick
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    origin=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_a_pixel_does_not_depend_on_its_window(shape, origin, size):
    channels = np.arange(shape[0] * shape[1]).reshape(1, *shape)
    whole = read_tile(channels, (slice(-30, 60), slice(-30, 60)))
    box = tuple(slice(o, o + s) for o, s in zip(origin, size, strict=True))
    window = tuple(slice(o + 30, o + s + 30) for o, s in zip(origin, size, strict=True))
    np.testing.assert_array_equal(read_tile(channels, box), whole[:, *window])


def test_reading_copies_and_keeps_the_dtype():
    channels = np.zeros((1, 4, 4), np.float16)
    tile = read_tile(channels, (slice(1, 3), slice(1, 3)))
    tile[...] = 1
    assert tile.dtype == np.float16
    assert not channels.any()


def toy_network(tile, geometry):
    """Pools and unpools on the grid of the tile, as a U-Net does, and mixes neighbouring blocks."""
    stride, halo = geometry.stride, geometry.halo
    trimmed = tile[0, 2 * (stride - 1) :, 2 * (stride - 1) :]
    blocks = trimmed.shape[0] // stride, trimmed.shape[1] // stride
    trimmed = trimmed[: blocks[0] * stride, : blocks[1] * stride]
    pooled = trimmed.reshape(blocks[0], stride, blocks[1], stride).max(axis=(1, 3))
    mixed = pooled + 3 * np.roll(pooled, 1, axis=0) + 5 * np.roll(pooled, -1, axis=1)
    unpooled = mixed.repeat(stride, axis=0).repeat(stride, axis=1)
    edge = halo - 2 * (stride - 1)
    rows, columns = (length - 2 * halo for length in tile.shape[1:])
    return unpooled[edge : edge + rows, edge : edge + columns]


def predict(channels, geometry, inner_size):
    result = np.full(channels.shape[1:], -1)
    for tile in plan_tiles(channels.shape[1:], geometry, inner_size):
        result[tile.inner] = toy_network(read_tile(channels, tile.outer), geometry)[tile.crop]
    return result


@quick
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    depth=st.integers(1, 3),
    blocks=st.integers(1, 6),
)
def test_tiled_equals_untiled_for_a_pooling_network(shape, depth, blocks):
    geometry = geometry_of(depth)
    channels = np.random.default_rng(0).integers(0, 1000, (1, *shape))
    untiled = predict(channels, geometry, 128)
    tiled = predict(channels, geometry, blocks * geometry.stride)
    np.testing.assert_array_equal(tiled, untiled)


def test_visible_tiles_come_first_from_the_middle_outwards():
    tiles = plan_tiles((64, 64), geometry_of(2), 16)
    visible = (slice(20, 40), slice(20, 60))
    ordered = visible_first(tiles, visible)
    assert sorted(tile.index for tile in ordered) == list(range(16))
    # Rows 1 and 2, columns 1 to 3 are on screen; its centre is at (30, 40).
    assert {tile.index for tile in ordered[:6]} == {5, 6, 7, 9, 10, 11}
    assert ordered[0].index == 6
    assert visible_first(tiles, None) == tiles
    assert len(visible_first(tiles, (slice(-50, -10), slice(500, 600)))) == 16


@pytest.mark.parametrize("inner", [0, -16, 8, 20])
def test_an_invalid_inner_size_is_refused(inner):
    with pytest.raises(InputError, match="multiple of 16"):
        plan_tiles((100, 100), geometry_of(4), inner)


def test_a_tile_smaller_than_its_context_is_refused():
    with pytest.raises(InputError, match="choose at least 204"):
        geometry_of(4).inner_size(188)


def test_an_empty_image_is_refused():
    with pytest.raises(InputError, match="empty"):
        plan_tiles((0, 10), geometry_of(1), 16)


def test_tiles_are_halved_down_to_one_cell_of_the_grid():
    geometry = TileGeometry(halo=92, stride=16, surplus=4)
    assert [geometry.halved(inner) for inner in (384, 48, 32)] == [192, 16, 16]
    assert geometry.halved(16) is None
