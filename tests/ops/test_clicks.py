"""Clicks, windows, outlines and the robot that clicks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.ops.clicks import (
    DISC_RADIUS,
    Click,
    Outline,
    Window,
    checked_clicks,
    click_discs,
    expected_overlap,
    innermost,
    known_outlines,
    largest_region,
    next_click,
    objects_as_strokes,
    region_of,
    usual_extent,
)
from napari_unet.ops.errors import InputError

SHAPE = (40, 60)


def rectangle(rows, columns, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.1, 8), st.integers(2, 200))
def test_a_window_leads_there_and_back(row, column, zoom, side):
    window = Window(row, column, zoom, side)
    there = window.inside(3.0, 7.0)
    assert np.allclose(window.outside(*there), (3, 7))
    assert np.allclose(window.inside(row, column), (side - 1) / 2)


def test_a_window_seen_from_a_part_of_the_image_sees_the_same():
    window = Window(25, 31, 2, 10)
    part = window.seen_from(20, 30)
    assert part.inside(0.0, 0.0) == window.inside(20.0, 30.0)


def test_of_several_clicks_at_one_pixel_the_last_one_is_meant():
    clicks = checked_clicks([((3, 4), True), ((9, 9), True), ((3.2, 3.9), False)], SHAPE)
    assert [(round(c.row), round(c.column), c.positive) for c in clicks] == [
        (9, 9, True),
        (3, 4, False),
    ]


@pytest.mark.parametrize(
    ("click", "cure"),
    [
        (((40, 4), True), "click on the image"),
        (((-1, 4), True), "click on the image"),
        (((np.nan, 4), True), "give it as"),
        ("here", "give each as"),
        ((3, True), "give each as"),
        (None, "give each as"),
    ],
)
def test_a_click_that_cannot_be_used_is_refused_with_the_cure(click, cure):
    with pytest.raises(InputError, match=cure):
        checked_clicks([click], SHAPE)


def test_a_click_is_drawn_as_a_disc_of_one_size_at_any_zoom():
    for zoom in (0.1, 1, 5):
        window = Window(10, 10, zoom, 21)
        positive, negative = click_discs([Click(10, 10)], window)
        rows, columns = np.nonzero(positive)
        assert np.hypot(rows - 10, columns - 10).max() <= DISC_RADIUS
        assert positive[10, 10] == 1
        assert not negative.any()
        both = click_discs([Click(10, 10), Click(10, 12, False)], window)
        assert np.array_equal(both[0], positive)
        assert both[1].any()
    assert not click_discs([Click(500, 500)], window).any(), "beyond the window"


def test_the_innermost_pixel_is_far_from_the_border_and_from_the_edge_of_the_image():
    assert innermost(rectangle(slice(10, 21), slice(20, 31))) == (15, 25)
    row, column = innermost(np.ones((9, 9), bool))
    assert (row, column) == (4, 4)
    with pytest.raises(InputError, match="empty"):
        innermost(np.zeros(SHAPE, bool))


def test_the_robot_clicks_into_the_largest_error():
    truth = rectangle(slice(5, 25), slice(5, 25))
    assert next_click(truth, truth) is None
    first = next_click(truth, np.zeros(SHAPE, bool))
    assert first is not None
    assert first.positive
    assert truth[int(first.row), int(first.column)]
    spilled = truth | rectangle(slice(5, 36), slice(30, 55))
    second = next_click(truth, spilled)
    assert second is not None
    assert not second.positive
    assert second.column >= 30


def test_regions_are_connected_over_edges_alone():
    mask = np.eye(4, dtype=bool)
    assert region_of(mask, [(1, 1)]).sum() == 1
    assert region_of(mask, [(0, 1)]).sum() == 0
    assert largest_region(mask | rectangle(slice(0, 1), slice(0, 3), (4, 4))).sum() == 4


def test_the_expected_overlap_is_what_it_says():
    probability = np.array([[1.0, 0.5, 0.25, 0.0]])
    mask = probability > 0.4
    assert expected_overlap(probability, mask) == pytest.approx(1.5 / 2.25)
    assert expected_overlap(mask.astype(float), mask) == 1
    assert expected_overlap(probability, np.zeros_like(mask)) == 0


def test_an_outline_keeps_the_mask_and_no_more():
    mask = rectangle(slice(3, 9), slice(50, 60))
    outline = Outline.of_mask(mask)
    assert outline is not None
    assert outline.mask.shape == (6, 10)
    assert outline.extent == 10
    assert np.array_equal(outline.full(SHAPE), mask)
    assert Outline.of_mask(np.zeros(SHAPE, bool)) is None


def test_common_pixels_of_outlines_are_counted():
    first = Outline.of_mask(rectangle(slice(0, 10), slice(0, 10)))
    second = Outline.of_mask(rectangle(slice(8, 12), slice(7, 20)))
    far = Outline.of_mask(rectangle(slice(30, 35), slice(0, 10)))
    assert first.common(second) == second.common(first) == 2 * 3
    assert first.common(far) == 0
    assert first.shares(second) == 6 / (100 + 52 - 6)


def test_objects_say_what_they_are_and_that_a_thin_ring_is_background():
    labels = np.zeros(SHAPE, int)
    labels[10:20, 10:20] = 1
    labels[10:20, 20:30] = 7
    strokes = objects_as_strokes(labels)
    assert strokes[14, 12] == 2
    assert strokes[14, 28] == 2
    assert set(strokes[14, 18:22]) == {1, 2}, "where two touch there is background between"
    assert (strokes[14, 11:29] == 1).sum() == 1, "of one pixel"
    assert strokes[14, 31] == 1
    assert strokes[14, 40] == 0, "what is far away is not known"
    assert not objects_as_strokes(np.zeros(SHAPE, int)).any()


def test_renumbering_objects_changes_no_stroke():
    labels = np.zeros(SHAPE, int)
    labels[5:15, 5:15], labels[5:15, 15:25] = 3, 9
    swapped = np.select([labels == 3, labels == 9], [9, 3], 0)
    assert np.array_equal(objects_as_strokes(labels), objects_as_strokes(swapped))


def test_outlines_are_found_in_a_label_image():
    labels = np.zeros(SHAPE, np.int32)
    labels[2:5, 2:5], labels[10:12, 40:44] = 4, 2
    outlines = known_outlines(labels)
    assert sorted(int(o.mask.sum()) for o in outlines) == [8, 9]
    assert np.array_equal(sum(o.full(SHAPE) for o in outlines), labels > 0)
    assert known_outlines(np.zeros(SHAPE, np.uint8)) == ()


def test_an_outline_has_no_pixel_of_another_object_in_its_box():
    labels = np.full((9, 9), 1)
    labels[3:6, 3:6] = 2
    ring, core = known_outlines(labels)
    assert ring.common(core) == 0
    assert ring.mask.sum() + core.mask.sum() == 81


def test_objects_have_a_usual_size_if_there_are_enough_and_they_are_alike():
    assert usual_extent([10, 12]) is None
    assert usual_extent([12, 10, 15]) == 12
    assert usual_extent([10, 11, 12, 13, 300]) == 12  # a single large one does not matter
    assert usual_extent([8, 30, 120]) is None
