import copy

import pytest
import torch

from napari_unet.model import fused as module
from napari_unet.model.folding import fold_batch_norm
from napari_unet.model.fused import MaxOfSlices, PixelLayers, can_fuse, fuse
from napari_unet.model.unet import UNet

LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_network(dtype=torch.float32, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(**{"base_channels": 8, "depth": 2, **config}).eval()
    return network.to(dtype).to(memory_format=LAYOUT[network.config.ndim]).requires_grad_(False)


def make_input(network, inner=(16, 16, 24), dtype=torch.float32):
    config = network.config
    sides = [g.input_size(n) for g, n in zip(config.geometries, inner, strict=False)]
    x = torch.rand(1, config.in_channels, *sides, generator=torch.Generator().manual_seed(0))
    return x.to(dtype).contiguous(memory_format=LAYOUT[config.ndim])


def answer(network, x):
    with torch.inference_mode():
        return network(x).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"in_channels": 3, "classes": 4},
        {"hypercolumns": True, "hidden": 4},
        {"padded": True},
        {"ndim": 3},
        {"ndim": 3, "pooling": ((1, 2, 2), (2, 2, 2))},
    ],
)
def test_the_fused_network_gives_the_same_answer(config, dtype):
    network = make_network(dtype, **config)
    if not can_fuse(dtype, network.config.ndim):
        pytest.skip("this processor or torch has no fused convolution")
    x = make_input(network, dtype=dtype)
    expected = answer(network, x)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    scale = float(expected.abs().max())
    found = answer(fuse(copy.deepcopy(network)), x)
    torch.testing.assert_close(found, expected, atol=tolerance * scale, rtol=0)


def test_batch_norm_folded_and_fused_gives_the_same_answer():
    network = make_network(batch_norm=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    if not can_fuse(torch.float32):
        pytest.skip("this processor or torch has no fused convolution")
    x = make_input(network)
    fused = fuse(fold_batch_norm(network).to(memory_format=torch.channels_last))
    torch.testing.assert_close(answer(fused, x), answer(network, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [{}, {"hypercolumns": True, "hidden": 4}, {"ndim": 3}])
def test_the_same_bits_on_any_number_of_threads(config):
    network = make_network(**config)
    if not can_fuse(torch.float32, network.config.ndim):
        pytest.skip("this processor or torch has no fused convolution")
    x = make_input(network, (64, 64) if network.config.ndim == 2 else (16, 16, 24))
    fused = fuse(network)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(answer(fused, x))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_weights_packed_for_one_shape_serve_another():
    if not can_fuse(torch.float32):
        pytest.skip("this processor or torch has no fused convolution")
    network = make_network()
    fused = fuse(copy.deepcopy(network))
    for inner in ((16, 16), (32, 16), (16, 16), (8, 64)):
        x = make_input(network, inner)
        torch.testing.assert_close(answer(fused, x), answer(network, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_maximum_of_slices_is_max_pooling(dtype):
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0, 0, 0], x[0, 1, 2, 2] = torch.inf, -torch.inf
    assert torch.equal(MaxOfSlices((2, 2))(x), torch.nn.functional.max_pool2d(x, 2))
    y = torch.randn(1, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    pooled = torch.nn.functional.max_pool3d(y, (1, 2, 2))
    assert torch.equal(MaxOfSlices((1, 2, 2))(y), pooled)


def failing(self, x):
    raise RuntimeError("unsupported")


def wrong(self, x):
    return torch.relu(self.convolution(x)) + 0.1


@pytest.mark.parametrize("forward", [failing, wrong])
def test_an_operator_that_fails_or_answers_otherwise_is_not_used(monkeypatch, forward):
    monkeypatch.setattr(module.FusedConvolution, "forward", forward)
    can_fuse.cache_clear()
    try:
        assert not can_fuse(torch.float32)
    finally:
        can_fuse.cache_clear()


def test_a_precision_that_the_processor_lacks_is_not_fused():
    assert not can_fuse(torch.float16)


def test_trying_out_draws_no_random_numbers():
    can_fuse.cache_clear()
    before = torch.get_rng_state()
    can_fuse(torch.float32)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("strip", [1, 40, 10**6])
def test_the_last_layers_give_the_same_strip_by_strip(monkeypatch, ndim, strip):
    config = {"hypercolumns": True, "hidden": 4} if ndim == 2 else {"ndim": 3}
    network = make_network(**config)
    sides = (7, 5, 6)[:ndim]
    last = torch.rand(1, network.output.in_channels, *sides).bfloat16()
    with torch.inference_mode():
        expected = network.output(last.float())
        if ndim == 2:
            expected = expected + network.hidden(last.float())
        monkeypatch.setattr(module, "_PIXELS_OF_A_STRIP", strip)
        found = PixelLayers(network.output, network.hidden)(last)
    torch.testing.assert_close(found, expected)
