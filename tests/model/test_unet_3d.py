"""The network in three dimensions: the same code, and the same demands on it as in two."""

import math

import pytest
import torch
from torch import nn

from napari_unet.model.checkpoint import load_model, save_model
from napari_unet.model.config import pooling_for
from napari_unet.model.folding import fold_batch_norm
from napari_unet.model.losses import weighted_cross_entropy
from napari_unet.model.unet import BATCH_NORMS, UNet, UNetConfig
from napari_unet.ops.errors import InputError

FLAT_FIRST = ((1, 2, 2), (2, 2, 2))
FLAT = ((1, 2, 2), (1, 2, 2))
SHAPES = [(1, ()), (2, ()), (2, FLAT_FIRST), (2, FLAT)]


def network(depth=2, pooling=(), **options):
    torch.manual_seed(0)
    values = {"base_channels": 2, "dropout": 0.0, "ndim": 3, **options}
    return UNet(1, 2, depth=depth, pooling=pooling, **values).eval()


def with_lived_in_statistics(model):
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, BATCH_NORMS):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) / 5)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return model


def volume(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walk(length, pooling, kernels):
    """The length of the answer by going through the network; None if a pooling does not fit."""
    for factor, side in zip(pooling, kernels, strict=False):
        length -= 2 * (side - 1)
        if length < 1 or length % factor:
            return None
        length //= factor
    length -= 2 * (kernels[-1] - 1)
    if length < 1:
        return None
    for factor, side in zip(reversed(pooling), reversed(kernels[:-1]), strict=True):
        length = length * factor - 2 * (side - 1)
        if length < 1:
            return None
    return length


@pytest.mark.parametrize("pooling", [(), FLAT_FIRST, FLAT, ((2, 2, 2), (1, 2, 2))])
def test_valid_lengths_are_those_that_go_through_the_network(pooling):
    config = UNetConfig(depth=2, ndim=3, pooling=pooling)
    for axis, geometry in enumerate(config.geometries):
        factors = [level[axis] for level in config.levels]
        kernels = [level[axis] for level in config.kernels]
        for length in range(1, 60):
            if (expected := walk(length, factors, kernels)) is None:
                with pytest.raises(InputError):
                    config.output_size(length, axis)
            else:
                assert config.output_size(length, axis) == expected == length - 2 * geometry.halo
        assert config.output_size(geometry.input_size(8), axis) == 8 + geometry.surplus


def test_the_same_numbers_as_in_two_dimensions():
    flat, deep = UNetConfig(depth=4), UNetConfig(depth=4, ndim=3)
    assert deep.geometries == (flat.geometry,) * 3
    assert (deep.halo, deep.stride) == (92, 16)


def test_far_planes_need_less_context():
    planes, rows, columns = UNetConfig(depth=2, ndim=3, pooling=FLAT_FIRST).geometries
    assert (planes.halo, planes.stride) == (8, 2)
    assert (rows.halo, rows.stride) == (columns.halo, columns.stride) == (20, 4)


@pytest.mark.parametrize(("depth", "pooling"), SHAPES)
def test_the_answer_has_the_shape_that_the_geometry_says(depth, pooling):
    with torch.device("meta"):
        model = network(depth, pooling)
        inner = [8, 4, 12]
        axes = list(zip(model.config.geometries, inner, strict=True))
        answer = model(torch.empty(2, 1, *(g.input_size(n) for g, n in axes)))
    assert answer.shape == (2, 2, *(n + g.surplus for g, n in axes))


@pytest.mark.parametrize(("depth", "pooling"), SHAPES)
def test_voxels_outside_of_the_receptive_field_change_nothing(depth, pooling):
    model = with_lived_in_statistics(network(depth, pooling, batch_norm=True)).double()
    geometries = model.config.geometries
    image = volume(1, 1, *(g.input_size(3 * g.stride) for g in geometries))
    block = tuple(slice(g.stride, 2 * g.stride) for g in geometries)
    field = tuple(slice(g.stride, g.stride + g.input_size(g.stride)) for g in geometries)
    other = volume(*image.shape, seed=1) * 100
    other[(..., *field)] = image[(..., *field)]
    with torch.no_grad():
        answer, changed = model(image), model(other)
    torch.testing.assert_close(
        changed[(..., *block)], answer[(..., *block)], rtol=1e-12, atol=1e-12
    )
    assert not torch.allclose(changed, answer)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_receptive_field_reaches_as_far_as_the_halo_says(axis):
    model = network(2, FLAT_FIRST).double()
    geometries = model.config.geometries
    with torch.no_grad():  # nothing may be cut off by a ReLU
        for parameter in model.parameters():
            parameter.copy_(parameter.abs() + 0.01)
    image = volume(1, 1, *(g.input_size(g.stride) for g in geometries)).requires_grad_()
    model(image)[0, 0].sum().backward()
    others = tuple(other + 2 for other in range(3) if other != axis)
    seen = (image.grad != 0).any(dim=others).flatten()
    assert seen.all()


def test_shifting_by_the_strides_shifts_the_answer():
    model = network(2, FLAT_FIRST).double()
    geometries = model.config.geometries
    image = volume(1, 1, *(g.input_size(3 * g.stride) for g in geometries))
    moved = image[(..., *(slice(g.stride, None) for g in geometries))]
    with torch.no_grad():
        whole, part = model(image), model(moved)
    expected = whole[(..., *(slice(g.stride, None) for g in geometries))]
    torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)


def test_weights_are_drawn_by_he_s_rule():
    torch.manual_seed(0)
    model = UNet(1, 2, 16, 2, ndim=3, pooling=FLAT_FIRST)
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 2000:
            incoming = module.in_channels * math.prod(module.kernel_size)
            assert module.weight.detach().std() == pytest.approx(math.sqrt(2 / incoming), rel=0.1)
    kernels = [tuple(m.kernel_size) for m in model.modules() if isinstance(m, nn.Conv3d)]
    assert kernels.count((1, 3, 3)) == 4  # the upper level, on both sides
    assert kernels.count((3, 3, 3)) == 6


@pytest.mark.parametrize(("depth", "pooling"), SHAPES)
def test_batch_norm_folds_away(depth, pooling):
    model = with_lived_in_statistics(network(depth, pooling, batch_norm=True)).double()
    folded = fold_batch_norm(model)
    assert not any(isinstance(module, BATCH_NORMS) for module in folded.modules())
    image = volume(1, 1, *(g.input_size(2 * g.stride) for g in model.config.geometries))
    with torch.no_grad():
        torch.testing.assert_close(folded(image), model(image), rtol=1e-9, atol=1e-9)


def test_a_file_keeps_the_network(tmp_path):
    model = network(2, FLAT_FIRST, batch_norm=True)
    again = load_model(save_model(model, tmp_path / "stack.safetensors"))
    assert again.config == model.config
    image = volume(1, 1, *(g.input_size(4) for g in model.config.geometries)).float()
    with torch.no_grad():
        torch.testing.assert_close(again(image), model(image), rtol=0, atol=0)


def test_a_network_for_images_is_written_as_before():
    values = UNetConfig().to_dict()
    assert not {"ndim", "pooling"} & set(values)
    assert UNetConfig.from_dict(values) == UNetConfig()


@pytest.mark.parametrize(
    "values",
    [
        {"ndim": 4},
        {"ndim": True},
        {"pooling": ((2, 2, 2),)},  # not of all levels
        {"pooling": ((2, 1, 2), (2, 2, 2))},
        {"pooling": ((3, 2, 2), (2, 2, 2))},
        {"pooling": ((1.0, 2, 2), (2, 2, 2))},
        {"pooling": "12"},
        {"pooling": [None, 7]},
        {"ndim": 2, "pooling": FLAT},
        {"hypercolumns": True},
    ],
)
def test_what_is_not_possible_is_refused(values):
    with pytest.raises(InputError, match=r"not possible|leave them out"):
        UNetConfig.from_dict({**UNetConfig(depth=2, ndim=3).to_dict(), **values})


def test_an_image_is_no_stack():
    with pytest.raises(InputError, match="N, 1, D, H, W"):
        network()(torch.zeros(1, 1, 44, 44))


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((1, 1, 1), ((2, 2, 2),) * 3),
        ((2, 1, 1), ((1, 2, 2), (2, 2, 2), (2, 2, 2))),
        ((0.9, 0.3, 0.3), ((1, 2, 2), (1, 2, 2), (2, 2, 2))),
        ((10, 1, 1), ((1, 2, 2),) * 3),
        ((0.5, 1, 1), ((2, 2, 2),) * 3),
    ],
)
def test_pooling_follows_the_spacing(spacing, expected):
    assert pooling_for(spacing, 3) == expected
    UNetConfig(depth=3, ndim=3, pooling=expected)


@pytest.mark.parametrize("spacing", [(1, 1), (0, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1)])
def test_a_spacing_that_cannot_be_is_refused(spacing):
    with pytest.raises(InputError, match="spacing"):
        pooling_for(spacing, 2)


def test_the_loss_is_that_of_the_planes_side_by_side():
    logits = volume(2, 3, 4, 5, 6)
    labels = (volume(2, 4, 5, 6, seed=1) * 4).long()
    weights = volume(2, 4, 5, 6, seed=2)
    stacked = weighted_cross_entropy(logits, labels, weights)
    flat = weighted_cross_entropy(
        logits.reshape(2, 3, 20, 6), labels.reshape(2, 20, 6), weights.reshape(2, 20, 6)
    )
    torch.testing.assert_close(stacked, flat)
