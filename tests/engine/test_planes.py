import threading

import numpy as np
import pytest

from napari_unet.engine.events import (
    InstancesFound,
    Noticed,
    PlanePredicted,
    PredictionFinished,
    TilePredicted,
)
from napari_unet.engine.image import SourceImage
from napari_unet.engine.planes import (
    PlaneObjects,
    PlanesRequest,
    find_stack_instances,
    predict_planes,
)
from napari_unet.engine.predict import PredictRequest
from napari_unet.engine.results import InstanceSettings

STACK = np.arange(5 * 2 * 3.0).reshape(5, 2, 3)
EVERYWHERE = (slice(0, 2), slice(0, 3))


def predict(request):
    """Two tiles a plane, and a notice that is always the same."""
    value = np.asarray(request.image.data, np.float32)[None]
    yield Noticed("in float32")
    yield TilePredicted((slice(0, 1), slice(0, 3)), value[:, :1], 1, 2)
    yield TilePredicted((slice(1, 2), slice(0, 3)), value[:, 1:], 2, 2)
    yield PredictionFinished(2, 0.0, False)


def planes_request(shown):
    like = PredictRequest(SourceImage(STACK[0]))
    planes = list(np.ndindex(5))
    return PlanesRequest(lambda index: SourceImage(STACK[index]), planes, shown, like)


def test_every_tile_says_its_plane_and_the_count_goes_on():
    events = list(predict_planes(predict, planes_request(lambda: (0,))))
    tiles = [event for event in events if isinstance(event, TilePredicted)]
    assert [tile.done for tile in tiles] == list(range(1, 11))
    assert {tile.total for tile in tiles} == {10}
    assembled = np.zeros_like(STACK)
    for tile in tiles:
        assembled[(*tile.plane, *tile.inner)] = tile.probability[0]
    np.testing.assert_array_equal(assembled, STACK)
    assert sum(isinstance(event, Noticed) for event in events) == 1
    assert isinstance(events[-1], PredictionFinished)
    assert sum(isinstance(event, PredictionFinished) for event in events) == 1
    assert not events[-1].stopped


def test_the_plane_on_screen_comes_first_and_then_its_neighbours():
    shown = [(2,)]
    order = []
    for event in predict_planes(predict, planes_request(lambda: shown[0])):
        if isinstance(event, TilePredicted) and event.plane not in order:
            order.append(event.plane)
            if event.plane == (3,):
                shown[0] = (0,)  # the user looks at another one
    assert order == [(2,), (3,), (0,), (1,), (4,)]


@pytest.mark.parametrize(("exact", "then"), [(True, "fp32"), (False, "fast")])
def test_the_precision_is_checked_on_the_first_plane_alone(exact, then):
    asked = []

    def predict(request):
        asked.append(request.precision)
        yield PredictionFinished(1, 0.0, False, exact)

    list(predict_planes(predict, planes_request(lambda: (0,))))
    assert asked == ["auto", *[then] * 4]


def test_stop_is_looked_at_before_every_plane():
    stop = threading.Event()
    job = predict_planes(predict, planes_request(lambda: (0,)), stop)
    for event in job:
        if isinstance(event, TilePredicted):
            stop.set()
            break
    *_, last = job
    assert last.stopped
    assert last.tiles == 2


def ball_probability():
    """A ball through planes 1 to 3 and a disc on plane 3 alone; background first."""
    inside = np.zeros((5, 9, 16), np.float32)
    inside[1:4, 2:7, 2:7] = 0.9
    inside[3, 2:7, 10:15] = 0.9
    return np.stack([1 - inside, inside])


def test_objects_go_on_through_the_planes():
    settings = InstanceSettings(min_size=4)
    planes = list(np.ndindex(5))
    *_, found = find_stack_instances(ball_probability(), planes, settings)
    assert isinstance(found, InstancesFound)
    assert found.count == 2
    assert (found.instances[1:4, 2:7, 2:7] == 1).all()
    assert (found.instances[3, 2:7, 10:15] == 2).all()
    assert not found.instances[[0, 4]].any()


def test_objects_are_not_joined_across_a_plane_that_was_left_out_or_over_time():
    settings = InstanceSettings(min_size=4)
    *_, found = find_stack_instances(ball_probability(), [(1,), (3,)], settings)
    assert found.count == 3
    over_time = ball_probability()[:, :, None]  # (classes, T, Z = 1, Y, X)
    *_, found = find_stack_instances(over_time, [(t, 0) for t in range(5)], settings)
    assert found.count == 4


@pytest.mark.parametrize("stopped", [True, False])
def test_stopping_keeps_the_objects_of_the_planes_before(stopped):
    stop = threading.Event()
    job = find_stack_instances(
        ball_probability(), list(np.ndindex(5)), InstanceSettings(min_size=4), stop
    )
    next(job), next(job)
    if stopped:
        stop.set()
    *_, found = job
    assert found.instances[1].any()
    assert bool(found.instances[2].any()) is not stopped


def test_without_anything_on_screen_planes_come_in_their_order_and_each_is_told_whole():
    request = planes_request(None)
    told = []
    for event in predict_planes(predict, request):
        if isinstance(event, TilePredicted):
            told.append(event.plane)
        if isinstance(event, PlanePredicted):
            assert told == [event.plane, event.plane]
            told.clear()
    assert told == []


def test_a_plane_that_was_stopped_is_not_told_whole():
    stop = threading.Event()

    def stopped(request):
        yield TilePredicted((slice(0, 1), slice(0, 3)), np.zeros((1, 1, 3), np.float32), 1, 2)
        stop.set()
        yield PredictionFinished(1, 0.0, True)

    events = list(predict_planes(stopped, planes_request(None), stop))
    assert not any(isinstance(event, PlanePredicted) for event in events)
    assert events[-1].stopped


def test_objects_of_a_later_plane_go_on_where_an_earlier_run_ended():
    probability = np.zeros((2, 3, 20, 20), np.float32)
    probability[1, :, 5:12, 5:12] = 1  # through all planes
    probability[1, 2, 15:19, 15:19] = 1
    probability[0] = 1 - probability[1]
    settings = InstanceSettings(min_size=0)
    whole = PlaneObjects(settings)
    found = [whole.cut_out((z,), probability[:, z]) for z in range(3)]
    rest = PlaneObjects(settings)
    rest.go_on_after((1,), found[1], 1)
    np.testing.assert_array_equal(rest.cut_out((2,), probability[:, 2]), found[2])
    assert rest.count == whole.count == 2
    apart = PlaneObjects(settings)  # the plane before is missing: nothing goes on
    apart.go_on_after((0,), found[0], 1)
    assert apart.cut_out((2,), probability[:, 2]).max() == 3
