"""The fixed filters, held against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_unet.model.filters import filter_responses, response_count, widths

HALO = 44


@pytest.fixture
def image():
    return torch.rand(1, 1, 120, 131, generator=torch.Generator().manual_seed(0))


def test_no_filter_reaches_beyond_the_halo():
    assert widths(92) == (1, 2, 4, 8, 16)
    assert widths(44) == (1, 2, 4, 8)
    assert widths(4) == ()


def test_their_number_is_known(image):
    assert filter_responses(image, HALO).shape == (1, response_count(1, HALO), 32, 43)
    colour = image.expand(-1, 3, -1, -1)
    assert filter_responses(colour, HALO).shape == (1, response_count(3, HALO), 32, 43)
    assert filter_responses(image, 2).shape == (1, 0, 116, 127)


@pytest.mark.parametrize("number", range(4))
def test_they_are_derivatives_of_the_smoothed_image(image, number):
    width = widths(HALO)[number]
    smooth = ndimage.gaussian_filter(image[0, 0].numpy(), width, truncate=3)
    y, x = np.gradient(smooth)
    yy, xx, xy = np.gradient(y, axis=0), np.gradient(x, axis=1), np.gradient(x, axis=0)
    root = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    expected = [smooth, width * np.hypot(y, x)]
    expected += [width**2 * ((yy + xx) / 2 + sign * root) for sign in (1, -1)]
    found = filter_responses(image, HALO)[0, 4 * number : 4 * number + 4].numpy()
    for response, known in zip(found, expected, strict=True):
        np.testing.assert_allclose(response, known[HALO:-HALO, HALO:-HALO], atol=1e-4)


def test_channels_do_not_mix():
    one = torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(1))
    two = torch.cat([one, torch.zeros_like(one)], dim=1)
    responses = filter_responses(two, HALO)[0]
    torch.testing.assert_close(responses[:16], filter_responses(one, HALO)[0])
    assert (responses[16:] == 0).all()


def test_a_pixel_depends_on_those_within_the_halo_alone(image):
    changed = image.clone()
    changed[..., 0, :] += 1
    before, after = (filter_responses(x, HALO) for x in (image, changed))
    assert torch.equal(before[..., 1:, :], after[..., 1:, :])
