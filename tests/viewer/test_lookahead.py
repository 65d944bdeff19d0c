"""What is looked at before a click is made, and what is seen before it is answered."""

from typing import ClassVar

import numpy as np
import pytest
from clicking_help import (
    DISCS,
    LONG,
    SHAPE,
    Hasty,
    Stub,
    answer_with,
    answered,
    drawn,
    middle,
    role,
    truth,
)
from napari.layers import Labels

from napari_unet.engine import click_jobs
from napari_unet.engine.click import Clicker
from napari_unet.engine.segmenter import Segmenter
from napari_unet.model.unet import UNet
from napari_unet.viewer.clicking import lookahead
from napari_unet.viewer.clicking.objects import ObjectsLayer
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.clicking.tool import ClickTool
from napari_unet.viewer.controller import SegmentationController


class Asked(Stub):
    """Remembers what was asked: the clicks, whether there was an earlier answer, in pieces."""

    log: ClassVar[list] = []

    def outlines(self, clicks, previous=None, box=None, usual=None, *, piecewise=False):
        places = [(click.row, click.column) for click in clicks]
        self.log.append((places, previous is not None, piecewise))
        yield None
        return self.outline(clicks, previous, box, usual)


@pytest.fixture
def session(qapp, model_viewer):
    """No image is chosen yet."""
    controller = SegmentationController(model_viewer, Segmenter(UNet(base_channels=4, depth=2)))
    session = click_session_for(controller)
    session.learning.learns = False
    yield session
    Stub.gate.set()
    controller.close()


@pytest.fixture
def answer_by(session, model_viewer, monkeypatch):
    """Let such a clicker answer clicks on six discs."""

    def make(kind):
        answer_with(monkeypatch, kind)
        session.scene.set_image(model_viewer.add_image(drawn(), name="discs"))

    return make


@pytest.fixture
def asked(answer_by, monkeypatch):
    monkeypatch.setattr(Asked, "log", [])
    answer_by(Asked)
    return Asked.log


@pytest.fixture
def settle(qtbot, session):
    """Wait until nothing runs any more, and until a pointer has rested."""

    def make():
        qtbot.wait(lookahead._REST_IF_BUSY + 50)
        qtbot.waitUntil(lambda: not session._lane.is_busy(), timeout=LONG)

    return make


def test_what_a_pointer_rests_on_is_looked_at_and_what_it_passes_is_not(session, asked, settle):
    for number in (1, 2, 3):
        session.ahead.point((), middle(number))
    settle()
    assert asked == [([middle(3)], False, True)]


def test_what_a_button_is_held_on_is_looked_at_once(session, asked, settle):
    session.ahead.press((), middle(1))
    settle()
    assert asked == [([middle(1)], False, True)]
    session.ahead.point((), middle(2))
    settle()
    session.ahead.press((), middle(2))
    settle()
    assert [places for places, *_ in asked] == [[middle(1)], [middle(2)]]


def test_who_leaves_is_not_looked_after(session, asked, settle):
    session.ahead.point((), middle(1))
    session.ahead.give_up()
    settle()
    session.ahead.point((), middle(1))
    session.scene.set_image(None)
    settle()
    assert not asked


def test_where_a_click_begins_no_object_nothing_is_looked_at(session, asked, settle, qtbot):
    session.click((), middle(1))
    qtbot.waitUntil(lambda: answered(session), timeout=LONG)
    session.hand.commit()
    asked.clear()
    session.ahead.press((), middle(1))  # takes the finished object up again
    session.ahead.press((), middle(2), positive=False)
    session.ahead.point((), middle(1))
    settle()
    assert not asked


def test_of_an_object_in_hand_the_next_click_is_looked_at_when_it_is_made(
    session, asked, settle, qtbot
):
    session.click((), middle(1))
    qtbot.waitUntil(lambda: answered(session), timeout=LONG)
    asked.clear()
    session.ahead.point((), middle(2))
    settle()
    assert not asked
    session.ahead.press((), middle(2))
    settle()
    assert asked == [([middle(1), middle(2)], True, True)]


def test_a_click_on_what_was_looked_at_is_answered_without_another_look(
    session, answer_by, settle, monkeypatch, qtbot
):
    answer_by(Clicker)
    counts = []
    looks = Clicker._looks

    def counted(self, windows, *rest):
        counts.append(len(windows))
        return looks(self, windows, *rest)

    settle()
    monkeypatch.setattr(Clicker, "_looks", counted)
    session.ahead.point((), middle(1))
    settle()
    assert sum(counts) > 2
    counts.clear()
    session.click((), middle(1))
    qtbot.waitUntil(lambda: answered(session), timeout=LONG)
    assert not counts
    row, column, _ = DISCS[0]
    assert session.hand.current.outline_on(()).full(SHAPE)[row, column]


@pytest.mark.parametrize("finishing", [False, True])
def test_what_is_seen_at_first_is_shown_until_the_answer_is_there(
    session, answer_by, model_viewer, monkeypatch, qtbot, finishing
):
    answer_by(Hasty)
    monkeypatch.setattr(click_jobs, "_PATIENCE", -1.0)
    Stub.gate.clear()
    session.click((), middle(1))

    def shown():
        layer = role(model_viewer, "clicked object")
        return 0 if layer is None else np.count_nonzero(layer.data)

    qtbot.waitUntil(lambda: shown() == np.prod(SHAPE), timeout=LONG)
    qtbot.waitUntil(lambda: role(model_viewer, "clicks") is not None, timeout=LONG)
    assert shown() == np.prod(SHAPE)
    assert session.hand.current.outline_on(()) is None, "it is not the answer"
    if finishing:
        assert not session.hand.commit(), "the answer is finished, not what is seen at first"
    Stub.gate.set()
    if finishing:
        qtbot.waitUntil(lambda: session.hand.current is None, timeout=LONG)
        np.testing.assert_array_equal(session.scene.objects.plane(()) > 0, truth() == 1)
    else:
        qtbot.waitUntil(lambda: answered(session), timeout=LONG)
        assert shown() == (truth() == 1).sum()


def test_what_was_seen_at_first_goes_with_its_click(
    session, answer_by, model_viewer, monkeypatch, qtbot
):
    answer_by(Hasty)
    monkeypatch.setattr(click_jobs, "_PATIENCE", -1.0)
    Stub.gate.clear()
    session.click((), middle(1))
    qtbot.waitUntil(lambda: role(model_viewer, "clicked object") is not None, timeout=LONG)
    session.hand.take_back()
    assert role(model_viewer, "clicked object") is None


def test_the_layers_of_a_click_are_there_before_it(session, answer_by, model_viewer, qtbot):
    answer_by(Stub)
    ClickTool(session).turn_on()
    before = set(model_viewer.layers)
    assert role(model_viewer, "clicked object") is None
    assert role(model_viewer, "clicks") is None
    assert model_viewer.layers.selection.active is session.scene.objects.layer
    session.click((), middle(1))
    for name in ("clicks", "clicked object"):
        qtbot.waitUntil(lambda name=name: role(model_viewer, name) is not None, timeout=LONG)
    assert role(model_viewer, "clicked object").data.sum() == (truth() == 1).sum()
    assert set(model_viewer.layers) == before


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labels", [1, 2, 5])
def test_objects_are_counted(seed, labels):
    data = np.random.default_rng(seed).integers(0, labels, (3, 6, 7))
    data[1] = 0
    data[2] = 7
    objects = ObjectsLayer(Labels(data))
    for index in range(3):
        assert objects.count((index,)) == len(set(data[index].ravel().tolist()) - {0})
