"""What the click network learns from, and adapting a copy of it to a few objects."""

import threading

import numpy as np
import pytest
import torch

from napari_unet.engine import click_learning
from napari_unet.engine.click import Clicker
from napari_unet.engine.click_learning import (
    Adaptation,
    KnownObject,
    Sample,
    click_again,
    click_into,
    click_loss,
    cut_sample,
    rounds_of_clicks,
    stacked,
)
from napari_unet.engine.click_looks import window_around
from napari_unet.engine.click_teaching import adapt_job
from napari_unet.engine.image import SourceImage
from napari_unet.model.click import CHANNELS
from napari_unet.model.unet import UNet
from napari_unet.model.windows import DrawnMask, Pyramid
from napari_unet.ops.clicks import DISC_RADIUS, Click, Window, known_outlines

SIDE = 40


def square(rows, columns, shape=(SIDE, SIDE)):
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


def sample_of(truth, real=None):
    side = truth.shape
    everywhere = np.ones(side, bool)
    return Sample(
        torch.rand(1, *side),
        truth,
        everywhere if real is None else real,
        torch.zeros(side),
        torch.full(side, 0.5),
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def always_clicks(monkeypatch):
    monkeypatch.setattr(click_learning, "ASKED_AGAIN", 0.0)


# ---------------------------------------------------------------------- samples


def test_a_sample_of_whole_pixels_is_the_crop_without_a_prompt(rng):
    image = rng.random((1, 60, 60)).astype(np.float32)
    mask = square(slice(20, 33), slice(25, 40), (60, 60))
    known = DrawnMask(mask[20:33, 25:40], np.s_[20:33, 25:40])
    sample = cut_sample(Pyramid(torch.from_numpy(image)), known, Window(29.5, 29.5, 1, SIDE))
    crop = np.s_[10:50, 10:50]
    assert np.array_equal(sample.truth, mask[crop])
    assert np.allclose(sample.image, image[0][crop], atol=1e-4)
    assert sample.real.all()
    assert not sample.earlier.any()
    assert not sample.clicks
    assert (sample.hint == 0.5).all()


def test_turned_and_mirrored_the_truth_stays_on_the_object():
    mask = square(slice(20, 33), slice(25, 45), (60, 60))
    image = Pyramid(torch.from_numpy(mask[None].astype(np.float32)))
    known = DrawnMask(mask[20:33, 25:45], np.s_[20:33, 25:45])
    for turn, mirrored in ((0.4, False), (2.5, True), (np.pi / 2, True)):
        sample = cut_sample(image, known, Window(30, 30, 0.8, SIDE), turn, mirrored)
        assert ((sample.image[0].numpy() > 0.5) == sample.truth).all()


def test_too_little_of_the_object_or_of_the_image_teaches_nothing():
    image = Pyramid(torch.zeros(1, 60, 60))
    small = DrawnMask(np.ones((2, 4), bool), np.s_[30:32, 30:34])
    large = DrawnMask(np.ones((20, 20), bool), np.s_[20:40, 20:40])
    assert cut_sample(image, small, Window(30, 30, 1, SIDE)) is None, "8 pixels"
    assert cut_sample(image, small, Window(30, 30, 2, SIDE)) is not None, "32 pixels"
    assert cut_sample(image, large, Window(55, 55, 1, 20)) is None, "beside the object"
    assert cut_sample(image, large, Window(30, 30, 0.5, SIDE)) is not None, "56% is the image"
    assert cut_sample(image, large, Window(30, 30, 0.3, SIDE)) is None, "20% is the image"


def test_the_networks_input_has_the_clicks_where_they_are():
    sample = sample_of(square(slice(10, 20), slice(10, 20)))
    sample.clicks += [Click(12, 30), Click(33, 7, False)]
    found = sample.network_input()
    assert found.shape == (CHANNELS, SIDE, SIDE)
    for channel, place in ((3, (12, 30)), (4, (33, 7))):
        rows, columns = np.nonzero(found[channel].numpy())
        assert np.hypot(rows - place[0], columns - place[1]).max() <= DISC_RADIUS
        assert found[channel][place] == 1


# ---------------------------------------------------------------------- the robot


def test_the_robot_clicks_inside_rather_than_at_the_border(rng):
    region = square(slice(5, 30), slice(5, 30))
    clicks = [click_into(region, True, rng) for _ in range(100)]
    depth = [min(c.row - 4, 30 - c.row, c.column - 4, 30 - c.column) for c in clicks]
    assert min(depth) >= 0.3 * 13
    assert all(click.positive for click in clicks)
    assert len({(c.row, c.column) for c in clicks}) > 20, "not always the same place"
    only = click_into(square(3, 4), False, rng)
    assert (only.row, only.column, only.positive) == (3, 4, False)


@pytest.mark.usefixtures("always_clicks")
def test_what_was_left_out_gets_a_positive_click_and_what_was_added_a_negative_one(rng):
    truth, answer = square(slice(5, 15), slice(5, 15)), square(slice(25, 35), slice(25, 35))
    clicks = []
    for given in (np.zeros(truth.shape), (truth | answer)):
        sample = sample_of(truth)
        click_again(sample, given.astype(np.float32), rng)
        assert np.array_equal(sample.earlier, given)
        clicks += sample.clicks
    missing, surplus = clicks
    assert missing.positive
    assert truth[int(missing.row), int(missing.column)]
    assert not surplus.positive
    assert answer[int(surplus.row), int(surplus.column)]


@pytest.mark.usefixtures("always_clicks")
def test_large_errors_are_clicked_more_often(rng):
    truth = square(slice(0, 20), slice(0, 20)) | square(slice(30, 36), slice(30, 36))
    large = 0
    for _ in range(60):
        sample = sample_of(truth)
        click_again(sample, np.zeros(truth.shape, np.float32), rng)
        large += sample.clicks[0].row < 20
    assert large > 50


@pytest.mark.usefixtures("always_clicks")
def test_nothing_is_clicked_where_nothing_is_to_be_won(rng):
    truth = square(slice(10, 20), slice(10, 20))
    right = truth.astype(np.float32)
    speck = right.copy()
    speck[30, 30:33] = 1
    beyond = right.copy()
    beyond[:, 35:] = 1
    for answer in (right, speck, beyond):
        sample = sample_of(truth, real=square(slice(None), slice(0, 35)))
        click_again(sample, answer, rng)
        assert not sample.clicks


def test_now_and_then_the_same_clicks_are_asked_again(rng):
    truth = square(slice(5, 30), slice(5, 30))
    counts = []
    for _ in range(200):
        sample = sample_of(truth)
        click_again(sample, np.zeros(truth.shape, np.float32), rng)
        counts.append(len(sample.clicks))
    assert 0.75 < np.mean(counts) < 0.95
    assert {rounds_of_clicks(rng) for _ in range(200)} == {0, 1, 2, 3}


# ---------------------------------------------------------------------- the loss


def test_the_loss_is_small_for_what_is_right_and_large_for_what_is_wrong():
    truth, real = stacked([sample_of(square(slice(10, 20), slice(10, 20)))])
    sure = 20 * (2 * truth - 1)
    values = [float(click_loss(logit, truth, real)) for logit in (sure, 0 * sure, -sure)]
    assert values[0] == pytest.approx(0, abs=1e-3)
    assert values[0] < values[1] < values[2]


def test_what_is_no_image_does_not_count():
    real = square(slice(None), slice(0, 30))
    samples = [sample_of(square(slice(10, 20), slice(10, 20)), real)]
    truth, where = stacked(samples)
    logit = torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    other = torch.where(where > 0, logit, -30.0)
    assert torch.allclose(click_loss(logit, truth, where), click_loss(other, truth, where))


def test_an_object_that_is_overlooked_costs_much_whatever_its_size():
    losses = []
    for side in (6, 30):
        truth, real = stacked([sample_of(square(slice(5, 5 + side), slice(5, 5 + side)))])
        losses.append(float(click_loss(torch.full_like(truth, -4.0), truth, real)))
    assert min(losses) > 0.9


def test_truths_are_stacked_as_numbers():
    samples = [sample_of(square(slice(10, 20), slice(10, 20))) for _ in range(3)]
    truth, real = stacked(samples)
    assert truth.shape == real.shape == (3, SIDE, SIDE)
    assert truth.dtype == real.dtype == torch.float32
    assert float(truth.sum()) == 3 * 100


# ---------------------------------------------------------------------- adapting


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(CHANNELS, 2, 4, 4, batch_norm=True, dropout=0.0, padded=True).eval()


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(click_learning, "_STEPS", 3)
    monkeypatch.setattr(click_learning, "_BATCH", 2)


def objects(count):
    """Bright squares on a dark ground, in rows of five."""
    labels = np.zeros((200, 200), np.int32)
    for n in range(count):
        row, column = 10 + 40 * (n // 5), 10 + 40 * (n % 5)
        labels[row : row + 16, column : column + 16] = n + 1
    noise = np.random.default_rng(0).normal(0, 0.1, labels.shape)
    image = Pyramid(torch.from_numpy(((labels > 0) + noise).astype(np.float32))[None])
    return [
        KnownObject(image, DrawnMask(each.mask, each.box), window_around(each.box))
        for each in known_outlines(labels)
    ]


def state(network):
    return torch.cat([t.detach().float().flatten() for t in network.state_dict().values()])


@pytest.mark.usefixtures("short")
def test_a_seed_decides_the_weights(network):
    found = []
    for seed in (0, 0, 1):
        adaptation = Adaptation(network, objects(3), seed=seed)
        list(adaptation.job())
        found.append(state(adaptation.network))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.usefixtures("short")
def test_the_given_network_stays_as_it_is(network):
    network.requires_grad_(False)
    before = state(network).clone()
    adaptation = Adaptation(network, objects(3))
    events = list(adaptation.job())
    assert [(event.step, event.total) for event in events] == [(1, 3), (2, 3), (3, 3)]
    assert all(np.isfinite(event.loss) for event in events)
    assert torch.equal(state(network), before)
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert adaptation.network is not network
    assert not torch.equal(state(adaptation.network), before)


def test_adapting_learns(network, monkeypatch):
    monkeypatch.setattr(click_learning, "_STEPS", 24)
    monkeypatch.setattr(click_learning, "_BATCH", 2)
    monkeypatch.setattr(click_learning, "_RATE", 1e-2)
    losses = [event.loss for event in Adaptation(network, objects(3)).job()]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


@pytest.mark.usefixtures("short")
def test_few_objects_are_all_learned_from_and_of_many_some_are_held_back(network):
    for count in (7, 8):
        adaptation = Adaptation(network, objects(count))
        list(adaptation.job())
        measured = adaptation.before, adaptation.after
        assert (None in measured) == (count < 8)
        assert all(each is None or 0 <= each <= 1 for each in measured)


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [(0.5, 0.6, True), (0.5, 0.53, True), (0.5, 0.51, False), (0.5, 0.5, False), (0.5, 0.4, False)],
)
def test_what_is_no_better_on_what_was_held_back_is_not_used(network, before, after, used):
    adaptation = Adaptation(network, objects(1))
    adaptation.before, adaptation.after = before, after
    assert (adaptation.network is not network) == used


@pytest.mark.usefixtures("short")
def test_stopped_after_a_step_it_has_learned_that_much(network):
    stop = threading.Event()
    adaptation = Adaptation(network, objects(3))
    job = adaptation.job(stop)
    next(job)
    stop.set()
    assert not list(job)
    assert not torch.equal(state(adaptation.network), state(network))


THIN = square(100, slice(20, 180), (200, 200))
FILLS = square(slice(3, 37), slice(3, 37))


@pytest.mark.parametrize("mask", [THIN, FILLS], ids=["thin line", "fills the image"])
@pytest.mark.usefixtures("short")
def test_an_object_that_no_window_shows_well_does_not_end_the_job(network, mask):
    clicker = Clicker(SourceImage(mask.astype(np.float32)), network, precision="fp32")
    clicker.commit(mask)
    list(adapt_job(clicker))
