"""A network with padded convolutions, which answers for a window and all of it."""

import json

import pytest
import torch

from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.ops.errors import InputError


def network(padded=True, depth=2, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(1, 2, 4, depth, dropout=0.0, padded=padded, **config).eval()


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_answer_is_as_large_as_the_window(depth):
    side = 3 * 2**depth
    with torch.no_grad():
        assert network(depth=depth)(noise(2, 1, side, 2 * side)).shape == (2, 2, side, 2 * side)


def test_only_what_is_near_the_border_differs_from_an_unpadded_network():
    image, halo = noise(1, 1, 48, 64), network(padded=False, depth=1).config.halo
    with torch.no_grad():
        padded = network(depth=1)(image)
        unpadded = network(padded=False, depth=1)(image)
    assert torch.allclose(padded[:, :, halo:-halo, halo:-halo], unpadded, atol=1e-5)


def test_weights_of_one_fit_the_other():
    shapes = [{n: t.shape for n, t in network(p).state_dict().items()} for p in (True, False)]
    assert shapes[0] == shapes[1]


def test_a_side_that_cannot_be_halved_often_enough_names_the_nearest():
    with pytest.raises(InputError, match=r"60 pixels .* use 48 or 64"):
        network(depth=4)(noise(1, 1, 60, 64))


def test_configurations_that_are_not_padded_do_not_say_so():
    padded, plain = network().config, network(padded=False).config
    assert UNetConfig.from_dict(json.loads(json.dumps(padded.to_dict()))) == padded
    assert "padded" not in plain.to_dict(), "earlier versions read the file"
    assert UNetConfig.from_dict(plain.to_dict()) == plain


@pytest.mark.parametrize("config", [{"hypercolumns": True}, {"ndim": 3}])
def test_padding_is_for_windows_of_images_alone(config):
    with pytest.raises(InputError, match="leave padding out"):
        UNetConfig(padded=True, **config)
