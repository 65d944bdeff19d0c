"""A project and clicks: the object in hand and the adapted network come back as they were."""

import numpy as np
import pytest
import torch
from clicking_help import LONG, Stub, answer_with, answered, drawn, middle, role, truth
from napari.components import ViewerModel

from napari_unet.engine.events import ClicksAdapted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.journal import Project, SettingsChanged, ViewChanged
from napari_unet.engine.segmenter import Segmenter
from napari_unet.model.click import CHANNELS
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click, known_outlines
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.project import clicked, project_for


class Window:
    """A viewer in which six discs, or a stack of them, are clicked on."""

    def __init__(self, qtbot, viewer, pixels):
        self.qtbot, self.viewer = qtbot, viewer
        self.session = SegmentationController(viewer, Segmenter(UNet(base_channels=4, depth=2)))
        self.image = viewer.add_image(pixels, name="discs")
        self.clicks = click_session_for(self.session)
        self.clicks.learning.learns = False
        self.projects = project_for(self.session)
        self.clicks.scene.set_image(self.image)
        bound = self.projects.bound
        qtbot.waitUntil(lambda: bound.looked is not None and not bound.is_busy, timeout=LONG)

    @property
    def facts(self):
        return self.projects.project.facts

    @property
    def labels(self):
        return np.array(self.clicks.scene.objects.layer.data)

    def press(self, at, positive=True, index=()):
        self.clicks.click(index, at, positive)
        self.qtbot.waitUntil(lambda: answered(self.clicks), timeout=LONG)

    def settle(self):
        self.qtbot.waitUntil(lambda: self.projects.project is not None, timeout=LONG)
        self.qtbot.waitUntil(lambda: not self.session.lane.is_busy(), timeout=LONG)
        self.projects._on_ticked()

    def outline(self, index=()):
        return self.clicks.hand.current.outline_on(index).full(self.image.data.shape[-2:])

    def go_on(self):
        before = self.projects.project
        self.projects.go_on()
        self.qtbot.waitUntil(lambda: self.projects.project not in (None, before), timeout=LONG)
        self.settle()

    def close(self):
        self.projects.close()
        self.session.close()


@pytest.fixture
def opened(qapp, qtbot, tmp_path, monkeypatch):
    """Open the image in another window; a stub answers clicks."""
    monkeypatch.setenv("NAPARI_UNET_PROJECTS", str(tmp_path / "home"))
    answer_with(monkeypatch, Stub)
    windows = []

    def open_it(pixels=None, viewer=None):
        pixels = drawn() if pixels is None else pixels
        windows.append(Window(qtbot, viewer or ViewerModel(), pixels))
        return windows[-1]

    yield open_it
    for window in windows:
        window.close()


def tiny_network(seed=0):
    torch.manual_seed(seed)
    return UNet(in_channels=CHANNELS, classes=2, base_channels=2, depth=1).eval()


def test_the_object_in_hand_comes_back_and_can_be_finished(opened):
    first = opened()
    first.press(middle(1))
    first.press((middle(1)[0] + 12, middle(1)[1]), positive=False)
    first.settle()
    state, shown = first.clicks.hand.current.planes[()], first.outline()
    first.close()
    second = opened()
    asked = Stub.begun
    second.go_on()
    assert Stub.begun == asked  # the answers are known
    assert second.clicks.hand.current.planes[()].clicks == state.clicks
    np.testing.assert_array_equal(second.outline(), shown)
    second.clicks.hand.take_back()
    assert second.outline().sum() > shown.sum()
    second.press((middle(1)[0] + 12, middle(1)[1]), positive=False)
    second.clicks.hand.commit()
    np.testing.assert_array_equal(second.labels == 1, shown)


def test_a_click_is_in_the_journal_before_its_answer(opened):
    first = opened()
    first.press(middle(1))
    first.settle()
    Stub.gate.clear()
    try:
        first.clicks.click((), middle(2))
        shown = Project.open(first.projects.project.folder, read_only=True).state.view["hand"]
    finally:
        Stub.gate.set()
    (plane,) = shown["planes"]
    assert plane["clicks"][-1] == [*middle(2), True]
    assert plane["answers"][-1] is None


def test_a_click_that_was_not_answered_is_asked_again(opened):
    first = opened()
    first.press(middle(1))
    first.settle()
    Stub.gate.clear()
    first.clicks.click((), middle(2))
    first.projects.clicked.look()
    Stub.gate.set()
    first.close()
    second = opened()
    second.go_on()
    second.qtbot.waitUntil(lambda: answered(second.clicks), timeout=LONG)
    for number in (1, 2):
        row, column = middle(number)
        assert second.outline()[int(row), int(column)]


@pytest.mark.parametrize("end", ["commit", "drop"])
def test_what_was_finished_or_dropped_is_in_hand_no_more(opened, end):
    first = opened()
    first.press(middle(1))
    first.settle()
    getattr(first.clicks.hand, end)()
    first.settle()
    first.close()
    second = opened()
    if end == "drop":
        assert first.projects.project is None
    second.go_on()
    assert second.clicks.hand.current is None


def test_an_object_taken_up_again_keeps_its_number_unless_it_was_undone(opened):
    first = opened()
    first.press(middle(1))
    first.clicks.hand.commit()
    first.settle()
    first.clicks.click((), middle(1))
    first.press((middle(1)[0] + 12, middle(1)[1]), positive=False)
    first.settle()
    first.close()
    second = opened()
    second.go_on()
    assert second.clicks.hand.current.label == 1
    second.projects.steps.undo()
    assert not second.labels.any()
    second.settle()
    second.close()
    third = opened()
    third.go_on()
    assert third.clicks.hand.current.label is None
    assert third.clicks.hand.commit() == 1


def test_undo_and_redo_pass_over_clicks_and_settings(opened):
    first = opened()
    first.press(middle(1))
    first.clicks.hand.commit()
    first.press(middle(2))
    first.clicks.clickers.network = tiny_network()
    first.settle()
    first.projects.steps.undo()
    assert not first.labels.any()
    first.press((middle(2)[0] + 12, middle(2)[1]), positive=False)
    first.settle()
    first.projects.steps.redo()
    assert first.labels[tuple(map(int, middle(1)))] == 1
    assert first.clicks.clickers.network is not None


def test_of_a_stack_every_plane_of_the_object_comes_back(opened):
    stack = np.stack([drawn(seed=seed) for seed in range(3)])
    first = opened(stack)
    first.press(middle(1), index=(0,))
    first.press(middle(1), index=(2,))
    first.settle()
    first.close()
    second = opened(stack)
    second.go_on()
    assert set(second.clicks.hand.current.planes) == {(0,), (2,)}
    np.testing.assert_array_equal(second.outline((2,)), first_outline(stack[2]))


def first_outline(pixels):
    return Stub(SourceImage(pixels)).outline([Click(*middle(1))]).full(pixels.shape)


def test_the_adapted_network_and_what_is_known_of_sizes_come_back(opened):
    first = opened()
    for number in (1, 2, 3):
        first.press(middle(number))
        first.clicks.hand.commit()
    network = tiny_network()
    first.clicks.clickers.network = network
    first.clicks.learning.resume(ClicksAdapted(5, None, 0.75, True), 10)
    first.clicks.hand.preserve = False
    first.clicks.learning.set_teaches(False)
    first.settle()
    first.settle()
    sizes = first.clicks.hand.sizes.known
    assert len(sizes) == 3
    first.close()
    second = opened()
    second.go_on()
    for name, weights in network.state_dict().items():
        torch.testing.assert_close(second.clicks.clickers.network.state_dict()[name], weights)
    assert second.clicks.learning.adapted == ClicksAdapted(5, None, 0.75, True)
    assert second.clicks.learning.next_adaption == 10
    assert second.clicks.hand.sizes.known == sizes
    learning, hand = second.clicks.learning, second.clicks.hand
    assert (learning.learns, learning.teaches, hand.preserve) == (False, False, False)


def test_a_network_adapted_just_before_closing_is_kept(opened):
    first = opened()
    first.press(middle(1))
    first.settle()
    first.clicks.clickers.network = tiny_network(1)
    first.close()
    second = opened()
    second.go_on()
    assert second.clicks.clickers.network is not None


def test_a_network_that_was_forgotten_does_not_come_back(opened):
    first = opened()
    first.press(middle(1))
    first.clicks.clickers.network = tiny_network()
    first.settle()
    first.settle()
    first.clicks.learning.forget()
    first.settle()
    first.close()
    second = opened()
    second.go_on()
    assert second.clicks.clickers.network is None


def test_a_damaged_network_is_told_and_the_rest_comes_back(opened, monkeypatch):
    told = []
    monkeypatch.setattr(clicked, "show_warning", told.append)
    first = opened()
    first.press(middle(1))
    first.clicks.clickers.network = tiny_network()
    first.settle()
    first.settle()
    folder = first.projects.project.folder
    first.close()
    (path,) = (folder / "models").glob("*.safetensors")
    contents = bytearray(path.read_bytes())
    contents[-5] ^= 1
    path.write_bytes(bytes(contents))
    second = opened()
    second.go_on()
    assert second.clicks.clickers.network is None
    assert len(told) == 1
    assert "is damaged or was replaced" in told[0]
    assert second.clicks.hand.current is not None


def test_nothing_is_written_where_nothing_was_clicked(opened):
    first = opened()
    first.clicks.learning.learns = True  # as in every new session
    first.session.layers.set_image(first.image)
    layer = first.session.layers.add_annotations()
    layer.paint((10, 10), 1)
    first.settle()
    assert "clicks" not in first.facts.settings
    assert first.facts.view.get("hand") is None


def test_in_a_real_window_the_outline_is_shown_again(opened, make_napari_viewer, monkeypatch):
    first = opened(viewer=make_napari_viewer())
    first.press(middle(3))
    first.settle()
    shown = first.outline()
    first.viewer.close()  # as a user does it
    second = opened(viewer=make_napari_viewer())
    second.go_on()
    assert role(second.viewer, "clicked object") is not None
    np.testing.assert_array_equal(second.outline(), shown)
    assert second.clicks.hand.commit() == 1
    np.testing.assert_array_equal(second.labels > 0, shown)


# ---------------------------------------------------------------------------- proposals


def outlines(*numbers):
    """Discs as they are proposed."""
    return tuple(each for n in numbers for each in known_outlines((truth() == n).astype(np.int32)))


@pytest.fixture
def with_proposals(opened):
    """Two finished discs, and the four others proposed."""
    window = opened()
    for number in (1, 2):
        window.press(middle(number))
        window.clicks.hand.commit()
    window.settle()
    window.clicks.proposing.index = ()
    window.clicks.proposing.show(outlines(3, 4, 5, 6))
    return window


def boxes(clicks):
    return [each.box for each in clicks.proposing.outlines]


def test_proposals_that_nobody_answered_come_back(opened, with_proposals):
    first = with_proposals
    assert first.clicks.proposing.answer((), middle(4), True)
    assert first.clicks.proposing.answer((), middle(5), False)
    assert boxes(first.clicks) == [each.box for each in outlines(3, 6)]
    first.close()
    second = opened()
    second.go_on()
    assert boxes(second.clicks) == [each.box for each in outlines(3, 6)]
    second.clicks.proposing.accept_all()
    assert (second.labels > 0)[truth() == 4].all()
    assert (second.labels > 0)[truth() == 6].all()
    assert not (second.labels > 0)[truth() == 5].any()
    assert not second.facts.view["open_proposals"]
    assert "proposals" not in second.facts.settings


def test_an_answer_writes_no_outline_again(with_proposals):
    project = with_proposals.projects.project
    written = []
    append = project.append
    project.append = lambda change: written.append(change) or append(change)
    with_proposals.clicks.proposing.answer((), middle(4), False)
    settings = [change for change in written if isinstance(change, SettingsChanged)]
    views = [change for change in written if isinstance(change, ViewChanged)]
    assert (len(settings), len(views)) == (0, 1)
    assert views[0].values["open_proposals"] == [0, 2, 3]


def test_a_view_that_moves_keeps_them(with_proposals):
    with_proposals.viewer.scene.camera.zoom = 3.5
    with_proposals.projects.facts.look(at_once=True)
    assert with_proposals.facts.view["zoom"] == 3.5
    assert with_proposals.facts.view["open_proposals"] == [0, 1, 2, 3]
    assert len(with_proposals.facts.settings["proposals"]["outlines"]) == 4


def test_a_proposal_that_became_an_object_does_not_come_back(opened, with_proposals):
    first = with_proposals
    values = dict(first.facts.view)
    first.clicks.proposing.answer((), middle(4), True)
    first.settle()
    first.projects.project.append(ViewChanged(values))  # as if killed before the note
    first.close()
    second = opened()
    second.go_on()
    assert boxes(second.clicks) == [each.box for each in outlines(3, 5, 6)]
