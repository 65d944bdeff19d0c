import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_images import brute_force, scattered, small_labels
from scipy import ndimage

from napari_unet.ops import distances as module
from napari_unet.ops.distances import border_distances
from napari_unet.ops.errors import InputError

quick = settings(max_examples=30, deadline=None)


def test_two_objects_on_a_line():
    d1, d2 = border_distances([[1, 0, 0, 0, 0, 7]])
    np.testing.assert_array_equal(d1, [[0, 1, 2, 2, 1, 0]])
    np.testing.assert_array_equal(d2, [[5, 4, 3, 3, 4, 5]])


def test_no_object_is_infinitely_far():
    d1, d2 = border_distances(np.zeros((3, 4), np.uint8))
    assert np.isinf(d1).all()
    assert np.isinf(d2).all()


def test_one_object_has_no_second():
    labels = np.zeros((5, 6), np.uint8)
    labels[2, 1] = 3
    d1, d2 = border_distances(labels)
    np.testing.assert_allclose(d1, brute_force(labels)[0], rtol=1e-12)
    assert np.isinf(d2).all()


@quick
@given(small_labels)
def test_exact_on_any_labels(labels):
    for ours, expected in zip(border_distances(labels), brute_force(labels), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("first", [0, 1, 3, 99])
@pytest.mark.parametrize("seed", range(3))
def test_exact_on_many_objects_whenever_windows_begin(seed, first, monkeypatch):
    monkeypatch.setattr(module, "_are_worth_it", lambda w, size, bit, digits: bit >= first)
    labels = scattered(np.random.default_rng(seed))
    for ours, brute in zip(border_distances(labels), brute_force(labels), strict=True):
        np.testing.assert_allclose(ours, brute, rtol=1e-12)


@quick
@given(small_labels, st.floats(0, 12))
def test_exact_within_reach_and_infinite_beyond(labels, reach):
    d1, d2 = border_distances(labels, reach)
    exact1, exact2 = brute_force(labels)
    exact2[exact1 + exact2 > reach] = np.inf
    np.testing.assert_allclose(d1, exact1, rtol=1e-12)
    np.testing.assert_allclose(d2, exact2, rtol=1e-12)


@pytest.mark.parametrize("first", [0, 1, 3, 99])
@pytest.mark.parametrize("reach", [3.0, 10.0, 25.5])
def test_a_finite_reach_on_many_objects(reach, first, rng, monkeypatch):
    monkeypatch.setattr(module, "_are_worth_it", lambda w, size, bit, digits: bit >= first)
    labels = scattered(rng, count=60, largest=5)
    exact1, exact2 = brute_force(labels)
    near = exact1 + exact2 <= reach
    _, d2 = border_distances(labels, reach)
    np.testing.assert_allclose(d2[near], exact2[near], rtol=1e-12)
    assert near.any()
    assert np.isinf(d2[~near]).all()


def test_an_object_in_pieces_is_one_object():
    _, d2 = border_distances([[4, 0, 4, 0, 0, 0, 6]])
    np.testing.assert_array_equal(d2, [[6, 5, 4, 3, 2, 3, 4]])


@pytest.mark.parametrize("reach", [5.0, 50.0, math.inf])
def test_the_cost_does_not_grow_as_objects_times_pixels(reach, monkeypatch):
    seen = []
    transform = ndimage.distance_transform_edt

    def counted(image, **options):
        seen.append(image.size)
        return transform(image, **options)

    monkeypatch.setattr(ndimage, "distance_transform_edt", counted)
    labels = np.zeros((100, 100), np.int32)
    labels[50, ::2] = np.arange(1, 51)
    border_distances(labels, reach)
    assert sum(seen) <= (1 + 2 * 6) * labels.size  # 2**6 > 50 objects


@pytest.mark.parametrize("reach", [-1, math.nan])
def test_an_impossible_reach_is_refused(reach):
    with pytest.raises(InputError, match="reach"):
        border_distances(np.ones((2, 2), int), reach)
