import numpy as np
import pytest

from napari_unet.ops.errors import InputError
from napari_unet.ops.images import channel_count, holds_channels_last, to_channels_first

REAL_TYPES = [
    bool, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
    np.float16, np.float32, np.float64, np.longdouble, ">u2", ">i4", ">f4", ">f8",
]  # fmt: skip


@pytest.mark.parametrize("dtype", REAL_TYPES)
def test_every_real_dtype_keeps_its_values(dtype):
    image = np.array([[0, 1, 1], [1, 0, 0]]).astype(dtype)
    channels = to_channels_first(image)
    assert channels.dtype == np.float32
    assert channels.dtype.isnative
    np.testing.assert_array_equal(channels, [[[0, 1, 1], [1, 0, 0]]])


def test_values_are_not_scaled():
    np.testing.assert_array_equal(
        to_channels_first(np.array([[-128, 127]], np.int8)), [[[-128, 127]]]
    )
    np.testing.assert_array_equal(to_channels_first([[65535, 2]]), [[[65535, 2]]])


def test_channels_come_first_and_alpha_is_dropped():
    rgba = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    channels = to_channels_first(rgba)
    assert channels.shape == (3, 2, 3)
    for k in range(3):
        np.testing.assert_array_equal(channels[k], rgba[..., k])
    np.testing.assert_array_equal(to_channels_first(rgba[..., :3]), channels)
    np.testing.assert_array_equal(to_channels_first(rgba[..., :1]), rgba[None, ..., 0])


def test_result_is_never_a_view():
    image = np.zeros((4, 5), np.float32)
    to_channels_first(image)[...] = 7
    assert not image.any()


@pytest.mark.parametrize(
    ("shape", "count"), [((5, 4), 1), ((5, 4, 1), 1), ((5, 4, 3), 3), ((5, 4, 4), 3), ((1, 1), 1)]
)
def test_channel_count_agrees_with_the_conversion(shape, count):
    image = np.ones(shape)
    assert channel_count(image) == count == len(to_channels_first(image))


def test_channel_count_does_not_compute_a_lazy_array():
    class Lazy:
        shape, dtype = (100_000, 100_000, 3), np.dtype("uint8")

        def __array__(self, *args, **kwargs):
            raise AssertionError("computed")

    assert channel_count(Lazy()) == 3


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 2)), "2 channels.*pick one channel"),
        (np.zeros((4, 4, 5)), "5 channels.*pick one channel"),
        (np.zeros((3, 64, 64)), "64 channels.*pick"),
        (np.zeros(7), "1 axes.*one plane"),
        (np.zeros((2, 3, 4, 3)), "4 axes.*one plane"),
        (np.float32(3), "0 axes"),
        (np.zeros((0, 5)), "empty"),
        (np.zeros((5, 5, 0)), "empty"),
        (np.zeros((4, 4), complex), "complex128.*convert"),
        (np.zeros((4, 4), object), "object.*convert"),
        (np.array([["a", "b"]]), "convert"),
        ([[1, 2], [3]], "ragged"),
    ],
)
def test_unusable_images_are_refused_with_a_cure(image, says):
    with pytest.raises(InputError, match=says) as caught:
        to_channels_first(image)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=says):
        channel_count(image)


def test_nan_and_infinity_are_counted():
    image = np.zeros((5, 5))
    image[0, 0], image[1, 1], image[2, 2] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError, match=r"3 values.*nan_to_num"):
        to_channels_first(image)


def test_values_beyond_float32_are_refused():
    with pytest.raises(InputError, match="1 values"):
        to_channels_first(np.array([[1e300, 1.0]]))


def test_the_largest_float32_values_are_taken():
    largest = np.finfo(np.float32).max
    np.testing.assert_array_equal(to_channels_first(np.full((9, 9), largest)), largest)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 72, 5), True),
        ((3, 64, 72, 2), True),
        ((64, 72, 1), True),
        ((64, 72, 9), False),  # not many times longer
        ((10, 512, 5), False),  # few rows: rather planes
        ((512, 512, 40), False),  # as well planes, turned
        ((64, 5), False),
    ],
)
def test_channels_are_last_only_where_nothing_else_is_possible(shape, expected):
    assert holds_channels_last(shape) is expected


def test_any_number_of_channels_may_be_last():
    image = np.random.default_rng(0).random((64, 72, 5))
    assert channel_count(image) == 5
    np.testing.assert_allclose(to_channels_first(image), np.moveaxis(image, -1, 0), rtol=1e-6)
