"""What is chosen among outlines of several scales."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.engine.click import Clicker
from napari_unet.engine.click_choice import (
    change_at,
    chosen_anew,
    depth_at,
    is_explained,
    later_score,
    looked_again,
)
from napari_unet.engine.click_looks import Look
from napari_unet.engine.image import SourceImage
from napari_unet.model.windows import DrawnMask
from napari_unet.ops.clicks import Click, Outline, Window

SIDE = 84
SHAPE = (SIDE, SIDE)
WINDOW = Window(41.5, 41.5, 1.0, SIDE)  # its pixels are those of the image
WHOLE = (slice(0, SIDE), slice(0, SIDE))
CLICK = Click(35, 35)


def rectangle(rows, columns):
    mask = np.zeros(SHAPE, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def look(mask, sure=0.95):
    return Look(WINDOW, np.where(mask, sure, 1e-4).astype(np.float32), mask)


def drawn(mask):
    return DrawnMask(mask, WHOLE)


def same_again(window, earlier):
    """Look again, and see what was seen before."""
    return Again(lambda columns: 0.95)(window, earlier)


class Again:
    """Looks again: sees what was seen before, and is so sure of it, by its columns."""

    def __init__(self, sure):
        self.sure, self.seen = sure, []

    def __call__(self, window, earlier):
        mask = earlier.cut(window).numpy() > 0.5
        columns = round(np.ptp(np.flatnonzero(mask.any(axis=0))) / window.zoom) + 1
        self.seen.append(columns)
        return Look(window, np.where(mask, self.sure(columns), 1e-4).astype(np.float32), mask)


def end_of(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


SMALL, LARGE = rectangle((30, 41), (30, 41)), rectangle((30, 41), (30, 71))
EMPTY = np.zeros(SHAPE, bool)


@pytest.mark.parametrize("small_is_sure", [True, False])
def test_the_object_that_the_network_is_surer_of_at_the_second_look_is_chosen(small_is_sure):
    again = Again(lambda columns: 0.95 if (columns < 25) == small_is_sure else 0.7)
    answer = end_of(looked_again(again, [look(SMALL), look(LARGE)], [CLICK], SHAPE))
    assert answer.shares(Outline(WHOLE, SMALL if small_is_sure else LARGE)) > 0.8
    assert answer.begun == CLICK


def test_what_was_unsure_at_the_first_look_is_not_believed_at_the_second():
    again = Again(lambda columns: 0.99)
    seen = [look(SMALL, 0.6), look(LARGE, 0.99)]
    answer = end_of(looked_again(again, seen, [CLICK], SHAPE))
    assert answer.shares(Outline(WHOLE, LARGE)) > 0.8
    # Only that object was looked at again: the other could not be as sure any more.
    assert len(again.seen) == 1


def test_windows_without_an_object_are_passed_over():
    again = Again(lambda columns: 0.9)
    answer = end_of(looked_again(again, [look(EMPTY), look(SMALL)], [CLICK], SHAPE))
    assert answer.shares(Outline(WHOLE, SMALL)) > 0.8


def test_the_order_of_the_looks_changes_nothing():
    seen = [look(SMALL, 0.9), look(LARGE, 0.93), look(rectangle((28, 44), (28, 50)), 0.8)]
    answers = [
        end_of(looked_again(Again(lambda columns: 0.95), order, [CLICK], SHAPE))
        for order in (seen, seen[::-1])
    ]
    assert answers[0].box == answers[1].box
    assert np.array_equal(answers[0].mask, answers[1].mask)


def test_objects_of_the_usual_size_are_believed_more():
    again = Again(lambda columns: 0.95 if columns < 25 else 0.94)
    seen = [look(SMALL), look(LARGE, 0.94)]
    for usual, meant in ((None, SMALL), (11.0, SMALL), (41.0, LARGE)):
        answer = end_of(looked_again(again, seen, [CLICK], SHAPE, usual))
        assert answer.shares(Outline(WHOLE, meant)) > 0.8


def test_a_click_is_deepest_in_the_middle_and_not_outside():
    assert depth_at(SMALL, WINDOW, Click(35, 35)) == 1
    assert 0 < depth_at(SMALL, WINDOW, Click(30, 35)) < 0.3
    assert depth_at(SMALL, WINDOW, Click(50, 35)) == 0
    assert depth_at(SMALL, WINDOW, Click(-5, 35)) == 0


def test_depth_counts_in_the_region_of_the_click_alone():
    thin = rectangle((5, 8), (5, 8))
    assert depth_at(SMALL | thin, WINDOW, Click(6, 6)) == 1


def test_what_changes_around_a_click_explains_it():
    positive, negative = Click(35, 55), Click(35, 55, positive=False)
    assert change_at(look(LARGE), drawn(SMALL), positive) == (1.0, 1.0)
    assert change_at(look(SMALL), drawn(LARGE), negative) == (1.0, 1.0)
    # Nothing changed, or not where the click is.
    assert change_at(look(SMALL), drawn(SMALL), positive) == (0.0, 0.0)
    assert change_at(look(LARGE), drawn(SMALL), Click(60, 60)) == (0.0, 0.0)


def test_a_small_change_at_the_click_explains_little_where_a_large_one_is_elsewhere():
    dot = rectangle((33, 36), (60, 63))
    elsewhere = rectangle((60, 80), (10, 40))
    _, share = change_at(look(SMALL | dot | elsewhere), drawn(SMALL), Click(34, 61))
    assert share == dot.sum() / elsewhere.sum()


def test_an_answer_that_keeps_to_the_clicks_is_taken_without_another_look():
    clicks = [Click(35, 50), Click(35, 60)]
    assert is_explained(look(LARGE), drawn(SMALL), clicks)
    assert not is_explained(look(SMALL), drawn(SMALL), clicks)
    # Many clicks correct details of an object that is known.
    assert is_explained(look(SMALL), drawn(SMALL), [*clicks, *clicks])
    assert later_score(look(LARGE), drawn(SMALL), clicks) > later_score(
        look(SMALL), drawn(SMALL), clicks
    )


def test_a_later_click_brings_another_scale_in_if_it_explains_more():
    clicks = [Click(35, 45), Click(35, 60)]
    stuck, other = look(SMALL), look(LARGE)
    answer = end_of(chosen_anew(same_again, stuck, drawn(SMALL), [other], clicks, SHAPE))
    assert answer.shares(Outline(WHOLE, LARGE)) > 0.8
    kept = end_of(chosen_anew(same_again, other, drawn(SMALL), [stuck], clicks, SHAPE))
    assert kept.shares(Outline(WHOLE, LARGE)) > 0.95


@pytest.fixture(scope="module")
def eye():
    rng = np.random.default_rng(0)
    rows, columns = np.indices((160, 200))
    inside = ((rows - 60) / 30) ** 2 + ((columns - 90) / 50) ** 2 <= 1
    image = (inside + rng.normal(0, 0.1, inside.shape)).astype(np.float32)
    return Clicker(SourceImage(image), precision="fp32")


def test_clicks_are_kept_to_however_often_the_scale_is_chosen(eye):
    clicks, outline = [Click(60, 90)], None
    more = [Click(60, 150), Click(60, 60, False), Click(40, 90), Click(75, 90, False)]
    for click in [None, *more]:
        clicks = clicks if click is None else [*clicks, click]
        outline = eye.outline(clicks, outline)
        inside = outline.full(eye.image.shape)
        assert all(inside[round(c.row), round(c.column)] == c.positive for c in clicks)
        assert outline.begun == clicks[0]


def test_scales_are_chosen_anew_only_for_what_was_begun_with_the_first_click(eye, monkeypatch):
    found = eye.outline([Click(60, 90)])
    seen = []
    monkeypatch.setattr(
        "napari_unet.engine.click.is_explained", lambda *each: bool(seen.append(each)) or True
    )
    clicks = [Click(60, 90), Click(40, 90, False)]
    eye.outline(clicks, found)
    assert len(seen) == 1
    # What was finished, or found on another plane, was not clicked on in its middle.
    eye.outline(clicks, replace(found, begun=None))
    eye.outline([], found)
    assert len(seen) == 1
