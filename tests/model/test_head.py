"""The head: the same for single pixels and for maps; units that learn what is not linear."""

import pytest
import torch
from torch.nn.functional import one_hot

from napari_unet.model.head import Head, HiddenUnits, fit_hidden
from napari_unet.model.linear import gather, solve_ridge


def answers(units, features):
    """What the units alone say of each row."""
    linear = torch.zeros(features.shape[1] + 1, units.output.shape[1])
    return Head(linear, units).at(features)


@pytest.fixture
def checkerboard():
    """Four corners of a square, the opposite ones of one class; on scales that differ much."""
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(400, 2, generator=generator) * 2 - 1
    labels = (points.prod(dim=1) > 0).long()
    return points * torch.tensor([100.0, 0.01]) + 5, labels


def test_units_learn_what_no_linear_function_says(checkerboard):
    features, labels = checkerboard
    weights = torch.ones(len(labels))
    units = fit_hidden(features, labels, weights, classes=2)
    right = (answers(units, features).argmax(dim=1) == labels).float().mean()
    targets = one_hot(labels).float() * 2 - 1
    linear = Head(solve_ridge(features, targets, weights / len(labels), torch.tensor(1e-3)))
    assert right > 0.9
    assert (linear.at(features).argmax(dim=1) == labels).float().mean() < 0.7


def test_the_same_seed_gives_the_same_units(checkerboard):
    features, labels = checkerboard
    found = [fit_hidden(features, labels, torch.ones(len(labels)), 2, seed=s) for s in (1, 1, 2)]
    assert torch.equal(found[0].weight, found[1].weight)
    assert not torch.equal(found[0].weight, found[2].weight)


def test_rows_without_weight_change_no_probability_much(checkerboard):
    features, labels = checkerboard
    wrong = torch.cat([labels, 1 - labels])
    weights = torch.cat([torch.ones(len(labels)), torch.zeros(len(labels))])
    units = fit_hidden(torch.cat([features, features]), wrong, weights, classes=2)
    right = (answers(units, features).argmax(dim=1) == labels).float().mean()
    assert right > 0.85


def test_units_say_nothing_of_a_class_without_labels(checkerboard):
    features, labels = checkerboard
    units = fit_hidden(features, labels * 2, torch.ones(len(labels)), classes=3)
    assert (answers(units, features)[:, 1] == 0).all()


def test_features_that_never_vary_do_no_harm(checkerboard):
    features, labels = checkerboard
    features = torch.cat([features, torch.full((len(labels), 3), 7.0)], dim=1)
    units = fit_hidden(features, labels, torch.ones(len(labels)), classes=2)
    assert torch.isfinite(answers(units, features)).all()


def test_pixels_and_maps_give_one_answer():
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 8, 8, 8), (1, 4, 12, 12)
    maps = [torch.rand(shape, generator=generator) for shape in shapes]
    shapes = (16, 4), (16,), (16, 3)
    units = HiddenUnits(*(torch.randn(shape, generator=generator) for shape in shapes))
    head = Head(torch.randn(13, 3, generator=generator), units)
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    single = head.at(gather(maps, rows.ravel(), columns.ravel(), (12, 12)))
    over = head.over(maps, (12, 12))[0].flatten(1).T
    torch.testing.assert_close(single, over, atol=1e-4, rtol=1e-4)


def test_units_can_be_made_quieter():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(5, 4, generator=generator)
    shapes = (16, 4), (16,), (16, 3)
    units = HiddenUnits(*(torch.randn(shape, generator=generator) for shape in shapes))
    torch.testing.assert_close(answers(units.scaled(0.5), features), answers(units, features) / 2)
