from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import metrics

from napari_unet.ops.errors import InputError
from napari_unet.ops.metrics import boundary_segments, rand_error, v_info, v_rand

small_pairs = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(*[arrays(np.int32, shape, elements=st.integers(0, 3))] * 2)
)
# Rows: split in the middle, one pixel predicted as border.
TRUTH = np.array([[1, 1, 1, 1, 0, 2, 2]])
PREDICTION = np.array([[5, 5, 8, 8, 8, 0, 9]])


def with_singletons(prediction, truth):
    """The pixels of true objects, as lists; each predicted border pixel is its own segment."""
    p, t = prediction[truth > 0].astype(int), truth[truth > 0].astype(int)
    border = p == 0
    p[border] = p.max(initial=0) + 1 + np.arange(border.sum())
    return p, t


def blobs(rng, shape=(60, 70)):
    return boundary_segments(ndimage.gaussian_filter(rng.normal(size=shape), 2) > -0.05)


def test_values_by_hand():
    # Pairs within the truth: 16 + 4; within the prediction: 4 + 4 + 1 + 1, all of them right.
    rand = v_rand(PREDICTION, TRUTH)
    assert (rand.split, rand.merge) == (pytest.approx(10 / 20), 1.0)
    assert rand.score == pytest.approx(2 * 0.5 / 1.5)
    information = v_info(PREDICTION, TRUTH)
    h_truth = -np.log(2 / 3) * 2 / 3 - np.log(1 / 3) / 3
    h_prediction = -2 * np.log(1 / 3) / 3 - 2 * np.log(1 / 6) / 6
    assert information.split == pytest.approx(h_truth / h_prediction)
    assert information.merge == pytest.approx(1.0)
    assert information.score == pytest.approx(2 * h_truth / (h_truth + h_prediction))


def test_splits_lower_split_and_mergers_lower_merge():
    whole = np.ones((4, 8), int)
    halves = whole.copy()
    halves[:, 4:] = 2
    for measure in (v_rand, v_info):
        split, merged = measure(halves, whole), measure(whole, halves)
        assert split.split < 1 == split.merge
        assert merged.merge < 1 == merged.split
        assert split.score == merged.score


@given(small_pairs)
def test_rand_counts_pairs_of_pixels(pair):
    p, t = with_singletons(*pair)
    same_p, same_t = np.equal.outer(p, p), np.equal.outer(t, t)
    scores = v_rand(*pair)
    if not t.size:
        assert (scores.score, scores.split, scores.merge) == (1, 1, 1)
        return
    precision = (same_p & same_t).sum() / same_p.sum()
    recall = (same_p & same_t).sum() / same_t.sum()
    assert (scores.merge, scores.split) == (pytest.approx(precision), pytest.approx(recall))
    assert scores.score == pytest.approx(2 * precision * recall / (precision + recall))
    assert rand_error(*pair) == pytest.approx(1 - scores.score)


@given(small_pairs)
def test_information_agrees_with_scikit_image(pair):
    p, t = with_singletons(*pair)
    if not t.size:
        return
    splits, mergers = metrics.variation_of_information(t, p)  # H(P | T), H(T | P) in bits
    entropy = [
        sum(metrics.variation_of_information(np.zeros_like(labels), labels)) for labels in (p, t)
    ]
    scores = v_info(*pair)
    assert scores.split == pytest.approx(1 - splits / entropy[0] if entropy[0] else 1)
    assert scores.merge == pytest.approx(1 - mergers / entropy[1] if entropy[1] else 1)
    total = sum(entropy)
    assert scores.score == pytest.approx(1 - (splits + mergers) / total if total else 1)


def test_rand_agrees_with_scikit_image_but_for_pairs_of_a_pixel_with_itself(rng):
    truth, prediction = blobs(rng), blobs(rng)
    p, t = with_singletons(prediction, truth)
    # What scikit-image 0.26 calls precision is the share of the pairs of the truth.
    error, recall, precision = metrics.adapted_rand_error(t, p)
    scores = v_rand(prediction, truth)
    positive_t = (np.bincount(t).astype(float) ** 2).sum()
    positive_p = (np.bincount(p).astype(float) ** 2).sum()
    both = scores.split * positive_t
    assert (both - t.size) / (positive_t - t.size) == pytest.approx(recall)
    assert (both - t.size) / (positive_p - t.size) == pytest.approx(precision)
    assert rand_error(prediction, truth) == pytest.approx(error, abs=2e-3)


@given(small_pairs)
def test_scores_lie_within_bounds_and_the_score_is_the_harmonic_mean(pair):
    for measure in (v_rand, v_info):
        scores = measure(*pair)
        values = (scores.score, scores.split, scores.merge)
        assert all(-1e-12 <= value <= 1 + 1e-12 for value in values)
        if scores.split * scores.merge > 1e-9:
            harmonic = 2 / (1 / scores.split + 1 / scores.merge)
            assert scores.score == pytest.approx(harmonic)


def test_the_numbers_of_the_segments_do_not_matter(rng):
    truth, prediction = blobs(rng), blobs(rng)
    huge = np.where(truth > 0, 2**31 - truth.astype(np.int64), 0)
    for measure in (v_rand, v_info):
        expected = measure(prediction, truth)
        for kind in (np.uint16, np.int64):
            assert measure(prediction.astype(kind), huge) == pytest.approx(expected, abs=1e-12)


def test_border_of_the_truth_is_left_out_wherever_it_is_predicted(rng):
    truth = blobs(rng)
    prediction = truth + 100 * (truth == 0)
    for measure in (v_rand, v_info):
        scores = measure(prediction, truth)
        assert (scores.score, scores.split, scores.merge) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize("measure", [v_rand, v_info])
def test_corner_cases(measure, rng):
    nothing, one = np.zeros((5, 6), int), np.ones((5, 6), bool)
    truth = blobs(rng)
    ones = pytest.approx((1, 1, 1))

    def scores(prediction, truth):
        found = measure(prediction, truth)
        return found.score, found.split, found.merge

    assert scores(truth, truth) == ones
    assert scores(one, one) == ones
    assert scores(nothing, nothing) == scores(one, nothing) == ones
    # All border: every pixel alone, nothing is merged.
    assert scores(nothing, one)[2] == pytest.approx(1)
    assert scores(nothing, one)[0] < 0.1
    with pytest.raises(InputError, match="cannot be compared"):
        measure(one, one.T)
    with pytest.raises(InputError, match="negative"):
        measure(nothing - 1, one)


def test_segments_are_4_connected():
    interior = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [0, 0, 1, 0], [1, 0, 0, 1]], bool)
    expected = [[1, 1, 0, 2], [1, 0, 2, 2], [0, 0, 2, 0], [3, 0, 0, 4]]
    for mask in (interior, interior.astype(np.uint8) * 255):
        segments = boundary_segments(mask)
        assert segments.dtype == np.int32
        np.testing.assert_array_equal(segments, expected)


def test_thinned_borders_are_lines_between_the_same_segments(rng):
    interior = ndimage.gaussian_filter(rng.normal(size=(60, 70)), 3) > 0
    wide, thin = boundary_segments(interior), boundary_segments(interior, thin=True)
    np.testing.assert_array_equal(thin[interior], wide[interior])
    assert (thin == 0).sum() < 0.2 * (wide == 0).sum()
    assert boundary_segments(thin > 0).max() == wide.max()
    # A line has segments on both sides of it: no pixel of it is amid border.
    assert not ndimage.minimum_filter(thin == 0, size=3).any()


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("thin", [False, True])
def test_segments_of_nothing_and_of_everything(value, thin):
    segments = boundary_segments(np.full((4, 5), value), thin)
    np.testing.assert_array_equal(segments, np.full((4, 5), value))


def test_a_border_thinned_in_prediction_costs_nothing_where_it_lies_right():
    truth = np.ones((9, 9), bool)
    truth[:, 4] = False
    wide = truth.copy()
    wide[:, 2:7] = False
    for measure in (v_rand, v_info):
        thick, thin = (
            measure(boundary_segments(wide, thin), boundary_segments(truth)).score
            for thin in (False, True)
        )
        assert thick < 0.9
        assert thin == pytest.approx(1)


def test_every_labelling_of_two_by_two_is_scored():
    for values in product(range(3), repeat=8):
        pair = np.array(values).reshape(2, 2, 2)
        assert 0 <= v_rand(*pair).score <= 1
