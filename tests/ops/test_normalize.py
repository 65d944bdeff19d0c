import numpy as np
import pytest

from napari_unet.ops.errors import InputError
from napari_unet.ops.normalize import percentile_normalize


def test_percentiles_become_zero_and_one_in_each_channel(rng):
    channels = np.stack([rng.normal(100, 10, (60, 70)), rng.gamma(2, 1000, (60, 70))])
    scaled = percentile_normalize(channels, 1, 99.8)
    assert scaled.dtype == np.float32
    for channel in scaled:
        np.testing.assert_allclose(np.percentile(channel, [1, 99.8]), [0, 1], atol=1e-5)


def test_exposure_and_bit_depth_do_not_matter(rng):
    image = rng.integers(0, 200, (1, 50, 50)).astype(np.float32)
    np.testing.assert_allclose(
        percentile_normalize(image), percentile_normalize(image * 257 + 5000), atol=1e-4
    )


def test_values_outside_are_not_clipped():
    ramp = np.arange(1001, dtype=np.float32).reshape(1, 7, 143)
    scaled = percentile_normalize(ramp, 10, 90)
    np.testing.assert_allclose([scaled.min(), scaled.max()], [-0.125, 1.125], atol=1e-6)


@pytest.mark.parametrize("value", [0, -3.5, 1e30])
def test_a_constant_channel_becomes_zero(value):
    channels = np.full((2, 8, 9), value, np.float32)
    channels[1] = np.arange(9)
    scaled = percentile_normalize(channels)
    assert not scaled[0].any()
    assert scaled[1].any()


def test_few_bright_spots_on_black_are_not_lost():
    channels = np.zeros((1, 100, 100), np.float32)
    channels[0, 50, 50] = 40
    scaled = percentile_normalize(channels)
    assert scaled[0, 50, 50] == 1
    assert np.count_nonzero(scaled) == 1


def test_extreme_values_stay_finite():
    largest = np.finfo(np.float32).max
    channels = np.linspace(-largest / 2, largest / 2, 400, dtype=np.float64).astype(np.float32)
    assert np.isfinite(percentile_normalize(channels.reshape(1, 20, 20))).all()
    tiny = np.linspace(0, 1e-6, 10_000, dtype=np.float32).reshape(1, 100, 100)
    tiny[0, 0, 0] = largest
    scaled = percentile_normalize(tiny)
    assert np.isfinite(scaled).all()
    assert scaled.max() == 10_000


def test_a_large_image_is_sampled_but_scaled_alike(rng):
    small = rng.normal(0, 1, (1, 300, 300)).astype(np.float32)
    large = np.tile(small, (1, 8, 8))  # 5.8 million pixels
    np.testing.assert_allclose(
        percentile_normalize(large)[:, :300, :300], percentile_normalize(small), atol=0.02
    )


@pytest.mark.parametrize(("low", "high"), [(50, 50), (60, 40), (-1, 50), (1, 101), (np.nan, 50)])
def test_impossible_percentiles_are_refused(low, high):
    with pytest.raises(InputError, match="choose 0 <= low < high <= 100"):
        percentile_normalize(np.zeros((1, 4, 4)), low, high)


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 4), (1, 0, 4)])
def test_arrays_without_pixels_or_channels_are_refused(shape):
    with pytest.raises(InputError, match="order"):
        percentile_normalize(np.zeros(shape))
