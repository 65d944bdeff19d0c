import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.ops.annotations import (
    Stroke,
    annotated_box,
    check_annotations,
    draw_strokes,
    stroke_boxes,
    strokes_from_json,
    strokes_to_json,
)
from napari_unet.ops.errors import InputError
from napari_unet.ops.held_out import hold_out_strokes

quick = settings(max_examples=30, deadline=None)


class TestCheckAnnotations:
    @pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "u8", "i8", "f4", ">f8"])
    def test_labels_of_any_whole_dtype(self, dtype):
        labels = np.array([[0, 1, 2], [2, 1, 0]]).astype(dtype)
        checked = check_annotations(labels, (2, 3), 2)
        assert checked.dtype == np.uint8
        np.testing.assert_array_equal(checked, labels)
        checked[...] = 0
        assert labels.any()

    def test_a_class_may_be_missing_if_two_are_there(self):
        check_annotations([[1, 3]], (1, 2), 3)
        check_annotations([[2, 3]], (1, 2), 3)

    @pytest.mark.parametrize(
        ("labels", "says"),
        [
            (np.zeros((3, 4), int), r"shape \(3, 4\), the image \(3, 3\).*labels layer"),
            (np.zeros((3, 3, 1), int), "shape"),
            (np.full((3, 3), 0.5), "fractions"),
            (np.full((3, 3), np.nan), "NaN"),
            (np.full((3, 3), -1), "negative"),
            (np.full((3, 3), 3), "label 3, the network 2 classes; use labels 1 to 2"),
            (np.full((3, 3), 257), "label 257"),
            (np.zeros((3, 3), int), "nothing is annotated; paint strokes"),
            (np.ones((3, 3), int), "only label 1 is painted; paint a stroke of label 2"),
            (np.full((3, 3), 2), "only label 2 is painted; paint a stroke of label 1"),
            (np.ones((3, 3), bool), "mask of True and False; use integers"),
            (np.full((3, 3), "a"), "convert"),
        ],
    )
    def test_unusable_annotations_are_refused_with_a_cure(self, labels, says):
        with pytest.raises(InputError, match=says) as caught:
            check_annotations(labels, (3, 3), 2)
        assert "\n" not in str(caught.value)


class TestBoxes:
    def test_box_around_all_annotations(self):
        labels = np.zeros((10, 12), np.uint8)
        assert annotated_box(labels) is None
        labels[3, 4] = labels[6, 9] = 2
        assert annotated_box(labels) == (slice(3, 7), slice(4, 10))
        assert annotated_box(labels, margin=4) == (slice(0, 10), slice(0, 12))

    def test_box_around_each_stroke(self):
        mask = np.zeros((6, 8), bool)
        mask[0, :3] = mask[4:, 5] = True
        assert stroke_boxes(mask) == [
            (slice(0, 1), slice(0, 3)),
            (slice(4, 6), slice(5, 6)),
        ]
        assert stroke_boxes(np.zeros((3, 3), bool)) == []


def bars(*labels):
    """Vertical strokes of the given labels, three pixels long, one column apart."""
    image = np.zeros((7, 2 * len(labels)), np.uint8)
    image[2:5, ::2] = labels
    return image


def regions(mask):
    return ndimage.label(mask, np.ones((3, 3)))[1]


class TestHoldOut:
    def test_whole_strokes_of_each_label(self):
        labels = bars(1, 1, 1, 2, 2, 2, 2, 2, 2, 2)
        split = hold_out_strokes(labels)
        for label, held in [(1, 1), (2, 1)]:
            assert regions(split.mask & (labels == label)) == held
        assert split.mask.sum() == 3 * 2
        assert split.enough
        assert "2 of 10 strokes" in split.reason
        assert hold_out_strokes(labels, fraction=0.45).mask.sum() == 3 * (1 + 3)

    def test_two_strokes_are_too_few(self):
        split = hold_out_strokes(bars(1, 1, 2))
        assert not split.mask.any()
        assert not split.enough
        assert split.reason == (
            "too few strokes to know: draw 1 more of background and 2 more of label 2"
        )

    def test_a_label_with_too_few_strokes_is_named(self):
        split = hold_out_strokes(bars(1, 1, 1, 2, 2, 2, 3))
        assert split.enough
        assert split.reason.endswith("for all labels draw 2 more of label 3")

    def test_one_label_alone_gives_no_score(self):
        split = hold_out_strokes(bars(1, 1, 1, 1, 2, 2))
        assert regions(split.mask) == 1
        assert not split.enough
        assert "draw 1 more of label 2" in split.reason

    def test_no_share_no_score(self):
        split = hold_out_strokes(bars(1, 1, 1, 2, 2, 2), fraction=0)
        assert not split.mask.any()
        assert split.reason == "no score: no strokes are held out"

    def test_the_largest_stroke_is_learned_from(self):
        labels = bars(1, 1, 1, 2, 2, 2)
        labels[:, 0] = 1
        labels[:, 8] = 2
        for seed in range(10):
            split = hold_out_strokes(labels, seed=seed)
            assert split.enough
            assert not split.mask[:, [0, 8]].any()

    def test_deterministic_and_seeded(self):
        labels = bars(*[1] * 10, *[2] * 10)
        masks = [hold_out_strokes(labels, seed=seed).mask for seed in range(5)]
        np.testing.assert_array_equal(masks[0], hold_out_strokes(labels, seed=0).mask)
        assert len({mask.tobytes() for mask in masks}) > 1

    def test_a_held_out_stroke_takes_along_what_it_grows_by(self):
        labels = bars(1, 1, 1, 2, 2, 2)
        first = hold_out_strokes(labels)
        labels[0:7, labels[2] > 0] = labels[2, labels[2] > 0]  # all strokes grow
        second = hold_out_strokes(labels, previous=first)
        np.testing.assert_array_equal(second.mask.any(axis=0), first.mask.any(axis=0))
        assert second.mask.sum() == 7 * 2

    def test_a_new_third_stroke_is_held_out_one_label_after_the_other(self):
        split = hold_out_strokes(bars(1, 1, 0, 2, 2, 0))
        split = hold_out_strokes(bars(1, 1, 1, 2, 2, 0), previous=split)
        np.testing.assert_array_equal(split.mask, bars(0, 0, 1, 0, 0, 0))
        assert not split.enough
        split = hold_out_strokes(bars(1, 1, 1, 2, 2, 2), previous=split)
        np.testing.assert_array_equal(split.mask, bars(0, 0, 1, 0, 0, 1))
        assert split.enough

    def test_strokes_that_were_trained_on_are_never_held_out(self):
        labels = bars(1, 1, 1, 2, 2, 2)
        trained = hold_out_strokes(labels, fraction=0)
        split = hold_out_strokes(labels, previous=trained)
        assert not split.mask.any()
        assert "draw 1 more of background and 1 more of label 2" in split.reason

    def test_a_joint_of_held_out_and_trained_strokes(self):
        labels = bars(1, 1, 1, 2, 2, 2)
        first = hold_out_strokes(labels)
        labels[4, :6] = 1  # one stroke through all three of label 1
        second = hold_out_strokes(labels, previous=first)
        np.testing.assert_array_equal(second.mask, first.mask)

    def test_repainted_pixels_change_sides(self):
        first = hold_out_strokes(bars(1, 1, 1, 2, 2, 2))
        labels = bars(1, 1, 1, 2, 2, 2)
        labels[first.mask] = 3 - labels[first.mask]
        second = hold_out_strokes(labels, previous=first)
        assert not (second.mask & first.mask).all()

    def test_the_last_strokes_of_a_label_are_learned_from(self):
        first = hold_out_strokes(bars(1, 1, 1, 2, 2, 2))
        labels = np.where(first.mask | (first.labels == 2), first.labels, 0)
        second = hold_out_strokes(labels, previous=first)
        assert not second.mask[labels == 1].any()
        assert not second.enough

    def test_a_split_of_another_image_is_forgotten(self):
        other = hold_out_strokes(bars(1, 1, 1, 2, 2, 2), fraction=0)
        labels = bars(1, 1, 1, 1, 2, 2, 2)
        np.testing.assert_array_equal(
            hold_out_strokes(labels, previous=other).mask, hold_out_strokes(labels).mask
        )

    @quick
    @given(st.data())
    def test_no_pixel_changes_sides_while_strokes_come_and_grow(self, data):
        columns = st.integers(0, 19)
        labels = np.zeros((9, 20), np.uint8)
        split = None
        for _ in range(data.draw(st.integers(2, 6))):
            for column, label in data.draw(st.dictionaries(columns, st.integers(1, 3))).items():
                labels[data.draw(st.integers(0, 4)) : data.draw(st.integers(5, 9)), column] = label
            earlier, split = split, hold_out_strokes(labels, previous=split)
            assert not split.mask[labels == 0].any()
            for label in np.unique(labels[labels > 0]):
                assert (~split.mask & (labels == label)).any()
            if earlier is None:
                continue
            same = (labels == earlier.labels) & (labels > 0)
            assert not (split.mask & same & ~earlier.mask).any()
            returned = same & earlier.mask & ~split.mask
            for label in np.unique(labels[returned]):  # only where nothing else was left
                assert not split.mask[labels == label].any()

    @pytest.mark.parametrize("fraction", [-0.1, 1, np.nan])
    def test_an_impossible_share_is_refused(self, fraction):
        with pytest.raises(InputError, match="choose 0 to below 1"):
            hold_out_strokes(bars(1, 2), fraction=fraction)


class TestStrokes:
    def test_a_point_is_a_disc(self):
        drawn = draw_strokes([Stroke(2, 2.0, ((3, 4),))], (8, 9))
        rows, columns = np.indices((8, 9))
        np.testing.assert_array_equal(drawn == 2, np.hypot(rows - 3, columns - 4) <= 2)

    def test_a_line_has_the_width_of_the_brush(self):
        drawn = draw_strokes([Stroke(1, 1.5, ((5, 2), (5, 17)))], (11, 20))
        np.testing.assert_array_equal(drawn[:, 10].nonzero()[0], [4, 5, 6])

    def test_a_thin_brush_does_not_slip_between_pixels(self):
        assert draw_strokes([Stroke(1, 0.1, ((1.5, 1.5),))], (4, 4)).sum() == 4

    @quick
    @given(
        st.lists(st.tuples(st.floats(-5, 35), st.floats(-5, 35)), min_size=1, max_size=5),
        st.floats(0, 4),
    )
    def test_a_stroke_is_connected(self, points, radius):
        shifted = tuple((row + 10, column + 10) for row, column in points)
        drawn = draw_strokes([Stroke(1, radius, shifted)], (60, 60))
        assert regions(drawn) == 1

    def test_later_strokes_paint_over_and_outside_is_cut_off(self):
        drawn = draw_strokes(
            [Stroke(1, 1, ((0, -20), (0, 40))), Stroke(2, 0.5, ((-9, 3), (9, 3)))], (4, 6)
        )
        np.testing.assert_array_equal(drawn[0], [1, 1, 1, 2, 1, 1])
        np.testing.assert_array_equal(drawn[:, 3], 2)
        assert not draw_strokes([Stroke(1, 2, ((-50, -50), (-20, -30)))], (4, 6)).any()
        assert not draw_strokes([], (4, 6)).any()

    def test_json_keeps_everything(self):
        strokes = [Stroke(1, 2.5, ((1.25, 3.0), (4.0, 1 / 3))), Stroke(2, 1.0, ((0.0, 0.0),))]
        assert strokes_from_json(strokes_to_json("ihc", strokes)) == ("ihc", strokes)
        assert strokes_from_json(strokes_to_json('a"b', [])) == ('a"b', [])

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "no json",
            "[]",
            "3",
            '{"image": "a"}',
            '{"image": "a", "strokes": [{"label": 1, "radius": 1}]}',
            '{"image": "a", "strokes": [{"label": 1, "radius": 1, "points": [[1]]}]}',
            '{"image": "a", "strokes": [{"label": 1, "radius": 1, "points": []}]}',
            '{"image": "a", "strokes": [{"label": 1, "radius": NaN, "points": [[1, 2]]}]}',
            '{"image": "a", "strokes": [{"label": 1, "radius": 1, "points": [[1, Infinity]]}]}',
            '{"image": "a", "strokes": [{"label": 300, "radius": 1, "points": [[1, 2]]}]}',
            '{"image": "a", "strokes": [{"label": -1, "radius": 1, "points": [[1, 2]]}]}',
        ],
    )
    def test_other_files_are_refused(self, text):
        with pytest.raises(InputError, match="give one that strokes_to_json wrote"):
            strokes_from_json(text)
