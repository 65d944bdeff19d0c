import numpy as np
import pytest

from napari_unet.ops.errors import InputError
from napari_unet.ops.metrics import (
    dice_per_class,
    iou_per_class,
    mean_dice,
    mean_iou,
    pixel_error,
    pixel_f_error,
)


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


def test_iou_by_hand_and_its_relation_to_dice(rng):
    truth = np.array([[1, 1, 1, 2]])
    prediction = np.array([[1, 1, 2, 2]])
    assert iou_per_class(prediction, truth, 2) == (pytest.approx(2 / 3), pytest.approx(1 / 2))
    a, b = rng.integers(1, 4, (2, 20, 20))
    dice, iou = dice_per_class(a, b, 3), iou_per_class(a, b, 3)
    assert iou == pytest.approx([d / (2 - d) for d in dice])


def test_means_are_over_the_classes_that_the_truth_has():
    truth = np.array([[1, 1, 1, 2, 0]])
    prediction = np.array([[1, 1, 2, 2, 3]])
    assert mean_iou(prediction, truth, 3) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert mean_dice(prediction, truth, 3) == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert np.isnan(mean_iou(prediction, np.zeros_like(truth), 3))
    assert np.isnan(mean_dice(prediction, np.zeros_like(truth), 3))


TRUE = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
PREDICTED = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], bool)


def test_pixel_errors_by_hand():
    assert pixel_error(PREDICTED, TRUE) == 2 / 8
    # 5 true positives, 1 false positive, 1 false negative
    assert pixel_f_error(PREDICTED, TRUE) == pytest.approx(2 / 12)


def test_positive_is_what_is_true():
    assert pixel_f_error(~PREDICTED, ~TRUE) == pytest.approx(2 / 4)
    assert pixel_error(~PREDICTED, ~TRUE) == pixel_error(PREDICTED, TRUE)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32])
def test_masks_may_be_of_any_kind(kind):
    white = np.where(TRUE, 255, 0) if kind is np.uint8 else TRUE
    assert pixel_error(PREDICTED.astype(kind), white) == 2 / 8
    assert pixel_f_error(PREDICTED.astype(kind), white) == pytest.approx(2 / 12)


def test_pixel_errors_at_the_ends():
    nothing, everything = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    for error in (pixel_error, pixel_f_error):
        assert error(nothing, nothing) == error(everything, everything) == 0
        assert error(nothing, everything) == error(everything, nothing) == 1
        assert error(np.zeros((0, 3), bool), np.zeros((0, 3), bool)) == 0
        with pytest.raises(InputError, match="cannot be compared"):
            error(nothing, everything.T)
