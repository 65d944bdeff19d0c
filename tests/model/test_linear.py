"""The linear classifier on feature maps."""

import pytest
import torch

from napari_unet import UNet
from napari_unet.model.linear import apply_linear, gather, solve_ridge


@pytest.fixture
def maps_and_side():
    """Feature maps of three resolutions, and the side of the answer."""
    torch.manual_seed(0)
    model = UNet(1, 2, 4, 3, batch_norm=True).eval()
    with torch.no_grad():
        maps = model.decoder_maps(torch.rand(1, 1, 132, 148))
    return maps, (44, 60)


def equal(count):
    return torch.full((count,), 1 / count)


def test_all_pixels_get_what_single_pixels_get(maps_and_side):
    maps, side = maps_and_side
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in side), indexing="ij")
    features = gather(maps, rows.ravel(), columns.ravel(), side)
    coefficients = torch.randn(features.shape[1] + 1, 3)
    expected = features @ coefficients[:-1] + coefficients[-1]
    answer = apply_linear(maps, coefficients, side)
    assert answer.shape == (1, 3, *side)
    torch.testing.assert_close(answer[0].flatten(1).T, expected, atol=1e-4, rtol=1e-4)


def test_the_finest_map_is_read_as_it_is(maps_and_side):
    maps, side = maps_and_side
    features = gather(maps, torch.tensor([7]), torch.tensor([50]), side)
    torch.testing.assert_close(features[0, -4:], maps[-1][0, :, 7, 50])


def test_a_linear_function_is_found_again():
    torch.manual_seed(1)
    features, truth = torch.randn(50, 3), torch.randn(4, 2)
    targets = features @ truth[:-1] + truth[-1]
    found = solve_ridge(features, targets, equal(50), torch.tensor(1e-9))
    torch.testing.assert_close(found, truth, atol=1e-4, rtol=1e-4)


def test_a_strong_penalty_leaves_the_mean_of_the_targets():
    targets = torch.tensor([[1.0], [3.0]])
    found = solve_ridge(torch.tensor([[0.0], [5.0]]), targets, equal(2), torch.tensor(1e9))
    torch.testing.assert_close(found, torch.tensor([[0.0], [2.0]]), atol=1e-4, rtol=0)


def test_a_row_that_weighs_nothing_changes_nothing():
    torch.manual_seed(2)
    features, targets = torch.randn(20, 3), torch.randn(20, 1)
    weights = equal(20).clone()
    weights[3:] = 1 / 17
    weights[:3] = 0
    with_them = solve_ridge(features, targets, weights, torch.tensor(0.1))
    without = solve_ridge(features[3:], targets[3:], equal(17), torch.tensor(0.1))
    torch.testing.assert_close(with_them, without)


def test_the_fit_can_be_trained_through():
    torch.manual_seed(3)
    features = torch.randn(10, 4, requires_grad=True)
    found = solve_ridge(features, torch.randn(10, 2), equal(10), torch.tensor(0.1))
    found.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_sizes_are_those_of_features_that_are_penalised_as_if_they_were_larger():
    torch.manual_seed(0)
    features, targets = torch.randn(40, 4), torch.randn(40, 2)
    sizes, strength = torch.tensor([1.0, 0.1, 3.0, 20.0]), torch.tensor(0.2)
    larger = solve_ridge(features * sizes, targets, equal(40), strength)
    found = solve_ridge(features, targets, equal(40), strength, sizes)
    torch.testing.assert_close(found[:-1], larger[:-1] * sizes[:, None])
    torch.testing.assert_close(found[-1], larger[-1])
    assert not torch.allclose(found, solve_ridge(features, targets, equal(40), strength), atol=1e-2)
