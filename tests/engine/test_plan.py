import pytest
import torch
from networks import make_unet

from napari_unet.engine import plan as module
from napari_unet.engine.device import free_memory, is_out_of_memory, resolve_device
from napari_unet.engine.plan import ExecutionPlan, choose_plan
from napari_unet.ops.errors import InputError


@pytest.fixture
def measured(monkeypatch):
    """Plans are chosen from these made-up times, by (dtype, channels last)."""
    times = {}
    monkeypatch.setattr(
        module, "_prediction_seconds", lambda plan, model: times[plan.dtype, plan.channels_last]
    )
    module._measured_plan.cache_clear()
    yield times
    module._measured_plan.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ((3.0, 2.0, 1.0), (torch.bfloat16, True)),
        ((3.0, 2.0, 1.9), (torch.float32, True)),  # too small a gain to pay for rounding
        ((1.0, 2.0, 4.0), (torch.float32, False)),
    ],
)
def test_the_fastest_plan_is_taken(measured, tiny_unet, seconds, chosen):
    keys = [(torch.float32, False), (torch.float32, True), (torch.bfloat16, True)]
    measured.update(zip(keys, seconds, strict=True))
    plan = choose_plan(tiny_unet.config, "predict", device="cpu")
    assert (plan.dtype, plan.channels_last) == chosen
    assert [second for _, second in plan.seconds] == list(seconds)


def test_fp32_is_exact_whatever_is_faster(measured, tiny_unet):
    measured.update({(torch.float32, False): 2.0, (torch.float32, True): 1.0})
    plan = choose_plan(tiny_unet.config, "predict", "fp32", device="cpu")
    assert plan.dtype == torch.float32


@pytest.mark.parametrize("purpose", ["predict", "train"])
def test_measuring_draws_no_random_numbers(tiny_unet, purpose):
    module._measured_plan.cache_clear()
    before = torch.get_rng_state()
    choose_plan(tiny_unet.config, purpose, device="cpu")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_plan_gives_the_same_probabilities(dtype, channels_last, batch_norm):
    model = make_unet(batch_norm=batch_norm)
    batch = torch.rand(1, 1, 60, 76, generator=torch.Generator().manual_seed(0))
    reference = model(batch).softmax(1)
    plan = ExecutionPlan(torch.device("cpu"), dtype, channels_last)
    probability = plan.for_prediction(model)(batch)
    assert probability.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(probability, reference, atol=tolerance, rtol=0)


def test_a_device_that_is_not_there_is_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(InputError, match="cpu"):
            resolve_device(name)


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
