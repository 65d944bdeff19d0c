"""What one window says before the scale is chosen."""

import threading

import numpy as np
import pytest

from napari_unet.engine import click_jobs
from napari_unet.engine.click import Clicker
from napari_unet.engine.click_glimpse import Glimpse, glimpse, likeliest_first
from napari_unet.engine.click_jobs import ClickRequest, look_ahead_job, outline_job
from napari_unet.engine.click_looks import Look, first_windows
from napari_unet.engine.image import SourceImage
from napari_unet.ops.clicks import Click, Window

SHAPE = (160, 160)
CLICK = Click(70.0, 60.0)


@pytest.fixture
def clicker():
    rows, columns = np.indices(SHAPE)
    disc = (rows - 70) ** 2 + (columns - 60) ** 2 <= 14**2
    noise = np.random.default_rng(0).normal(0, 0.05, SHAPE)
    return Clicker(SourceImage((disc + noise).astype(np.float32)), precision="fp32")


def look(side, sure=0.95, window=116):
    """A square in the middle of a window, of which the network is so sure."""
    probability = np.full((window, window), 0.01, np.float32)
    begin = (window - side) // 2
    probability[begin : begin + side, begin : begin + side] = sure
    return Look(Window(80, 80, 1.0, window), probability, probability > 0.5)


def test_all_windows_are_looked_at_whatever_comes_first():
    windows = first_windows(80, 80, (500, 500))
    order = likeliest_first(windows)
    assert sorted(order, key=windows.index) == windows
    assert order[0].zoom == 1.0
    alone = [Window(80, 80, 0.13, 116)]
    assert likeliest_first(alone) == alone


@pytest.mark.parametrize(
    ("side", "sure", "is_seen"), [(40, 0.95, True), (3, 0.95, False), (100, 0.95, False)]
)
def test_an_object_is_seen_if_it_is_neither_a_speck_nor_fills_the_window(side, sure, is_seen):
    found = glimpse(look(side, sure), [Click(80, 80)], SHAPE)
    assert (found is not None) == is_seen
    if found is not None:
        assert isinstance(found, Glimpse)
        assert found.full(SHAPE)[80, 80]


def test_an_object_of_which_the_network_is_not_sure_is_not_seen():
    assert glimpse(look(40, 0.6), [Click(80, 80)], SHAPE) is not None
    unsure = look(40, 0.6)
    unsure.probability[unsure.probability < 0.5] = 0.4
    assert glimpse(unsure, [Click(80, 80)], SHAPE) is None


def test_what_is_seen_at_first_changes_no_answer(clicker, monkeypatch):
    monkeypatch.setattr(click_jobs, "_SLOW", -1.0)
    monkeypatch.setattr(click_jobs, "_PATIENCE", 1e9)
    first, answer = outline_job(clicker, ClickRequest((CLICK,)))
    assert (first.is_final, answer.is_final) == (False, True)
    assert first.outline.full(SHAPE)[70, 60]
    alone = Clicker(clicker.image, precision="fp32").outline([CLICK])
    assert answer.outline.box == alone.box
    np.testing.assert_array_equal(answer.outline.mask, alone.mask)


def test_where_windows_are_quick_the_answer_alone_is_told(clicker, monkeypatch):
    monkeypatch.setattr(click_jobs, "_SLOW", 1e9)
    monkeypatch.setattr(click_jobs, "_PATIENCE", 1e9)
    [answer] = outline_job(clicker, ClickRequest((CLICK,)))
    assert answer.is_final


def test_a_click_tells_what_looking_ahead_saw(clicker, monkeypatch):
    monkeypatch.setattr(click_jobs, "_SLOW", -1.0)
    monkeypatch.setattr(click_jobs, "_PATIENCE", 1e9)
    counts = []
    looks = Clicker._looks
    monkeypatch.setattr(
        Clicker, "_looks", lambda self, *rest: counts.append(1) or looks(self, *rest)
    )
    stop = threading.Event()
    ahead = look_ahead_job(clicker, ClickRequest((CLICK,)), stop)
    next(ahead)
    stop.set()
    assert not list(ahead)
    known = len(counts)
    first = next(iter(outline_job(clicker, ClickRequest((CLICK,)))))
    assert not first.is_final
    assert len(counts) == known, "it was not looked at again"
