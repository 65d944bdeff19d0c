import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.ops.error_map import (
    AGREE,
    ERROR_COLOURS,
    ERROR_NAMES,
    MERGED,
    MISSED,
    OTHER_CLASS,
    SPLIT,
    SPURIOUS,
    count_object_errors,
    error_map,
    semantic_error_map,
)
from napari_unet.ops.errors import InputError

small_pairs = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: st.tuples(*[arrays(np.int32, shape, elements=st.integers(0, 3))] * 2)
)
EIGHT = np.array([[1, 1, 1, 1, 1, 1, 1, 1]])


def rows(*lists):
    return [np.array([row]) for row in lists]


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        # an outline a little off
        ([0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]),
        # missed, and something made up
        ([0, 0, 0, 0, 5, 5], [1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 2, 2]),
        # too far off to be the same: both
        ([0, 0, 0, 5, 5, 5], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 2, 2]),
        # split in two, one piece reaches outside
        ([5, 5, 0, 6, 6, 6], [1, 1, 1, 1, 1, 0], [3, 3, 3, 3, 3, 3]),
        # one object over two
        ([5, 5, 5, 5, 5, 5], [1, 1, 0, 2, 2, 0], [4, 4, 4, 4, 4, 4]),
        # of the two, half of one is not more than half: found, and the other missed
        ([5, 5, 5, 5, 0, 0], [1, 1, 1, 2, 2, 0], [0, 0, 0, 1, 1, 0]),
        # split and merged at once: merged comes first
        ([5, 5, 6, 6, 6, 6], [1, 1, 1, 1, 1, 2], [4, 4, 4, 4, 4, 4]),
    ],
)
def test_what_is_wrong_with_an_object(prediction, truth, expected):
    np.testing.assert_array_equal(error_map(*rows(prediction, truth)), [expected])


def test_a_map_is_of_codes_that_have_names_and_colours():
    errors = error_map(EIGHT, EIGHT)
    assert errors.dtype == np.uint8
    codes = {MISSED, SPURIOUS, SPLIT, MERGED, OTHER_CLASS}
    assert (AGREE, codes) == (0, {1, 2, 3, 4, 5})
    assert set(ERROR_NAMES) == set(ERROR_COLOURS) == codes
    assert len(set(ERROR_COLOURS.values())) == 5
    assert all(0 <= value <= 255 for colour in ERROR_COLOURS.values() for value in colour)


@given(small_pairs)
def test_objects_get_one_code_and_background_none(pair):
    prediction, truth = pair
    errors = error_map(prediction, truth)
    assert not errors[(prediction == 0) & (truth == 0)].any()
    assert set(np.unique(errors)) <= {AGREE, MISSED, SPURIOUS, SPLIT, MERGED}
    for label in np.unique(truth[truth > 0]):
        alone = errors[(truth == label) & (prediction == 0)]
        assert len(set(alone)) <= 1
        assert SPURIOUS not in alone


@given(small_pairs)
def test_missed_and_spurious_swap_when_the_images_do(pair):
    there, back = error_map(*pair), error_map(*pair[::-1])
    prediction, truth = pair
    only_one = (truth > 0) != (prediction > 0)  # elsewhere the true object goes first
    np.testing.assert_array_equal(there[only_one] == MISSED, back[only_one] == SPURIOUS)
    np.testing.assert_array_equal(there > 0, back > 0)


@given(small_pairs)
def test_equal_images_have_no_error(pair):
    assert not error_map(pair[0], pair[0]).any()
    assert not semantic_error_map(pair[0], pair[0]).any()


def test_corner_cases():
    nothing = np.zeros_like(EIGHT)
    assert not error_map(nothing, nothing).any()
    assert (error_map(nothing, EIGHT) == MISSED).all()
    assert (error_map(EIGHT, nothing) == SPURIOUS).all()
    assert not error_map(EIGHT > 0, EIGHT * 2**31).any()
    for draw in (error_map, semantic_error_map):
        with pytest.raises(InputError, match="cannot be compared"):
            draw(EIGHT, EIGHT.T)


def test_a_stricter_threshold_calls_a_poor_outline_missed():
    prediction, truth = rows([0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1])
    assert not error_map(prediction, truth).any()  # IoU 3 / 5
    np.testing.assert_array_equal(error_map(prediction, truth, 0.7), [[0, 2, 1, 1, 1, 1]])


def test_classes_are_compared_pixel_by_pixel():
    prediction, truth = rows([0, 1, 0, 1, 2, 2], [0, 0, 1, 1, 1, 2])
    np.testing.assert_array_equal(semantic_error_map(prediction, truth), [[0, 2, 1, 0, 5, 0]])


def test_objects_are_counted_in_the_image_that_has_them():
    truth, prediction = rows(
        [1, 1, 1, 1, 2, 2, 0, 3, 3, 4, 4, 0, 0, 5, 5],
        [1, 1, 2, 2, 3, 3, 0, 4, 4, 4, 4, 0, 6, 0, 0],
    )
    # 1 is split in two, 3 and 4 are one, 5 is missed and 6 is made up.
    assert count_object_errors(prediction, truth) == {MISSED: 1, SPURIOUS: 1, SPLIT: 1, MERGED: 1}
    assert not any(count_object_errors(truth, truth).values())


def test_a_spurious_object_below_a_missed_one_is_counted():
    truth, prediction = rows([1, 1, 1, 1, 1], [0, 0, 7, 0, 0])
    assert set(error_map(prediction, truth).ravel()) == {MISSED}
    counts = count_object_errors(prediction, truth)
    assert (counts[MISSED], counts[SPURIOUS]) == (1, 1)
