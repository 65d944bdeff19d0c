import gc
import threading
import weakref

import numpy as np
import pytest
import tifffile
import torch
from napari.components import ViewerModel

from napari_unet import Segmenter, UNet, load_model
from napari_unet.engine.events import Noticed
from napari_unet.engine.results import InstanceSettings, WeightSettings
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.starter import Starter
from napari_unet.viewer.actions import Action
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.controller import SegmentationController, controller_for
from napari_unet.viewer.project.session import project_for
from napari_unet.viewer.reports import SPEAKERS
from napari_unet.viewer.results import find_objects, save_as_tiff
from napari_unet.viewer.status import Phase
from napari_unet.viewer.train.session import training_for


def wait_idle(session, qtbot, timeout=20_000):
    def is_idle():
        results = session.layers.results
        if results is not None and results.is_adding:
            return False
        return session.status.phase is Phase.IDLE and not session.lane.is_busy()

    qtbot.waitUntil(is_idle, timeout=timeout)


def names(session):
    return [layer.name for layer in session.viewer.layers]


def test_docks_of_a_viewer_share_a_session_and_viewers_do_not(qapp):
    one, two = ViewerModel(), ViewerModel()
    assert controller_for(one) is controller_for(one)
    assert controller_for(one) is not controller_for(two)


def test_a_session_does_not_keep_its_viewer_alive(qapp):
    viewer = ViewerModel()
    session = controller_for(viewer)
    reference = weakref.ref(viewer)
    session.close()
    del viewer, session
    gc.collect()
    assert reference() is None


def test_learning_fills_in_the_prediction(session, qtbot):
    assert session.why_not(Action.LEARN) is None
    session.learn(seconds=1.0)
    assert session.is_learning
    wait_idle(session, qtbot)
    assert session.history.losses
    assert session.layers.results.is_complete
    np.testing.assert_allclose(session.layers.results.probability.sum(axis=0), 1, atol=1e-4)
    assert names(session) == [
        "halves",
        "halves: classes",
        "halves: probability of class 1",
        "halves: probability of class 2",
        "halves: annotations",
    ]
    shown = session.viewer.layers["halves: probability of class 2"].data
    np.testing.assert_array_equal(shown, session.layers.results.probability[1])


def test_the_score_reaches_the_status_and_the_curve(session, qtbot):
    session.learn(seconds=0.5)
    wait_idle(session, qtbot)
    assert session.status.score is not None
    assert "6 strokes" in session.status.score_reason
    assert session.history.scores[-1][1] == session.status.score


def test_predicting_does_not_touch_the_annotations(session, qtbot, two_halves):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    np.testing.assert_array_equal(session.layers.annotations.data, two_halves[1])


def test_strokes_painted_while_it_learns_are_taken_in(session, qtbot):
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 1, timeout=10_000)
    trainer = session.segmenter._network._trainer
    session.layers.annotations.paint((20, 60), 2)  # three strokes of class 2 become four
    qtbot.waitUntil(
        lambda: "7 strokes" in trainer.held_out[session.layers.source].reason, timeout=10_000
    )
    session.stop()
    wait_idle(session, qtbot)


def test_stop_ends_within_a_step(session, qtbot):
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 2, timeout=10_000)
    session.stop()
    count = len(session.history.losses)
    wait_idle(session, qtbot)
    assert len(session.history.losses) <= count + 2


def test_pause_holds_the_steps_and_resume_goes_on(session, qtbot):
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 1, timeout=10_000)
    session.pause()
    assert session.status.phase is Phase.PAUSED
    count = -1
    for _ in range(20):  # the step in progress ends, which takes long on a busy machine
        if count == len(session.history.losses):
            break
        count = len(session.history.losses)
        qtbot.wait(400)
    assert len(session.history.losses) == count
    session.resume()
    qtbot.waitUntil(lambda: len(session.history.losses) > count)
    session.stop()
    wait_idle(session, qtbot)


def test_why_not_names_what_is_missing(qapp, model_viewer, two_halves):
    session = SegmentationController(model_viewer)
    assert "Open an image" in session.why_not(Action.LEARN)
    session.layers.set_image(session.viewer.add_image(two_halves[0]))
    assert "annotation layer" in session.why_not(Action.LEARN)
    assert "model" in session.why_not(Action.PREDICT)
    session.layers.set_annotations(session.viewer.add_labels(np.zeros((9, 9), int)))
    assert "(9, 9)" in session.why_not(Action.LEARN)
    session.layers.add_annotations().data[0, :5] = 1
    session.layers.look_at_strokes()
    assert "one more class" in session.why_not(Action.LEARN)
    session.layers.annotations.data[1, :5] = 7
    session.layers.look_at_strokes()
    assert "Label 7" in session.why_not(Action.LEARN)
    session.close()


@pytest.mark.parametrize("job", ["learn", "predict"])
def test_removing_the_image_in_the_middle_of_a_job_ends_it(session, qtbot, notices, job):
    session.learn(seconds=1.0 if job == "predict" else None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 0, timeout=10_000)
    if job == "predict":
        wait_idle(session, qtbot)
        session.predict()
    session.viewer.layers.remove(session.layers.image)
    wait_idle(session, qtbot)
    assert session.layers.image is None
    assert [text for severity, text in notices if severity == "warning"]
    assert not [text for severity, text in notices if severity == "error"]


def test_removing_the_annotations_keeps_learning_and_says_so(session, qtbot, notices):
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 1, timeout=10_000)
    session.viewer.layers.remove(session.layers.annotations)
    count = len(session.history.losses)
    qtbot.waitUntil(lambda: len(session.history.losses) > count)
    assert any("removed" in text for _, text in notices)
    session.stop()
    wait_idle(session, qtbot)


def test_renaming_layers_in_the_middle_of_a_job_is_harmless(session, qtbot, notices):
    session.learn(seconds=1.0)
    session.layers.image.name = "other"
    session.layers.annotations.name = "strokes"
    wait_idle(session, qtbot)
    assert session.layers.results.is_complete
    # Which precision is fastest is measured, so a notice about it may or may not come.
    assert [notice for notice in notices if notice[0] != "info"] == []


def test_another_array_in_the_image_layer_ends_the_job(session, qtbot, notices):
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 1, timeout=10_000)
    session.layers.image.data = np.zeros((30, 30))
    wait_idle(session, qtbot)
    assert any("changed" in text for _, text in notices)
    assert "(30, 30)" in session.why_not(Action.LEARN)


def test_annotations_of_another_shape_in_mid_job_are_told_and_learning_goes_on(
    session, qtbot, notices
):
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 1, timeout=10_000)
    session.layers.annotations.data = np.ones((5, 5), np.uint8)
    qtbot.waitUntil(lambda: any("earlier strokes" in text for _, text in notices), timeout=10_000)
    assert session.is_learning
    session.stop()
    wait_idle(session, qtbot)


def test_a_deleted_result_layer_comes_back(session, qtbot):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    session.viewer.layers.remove("halves: probability of class 2")
    session.predict()
    wait_idle(session, qtbot)
    assert "halves: probability of class 2" in names(session)


def test_a_failing_job_is_told_and_the_session_goes_on(session, qtbot, notices, monkeypatch):
    def out_of_order(*args, **kwargs):
        raise RuntimeError("the cable is cut")
        yield

    monkeypatch.setattr(session.segmenter, "fine_tune_job", out_of_order)
    session.learn(seconds=1)
    wait_idle(session, qtbot)
    assert "the cable is cut" in session.status.last_error
    assert notices[-1][0] == "error"
    assert session.why_not(Action.LEARN) is None


def test_instances_result_and_model_are_saved(session, qtbot, tmp_path, notices):
    session.layers.image.scale = (0.5, 0.25)
    session.layers.image.units = ("um", "um")
    session.learn(seconds=1.0)
    wait_idle(session, qtbot)
    find_objects(session, InstanceSettings(min_size=50))
    qtbot.waitUntil(lambda: "halves: instances" in names(session))
    save_as_tiff(session, tmp_path)
    session.network.save(tmp_path / "model")
    wait_idle(session, qtbot)
    saved = {path.name for path in tmp_path.iterdir()}
    assert saved == {
        "halves_probabilities.tif",
        "halves_classes.tif",
        "halves_instances.tif",
        "model.safetensors",
    }
    probability = tifffile.imread(tmp_path / "halves_probabilities.tif")
    np.testing.assert_array_equal(probability, session.layers.results.probability)
    assert load_model(tmp_path / "model.safetensors").config == session.segmenter.model.config


def test_a_folder_that_cannot_be_written_is_told(session, qtbot, tmp_path, notices):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    (tmp_path / "file").write_text("in the way")
    save_as_tiff(session, tmp_path / "file" / "folder")
    wait_idle(session, qtbot)
    assert notices[-1][0] == "error"
    assert "choose another folder" in notices[-1][1]


def test_a_model_is_loaded_and_predicts(session, qtbot, tmp_path, notices):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    session.network.save(tmp_path / "model.safetensors")
    wait_idle(session, qtbot)
    other = SegmentationController(session.viewer)
    other.layers.set_image(session.layers.image)
    other.network.load(tmp_path / "model.safetensors")
    wait_idle(other, qtbot)
    assert other.why_not(Action.PREDICT) is None
    other.predict()
    wait_idle(other, qtbot)
    np.testing.assert_allclose(
        other.layers.results.probability, session.layers.results.probability, atol=0.02
    )
    other.close()


def test_a_file_that_is_no_model_is_told(session, qtbot, tmp_path, notices):
    (tmp_path / "fake.safetensors").write_text("hello")
    session.network.load(tmp_path / "fake.safetensors")
    wait_idle(session, qtbot)
    assert notices[-1][0] == "error"
    assert session.status.phase is Phase.IDLE


def test_more_classes_start_a_new_network(session, qtbot):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    session.network.set_class_count(3)
    wait_idle(session, qtbot)
    assert session.network.classes == 3
    assert session.segmenter.classes == 3
    assert session.history.losses == []
    assert session.why_not(Action.PREDICT) is not None


@pytest.mark.parametrize("part", [None, click_session_for, project_for, training_for])
def test_a_session_that_was_closed_is_freed_with_its_networks(
    part, qtbot, model_viewer, two_halves
):
    image = model_viewer.add_image(two_halves[0])
    session = SegmentationController(model_viewer, Segmenter(UNet(base_channels=4, depth=2)))
    session.layers.set_image(image)
    session.layers.add_annotations()
    if part is not None:
        part(session)
    if part is click_session_for:
        part(session).scene.set_image(image)
        wait_idle(session, qtbot)
    session.close()
    model_viewer.layers.clear()
    left = [weakref.ref(part) for part in (session, session.lane, session.segmenter)]
    del session
    gc.collect()
    assert [part() for part in left] == [None] * len(left)


def test_closing_in_the_middle_leaves_no_thread(qapp, qtbot, model_viewer, segmenter, two_halves):
    before = threading.active_count()
    session = SegmentationController(model_viewer, segmenter)
    session.layers.set_image(model_viewer.add_image(two_halves[0]))
    session.layers.add_annotations().data = two_halves[1]
    session.layers.look_at_strokes()
    session.learn(seconds=None)
    qtbot.waitUntil(lambda: len(session.history.losses) > 1, timeout=10_000)
    assert threading.active_count() == before + 1
    session.close()
    assert threading.active_count() == before


def test_results_lie_where_the_image_lies(session, qtbot):
    session.layers.image.scale = (2.0, 3.0)
    session.layers.image.translate = (10.0, 20.0)
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    layer = session.viewer.layers["halves: classes"]
    np.testing.assert_array_equal(layer.scale, (2, 3))
    np.testing.assert_array_equal(layer.translate, (10, 20))


def test_an_image_with_other_channels_needs_a_new_model_and_gets_one(
    session, qtbot, notices, two_halves
):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    session.layers.set_image(session.viewer.add_image(np.zeros((64, 80, 3)), rgb=True))
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    assert "start a new model" in notices[-1][1]
    session.network.begin_anew()
    wait_idle(session, qtbot)
    assert session.why_not(Action.PREDICT) is not None
    session.layers.add_annotations().data = two_halves[1]
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    assert session.segmenter.model.config.in_channels == 3
    assert session.segmenter.has_learned


def test_strokes_on_images_of_other_channels_are_nothing_to_learn_from(session, notices):
    layers = session.layers
    layers.look_at_strokes()
    layers.set_image(session.viewer.add_image(np.zeros((50, 60, 3)), rgb=True))
    session.network.begin_anew()
    layers.set_annotations(layers.add_annotations())
    assert layers.others()
    assert layers.painted_elsewhere() == set()
    assert "Paint a few strokes" in str(session.why_not(Action.LEARN))
    assert not session.answers_at_once()
    layers.set_image(session.viewer.add_image(np.zeros((50, 60))))
    assert layers.painted_elsewhere() == {1, 2}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_numbers_that_are_none_is_told_and_nothing_is_lost(
    session, qtbot, notices, value
):
    image = np.asarray(session.layers.image.data).copy()
    image[3, 4] = value
    annotations = session.layers.annotations
    strokes = np.asarray(annotations.data).copy()
    session.layers.set_image(session.viewer.add_image(image))
    session.layers.set_annotations(annotations)
    session.learn(seconds=1)
    wait_idle(session, qtbot)
    assert notices[-1][0] == "error"
    assert "nan_to_num" in notices[-1][1]
    np.testing.assert_array_equal(annotations.data, strokes)


def test_a_weight_map_that_fails_is_no_failed_job(session, qtbot, notices):
    labels = session.viewer.add_labels(-np.ones((64, 80), int))
    with qtbot.waitSignal(session.weights.failed, timeout=10_000):
        session.weights.show(labels, WeightSettings())
    assert notices == []
    assert session.status.phase is Phase.IDLE


# ---------------------------------------------------------------- several images


def paint_on(session, image, annotations, name):
    """Open another image and paint on it."""
    session.layers.set_image(session.viewer.add_image(image, name=name))
    layer = session.layers.add_annotations()
    layer.data = annotations
    session.layers.look_at_strokes()
    return layer


def test_an_image_that_is_chosen_again_has_its_strokes(session, two_halves):
    first, strokes = session.layers.image, session.layers.annotations
    source = session.layers.source
    paint_on(session, two_halves[0], two_halves[1], "second")
    assert session.layers.annotations is not strokes
    session.layers.go_to(first)
    assert session.layers.annotations is strokes
    assert session.layers.source is source
    assert first.visible
    assert not session.viewer.layers["second"].visible


def test_strokes_of_another_image_do_not_belong_to_this_one(session, two_halves):
    session.layers.set_image(session.viewer.add_image(two_halves[0], name="second"))
    assert session.layers.annotations is None
    assert session.why_not(Action.LEARN) is None  # from the strokes on the first
    assert not session.layers.fitting_strokes().any()


def test_strokes_on_all_images_are_learned_from(session, qtbot, two_halves, monkeypatch):
    requests = []
    job = session.segmenter.fine_tune_job
    monkeypatch.setattr(
        session.segmenter, "fine_tune_job", lambda r, *rest: requests.append(r) or job(r, *rest)
    )
    paint_on(session, two_halves[0], two_halves[1][:, ::-1].copy(), "second")
    session.learn(seconds=0.2)
    wait_idle(session, qtbot)
    np.testing.assert_array_equal(requests[0].annotations, two_halves[1][:, ::-1])
    np.testing.assert_array_equal(requests[0].others[0].annotations, two_halves[1])


def test_what_was_undone_a_moment_ago_is_not_learned_from(session, two_halves, notices):
    layer = session.layers.annotations
    layer.data = np.where(two_halves[1] == 1, 1, 0).astype(np.uint8)
    session.layers.look_at_strokes()
    rows, columns = np.nonzero(two_halves[1] == 2)
    layer.data_setitem((rows, columns), 2)
    session.layers.look_at_strokes()
    layer.undo()
    session.learn(seconds=1.0)  # before the strokes were looked at again
    assert not session.is_learning
    assert notices == [("warning", "Paint a few strokes of one more class first.")]


def test_an_image_that_is_removed_is_forgotten(session, two_halves):
    first = session.layers.image
    paint_on(session, two_halves[0], two_halves[1], "second")
    assert [row.name for row in session.layers.annotated.rows(None)] == ["halves", "second"]
    session.viewer.layers.remove(first)
    assert [row.name for row in session.layers.annotated.rows(None)] == ["second"]
    assert session.layers.annotated.others(session.layers.image) == ()


def test_the_next_image_opens_with_its_prediction(session, qtbot, two_halves):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    session.layers.set_image(session.viewer.add_image(two_halves[0], name="second"))
    wait_idle(session, qtbot)
    assert session.layers.results.is_complete


def test_another_image_does_not_wait_for_the_step_in_progress(session, qtbot, two_halves):
    began, gate = threading.Event(), threading.Event()

    def job(_stop):
        began.set()
        assert gate.wait(10)
        yield Noticed("of the first image")

    session.submit("Something", job)
    qtbot.waitUntil(began.is_set)
    second = session.viewer.add_image(two_halves[0], name="second")
    session.layers.go_to(second)
    assert session.layers.image is second
    assert session.lane.is_busy()  # the step goes on, and nothing else begins before it ended
    gate.set()
    wait_idle(session, qtbot)
    assert "of the first image" not in session.status.message


def test_images_that_are_looked_at_by_turns_get_no_more_layers(session, qtbot, two_halves):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    first, shown = session.layers.image, session.viewer.layers["halves: probability of class 2"]
    second = session.viewer.add_image(two_halves[0], name="second")
    session.layers.go_to(second)
    wait_idle(session, qtbot)
    before, results = list(session.viewer.layers), session.layers.results
    assert not shown.visible
    for _ in range(3):
        for image in (first, second):
            session.layers.go_to(image)
            wait_idle(session, qtbot)
            assert session.layers.results.source is image
            assert shown.visible == (image is first)
    assert list(session.viewer.layers) == before
    assert session.layers.results is results


def test_results_of_an_image_that_was_replaced_are_not_those_of_the_new_one(
    session, qtbot, two_halves
):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    first, results = session.layers.image, session.layers.results
    session.layers.go_to(session.viewer.add_image(two_halves[0], name="second"))
    session.suspend()
    first.data = two_halves[0][::-1].copy()
    session.layers.go_to(first)
    assert session.layers.results is not results
    assert not session.layers.results.is_complete


def test_the_results_of_an_image_that_was_closed_are_let_go_of(session, qtbot, two_halves):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    first = session.layers.image
    results = weakref.ref(session.layers.results)
    session.layers.go_to(session.viewer.add_image(two_halves[0], name="second"))
    session.suspend()
    session.viewer.layers.remove(first)
    gc.collect()
    assert results() is None


# ---------------------------------------------------------------- answers at once


@pytest.fixture
def quick_session(qapp, model_viewer, two_halves):
    """A session that begins from a starter, whose weights know nothing."""
    torch.manual_seed(0)
    starter = Starter("test", UNet(3, 2, 4, 2, batch_norm=True).eval(), penalty=0.1, scale=10.0)
    config = FinetuneConfig(patch_size=20, precision="fp32")
    segmenter = Segmenter(starter=starter, config=config)
    controller = SegmentationController(model_viewer, segmenter)
    controller.layers.set_image(model_viewer.add_image(two_halves[0], name="halves"))
    controller.layers.add_annotations()
    yield controller
    controller.close()


def paint_halves(session, annotations):
    session.layers.annotations.data = annotations
    session.layers.look_at_strokes()


def test_strokes_are_answered_before_anything_is_learned(quick_session, qtbot, two_halves):
    one_class = np.where(two_halves[1] == 1, 1, 0).astype(np.uint8)
    paint_halves(quick_session, one_class)
    wait_idle(quick_session, qtbot)
    assert quick_session.layers.results.probability is None
    paint_halves(quick_session, two_halves[1])
    wait_idle(quick_session, qtbot)
    assert quick_session.layers.results.is_complete
    bright = quick_session.layers.results.probability[1] > 0.5
    assert bright[:, 45:].mean() > 0.9
    assert bright[:, :35].mean() < 0.1
    assert "at once" in quick_session.status.speaker
    assert not quick_session.segmenter.is_fine_tuned


def test_the_answer_to_strokes_has_a_score_and_no_place_on_the_curve(
    quick_session, qtbot, two_halves
):
    one_each = two_halves[1].copy()
    one_each[20:] = 0
    paint_halves(quick_session, one_each)
    status = quick_session.status
    qtbot.waitUntil(lambda: "two strokes of each class" in status.score_reason, timeout=60_000)
    assert status.score is None
    paint_halves(quick_session, two_halves[1])
    qtbot.waitUntil(lambda: status.score is not None, timeout=60_000)
    assert status.score > 0.9
    assert quick_session.status.score_interval is not None
    assert quick_session.history.scores == []


def test_what_was_answered_can_be_saved(quick_session, qtbot, two_halves, tmp_path):
    paint_halves(quick_session, two_halves[1])
    wait_idle(quick_session, qtbot)
    quick_session.network.save(tmp_path / "model.safetensors")
    wait_idle(quick_session, qtbot)
    again = Segmenter(tmp_path / "model.safetensors")
    again.set_image(two_halves[0])
    shown = quick_session.layers.results.probability
    assert ((again.predict() > 0.5) == (shown > 0.5)).mean() > 0.99


def test_another_image_is_answered_too(quick_session, qtbot, two_halves):
    paint_halves(quick_session, two_halves[1])
    wait_idle(quick_session, qtbot)
    viewer = quick_session.viewer
    quick_session.layers.set_image(viewer.add_image(two_halves[0][:, ::-1], name="second"))
    wait_idle(quick_session, qtbot)
    bright = quick_session.layers.results.probability[1] > 0.5
    assert bright[:, :35].mean() > 0.9


def test_the_network_takes_over_when_it_is_better(quick_session, qtbot, two_halves):
    paint_halves(quick_session, two_halves[1])
    wait_idle(quick_session, qtbot)
    quick_session.learn(seconds=1.0)
    wait_idle(quick_session, qtbot)
    segmenter = quick_session.segmenter
    assert segmenter.is_fine_tuned
    expected = SPEAKERS[segmenter.speaker]
    assert quick_session.status.speaker == expected


# ---------------------------------------------------------------- rounds and what is accepted


def accept_everything(session, monkeypatch):
    """Accept the whole image, as if all of it were on screen."""
    monkeypatch.setattr(
        session.layers, "visible", lambda: tuple(map(slice, (0, 0), session.layers.source.shape))
    )
    session.corrections.accept_view()


def test_a_round_can_be_undone(session, qtbot):
    assert session.why_not(Action.UNDO_LEARNING) is not None
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    assert session.status.step > 0
    session.corrections.undo_learning()
    wait_idle(session, qtbot)
    assert session.status.step == 0
    assert session.history.losses == []
    assert session.why_not(Action.UNDO_LEARNING) is not None


def test_nothing_can_be_accepted_before_it_is_predicted(quick_session):
    assert quick_session.why_not(Action.ACCEPT) is not None


def test_what_is_accepted_is_outlined_and_checked(session, qtbot, monkeypatch):
    session.learn(seconds=1.0)
    wait_idle(session, qtbot)
    accept_everything(session, monkeypatch)
    assert session.viewer.layers["halves: accepted"].data.all()
    assert session.segmenter.accepted[0].labels.shape == (64, 80)
    session.learn(seconds=0.3)
    qtbot.waitUntil(lambda: "accepted pixels changed" in session.status.kept, timeout=20_000)
    wait_idle(session, qtbot)
    session.corrections.withdraw()
    assert session.segmenter.accepted == ()
    assert "halves: accepted" not in names(session)


def test_a_round_that_changes_what_was_accepted_is_taken_back(session, qtbot, monkeypatch, notices):
    session.learn(seconds=1.0)
    wait_idle(session, qtbot)
    accept_everything(session, monkeypatch)
    step = session.status.step
    accepted = session.segmenter.accepted[0]
    wrong = type(accepted)(accepted.image, accepted.box, 3 - accepted.labels)
    session.segmenter.accepted = (wrong,)  # as if the classes had been the other way round
    monkeypatch.setattr("napari_unet.engine.learning_network.as_annotations", lambda accepted: {})
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    assert any("was taken back" in text for _, text in notices)
    assert session.segmenter._network._trainer.step == step
    assert session.viewer.layers["halves: changed"].data.mean() > 0.5


# ---------------------------------------------------------------- borders between objects


def draw_border(session):
    """Draw a line of background across the bright half."""
    session.layers.borders.turn_on(True)
    session.layers.annotations.data[40, 45:75] = 1
    session.layers.look_at_strokes()


def test_a_border_is_adapted_to_at_once(session, qtbot):
    session.learn(seconds=0.5)
    wait_idle(session, qtbot)
    step = session.segmenter._network._trainer.step
    draw_border(session)
    assert session.layers.borders.mask()[40, 45:75].all()
    assert session.layers.borders.mask().sum() == 30
    wait_idle(session, qtbot)
    assert session.segmenter._network._trainer.step == step + 15
    assert session.segmenter.rounds == 2


def test_a_border_that_is_undone_is_none_any_more(session, qtbot):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    draw_border(session)
    wait_idle(session, qtbot)
    session.layers.annotations.data[40, 45:75] = 0
    session.layers.look_at_strokes()
    assert session.layers.borders.mask() is None


def test_strokes_are_ordinary_again_when_the_brush_is(session, qtbot):
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    session.layers.borders.turn_on(True)
    session.layers.borders.turn_on(False)
    session.layers.annotations.data[40, 45:75] = 1
    session.layers.look_at_strokes()
    assert session.layers.borders.mask() is None
    wait_idle(session, qtbot)


def test_a_border_is_answered_at_once_where_that_speaks(quick_session, qtbot, two_halves):
    paint_halves(quick_session, two_halves[1])
    wait_idle(quick_session, qtbot)
    draw_border(quick_session)
    wait_idle(quick_session, qtbot)
    assert not quick_session.segmenter.is_fine_tuned
    assert quick_session.layers.borders.mask() is not None
