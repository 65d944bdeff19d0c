import pytest
import torch
from networks import make_unet

from napari_unet.engine import patch_plan as module
from napari_unet.engine import plan_cache
from napari_unet.engine.execution import ExecutionPlan
from napari_unet.engine.patch_plan import LONGEST_STEP, choose_patches, usual_patches

PLAN = ExecutionPlan(torch.device("cpu"))


@pytest.fixture(autouse=True)
def steps(tmp_path, monkeypatch):
    """Steps take made-up seconds, one after the other; what was timed is counted."""
    monkeypatch.setenv(plan_cache.VARIABLE, str(tmp_path))
    module.forget_patches()
    seconds = []
    timed = []

    def measured(_plan, _model, shape, repeats):
        timed.append(shape)
        return seconds[len(timed) - 1]

    monkeypatch.setattr(module, "training_seconds", measured)
    yield seconds, timed
    module.forget_patches()


@pytest.mark.parametrize(
    ("seconds", "side"),
    [
        ((0.1, 0.15, 0.3), 96),
        ((0.1, 0.15, LONGEST_STEP * 2), 64),  # a longer step than Stop may wait for
        ((0.1, 0.3, 0.39), 96),  # the middle one is worse than both, the largest best
        ((0.02, 0.1, 0.3), 48),  # fewer useful pixels a second in larger ones
        ((LONGEST_STEP * 2,), 48),  # nothing is quick enough: the smallest, and no further try
    ],
)
def test_the_most_useful_pixels_of_a_step_that_is_short_enough(steps, seconds, side):
    times, timed = steps
    times += seconds
    chosen = choose_patches(make_unet().config, PLAN, settled=True)
    assert (chosen.side, chosen.batch) == (side, 2)
    assert [took for _, took in chosen.seconds] == list(seconds)
    assert len(timed) == len(seconds)


def test_a_machine_measures_once_for_a_shape(steps):
    times, timed = steps
    times += [0.1, 0.15, 0.3] * 2
    first = choose_patches(make_unet().config, PLAN, settled=True)
    module.forget_patches()  # as in another process
    assert choose_patches(make_unet(dropout=0.1).config, PLAN, settled=True) == first
    assert len(timed) == 3
    choose_patches(make_unet(depth=1).config, PLAN, settled=True)
    assert len(timed) == 6


def test_what_is_named_or_exact_is_not_measured(steps):
    _, timed = steps
    config = make_unet().config
    assert choose_patches(config, PLAN, side=20).side == 20
    assert choose_patches(config, PLAN, side=20, batch=1).batch == 1
    exact = ExecutionPlan(torch.device("cpu"), exact=True)
    assert choose_patches(config, exact, settled=True) == usual_patches(2)
    assert not timed


def test_every_class_is_in_a_step_and_a_new_network_sees_more_patches(steps):
    times, _ = steps
    times += [0.1, 0.11, 0.12] * 3
    batches = [
        choose_patches(make_unet(classes=classes).config, PLAN, settled=settled).batch
        for classes, settled in ((2, True), (3, True), (2, False))
    ]
    assert batches == [2, 3, 4]


def test_planes_that_lie_far_apart_are_fewer(steps):
    config = make_unet(ndim=3, pooling=((1, 2, 2), (2, 2, 2)), depth=2).config
    sides = module.input_sides(config, 24)
    answered = [config.output_size(side, axis) for axis, side in enumerate(sides)]
    inner = [each - g.surplus for each, g in zip(answered, config.geometries, strict=True)]
    assert inner == [12, 24, 24]
