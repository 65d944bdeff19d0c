import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_unet.ops.errors import InputError
from napari_unet.ops.metrics import pixel_error, split_merge_error, warp, warping_error

EIGHT = np.ones((3, 3))
pairs_of_masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def topology(mask):
    """Objects (4-connected), and pieces of background (8-connected, outside included)."""
    padded = np.pad(mask, 1)
    return ndimage.label(padded)[1], ndimage.label(~padded, EIGHT)[1]


def keeps_topology(mask, place):
    """Whether a flip changes no object and no hole, by counting them in the whole image."""
    flipped = mask.copy()
    flipped[place] ^= True
    if topology(flipped) != topology(mask):
        return False
    # A flip that joins two objects and makes one, or the like, changes the counts of neither: it
    # would leave the pixel with foreground or background alone around it.
    y, x = place[0] + 1, place[1] + 1
    window = np.pad(mask, 1)[y - 1 : y + 2, x - 1 : x + 2]
    return (
        window[[0, 1, 1, 2], [1, 0, 2, 1]].any()
        and not window.ravel()[[0, 1, 2, 3, 5, 6, 7, 8]].all()
    )


@given(pairs_of_masks)
@settings(max_examples=200)
def test_warping_keeps_the_topology_and_stops_only_where_it_must(pair):
    source, target = pair
    warped = warp(source, target)
    assert topology(warped) == topology(source)
    assert ((warped == source) | (warped == target)).all()
    for place in zip(*np.nonzero(warped != target), strict=True):
        assert not keeps_topology(warped, place)


@given(pairs_of_masks)
def test_warping_helps_and_comes_out_the_same_again(pair):
    prediction, truth = pair
    error = warping_error(prediction, truth)
    assert 0 <= split_merge_error(prediction, truth) <= error <= pixel_error(prediction, truth)
    assert warping_error(prediction, truth) == error


def test_a_moved_outline_is_no_error():
    truth, prediction = np.zeros((2, 12, 12), bool)
    truth[2:8, 2:8] = True
    prediction[4:11, 3:10] = True
    assert pixel_error(prediction, truth) > 0
    assert warping_error(prediction, truth) == 0


def wall(gap=None):
    """Two cells with a wall between them, perhaps with a gap in it."""
    mask = np.ones((9, 9), bool)
    mask[:, 4] = False
    if gap is not None:
        mask[gap, 4] = True
    return mask


def test_a_gap_in_a_wall_is_one_pixel_and_so_is_a_bridge():
    for prediction, truth in ((wall(gap=4), wall()), (wall(), wall(gap=4))):
        assert warping_error(prediction, truth) == split_merge_error(prediction, truth) == 1 / 81


def test_a_missing_wall_costs_its_length():
    # The outside continues the wall: it has no end where it could be shortened.
    assert warping_error(np.ones((9, 9), bool), wall()) == 9 / 81


def test_objects_and_holes_that_come_and_go_are_no_splits_or_mergers():
    plain = np.zeros((9, 9), bool)
    plain[1:8, 1:8] = True
    hole, speck = plain.copy(), np.pad(plain, ((0, 0), (0, 4)))
    hole[4, 4] = False
    wide = speck.copy()
    speck[4, 10] = True
    for a, b in ((plain, hole), (wide, speck)):
        for prediction, truth in ((a, b), (b, a)):
            assert warping_error(prediction, truth) == 1 / a.size
            assert split_merge_error(prediction, truth) == 0


def splits_or_merges(mask, y, x):
    """The organisers' rule, with the whole image labelled anew for each pixel."""
    objects, _ = ndimage.label(mask)
    around = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]

    def others(labels):
        window = labels[around].copy()
        window[y - around[0].start, x - around[1].start] = 0
        return set(window.ravel().tolist()) - {0}

    if len(others(objects)) > 1:
        return True
    if not mask[y, x]:
        return False
    without = mask.copy()
    without[y, x] = False
    return len(others(ndimage.label(without)[0])) > 1


@given(pairs_of_masks)
@settings(max_examples=200)
def test_splits_and_mergers_agree_with_labelling_anew(pair):
    prediction, truth = pair
    warped = warp(truth, prediction)
    wrong = np.argwhere(warped != prediction)
    expected = sum(splits_or_merges(warped, y, x) for y, x in wrong)
    assert split_merge_error(prediction, truth) == pytest.approx(expected / warped.size)


@pytest.mark.parametrize("error", [warping_error, split_merge_error])
def test_at_the_ends(error):
    nothing, everything = np.zeros((5, 6), bool), np.ones((5, 6), bool)
    assert error(nothing, nothing) == error(everything, everything) == 0
    # An object cannot vanish, nor come from nowhere: one pixel of it stays, or all are missing.
    lost, made_up = error(nothing, everything), error(everything, nothing)
    assert (lost, made_up) == ((1 / 30, 1) if error is warping_error else (0, 0))
    assert error(np.zeros((0, 4), bool), np.zeros((0, 4), bool)) == 0
    with pytest.raises(InputError, match="cannot be compared"):
        error(nothing, everything.T)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.int32])
def test_masks_may_be_of_any_kind(kind):
    white = wall().astype(kind) * np.asarray(200, kind)
    assert warping_error(wall(gap=4).astype(kind), white) == 1 / 81


def test_a_large_image_takes_no_time(rng):
    smooth = ndimage.gaussian_filter(rng.normal(size=(512, 512)), 4)
    smooth /= smooth.std()
    truth, prediction = abs(smooth) > 0.3, abs(smooth + 0.05) > 0.3
    assert 0.02 < pixel_error(prediction, truth) < 0.1
    started = time.perf_counter()
    warping_error(prediction, truth)
    split_merge_error(prediction, truth)
    assert time.perf_counter() - started < 5  # 0.2 s on an idle core
