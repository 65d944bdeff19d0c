"""What the click network sees of a window, and files that hold one."""

import numpy as np
import pytest
import torch

from napari_unet.model.checkpoint import save_model
from napari_unet.model.click import CHANNELS, load_click_network, window_input
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click, Window, click_discs
from napari_unet.ops.errors import InputError

SIDE = 24


def seen(image, discs=None, earlier=None, hint=None):
    side = image.shape[-1]
    return window_input(
        image,
        torch.zeros(2, side, side) if discs is None else discs,
        torch.zeros(side, side) if earlier is None else earlier,
        torch.full((side, side), 0.5) if hint is None else hint,
    )


@pytest.fixture
def image():
    return torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def tiny_network(channels=CHANNELS, classes=2, padded=True):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(channels, classes, 4, 4, batch_norm=True, dropout=0.0, padded=padded).eval()


def test_channels_come_in_the_order_that_was_trained_with(image):
    discs = torch.from_numpy(
        click_discs([Click(3, 4), Click(20, 9, False)], Window(11.5, 11.5, 1, SIDE))
    )
    earlier, hint = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    found = seen(image, discs, earlier, hint)
    assert found.shape == (CHANNELS, SIDE, SIDE)
    assert found[3, 3, 4] == 1
    assert found[4, 20, 9] == 1
    assert torch.equal(found[3:5], discs)
    assert torch.equal(found[5], earlier)
    assert torch.allclose(found[6], 2 * hint - 1)


def test_grey_is_seen_as_rgb_of_one_value(image):
    grey, colour = seen(image), seen(image.expand(3, -1, -1))
    assert torch.equal(grey[0], grey[2])
    assert torch.allclose(grey, colour, atol=1e-3)  # std of three times as many values


def test_colours_keep_their_ratio(image):
    colour = torch.cat([image, image * 0.5, image * 0])
    found = seen(colour)
    assert not torch.allclose(found[0], found[1])
    assert abs(float(found[:3].mean())) < 1e-5
    assert float(found[:3].std()) == pytest.approx(1, abs=1e-4)


def test_a_flat_window_is_not_blown_up_to_noise():
    flat = seen(torch.full((1, SIDE, SIDE), 0.3))
    assert torch.isfinite(flat).all()
    assert float(flat[:3].abs().max()) < 1e-3
    noise = torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert float(seen(0.3 + 0.001 * noise)[:3].std()) < 0.1


def test_one_hot_pixel_does_not_shine_through_everything(image):
    image[0, 5, 5] = 1e6
    assert float(seen(image)[:3].abs().max()) <= 4


# ---------------------------------------------------------------------- files


def test_a_network_that_was_saved_answers_as_before(tmp_path):
    network = tiny_network()
    read = load_click_network(save_model(network, tmp_path / "mine.safetensors"))
    batch = torch.rand(1, CHANNELS, 32, 48)
    with torch.no_grad():
        assert torch.equal(read(batch), network(batch))
    assert not read.training


def test_an_adapted_network_of_an_earlier_version_sees_the_window_alone(tmp_path):
    earlier = tiny_network(padded=False)
    read = load_click_network(save_model(earlier, tmp_path / "earlier.safetensors"))
    assert read.config.padded
    assert read.config.halo == 0
    assert not read.training
    weights = read.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in earlier.state_dict().items())


@pytest.mark.parametrize(("channels", "classes"), [(3, 2), (CHANNELS, 3), (1, 4)])
def test_another_network_is_refused_by_name(tmp_path, channels, classes):
    path = save_model(tiny_network(channels, classes), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors .* training/click_network\.py"):
        load_click_network(path)


def test_a_file_that_is_missing_or_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        load_click_network(tmp_path / "nowhere.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match="junk"):
        load_click_network(str(tmp_path / "junk.safetensors"))


def test_the_bundled_network_is_read_once():
    assert load_click_network() is load_click_network()


def share_of_discs(clicked):
    """Return how much of each of two equal discs the bundled network takes for the object."""
    network = load_click_network()
    side = 128
    middles = (50.5, 76.5)
    rows, columns = np.indices((side, side))
    discs = [(rows - 63.5) ** 2 + (columns - middle) ** 2 <= 100 for middle in middles]
    noise = np.random.default_rng(0).normal(0, 0.1, discs[0].shape)
    image = torch.from_numpy((discs[0] + discs[1] + noise).astype(np.float32))[None]
    window = Window(63.5, 63.5, 1, side)
    prompt = torch.from_numpy(click_discs([Click(63.5, middles[clicked])], window))
    with torch.no_grad():
        answer = network(seen(image, prompt)[None]).softmax(dim=1)[0, 1].numpy()
    return [float((answer > 0.5)[disc].mean()) for disc in discs]


@pytest.mark.parametrize("clicked", [0, 1])
def test_the_bundled_network_heeds_which_of_two_discs_was_clicked(clicked):
    shares = share_of_discs(clicked)
    assert shares[clicked] > 0.9
    assert shares[clicked] - shares[1 - clicked] > 0.3
