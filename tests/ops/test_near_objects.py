"""The two nearest objects within a reach, against one distance transform per object."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_images import brute_force, scattered, small_labels

from napari_unet.ops import near_objects, weight_map
from napari_unet.ops.labels import runs
from napari_unet.ops.near_objects import two_squared_distances

quick = settings(max_examples=60, deadline=None)


def whole(labels):
    return tuple(slice(0, length) for length in labels.shape)


def check(labels, part, reach):
    """Compare with the definition on the background of a part, and return how much was near."""
    d1, d2 = (each[part] for each in brute_force(labels))
    nearest, second = (each.T for each in two_squared_distances(labels, part, reach))
    background = labels[part] == 0
    near = background & (d1 + d2 <= reach)
    np.testing.assert_allclose(np.sqrt(nearest[near].astype(float)), d1[near])
    np.testing.assert_allclose(np.sqrt(second[near].astype(float)), d2[near])
    far = background & ~near
    found = second <= reach**2
    total = np.sqrt(nearest.astype(float)) + np.sqrt(second.astype(float))
    assert (total[far & found] > reach).all()
    np.testing.assert_array_equal(nearest == 0, ~background)
    return near.sum()


@quick
@given(small_labels, st.floats(0, 30))
def test_exact_within_the_reach_and_nothing_near_beyond(labels, reach):
    check(labels, whole(labels), reach)


@pytest.mark.parametrize("reach", [6.0, 30.35, near_objects.LONGEST_REACH])
def test_objects_of_many_pixels(reach, rng):
    labels = scattered(rng, (70, 300))
    assert check(labels, whole(labels), reach) > 100


def test_a_part_is_that_of_the_whole(rng):
    labels = scattered(rng)
    part = slice(31, 64), slice(2, 109)
    assert check(labels, part, 25.0) > 100


def test_columns_taken_together_do_not_matter(rng, monkeypatch):
    labels = scattered(rng)
    expected = two_squared_distances(labels, whole(labels), 20.0)
    monkeypatch.setattr(near_objects, "_COLUMNS", 7)
    np.testing.assert_array_equal(two_squared_distances(labels, whole(labels), 20.0), expected)


def test_large_numbers_of_objects_keep_apart(rng):
    labels = scattered(rng)
    # In 16 bits these would be one object, and that with the number 65,536 none.
    labels[labels == 2] = 1 + 2**16
    labels[labels == 3] = 2**16
    assert check(labels, whole(labels), 20.0) > 100


@pytest.mark.parametrize("function", [weight_map.weight_map, weight_map.annotation_weights])
def test_weights_are_those_by_distance_transforms(function, rng, monkeypatch):
    labels = scattered(rng, (140, 90), 60)
    near = function(labels)
    monkeypatch.setattr(weight_map, "LONGEST_REACH", 0.0)
    by_transforms = function(labels)
    assert (by_transforms > 1.5 * by_transforms[labels == 0].min()).any()
    np.testing.assert_allclose(near, by_transforms, rtol=1e-6)


@pytest.mark.parametrize("cores", [1, 3])
def test_neither_rows_taken_together_nor_threads_matter(cores, rng, monkeypatch):
    labels = scattered(rng)
    expected = weight_map.weight_map(labels)
    monkeypatch.setattr(weight_map, "_ROWS", 11)
    monkeypatch.setattr(weight_map, "usable_cores", lambda: cores)
    np.testing.assert_array_equal(weight_map.weight_map(labels), expected)


def test_the_unit_of_square_pixels_does_not_matter(rng):
    labels = scattered(rng)
    np.testing.assert_allclose(
        weight_map.weight_map(labels, sigma=1.5, spacing=(0.3, 0.3)),
        weight_map.weight_map(labels, sigma=5.0),
        rtol=1e-6,
    )


def test_runs_of_equal_values_put_together_are_the_image():
    labels = np.array([[0, 0, 3], [3, 3, 1], [1, 0, 0]])
    starts, values = runs(labels)
    np.testing.assert_array_equal(starts, [0, 2, 5, 7])
    np.testing.assert_array_equal(values, [0, 3, 1, 0])
    again = np.repeat(values, np.diff(starts, append=labels.size))
    np.testing.assert_array_equal(again.reshape(labels.shape), labels)
