import threading

import numpy as np
import pytest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QProgressBar,
    QScrollBar,
)

from napari_unet.engine.events import LearningPlanned
from napari_unet.engine.results import InstanceSettings
from napari_unet.engine.usage import Usage
from napari_unet.model.checkpoint import save_model
from napari_unet.model.unet import UNet
from napari_unet.viewer import __main__ as command
from napari_unet.viewer import controller as sessions
from napari_unet.viewer import predict_widget
from napari_unet.viewer.class_list import ClassList
from napari_unet.viewer.clicking.widget import ClickWidget
from napari_unet.viewer.controller import SegmentationController, controller_for
from napari_unet.viewer.curve import CurvePlot
from napari_unet.viewer.finetune_widget import BUDGETS, FinetuneWidget
from napari_unet.viewer.form import QuietBar, RunButton
from napari_unet.viewer.predict_widget import PredictWidget
from napari_unet.viewer.reports import SPEAKERS
from napari_unet.viewer.status import Phase, TrainingHistory
from napari_unet.viewer.weight_map_widget import WeightMapWidget

CONTROLS = (QAbstractButton, QComboBox, QAbstractSlider, QAbstractSpinBox)
DOCKS = (FinetuneWidget, PredictWidget, ClickWidget, WeightMapWidget)


@pytest.fixture
def viewer(make_napari_viewer, segmenter, monkeypatch):
    viewer = make_napari_viewer()
    session = SegmentationController(viewer, segmenter)
    monkeypatch.setitem(sessions._sessions, viewer, session)
    yield viewer
    session.close()


@pytest.fixture
def open_dock(viewer):
    """Puts a dock into the viewer's window."""

    def make(kind):
        dock = kind(viewer)
        viewer.window.add_dock_widget(dock, area="right")
        return dock

    return make


@pytest.fixture
def dock(open_dock, viewer, two_halves):
    """The Fine-tune dock on an image, with nothing painted yet."""
    viewer.add_image(two_halves[0], name="halves")
    return open_dock(FinetuneWidget)


def paint(dock, annotations):
    dock.paint.new.click()
    dock.controller.layers.annotations.data = annotations
    dock.controller.layers.look_at_strokes()


def record(monkeypatch, session, *names):
    """Take down calls of a session's methods instead of making them."""
    calls = []
    for name in names:
        monkeypatch.setattr(
            session, name, lambda *a, name=name, **k: calls.append((name, a, k)), raising=True
        )
    return calls


# ---------------------------------------------------------------- what can be read


@pytest.mark.parametrize("kind", DOCKS)
def test_every_control_says_what_it_does(open_dock, kind):
    dock = open_dock(kind)
    mute = [
        control
        for control in dock.findChildren(object)
        if isinstance(control, CONTROLS)
        and not isinstance(control, QScrollBar)
        and not _tooltip(control, dock)
    ]
    assert mute == []


def _tooltip(control, dock):
    """The tooltip of a control or of the compound control that it is a part of."""
    while control is not None and control is not dock.widget():
        if control.toolTip():
            return control.toolTip()
        control = control.parentWidget()
    return ""


@pytest.mark.parametrize("kind", DOCKS)
def test_a_dock_fits_a_small_screen(open_dock, kind):
    dock = open_dock(kind)
    assert dock.widget().minimumSizeHint().width() <= 320
    assert dock.minimumSizeHint().height() < 300  # it scrolls


@pytest.mark.parametrize("kind", DOCKS)
def test_a_grey_button_tells_why_in_tooltip_and_line(open_dock, kind):
    dock = open_dock(kind)
    grey = [button for button in dock.findChildren(RunButton) if not button.isEnabled()]
    assert grey
    for button in grey:
        reason = button._why_not()
        assert button.toolTip() == reason
        assert button.reason_line.text() == reason
        assert button.reason_line.isVisibleTo(dock) == (button.reason_line.parent() is not None)


def test_the_reasons_follow_what_is_done(dock, two_halves):
    assert "annotation layer" in dock.learn.reason_line.text()
    dock.paint.new.click()
    assert "two classes" in dock.learn.reason_line.text()
    dock.controller.layers.annotations.data = two_halves[1]
    dock.controller.layers.look_at_strokes()
    assert dock.learn.isEnabled()
    assert dock.learn.reason_line.isHidden()


def test_stop_is_grey_again_when_the_job_of_somebody_else_ended(dock, qtbot):
    controller = dock.controller
    may_end = threading.Event()

    def job(stop):
        may_end.wait(30)
        yield from ()

    controller.lane.submit(job, name="Click")
    dock.refresh()
    assert dock.stop.isEnabled()
    may_end.set()
    qtbot.waitUntil(lambda: not dock.stop.isEnabled(), timeout=30_000)


def test_the_image_and_its_axes_are_named(dock, viewer):
    assert dock.description.text() == "halves: 64 rows x 80 columns, grey, float64"
    dock.controller.layers.set_image(viewer.add_image(np.zeros((3, 64, 80)), name="stack"))
    assert "64 rows x 80 columns" in dock.description.text()
    assert "of 3" in dock.description.text()


# ---------------------------------------------------------------- layers


def test_the_docks_agree_on_the_image(dock, open_dock, viewer):
    predict = open_dock(PredictWidget)
    other = viewer.add_image(np.zeros((20, 30)), name="other")
    predict.image.combo.value = other
    assert dock.controller.layers.image is other
    assert dock.image.combo.value is other
    assert "other" in dock.description.text()


def test_the_next_image_is_taken_when_one_is_removed(dock, viewer):
    other = viewer.add_image(np.zeros((20, 30)), name="other")
    viewer.layers.remove("halves")
    assert dock.controller.layers.image is other
    viewer.layers.remove(other)
    assert dock.controller.layers.image is None
    assert "Open an image" in dock.description.text()


def test_an_image_that_comes_later_is_taken(open_dock, viewer):
    dock = open_dock(FinetuneWidget)
    assert dock.controller.layers.image is None
    layer = viewer.add_image(np.zeros((20, 30)))
    assert dock.controller.layers.image is layer


def test_results_are_not_offered_as_images(dock, two_halves, qtbot):
    paint(dock, two_halves[1])
    dock.controller.learn(seconds=0.3)
    qtbot.waitUntil(lambda: dock.controller.status.phase is Phase.IDLE, timeout=20_000)
    assert len(dock.controller.viewer.layers) > 2
    assert [layer.name for layer in dock.image.combo.choices] == ["halves"]
    assert dock.controller.history.losses


def test_a_renamed_layer_is_listed_by_its_new_name(dock, viewer):
    viewer.layers["halves"].name = "two sides"
    assert dock.image.combo.native.findText("two sides") >= 0


# ---------------------------------------------------------------- painting


def test_a_class_takes_the_brush(dock, viewer):
    dock.paint.class_list.buttons()[1].click()
    layer = dock.controller.layers.annotations
    assert (layer.selected_label, str(layer.mode)) == (2, "paint")
    assert viewer.layers.selection.active is layer
    assert [button.isChecked() for button in dock.paint.class_list.buttons()] == [False, True]


def test_the_list_follows_the_brush(dock):
    dock.paint.new.click()
    dock.controller.layers.annotations.selected_label = 2
    assert dock.paint.class_list.buttons()[1].isChecked()
    dock.controller.layers.annotations.selected_label = 0
    assert not any(button.isChecked() for button in dock.paint.class_list.buttons())


def test_the_number_of_classes_reaches_the_session(dock, monkeypatch):
    calls = record(monkeypatch, dock.controller.network, "set_class_count")
    dock.paint.class_list.count_changed.disconnect()
    dock.paint.class_list.count_changed.connect(dock.controller.network.set_class_count)
    dock.paint.class_list.count.setValue(3)
    assert calls == [("set_class_count", (3,), {})]


def test_showing_another_number_of_classes_tells_nobody(qtbot):
    classes = ClassList(2)
    qtbot.addWidget(classes)
    with qtbot.assertNotEmitted(classes.count_changed), qtbot.assertNotEmitted(classes.picked):
        classes.set_count(5)
        assert len(classes.buttons()) == 5
        classes.set_count(3)
        classes.set_picked(2)
    assert len(classes.buttons()) == 3


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize(("title", "seconds"), BUDGETS.items())
def test_the_budget_is_what_is_learned_for(dock, two_halves, monkeypatch, title, seconds):
    calls = record(monkeypatch, dock.controller, "learn")
    paint(dock, two_halves[1])
    dock.budget.setCurrentText(title)
    dock.learn.click()
    assert calls == [("learn", (seconds,), {})]


def test_a_change_of_the_status_is_shown(dock):
    status = dock.controller.status
    status.phase = Phase.LEARNING
    status.message = "Learning, step 7"
    status.fraction, status.seconds_left = 0.25, 130.0
    assert dock.panel.bar.isVisibleTo(dock)
    assert dock.panel.bar.value() == 250
    assert dock.panel.bar.text() == "2 min 10 s left"
    assert dock.panel.message.text() == "Learning, step 7"
    status.last_error = "the cable is cut"
    assert dock.panel.error.isVisibleTo(dock)
    assert dock.panel.error.text() == "the cable is cut"
    status.fraction = None
    before = dock.panel.bar.value()
    dock.controller.status.message = "Still at it"
    assert dock.panel.bar.value() != before  # no known end, and no picture that moves by itself
    assert dock.panel.bar.maximum() > 0
    assert dock.panel.bar.text() == ""
    status.phase = Phase.PAUSED
    assert dock.pause.text() == "Resume"
    status.phase = Phase.IDLE
    assert not dock.panel.bar.isVisibleTo(dock)
    assert dock.pause.text() == "Pause"


def test_the_score_is_shown_with_what_it_rests_on(dock):
    status = dock.controller.status
    status.speaker = ""
    status.scores = (0.9, None)
    status.score, status.score_reason = 0.871, "measured on 2 of 6 strokes"
    for words in ("<b>0.87</b>", "roughly", "Background 0.90, Class 2 ?", "2 of 6 strokes"):
        assert words in dock.score.text()
    status.score_interval = (0.81, 0.93)
    status.score = 0.87
    assert "probably 0.81 to 0.93" in dock.score.text()
    assert "too few strokes" not in dock.score.text()
    status.score_interval = (0.5, 0.93)
    status.score = 0.8
    assert "too few strokes to know it better" in dock.score.text()
    status.score_at_once = 0.74
    status.score = 0.79
    assert "The same of the answer at once: 0.74" in dock.score.text()
    status.score, status.score_reason = None, "too few strokes to know"
    assert dock.score.text() == "too few strokes to know"
    status.speaker = "Answered at once"
    assert dock.score.text() == "Answered at once<br>too few strokes to know"


def test_how_it_learns_is_shown_once_it_is_known(dock):
    assert not dock.setup.isVisibleTo(dock)
    dock.options.patch_size.setValue(0)
    assert dock.options.patch_size.text() == "measured"
    dock.controller.status.setup = LearningPlanned(2, 96, "bfloat16", 3, "Patches: measured.")
    assert dock.setup.isVisibleTo(dock)
    assert "2 patches of 96 pixels a step, bfloat16, 3 threads" in dock.setup.text()
    assert dock.setup.toolTip() == "Patches: measured."
    assert dock.options.patch_size.text() == "measured: 96 px"
    dock.controller.status.setup = None
    assert not dock.setup.isVisibleTo(dock)


def test_options_reach_the_engine(dock):
    options = dock.options
    assert options.config() == dock.controller.segmenter.config
    options.patch_size.setValue(124)
    options.optimizer.setCurrentIndex(1)
    options.learning_rate.setValue(0.01)
    config = dock.controller.segmenter.config
    assert (config.patch_size, config.optimizer, config.learning_rate) == (124, "sgd", 0.01)
    options.learning_rate.setValue(0)
    assert dock.controller.segmenter.config.learning_rate is None


def test_learning_by_the_buttons(dock, two_halves, qtbot):
    paint(dock, two_halves[1])
    dock.budget.setCurrentText("until I stop")
    dock.learn.click()
    session = dock.controller
    qtbot.waitUntil(lambda: len(session.history.losses) > 2, timeout=20_000)
    assert not dock.learn.isEnabled()
    assert dock.model_files.save.isEnabled()
    dock.pause.click()
    assert session.status.phase is Phase.PAUSED
    dock.pause.click()
    assert session.status.phase is Phase.LEARNING
    dock.stop.click()
    qtbot.waitUntil(lambda: session.status.phase is Phase.IDLE, timeout=20_000)
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    assert dock.learn.isEnabled()
    assert not dock.stop.isEnabled()


# ---------------------------------------------------------------- keys


def test_the_keys_are_not_taken_by_the_viewer_or_by_labels_and_images(dock, viewer):
    from napari.layers import Image, Labels
    from napari.utils.key_bindings import coerce_keybinding
    from napari.utils.shortcuts import default_shortcuts
    from napari.viewer import Viewer

    ours = set(viewer.keymap)
    assert len(ours) == 15  # learn, predict, go on, accept, undo, part, nine classes
    for kind in (Viewer, Labels, Image):
        assert ours.isdisjoint(kind.class_keymap)
    elsewhere = ("shape", "polyline", "polygon", "lasso")
    napari_keys = {
        coerce_keybinding(key)
        for name, keys in default_shortcuts.items()
        for key in keys
        if not any(word in name for word in elsewhere)
    }
    assert ours.isdisjoint(napari_keys)


def test_the_keys_do_what_the_buttons_do(dock, viewer, two_halves, monkeypatch):
    calls = record(monkeypatch, dock.controller, "learn", "stop")
    keys = {str(key): press for key, press in viewer.keymap.items()}
    paint(dock, two_halves[1])
    keys["Ctrl+2"](viewer)
    assert dock.controller.layers.annotations.selected_label == 2
    keys["Ctrl+9"](viewer)  # there is no such class
    assert dock.controller.layers.annotations.selected_label == 2
    keys["Shift+L"](viewer)
    dock.controller._training = object()
    keys["Shift+L"](viewer)
    dock.controller._training = None
    assert [name for name, _, _ in calls] == ["learn", "stop"]


# ---------------------------------------------------------------- predict


def test_prediction_options_are_handed_on(open_dock, viewer, two_halves, monkeypatch):
    session = controller_for(viewer)
    viewer.add_image(two_halves[0])
    monkeypatch.setattr(session, "why_not", lambda action: None)
    calls = record(monkeypatch, session, "predict")
    monkeypatch.setattr(
        predict_widget, "find_objects", lambda *given: calls.append(("find_objects", given, {}))
    )
    dock = open_dock(PredictWidget)
    calls.clear()
    dock.predict.click()
    dock.visible_only.setChecked(True)
    dock.tile_size.setValue(316)
    dock.precision.setCurrentIndex(1)
    dock.averaged.setChecked(True)
    dock.predict.click()
    dock.object_settings.method.setCurrentIndex(1)
    dock.object_settings.of_class.setCurrentIndex(1)
    dock.object_settings.min_size.setValue(40)
    dock.objects.click()
    usual = {"all_planes": False, "tile_size": None, "precision": "auto", "averaging": "none"}
    chosen = {"tile_size": 316, "precision": "fp32", "averaging": "symmetries"}
    assert calls == [
        ("predict", (False,), usual),
        ("predict", (True,), {**usual, **chosen}),
        ("find_objects", (session, InstanceSettings("watershed", 0.5, 40, 2)), {}),
    ]


def test_a_model_brings_its_settings_along(open_dock, viewer, two_halves, tmp_path):
    wanted = InstanceSettings("seeds", 0.4, 33, None, 0.9, 3)
    usage = Usage("instances", (), wanted, "symmetries")
    path = save_model(UNet(1, 3, 4, 1), tmp_path / "model.safetensors", usage.to_dict())
    viewer.add_image(two_halves[0])
    dock = open_dock(PredictWidget)
    assert dock.object_settings.settings() == InstanceSettings()
    assert not dock.object_settings.seeds.isEnabled()
    dock.controller.segmenter.use_model(path)
    dock.refresh()
    assert dock.object_settings.settings() == wanted
    assert dock.object_settings.seeds.isEnabled()
    assert dock.averaged.isChecked()
    # What the user then chooses stays.
    dock.object_settings.threshold.setValue(0.7)
    dock.refresh()
    assert dock.object_settings.settings().threshold == 0.7


def test_the_model_in_use_is_told(open_dock, viewer):
    network = controller_for(viewer).segmenter._network
    network._is_loaded = False
    dock = open_dock(PredictWidget)
    assert "none yet" in dock.model.text()
    network._is_loaded = True
    dock.refresh()
    assert "from a file" in dock.model.text()
    dock.controller.status.speaker = SPEAKERS["at once"]
    dock.refresh()
    assert "answered at once" in dock.model.text()


# ---------------------------------------------------------------- weight map


def test_the_weight_map_follows_the_sliders(open_dock, viewer, two_halves, qtbot):
    objects = two_halves[1].astype(int)
    layer = viewer.add_labels(objects, name="objects")
    dock = open_dock(WeightMapWidget)
    assert dock.kind.currentData() == "instances"
    dock.switch.click()
    qtbot.waitUntil(lambda: "objects: weight map" in viewer.layers, timeout=10_000)
    with qtbot.waitSignal(dock.preview.computed, timeout=10_000) as told:
        dock.w0.setValue(40)
    assert f"to {told.args[1]:.2f} (bright)" in dock.legend.text()
    dock.switch.click()
    assert "objects: weight map" not in viewer.layers
    assert dock.legend.isHidden()
    viewer.layers.remove(layer)
    assert not dock.switch.isEnabled()


def test_strokes_are_taken_as_strokes(open_dock, viewer, two_halves):
    viewer.add_image(two_halves[0])
    first = open_dock(FinetuneWidget)
    paint(first, two_halves[1])
    dock = open_dock(WeightMapWidget)
    assert dock.settings().kind == "annotations"


# ---------------------------------------------------------------- curve


def test_the_curve_shows_what_was_measured(qtbot):
    history = TrainingHistory()
    curve = CurvePlot(history, "light")
    qtbot.addWidget(curve)
    assert curve.plot.isHidden()
    for step in range(1, 51):
        history.add_loss(step, 1 / step)
    history.add_score(50, 0.75)
    qtbot.waitUntil(lambda: not curve.plot.isHidden())
    steps, losses = curve._patch_losses.getData()
    np.testing.assert_array_equal(steps, np.arange(1, 51))
    np.testing.assert_allclose(losses, 1 / steps)
    _, means = curve._loss_line.getData()
    np.testing.assert_allclose(means[-1], losses[-10:].mean())
    np.testing.assert_allclose(means[:2], [1, 0.75])
    assert [list(values) for values in curve._score_line.getData()] == [[50], [0.75]]
    curve.set_theme("dark")
    history.clear()
    qtbot.waitUntil(curve.plot.isHidden)


def test_a_long_curve_keeps_its_end(qtbot):
    history = TrainingHistory(losses=[(step, float(step)) for step in range(1, 9_001)])
    curve = CurvePlot(history)
    qtbot.addWidget(curve)
    steps, _ = curve._patch_losses.getData()
    assert len(steps) <= 2000
    assert steps[-1] == 9000


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("kind", DOCKS)
def test_a_closed_dock_is_heard_of_no_more(open_dock, viewer, kind, qtbot, two_halves):
    dock = open_dock(kind)
    gone = []
    dock.destroyed.connect(lambda: gone.append(kind))
    viewer.window.remove_dock_widget(dock)
    dock.deleteLater()
    qtbot.waitUntil(lambda: bool(gone))
    session = controller_for(viewer)
    viewer.add_image(two_halves[0], name="later")
    session.status.message = "still at work"
    session.status.phase = Phase.WORKING
    session.history.add_loss(1, 1.0)
    viewer.theme = "light"
    session.changed.emit()
    qtbot.wait(150)  # longer than the curve waits before it draws
    session.status.phase = Phase.IDLE


def test_closing_the_window_ends_the_session(make_napari_viewer, segmenter, two_halves, qtbot):
    viewer = make_napari_viewer()
    session = sessions._sessions[viewer] = SegmentationController(viewer, segmenter)
    viewer.add_image(two_halves[0])
    dock = FinetuneWidget(viewer)
    viewer.window.add_dock_widget(dock)
    paint(dock, two_halves[1])
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 1, timeout=20_000)
    viewer.close()
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=20_000)
    assert session.layers.image is None


# ---------------------------------------------------------------- the command


def test_an_image_that_cannot_be_read_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert command.main([str(tmp_path / "missing.tif")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert told.count("\n") == 1
    assert "missing.tif" in told


@pytest.mark.parametrize("kind", [QuietBar, QProgressBar])
def test_a_bar_is_drawn_with_the_next_picture_and_not_at_once(qtbot, kind):
    """Qt's own is here for comparison: when it draws later, too, ours is not needed any more."""
    drawn = []

    class Counted(kind):
        def paintEvent(self, event):
            drawn.append(self.value())
            super().paintEvent(event)

    bar = Counted()
    bar.setRange(0, 1000)
    bar.setValue(100)
    qtbot.addWidget(bar)
    bar.show()
    qtbot.waitUntil(lambda: 100 in drawn)
    bar.setValue(700)
    assert (700 in drawn) == (kind is QProgressBar)
    qtbot.waitUntil(lambda: 700 in drawn)
