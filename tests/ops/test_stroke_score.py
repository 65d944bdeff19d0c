"""The score on held-out strokes, and how sure it is."""

import numpy as np
import pytest

from napari_unet.ops.stroke_score import score_strokes


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
