import json

import pytest
import torch
from networks import make_unet

from napari_unet.engine import device as device_module
from napari_unet.engine import plan as module
from napari_unet.engine import plan_cache
from napari_unet.engine.device import (
    free_memory,
    is_out_of_memory,
    limit_threads,
    resolve_device,
    threads_at_most,
    threads_beside_drawing,
)
from napari_unet.engine.plan import ExecutionPlan, choose_plan, forget_plans
from napari_unet.model.fused import can_fuse
from napari_unet.ops.errors import InputError

PLANS = [
    (torch.float32, False, False),
    (torch.float32, True, False),
    (torch.bfloat16, True, False),
    (torch.float32, True, True),
    (torch.bfloat16, True, True),
]


class Measured:
    """Plans are chosen from made-up times, by (dtype, channels last, fused)."""

    def __init__(self):
        self.times = dict.fromkeys(PLANS, 1.0)
        self.count = 0

    def seconds(self, plan, model):
        self.count += 1
        return self.times[plan.dtype, plan.channels_last, plan.fused]


def new_process():
    """Forget what a process remembers, and leave what is on the disk."""
    module._measured_plan.cache_clear()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(plan_cache.VARIABLE, str(tmp_path))
    new_process()
    yield tmp_path / "plans"
    new_process()


@pytest.fixture
def measured(monkeypatch):
    found = Measured()
    monkeypatch.setattr(module, "prediction_seconds", found.seconds)
    # As on a processor that has the fused convolution, whatever this one has.
    monkeypatch.setattr(module, "can_fuse", lambda dtype, ndim=2: True)
    return found


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ((3.0, 2.0, 1.0, 2.0, 0.9), PLANS[4]),
        ((3.0, 2.0, 0.9, 2.0, 1.0), PLANS[2]),
        ((3.0, 2.0, 1.9, 2.1, 1.9), PLANS[1]),  # too small a gain to pay for rounding
        ((3.0, 2.0, 1.9, 1.8, 1.7), PLANS[3]),
        ((1.0, 2.0, 4.0, 2.0, 4.0), PLANS[0]),
    ],
)
def test_the_fastest_plan_is_taken(measured, tiny_unet, seconds, chosen):
    measured.times = dict(zip(PLANS, seconds, strict=True))
    plan = choose_plan(tiny_unet.config, "predict", device="cpu")
    assert (plan.dtype, plan.channels_last, plan.fused) == chosen
    assert [second for _, second in plan.seconds] == list(seconds)


def test_fp32_is_the_same_whatever_was_measured(measured, tiny_unet):
    measured.times[PLANS[0]] = 0.1
    plans = {choose_plan(tiny_unet.config, "predict", "fp32", device="cpu")}
    new_process()
    measured.times[PLANS[1]] = 0.01
    plans.add(choose_plan(tiny_unet.config, "predict", "fp32", device="cpu"))
    (plan,) = plans
    assert plan.dtype == torch.float32
    assert plan.exact
    assert measured.count == 0


def test_a_machine_measures_a_network_once(measured, tiny_unet):
    first = choose_plan(tiny_unet.config, "predict", device="cpu")
    new_process()
    assert choose_plan(tiny_unet.config, "predict", device="cpu") == first
    # Neither the number of classes nor dropout changes how long it takes.
    choose_plan(make_unet(classes=3, dropout=0.1).config, "predict", device="cpu")
    assert measured.count == len(PLANS)
    choose_plan(make_unet(depth=1).config, "predict", device="cpu")
    assert measured.count == 2 * len(PLANS)


def test_forgotten_plans_are_measured_again(measured, tiny_unet):
    choose_plan(tiny_unet.config, "predict", device="cpu")
    assert forget_plans() == 1
    choose_plan(tiny_unet.config, "predict", device="cpu")
    assert measured.count == 2 * len(PLANS)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("key", "torch", "1.0"),
        ("key", "processor", "another"),
        ("key", "threads", 1000),
        ("value", "plan", "int4, sideways, cpu"),
        ("value", "plan", None),
        ("value", "seconds", {"fp32, channels first, cpu": 1.0}),
        ("value", "seconds", []),
    ],
)
def test_a_plan_that_does_not_fit_is_measured_again(measured, tiny_unet, folder, part, name, value):
    honest = choose_plan(tiny_unet.config, "predict", device="cpu")
    (path,) = folder.iterdir()
    content = json.loads(path.read_text())
    content[part][name] = value
    path.write_text(json.dumps(content))
    new_process()
    assert choose_plan(tiny_unet.config, "predict", device="cpu") == honest
    assert measured.count == 2 * len(PLANS)


@pytest.mark.parametrize("second", ['"soon"', "NaN", "Infinity", "-1.0", "true"])
def test_times_that_are_none_are_measured_again(measured, tiny_unet, folder, second):
    choose_plan(tiny_unet.config, "predict", device="cpu")
    (path,) = folder.iterdir()
    path.write_text(path.read_text().replace(": 1.0", f": {second}", 1))
    new_process()
    choose_plan(tiny_unet.config, "predict", device="cpu")
    assert measured.count == 2 * len(PLANS)


def test_without_a_cache_it_is_measured_once_a_process(measured, tiny_unet, monkeypatch):
    monkeypatch.setenv(plan_cache.VARIABLE, "off")
    for _ in range(2):
        choose_plan(tiny_unet.config, "predict", device="cpu")
    assert measured.count == len(PLANS)


def test_where_the_fused_convolution_is_missing_nothing_is_fused(monkeypatch, tiny_unet):
    monkeypatch.setattr(module, "can_fuse", lambda dtype, ndim=2: False)
    plans = [choose_plan(tiny_unet.config, "predict", precision) for precision in ("auto", "fp32")]
    assert not any(plan.fused for plan in plans)
    assert len(plans[0].seconds) == 3


@pytest.mark.parametrize("purpose", ["predict", "train"])
def test_measuring_draws_no_random_numbers(tiny_unet, purpose):
    before = torch.get_rng_state()
    choose_plan(tiny_unet.config, purpose, device="cpu")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels_last", "fused"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_plan_gives_the_same_probabilities(dtype, channels_last, fused, batch_norm):
    model = make_unet(batch_norm=batch_norm)
    batch = torch.rand(1, 1, 60, 76, generator=torch.Generator().manual_seed(0))
    reference = model(batch).softmax(1)
    if fused and not can_fuse(dtype):
        pytest.skip("this processor or torch has no fused convolution")
    plan = ExecutionPlan(torch.device("cpu"), dtype, channels_last, fused=fused)
    probability = plan.for_prediction(model)(batch)
    assert probability.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(probability, reference, atol=tolerance, rtol=0)


def test_fp32_gives_the_same_bits_on_any_number_of_threads():
    if not can_fuse(torch.float32):
        pytest.skip("this processor or torch has no fused convolution")
    model = make_unet(base_channels=8)
    run = choose_plan(model.config, "predict", "fp32", "cpu").for_prediction(model)
    side = model.config.geometry.input_size(256)  # enough pixels for torch to share them out
    batch = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(run(batch))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_device_that_is_not_there_is_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(InputError, match="cpu"):
            resolve_device(name)


@pytest.mark.parametrize(
    ("cores", "window", "threads"),
    [(8, False, 4), (4, True, 3), (3, True, 2), (2, True, 2), (1, True, 1), (2, False, 2)],
)
def test_threads_are_no_more_than_cores_and_a_window_gets_one(monkeypatch, cores, window, threads):
    monkeypatch.setattr(device_module, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)  # the fixture puts it back
    assert limit_threads(window=window) == threads
    assert torch.get_num_threads() == threads


def test_threads_that_the_user_chose_stay(monkeypatch):
    monkeypatch.setattr(device_module, "usable_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    assert limit_threads(window=True) == 3


@pytest.mark.parametrize(("cores", "threads"), [(8, 4), (3, 2), (2, 1), (1, 1)])
def test_what_is_drawn_meanwhile_gets_a_core(monkeypatch, cores, threads):
    monkeypatch.setattr(device_module, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    assert threads_beside_drawing() == threads
    assert torch.get_num_threads() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_beside_drawing() == 4


@pytest.mark.parametrize(("most", "threads"), [(None, 3), (1, 1), (2, 2), (5, 3)])
def test_threads_are_fewer_for_a_while(most, threads):
    torch.set_num_threads(3)

    def fail():
        with threads_at_most(most):
            assert torch.get_num_threads() == threads
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == 3


def test_some_memory_is_free():
    assert free_memory(torch.device("cpu")) > 2**20


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_torch_itself_words_it_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
