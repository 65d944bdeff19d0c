"""Recordings on a graphics card; without one there is nothing to record."""

import pytest
import torch

from napari_unet import UNet
from napari_unet.engine.execution import ExecutionPlan
from napari_unet.engine.recorded import Recorded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return UNet(base_channels=8, depth=2, batch_norm=True).eval()


def test_a_recording_answers_as_the_function_does(network):
    network.cuda()
    recorded = Recorded(network)
    with torch.inference_mode():
        for _ in range(5):  # the first calls are not recorded
            for side in (60, 76, 92, 108):  # more shapes than are recorded
                batch = torch.rand(1, 1, side, side, device="cuda")
                assert torch.allclose(recorded(batch), network(batch), atol=1e-3)
    assert len(recorded._recordings) == 3


def test_an_answer_stays_when_the_next_one_is_there(network):
    network.cuda()
    recorded = Recorded(network)
    with torch.inference_mode():
        batches = [torch.rand(1, 1, 60, 60, device="cuda") for _ in range(2)]
        for _ in range(4):
            first = recorded(batches[0])
        kept = first.clone()
        recorded(batches[1])
        assert torch.equal(first, kept)


def test_the_plan_of_a_card_answers_as_the_processor_does(network):
    batch = torch.rand(2, 1, 92, 92)
    on_cpu = ExecutionPlan(torch.device("cpu")).for_prediction(network)(batch)
    run = ExecutionPlan(torch.device("cuda"), torch.bfloat16, channels_last=True)
    found = run.for_prediction(network)
    for _ in range(4):
        assert (found(batch) - on_cpu).abs().max() < 0.02
