"""Clicks as a user meets them: a real window, the mouse, the keyboard."""

import threading

import numpy as np
import pytest
from clicking_help import (
    CONTROL,
    DISCS,
    FAIR,
    LEFT,
    LONG,
    NO_KEY,
    RIGHT,
    SHAPE,
    SHIFT,
    Hand,
    Hasty,
    Stub,
    answer_with,
    answered,
    ball,
    drawn,
    is_pale,
    middle,
    numbers,
    overlap,
    role,
    truth,
)
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest

from napari_unet.engine import click_jobs
from napari_unet.engine.events import ObjectsProposed
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.clicking import proposals
from napari_unet.viewer.clicking import session as sessions
from napari_unet.viewer.clicking.widget import ClickWidget
from napari_unet.viewer.controller import controller_for

KEYS = Qt.Key


class Page(Hand):
    """A window on drawn discs with the Click dock, and a hand in front of it."""

    def __init__(self, viewer, qtbot):
        super().__init__(viewer)
        self._qtbot = qtbot
        self.controller = controller_for(viewer)
        self.dock = None

    def open_dock(self):
        self.dock = ClickWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.dock, name="Click", area="right")
        self.session.learning.learns = False
        self.fit()

    def fit(self):
        """Wait until the window has its size, and show the whole image."""
        canvas = self.canvas
        self.until(lambda: canvas.width() > 200 and canvas.height() > 200)
        self.viewer.reset_view()

    @property
    def session(self):
        return self.dock.session

    @property
    def labels(self):
        return np.array(self.session.scene.objects.layer.data)

    @property
    def clicks(self):
        [state] = self.session.hand.current.planes.values()
        return state.clicks

    def until(self, condition):
        self._qtbot.waitUntil(condition, timeout=LONG)

    def press(self, button):
        QTest.mouseClick(button, LEFT)

    def outline(self, world, button=LEFT, keys=NO_KEY):
        """Click, and wait for the answer."""
        self.click(world, button, keys)
        self.until(lambda: answered(self.session))

    def finish(self, *chosen):
        """Outline these discs and finish each."""
        for number in chosen:
            self.outline(middle(number))
            self.key(KEYS.Key_C)


@pytest.fixture
def bare(make_napari_viewer, qtbot):
    """A window with the Click dock, and no image."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 760)
    page = Page(viewer, qtbot)
    page.open_dock()
    yield page
    Stub.gate.set()
    page.controller.close()


@pytest.fixture
def page(bare, monkeypatch):
    """The same on six discs; a stub answers the mouse."""
    answer_with(monkeypatch, Stub)
    bare.viewer.add_image(drawn(), name="discs")
    bare.fit()
    bare.press(bare.dock.click)
    assert bare.dock.tool.is_on
    return bare


# ---------------------------------------------------------------- click and finish


def test_the_dock_of_the_manifest_outlines_what_is_clicked_on(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 760)
    viewer.add_image(drawn(), name="discs")
    page = Page(viewer, qtbot)
    _, late = viewer.window.add_plugin_dock_widget("napari-unet", "Click")
    page.dock = late.inner
    assert isinstance(page.dock, ClickWidget)
    page.fit()
    page.click(middle(1))  # nothing listens yet
    assert page.session.hand.current is None
    page.press(page.dock.click)
    page.outline(middle(1))
    assert role(viewer, "clicked object").data.any()
    page.key(KEYS.Key_Return)
    page.outline(middle(2))
    page.key(KEYS.Key_C)
    assert overlap(page.labels == 1, truth() == 1) > FAIR
    assert overlap(page.labels == 2, truth() == 2) > FAIR
    assert role(viewer, "clicked object") is None
    page.controller.close()


def test_a_pointer_that_rests_and_a_button_that_is_held_are_heard_of(page, monkeypatch):
    heard = []
    ahead = page.session.ahead
    monkeypatch.setattr(ahead, "point", lambda *at: heard.append(("rests", at)))
    monkeypatch.setattr(ahead, "press", lambda *at: heard.append(("held", at)))
    monkeypatch.setattr(ahead, "give_up", lambda: heard.append(("left", ())))
    page.point(middle(1))
    page.outline(middle(1))
    kinds = [kind for kind, _ in heard]
    assert kinds[0] == "rests"
    assert kinds[-2:] == ["held", "left"], "the click goes on with what was seen"
    index, at, positive = heard[-2][1]
    assert (index, positive) == ((), True)
    clicked = page.clicks[0]
    assert at == (clicked.row, clicked.column), "what is looked at is what is clicked on"
    assert heard[0][1] == ((), at)
    heard.clear()
    page.click(middle(2), keys=SHIFT)
    assert [at[2] for kind, at in heard if kind == "held"] == [False]
    heard.clear()
    page.drag([middle(1), middle(2)], keys=CONTROL)
    assert "held" not in [kind for kind, _ in heard], "a box is drawn"


def test_mouse_and_keys_correct_an_object_and_take_clicks_back(page):
    row, column = middle(1)
    page.outline((row, column))
    page.outline((row + 9, column), RIGHT)
    page.outline((row - 9, column), keys=SHIFT)
    assert [click.positive for click in page.clicks] == [True, False, False]
    near = [(click.row - row, click.column - column) for click in page.clicks]
    np.testing.assert_allclose(near, [(0, 0), (9, 0), (-9, 0)], atol=0.7)
    outline = page.session.hand.current.outline_on(()).full(SHAPE)
    assert not outline[round(row + 9), round(column)]
    page.key(KEYS.Key_Z)
    page.key(KEYS.Key_Z)
    np.testing.assert_array_equal(
        page.session.hand.current.outline_on(()).full(SHAPE), truth() == 1
    )
    page.key(KEYS.Key_Z)
    assert page.session.hand.current is None
    page.outline(middle(2))
    page.key(KEYS.Key_Escape)
    assert page.session.hand.current is None
    assert not page.labels.any()


def test_finished_objects_are_deleted_and_taken_up_with_mouse_and_keys(page):
    page.finish(1, 2, 3)
    page.point(middle(2))
    page.key(KEYS.Key_D)
    assert numbers(page.session) == {1, 3}
    page.click(middle(3))
    assert page.session.hand.current.label == 3
    assert "Object 3" in page.dock.hint.text()
    before = page.labels
    page.outline((middle(3)[0] + 10, middle(3)[1]), RIGHT)
    page.key(KEYS.Key_Escape)
    np.testing.assert_array_equal(page.labels, before)
    page.click(middle(3))
    page.outline((middle(3)[0] + 10, middle(3)[1]), RIGHT)
    page.key(KEYS.Key_Enter)  # of the keypad
    assert numbers(page.session) == {1, 3}
    assert 0 < (page.labels == 3).sum() < (before == 3).sum()


def test_buttons_stay_where_they_are_whatever_the_hint_says(page):
    heights = set()
    page.dock.setFixedWidth(page.dock.minimumWidth())  # where the longest take two lines

    def look():
        page.until(lambda: page.dock.hint.text() != "")
        heights.add((page.dock.commit.y(), page.dock.propose.y()))
        return page.dock.hint.text()

    page.finish(3)
    hints = {look()}
    page.click(middle(3))
    hints.add(look())
    page.key(KEYS.Key_Escape)
    page.outline(middle(1))
    hints.add(look())
    page.press(page.dock.click)
    hints.add(look())
    assert len(hints) == 4
    assert len(heights) == 1


def test_undo_and_redo_by_key_go_through_all_kinds_of_changes(page):
    layer = page.session.scene.need_objects().layer
    states = [page.labels]

    def done():
        states.append(page.labels)
        assert not np.array_equal(states[-1], states[-2])

    page.finish(1)
    done()
    page.finish(2)
    done()
    layer.selected_label = 40
    page.key(KEYS.Key_2)  # napari's brush
    assert not page.dock.tool.is_on
    page.drag([(65, 20), (65, 60)])
    done()
    page.press(page.dock.click)
    assert layer.mode == "pan_zoom"
    page.drag([(5, 34), (62, 34)], keys=SHIFT)
    done()
    page.drag([middle(1), middle(2)], keys=SHIFT)
    done()
    page.point(middle(2))
    page.key(KEYS.Key_D)
    done()
    for state in reversed(states[:-1]):
        page.key(KEYS.Key_Z, CONTROL)
        np.testing.assert_array_equal(page.labels, state)
    for state in states[1:]:
        page.key(KEYS.Key_Z, CONTROL | SHIFT)
        np.testing.assert_array_equal(page.labels, state)


# ---------------------------------------------------------------- an outline that is not final


@pytest.fixture
def hasty(bare, monkeypatch):
    """The window on six discs, all of which is outlined until a gate is opened."""
    answer_with(monkeypatch, Hasty)
    monkeypatch.setattr(click_jobs, "_PATIENCE", -1.0)
    bare.viewer.add_image(drawn(), name="discs")
    bare.fit()
    bare.press(bare.dock.click)
    # The gate would hold up what looks ahead, too, and with it the click.
    monkeypatch.setattr(bare.session.ahead, "press", lambda *at: None)
    bare.until(lambda: not bare.session._lane.is_busy())
    Stub.gate.clear()
    return bare


def shown(page):
    return role(page.viewer, "clicked object")


def shown_pixels(page):
    """Rows and columns of the image on which an outline's object lies."""
    layer = shown(page)
    return np.argwhere(layer.data > 0) + np.asarray(layer.translate)


def see(page, number):
    """Click, and wait for what is seen at first."""
    page.click(middle(number))
    page.until(lambda: shown(page) is not None and np.count_nonzero(shown(page).data) > 10_000)
    assert is_pale(shown(page))


def test_enter_finishes_the_answer_and_not_what_is_seen_at_first(hasty):
    see(hasty, 1)
    hasty.key(KEYS.Key_Return)
    assert not hasty.labels.any()
    assert hasty.session.hand.current is not None
    Stub.gate.set()
    hasty.until(lambda: hasty.session.hand.current is None)
    np.testing.assert_array_equal(hasty.labels > 0, truth() == 1)
    assert shown(hasty) is None


def test_the_answer_takes_the_place_of_what_is_seen_at_first(hasty):
    see(hasty, 1)
    Stub.gate.set()
    hasty.until(lambda: answered(hasty.session))
    assert not is_pale(shown(hasty))
    assert shown(hasty).data.sum() == (truth() == 1).sum()
    np.testing.assert_array_equal(shown_pixels(hasty), np.argwhere(truth() == 1))
    Stub.gate.clear()
    see(hasty, 2)  # as more of the same object


@pytest.mark.parametrize("key", [KEYS.Key_Z, KEYS.Key_Escape])
def test_what_is_seen_at_first_goes_with_the_click_and_does_not_come_back(hasty, key):
    see(hasty, 1)
    hasty.key(key)
    assert shown(hasty) is None
    Stub.gate.set()
    hasty.until(lambda: not hasty.session._lane.is_busy())
    assert shown(hasty) is None
    assert hasty.session.hand.current is None
    hasty.key(KEYS.Key_Return)
    assert not hasty.labels.any()


def test_after_many_clicks_in_haste_the_last_answer_is_shown(hasty):
    hasty.click_in_haste([(middle(1 + count % 6), LEFT) for count in range(50)])
    Stub.gate.set()
    hasty.until(lambda: answered(hasty.session) and not hasty.session._lane.is_busy())
    assert len(hasty.clicks) == 50
    assert not is_pale(shown(hasty))
    answer = hasty.session.hand.current.outline_on(())
    np.testing.assert_array_equal(answer.full(SHAPE), truth() > 0)
    np.testing.assert_array_equal(shown_pixels(hasty), np.argwhere(truth() > 0))


def test_a_click_that_is_stopped_before_its_answer_leaves_nothing_to_be_finished(hasty):
    see(hasty, 1)
    hasty.click(middle(2))  # waits for the first
    hasty.key(KEYS.Key_Return)
    hasty.session._lane.stop()
    Stub.gate.set()
    hasty.until(lambda: not hasty.session._lane.is_busy())
    hasty.until(lambda: shown(hasty) is None or not is_pale(shown(hasty)))
    hasty.outline(middle(3))
    assert hasty.session.hand.current is not None, "it is not finished by an Enter of before"
    assert not hasty.labels.any()


def test_an_outline_is_drawn_where_its_object_is(page):
    yellow = np.array([0xF0, 0xE4, 0x42])
    for number in (2, 5):  # all of each is on the canvas
        page.outline(middle(number))
        row, column, radius = DISCS[number - 1]
        page.until(lambda: answered(page.session))
        drawn_there = page.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        rows, columns = np.nonzero(np.abs(drawn_there - yellow).max(axis=-1) < 30)
        low, high = (
            page.pixel((row - radius, column - radius)),
            page.pixel((row + radius, column + radius)),
        )
        pixel = (high.x() - low.x()) / (2 * radius)
        np.testing.assert_allclose(
            [rows.min(), rows.max(), columns.min(), columns.max()],
            [low.y(), high.y(), low.x(), high.x()],
            atol=3 * pixel,
        )
        page.key(KEYS.Key_Escape)


# ---------------------------------------------------------------- drags


def test_drags_part_join_draw_a_box_or_move_the_image(page):
    camera = page.viewer.scene.camera
    row, column, radius = DISCS[0]
    page.finish(1, 2)
    centre = camera.center
    page.drag([(row - radius - 5, column + 4), (row + radius + 5, column + 4)], keys=SHIFT)
    assert numbers(page.session) == {1, 2, 3}
    assert (page.labels == 1).sum() > (page.labels == 3).sum()
    np.testing.assert_array_equal(np.isin(page.labels, (1, 3)), truth() == 1)
    page.drag([(row, column - 6), middle(2)], keys=SHIFT)
    assert numbers(page.session) == {1, 3}
    page.drag([(75, 15), (125, 65)], keys=CONTROL)
    page.until(lambda: answered(page.session))
    np.testing.assert_array_equal(
        page.session.hand.current.outline_on(()).full(SHAPE), truth() == 4
    )
    page.key(KEYS.Key_Escape)
    assert camera.center == centre
    before = page.labels
    page.drag([(row - 25, column), (row + 25, column)])
    assert camera.center != centre
    assert page.session.hand.current is None
    np.testing.assert_array_equal(page.labels, before)
    assert camera.mouse_pan
    page.viewer.reset_view()
    page.drag([(120, 10), (300, -90)], keys=CONTROL)  # beyond the image
    page.until(lambda: answered(page.session))
    rows, columns = page.session.hand.current.box
    assert (rows.stop, columns.start) == (SHAPE[0], 0)
    page.key(KEYS.Key_Escape)
    page.drag([(-30, 34), middle(1)], keys=SHIFT)
    page.drag([(32, 2), (32, -60)], keys=SHIFT)
    np.testing.assert_array_equal(page.labels, before)


def test_a_drag_that_is_too_quick_for_moves_is_a_drag(page):
    page.finish(1, 2, 4)
    page.flick((32, 2), (32, 80))  # neither clicks nor parts
    page.flick(middle(1), middle(3))
    assert page.session.hand.current is None
    page.flick((98, 10), (98, 70), keys=SHIFT)
    assert len(numbers(page.session)) == 4
    page.flick(middle(1), middle(2), keys=SHIFT)
    assert len(numbers(page.session)) == 3
    assert page.session.hand.current is None


# ---------------------------------------------------------------- where clicks go


def test_a_click_outside_of_the_image_or_of_the_tool_does_nothing(page):
    page.click((-6, 50))
    page.click((50, SHAPE[1] + 5), RIGHT)
    assert page.session.hand.current is None
    page.press(page.dock.click)  # let the mouse go
    assert not page.dock.tool.is_on
    page.click(middle(1))
    page.key(KEYS.Key_C)
    assert page.session.hand.current is None
    page.press(page.dock.click)
    page.viewer.layers.selection.active = page.session.scene.image
    assert not page.dock.click.isChecked()
    page.click(middle(1))
    assert page.session.hand.current is None
    page.press(page.dock.click)
    page.finish(1)
    np.testing.assert_array_equal(page.labels > 0, truth() == 1)


def test_a_second_press_within_a_double_click_is_a_click_and_does_not_zoom(page):
    zoom = page.viewer.scene.camera.zoom
    page.press_twice(middle(1))
    assert page.session.hand.current is not None
    assert page.viewer.scene.camera.zoom == zoom


def test_keys_do_what_napari_does_while_the_layer_is_painted_on(page):
    layer = page.session.scene.need_objects().layer
    layer.selected_label = 9
    page.key(KEYS.Key_3)  # napari's polygons
    for place in ((60, 60), (60, 80), (75, 80)):
        page.click(place)
    page.key(KEYS.Key_Return)
    assert numbers(page.session) == {9}
    page.click((60, 60))
    page.key(KEYS.Key_Escape)
    assert not layer._overlays["polygon"].points
    page.key(KEYS.Key_Z)
    assert layer.mode == "pan_zoom"


@pytest.mark.parametrize(
    "place",
    [
        {},
        pytest.param(
            {"scale": (2, 0.5, 0.25), "translate": (3, 9, -7), "rotate": 20},
        ),
    ],
    ids=["plain", "placed"],
)
def test_a_stack_is_clicked_on_followed_and_undone(bare, monkeypatch, place):
    answer_with(monkeypatch, Stub)
    viewer = bare.viewer
    layer = viewer.add_image(drawn(ball()), **place)
    viewer.dims.set_current_step(0, 4)
    bare.fit()
    bare.press(bare.dock.click)
    bare.outline(layer.data_to_world((4, 36, 40))[-2:])
    [click] = bare.session.hand.current.planes[(4,)].clicks
    assert abs(click.row - 36) < 1.5
    assert abs(click.column - 40) < 1.5
    bare.press(bare.dock.follow)
    bare.until(lambda: len(bare.session.hand.current.parts()) == 7 and not bare.session.is_busy)
    assert "Outlined on 7 planes, 3 to 9" in bare.dock.hint.text()
    viewer.dims.set_current_step(0, 7)
    assert role(viewer, "clicked object").data.sum() == ball()[7].sum()
    bare.key(KEYS.Key_C)
    np.testing.assert_array_equal(bare.labels, ball())
    bare.key(KEYS.Key_Z, CONTROL)
    assert not bare.labels.any()


def test_clicks_land_where_they_are_made_on_a_turned_image(bare, monkeypatch):
    answer_with(monkeypatch, Stub)
    layer = bare.viewer.add_image(drawn(), scale=(2, 0.5), translate=(3, -7), rotate=30)
    bare.fit()
    bare.press(bare.dock.click)
    for number in (1, 6):
        bare.outline(layer.data_to_world(middle(number)))
        np.testing.assert_allclose(
            (bare.clicks[0].row, bare.clicks[0].column), middle(number), atol=3
        )
        bare.key(KEYS.Key_C)
    np.testing.assert_array_equal(bare.labels == 1, truth() == 1)
    np.testing.assert_array_equal(bare.labels == 2, truth() == 6)


def test_the_3d_view_says_why_nothing_can_be_clicked_on(page, monkeypatch):
    told = []
    monkeypatch.setattr(sessions, "show_warning", told.append)
    page.viewer.dims.ndisplay = 3
    size = page.canvas.size()
    QTest.mouseClick(page.canvas, LEFT, NO_KEY, page.canvas.rect().center())
    assert size == page.canvas.size()
    assert told == [page.session.scene.why_not_click()]
    assert "2D view" in told[0]
    assert page.session.hand.current is None
    page.viewer.dims.ndisplay = 2
    page.fit()
    page.outline(middle(1))


# ---------------------------------------------------------------- proposals


def test_proposals_are_answered_with_the_mouse(page, monkeypatch):
    def job(clicker, labels, stop):
        found = tuple(Outline.of_mask(truth() == number) for number in (3, 4, 5, 6))
        yield ObjectsProposed(found, 4, 4)

    monkeypatch.setattr(proposals, "propose_job", job)
    dock, session = page.dock, page.session
    assert not dock.propose.isEnabled()
    page.finish(1, 2)
    page.press(dock.propose)
    page.until(lambda: len(session.proposing.outlines) == 4 and not session.is_busy)
    assert dock.accept.isVisible()
    page.click(middle(4))
    page.click(middle(5), RIGHT)
    assert len(session.proposing.outlines) == 2
    assert session.hand.current is None
    np.testing.assert_array_equal(page.labels == 3, truth() == 4)
    page.key(KEYS.Key_N)
    np.testing.assert_allclose(page.viewer.scene.camera.center[-2:], middle(3), atol=1.5)
    page.press(dock.next)
    np.testing.assert_allclose(page.viewer.scene.camera.center[-2:], middle(6), atol=1.5)
    page.press(dock.accept)
    assert numbers(session) == {1, 2, 3, 4, 5}
    page.key(KEYS.Key_Z, CONTROL)
    assert numbers(session) == {1, 2, 3}
    page.press(dock.propose)
    page.until(lambda: len(session.proposing.outlines) == 4 and not session.is_busy)
    page.press(dock.reject)
    assert session.proposing.outlines == ()
    assert numbers(session) == {1, 2, 3}
    assert not dock.accept.isVisible()


# ---------------------------------------------------------------- haste, and the end


def test_of_fifty_quick_clicks_the_last_one_is_answered_and_the_window_lives(bare):
    bare.viewer.add_image(drawn(), name="discs")
    bare.fit()
    bare.press(bare.dock.click)
    ticks = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(True))
    timer.start(5)
    row, column, radius = DISCS[0]
    clicks = []
    for count in range(50):
        angle, positive = count * 0.8, count % 2 == 0
        distance = radius - 5 if positive else radius + 7
        place = row + distance * np.sin(angle), column + distance * np.cos(angle)
        clicks.append((place, LEFT if positive else RIGHT))
    bare.click_in_haste(clicks)
    assert len(bare.clicks) == 50
    ticks.clear()
    bare.until(lambda: answered(bare.session) and len(ticks) > 5)
    bare.until(lambda: not bare.controller.lane.is_busy())
    timer.stop()
    state = bare.session.hand.current.on(())
    outline = state.answers[-1].full(SHAPE)
    assert overlap(outline, truth() == 1) > FAIR
    for click in state.clicks:
        assert outline[round(click.row), round(click.column)] == click.positive
    bare.key(KEYS.Key_C)
    np.testing.assert_array_equal(bare.labels == 1, outline)


def test_closing_the_window_while_a_click_is_answered_does_no_harm(page):
    page.outline(middle(1))
    Stub.gate.clear()
    begun = Stub.begun
    page.click(middle(2))
    page.until(lambda: Stub.begun > begun)
    timer = threading.Timer(0.2, Stub.gate.set)  # the answer comes while the window is closed
    timer.start()
    page.viewer.close()
    timer.join()
    assert not any(thread.name == "U-Net jobs" for thread in threading.enumerate())


def test_a_dock_that_is_opened_again_goes_on_where_it_was(page):
    page.finish(1)
    page.outline(middle(2))
    session = page.session
    page.viewer.window.remove_dock_widget(page.dock)
    page.open_dock()
    assert page.session is session
    assert page.dock.click.isChecked()
    assert page.dock.commit.isEnabled()
    page.outline((middle(2)[0] + 3, middle(2)[1]))
    assert len(page.clicks) == 2  # nothing listens twice
    page.press(page.dock.commit)
    np.testing.assert_array_equal(page.labels, np.where(truth() <= 2, truth(), 0))
