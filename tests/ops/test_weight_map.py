import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_images import brute_force, scattered, small_labels

from napari_unet.ops.errors import InputError
from napari_unet.ops.weight_map import (
    annotation_weights,
    border_distances,
    separate_touching,
    weight_map,
)

quick = settings(max_examples=30, deadline=None)


class TestWeightMap:
    def test_equals_the_papers_formula(self, rng):
        labels = scattered(rng)
        separated = separate_touching(labels)
        d1, d2 = brute_force(separated)
        background = separated == 0
        share = background.mean()
        expected = np.where(background, 0.5 / share, 0.5 / (1 - share))
        expected += background * 10 * np.exp(-((d1 + d2) ** 2) / (2 * 5**2))
        weights = weight_map(labels)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, expected, rtol=1e-6)

    @pytest.mark.parametrize(("w0", "sigma"), [(1.0, 0.5), (3.0, 20.0), (10.0, 1e4), (5.0, 1e-200)])
    def test_any_width_of_the_border_term(self, w0, sigma, rng):
        labels = scattered(rng, (40, 50), 12)
        separated = separate_touching(labels)
        d1, d2 = brute_force(separated)
        with np.errstate(over="ignore"):
            border = w0 * np.exp(-0.5 * ((d1 + d2) / sigma) ** 2)
        expected = 1 + (separated == 0) * border
        np.testing.assert_allclose(weight_map(labels, w0, sigma, balance=0), expected, rtol=1e-6)

    @quick
    @given(small_labels, st.randoms(use_true_random=False))
    def test_numbering_does_not_matter(self, labels, random):
        numbers = random.sample(range(1, 1000), 50)
        renumbered = np.where(labels > 0, np.array(numbers)[labels], 0)
        np.testing.assert_array_equal(weight_map(renumbered), weight_map(labels))

    @pytest.mark.parametrize("labels", [np.zeros((6, 7)), np.ones((6, 7)), np.eye(6)])
    def test_fewer_than_two_objects_have_no_border_term(self, labels):
        np.testing.assert_allclose(weight_map(labels, balance=0), 1)
        np.testing.assert_array_equal(weight_map(labels, w0=50), weight_map(labels, w0=0))

    def test_the_ridge_of_touching_objects_is_heaviest(self):
        labels = np.ones((21, 40), int)
        labels[:, 20:] = 2
        weights = weight_map(labels, balance=0)
        assert (weights > 8).sum() == 21  # d1 + d2 = 2 on a ridge one pixel wide
        np.testing.assert_allclose(weights.max(), 1 + 10 * math.exp(-4 / 50), rtol=1e-6)
        assert (weights == 1).sum() == 21 * 39

    @pytest.mark.parametrize("balance", [0, 0.5, 1])
    def test_class_weights_have_mean_one(self, balance, rng):
        labels = scattered(rng)
        assert weight_map(labels, w0=0, balance=balance).mean() == pytest.approx(1, abs=1e-5)

    def test_full_balance_gives_both_classes_the_same_total(self):
        labels = np.zeros((10, 10), int)
        labels[:2] = 1
        weights = weight_map(labels)
        assert weights[:2].sum() == pytest.approx(50)
        assert weights[2:].sum() == pytest.approx(50)
        np.testing.assert_allclose(weight_map(labels, balance=0), 1)

    @pytest.mark.parametrize(
        "dtype", [bool, "i1", "u1", "<i2", ">i2", ">u4", "<u8", ">i8", "f2", ">f4", "f8"]
    )
    def test_every_label_dtype(self, dtype):
        labels = np.zeros((12, 12), dtype)
        labels[2:5, 2:5] = labels[7:10, 2:5] = 1
        reference = labels.astype(int)
        if dtype is not bool:
            labels[7:10] *= 3
            reference[7:10] *= 3
        np.testing.assert_array_equal(weight_map(labels), weight_map(reference))

    def test_huge_label_values(self):
        labels = np.zeros((9, 9), np.uint64)
        labels[1, 1], labels[1, 5] = 2**64 - 1, 2**63
        small = np.zeros((9, 9), int)
        small[1, 1], small[1, 5] = 1, 2
        np.testing.assert_array_equal(weight_map(labels), weight_map(small))
        filled = np.where(labels == 0, np.uint64(2**62), labels)
        np.testing.assert_array_equal(weight_map(filled), weight_map(small + 1))

    @pytest.mark.parametrize(
        ("labels", "says"),
        [
            (np.full((3, 3), -1), "negative"),
            (np.full((3, 3), -1.0), "negative"),
            (np.full((3, 3), 0.5), "fractions.*round"),
            (np.full((3, 3), np.nan), "fractions or NaN"),
            (np.full((3, 3), 1e300), "renumber"),
            (np.zeros((0, 3), int), "one plane"),
            (np.zeros(3, int), "one plane"),
            (np.zeros((2, 3, 3), int), "one plane"),
            (np.zeros((3, 3), complex), "complex.*convert"),
            (np.zeros((3, 3), object), "object.*convert"),
        ],
    )
    @pytest.mark.parametrize(
        "function", [weight_map, annotation_weights, border_distances, separate_touching]
    )
    def test_unusable_labels_are_refused_with_a_cure(self, function, labels, says):
        with pytest.raises(InputError, match=says):
            function(labels)

    @pytest.mark.parametrize("function", [weight_map, annotation_weights])
    @pytest.mark.parametrize(
        ("parameters", "says"),
        [
            ({"w0": -1}, "w0 = -1"),
            ({"w0": math.nan}, "w0"),
            ({"w0": math.inf}, "w0"),
            ({"sigma": 0}, "sigma = 0"),
            ({"sigma": -3}, "sigma"),
            ({"sigma": math.nan}, "sigma"),
            ({"sigma": math.inf}, "sigma"),
            ({"balance": -0.1}, "balance"),
            ({"balance": 2}, "balance"),
            ({"balance": math.nan}, "balance"),
        ],
    )
    def test_impossible_parameters_are_refused(self, function, parameters, says):
        with pytest.raises(InputError, match=says):
            function(np.eye(4, dtype=int), **parameters)

    def test_a_thousand_cells_take_seconds(self, rng):
        labels = scattered(rng, (1024, 1024), 1000, 25)
        start = time.perf_counter()
        weight_map(labels)
        # A tenth of a second or two here; brute force needs 1000 x 0.1 s.
        assert time.perf_counter() - start < 10


def touching_pairs(labels):
    """Pairs of objects with 8-connected pixels."""
    pairs = set()
    padded = np.pad(labels, 1)
    for shift in [(0, 1), (1, 0), (1, 1), (1, -1)]:
        other = np.roll(padded, shift, (0, 1))
        both = (padded > 0) & (other > 0) & (padded != other)
        pairs |= set(zip(padded[both].tolist(), other[both].tolist(), strict=True))
    return pairs


class TestSeparateTouching:
    def test_the_larger_object_gives_way_by_one_pixel(self):
        np.testing.assert_array_equal(
            separate_touching([[1, 1, 1, 1, 2, 2, 0, 0]]), [[1, 1, 1, 0, 2, 2, 0, 0]]
        )
        np.testing.assert_array_equal(separate_touching([[3, 3, 1, 1]]), [[3, 3, 0, 1]])
        np.testing.assert_array_equal(separate_touching([[1, 1, 3, 3]]), [[1, 1, 0, 3]])

    def test_diagonal_contact_is_contact(self):
        labels = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 2]])
        np.testing.assert_array_equal(separate_touching(labels), [[1, 1, 0], [1, 0, 0], [0, 0, 2]])

    def test_separate_objects_stay_as_they_are(self):
        labels = np.array([[1, 1, 0, 2], [0, 0, 0, 2]], np.uint16)
        separated = separate_touching(labels)
        np.testing.assert_array_equal(separated, labels)
        assert separated.dtype == np.uint16
        assert separated is not labels

    @pytest.mark.parametrize("width", [1, 2, 3])
    def test_the_ridge_has_its_width(self, width):
        labels = np.ones((20, 40), int)
        labels[:, 25:] = 2
        separated = separate_touching(labels, width)
        np.testing.assert_array_equal((separated == 0).sum(axis=1), width)
        np.testing.assert_array_equal(separated[separated > 0], labels[separated > 0])

    def test_compact_objects_never_touch_afterwards(self):
        labels = np.arange(1, 37).reshape(6, 6).repeat(5, axis=0).repeat(5, axis=1)
        assert touching_pairs(labels)
        assert not touching_pairs(separate_touching(labels))

    def test_a_thin_object_between_smaller_ones_takes_precedence(self):
        # Object 9 is the largest; it would lose every pixel to the blocks above and below it.
        labels = np.zeros((5, 12), int)
        labels[:2] = np.repeat([1, 2, 3, 4], 3)
        labels[2] = 9
        labels[3:] = np.repeat([5, 6, 7, 8], 3)
        separated = separate_touching(labels)
        assert (separated[2] == 9).all()
        assert set(np.unique(separated)) == set(range(10))
        assert not touching_pairs(separated)

    @quick
    @given(small_labels)
    def test_no_object_vanishes_and_none_grows(self, labels):
        separated = separate_touching(labels)
        np.testing.assert_array_equal(
            np.unique(separated[separated > 0]), np.unique(labels[labels > 0])
        )
        kept = separated > 0
        np.testing.assert_array_equal(separated[kept], labels[kept])

    def test_single_pixels_side_by_side_stay(self):
        labels = np.arange(1, 17).reshape(4, 4)
        assert set(np.unique(separate_touching(labels))) >= set(range(1, 17))

    @quick
    @given(small_labels, st.randoms(use_true_random=False))
    def test_numbering_does_not_matter(self, labels, random):
        numbers = np.array([0, *random.sample(range(1, 1000), 50)])
        np.testing.assert_array_equal(
            separate_touching(numbers[labels]), numbers[separate_touching(labels)]
        )

    def test_no_width_and_negative_width(self):
        labels = np.array([[1, 2]])
        np.testing.assert_array_equal(separate_touching(labels, 0), labels)
        with pytest.raises(InputError, match="width of 0 or more"):
            separate_touching(labels, -1)


class TestWindow:
    @pytest.mark.parametrize("function", [weight_map, annotation_weights])
    @pytest.mark.parametrize("sigma", [0.1, 3.0, 40.0])
    @pytest.mark.parametrize(
        "window",
        [
            (slice(0, 90), slice(0, 110)),
            (slice(20, 50), slice(30, 77)),
            (slice(0, 1), slice(109, 110)),
            (slice(60, 90), slice(0, 15)),
            (slice(60, 500), slice(5, 5)),
        ],
    )
    def test_values_are_those_of_the_whole_map(self, function, sigma, window, rng):
        labels = scattered(rng, largest=7)
        np.testing.assert_array_equal(
            function(labels, sigma=sigma, window=window), function(labels, sigma=sigma)[window]
        )


class TestAnnotationWeights:
    def test_unannotated_pixels_weigh_nothing(self):
        annotations = np.zeros((9, 9), np.uint8)
        annotations[1], annotations[5, :3] = 1, 2
        weights = annotation_weights(annotations)
        assert weights.dtype == np.float32
        np.testing.assert_array_equal(weights > 0, annotations > 0)
        assert not annotation_weights(np.zeros((3, 3), int)).any()

    @pytest.mark.parametrize("balance", [0, 0.5, 1])
    def test_class_weights_have_mean_one_over_annotated_pixels(self, balance):
        annotations = np.repeat([0, 1, 1, 1, 1, 2, 2, 4], 10).reshape(8, 10)
        weights = annotation_weights(annotations, w0=0, balance=balance)
        assert weights[annotations > 0].mean() == pytest.approx(1)

    def test_full_balance_gives_every_class_the_same_total(self):
        annotations = np.repeat([0, 1, 1, 1, 1, 2, 2, 4], 10).reshape(8, 10)
        weights = annotation_weights(annotations, w0=0)
        totals = [weights[annotations == label].sum() for label in (1, 2, 4)]
        np.testing.assert_allclose(totals, 70 / 3, rtol=1e-5)

    def test_background_between_strokes_is_raised(self):
        #                                2 strokes of 2      classes 3 and 2, no gap
        annotations = np.array([[0, 2, 0, 1, 0, 2, 0, 0, 1, 3, 2, 1]])
        weights = annotation_weights(annotations, balance=0)[0]
        np.testing.assert_array_equal(weights[[0, 2, 4, 6, 7]], 0)
        np.testing.assert_array_equal(weights[[1, 5, 9, 10]], 1)
        border = 10 * np.exp(-(np.array([4, 3, 3]) ** 2) / 50)  # d1 + d2 of the background pixels
        np.testing.assert_allclose(weights[[3, 8, 11]], 1 + border, rtol=1e-6)

    def test_one_stroke_has_no_border(self):
        annotations = np.array([[2, 2, 1, 1], [0, 2, 1, 1]])
        np.testing.assert_allclose(annotation_weights(annotations, balance=0), annotations > 0)
