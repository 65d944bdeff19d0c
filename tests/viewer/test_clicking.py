"""Sessions of clicks, in a viewer without a window."""

import gc
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
from clicking_help import (
    DISCS,
    FAIR,
    LONG,
    SHAPE,
    Stub,
    answer_with,
    answered,
    ball,
    drawn,
    in_world,
    middle,
    numbers,
    overlap,
    role,
    truth,
)
from napari.layers import Labels
from scipy import ndimage

from napari_unet.engine import click, click_learning, click_teaching
from napari_unet.engine.events import (
    AdaptingStepMade,
    ClicksAdapted,
    ObjectsProposed,
    PieceDone,
    TilePredicted,
)
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest, assemble
from napari_unet.engine.segmenter import Segmenter
from napari_unet.model.click import load_click_network
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Outline, Window
from napari_unet.viewer import controller as controllers
from napari_unet.viewer.clicking import clickers, proposals
from napari_unet.viewer.clicking.objects import ObjectsLayer
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.clicking.widget import ClickWidget
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.planes import ImagePlanes
from napari_unet.viewer.status import Phase


@pytest.fixture
def told(monkeypatch):
    """What the user was told, as (severity, text)."""
    found = []
    for module, severity in (
        ("clicking.session", "info"),
        ("clicking.session", "warning"),
        ("clicking.hand", "info"),
        ("clicking.hand", "warning"),
        ("clicking.scene", "warning"),
        ("clicking.proposals", "info"),
        ("controller", "warning"),
        ("controller", "error"),
    ):
        monkeypatch.setattr(
            f"napari_unet.viewer.{module}.show_{severity}",
            lambda text, severity=severity: found.append((severity, text)),
        )
    return found


@pytest.fixture(scope="module")
def segmenter():
    """Nothing here changes its network, so one is enough.

    It counts as fine-tuned, so clicks are told what it says: it has to say the same in every run.
    """
    torch.manual_seed(0)
    return Segmenter(UNet(base_channels=4, depth=2))


@pytest.fixture
def real(qapp, model_viewer, segmenter, told, monkeypatch):
    """A session that the bundled network answers; no image is chosen yet."""
    controller = SegmentationController(model_viewer, segmenter)
    monkeypatch.setitem(controllers._sessions, model_viewer, controller)  # docks find it
    session = click_session_for(controller)
    session.learning.learns = False
    yield session
    Stub.gate.set()
    controller.close()


@pytest.fixture
def bare(real, monkeypatch):
    """A session that a stub answers; no image is chosen yet."""
    Stub.begun = 0
    answer_with(monkeypatch, Stub)
    return real


@pytest.fixture
def clicks(bare, model_viewer):
    """A session that a stub answers, on six discs."""
    bare.scene.set_image(model_viewer.add_image(drawn(), name="discs"))
    return bare


@pytest.fixture
def press(qtbot):
    """Click, and wait for the answer."""

    def make(session, at, positive=True, index=()):
        session.click(index, at, positive)
        if session.hand.current is not None:
            qtbot.waitUntil(lambda: answered(session), timeout=LONG)

    return make


@pytest.fixture
def finish(press):
    """Outline these discs and finish each."""

    def make(session, *chosen):
        for number in chosen:
            press(session, middle(number))
            assert session.hand.commit()

    return make


def have(session, *chosen):
    """Make these discs finished objects 1, 2 ..., as if each had been clicked on."""
    objects = session.scene.need_objects()
    for number in chosen:
        objects.write_all(_proposals(number), ())
    session.changed.emit()


@pytest.fixture
def settle(qtbot):
    """Wait until nothing runs any more."""

    def make(session):
        qtbot.waitUntil(lambda: not session._lane.is_busy(), timeout=LONG)

    return make


def labels_of(session):
    return np.array(session.scene.objects.layer.data)


def outline_of(session, index=()):
    outline = session.hand.current.outline_on(index)
    return outline.full(session.scene.planes.shape[-2:])


# ---------------------------------------------------------------- click and finish


def test_a_click_is_answered_and_finishing_writes_what_was_shown(real, model_viewer, press):
    real.scene.set_image(model_viewer.add_image(drawn()))
    press(real, middle(1))
    shown = role(model_viewer, "clicked object")
    assert overlap(outline_of(real), truth() == 1) > FAIR
    assert shown.data.sum() == outline_of(real).sum()
    expected = outline_of(real)
    assert real.hand.commit() == 1
    np.testing.assert_array_equal(labels_of(real) == 1, expected)
    assert role(model_viewer, "clicked object") is None
    assert role(model_viewer, "clicks") is None
    assert real.hand.current is None


def test_a_negative_click_takes_away_and_a_positive_one_adds(real, model_viewer, press):
    real.scene.set_image(model_viewer.add_image(drawn()))
    press(real, middle(1))
    row, column, radius = DISCS[0]
    press(real, (row, column + radius - 3.0), positive=False)
    assert not outline_of(real)[row, column + radius - 3]
    press(real, (row, column + radius + 4.0))
    assert outline_of(real)[row, column + radius + 4]
    assert outline_of(real)[row, column]
    symbols = [str(symbol) for symbol in role(model_viewer, "clicks").symbol]
    assert symbols[0] == symbols[2] != symbols[1]


def test_take_back_brings_the_answer_before_back_and_then_drops(clicks, model_viewer, press):
    press(clicks, middle(1))
    first = outline_of(clicks)
    press(clicks, middle(2))
    assert outline_of(clicks).sum() > first.sum()
    clicks.hand.take_back()
    np.testing.assert_array_equal(outline_of(clicks), first)
    assert role(model_viewer, "clicked object").data.sum() == first.sum()
    assert len(role(model_viewer, "clicks").data) == 1
    clicks.hand.take_back()
    assert clicks.hand.current is None
    assert role(model_viewer, "clicked object") is None
    clicks.hand.take_back()  # nothing in hand: nothing happens
    assert clicks.hand.current is None


def test_the_answer_to_a_click_that_was_taken_back_is_not_heard(clicks, press, settle):
    press(clicks, middle(1))
    first = outline_of(clicks)
    Stub.gate.clear()
    clicks.click((), middle(2))
    clicks.hand.take_back()
    Stub.gate.set()
    settle(clicks)
    np.testing.assert_array_equal(outline_of(clicks), first)


def test_taking_back_asks_again_if_the_earlier_click_was_not_answered(clicks, qtbot):
    Stub.gate.clear()
    clicks.click((), middle(1))
    clicks.click((), middle(2))
    clicks.hand.take_back()
    Stub.gate.set()
    qtbot.waitUntil(lambda: answered(clicks), timeout=LONG)
    np.testing.assert_array_equal(outline_of(clicks), truth() == 1)


def test_dropping_forgets_clicks_and_their_answers(clicks, model_viewer, press, settle):
    press(clicks, middle(1))
    Stub.gate.clear()
    clicks.click((), middle(2))
    clicks.hand.drop()
    Stub.gate.set()
    settle(clicks)
    assert clicks.hand.current is None
    assert clicks.scene.objects is None
    assert role(model_viewer, "clicked object") is None


def test_a_negative_click_begins_no_object(clicks, told):
    clicks.click((), middle(1), positive=False)
    assert clicks.hand.current is None
    assert told[-1][0] == "info"
    assert Stub.begun == 0


def test_there_is_no_place_outside_of_the_image(clicks):
    for world in ((-3, 10), (10, -3), (SHAPE[0] + 1, 10), (10, SHAPE[1] + 1)):
        assert clicks.scene.place(world) is None
    assert clicks.scene.place((SHAPE[0] - 1, SHAPE[1] - 1)) == (
        (),
        (SHAPE[0] - 1.0, SHAPE[1] - 1.0),
    )
    assert clicks.scene.nearest((-50, 500)) == (0.0, SHAPE[1] - 1.0)


def test_a_box_begins_an_object(clicks, press, qtbot):
    press(clicks, middle(3))
    clicks.draw_box((), (slice(10, 55), slice(14, 56)))
    qtbot.waitUntil(lambda: answered(clicks), timeout=LONG)
    np.testing.assert_array_equal(outline_of(clicks), truth() == 1)
    clicks.hand.take_back()
    assert clicks.hand.current is None


def test_the_network_answers_a_box(real, model_viewer, qtbot):
    real.scene.set_image(model_viewer.add_image(drawn()))
    real.draw_box((), (slice(14, 51), slice(16, 53)))
    qtbot.waitUntil(lambda: answered(real), timeout=LONG)
    assert overlap(outline_of(real), truth() == 1) > FAIR


def test_enter_right_after_a_click_finishes_what_the_click_gets(clicks, settle):
    Stub.gate.clear()
    clicks.click((), middle(1))
    clicks.hand.commit()
    Stub.gate.set()
    settle(clicks)
    assert clicks.hand.current is None
    np.testing.assert_array_equal(labels_of(clicks) > 0, truth() == 1)


# ---------------------------------------------------------------- finished objects


def test_finished_objects_have_numbers_of_their_own(clicks, finish):
    finish(clicks, 1, 2, 3)
    np.testing.assert_array_equal(labels_of(clicks), np.where(truth() <= 3, truth(), 0))
    clicks.delete_at((), middle(3))
    finish(clicks, 5)
    assert numbers(clicks) == {1, 2, 3}


def test_deleting_takes_the_object_under_the_pointer_and_no_other(clicks):
    have(clicks, 1, 2)
    clicks.delete_at((), (1.0, 1.0))
    assert numbers(clicks) == {1, 2}
    clicks.delete_at((), middle(1))
    np.testing.assert_array_equal(labels_of(clicks), np.where(truth() == 2, 2, 0))


def test_an_object_that_is_taken_up_again_keeps_its_number(clicks, press):
    have(clicks, 1, 2, 3)
    clicks.click((), middle(2))
    assert clicks.hand.current.label == 2
    np.testing.assert_array_equal(outline_of(clicks), truth() == 2)
    row, column, radius = DISCS[1]
    press(clicks, (row + radius - 2.0, float(column)), positive=False)
    assert clicks.hand.commit() == 2
    assert numbers(clicks) == {1, 2, 3}
    assert labels_of(clicks)[row + radius - 2, column] == 0
    assert labels_of(clicks)[row, column] == 2


def test_dropping_an_object_that_was_taken_up_changes_nothing(clicks, press):
    have(clicks, 1, 2)
    before, steps = labels_of(clicks), len(clicks.scene.objects.layer._undo_history)
    press(clicks, middle(2))
    press(clicks, (middle(2)[0] + 8, middle(2)[1]), positive=False)
    clicks.hand.drop()
    np.testing.assert_array_equal(labels_of(clicks), before)
    assert len(clicks.scene.objects.layer._undo_history) == steps


def test_taking_back_after_taking_up_ends_at_the_object_as_it_was(clicks, press):
    have(clicks, 1)
    press(clicks, middle(1))
    press(clicks, middle(1), positive=False)
    clicks.hand.take_back()
    np.testing.assert_array_equal(outline_of(clicks), truth() == 1)
    clicks.hand.take_back()
    assert clicks.hand.current is None
    np.testing.assert_array_equal(labels_of(clicks), truth() == 1)


def test_deleting_what_is_in_hand_drops_it(clicks):
    have(clicks, 1)
    clicks.click((), middle(1))
    clicks.delete_at((), middle(1))
    assert clicks.hand.current is None
    assert numbers(clicks) == set()


@pytest.mark.parametrize("preserve", [True, False])
def test_finished_objects_keep_their_pixels_if_that_is_wished(clicks, press, preserve):
    have(clicks, 1)
    layer = clicks.scene.objects.layer
    row, column = (round(place) for place in middle(2))
    layer.data_setitem(np.nonzero(truth() == 2), 7)  # half of disc 2 is of another object
    layer.data_setitem(np.nonzero((truth() == 2) & (np.indices(SHAPE)[1] > column)), 0)
    clicks.hand.preserve = preserve
    press(clicks, (float(row), column + 6.0))
    number = clicks.hand.commit()
    taken = labels_of(clicks)[row, column - 6]
    assert taken == (7 if preserve else number)
    assert labels_of(clicks)[row, column + 6] == number
    assert (labels_of(clicks) == 1).sum() == (truth() == 1).sum()


def test_an_object_that_others_cover_is_not_finished_and_stays_in_hand(clicks, press, told):
    press(clicks, middle(1))
    clicks.scene.need_objects().layer.data_setitem(np.nonzero(truth() == 1), 4)
    assert clicks.hand.commit() == 0
    assert told[-1][0] == "warning"
    assert clicks.hand.current is not None
    clicks.hand.preserve = False
    assert clicks.hand.commit()


def test_nothing_is_taken_from_an_object_of_which_nothing_would_be_left():
    data = np.zeros((20, 40), np.int32)
    data[5:15, 5:15], data[5:15, 25:35] = 1, 2
    objects = ObjectsLayer(Labels(data.copy()))
    there = Outline((slice(5, 15), slice(25, 35)), np.ones((10, 10), bool))
    assert objects.write({(): there}, 1) == 0
    np.testing.assert_array_equal(objects.layer.data, data)


def test_a_layer_of_few_bits_never_ends_in_an_exception(clicks, model_viewer, press, told):
    data = np.zeros(SHAPE, np.uint8)
    data[:2, :2] = 255
    clicks.scene.set_objects(model_viewer.add_labels(data))
    press(clicks, middle(1))
    number = clicks.hand.commit()
    if number:
        np.testing.assert_array_equal(labels_of(clicks) == number, truth() == 1)
        assert labels_of(clicks)[0, 0] == 255
    else:
        assert told[-1][0] == "warning"


# ---------------------------------------------------------------- undo


def _change(session, what, press):
    if what == "finish":
        press(session, middle(4))
        session.hand.commit()
    elif what == "correct":
        press(session, middle(1))
        press(session, (middle(1)[0] + 12, middle(1)[1]), positive=False)
        session.hand.commit()
    elif what == "delete":
        session.delete_at((), middle(1))
    elif what == "part":
        session.part_or_join((), [(5.0, 34.0), (60.0, 34.0)])
    elif what == "join":
        session.part_or_join((), [middle(1), middle(2)])
    elif what == "accept all":
        session.proposing.show(tuple(Outline.of_mask(truth() == n) for n in (4, 5, 6)))
        session.proposing.accept_all()


@pytest.mark.parametrize("what", ["finish", "correct", "delete", "part", "join", "accept all"])
def test_every_change_is_one_step_of_undo(clicks, press, what):
    have(clicks, 1, 2)
    layer = clicks.scene.objects.layer
    before, steps = labels_of(clicks), len(layer._undo_history)
    _change(clicks, what, press)
    after = labels_of(clicks)
    assert not np.array_equal(before, after)
    assert len(layer._undo_history) == steps + 1
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    layer.redo()
    np.testing.assert_array_equal(layer.data, after)


def test_undo_is_deeper_than_a_hundred_steps_and_takes_brush_strokes_too(clicks):
    have(clicks, 1)
    layer, objects = clicks.scene.objects.layer, clicks.scene.objects
    states = [labels_of(clicks)]
    for step in range(70):
        corner = 60 + step % 7, 2 + 2 * step
        objects.write(
            {
                (): Outline(
                    (slice(corner[0], corner[0] + 2), slice(2, 190)), np.ones((2, 188), bool)
                )
            },
            preserve=False,
        )
        states.append(labels_of(clicks))
        layer.paint((125, corner[1]), 300 + step)
        states.append(labels_of(clicks))
    for state in reversed(states[:-1]):
        layer.undo()
        np.testing.assert_array_equal(layer.data, state)
    layer.undo()
    assert not layer.data.any()
    for _ in states:
        layer.redo()
    np.testing.assert_array_equal(layer.data, states[-1])


def test_strokes_that_were_painted_before_a_layer_was_chosen_can_still_be_undone(
    clicks, model_viewer
):
    layer = model_viewer.add_labels(np.zeros(SHAPE, np.int32))
    layer.paint((120, 10), 3)
    clicks.scene.set_objects(layer)
    have(clicks, 1)
    layer.undo()
    layer.undo()
    assert not layer.data.any()


# ---------------------------------------------------------------- part and join


def test_a_line_across_parts_and_the_largest_part_keeps_the_number(clicks):
    have(clicks, 1, 2)
    row, column, _ = DISCS[0]
    clicks.part_or_join((), [(row - 25.0, column + 5.0), (row + 25.0, column + 5.0)])
    labels = labels_of(clicks)
    assert numbers(clicks) == {1, 2, 3}
    assert (labels == 1).sum() > (labels == 3).sum() > 0
    np.testing.assert_array_equal((labels == 1) | (labels == 3), truth() == 1)
    np.testing.assert_array_equal(labels == 2, truth() == 2)


def test_a_line_parts_all_objects_that_it_crosses(clicks):
    have(clicks, 1, 2)
    clicks.part_or_join((), [(33.0, 2.0), (33.0, 130.0)])
    assert numbers(clicks) == {1, 2, 3, 4}
    np.testing.assert_array_equal(labels_of(clicks) > 0, (truth() == 1) | (truth() == 2))


def test_a_line_that_ends_within_an_object_parts_nothing(clicks, told):
    have(clicks, 1)
    before = labels_of(clicks)
    clicks.part_or_join((), [(2.0, 34.0), middle(1)])
    np.testing.assert_array_equal(labels_of(clicks), before)
    assert told[-1][0] == "info"


def test_a_line_from_one_object_into_another_joins_them(clicks):
    have(clicks, 1, 2, 3)
    clicks.part_or_join((), [middle(2), middle(1)])
    labels = labels_of(clicks)
    assert numbers(clicks) == {2, 3}
    np.testing.assert_array_equal(labels == 2, (truth() == 1) | (truth() == 2))


# ---------------------------------------------------------------- stacks


@pytest.fixture
def stack(bare, model_viewer):
    """A session that a stub answers, on a ball in a stack."""
    bare.scene.set_image(model_viewer.add_image(drawn(ball()), name="ball"))
    model_viewer.dims.set_current_step(0, 5)
    return bare


@pytest.fixture
def placed_stack(bare, model_viewer):
    """The same at another place, with other distances of planes and pixels."""
    bare.scene.set_image(
        model_viewer.add_image(drawn(ball()), scale=(3, 0.5, 0.5), translate=(7, 10, -20))
    )
    model_viewer.dims.set_point(0, 7 + 3 * 4)
    return bare


BALL = (36.0, 40.0)


def networks_alive():
    return sum(type(thing) is UNet for thing in gc.get_objects())


def test_planes_that_were_looked_at_keep_no_networks_ready_but_answer_alike(model_viewer):
    planes = ImagePlanes(model_viewer.add_image(drawn(ball())))
    answering, kept = clickers.PlaneClickers(), []
    for index in (3, 4, 5, 6, 7):
        list(answering.get_ready_job(planes, (index,), threading.Event()))
        kept.append(networks_alive())
    ready, *_ = np.diff(kept)
    assert ready > 0
    assert kept[1:] == [kept[1]] * 4
    before = answering.of(planes, (5,))
    found = before.outline([(BALL, True)])
    for index in (6, 7, 4):
        answering.of(planes, (index,)).get_ready()
    assert answering.of(planes, (5,)) is before
    np.testing.assert_array_equal(before.outline([(BALL, True)]).mask, found.mask)


def test_a_click_lands_on_the_plane_that_is_shown(stack, model_viewer, press):
    model_viewer.dims.set_current_step(0, 6)
    assert stack.scene.index == (6,)
    index, at = stack.scene.place((*model_viewer.dims.point[:1], *BALL))
    press(stack, at, index=index)
    assert stack.hand.commit() == 1
    assert stack.scene.objects.layer.data.shape == ball().shape
    np.testing.assert_array_equal(labels_of(stack)[6], ball()[6])
    assert not labels_of(stack)[[0, 1, 2, 3, 4, 5, 7, 8, 9, 10]].any()


def test_the_outline_is_shown_on_its_plane_alone(stack, model_viewer, press):
    press(stack, BALL, index=(5,))
    model_viewer.dims.set_current_step(0, 3)
    assert role(model_viewer, "clicked object") is None
    assert role(model_viewer, "clicks") is None
    model_viewer.dims.set_current_step(0, 5)
    assert role(model_viewer, "clicked object").data.any()


@pytest.fixture
def followed(real, model_viewer, press, settle):
    """The planes of a ball that the network followed, finished."""
    real.scene.set_image(model_viewer.add_image(drawn(ball())))
    model_viewer.dims.set_current_step(0, 5)
    assert real.following.why_not() == "Click on an object first."
    press(real, BALL, index=(5,))
    assert real.following.why_not() is None
    real.following.begin()
    settle(real)
    assert real.hand.commit() == 1
    return real


def test_the_network_follows_a_ball_through_its_planes(followed):
    labels = labels_of(followed)
    assert min(overlap(labels[plane], ball()[plane]) for plane in range(2, 9)) > FAIR
    followed.scene.objects.layer.undo()
    assert not followed.scene.objects.layer.data.any()


def test_the_network_ends_where_the_ball_ends(followed):
    assert not labels_of(followed)[[0, 1, 9, 10]].any()


def test_a_correction_on_another_plane_is_kept(stack, model_viewer, press, settle):
    press(stack, BALL, index=(5,))
    stack.following.begin()
    settle(stack)
    model_viewer.dims.set_current_step(0, 7)
    press(stack, (36.0, 50.0), positive=False, index=(7,))
    corrected = outline_of(stack, (7,))
    assert not corrected[36, 50]
    model_viewer.dims.set_current_step(0, 5)
    stack.following.begin()
    settle(stack)
    np.testing.assert_array_equal(outline_of(stack, (7,)), corrected)
    assert stack.hand.commit() == 1
    np.testing.assert_array_equal(labels_of(stack)[7] == 1, corrected)
    np.testing.assert_array_equal(labels_of(stack)[4], ball()[4])
    stack.scene.objects.layer.undo()
    assert not stack.scene.objects.layer.data.any()
    stack.scene.objects.layer.redo()
    assert numbers(stack, (slice(2, 9),)) == {1}


def test_following_stops_when_it_is_told_to(stack, press, qtbot, settle):
    press(stack, BALL, index=(5,))
    begun = Stub.begun
    Stub.gate.clear()
    stack.following.begin()
    assert stack.is_busy
    qtbot.waitUntil(lambda: Stub.begun > begun, timeout=LONG)
    stack.stop()
    Stub.gate.set()
    settle(stack)
    assert not stack.is_busy
    assert len(stack.hand.current.parts()) <= 2
    stack.following.begin()
    settle(stack)
    assert set(stack.hand.current.parts()) == {(plane,) for plane in range(2, 9)}


def test_taking_back_on_a_plane_that_was_followed_leaves_the_others(
    stack, model_viewer, press, settle
):
    press(stack, BALL, index=(5,))
    stack.following.begin()
    settle(stack)
    model_viewer.dims.set_current_step(0, 7)
    found = outline_of(stack, (7,))
    press(stack, (36.0, 50.0), positive=False, index=(7,))
    stack.hand.take_back()
    np.testing.assert_array_equal(outline_of(stack, (7,)), found)
    stack.hand.take_back()
    assert stack.hand.current.outline_on((7,)) is None
    assert role(model_viewer, "clicked object") is None
    assert set(stack.hand.current.parts()) == {(plane,) for plane in (2, 3, 4, 5, 6, 8)}
    stack.hand.take_back()  # nothing is left on this plane: now the object is dropped
    assert stack.hand.current is None


def test_taking_back_what_was_followed_anew_brings_back_what_was_there(
    stack, model_viewer, press, settle
):
    press(stack, BALL, index=(5,))
    stack.following.begin()
    settle(stack)
    before = outline_of(stack, (4,))
    stack.following.begin()
    settle(stack)
    model_viewer.dims.set_current_step(0, 4)
    stack.hand.take_back()
    np.testing.assert_array_equal(outline_of(stack, (4,)), before)


def test_dropping_ends_following(stack, press, settle):
    press(stack, BALL, index=(5,))
    Stub.gate.clear()
    stack.following.begin()
    stack.hand.drop()
    Stub.gate.set()
    settle(stack)
    assert stack.hand.current is None
    assert not stack.is_busy


def test_an_object_of_a_stack_is_taken_up_and_deleted_as_a_whole(stack, press, settle):
    press(stack, BALL, index=(5,))
    stack.following.begin()
    settle(stack)
    stack.hand.commit()
    stack.click((4,), BALL)
    assert set(stack.hand.current.planes) == {(plane,) for plane in range(2, 9)}
    assert stack.hand.commit() == 1
    np.testing.assert_array_equal(labels_of(stack), ball())
    stack.delete_at((3,), BALL)
    assert not labels_of(stack).any()


def test_a_plane_of_which_nothing_is_left_is_taken_from_an_object(stack, press, settle):
    press(stack, BALL, index=(5,))
    stack.following.begin()
    settle(stack)
    stack.hand.commit()
    press(stack, BALL, index=(8,))
    for row in (28.0, 36.0, 44.0):
        for column in (31.0, 40.0, 49.0):
            press(stack, (row, column), positive=False, index=(8,))
    assert not outline_of(stack, (8,)).any()
    assert stack.hand.commit() == 1
    assert not labels_of(stack)[8].any()
    np.testing.assert_array_equal(labels_of(stack)[7], ball()[7])


def test_what_is_followed_stays_at_its_time(bare, model_viewer, press, qtbot, settle):
    bare.scene.set_image(model_viewer.add_image(drawn(np.stack([ball()] * 2))))
    model_viewer.dims.set_current_step((0, 1), (0, 5))
    press(bare, BALL, index=(0, 5))
    begun = Stub.begun
    Stub.gate.clear()
    bare.following.begin()
    qtbot.waitUntil(lambda: Stub.begun > begun, timeout=LONG)
    model_viewer.dims.set_current_step(0, 1)
    Stub.gate.set()
    settle(bare)
    assert set(bare.hand.current.parts()) == {(0, plane) for plane in range(2, 9)}


def test_the_outline_goes_with_its_time_if_there_is_one_plane_each(bare, model_viewer, press):
    bare.scene.set_image(model_viewer.add_image(drawn(truth()[None, None].repeat(3, axis=0))))
    model_viewer.dims.set_current_step(0, 0)
    press(bare, middle(1), index=(0, 0))
    model_viewer.dims.set_current_step(0, 2)
    assert role(model_viewer, "clicked object") is None


def test_nothing_is_shown_on_planes_beyond_the_image(stack, model_viewer, press):
    model_viewer.add_image(drawn(ball((30, 72, 80))), name="longer")
    press(stack, BALL, index=(5,))
    model_viewer.dims.set_current_step(0, 20)
    assert stack.scene.index is None
    assert stack.scene.place((20, *BALL)) is None
    assert role(model_viewer, "clicked object") is None


def test_an_image_comes_back_with_its_finished_objects(clicks, model_viewer, press):
    press(clicks, middle(1))
    assert clicks.hand.commit() == 1
    image, objects = clicks.scene.image, clicks.scene.objects.layer
    clicks.scene.set_image(model_viewer.add_image(drawn(seed=1), name="another"))
    assert clicks.scene.objects is None
    clicks.scene.set_image(image)
    assert clicks.scene.objects.layer is objects
    press(clicks, middle(2))
    assert clicks.hand.commit() == 2
    assert sum(isinstance(layer, Labels) for layer in model_viewer.layers) == 2  # with the outline
    heard = []
    clicks.changed.connect(lambda: heard.append(1))
    objects.undo()
    assert len(heard) == 1


def test_the_outline_goes_along_to_another_image(clicks, model_viewer, press):
    first = clicks.scene.image
    second = model_viewer.add_image(drawn(), name="second", scale=(2, 2), translate=(100, 50))
    press(clicks, middle(1))
    layer = role(model_viewer, "clicked object")
    at = in_world(layer)
    for image, where in ((second, at * 2 + (100, 50)), (first, at)):
        clicks.scene.set_image(image)
        assert role(model_viewer, "clicked object") is None  # nothing is shown
        assert role(model_viewer, "clicks") is None
        press(clicks, middle(1))
        assert role(model_viewer, "clicked object") is layer
        assert np.allclose(in_world(layer), where, atol=1.5)


def test_the_outline_lies_above_an_image_that_came_later(clicks, model_viewer, press):
    press(clicks, middle(1))
    later = model_viewer.add_image(drawn(), name="later")
    clicks.scene.set_image(later)
    press(clicks, middle(1))
    for name in ("clicked object", "clicks"):
        assert model_viewer.layers.index(role(model_viewer, name)) > model_viewer.layers.index(
            later
        )
    assert len(model_viewer.layers) == 4


def test_objects_that_were_removed_do_not_come_back(clicks, model_viewer, press):
    press(clicks, middle(1))
    assert clicks.hand.commit() == 1
    image, objects = clicks.scene.image, clicks.scene.objects.layer
    clicks.scene.set_image(model_viewer.add_image(drawn(seed=1), name="another"))
    model_viewer.layers.remove(objects)
    clicks.scene.set_image(image)
    assert clicks.scene.objects is None


def test_a_new_layer_for_objects_stays_chosen_when_the_image_comes_back(
    clicks, model_viewer, press
):
    press(clicks, middle(1))
    assert clicks.hand.commit() == 1
    clicks.scene.set_objects(None)
    image = clicks.scene.image
    clicks.scene.set_image(model_viewer.add_image(drawn(seed=1), name="another"))
    clicks.scene.set_image(image)
    assert clicks.scene.objects is None


def test_an_image_of_one_plane_cannot_be_followed(clicks, press):
    press(clicks, middle(1))
    assert "single plane" in clicks.following.why_not()
    clicks.following.begin()
    assert not clicks.is_busy


# ---------------------------------------------------------------- kinds of images


def _layer(viewer, kind):
    image = drawn()
    if kind == "rgb":
        colours = np.stack([image, 0.7 * image, 0.4 * image], axis=-1)
        return viewer.add_image((colours * 255).clip(0, 255).astype(np.uint8), rgb=True)
    if kind == "uint16":
        return viewer.add_image((image * 40_000).clip(0).astype(np.uint16))
    if kind == "placed":
        return viewer.add_image(image, scale=(0.5, 0.25), translate=(100, -30), rotate=30)
    if kind == "affine":
        return viewer.add_image(image, affine=[[0, 2, 5], [2, 0, 7], [0, 0, 1]])
    return viewer.add_image([image, image[::2, ::2]], multiscale=True)


@pytest.mark.parametrize(
    "kind",
    [
        "rgb",
        "uint16",
        "placed",
        "pyramid",
        "affine",
    ],
)
def test_an_object_lands_where_was_clicked(real, model_viewer, press, kind):
    layer = _layer(model_viewer, kind)
    real.scene.set_image(layer)
    for number in (1, 5):
        index, at = real.scene.place(layer.data_to_world(middle(number)))
        np.testing.assert_allclose(at, middle(number), atol=1e-6)
        press(real, at, index=index)
        shown = in_world(role(model_viewer, "clicked object"))
        wanted = np.asarray(layer.data_to_world(middle(number)))
        side = np.linalg.norm(
            wanted - layer.data_to_world((middle(number)[0], middle(number)[1] + 1))
        )
        assert np.linalg.norm(shown - wanted) < 4 * max(side, 0.5)
        assert real.hand.commit() == (1 if number == 1 else 2)
    labels = labels_of(real)
    assert labels.shape == SHAPE
    assert overlap(labels == 1, truth() == 1) > FAIR
    assert overlap(labels == 2, truth() == 5) > FAIR
    for place in ((0, 0), (50, 90)):
        np.testing.assert_allclose(
            real.scene.objects.layer.data_to_world(place), layer.data_to_world(place)
        )


def test_clicks_on_a_stack_land_where_they_are_made(placed_stack, press):
    layer = placed_stack.scene.image
    index, at = placed_stack.scene.place(layer.data_to_world((4, *BALL)))
    assert index == placed_stack.scene.index == (4,)
    press(placed_stack, at, index=index)
    shown = in_world(role(placed_stack.scene.viewer, "clicked object"))
    np.testing.assert_allclose(shown, np.asarray(layer.data_to_world((4, *BALL)))[-2:], atol=0.5)
    placed_stack.hand.commit()
    np.testing.assert_array_equal(labels_of(placed_stack)[4], ball()[4])


def test_an_outline_goes_all_the_way_round(clicks, model_viewer):
    """Where an object touches the edge of its box, and that of the image, too."""
    mask = np.zeros((30, 40), bool)
    mask[0:20, 10:35] = True
    outline = Outline.of_mask(mask)
    clicks.scene.preview.show_outline((), outline)
    layer = role(model_viewer, "clicked object")
    seen = layer._slice.image.view > 0  # what napari draws
    inner = ndimage.binary_erosion(layer.data > 0, iterations=1)
    rim = (layer.data > 0) & ~inner
    assert seen[rim].all()
    assert not seen[ndimage.binary_erosion(inner, iterations=2)].any()


def test_proposals_that_touch_are_parted(clicks, model_viewer):
    masks = np.zeros((2, 90, 90), bool)
    masks[0, 20:40, 20:40] = masks[1, 20:40, 40:60] = True
    clicks.scene.preview.show_proposals((), [Outline.of_mask(mask) for mask in masks])
    seen = role(model_viewer, "proposals")._slice.image.view > 0
    assert seen[21:39, 39:41].all()
    assert not seen[27:33, 27:33].any()


def test_an_outline_is_shown_in_one_layer(placed_stack, press):
    press(placed_stack, BALL, index=(4,))
    shown = [layer.metadata.get("napari-unet") for layer in placed_stack.scene.viewer.layers]
    assert sorted(filter(None, shown)) == ["clicked object", "clicks"]


# ---------------------------------------------------------------- trouble


def test_an_image_with_nan_is_told_and_the_next_one_works(real, model_viewer, told, settle, press):
    image = drawn()
    image[3, 3] = np.nan
    real.scene.set_image(model_viewer.add_image(image))
    real.click((), middle(1))
    settle(real)
    assert [severity for severity, _ in told] == ["error"]
    assert "NaN" in told[0][1]
    assert real.hand.current is None
    real.scene.set_image(model_viewer.add_image(drawn()))
    press(real, middle(1))
    assert real.hand.commit() == 1


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("what", ["image", "objects", "preview"])
def test_a_layer_may_go_while_an_object_is_in_hand(
    clicks, model_viewer, press, settle, what, pending
):
    have(clicks, 1)
    press(clicks, middle(2))
    if pending:
        Stub.gate.clear()
        clicks.click((), middle(3))
    if what == "preview":
        for name in ("clicked object", "clicks"):
            model_viewer.layers.remove(role(model_viewer, name))
    else:
        model_viewer.layers.remove(
            clicks.scene.image if what == "image" else clicks.scene.objects.layer
        )
    Stub.gate.set()
    settle(clicks)
    if what == "image":
        assert clicks.scene.image is None
        assert all("napari-unet" not in layer.metadata for layer in model_viewer.layers)
        assert clicks.scene.why_not_click().startswith("Open an image")
        assert clicks.hand.commit() == 0
        clicks.scene.set_image(model_viewer.add_image(drawn()))
    elif what == "objects":
        assert clicks.scene.objects is None
        assert clicks.hand.current is None
    press(clicks, middle(4))
    assert role(model_viewer, "clicked object") is not None
    assert clicks.hand.commit()
    assert labels_of(clicks)[round(middle(4)[0]), round(middle(4)[1])]


@pytest.mark.parametrize("pending", [False, True])
def test_pixels_of_another_shape_end_what_is_in_hand(clicks, press, finish, settle, pending):
    have(clicks, 1)
    press(clicks, middle(6))
    if pending:
        Stub.gate.clear()
        clicks.click((), middle(4))
    clicks.scene.image.data = drawn(truth(DISCS[:2], (70, 130)))
    Stub.gate.set()
    settle(clicks)
    assert clicks.hand.current is None
    finish(clicks, 2)
    assert clicks.scene.objects.layer.data.shape == (70, 130)
    np.testing.assert_array_equal(labels_of(clicks) == 1, truth(DISCS[:2], (70, 130)) == 2)


def test_objects_whose_layer_gets_another_shape_are_let_go(clicks, finish):
    have(clicks, 1)
    clicks.scene.objects.layer.data = np.zeros((9, 9), np.int32)
    finish(clicks, 2)
    assert clicks.scene.objects.layer.data.shape == SHAPE


def test_a_click_is_answered_though_another_image_is_fine_tuned_on(clicks, model_viewer, settle):
    controller = clicks._controller()
    controller.layers.image_chosen.disconnect(controller.show_answer)  # it need not predict
    Stub.gate.clear()
    clicks.click((), middle(1))
    threading.Timer(0.2, Stub.gate.set).start()
    controller.layers.set_image(model_viewer.add_image(drawn()))
    settle(clicks)
    assert answered(clicks)


def test_a_layer_of_another_shape_holds_no_objects(clicks, model_viewer, told):
    clicks.scene.set_objects(model_viewer.add_labels(np.zeros((5, 7), int)))
    assert clicks.scene.objects is None
    assert told[-1][0] == "warning"
    assert "(5, 7)" in told[-1][1]


def test_of_many_clicks_the_last_one_is_answered(clicks, qtbot, settle):
    Stub.gate.clear()
    for count in range(50):
        clicks.click((), (10.0 + count, 20.0), positive=count % 2 == 0)
    Stub.gate.set()
    qtbot.waitUntil(lambda: answered(clicks), timeout=LONG)
    settle(clicks)
    assert Stub.begun <= 3
    assert len(clicks.hand.current.on(()).clicks) == 50
    assert answered(clicks)


# ---------------------------------------------------------------- proposals


def _proposals(*chosen):
    return tuple(Outline.of_mask(truth() == number) for number in chosen)


@pytest.fixture
def proposed(clicks, monkeypatch, settle):
    """A session with two objects, and the others proposed."""

    def job(clicker, labels, stop):
        assert set(np.unique(labels)) == {0, 1, 2}
        yield ObjectsProposed(_proposals(3, 4), 2, 4)
        yield ObjectsProposed(_proposals(5, 6), 4, 4)

    monkeypatch.setattr(proposals, "propose_job", job)
    have(clicks, 1)
    assert "2 objects first" in clicks.proposing.why_not()
    have(clicks, 2)
    clicks.propose()
    assert clicks.proposing.progress is not None
    settle(clicks)
    return clicks


def test_proposals_are_shown_until_they_are_answered(proposed, model_viewer):
    assert not proposed.is_busy
    assert proposed.proposing.progress is None
    assert len(proposed.proposing.outlines) == 4
    np.testing.assert_array_equal(role(model_viewer, "proposals").data > 0, truth() > 2)
    proposed.click((), middle(4))
    proposed.click((), middle(5), positive=False)
    assert proposed.hand.current is None
    assert len(proposed.proposing.outlines) == 2
    np.testing.assert_array_equal(labels_of(proposed) == 3, truth() == 4)
    assert labels_of(proposed).max() == 3
    shown = role(model_viewer, "proposals").data > 0
    np.testing.assert_array_equal(shown, (truth() == 3) | (truth() == 6))


def test_accept_all_takes_all_proposals(proposed, model_viewer):
    proposed.proposing.accept_all()
    assert proposed.proposing.outlines == ()
    assert role(model_viewer, "proposals") is None
    np.testing.assert_array_equal(labels_of(proposed), truth())


@pytest.mark.parametrize("how", ["all", "one by one"])
def test_accepted_proposals_are_learned_from(proposed, settle, how):
    proposed.learning.learns = True
    if how == "all":
        proposed.proposing.accept_all()
    else:
        for number in (3, 4, 5):
            assert proposed.learning.adapted is None
            proposed.click((), middle(number))
    settle(proposed)
    assert proposed.learning.adapted.objects == (6 if how == "all" else 5)


@pytest.mark.parametrize("stopped", [True, False])
def test_who_stopped_is_not_told_that_there_is_nothing(
    clicks, monkeypatch, settle, qtbot, told, stopped
):
    begun = []

    def job(clicker, labels, stop):
        begun.append(True)
        Stub.gate.wait(LONG / 1000)
        yield ObjectsProposed((), 1, 4)

    monkeypatch.setattr(proposals, "propose_job", job)
    have(clicks, 1, 2)
    Stub.gate.clear()
    clicks.propose()
    qtbot.waitUntil(lambda: bool(begun), timeout=LONG)
    if stopped:
        clicks.stop()
    Stub.gate.set()
    settle(clicks)
    [(severity, text)] = told
    assert severity == "info"
    assert text.startswith("Stopped before" if stopped else "No other objects")


def test_reject_all_takes_none(proposed, model_viewer):
    before = labels_of(proposed)
    proposed.proposing.reject_all()
    assert proposed.proposing.outlines == ()
    assert role(model_viewer, "proposals") is None
    np.testing.assert_array_equal(labels_of(proposed), before)
    proposed.proposing.accept_all()
    np.testing.assert_array_equal(labels_of(proposed), before)


def test_going_on_finishes_and_shows_each_proposal_in_turn(proposed, model_viewer, press):
    proposed.click((), middle(1))
    seen = []
    for _ in range(5):
        proposed.go_on()
        seen.append(tuple(model_viewer.scene.camera.center[-2:]))
    assert proposed.hand.current is None
    np.testing.assert_allclose(seen[:4], [middle(n) for n in (3, 4, 5, 6)], atol=1.5)
    assert seen[4] == seen[0]


def test_the_others_are_found_by_the_network(real, model_viewer, finish, settle):
    real.scene.set_image(model_viewer.add_image(drawn()))
    finish(real, 1, 2)
    real.propose()
    settle(real)
    real.proposing.accept_all()
    found = labels_of(real)
    for number in (3, 4, 5, 6):
        [label] = np.unique(found[tuple(round(x) for x in middle(number))])
        assert overlap(found == label, truth() == number) > FAIR
    real.scene.objects.layer.undo()
    assert numbers(real) == {1, 2}


def test_proposals_for_an_image_do_not_arrive_on_the_next_one(
    clicks, model_viewer, settle, monkeypatch, qtbot
):
    begun = []

    def job(clicker, labels, stop):
        begun.append(True)
        Stub.gate.wait(LONG / 1000)
        yield ObjectsProposed(_proposals(3, 4), 2, 4)

    monkeypatch.setattr(proposals, "propose_job", job)
    have(clicks, 1, 2)
    Stub.gate.clear()
    clicks.propose()
    qtbot.waitUntil(lambda: bool(begun), timeout=LONG)
    clicks.scene.set_image(model_viewer.add_image(drawn()))
    Stub.gate.set()
    settle(clicks)
    assert clicks.proposing.outlines == ()


# ---------------------------------------------------------------- it learns


def test_the_network_is_adapted_to_five_objects_and_forgets_them_again(
    real, model_viewer, finish, settle, monkeypatch
):
    monkeypatch.setattr(click_learning, "_STEPS", 2)
    real.learning.learns = True
    real.scene.set_image(model_viewer.add_image(drawn()))
    real.scene.need_objects().write_all(_proposals(1, 2, 3), ())
    finish(real, 4)
    settle(real)
    assert real.learning.adapted is None
    finish(real, 5)
    settle(real)
    assert real.learning.adapted.objects == 5
    assert real.clickers.network is not None
    finish(real, 6)
    _assert_fair(real, 4, 5, 6)
    real.learning.forget()
    settle(real)
    assert real.learning.adapted is None
    assert real.clickers.network is None


@pytest.fixture
def alone(real, monkeypatch):
    """The same without a fine-tuned U-Net, which would know better what is an object."""
    monkeypatch.setattr(type(real._controller().segmenter), "is_fine_tuned", False)
    monkeypatch.setattr(click_learning, "_STEPS", 1)
    real.learning.learns = True
    return real


def _alike(clicker):
    """What clicks on a plane are told of each pixel; None if nothing is."""
    hint = clicker._hint or clicker._alike
    rows, columns = clicker.image.shape
    whole = Window((rows - 1) / 2, (columns - 1) / 2, 1.0, max(rows, columns))
    return None if hint is None else hint.cut(whole, ()).numpy()


def test_other_planes_are_told_what_is_like_the_objects_until_it_is_forgotten(
    alone, model_viewer, settle
):
    planes = np.stack([drawn(), drawn()[::-1].copy(), drawn()])
    alone.scene.set_image(model_viewer.add_image(planes))
    model_viewer.dims.set_current_step(0, 0)
    alone.scene.need_objects().write_all(_proposals(1, 2, 3, 4, 5), (0,))
    alone.learning.take_up((0,))
    settle(alone)
    assert alone.learning.adapted is not None
    likeness = alone.clickers.likeness
    assert likeness is not None
    model_viewer.dims.set_current_step(0, 1)
    settle(alone)
    other = alone.clickers.of(alone.scene.planes, (1,))
    assert other.likeness is likeness
    told = _alike(other)
    row, column = (round(place) for place in middle(6))
    side = (max(SHAPE) - SHAPE[0]) // 2
    assert told[side + SHAPE[0] - 1 - row, column] > 0.7, "a disc of another plane"
    alone.learning.forget()
    settle(alone)
    assert alone.clickers.likeness is None
    assert all(_alike(each) is None for each in alone.clickers.all())
    model_viewer.dims.set_current_step(0, 2)
    settle(alone)
    assert _alike(alone.clickers.of(alone.scene.planes, (2,))) is None


def test_another_image_is_not_told_what_was_like_the_objects_of_the_one_before(
    alone, model_viewer, settle
):
    alone.scene.set_image(model_viewer.add_image(drawn()))
    alone.scene.need_objects().write_all(_proposals(1, 2, 3, 4, 5), ())
    alone.learning.take_up(())
    settle(alone)
    assert alone.clickers.likeness is not None
    alone.scene.set_image(model_viewer.add_image(np.stack([drawn()] * 3, axis=-1), rgb=True))
    alone.scene.need_objects()
    settle(alone)
    assert alone.clickers.likeness is None
    assert all(_alike(each) is None for each in alone.clickers.all())


def test_what_is_like_the_objects_is_learned_again_when_a_session_is_taken_up(
    alone, model_viewer, settle
):
    alone.scene.set_image(model_viewer.add_image(drawn()))
    alone.scene.need_objects().write_all(_proposals(1), ())
    told = ClicksAdapted(9, None, None, True)
    alone.learning.resume(told, 10)
    settle(alone)
    assert alone.clickers.likeness is None, "one object does not say what is like it"
    alone.scene.objects.write_all(_proposals(2, 3), ())
    alone.learning.resume(None, 5)
    settle(alone)
    assert alone.clickers.likeness is None, "nothing had been learned"
    alone.learning.resume(told, 10)
    settle(alone)
    [clicker] = alone.clickers.all()
    assert alone.clickers.likeness is clicker.likeness is not None
    assert clicker.network is load_click_network(), "and nothing else is learned"


def _assert_fair(session, *chosen):
    """Assert that finished objects are these discs; or say what each of them was made of."""
    labels, [clicker] = labels_of(session), session.clickers.all()
    found = {number: float(overlap(labels == number, truth() == number)) for number in chosen}
    facts = "; ".join(
        f"object {number}: {(labels == number).sum()} pixels, overlap {share:.3f}, the U-Net says "
        f"{_told_at(clicker, number)}"
        for number, share in found.items()
    )
    assert min(found.values()) > FAIR, (
        f"{facts}; sizes {session.hand.sizes.known}, {session.learning.adapted}, "
        f"{clicker.plan.name}"
    )


def _told_at(clicker, number):
    """What clicks are told of a disc: in the middle, and on average within and without it."""
    if (hint := clicker._hint or clicker._alike) is None:
        return "nothing"
    row, column = middle(number)
    told = hint.cut(Window(row, column, 1.0, 61), ()).numpy()
    rows, columns = np.indices(told.shape) - 30
    inside = rows**2 + columns**2 <= DISCS[number - 1][2] ** 2
    return (
        f"{told[30, 30]:.2f}, {told[inside].mean():.2f} within, {told[~inside].mean():.2f} around"
    )


def test_nothing_is_adapted_if_that_is_not_wished(clicks, finish, settle):
    finish(clicks, 1, 2, 3, 4, 5, 6)
    settle(clicks)
    assert clicks.learning.adapted is None


class Adapting:
    """Stands for an adaptation that comes out as no network at all."""

    #: What each began from.
    begun_from: ClassVar = []
    #: Whether it goes on until it is stopped.
    endless = True
    #: It is in the middle of a step.
    within_step = threading.Event()

    def __init__(self, network, objects, plan):
        self.begun_from.append(network)
        self.before = self.after = None
        self.network = object()

    def job(self, stop):
        yield AdaptingStepMade(1, 2, 0.0)
        if self.endless:
            self.within_step.set()
            stop.wait(LONG / 1000)
            yield AdaptingStepMade(2, 2, 0.0)


@pytest.fixture
def adapting(monkeypatch):
    monkeypatch.setattr(Adapting, "begun_from", [])
    monkeypatch.setattr(Adapting, "within_step", threading.Event())
    monkeypatch.setattr(clickers, "Clicker", click.Clicker)
    monkeypatch.setattr(clickers, "adapt_job", click_teaching.adapt_job)
    monkeypatch.setattr(click_teaching, "Adaptation", Adapting)
    return Adapting


def test_forgetting_while_it_adapts_forgets(clicks, adapting, settle, qtbot):
    settle(clicks)
    clicks.clickers._known.clear()  # the stub may have been made ready
    have(clicks, 1, 2)
    clicks.learning.adapt(())
    qtbot.waitUntil(adapting.within_step.is_set, timeout=LONG)
    clicks.learning.forget()
    settle(clicks)
    assert clicks.learning.adapted is None
    assert clicks.clickers.network is None
    assert all(isinstance(each.network, UNet) for each in clicks.clickers.all())


def test_adapting_on_another_plane_begins_from_the_bundled_network(
    stack, adapting, monkeypatch, settle, model_viewer
):
    monkeypatch.setattr(adapting, "endless", False)
    settle(stack)
    stack.clickers._known.clear()  # the stub may have been made ready
    for plane in (5, 6):
        model_viewer.dims.set_current_step(0, plane)
        there = np.zeros(ball().shape, bool)
        there[plane] = ball()[plane] > 0
        stack.scene.need_objects().layer.data_setitem(np.nonzero(there), 1)
        stack.learning.adapt((plane,))
        settle(stack)
    assert len(adapting.begun_from) == 2
    assert all(isinstance(network, UNet) for network in adapting.begun_from)


def test_stopping_all_is_over_when_what_clicks_began_has_stopped(clicks, qtbot, settle):
    controller = clicks._controller()
    Stub.gate.clear()
    clicks.click((), middle(1))
    controller.stop()
    assert controller.status.phase is Phase.STOPPING
    Stub.gate.set()
    settle(clicks)
    assert controller.status.phase is Phase.IDLE


# ---------------------------------------------------------------- the U-Net's answer helps


def _answer_of(segmenter, plane):
    """How probable the U-Net thinks any object, at each pixel."""
    request = PredictRequest(SourceImage(plane))
    return 1 - assemble(segmenter.predict_job(request), 2, plane.shape)[0]


def test_clicks_are_told_what_a_fine_tuned_network_says(clicks, segmenter, settle):
    settle(clicks)
    assert all(each.hint is None for each in clicks.clickers.all())  # nobody means to click
    clicks.scene.need_objects()
    settle(clicks)
    [clicker] = clicks.clickers.all()
    np.testing.assert_allclose(clicker.hint, _answer_of(segmenter, drawn()), atol=0.03)
    before = clicker.hint
    clicks.hints.look()
    settle(clicks)
    assert clicker.hint is before  # nothing was learned since


def test_forgetting_what_clicks_learned_forgets_nothing_of_the_u_net(clicks, press, finish, settle):
    have(clicks, 1, 2, 3, 4)
    clicks.learning.learns = True
    finish(clicks, 5)
    settle(clicks)
    [clicker] = clicks.clickers.all()
    before = clicker.hint
    assert before is not None
    assert len(clicker.objects) == 5
    clicks.learning.forget()
    settle(clicks)
    press(clicks, middle(6))
    [clicker] = clicks.clickers.all()
    assert clicker.hint is before
    assert clicker.network is load_click_network()
    assert clicker.objects == ()


@pytest.mark.parametrize("key", ["training", "prediction"])
def test_after_learning_clicks_are_told_anew(clicks, settle, key):
    clicks.scene.need_objects()
    settle(clicks)
    [clicker] = clicks.clickers.all()
    before = clicker.hint
    clicks._lane.submit(lambda stop: iter(()), name="Learning", replaces=key)
    settle(clicks)
    assert (clicker.hint is not before) == (key == "training")


def test_what_is_predicted_in_the_viewer_is_not_predicted_again(taught, settle, monkeypatch):
    clicks, layers = taught
    rows = np.linspace(0, 1, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
    whole = TilePredicted(
        (slice(0, SHAPE[0]), slice(0, SHAPE[1])), np.stack([1 - rows, rows]), 1, 1
    )
    layers.results.show_tile(whole)
    monkeypatch.setattr(clicks._controller().segmenter, "predict_job", None)
    clicks.scene.need_objects()
    settle(clicks)
    [clicker] = clicks.clickers.all()
    np.testing.assert_allclose(clicker.hint, rows, atol=1e-6)


def test_each_plane_has_an_answer_of_its_own(stack, segmenter, model_viewer, settle):
    stack.scene.need_objects()
    model_viewer.dims.set_current_step(0, 7)
    settle(stack)
    hint = stack.clickers.of(stack.scene.planes, (7,)).hint
    np.testing.assert_allclose(hint, _answer_of(segmenter, drawn(ball())[7]), atol=0.03)


def test_a_network_that_knows_no_such_objects_does_not_take_them_away(
    real, model_viewer, finish, settle, monkeypatch
):
    """It sees, where each disc is clicked on, a speck that is no object either."""
    probability = np.where(truth() > 0, 0.05, 0.35).astype(np.float32)
    for number in range(1, 7):
        row, column = (round(place) for place in middle(number))
        probability[row - 2 : row + 3, column - 2 : column + 3] = 0.4

    def predicted(*_):
        yield PieceDone()
        return np.stack([1 - probability, probability])

    monkeypatch.setattr(clickers, "_predicted", predicted)
    real.scene.set_image(model_viewer.add_image(drawn()))
    real.scene.need_objects()
    settle(real)
    [clicker] = real.clickers.all()
    assert clicker._hint is not None
    finish(real, 1, 2)
    _assert_fair(real, 1, 2)


def test_a_network_for_other_images_says_nothing(bare, model_viewer, settle):
    bare.scene.set_image(model_viewer.add_image(np.stack([drawn()] * 3, axis=-1), rgb=True))
    bare.scene.need_objects()
    settle(bare)
    [clicker] = bare.clickers.all()
    assert clicker.hint is None


# ---------------------------------------------------------------- it teaches the U-Net


@pytest.fixture
def taught(clicks):
    """A session on the image that the U-Net is fine-tuned on."""
    layers = clicks._controller().layers
    layers.image_chosen.disconnect(clicks._controller().show_answer)  # it need not predict
    layers.set_image(clicks.scene.image)
    return clicks, layers


def test_finished_objects_count_as_strokes(taught, finish):
    clicks, layers = taught
    assert not layers.fitting_strokes().any()
    assert layers.why_no_strokes(2) is not None
    finish(clicks, 1, 2)
    strokes = layers.fitting_strokes()
    inside = (truth() == 1) | (truth() == 2)
    np.testing.assert_array_equal(strokes == 2, inside)
    row, column, radius = DISCS[0]
    assert strokes[row, column + radius + 2] == 1
    assert strokes[row, column + radius + 12] == 0
    assert layers.why_no_strokes(2) is None
    assert layers.present == {1, 2}


def test_strokes_by_hand_count_for_more_than_objects(taught):
    clicks, layers = taught
    have(clicks, 1)
    annotations = layers.add_annotations()
    row, column = (round(place) for place in middle(1))
    annotations.data[row, column] = 1
    annotations.data[row, column + 18] = 2
    layers.look_at_strokes()
    strokes = layers.fitting_strokes()
    assert strokes[row, column] == 1
    assert strokes[row, column + 18] == 2
    assert strokes[row + 5, column] == 2


def test_objects_teach_only_if_that_is_wished_and_only_on_their_image(taught, model_viewer):
    clicks, layers = taught
    have(clicks, 1)
    clicks.learning.set_teaches(False)
    assert not layers.fitting_strokes().any()
    assert layers.why_no_strokes(2) is not None
    clicks.learning.set_teaches(True)
    assert layers.fitting_strokes().any()
    clicks.scene.objects.layer.undo()
    assert not layers.fitting_strokes().any()
    clicks.scene.objects.layer.redo()
    layers.set_image(model_viewer.add_image(drawn()))
    assert not layers.fitting_strokes().any()


# ---------------------------------------------------------------- the dock, on such a viewer


@pytest.fixture
def dock(qtbot, clicks):
    """The dock on a session; it need not be shown."""
    widget = ClickWidget(clicks.scene.viewer)
    qtbot.addWidget(widget)
    return widget


def is_grey(button, reason):
    return not button.isEnabled() and reason in button.toolTip()


def test_buttons_are_grey_and_say_why(dock, clicks, press):
    for button in (dock.commit, dock.back, dock.drop):
        assert is_grey(button, "Click on an object first")
    assert is_grey(dock.propose, "Finish 2 objects first")
    for button in (dock.accept, dock.next, dock.reject):
        assert is_grey(button, "no proposals")
    assert is_grey(dock.forget, "Nothing was learned")
    assert is_grey(dock.stop, "Nothing is running")
    assert dock.click.isEnabled()
    press(clicks, middle(1))
    for button in (dock.commit, dock.back, dock.drop):
        assert button.isEnabled()
        assert button.toolTip() == button._tooltip
    clicks.hand.commit()
    have(clicks, 2)
    assert dock.propose.isEnabled()
    clicks.proposing.show(_proposals(3))
    assert dock.accept.isEnabled()


def test_without_an_image_all_is_grey(qtbot, bare, model_viewer):
    dock = ClickWidget(model_viewer)
    qtbot.addWidget(dock)
    for button in (dock.click, dock.propose):
        assert is_grey(button, "Open an image first")
    model_viewer.add_image(drawn())
    assert dock.click.isEnabled()
    model_viewer.layers.clear()
    assert is_grey(dock.click, "Open an image first")


def test_buttons_follow_undo(dock, clicks):
    have(clicks, 1, 2)
    assert dock.propose.isEnabled()
    clicks.scene.objects.layer.undo()
    assert is_grey(dock.propose, "Finish 2 objects first")
    clicks.scene.objects.layer.redo()
    assert dock.propose.isEnabled()


def test_buttons_follow_the_plane_that_is_shown(qtbot, stack, model_viewer):
    dock = ClickWidget(model_viewer)
    qtbot.addWidget(dock)
    data = stack.scene.need_objects().layer
    data.data_setitem((np.array([5, 5]), np.array([1, 60]), np.array([1, 60])), np.array([1, 2]))
    stack.changed.emit()
    assert dock.propose.isEnabled()
    model_viewer.dims.set_current_step(0, 2)
    assert is_grey(dock.propose, "Finish 2 objects first")


def test_the_3d_view_gives_a_reason(qtbot, stack, model_viewer, told):
    dock = ClickWidget(model_viewer)
    qtbot.addWidget(dock)
    model_viewer.dims.ndisplay = 3
    assert "2D view" in stack.scene.why_not_click()
    stack.click((5,), BALL)
    assert told[-1] == ("warning", stack.scene.why_not_click())
    assert stack.hand.current is None
    assert is_grey(dock.click, "2D view")
    model_viewer.dims.ndisplay = 2
    assert dock.click.isEnabled()


def test_other_axes_on_screen_give_a_reason(qtbot, stack, model_viewer):
    dock = ClickWidget(model_viewer)
    qtbot.addWidget(dock)
    model_viewer.dims.roll()
    assert "Roll" in stack.scene.why_not_click()
    assert is_grey(dock.click, "Roll")


def test_following_is_offered_on_stacks_alone(qtbot, bare, model_viewer):
    dock = ClickWidget(model_viewer)
    qtbot.addWidget(dock)
    bare.scene.set_image(model_viewer.add_image(drawn()))
    assert is_grey(dock.follow, "single plane")
    bare.scene.set_image(model_viewer.add_image(drawn(ball())))
    assert is_grey(dock.follow, "Click on an object first")


def test_the_switches_and_lists_reach_the_session(dock, clicks, model_viewer):
    dock.preserve.setChecked(False)
    dock.teaches.setChecked(False)
    dock.learns.setChecked(True)
    assert (clicks.hand.preserve, clicks.learning.teaches, clicks.learning.learns) == (
        False,
        False,
        True,
    )
    chosen = model_viewer.add_labels(np.zeros(SHAPE, int), name="mine")
    dock.objects.combo.value = chosen
    assert clicks.scene.objects.layer is chosen
    other = model_viewer.add_image(drawn(), name="other")
    dock.image.combo.value = other
    assert clicks.scene.image is other
    assert clicks.scene.objects is None
    assert dock.objects.combo.value is None


def test_the_dock_tells_what_came_out_of_adapting(dock, clicks, finish, settle):
    assert dock.adapted.isHidden()
    have(clicks, 1, 2, 3, 4)
    clicks.learning.learns = True
    finish(clicks, 5)
    settle(clicks)
    assert not dock.adapted.isHidden()
    assert dock.adapted.text() == "Adapted to 5 objects."
    dock.forget.click()
    settle(clicks)
    assert dock.adapted.isHidden()
    assert dock.forget.isHidden()


@pytest.mark.parametrize("used", [True, False])
def test_the_dock_tells_whether_adapting_helped(dock, clicks, used):
    clicks.learning.adapted = ClicksAdapted(9, 0.61, 0.72 if used else 0.5, used)
    clicks.changed.emit()
    assert dock.adapted.text().startswith("Adapted to 9" if used else "Not adapted")
    assert "0.61" in dock.adapted.text()
    assert "like your objects" not in dock.adapted.text()


def test_the_dock_tells_that_clicks_know_what_is_like_the_objects(
    dock, clicks, settle, monkeypatch
):
    def job(clicker, _stop):
        yield PieceDone()
        clicker.set_likeness(object(), None)

    monkeypatch.setattr(clickers, "liken_job", job)
    have(clicks, 1, 2, 3)
    clicks.learning.resume(ClicksAdapted(9, 0.61, 0.62, False), 10)
    assert "small a gain" in dock.adapted.text()
    settle(clicks)
    assert "like your objects" in dock.adapted.text()
