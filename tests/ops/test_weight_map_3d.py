"""Distances, weights and objects of stacks, against their definitions on small arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.ops.distances import border_distances, grow_box
from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import (
    class_labels,
    connected_instances,
    fill_holes,
    seeded_instances,
    watershed_instances,
)
from napari_unet.ops.targets import instance_annotations
from napari_unet.ops.weight_map import annotation_weights, separate_touching, weight_map

SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (2.5, 1.0, 1.0), (0.3, 0.1, 0.1), (1.0, 0.7, 1.3)])


def blobs(seed, shape=(5, 9, 8), share=0.04):
    """A few scattered objects of one or more voxels, numbered with gaps."""
    seeds = np.random.default_rng(seed).random(shape) < share
    labels, _ = ndimage.label(seeds, np.ones((3, 3, 3)))
    return labels * 3


def brute_distances(labels, spacing):
    """The nearest and the second-nearest object of every voxel, by going through all objects."""
    values = [value for value in np.unique(labels) if value]
    places = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"), -1) * spacing
    found = np.full((max(len(values), 2), *labels.shape), np.inf)
    for number, value in enumerate(values):
        voxels = np.argwhere(labels == value) * spacing
        offsets = places[..., None, :] - voxels
        found[number] = np.sqrt((offsets**2).sum(-1)).min(-1)
    ordered = np.sort(found, axis=0)
    return ordered[0], ordered[1]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), spacing=SPACINGS, share=st.sampled_from([0.01, 0.04, 0.15]))
def test_distances_are_those_of_the_definition(seed, spacing, share):
    labels = blobs(seed, share=share)
    expected = brute_distances(labels, spacing)
    for found, wanted in zip(border_distances(labels, spacing=spacing), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), spacing=SPACINGS, reach=st.floats(0.1, 8))
def test_a_reach_leaves_out_what_lies_further(seed, spacing, reach):
    labels = blobs(seed)
    d1, d2 = border_distances(labels, reach, spacing)
    wanted, second = brute_distances(labels, spacing)
    np.testing.assert_allclose(d1, wanted, rtol=1e-9)
    near = wanted + second <= reach * (1 - 1e-9)
    np.testing.assert_allclose(d2[near], second[near], rtol=1e-9)
    assert np.isinf(d2[wanted + second > reach * (1 + 1e-9)]).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), spacing=SPACINGS, sigma=st.sampled_from([0.4, 2.0]))
def test_weights_are_those_of_equation_2(seed, spacing, sigma):
    labels = blobs(seed)
    d1, d2 = brute_distances(labels, spacing)
    with np.errstate(invalid="ignore"):
        border = np.where(labels == 0, 10 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)
    found = weight_map(labels, 10.0, sigma, balance=0.0, spacing=spacing)
    np.testing.assert_allclose(found, 1 + border, rtol=1e-5, atol=1e-5)


def test_numbering_does_not_matter():
    labels = blobs(3)
    other = np.random.default_rng(0).permutation(1000)[labels] + 1
    other[labels == 0] = 0
    spacing = (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(
        weight_map(labels, spacing=spacing), weight_map(other, spacing=spacing)
    )


def test_a_unit_changes_nothing():
    labels = blobs(4)
    in_pixels = weight_map(labels, sigma=2.0, spacing=(2, 1, 1))
    in_micrometres = weight_map(labels, sigma=0.2, spacing=(0.2, 0.1, 0.1))
    np.testing.assert_allclose(in_micrometres, in_pixels, rtol=1e-5)


def test_far_planes_weigh_less():
    """Two objects above each other, with a gap: the further the planes, the less the border."""
    labels = np.zeros((5, 3, 3), int)
    labels[0], labels[4] = 1, 2
    near, far = (
        weight_map(labels, sigma=3.0, balance=0.0, spacing=(distance, 1, 1))[2, 1, 1]
        for distance in (1, 3)
    )
    assert near == pytest.approx(1 + 10 * np.exp(-(4**2) / 18), rel=1e-5)
    assert far == pytest.approx(1 + 10 * np.exp(-(12**2) / 18), rel=1e-5)


@pytest.mark.parametrize("window", [np.s_[1:3, 2:7, 0:4], np.s_[4:5, 8:9, 7:8]])
def test_a_window_has_the_values_of_the_whole(window):
    labels, spacing = blobs(5), (2.0, 1.0, 1.0)
    whole = weight_map(labels, sigma=1.0, spacing=spacing)
    np.testing.assert_allclose(
        weight_map(labels, sigma=1.0, window=window, spacing=spacing), whole[window], rtol=1e-6
    )


def test_a_plane_is_an_image():
    labels = blobs(6, (1, 20, 20))
    np.testing.assert_allclose(
        weight_map(labels, spacing=(1, 1, 1))[0], weight_map(labels[0]), rtol=1e-6
    )


def test_strokes_on_some_planes_weigh_there_alone():
    strokes = np.zeros((5, 8, 8), np.uint8)
    strokes[2, 1:3], strokes[2, 5:7] = 1, 2
    weights = annotation_weights(strokes, spacing=(3, 1, 1))
    assert (weights[2][strokes[2] > 0] > 0).all()
    assert not weights[strokes == 0].any()


def test_touching_objects_are_parted_across_planes():
    labels = np.zeros((6, 5, 5), int)
    labels[:3], labels[3:] = 1, 2
    parted = separate_touching(labels, ndim=3)
    assert ndimage.label(parted > 0, np.ones((3, 3, 3)))[1] == 2
    assert set(np.unique(parted)) == {0, 1, 2}


def test_outlines_follow_the_spacing():
    labels = np.zeros((5, 9, 9), int)
    labels[1:4, 2:7, 2:7] = 1
    near = instance_annotations(labels, "inner", spacing=(1, 1, 1))
    far = instance_annotations(labels, "inner", spacing=(3, 1, 1))
    assert (near[1, 4, 4], near[2, 4, 4]) == (3, 2)
    assert (far[1, 4, 4], far[1, 2, 4]) == (2, 3)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, 1, np.nan), (1, 1, 1, 1)])
def test_a_spacing_that_does_not_fit_is_refused(spacing):
    with pytest.raises(InputError, match=r"spacing|shape"):
        weight_map(np.zeros((3, 4, 5), int), spacing=spacing)


def test_a_stack_without_spacing_is_refused():
    with pytest.raises(InputError, match="one plane"):
        weight_map(np.zeros((3, 4, 5), int))


def test_margins_are_in_the_unit_of_the_spacing():
    outer, inner = grow_box(np.s_[2:3, 4:6, 4:6], 0.3, (10, 10, 10), (0.3, 0.1, 0.1))
    assert outer == np.s_[1:4, 1:9, 1:9]
    assert inner == np.s_[1:2, 3:5, 3:5]


# ------------------------------------------------------------------------------- objects


def two_balls(spacing=(2.0, 1.0, 1.0)):
    """Two balls that touch, in physical units, and the plane's distance between their middles."""
    places = np.stack(np.meshgrid(*map(np.arange, (12, 24, 40)), indexing="ij"), -1) * spacing
    middles = [(12, 12, 12), (12, 12, 26)]
    inside = [((places - middle) ** 2).sum(-1) <= 64 for middle in middles]
    return (inside[0] | inside[1]).astype(np.float32)


def test_the_watershed_parts_balls_of_a_stack():
    probability = two_balls()
    assert connected_instances(probability > 0.5, ndim=3).max() == 1
    found = watershed_instances(probability, spacing=(2, 1, 1))
    assert found.max() == 2
    assert (found > 0).sum() == probability.sum()
    sizes = np.bincount(found.ravel())[1:]
    assert sizes.min() > 0.9 * sizes.max()


def test_seeds_part_balls_of_a_stack():
    probability = two_balls()
    sure = ndimage.gaussian_filter(probability, (1, 2, 2))
    found = seeded_instances(probability, sure, seed_threshold=0.95, spacing=(2, 1, 1))
    assert found.max() == 2
    assert (found > 0).sum() == probability.sum()


def test_corners_across_planes_touch():
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert connected_instances(mask, 0, ndim=3).max() == 1


def test_holes_within_an_object_are_filled():
    labels = np.zeros((5, 5, 5), np.int32)
    labels[1:4, 1:4, 1:4] = 7
    labels[2, 2, 2] = 0
    assert (fill_holes(labels)[1:4, 1:4, 1:4] == 7).all()
    labels[2, 2, :3] = 0  # open to the frame
    assert fill_holes(labels)[2, 2, 2] == 0


def test_classes_of_a_stack():
    probability = np.random.default_rng(0).random((3, 2, 4, 5))
    np.testing.assert_array_equal(class_labels(probability), probability.argmax(0) + 1)
