"""Strokes, answers and objects on the planes of a stack."""

import numpy as np
import pytest
import test_controller
import tifffile

from napari_unet.engine.images.opening import open_image
from napari_unet.engine.results import InstanceSettings
from napari_unet.viewer.actions import Action
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.planes import LazyPlane
from napari_unet.viewer.results import find_objects, save_as_tiff
from napari_unet.viewer.weight_preview import WeightSettings


@pytest.fixture
def stack(two_halves):
    """Four planes, the bright half on the right, on the last plane on the left."""
    image = two_halves[0]
    return np.stack([image, image, image, image[:, ::-1]]).astype(np.float32)


@pytest.fixture
def session(qapp, model_viewer, segmenter, stack):
    controller = SegmentationController(model_viewer, segmenter)
    controller.layers.set_image(model_viewer.add_image(stack, name="stack", scale=(3, 0.5, 0.5)))
    model_viewer.dims.set_current_step(0, 0)
    controller.suspend()  # a loaded network predicts an image that is opened; not here
    controller.layers.add_annotations()
    yield controller
    controller.close()


def wait_idle(session, qtbot, timeout=20_000):
    qtbot.wait(250)  # a plane is looked at when the slider rests
    test_controller.wait_idle(session, qtbot, timeout)


def show(session, plane):
    session.viewer.dims.set_current_step(0, plane)


def paint(session, strokes):
    """Paint as the brush does, on the plane that is shown."""
    layer = session.layers.annotations
    plane = session.layers.plane
    rows, columns = np.nonzero(strokes)
    index = (*(np.full(len(rows), p) for p in plane), rows, columns)
    layer.data_setitem(index, strokes[rows, columns])
    session.layers.look_at_strokes()


def test_annotations_have_the_shape_and_the_place_of_the_stack(session, stack):
    layer = session.layers.annotations
    assert layer.data.shape == stack.shape
    np.testing.assert_array_equal(layer.scale, (3, 0.5, 0.5))
    assert "plane 1 of 4" in session.layers.describe()
    show(session, 2)
    assert session.layers.plane == (2,)
    assert "plane 3 of 4" in session.layers.describe()


def test_strokes_on_several_planes_train_one_model(session, qtbot, two_halves, monkeypatch):
    requests = []
    job = session.segmenter.fine_tune_job
    monkeypatch.setattr(
        session.segmenter, "fine_tune_job", lambda r, *rest: requests.append(r) or job(r, *rest)
    )
    paint(session, two_halves[1])
    show(session, 3)
    mirrored = two_halves[1][:, ::-1].copy()
    paint(session, mirrored)
    rows = session.layers.annotated.rows(session.layers.image, session.layers.plane)
    assert [row.name for row in rows] == ["stack, plane 1 of 4", "stack, plane 4 of 4"]
    assert [row.is_current for row in rows] == [False, True]
    assert rows[0].strokes == {1: 3, 2: 3}
    session.learn(seconds=0.2)
    wait_idle(session, qtbot)
    np.testing.assert_array_equal(requests[0].annotations, mirrored)
    [other] = requests[0].others
    np.testing.assert_array_equal(other.annotations, two_halves[1])


def test_the_next_plane_opens_with_its_prediction(session, qtbot, two_halves):
    paint(session, two_halves[1])
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    assert session.layers.results.is_complete
    show(session, 1)
    assert not session.layers.results.is_complete
    wait_idle(session, qtbot)
    assert session.layers.results.is_complete
    assert session.layers.results.everything.planes(complete=True) == [(0,), (1,)]
    shown = session.viewer.layers["stack: probability of class 2"]
    np.testing.assert_array_equal(shown.scale, (3, 0.5, 0.5))


def test_strokes_are_not_lost_when_the_plane_is_left_at_once(session, two_halves):
    layer = session.layers.annotations
    rows, columns = np.nonzero(two_halves[1])
    layer.data_setitem((np.zeros_like(rows), rows, columns), two_halves[1][rows, columns])
    show(session, 2)  # before the strokes were taken in
    [other] = session.layers.others()
    np.testing.assert_array_equal(other.annotations, two_halves[1])
    assert session.layers.painted == set()
    assert session.layers.painted_elsewhere() == {1, 2}


def test_undo_on_another_plane_is_noticed(session, two_halves):
    paint(session, two_halves[1])
    show(session, 2)
    session.layers.annotations.undo()
    session.layers.look_at_strokes()
    assert session.layers.others() == ()
    session.layers.annotations.redo()
    session.layers.look_at_strokes()
    assert len(session.layers.others()) == 1


def test_moving_through_the_stack_does_not_end_the_learning(session, qtbot, two_halves):
    paint(session, two_halves[1])
    session.learn()
    qtbot.waitUntil(lambda: len(session.history.losses) > 0, timeout=10_000)
    show(session, 3)
    paint(session, two_halves[1][:, ::-1].copy())
    held_out = session.segmenter._network._trainer.held_out
    # How many steps that takes, depends on when the strokes are taken in.
    qtbot.waitUntil(lambda: len(held_out) == 2, timeout=10_000)
    count = len(session.history.losses)
    qtbot.waitUntil(lambda: len(session.history.losses) > count + 2, timeout=10_000)
    assert session.is_learning
    assert {session.layers.planes.index_of(image) for image in held_out} == {(0,), (3,)}
    session.stop()
    wait_idle(session, qtbot)
    assert session.layers.results.predicted.all()


def test_all_planes_are_predicted_and_objects_run_through_them(
    session, qtbot, two_halves, tmp_path
):
    paint(session, two_halves[1])
    session.learn(seconds=0.5)
    wait_idle(session, qtbot)
    show(session, 2)
    session.predict(all_planes=True)
    wait_idle(session, qtbot)
    everything = session.layers.results.everything
    assert everything.planes(complete=True) == [(0,), (1,), (2,), (3,)]
    find_objects(session, InstanceSettings(min_size=50))
    wait_idle(session, qtbot)
    objects = session.viewer.layers["stack: instances"].data
    assert objects.shape == (4, 64, 80)
    right = objects[:, 32, 70]
    assert right[0] > 0
    assert right[0] == right[1] == right[2]
    save_as_tiff(session, tmp_path)
    wait_idle(session, qtbot)
    with open_image(tmp_path / "stack_instances.tif") as saved:
        assert saved.info.names == "zyx"
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "stack_instances.tif"), objects)
    maps = tifffile.imread(tmp_path / "stack_probabilities.tif")
    np.testing.assert_array_equal(np.moveaxis(maps, 1, 0), everything.probability)


def test_what_is_accepted_is_accepted_on_its_plane(session, qtbot, two_halves, monkeypatch):
    paint(session, two_halves[1])
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    everywhere = (slice(0, 64), slice(0, 80))
    monkeypatch.setattr(session.layers, "visible", lambda: everywhere)
    session.corrections.accept_view()
    marks = session.viewer.layers["stack: accepted"]
    assert marks.data[0].all()
    assert not marks.data[1:].any()
    show(session, 1)
    assert "Nothing of this image is accepted" in session.why_not(Action.WITHDRAW)
    show(session, 0)
    session.corrections.withdraw()
    assert "stack: accepted" not in session.viewer.layers


def test_the_table_goes_to_an_image_and_its_plane(session, two_halves):
    paint(session, two_halves[1])
    show(session, 2)
    second = session.viewer.add_image(two_halves[0], name="flat")
    session.layers.set_image(second)
    [row] = session.layers.annotated.rows(second)
    session.layers.go_to(row.image, row.plane)
    assert session.layers.image is row.image
    assert session.layers.plane == (0,)
    assert session.viewer.dims.current_step[0] == 0


def test_a_border_between_objects_belongs_to_its_plane(session, two_halves):
    paint(session, two_halves[1])
    show(session, 1)
    paint(session, two_halves[1])
    session.layers.borders.turn_on(True)
    line = np.zeros((64, 80), np.uint8)
    line[:, 40] = 1
    paint(session, line)
    assert session.layers.borders.mask()[:, 40].all()
    show(session, 0)
    assert session.layers.borders.mask() is None


def test_a_weight_map_is_shown_on_the_plane_of_its_labels(session, qtbot, two_halves):
    labels = np.zeros((4, 64, 80), np.int32)
    labels[2, 10:30, 10:30] = 1
    layer = session.viewer.add_labels(labels, name="cells", scale=(3, 0.5, 0.5))
    layer.corner_pixels = np.array([[0, 0, 0], [3, 63, 79]])
    show(session, 2)
    session.weights.show(layer, WeightSettings())
    qtbot.waitUntil(lambda: "cells: weight map" in session.viewer.layers, timeout=10_000)
    qtbot.waitUntil(lambda: session.viewer.layers["cells: weight map"].data[2].any())
    assert not session.viewer.layers["cells: weight map"].data[[0, 1, 3]].any()


def test_where_to_paint_next_is_asked_anew_on_another_plane(session, qtbot, two_halves):
    paint(session, two_halves[1])
    session.learn(seconds=0.3)
    wait_idle(session, qtbot)
    session.guidance.next()
    qtbot.waitUntil(lambda: session.guidance.suggested is not None, timeout=10_000)
    session.guidance.visit(0)
    rows, columns = session.guidance.suggested.regions[0].box
    middle = ((rows.start + rows.stop) / 4 - 0.25, (columns.start + columns.stop) / 4 - 0.25)
    np.testing.assert_allclose(session.viewer.scene.camera.center[-2:], middle, atol=0.3)
    show(session, 1)
    assert session.guidance.suggested is None


def test_a_lazy_array_is_not_read_on_the_main_thread(session, stack):
    class Slow:
        shape, dtype, ndim = stack.shape, stack.dtype, 3

        def __getitem__(self, index):
            raise AssertionError("read")

    plane = LazyPlane(Slow(), (1,), 2)
    assert plane.shape == (64, 80)
    with pytest.raises(AssertionError, match="read"):
        np.asarray(plane)
