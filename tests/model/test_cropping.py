"""The middle of a map, and its gradient, against torch's own."""

import pytest
import torch

from napari_unet.model.cropping import crop
from napari_unet.model.unet import UNet

LAYOUTS = [
    ((2, 3, 9, 8), (2, 5, 5, 2), torch.contiguous_format),
    ((2, 3, 9, 8), (2, 5, 5, 2), torch.channels_last),
    ((1, 4, 6, 9, 8), (1, 2, 2, 5, 8), torch.channels_last_3d),
]


def features(shape, layout, dtype=torch.float32):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return values.to(dtype).contiguous(memory_format=layout).requires_grad_()


def middle(whole, shape):
    spans = [
        slice((before - after) // 2, (before + after) // 2)
        for before, after in zip(whole.shape[2:], shape[2:], strict=True)
    ]
    return whole[(slice(None), slice(None), *spans)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "smaller", "layout"), LAYOUTS)
def test_middle_and_gradient_are_those_of_a_slice(shape, smaller, layout, dtype):
    found, expected = features(shape, layout, dtype), features(shape, layout, dtype)
    cropped, sliced = crop(found, torch.empty(smaller)), middle(expected, smaller)
    torch.testing.assert_close(cropped, sliced, rtol=0, atol=0)
    (cropped**2).sum().backward()
    (sliced**2).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=0)


@pytest.mark.parametrize(("shape", "smaller", "layout"), LAYOUTS)
def test_the_gradient_lies_in_memory_as_the_map_does(shape, smaller, layout):
    found = []
    whole = features(shape, layout) * 1
    whole.register_hook(lambda gradient: found.append(gradient.stride()))
    crop(whole, torch.empty(smaller)).sum().backward()
    assert found == [whole.stride()]


def test_without_gradients_it_is_a_view():
    whole = features(*LAYOUTS[0][::2])
    with torch.inference_mode():
        cropped = crop(whole, torch.empty(LAYOUTS[0][1]))
    assert cropped.data_ptr() == middle(whole, LAYOUTS[0][1]).data_ptr()


def test_all_gradients_of_a_network_with_channels_last_have_channels_last():
    torch.manual_seed(0)
    model = UNet(base_channels=4, depth=2).to(memory_format=torch.channels_last)
    found = []
    for convolutions in model.contracting:
        convolutions.register_forward_hook(
            lambda _, __, out: (
                out.register_hook(
                    lambda g: found.append(g.is_contiguous(memory_format=torch.channels_last))
                )
                and None
            )
        )
    image = torch.randn(1, 1, 60, 60).to(memory_format=torch.channels_last)
    model(image).sum().backward()
    assert found == [True, True]
