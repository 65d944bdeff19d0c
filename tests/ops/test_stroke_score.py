"""The score on held-out strokes, and how sure it is."""

import numpy as np
import pytest

from napari_unet.ops.stroke_score import deal_strokes, score_strokes


def strokes(*labels, length=10):
    """One stroke a row, a row apart."""
    painted = np.zeros((2 * len(labels), length), np.uint8)
    painted[::2] = np.array(labels)[:, np.newaxis]
    return painted


def test_a_right_answer_scores_one():
    painted = strokes(1, 1, 2, 2)
    held = painted > 0
    score = score_strokes(painted[held], painted, held, 2)
    assert score.dice == 1
    assert score.per_class == (1, 1)
    assert score.interval == (1, 1)


def test_it_is_dice():
    painted = strokes(1, 2)
    held = painted > 0
    predicted = painted[held]
    predicted[:5] = 2  # half of the background is taken for the class
    score = score_strokes(predicted, painted, held, 2)
    assert score.per_class == pytest.approx((2 * 5 / 15, 2 * 10 / 25))
    assert score.dice == pytest.approx((10 / 15 + 20 / 25) / 2)


def test_one_stroke_of_a_class_has_no_interval():
    painted = strokes(1, 1, 2)
    held = painted > 0
    assert score_strokes(painted[held], painted, held, 2).interval is None


def test_a_class_without_held_out_strokes_is_left_out():
    painted = strokes(1, 1, 3, 3)
    held = painted > 0
    score = score_strokes(painted[held], painted, held, 3)
    assert score.per_class == (1, None, 1)
    assert score.dice == 1


def test_strokes_that_differ_make_a_wide_interval():
    painted = strokes(1, 1, 1, 2, 2, 2)
    held = painted > 0
    predicted = painted[held]
    predicted[:10] = 2  # one whole stroke is wrong
    score = score_strokes(predicted, painted, held, 2)
    low, high = score.interval
    assert low < score.dice < high
    scattered = painted[held]
    scattered[[0, 11, 22]] = 2  # as many strokes, each a little wrong
    a, b = score_strokes(scattered, painted, held, 2).interval
    assert b - a < high - low


def test_the_same_strokes_give_the_same_interval():
    painted = strokes(1, 1, 2, 2)
    held = painted > 0
    predicted = np.where(np.arange(held.sum()) % 3 == 0, 1, painted[held])
    first, second = (score_strokes(predicted, painted, held, 2) for _ in range(2))
    assert first == second


def five_and_three():
    """Five strokes of background and three of a class, each four pixels long."""
    painted = np.zeros((40, 12), np.uint8)
    painted[0:30:6, 0:4] = 1
    painted[0:18:6, 8:12] = 2
    return painted


def test_strokes_are_dealt_out_whole_and_every_part_leaves_some_of_each_label():
    painted = five_and_three()
    parts = deal_strokes(painted, most=5)
    np.testing.assert_array_equal(parts > 0, painted > 0)
    assert parts.max() == 3  # the label with the fewest strokes has three
    for row in range(0, 30, 6):
        assert len(np.unique(parts[row, 0:4])) == 1
    for part in (1, 2, 3):
        assert set(np.unique(painted[parts == part])) == {1, 2}
        assert set(np.unique(painted[(parts != part) & (painted > 0)])) == {1, 2}


def test_no_more_parts_than_asked_for_and_the_same_seed_deals_the_same():
    painted = five_and_three()
    assert deal_strokes(painted, most=2).max() == 2
    first, second, other = (deal_strokes(painted, 3, seed) for seed in (1, 1, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_label_with_one_stroke_makes_a_single_part():
    painted = five_and_three()
    painted[6:, 8:] = 0
    assert set(np.unique(deal_strokes(painted, 5))) == {0, 1}
