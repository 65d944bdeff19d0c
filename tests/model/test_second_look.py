"""Networks that also look at the image scaled down: what surrounds a pixel further out."""

import json

import pytest
import torch
from torch.nn import functional

from napari_unet import UNet
from napari_unet.model.checkpoint import load_model, save_model
from napari_unet.model.config import UNetConfig
from napari_unet.model.folding import fold_batch_norm
from napari_unet.ops.errors import InputError

# Depth 3: a look has a halo of 44 and a stride of 8, so both have 4 * 44 + 6 and 4 * 8.
HALO, STRIDE = 182, 32
SMALLEST = 2 * HALO + 4 + STRIDE


def looking_twice(**settings):
    torch.manual_seed(0)
    network = UNet(1, 2, 4, 3, batch_norm=True, hypercolumns=True, second_look=True, **settings)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return looking_twice(hidden=8)


@pytest.fixture(scope="module")
def image():
    side = SMALLEST + 2 * STRIDE
    return torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def answer(network, image):
    with torch.no_grad():
        return network(image)


def test_its_tiles_are_as_large_as_its_config_says(network, image, answer):
    geometry = network.config.geometry
    assert (geometry.halo, geometry.stride, geometry.surplus) == (HALO, STRIDE, 4)
    assert answer.shape[2:] == (network.config.output_size(image.shape[2]),) * 2


@pytest.mark.parametrize("corner", [(0, 0), (STRIDE, 0), (STRIDE, 2 * STRIDE)])
def test_the_answer_does_not_depend_on_the_tile(network, image, answer, corner):
    top, left = corner
    tile = image[:, :, top : top + SMALLEST, left : left + SMALLEST]
    whole = answer[:, :, top : top + STRIDE, left : left + STRIDE]
    with torch.no_grad():
        found = network(tile)[:, :, :STRIDE, :STRIDE]
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)


def test_it_sees_what_is_beyond_a_single_look(network, image, answer):
    changed = image.clone()
    changed[:, :, :100] += 1  # a single look sees 44 pixels, not 82
    with torch.no_grad():
        assert not torch.allclose(network(changed)[:, :, 0], answer[:, :, 0], atol=1e-3)


def test_what_it_sees_smaller_can_be_given(network, image, answer):
    beyond = HALO - network.config.looks[-1].halo
    with torch.no_grad():
        found = network(
            image[:, :, beyond:-beyond, beyond:-beyond], functional.avg_pool2d(image, 4)
        )
    torch.testing.assert_close(found, answer)


def test_both_looks_have_the_same_weights(network):
    """Of an image that is the same everywhere, both see the same."""
    with torch.no_grad():
        maps = network.feature_maps(torch.full((1, 1, SMALLEST, SMALLEST), 0.5))
    coarsest, middle, both, fine, _ = (part[0, :, 0, 0] for part in maps)
    near, far = both[:16], both[16:]
    torch.testing.assert_close(2 * coarsest, near)
    torch.testing.assert_close(2 * middle, fine)
    assert len(far) == 4


def test_folding_and_saving_change_nothing(network, image, answer, tmp_path):
    again = load_model(save_model(network, tmp_path / "model.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(again(image), answer, atol=0, rtol=0)
        torch.testing.assert_close(fold_batch_norm(again)(image), answer, atol=1e-4, rtol=1e-4)


def test_networks_that_look_once_are_written_as_before():
    config = UNetConfig(hypercolumns=True, hidden=64)
    assert "second_look" not in config.to_dict()
    assert UNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_one_that_looks_twice_is_read_again(network):
    assert UNetConfig.from_dict(json.loads(json.dumps(network.config.to_dict()))) == network.config


@pytest.mark.parametrize(
    "settings",
    [{"hypercolumns": False}, {"hypercolumns": True, "depth": 2}, {"second_look": 1}],
)
def test_what_cannot_look_twice_is_refused(settings):
    with pytest.raises(InputError, match="second"):
        UNetConfig(**{"second_look": True, **settings})
