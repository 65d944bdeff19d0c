import numpy as np
import pytest

from napari_unet.ops.errors import InputError
from napari_unet.ops.metrics import dice_per_class


def test_equal_labels_score_one():
    truth = np.array([[1, 2, 2], [3, 1, 1]])
    assert dice_per_class(truth, truth, 3) == (1.0, 1.0, 1.0)


def test_values_by_hand():
    truth = np.array([[1, 1, 1, 2]])
    prediction = np.array([[1, 1, 2, 2]])
    assert dice_per_class(prediction, truth, 2) == (pytest.approx(4 / 5), pytest.approx(2 / 3))


def test_disjoint_labels_score_zero():
    assert dice_per_class(np.array([[2, 1]]), np.array([[1, 2]]), 2) == (0.0, 0.0)


def test_a_class_without_truth_is_unknown_even_if_predicted():
    assert dice_per_class(np.array([[1, 3]]), np.array([[1, 1]]), 3)[1:] == (None, None)


def test_what_is_not_annotated_or_not_valid_does_not_count():
    truth = np.array([[1, 2, 0, 0, 2]])
    prediction = np.array([[1, 2, 1, 2, 1]])
    valid = np.array([[True, True, True, True, False]])
    assert dice_per_class(prediction, truth, 2, valid) == (1.0, 1.0)
    assert dice_per_class(prediction, truth, 2) != (1.0, 1.0)
    assert dice_per_class(prediction, truth, 2, np.zeros((1, 5), bool)) == (None, None)


def test_symmetric_where_both_have_the_class(rng):
    a, b = rng.integers(1, 4, (2, 20, 20))
    assert dice_per_class(a, b, 3) == dice_per_class(b, a, 3)


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="cannot be compared"):
        dice_per_class(np.ones((2, 3), int), np.ones((3, 2), int), 2)
    with pytest.raises(InputError, match="cannot be compared"):
        dice_per_class(np.ones((2, 3), int), np.ones((2, 3), int), 2, np.ones((1, 3), bool))
