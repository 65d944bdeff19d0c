"""The Evaluate dock, with mouse and keys in a real window."""

import csv

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_unet.engine.evaluate import evaluate
from napari_unet.engine.evaluation_pairs import EvaluationPair
from napari_unet.engine.score_table import explain
from napari_unet.viewer import controller as sessions
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.evaluate_widget import EvaluateWidget
from napari_unet.viewer.score_table import ScoreModel


def objects():
    labels = np.zeros((40, 60), np.int32)
    labels[4:16, 4:20], labels[20:36, 4:20], labels[8:30, 30:50] = 1, 2, 3
    return labels


@pytest.fixture
def viewer(make_napari_viewer, segmenter, monkeypatch):
    viewer = make_napari_viewer(show=True)
    session = SegmentationController(viewer, segmenter)
    monkeypatch.setitem(sessions._sessions, viewer, session)
    yield viewer
    session.close()


@pytest.fixture
def open_dock(viewer):
    def make():
        dock = EvaluateWidget(viewer)
        viewer.window.add_dock_widget(dock, name="Evaluate", area="right")
        return dock

    return make


def click(button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def pick(dock, prediction, truth):
    dock.prediction.combo.value = prediction
    dock.truth.combo.value = truth


@pytest.fixture
def evaluated(qtbot, viewer, open_dock):
    """A dock in which a prediction without object 3 was judged."""
    truth = viewer.add_labels(objects(), name="truth", scale=(0.5, 0.5))
    lost = viewer.add_labels(np.where(objects() == 3, 0, objects()), name="mine")
    dock = open_dock()
    pick(dock, lost, truth)
    click(dock.run)
    qtbot.waitUntil(lambda: dock.scores.model() is not None, timeout=20_000)
    return dock


def test_errors_are_shown_in_a_layer_and_counted(evaluated, viewer):
    layer = viewer.layers["Errors of mine"]
    np.testing.assert_array_equal(layer.data == 1, objects() == 3)
    np.testing.assert_allclose(layer.scale, (0.5, 0.5))
    assert f"missed: 1 object, {(objects() == 3).sum()} pixels" in evaluated.legend.text()
    assert "spurious" not in evaluated.legend.text()


def test_the_table_holds_what_the_engine_computes(evaluated):
    truth = objects()
    pair = EvaluationPair("mine", np.where(truth == 3, 0, truth), truth)
    expected = list(evaluate([pair], "instances"))[-1].table.total
    model = evaluated.scores.model()
    names = [model.headerData(row, Qt.Orientation.Vertical) for row in range(model.rowCount())]
    assert names == [name for name in expected if "summed" not in name]
    row = names.index("AP@0.5")
    assert model.data(model.index(row, 0)) == f"{expected['AP@0.5']:.4f}" == "0.6667"


def test_every_measure_is_explained(evaluated):
    model = evaluated.scores.model()
    for row in range(model.rowCount()):
        tip = model.headerData(row, Qt.Orientation.Vertical, Qt.ItemDataRole.ToolTipRole)
        assert tip, model.headerData(row, Qt.Orientation.Vertical)
    tip = model.data(model.index(0, 0), Qt.ItemDataRole.ToolTipRole)
    assert tip == explain("AP@0.5")


def test_ctrl_c_copies_the_table(evaluated):
    evaluated.scores.setFocus()
    QTest.keyClick(evaluated.scores, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    lines = QApplication.clipboard().text().splitlines()
    assert lines[0] == "\tmine"
    assert "AP@0.5\t0.6667" in lines


def test_the_table_is_saved(evaluated, tmp_path, monkeypatch):
    path = tmp_path / "scores.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    click(evaluated.save)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert float(rows[-1]["recall"]) == pytest.approx(2 / 3)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path), ""))
    click(evaluated.save)
    assert "cannot be written" in evaluated.progress.message.text()


def test_the_slider_covers_more_or_less(evaluated, viewer):
    evaluated.opacity.setValue(0.25)
    assert viewer.layers["Errors of mine"].opacity == pytest.approx(0.25)
    viewer.layers.remove("Errors of mine")
    evaluated.opacity.setValue(0.5)  # nothing is there to be covered with


def test_a_second_time_the_layer_is_used_again(evaluated, viewer, qtbot):
    viewer.layers["mine"].data = objects()
    click(evaluated.run)
    qtbot.waitUntil(lambda: "No object is missed" in evaluated.legend.text(), timeout=20_000)
    assert [layer.name for layer in viewer.layers].count("Errors of mine") == 1
    assert not viewer.layers["Errors of mine"].data.any()


def test_a_stack_is_judged_plane_by_plane(qtbot, viewer, open_dock):
    truth = viewer.add_labels(np.stack([objects()] * 3), name="truth")
    mine = viewer.add_labels(np.stack([objects(), objects() * 0, objects()]), name="mine")
    dock = open_dock()
    pick(dock, mine, truth)
    click(dock.run)
    qtbot.waitUntil(lambda: dock.scores.model() is not None, timeout=20_000)
    model = dock.scores.model()
    headers = [
        model.headerData(column, Qt.Orientation.Horizontal) for column in range(model.columnCount())
    ]
    assert headers == ["all", "plane 0", "plane 1", "plane 2"]
    errors = viewer.layers["Errors of mine"].data
    assert [bool(plane.any()) for plane in errors] == [False, True, False]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "Two layers are needed"),
        ([("a", (40, 60))], "Two layers are needed"),
        ([("a", (40, 60)), ("b", (30, 60))], "must be the same"),
    ],
)
def test_it_says_why_it_cannot_be_pressed(viewer, open_dock, layers, words):
    added = [viewer.add_labels(np.zeros(shape, int), name=name) for name, shape in layers]
    dock = open_dock()
    if added:
        pick(dock, added[0], added[-1])
    assert not dock.run.isEnabled()
    assert words in dock.run.reason_line.text()
    assert not dock.save.isEnabled()


def test_layers_that_go_away_in_the_middle_do_no_harm(qtbot, viewer, open_dock):
    truth = viewer.add_labels(objects(), name="truth")
    mine = viewer.add_labels(objects(), name="mine")
    dock = open_dock()
    pick(dock, mine, truth)
    click(dock.run)
    viewer.layers.clear()
    qtbot.waitUntil(lambda: dock.scores.model() is not None, timeout=20_000)
    assert "Errors of mine" in viewer.layers
    assert "'mine' and 'truth' removed meanwhile" in dock.progress.message.text()
    assert "Two layers are needed" in dock.run.reason_line.text()


def test_the_session_may_lose_its_image_meanwhile(qtbot, viewer, open_dock):
    image = viewer.add_image(np.zeros((40, 60), np.float32), name="image")
    stack = np.stack([objects()] * 20)
    truth, mine = viewer.add_labels(stack, name="t"), viewer.add_labels(stack, name="mine")
    dock = open_dock()
    dock.controller.layers.set_image(image)
    pick(dock, mine, truth)
    click(dock.run)
    viewer.layers.remove(image)
    qtbot.waitUntil(lambda: not dock.evaluation.is_running, timeout=20_000)
    assert dock.scores.model().columnCount() == 21
    assert dock.run.isEnabled()


def test_a_long_evaluation_can_be_stopped(qtbot, viewer, open_dock):
    stack = np.stack([objects()] * 500)
    truth, mine = viewer.add_labels(stack, name="t"), viewer.add_labels(stack, name="mine")
    dock = open_dock()
    pick(dock, mine, truth)
    assert not dock.progress.stop.isVisible()
    click(dock.run)
    assert "being evaluated" in dock.run.reason_line.text()
    qtbot.waitUntil(lambda: dock.progress.bar.value() > 0, timeout=20_000)
    click(dock.progress.stop)
    qtbot.waitUntil(lambda: not dock.evaluation.is_running, timeout=20_000)
    assert 1 < dock.scores.model().columnCount() < 501
    assert "stopped after" in dock.progress.message.text()
    assert "of 500 planes" in dock.progress.message.text()


def test_layers_are_chosen_and_change_places(viewer, open_dock):
    dock = open_dock()
    viewer.add_image(np.zeros((40, 60), np.uint8), name="photo")
    assert dock.prediction.combo.value is dock.truth.combo.value is None
    first = viewer.add_labels(objects(), name="first")
    second = viewer.add_labels(objects(), name="second")
    assert (dock.prediction.combo.value, dock.truth.combo.value) == (first, second)
    assert dock.run.isEnabled()
    dock.prediction.combo.value = second
    assert (dock.prediction.combo.value, dock.truth.combo.value) == (second, first)
    assert dock.run.isEnabled()
    viewer.layers.remove(first)
    assert not dock.run.isEnabled()


def test_probabilities_are_compared_as_the_inside_of_cells(qtbot, viewer, open_dock):
    interior = objects() > 0
    truth = viewer.add_labels(interior.astype(np.uint8), name="truth")
    mine = viewer.add_image(np.where(interior, 0.9, 0.6).astype(np.float32), name="mine")
    dock = open_dock()
    assert not dock.threshold.isEnabled()
    pick(dock, mine, truth)
    assert dock.kind.currentData() == "boundary"  # nothing else can be meant
    assert dock.threshold.isEnabled()
    click(dock.run)
    qtbot.waitUntil(lambda: dock.scores.model() is not None, timeout=20_000)
    assert dock.evaluation.table.total["Rand error"] == 0
    assert "the threshold with the best Rand error" in dock.progress.message.text()
    dock.threshold.setValue(0.5)
    click(dock.run)
    qtbot.waitUntil(lambda: not dock.evaluation.is_running, timeout=20_000)
    assert dock.evaluation.table.total["Rand error"] > 0
    assert "merged: 1 object" in dock.legend.text()
    dock.kind.setCurrentIndex(0)  # objects
    assert "holds probabilities" in dock.run.reason_line.text()


def test_classes_of_the_predict_dock_count_from_1(qtbot, viewer, open_dock):
    truth = viewer.add_labels((objects() > 0).astype(np.uint8) * 255, name="truth")
    classes = viewer.add_labels((objects() > 0).astype(np.uint8) + 1, name="image: classes")
    classes.metadata["napari-unet"] = "classes"
    dock = open_dock()
    pick(dock, classes, truth)
    assert dock.kind.currentData() == "semantic"
    click(dock.run)
    qtbot.waitUntil(lambda: dock.scores.model() is not None, timeout=20_000)
    assert dock.evaluation.table.total["Dice 255"] == 1
    assert "background is 1 in the prediction" in dock.progress.message.text()
    assert "Every pixel has its class" in dock.legend.text()


def test_of_strokes_only_what_is_painted_counts(qtbot, viewer, open_dock):
    strokes = np.zeros((40, 60), np.uint8)
    strokes[2:5], strokes[30:34, 5:9] = 1, 2
    truth = viewer.add_labels(strokes, name="strokes")
    mine = viewer.add_labels((objects() > 0) + 1, name="mine")
    dock = open_dock()
    dock.controller.layers.set_annotations(truth)
    pick(dock, mine, truth)
    assert "holds strokes" in dock.run.reason_line.text()
    dock.kind.setCurrentIndex(1)
    click(dock.run)
    qtbot.waitUntil(lambda: dock.scores.model() is not None, timeout=20_000)
    total = dock.evaluation.table.total
    wrong = (objects()[2:5] > 0).sum()
    assert total["pixel error"] == pytest.approx(wrong / (strokes > 0).sum())
    assert "Dice 0" not in total


def test_the_error_layer_is_not_offered_and_does_not_take_the_brush(evaluated, viewer):
    layer = viewer.layers["Errors of mine"]
    for picker in (evaluated.prediction, evaluated.truth):
        assert layer not in picker.combo.choices
    assert viewer.layers.selection.active is viewer.layers["mine"]


def test_a_photograph_is_no_truth(qtbot, viewer, open_dock):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)
    photo = viewer.add_image(noise, name="photo")
    mine = viewer.add_labels(objects(), name="mine")
    dock = open_dock()
    pick(dock, mine, photo)
    click(dock.run)
    qtbot.waitUntil(lambda: "grey values" in dock.progress.message.text(), timeout=20_000)


def test_a_dock_that_is_closed_ends_its_evaluation(qtbot, viewer, open_dock):
    stack = np.stack([objects()] * 500)
    truth, mine = viewer.add_labels(stack, name="t"), viewer.add_labels(stack, name="mine")
    dock = open_dock()
    pick(dock, mine, truth)
    evaluation, thread = dock.evaluation, dock.evaluation.lane
    click(dock.run)
    dock.deleteLater()
    qtbot.waitUntil(lambda: not thread.is_busy(), timeout=20_000)
    assert evaluation.table is None


def test_wrong_labels_are_reported(qtbot, viewer, open_dock):
    truth = viewer.add_labels(np.arange(2400).reshape(40, 60), name="truth")
    mine = viewer.add_labels(objects(), name="mine")
    dock = open_dock()
    pick(dock, mine, truth)
    dock.kind.setCurrentIndex(1)  # classes
    click(dock.run)
    qtbot.waitUntil(
        lambda: "too many to be classes" in dock.progress.message.text(), timeout=20_000
    )
    assert dock.run.isEnabled()


def test_one_image_needs_no_column_for_all():
    pair = EvaluationPair("a", objects(), objects())
    model = ScoreModel(list(evaluate([pair], "instances"))[-1].table)
    assert model.columnCount() == 1
