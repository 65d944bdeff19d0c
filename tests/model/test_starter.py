"""Networks that begin from a starter."""

import pytest
import torch

from napari_unet import UNet
from napari_unet.model.checkpoint import load_model, save_model
from napari_unet.model.folding import fold_batch_norm
from napari_unet.model.head import HIDDEN_UNITS, Head, HiddenUnits, set_head
from napari_unet.model.starter import adapted

# Responses of a grey image at depth 3: four at each of four widths.
FILTERS = 16


@pytest.fixture
def starter():
    torch.manual_seed(0)
    return UNet(3, 2, 4, 3, batch_norm=True).eval()


@pytest.fixture
def network(starter):
    """A network with random numbers in its head."""
    network = adapted(starter, 1, 3)
    set_head(network, head())
    return network


def head():
    """Random numbers."""
    generator = torch.Generator().manual_seed(1)
    looks = 2 * 4 * (4 + 2 + 1)
    linear = torch.randn(looks + FILTERS + 1, 3, generator=generator)
    shapes = (HIDDEN_UNITS, 4 + FILTERS), (HIDDEN_UNITS,), (HIDDEN_UNITS, 3)
    return Head(linear, HiddenUnits(*(torch.randn(s, generator=generator) for s in shapes)))


def image(channels=1, sides=(400, 432)):
    return torch.rand(1, channels, *sides, generator=torch.Generator().manual_seed(2))


def test_it_begins_with_every_class_equally_probable(starter):
    with torch.no_grad():
        assert (adapted(starter, 3, 4)(image(3)) == 0).all()


def test_grey_images_get_what_grey_colour_images_get(starter):
    with torch.no_grad():
        grey = adapted(starter, 1, 2).feature_maps(image())
        colour = adapted(starter, 3, 2).feature_maps(image().expand(-1, 3, -1, -1))
    grey[-1], colour[-1] = grey[-1][:, :4], colour[-1][:, :4]  # there are more filter responses
    for first, second in zip(grey, colour, strict=True):
        torch.testing.assert_close(first, second)


def test_it_answers_what_its_head_says(network):
    with torch.no_grad():
        expected = head().over(network.feature_maps(image()), (36, 68))
        torch.testing.assert_close(network(image()), expected, atol=1e-4, rtol=1e-5)


def test_a_head_without_hidden_units_silences_those_of_the_network(network):
    linear = head().linear
    set_head(network, Head(linear))
    with torch.no_grad():
        expected = Head(linear).over(network.feature_maps(image()), (36, 68))
        torch.testing.assert_close(network(image()), expected, atol=1e-4, rtol=1e-5)


def test_folding_batch_norm_changes_nothing(network):
    with torch.no_grad():
        torch.testing.assert_close(
            fold_batch_norm(network)(image()), network(image()), atol=1e-4, rtol=1e-4
        )


def test_it_can_be_saved(network, tmp_path):
    again = load_model(save_model(network, tmp_path / "model.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(again(image()), network(image()), atol=0, rtol=0)


def test_the_starter_is_not_changed(starter):
    before = {name: value.clone() for name, value in starter.state_dict().items()}
    network = adapted(starter, 1, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    for name, value in starter.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_deep_one_looks_twice_a_flat_one_once(starter):
    assert adapted(starter, 1, 2).config.second_look
    assert not adapted(starter, 1, 2, second_look=False).config.second_look
    assert not adapted(UNet(3, 2, 4, 2).eval(), 1, 2).config.second_look
