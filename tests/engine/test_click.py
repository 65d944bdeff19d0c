"""Outlining the object under a click, with the network that comes with the program."""

import copy

import numpy as np
import pytest
import torch

from napari_unet import Segmenter
from napari_unet.engine.click import Clicker
from napari_unet.engine.click_looks import window_around
from napari_unet.engine.errors import NotReady
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import ExecutionPlan
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.checkpoint import save_model
from napari_unet.model.click import CHANNELS, load_click_network, window_input
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click, Outline, checked_clicks, next_click
from napari_unet.ops.errors import InputError


def disc(shape, row, column, radius):
    rows, columns = np.indices(shape)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def photograph(*masks, seed=0, contrast=1.0):
    """Bright masks on a dark ground, with noise."""
    rng = np.random.default_rng(seed)
    light = np.sum(masks, axis=0) * contrast
    return (light + rng.normal(0, 0.1, light.shape)).astype(np.float32)


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.fixture(scope="module")
def two_discs():
    shape = (160, 200)
    return disc(shape, 70, 60, 22), disc(shape, 90, 140, 14)


def clicker(image, **options):
    return Clicker(SourceImage(image), precision="fp32", **options)


def mask_of(found, image):
    return found.full(image.shape[:2])


@pytest.mark.parametrize(("most", "used"), [(None, 2), (1, 1)])
def test_no_more_threads_look_at_windows_than_asked(monkeypatch, two_discs, most, used):
    threads, seen, made = torch.get_num_threads(), set(), ExecutionPlan.for_prediction

    def noting(plan, network):
        run = made(plan, network)
        return lambda batch: seen.add(torch.get_num_threads()) or run(batch)

    monkeypatch.setattr(ExecutionPlan, "for_prediction", noting)
    torch.set_num_threads(2)
    try:
        clicker(photograph(*two_discs), threads=most).outline([((70, 60), True)])
        assert seen == {used}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("radius", [5, 15, 40, 150])
def test_one_click_outlines_a_disc_of_any_size(radius):
    side = int(radius * 3.2)
    truth = disc((side, side), side // 2, side // 2, radius)
    image = photograph(truth)
    found = clicker(image).outline([((side // 2, side // 2), True)])
    assert overlap(mask_of(found, image), truth) > 0.8


@pytest.mark.parametrize("how", ["dark", "uint16", "rgb", "scaled"])
def test_exposure_depth_and_colour_do_not_matter(two_discs, how):
    image = photograph(*two_discs)
    if how == "dark":
        image = -image
    elif how == "uint16":
        image = (image * 5000 + 20000).astype(np.uint16)
    elif how == "rgb":
        image = np.stack([image] * 3, axis=-1)
    elif how == "scaled":
        image = image * 1e-6
    found = clicker(image).outline([((70, 60), True)])
    assert overlap(mask_of(found, image), two_discs[0]) > 0.8


def test_grey_as_rgb_is_grey(two_discs):
    image = photograph(*two_discs)
    grey = clicker(image).outline([((70, 60), True)])
    rgb = clicker(np.stack([image] * 3, axis=-1)).outline([((70, 60), True)])
    assert overlap(mask_of(grey, image), mask_of(rgb, image)) > 0.99


def test_the_object_that_was_clicked_on_is_meant(two_discs):
    image = photograph(*two_discs)
    eye = clicker(image)
    for truth, place in zip(two_discs, ((70, 60), (90, 140)), strict=True):
        found = mask_of(eye.outline([(place, True)]), image)
        assert overlap(found, truth) > 0.8


def touching_discs(radius):
    side, half = 6 * radius + 30, 3 * radius + 15
    first, second = (disc((side, side), half, half + s * radius, radius) for s in (-1, 1))
    return (first, (half, half - radius)), (second & ~first, (half, half + radius))


@pytest.mark.parametrize("radius", [6, 15, 22])
def test_three_clicks_part_two_discs_that_touch(radius):
    pair = touching_discs(radius)
    image = photograph(*(truth for truth, _ in pair))
    for truth, place in pair:
        eye, clicks, previous = clicker(image), [Click(*place)], None
        for _ in range(3):
            previous = eye.outline(clicks, previous)
            if (wrong := next_click(truth, mask_of(previous, image))) is not None:
                clicks.append(wrong)
        assert overlap(mask_of(previous, image), truth) > 0.8


def test_an_earlier_answer_that_is_empty_is_none():
    truth = disc((300, 300), 220, 220, 12)
    image = photograph(truth)
    empty = Outline(np.s_[0:1, 0:1], np.zeros((1, 1), bool), 0.0)
    found = clicker(image).outline([((220, 220), True)], empty)
    assert overlap(mask_of(found, image), truth) > 0.8


def test_the_same_clicks_have_the_same_answer(two_discs):
    image = photograph(*two_discs)
    eye = clicker(image)
    first, again = (eye.outline([((71, 55), True)]) for _ in range(2))
    assert np.array_equal(mask_of(first, image), mask_of(again, image))


def test_positive_clicks_are_in_the_answer_and_negative_ones_are_not(two_discs):
    image = photograph(*two_discs)
    eye = clicker(image)
    clicks = [((70, 60), True), ((70, 75), False), ((40, 60), True), ((90, 60), False)]
    previous = None
    for count in range(1, len(clicks) + 1):
        previous = eye.outline(clicks[:count], previous)
        mask = mask_of(previous, image)
        for place, positive in clicks[:count]:
            assert mask[place] == positive


def test_of_contradictory_clicks_at_one_place_the_last_one_counts(two_discs):
    image = photograph(*two_discs)
    clicks = [((70, 60), False), ((70, 60), True)]
    assert mask_of(clicker(image).outline(clicks), image)[70, 60]
    turned = [((60, 60), True), ((70, 70), True), ((70, 70), False)]
    found = mask_of(clicker(image).outline(turned), image)
    assert found[60, 60]
    assert not found[70, 70]
    with pytest.raises(InputError, match="positive click"):
        clicker(image).outline(clicks[::-1])


def test_a_hundred_clicks_are_answered(two_discs):
    image = photograph(*two_discs)
    rng = np.random.default_rng(0)
    places = rng.integers(0, 160, (100, 2))
    clicks = [((int(r), int(c)), bool(two_discs[0][r, c])) for r, c in places]
    found = mask_of(clicker(image).outline([((70, 60), True), *clicks]), image)
    assert overlap(found, two_discs[0]) > 0.8


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (5, 5), (200, 2)])
def test_tiny_and_thin_images_are_answered(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    place = shape[0] // 2, shape[1] // 2
    assert mask_of(clicker(image).outline([(place, True)]), image)[place]


def test_an_object_of_three_pixels_and_one_that_fills_the_image():
    image = photograph(np.zeros((60, 60), bool))
    image[30, 30:33] = 3
    assert mask_of(clicker(image).outline([((30, 31), True)]), image)[30, 31]
    full = np.ones((50, 50), np.float32)
    assert mask_of(clicker(full).outline([((25, 25), True)]), full)[25, 25]


def test_a_box_alone_is_enough(two_discs):
    image = photograph(*two_discs)
    found = clicker(image).outline([], box=np.s_[46:95, 36:85])
    assert overlap(mask_of(found, image), two_discs[0]) > 0.7


def test_what_cannot_be_answered_is_refused_with_the_cure(two_discs):
    eye = clicker(photograph(*two_discs))
    with pytest.raises(InputError, match="positive click"):
        eye.outline([((3, 3), False)])
    with pytest.raises(InputError, match="click on the image"):
        eye.outline([((300, 3), True)])
    with pytest.raises(InputError, match="around an object"):
        eye.outline([], box=np.s_[500:600, 0:10])


def test_an_image_with_nan_is_refused(two_discs):
    image = photograph(*two_discs)
    image[0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        clicker(image).outline([((70, 60), True)])


@pytest.mark.parametrize("by", [(8, -16), (3, 5)])
def test_moving_the_image_moves_the_answer(by):
    shape = (220, 220)
    image = photograph(disc(shape, 110, 110, 18))
    moved = np.roll(image, by, axis=(0, 1))
    still = mask_of(clicker(image).outline([((110, 110), True)]), image)
    other = mask_of(clicker(moved).outline([((110 + by[0], 110 + by[1]), True)]), image)
    assert overlap(np.roll(still, by, axis=(0, 1)), other) > 0.95


def test_the_usual_size_is_known_after_three_objects(two_discs):
    eye = clicker(photograph(*two_discs))
    for radius in (10, 12):
        eye.commit(disc((160, 200), 80, 80, radius))
    assert eye.usual_extent is None
    eye.commit(Outline.of_mask(disc((160, 200), 80, 80, 20)))
    assert eye.usual_extent == 25
    eye.commit(np.zeros((160, 200), bool))
    assert len(eye.objects) == 3


# ---------------------------------------------------------------------- network


def test_the_windows_contrast_does_not_matter_to_the_network():
    image = torch.rand(1, 20, 20)
    others = torch.zeros(2, 20, 20), torch.zeros(20, 20), torch.full((20, 20), 0.5)
    first, second = (window_input(i, *others) for i in (image, image * 3 + 7))
    assert first.shape == (CHANNELS, 20, 20)
    assert torch.allclose(first, second, atol=1e-4)
    assert not first[3:].any(), "nothing is known: no click, no earlier answer, no hint"


def test_a_file_that_answers_no_clicks_is_refused(tmp_path):
    save_model(UNet(base_channels=4, depth=2), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not answer clicks"):
        load_click_network(tmp_path / "other.safetensors")


def test_the_bundled_network_is_small_enough():
    network = load_click_network()
    assert sum(p.numel() for p in network.parameters()) * 4 < 10e6
    assert not network.training


# ---------------------------------------------------------------------- facade


def test_the_segmenter_answers_clicks(two_discs):
    image = photograph(*two_discs)
    segmenter = Segmenter(classes=2)
    with pytest.raises(NotReady, match="set_image"):
        segmenter.click([((70, 60), True)])
    assert segmenter.set_image(image) is segmenter
    mask = segmenter.click([((70, 60), True)])
    assert mask.dtype == bool
    assert mask.shape == image.shape
    assert overlap(mask, two_discs[0]) > 0.8
    again = segmenter.click([((70, 60), True), ((70, 40), True)], mask)
    assert again[70, 40]
    with pytest.raises(InputError, match="previous has shape"):
        segmenter.click([((70, 60), True)], mask[:5])


def test_a_fine_tuned_network_gives_a_hint(two_discs):
    image = photograph(*two_discs)
    segmenter = Segmenter(classes=2, config=FinetuneConfig(precision="fp32"))
    segmenter.set_image(image)
    strokes = np.zeros(image.shape, np.uint8)
    strokes[60:64, 50:70], strokes[10:14, 10:90] = 2, 1
    segmenter.annotate(strokes)
    segmenter.fine_tune(steps=1)
    assert overlap(segmenter.click([((70, 60), True)]), two_discs[0]) > 0.6
    assert segmenter.clicker._hint is not None


def test_a_round_that_was_taken_back_gives_no_hint(two_discs):
    image = photograph(*two_discs)
    segmenter = Segmenter(classes=2, config=FinetuneConfig(precision="fp32")).set_image(image)
    strokes = np.zeros(image.shape, np.uint8)
    strokes[60:64, 50:70], strokes[10:14, 10:90] = 2, 1
    segmenter.annotate(strokes)
    segmenter.fine_tune(steps=1)
    assert segmenter.clicker._hint is not None
    list(segmenter.undo_round_job())
    assert segmenter.clicker._hint is None


@pytest.fixture
def windows_looked_at(monkeypatch):
    """How many windows were looked at in each go."""
    counts = []
    looks = Clicker._looks

    def counted(self, windows, *rest):
        counts.append(len(windows))
        return looks(self, windows, *rest)

    monkeypatch.setattr(Clicker, "_looks", counted)
    return counts


def test_objects_of_the_usual_size_need_no_search_for_their_scale(windows_looked_at):
    shape = (300, 420)
    alike = [disc(shape, 50, 50 + 90 * n, 14) for n in range(4)]
    large = disc(shape, 200, 200, 70)
    image = photograph(*alike, large)
    eye = clicker(image)
    for truth in alike[:3]:
        eye.commit(truth)
    found = eye.outline([((50, 320), True)])
    assert windows_looked_at == [1, 1]
    assert overlap(mask_of(found, image), alike[3]) > 0.8
    windows_looked_at.clear()
    found = eye.outline([((200, 200), True)])
    usual, search, *again = windows_looked_at
    assert usual == 1
    assert search > 3
    assert 1 <= len(again) <= search  # each object that was seen is looked at once more
    assert overlap(mask_of(found, image), large) > 0.8


def test_the_answer_of_another_network_counts_at_the_first_look_alone(two_discs):
    image = photograph(*two_discs)
    eye = clicker(image)
    clicks = [((70, 60), True), ((70, 75), True)]
    first = eye.outline(clicks[:1])
    second = eye.outline(clicks, first)
    eye.set_hint(np.full(image.shape, 0.9, np.float32))
    np.testing.assert_array_equal(eye.outline(clicks, first).mask, second.mask)
    misled = eye._looks([window_around(first.box)], checked_clicks(clicks[:1], image.shape))
    eye.set_hint(None)
    plain = eye._looks([window_around(first.box)], checked_clicks(clicks[:1], image.shape))
    assert not np.array_equal(misled[0].probability, plain[0].probability)


def test_another_network_that_denies_the_object_is_not_believed(two_discs):
    image = photograph(*two_discs)
    eye = clicker(image)
    click = [((70, 60), True)]
    plain = eye.outline(click)
    eye.set_hint(np.zeros(image.shape, np.float32))
    np.testing.assert_array_equal(eye.outline(click).mask, plain.mask)


def test_getting_ready_changes_no_answer(two_discs):
    image = photograph(*two_discs)
    ready, other = clicker(image), clicker(image)
    ready.get_ready()
    np.testing.assert_array_equal(
        ready.outline([((70, 60), True)]).mask, other.outline([((70, 60), True)]).mask
    )


def test_what_was_looked_at_ahead_is_not_looked_at_again(two_discs, windows_looked_at):
    image = photograph(*two_discs)
    fresh, eye = clicker(image), clicker(image)
    clicks = checked_clicks([((70, 60), True)], image.shape)
    expected = fresh.outline(clicks)
    together = list(windows_looked_at)
    windows_looked_at.clear()
    list(eye.outlines(clicks, piecewise=True))
    assert windows_looked_at == [1] * sum(together), "one by one"
    windows_looked_at.clear()
    found = eye.outline(clicks)
    assert not windows_looked_at
    assert found.box == expected.box
    np.testing.assert_array_equal(found.mask, expected.mask)


def test_looking_ahead_that_was_broken_off_is_gone_on_with(two_discs, windows_looked_at):
    image = photograph(*two_discs)
    eye = clicker(image)
    clicks = checked_clicks([((70, 60), True)], image.shape)
    ahead = eye.outlines(clicks, piecewise=True)
    next(ahead)
    next(ahead)
    ahead.close()
    windows_looked_at.clear()
    expected = clicker(image).outline(clicks)
    together = sum(windows_looked_at)
    windows_looked_at.clear()
    found = eye.outline(clicks)
    assert sum(windows_looked_at) == together - 2
    np.testing.assert_array_equal(found.mask, expected.mask)


@pytest.mark.parametrize("change", ["clicks", "usual", "hint", "network", "previous"])
def test_another_question_is_answered_anew(two_discs, windows_looked_at, change):
    image = photograph(*two_discs)
    eye = clicker(image)
    first = eye.outline([((70, 60), True)])
    windows_looked_at.clear()
    if change == "hint":
        eye.set_hint(np.full(image.shape, 0.5, np.float32))
    elif change == "network":
        eye.use_network(copy.deepcopy(eye.network))
    eye.outline(
        [((70, 61 if change == "clicks" else 60), True)],
        first if change == "previous" else None,
        usual=40.0 if change == "usual" else None,
    )
    assert windows_looked_at


def test_what_is_seen_at_first_comes_before_the_answer(two_discs):
    image = photograph(*two_discs)
    eye = clicker(image)
    clicks = [((70, 60), True)]
    [seen] = filter(None, eye.outlines(clicks))
    assert seen.full(image.shape)[70, 60]
    assert not list(filter(None, eye.outlines([*clicks, ((70, 61), True)], seen)))
