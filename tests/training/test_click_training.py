"""The training script of the click network, on a few small scenes and without photographs."""

import dataclasses
import math

import click_network
import loop
import numpy as np
import pytest
import torch
from click_batch import ClickBatch
from click_data import DrawnObjects, Objects
from click_network import Learner, Settings, Sources, train, train_step
from loop import Pace, rate
from pool import Pool
from scipy import ndimage

from napari_unet.model.checkpoint import load_notes
from napari_unet.model.click import CHANNELS, load_click_network

SIDE = 48
CPU = torch.device("cpu")
SETTINGS = Settings(steps=2, batch=2, side=SIDE, next_side=SIDE, largest=40, photographs=False)


@pytest.fixture
def sources(scenes):
    return Sources(SETTINGS, scenes, None)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def inputs(samples):
    return torch.stack([each.network_input() for each in samples])


def test_a_step_has_the_same_batch_whenever_it_is_drawn(scenes, sources):
    later = inputs(sources.batch(3))
    first = inputs(sources.batch(2))
    again = Sources(SETTINGS, scenes, None)
    assert torch.equal(inputs(again.batch(2)), first)
    assert torch.equal(inputs(again.batch(3)), later)
    assert not torch.equal(first, later)


def test_samples_are_fit_to_learn_from(sources):
    samples = [sample for step in range(30) for sample in sources.batch(step)]
    assert len(samples) == 30 * SETTINGS.batch
    for sample in samples:
        assert sample.network_input().shape == (CHANNELS, SIDE, SIDE)
        assert torch.isfinite(sample.network_input()).all()
        assert sample.truth.sum() >= 9
        assert sample.real.mean() >= 0.4
        assert 0 <= float(sample.hint.min())
        assert float(sample.hint.max()) <= 1
        assert bool(sample.clicks) != bool(sample.earlier.any()), "a click, or something earlier"
        for click in sample.clicks:
            assert click.positive
            assert sample.truth[int(click.row), int(click.column)]


@pytest.mark.parametrize("make", [click_network._box, click_network._neighbour])
def test_what_was_there_before_is_about_the_object(make):
    truth = np.zeros((SIDE, SIDE), bool)
    truth[15:33, 10:30] = True
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(20):
        earlier = make(truth, rng).numpy()
        assert earlier.min() >= 0
        assert earlier.max() <= 1
        overlaps.append(((earlier > 0) & truth).sum() / ((earlier > 0) | truth).sum())
    assert min(overlaps) > 0.5
    assert min(overlaps) < 1, "not quite right"


def test_a_coarser_answer_is_about_the_object():
    truth = np.zeros((SIDE, SIDE), bool)
    truth[12:36, 10:34] = True
    coarse = click_network._coarse(truth, np.random.default_rng(0)).numpy()
    assert set(np.unique(coarse)) == {0, 1}
    assert ((coarse > 0) & truth).sum() / ((coarse > 0) | truth).sum() > 0.6


def test_a_step_has_a_finite_loss_and_gradient_for_every_layer(sources):
    learner = Learner().eval()
    loss, overlap = train_step(learner, sources[0].to(CPU), 1, torch.Generator())
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert 0 <= float(overlap) <= 1
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_rate_rises_and_then_falls_to_almost_nothing():
    pace = Pace(1000)
    rates = [rate(step, pace.done(step), 1e-3) for step in range(1001)]
    top = int(np.argmax(rates))
    assert 150 < top < 220
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 1e-5


def test_a_training_that_was_stopped_goes_on_where_it_was(
    scenes, sources, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(loop, "_SAVE_EVERY", 1)

    class Interrupted(Sources):
        def batch(self, step):
            if step == 1:
                raise OSError("the machine went down")
            return super().batch(step)

    unbroken, broken = tmp_path / "unbroken.safetensors", tmp_path / "broken.safetensors"
    train(SETTINGS, sources, unbroken, CPU)
    with pytest.raises(OSError, match="went down"):
        train(SETTINGS, Interrupted(SETTINGS, scenes, None), broken, CPU)
    train(SETTINGS, sources, broken, CPU)
    assert "going on at step 1" in capsys.readouterr().out
    first, second = (load_click_network(path).state_dict() for path in (unbroken, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load_notes(broken)["training"]["steps"] == 2


def test_a_training_ends_when_its_time_is_over(sources, tmp_path):
    limited = dataclasses.replace(SETTINGS, steps=1000, minutes=0.01)
    train(limited, sources, tmp_path / "limited.safetensors", CPU)
    assert 0 < load_notes(tmp_path / "limited.safetensors")["training"]["made"] < 1000


def test_other_processes_draw_the_same(scenes, sources, tmp_path):
    for workers in (0, 2):
        train(SETTINGS, sources, tmp_path / f"{workers}.safetensors", CPU, workers)
    first, second = (
        load_click_network(tmp_path / f"{workers}.safetensors").state_dict() for workers in (0, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------------- the robot


def one_window(truth, answer, real=None):
    """A batch of one window, of nothing but its prompts."""
    side = truth.shape[0]
    real = np.ones_like(truth) if real is None else real
    masks = (torch.from_numpy(mask)[None] for mask in (truth, real))
    batch = ClickBatch(torch.zeros(1, CHANNELS, side, side), *masks)
    return batch, torch.from_numpy(answer.astype(np.float32))[None]


def clicked(batch):
    """The middles of the positive and of the negative discs."""
    found = []
    for discs in batch.inputs[0, 3:5].numpy() > 0:
        labels, count = ndimage.label(discs)
        found.append(
            [tuple(map(round, ndimage.center_of_mass(labels == n + 1))) for n in range(count)]
        )
    return found


def test_the_robot_clicks_into_what_is_wrong():
    truth, answer = (np.zeros((SIDE, SIDE), bool) for _ in range(2))
    truth[10:30, 10:30] = True
    answer[10:30, 10:20] = True  # the right half is missing
    for seed in range(30):
        batch, given = one_window(truth, answer)
        batch.click_again(given, torch.Generator().manual_seed(seed))
        assert torch.equal(batch.inputs[0, 5], given[0])
        positive, negative = clicked(batch)
        assert not negative
        for row, column in positive:
            assert 10 < row < 29
            assert 20 < column < 29


def test_the_robot_says_no_where_there_is_too_much_and_stays_within_the_image():
    truth, answer, real = (np.zeros((SIDE, SIDE), bool) for _ in range(3))
    truth[10:20, 10:20] = answer[10:20, 10:20] = True
    answer[30:40, 5:40] = True
    real[:, :30] = True
    some = []
    for seed in range(30):
        batch, given = one_window(truth, answer, real)
        batch.click_again(given, torch.Generator().manual_seed(seed))
        positive, negative = clicked(batch)
        assert not positive
        some += negative
    assert len(some) > 15, "now and then it only asks again"
    assert all(30 < row < 39 and 5 < column < 29 for row, column in some)


def test_the_robot_prefers_the_larger_of_two_regions():
    truth, answer = (np.zeros((SIDE, SIDE), bool) for _ in range(2))
    truth[5:25, 5:25] = True
    truth[35:40, 35:40] = True
    places = []
    for seed in range(60):
        batch, given = one_window(truth, answer)
        batch.click_again(given, torch.Generator().manual_seed(seed))
        places += clicked(batch)[0]
    assert sum(row < 30 for row, _ in places) > 0.9 * len(places)


def test_nothing_wrong_is_not_clicked_on():
    truth = np.zeros((SIDE, SIDE), bool)
    truth[5:25, 5:25] = True
    nearly = truth.copy()
    nearly[30, 30:33] = True  # three pixels are not worth a click
    for answer in (truth, nearly):
        batch, given = one_window(truth, answer)
        batch.click_again(given, torch.Generator())
        assert clicked(batch) == [[], []]


# ---------------------------------------------------------------------- data


def test_specks_are_no_objects():
    labels = np.zeros((40, 50), np.uint16)
    labels[2:4, 2:4], labels[10:20, 30:45] = 1, 5
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    objects = Objects.of(image, labels)
    assert objects.image.shape == (3, 40, 50)
    [(number, box)] = objects.boxes
    assert number == 5
    assert box == np.s_[10:20, 30:45]


def test_drawn_objects_are_cells_or_parts_of_regions(scenes):
    found = {}
    for share in (0.0, 1.0):
        drawn = DrawnObjects(Pool(scenes), share)
        rng = np.random.default_rng(0)
        found[share] = [drawn.draw(rng) for _ in range(5)]
        assert all(each.boxes for each in found[share])
    for each in found[1.0]:
        areas = np.bincount(each.labels.ravel())[1:]
        assert areas[areas > 0].min() >= 40
