import numpy as np
import pytest

from napari_unet.ops.errors import InputError
from napari_unet.ops.targets import (
    dense_weights,
    instance_annotations,
    instance_border_weights,
    semantic_annotations,
    semantic_border_weights,
)
from napari_unet.ops.weight_map import class_weights


def two_squares():
    labels = np.zeros((12, 16), np.int32)
    labels[2:10, 2:8], labels[2:10, 8:14] = 7, 3
    return labels


def test_touching_objects_are_parted_by_background():
    annotations = instance_annotations(two_squares())
    assert set(np.unique(annotations)) == {1, 2}
    ridge = annotations[2:10, 2:14] == 1
    # One column along the whole border: of two equal objects the later one gives way.
    np.testing.assert_array_equal(np.flatnonzero(ridge.all(axis=0)), [6])
    assert ridge.sum() == 8


def test_the_outline_surrounds_each_object():
    annotations = instance_annotations(two_squares(), "inner")
    expected = [1, 1, 3, 2, 2, 2, 2, 3, 1, 3, 2, 2, 2, 3, 1, 1]
    np.testing.assert_array_equal(annotations[5], expected)
    inside = annotations == 2
    # Around every inside pixel there is nothing but its own object.
    for row, column in np.argwhere(inside):
        assert (annotations[row - 1 : row + 2, column - 1 : column + 2] > 1).all()


def test_the_image_border_is_no_outline():
    labels = np.ones((6, 6), int)
    labels[:, 4:] = 0
    annotations = instance_annotations(labels, "inner")
    np.testing.assert_array_equal(annotations[0], [2, 2, 2, 3, 1, 1])


@pytest.mark.parametrize("outline", ["none", "inner"])
def test_renumbering_changes_nothing(outline):
    labels = two_squares()
    renumbered = np.choose((labels > 0) + (labels > 3).astype(int), [0, 900, 1])
    np.testing.assert_array_equal(
        instance_annotations(labels, outline), instance_annotations(renumbered, outline)
    )


def test_what_is_not_valid_is_not_taught():
    valid = np.zeros((12, 16), bool)
    valid[:6] = True
    for annotations in (
        instance_annotations(two_squares(), "inner", valid),
        semantic_annotations((two_squares() > 0).astype(int), (0, 1), valid),
    ):
        assert (annotations[6:] == 0).all()
        assert (annotations[:6] > 0).all()
        weights = dense_weights(annotations, np.zeros((12, 16), np.float32), np.ones(4))
        assert (weights[6:] == 0).all()
        assert (weights[:6] > 0).all()


def test_classes_are_numbered_in_the_order_of_their_values():
    labels = np.array([[0, 40, 255], [255, 0, 40]])
    np.testing.assert_array_equal(
        semantic_annotations(labels, (0, 40, 255)), [[1, 2, 3], [3, 1, 2]]
    )


def test_an_unknown_class_is_refused():
    with pytest.raises(InputError, match=r"\[7\]"):
        semantic_annotations(np.array([[0, 1, 7]]), (0, 1))


def test_an_unknown_outline_is_refused():
    with pytest.raises(InputError, match="inner"):
        instance_annotations(two_squares(), "outer")


def test_weights_are_those_of_the_paper():
    labels = np.zeros((9, 30), int)
    labels[:, :10], labels[:, 14:] = 1, 2
    annotations = instance_annotations(labels)
    border = instance_border_weights(labels, 10, 5)
    table = class_weights(np.bincount(annotations.ravel(), minlength=3) * [0, 1, 1], 1.0)
    weights = dense_weights(annotations, border, table)
    # Equation 2 in the gap of four pixels: d1 + d2 = 5 in every column of it.
    np.testing.assert_allclose(weights[4, 10:14], table[1] + 10 * np.exp(-25 / 50), rtol=1e-5)
    np.testing.assert_allclose(weights[:, :10], table[2], rtol=1e-6)
    # With balance 1 both classes have the same total, the border term aside.
    assert table[1] * (annotations == 1).sum() == pytest.approx(table[2] * (annotations == 2).sum())


def test_regions_of_a_class_are_objects_to_the_border_term():
    labels = np.zeros((9, 30), int)
    labels[:, :10], labels[:, 14:] = 1, 1
    border = semantic_border_weights(semantic_annotations(labels, (0, 1)), 10, 5)
    objects = labels * np.where(np.arange(30) < 12, 1, 2)
    np.testing.assert_allclose(border, instance_border_weights(objects, 10, 5), atol=1e-5)
    assert border.max() > 1


def test_a_wide_outline_is_two_pixels_and_leaves_the_middle():
    labels = np.zeros((9, 11), int)
    labels[1:8, 2:9] = 1
    classes = instance_annotations(labels, "wide")
    assert (classes[3:6, 4:7] == 2).all()
    assert (classes == 2).sum() == 9
    assert (classes == 3).sum() == 49 - 9
