import numpy as np

from napari_unet.ops.stitching import continue_objects


def test_an_object_that_goes_on_keeps_its_number_and_a_new_one_gets_the_next():
    before = np.array([[7, 7, 0, 0, 0], [7, 7, 0, 0, 0]])
    now = np.array([[0, 1, 0, 0, 2], [1, 1, 0, 0, 2]])
    np.testing.assert_array_equal(
        continue_objects(before, now, 8), [[0, 7, 0, 0, 8], [7, 7, 0, 0, 8]]
    )


def test_too_small_an_overlap_is_another_object():
    before = np.array([[3, 3, 3, 3, 0, 0, 0]])
    now = np.array([[0, 0, 0, 1, 1, 1, 1]])
    assert continue_objects(before, now, 4).max() == 4
    assert continue_objects(before, now, 4, least=0.1).max() == 3


def test_an_object_that_parts_goes_on_in_its_larger_half():
    before = np.array([[5, 5, 5, 5, 5, 5]])
    now = np.array([[1, 1, 0, 2, 2, 2]])
    np.testing.assert_array_equal(continue_objects(before, now, 6), [[6, 6, 0, 5, 5, 5]])


def test_two_objects_that_merge_are_one_with_the_number_of_the_larger():
    before = np.array([[1, 1, 0, 2, 2, 2]])
    now = np.array([[9, 9, 9, 9, 9, 9]])
    np.testing.assert_array_equal(continue_objects(before, now, 3), np.full((1, 6), 2))


def test_nothing_before_and_nothing_now():
    empty = np.zeros((2, 3), int)
    now = np.array([[0, 4, 4], [0, 0, 9]])
    np.testing.assert_array_equal(continue_objects(empty, now, 1), [[0, 1, 1], [0, 0, 2]])
    assert not continue_objects(now, empty, 10).any()
