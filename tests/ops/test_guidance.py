"""Where to paint next."""

import numpy as np
import pytest

from napari_unet.ops.errors import InputError
from napari_unet.ops.guidance import expected_error, suggest, uncertainty


def certain_but(*regions, shape=(64, 96), probability=0.5):
    """A prediction of two classes that is certain everywhere but in the given boxes."""
    second = np.full(shape, 0.99, np.float32)
    for box in regions:
        second[box] = probability
    return np.stack([1 - second, second])


NOTHING = np.zeros((64, 96), np.uint8)
LEFT, RIGHT = np.s_[16:32, 0:16], np.s_[32:48, 64:80]


def test_uncertainty_is_1_between_two_classes_and_0_where_one_is_sure():
    probability = np.array([[[0.5, 1.0, 0.2]], [[0.5, 0.0, 0.5]], [[0.0, 0.0, 0.3]]])
    np.testing.assert_allclose(uncertainty(probability), [[1.0, 0.0, 0.8]], atol=1e-6)
    np.testing.assert_allclose(expected_error(probability), [[0.5, 0.0, 0.5]], atol=1e-6)


def test_uncertainty_does_not_depend_on_the_order_of_classes():
    probability = np.random.default_rng(0).dirichlet((1, 1, 1), (4, 5)).transpose(2, 0, 1)
    np.testing.assert_array_equal(uncertainty(probability), uncertainty(probability[::-1]))


def test_one_channel_is_no_prediction():
    with pytest.raises(InputError, match="two classes"):
        uncertainty(np.zeros((1, 4, 4)))


def test_the_uncertain_region_comes_first():
    found = suggest(certain_but(RIGHT), NOTHING, side=16)
    assert found[0].box == RIGHT
    assert found[0].expected_error == pytest.approx(0.5)
    assert found[0].is_worth_it
    assert not found[-1].is_worth_it


def test_of_two_uncertain_regions_the_one_unlike_the_strokes_comes_first():
    features = np.zeros((1, 64, 96), np.float32)
    features[:, :, 48:] = 1  # the right half looks different
    strokes = NOTHING.copy()
    strokes[50, 20:30] = 1  # painted on the left
    first = suggest(certain_but(LEFT, RIGHT), strokes, features, side=16)[0]
    assert first.box == RIGHT
    strokes = strokes[:, ::-1]
    assert suggest(certain_but(LEFT, RIGHT), strokes, features, side=16)[0].box == LEFT


def test_suggestions_do_not_overlap_and_are_no_more_than_asked_for():
    found = suggest(certain_but(LEFT, RIGHT), NOTHING, side=16, count=6)
    assert len(found) == 6
    covered = NOTHING.astype(int)
    for each in found:
        covered[each.box] += 1
    assert covered.max() == 1


def test_what_was_not_predicted_is_not_suggested():
    probability = certain_but(RIGHT)
    probability[:, :, :48] = np.nan
    found = suggest(probability, NOTHING, side=16, count=50)
    assert found
    assert all(each.box[1].start >= 48 for each in found)
    assert suggest(np.full((2, 8, 8), np.nan), np.zeros((8, 8), int)) == []


def test_an_image_smaller_than_a_region_is_one_region():
    found = suggest(np.full((2, 10, 12), 0.5), np.zeros((10, 12), int), side=64)
    assert [each.box for each in found] == [np.s_[0:10, 0:12]]


def test_arrays_of_another_image_are_refused():
    with pytest.raises(InputError, match="same image"):
        suggest(certain_but(), np.zeros((3, 3), int))
