import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metric_references import THRESHOLDS, image_pairs, matching_of_stardist, seg_of_ctc

from napari_unet.ops.errors import InputError
from napari_unet.ops.metrics import (
    IOU_THRESHOLDS,
    ObjectScores,
    PanopticQuality,
    average_precision,
    match_objects,
    panoptic_quality,
    seg,
    seg_per_object,
)

small_pairs = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: st.tuples(
        *[arrays(np.int32, shape, elements=st.sampled_from([0, 0, 1, 2, 3, 900]))] * 2
    )
)
# Values of the packages that scripts/metric_references.py names, printed by it.
SEG = (0.429460377969, 0.496622313377, 0.501939359666)
# Threshold: average precision of the set and by image, panoptic quality of the set, tp, fp, fn.
STARDIST = {
    0.3: (0.641304347826, 0.642361111111, 0.496264628227, 59, 20, 13),
    0.51: (0.398148148148, 0.398348348348, 0.399794824865, 43, 36, 29),
    0.61: (0.258333333333, 0.26107083451, 0.31091162069, 31, 48, 41),
    0.71: (0.135338345865, 0.136231884058, 0.195499091748, 18, 61, 54),
    0.81: (0.055944055944, 0.056840513983, 0.095781945235, 8, 71, 64),
    0.91: (0.02027027027, 0.02085106383, 0.039735099338, 3, 76, 69),
}
NOTHING = np.zeros((4, 6), int)
TRUTH = np.array([[1, 1, 1, 1, 0, 2], [1, 1, 1, 1, 0, 2], [0, 0, 0, 0, 0, 2], [3, 3, 0, 0, 0, 2]])
# 6 of the 8 pixels of the first; 3 of the 4 of the second and 2 more; nothing; one made up.
PREDICTION = np.array(
    [[7, 7, 7, 0, 9, 9], [7, 7, 7, 0, 9, 9], [0, 0, 0, 0, 0, 9], [0, 0, 4, 4, 0, 0]]
)


def scores_of(pairs, thresholds):
    scores = ObjectScores(thresholds)
    for prediction, truth in pairs:
        scores.add(match_objects(prediction, truth))
    return scores


def test_values_by_hand():
    match = match_objects(PREDICTION, TRUTH)
    assert (match.predicted, match.true) == (3, 3)
    assert match.iou == pytest.approx([6 / 8, 3 / 6])
    assert average_precision(match, (0.49, 0.5, 0.7, 0.75)) == pytest.approx(
        [2 / 4, 1 / 5, 1 / 5, 0]
    )
    assert seg(PREDICTION, TRUTH) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    quality = panoptic_quality(match)
    assert (quality.sq, quality.rq) == (pytest.approx(3 / 4), pytest.approx(1 / 3))
    assert quality.pq == pytest.approx(1 / 4)


@pytest.mark.parametrize("pair", range(3))
def test_seg_agrees_with_the_python_edition_of_the_cell_tracking_challenge(pair):
    assert seg(*image_pairs()[pair]) == pytest.approx(SEG[pair])


@pytest.mark.parametrize("threshold", STARDIST)
def test_matching_agrees_with_stardist(threshold):
    scores = scores_of(image_pairs(), (threshold,))
    precision, by_image, quality, *counts = STARDIST[threshold]
    assert [scores.found[0], scores.spurious[0], scores.missed[0]] == counts
    assert scores.average_precision()[0] == pytest.approx(precision)
    assert scores.average_precision_by_image().mean() == pytest.approx(by_image)
    assert scores.panoptic_quality().pq == pytest.approx(quality)


def test_the_values_of_other_packages_still_stand():
    pytest.importorskip("ctc_metrics")
    assert [seg_of_ctc(*pair) for pair in image_pairs()] == pytest.approx(SEG)


def test_the_values_of_stardist_still_stand():
    pytest.importorskip("stardist.matching")
    for threshold in THRESHOLDS:
        precision, by_image, quality, *counts = STARDIST[threshold]
        pooled = matching_of_stardist(image_pairs(), threshold, by_image=False)
        assert pooled == pytest.approx((precision, quality, *counts))
        assert matching_of_stardist(image_pairs(), threshold, True)[0] == pytest.approx(by_image)


@given(small_pairs)
def test_overlaps_agree_with_counting(pair):
    prediction, truth = pair
    match = match_objects(*pair)
    counted = Counter(zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True))
    of_p, of_t = np.unique(prediction[prediction > 0]), np.unique(truth[truth > 0])
    assert (match.predicted, match.true) == (len(of_p), len(of_t))
    found = {
        (of_p[row], of_t[column]): (pixels, iou)
        for row, column, pixels, iou in zip(
            match.rows, match.columns, match.intersection, match.iou, strict=True
        )
    }
    assert found.keys() == {key for key in counted if 0 not in key}
    for (p, t), (pixels, iou) in found.items():
        assert pixels == counted[p, t]
        assert iou == pixels / ((prediction == p) | (truth == t)).sum()


@given(small_pairs, st.floats(0.5, 1))
def test_from_a_half_on_no_object_has_two_partners(pair, threshold):
    match = match_objects(*pair)
    above = match.iou > threshold
    assert len(set(match.rows[above])) == len(set(match.columns[above])) == above.sum()
    assert match.matched(threshold) == (above.sum(), pytest.approx(match.iou[above].sum()))


@given(small_pairs)
def test_more_overlap_asked_for_finds_no_more(pair):
    precision = average_precision(match_objects(*pair), np.linspace(0, 1, 21))
    assert (np.diff(precision) <= 0).all()
    assert ((precision >= 0) & (precision <= 1)).all()


@given(small_pairs)
def test_prediction_and_truth_may_be_swapped_but_for_seg(pair):
    there, back = match_objects(*pair), match_objects(*pair[::-1])
    for threshold in (0.2, 0.5, 0.8):
        assert there.matched(threshold) == pytest.approx(back.matched(threshold))


def test_below_a_half_the_best_matching_is_not_the_greedy_one():
    truth = np.repeat([[1, 2, 0]], [6, 5, 1], axis=1)
    prediction = np.repeat([[2, 1, 0]], [2, 7, 3], axis=1)
    match = match_objects(prediction, truth)
    assert match.iou == pytest.approx([4 / 9, 3 / 9, 2 / 6])  # 1 on 1, 1 on 2, 2 on 1
    # The best pair first would leave the second true object without a partner.
    assert match.matched(0.2) == (2, pytest.approx(3 / 9 + 2 / 6))
    assert match.matched(0.4) == (1, pytest.approx(4 / 9))


def test_the_two_conventions_differ_where_images_have_unlike_numbers_of_objects():
    empty_handed = (NOTHING, np.arange(1, 25).reshape(4, 6))
    scores = scores_of([(TRUTH, TRUTH), empty_handed], (0.5,))
    np.testing.assert_array_equal(scores.average_precision_by_image(), [[1], [0]])
    assert scores.average_precision() == pytest.approx([3 / 27])
    assert scores.precision() == [1]
    assert scores.recall() == pytest.approx([3 / 27])
    assert scores.f1() == pytest.approx([6 / 30])
    assert scores.seg() == pytest.approx(3 / 27)


def test_a_set_of_one_image_scores_as_the_image():
    match = match_objects(PREDICTION, TRUTH)
    scores = scores_of([(PREDICTION, TRUTH)], IOU_THRESHOLDS)
    np.testing.assert_array_equal(scores.average_precision(), average_precision(match))
    assert scores.panoptic_quality() == panoptic_quality(match)
    assert scores.seg() == seg(PREDICTION, TRUTH)


def all_scores(prediction, truth):
    match = match_objects(prediction, truth)
    return average_precision(match, (0.5,))[0], panoptic_quality(match), seg(prediction, truth)


def test_corner_cases():
    one = np.ones((4, 6), bool)
    perfect, worst = PanopticQuality(1, 1, 1), PanopticQuality(0, 0, 0)
    assert all_scores(TRUTH, TRUTH) == (1, perfect, 1)
    assert all_scores(one, one) == (1, perfect, 1)
    assert all_scores(NOTHING, one) == (0, worst, 0)
    precision, quality, unknown = all_scores(NOTHING, NOTHING)
    assert (precision, quality) == (1, perfect)
    assert np.isnan(unknown)
    precision, quality, unknown = all_scores(one, NOTHING)
    assert (precision, quality) == (0, worst)
    assert np.isnan(unknown)
    disjoint = np.where(TRUTH == 0, 1, 0)
    assert all_scores(disjoint, TRUTH) == (0, worst, 0)
    assert seg_per_object(match_objects(one, NOTHING)).shape == (0,)


def test_a_set_without_images():
    scores = ObjectScores((0.5, 0.7))
    np.testing.assert_array_equal(scores.average_precision(), [1, 1])
    assert scores.average_precision_by_image().shape == (0, 2)
    assert scores.panoptic_quality() == PanopticQuality(1, 1, 1)
    assert np.isnan(scores.seg())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64])
def test_the_numbers_of_the_objects_do_not_matter(kind):
    numbers = np.array([0, 3, 1, 2]) if kind != np.int64 else np.array([0, 2**31, 5, 2**31 - 1])
    renumbered = numbers.astype(kind)[TRUTH]
    assert all_scores(PREDICTION.astype(kind), renumbered) == all_scores(PREDICTION, TRUTH)


def test_what_cannot_be_compared_is_refused():
    for measure in (seg, match_objects):
        with pytest.raises(InputError, match="cannot be compared"):
            measure(NOTHING, NOTHING.T)
        with pytest.raises(InputError, match="negative"):
            measure(NOTHING - 1, NOTHING)
    for threshold in (-0.1, 1.1):
        with pytest.raises(InputError, match="threshold"):
            average_precision(match_objects(TRUTH, TRUTH), (threshold,))


def test_a_thousand_objects_take_no_time():
    rows, columns = np.indices((2048, 2048)) // 64
    truth = rows * 32 + columns + 1
    prediction = np.roll(truth, (9, 5), (0, 1))
    started = time.perf_counter()
    match = match_objects(prediction, truth)
    precision = average_precision(match, (0.3, *IOU_THRESHOLDS))
    panoptic_quality(match)
    assert time.perf_counter() - started < 5  # 0.2 s on an idle core
    assert match.true == 1024
    assert precision[0] > 0.9
