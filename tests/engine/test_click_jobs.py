"""Jobs around clicks: stacks, proposals, adapting."""

import threading

import numpy as np
import pytest
import torch

from napari_unet.engine import click_jobs, click_learning
from napari_unet.engine.click import Clicker
from napari_unet.engine.click_jobs import (
    ClickRequest,
    look_ahead_job,
    outline_job,
    propagate_job,
    propose_job,
)
from napari_unet.engine.click_teaching import adapt_job
from napari_unet.engine.events import AdaptingStepMade, ClicksAdapted, ObjectOutlined, PieceDone
from napari_unet.engine.image import SourceImage
from napari_unet.model.click import load_click_network
from napari_unet.ops.clicks import Click, Outline
from napari_unet.ops.errors import InputError

SHAPE = (200, 200)
MIDDLES = [(r, c) for r in (30, 76, 122, 168) for c in (30, 76, 122, 168)]
RADIUS = 12


def disc(row, column, radius=RADIUS):
    rows, columns = np.indices(SHAPE)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


@pytest.fixture(scope="module")
def field():
    """Sixteen discs, as an image and as labels."""
    labels = np.zeros(SHAPE, np.int32)
    for number, middle in enumerate(MIDDLES, start=1):
        labels[disc(*middle)] = number
    noise = np.random.default_rng(0).normal(0, 0.1, SHAPE)
    return ((labels > 0) + noise).astype(np.float32), labels


@pytest.fixture
def clicker(field):
    return Clicker(SourceImage(field[0]), precision="fp32")


@pytest.mark.parametrize("slow", [False, True])
def test_clicks_are_answered_once_and_before_if_it_takes_long(clicker, monkeypatch, slow):
    monkeypatch.setattr(click_jobs, "_PATIENCE", -1.0 if slow else 1e9)
    monkeypatch.setattr(click_jobs, "_SLOW", 1e9)
    *before, event = outline_job(clicker, ClickRequest((Click(30, 30),)))
    assert isinstance(event, ObjectOutlined)
    assert event.is_final
    assert event.outline.full(SHAPE)[30, 30]
    assert [each.is_final for each in before] == [False] * slow
    assert all(each.outline.full(SHAPE)[30, 30] for each in before)


def test_looking_ahead_gives_way_and_ends_when_it_is_told_to(clicker):
    stop = threading.Event()
    ahead = look_ahead_job(clicker, ClickRequest((Click(30, 30),)), stop)
    for _ in range(2):
        assert isinstance(next(ahead), PieceDone)
    stop.set()
    assert not list(ahead)


def test_looking_ahead_at_what_cannot_be_clicked_on_does_nothing(clicker):
    assert not list(look_ahead_job(clicker, ClickRequest((Click(-3, 30),)), threading.Event()))


def test_the_others_are_proposed(clicker, field):
    labels = np.where(field[1] <= 3, field[1], 0)
    events = list(propose_job(clicker, labels))
    assert events[-1].done == events[-1].total > 0
    taken = labels > 0
    found = 0
    for outline in (o for event in events for o in event.outlines):
        mask = outline.full(SHAPE)
        assert not (mask & taken).any(), "none overlaps another"
        taken |= mask
        found += max((mask & disc(*m)).sum() / (mask | disc(*m)).sum() for m in MIDDLES) > 0.6
    assert found >= 10


def test_one_object_does_not_tell_what_to_look_for(clicker, field):
    with pytest.raises(InputError, match="commit 2 objects first"):
        list(propose_job(clicker, np.where(field[1] == 1, 1, 0)))


def test_looking_for_others_can_be_stopped(clicker, field):
    stop = threading.Event()
    stop.set()
    assert not list(propose_job(clicker, np.where(field[1] <= 3, field[1], 0), stop))


def test_nothing_is_proposed_after_a_stop(clicker, field):
    stop = threading.Event()
    job = propose_job(clicker, np.where(field[1] <= 3, field[1], 0), stop)
    for event in job:
        if event.outlines:
            break
    stop.set()
    assert event.done < event.total
    assert not list(job)


def ball():
    """A ball of radius 18 in 48 planes, which ends at planes 6 and 42."""
    planes = []
    for plane in range(48):
        radius = np.sqrt(max(18**2 - (plane - 24) ** 2, 0))
        noise = np.random.default_rng(plane).normal(0, 0.1, (96, 96))
        rows, columns = np.indices((96, 96))
        inside = (rows - 48) ** 2 + (columns - 48) ** 2 <= radius**2
        planes.append(((inside if radius else False) + noise).astype(np.float32))
    return planes


def test_an_object_is_followed_through_a_stack_until_it_ends():
    clickers = [Clicker(SourceImage(plane), precision="fp32") for plane in ball()]
    start = clickers[24].outline([((48, 48), True)])
    events = list(propagate_job(clickers.__getitem__, 24, start, 48))
    planes = sorted(event.plane for event in events)
    assert planes == sorted(set(planes) - {24})
    assert set(range(12, 37)) - {24} <= set(planes), "the ball is followed"
    assert 3 <= min(planes)
    assert max(planes) <= 45, "and not beyond its end"


def test_following_can_be_stopped():
    clickers = [Clicker(SourceImage(plane), precision="fp32") for plane in ball()[20:28]]
    start = clickers[4].outline([((48, 48), True)])
    stop = threading.Event()
    job = propagate_job(clickers.__getitem__, 4, start, 8, stop)
    next(job)
    stop.set()
    assert not list(job)


# ---------------------------------------------------------------------- adapting


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(click_learning, "_STEPS", 2)


def with_objects(field, count):
    clicker = Clicker(SourceImage(field[0]), precision="fp32")
    for number in range(1, count + 1):
        clicker.commit(field[1] == number)
    return clicker


@pytest.mark.usefixtures("quick")
def test_adapting_changes_a_copy_and_is_the_same_twice(field):
    bundled = weights(load_click_network()).clone()
    found = []
    for _ in range(2):
        clicker = with_objects(field, 4)
        *steps, last = adapt_job(clicker)
        assert [each.step for each in steps if isinstance(each, AdaptingStepMade)] == [1, 2]
        assert last == ClicksAdapted(4, None, None, True)
        found.append(weights(clicker.network))
    assert torch.equal(*found)
    assert not torch.equal(found[0], bundled)
    assert torch.equal(weights(load_click_network()), bundled)
    assert clicker.outline([((30, 30), True)]).full(SHAPE)[30, 30]


@pytest.mark.usefixtures("quick")
def test_an_adapted_network_is_used_only_if_it_is_better_on_objects_held_back(field):
    clicker = with_objects(field, 8)
    *_, last = adapt_job(clicker)
    assert last.before is not None
    assert last.after is not None
    assert last.used == (last.after >= last.before + click_learning.LEAST_GAIN)
    assert (clicker.network is load_click_network()) == (not last.used)


@pytest.mark.usefixtures("quick")
def test_a_network_that_learned_nonsense_is_not_used(field, monkeypatch):
    monkeypatch.setattr(click_learning, "_RATE", 10.0)
    clicker = with_objects(field, 8)
    *_, last = adapt_job(clicker)
    assert not last.used
    assert clicker.network is load_click_network()


def test_nothing_can_be_learned_from_no_object(clicker):
    with pytest.raises(InputError, match="commit one first"):
        next(adapt_job(clicker))


@pytest.mark.usefixtures("quick")
def test_adapting_can_be_stopped(field):
    stop = threading.Event()
    stop.set()
    [last] = adapt_job(with_objects(field, 4), stop)
    assert isinstance(last, ClicksAdapted)


def test_a_click_after_an_answer_goes_into_what_is_wrong():
    truth = disc(60, 60, 20)[:120, :120]
    sample = click_learning.Sample(
        torch.zeros(1, 120, 120),
        truth,
        np.ones_like(truth),
        torch.zeros(120, 120),
        torch.full((120, 120), 0.5),
    )
    rng = np.random.default_rng(3)
    for _ in range(6):
        click_learning.click_again(sample, np.zeros((120, 120), np.float32), rng)
    assert sample.clicks
    assert all(c.positive and truth[int(c.row), int(c.column)] for c in sample.clicks)
    outline = Outline.of_mask(truth)
    assert outline is not None
