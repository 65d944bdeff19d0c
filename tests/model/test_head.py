"""The head: the same for single pixels and for maps; units that learn what is not linear."""

import pytest
import torch
from torch.nn.functional import one_hot

from napari_unet.model.head import HIDDEN_UNITS, Head, HiddenUnits, fit_hidden
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


def learned_by_torch(features, labels, weights, classes, seed):
    """Fit the units as `fit_hidden` says it does, with torch's own gradients and AdamW."""
    generator = torch.Generator().manual_seed(seed)
    width = features.shape[1]
    first = torch.randn(width, HIDDEN_UNITS, generator=generator) * (2 / width) ** 0.5
    second = torch.randn(HIDDEN_UNITS, classes, generator=generator) * (1 / HIDDEN_UNITS) ** 0.5
    parameters = [first, torch.zeros(HIDDEN_UNITS), second]
    first, bias, second = (each.requires_grad_() for each in parameters)
    optimizer = torch.optim.AdamW(parameters, lr=2e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    present = torch.bincount(labels, minlength=classes) > 0
    for _ in range(100):
        drawn = torch.randint(len(features), (512,), generator=generator)
        kept = torch.rand(512, HIDDEN_UNITS, generator=generator) >= 0.2
        units = torch.relu(features[drawn] @ first + bias) * kept / 0.8
        logits = units @ second + torch.where(present, 0.0, -torch.inf)
        losses = torch.nn.functional.cross_entropy(logits, labels[drawn], reduction="none")
        optimizer.zero_grad()
        (weights[drawn] * losses).mean().backward()
        optimizer.step()
        schedule.step()
    return first.detach(), bias.detach(), second.detach() * present


@pytest.mark.parametrize("labels_of_two", [(0, 1), (0, 2)])
def test_the_gradients_are_those_of_autograd_and_the_steps_those_of_adamw(labels_of_two):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(400, 5, generator=generator)
    features = (features - features.mean(0)) / features.std(0, correction=0)
    labels = torch.tensor(labels_of_two)[(features[:, 0] * features[:, 1] > 0).long()]
    even = torch.ones(400)
    found = fit_hidden(features, labels, even, classes=3, seed=2)
    expected = learned_by_torch(features, labels, even, classes=3, seed=2)
    for one, other in zip((found.weight.T, found.bias, found.output), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
