"""The network against figure 1 of the paper."""

import json
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_unet.model.folding import fold_batch_norm
from napari_unet.model.unet import UNet, UNetConfig, blank
from napari_unet.ops.errors import InputError

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def seeded(seed=0, **config):
    settings = {"base_channels": 4, "depth": 2, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(**settings).eval()


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_lived_in_statistics(model, seed=0):
    """Give every BatchNorm statistics and an affine map as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 1, generator=generator)
            module.running_var.uniform_(0.2, 3, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(-2, 2, generator=generator)
                module.bias.normal_(0, 1, generator=generator)
    return model


# ------------------------------------------------------------------------------- figure 1


def record(model, image):
    """Run the network and return (kind, channels, side) after every layer that changes shapes."""
    seen = []
    kinds = {nn.Conv2d: "conv", nn.ConvTranspose2d: "up", nn.MaxPool2d: "pool"}

    def note(module, _, output):
        seen.append((kinds[type(module)], output.shape[1], output.shape[2]))

    hooks = [m.register_forward_hook(note) for m in model.modules() if type(m) in kinds]
    model(image)
    for hook in hooks:
        hook.remove()
    return seen


def test_every_box_of_the_figure():
    with torch.device("meta"):
        seen = record(UNet().eval(), torch.empty(1, 1, 572, 572))
    assert seen == [
        ("conv", 64, 570),
        ("conv", 64, 568),
        ("pool", 64, 284),
        ("conv", 128, 282),
        ("conv", 128, 280),
        ("pool", 128, 140),
        ("conv", 256, 138),
        ("conv", 256, 136),
        ("pool", 256, 68),
        ("conv", 512, 66),
        ("conv", 512, 64),
        ("pool", 512, 32),
        ("conv", 1024, 30),
        ("conv", 1024, 28),
        ("up", 512, 56),
        ("conv", 512, 54),
        ("conv", 512, 52),
        ("up", 256, 104),
        ("conv", 256, 102),
        ("conv", 256, 100),
        ("up", 128, 200),
        ("conv", 128, 198),
        ("conv", 128, 196),
        ("up", 64, 392),
        ("conv", 64, 390),
        ("conv", 64, 388),
        ("conv", 2, 388),
    ]


def test_23_convolutions():
    with torch.device("meta"):
        convolutions = [m for m in UNet().modules() if isinstance(m, CONVOLUTIONS)]
    kernels = [(type(m), m.kernel_size, m.stride) for m in convolutions]
    assert len(kernels) == 23
    assert kernels.count((nn.Conv2d, (3, 3), (1, 1))) == 18
    assert kernels.count((nn.ConvTranspose2d, (2, 2), (2, 2))) == 4
    assert kernels.count((nn.Conv2d, (1, 1), (1, 1))) == 1
    assert all(m.padding == (0, 0) for m in convolutions)


def test_half_of_what_enters_an_expanding_level_was_copied_from_the_middle():
    model = seeded(depth=1, base_channels=2)
    inputs = {}
    model.expanding[0].register_forward_pre_hook(lambda _, args: inputs.update(joined=args[0]))
    model.contracting[0].register_forward_hook(lambda _, __, out: inputs.update(copy=out))
    model.up_convolutions[0].register_forward_hook(lambda _, __, out: inputs.update(up=out))
    model(noise(1, 1, 24, 24))
    # 24 -> 20 -> pool 10 -> 6 -> up 12: cut 4 from each side of the 20
    assert torch.equal(inputs["joined"][:, :2], inputs["copy"][:, :, 4:16, 4:16])
    assert torch.equal(inputs["joined"][:, 2:], inputs["up"])


def test_a_relu_follows_the_3x3_convolutions_alone():
    model = seeded()
    follower = {}
    for block in [*model.contracting, model.bottom, *model.expanding]:
        layers = list(block)
        follower.update(dict(pairwise(layers)))
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            assert isinstance(follower[module], nn.ReLU)
    assert (model(noise(1, 1, 60, 60)) < 0).any()  # no ReLU after the 1x1 convolution


# ------------------------------------------------------------------------------- dropout


def test_dropout_acts_at_the_end_of_the_contracting_path():
    model = seeded(depth=3, base_channels=8, dropout=0.5).train()
    kept = {}
    model.max_pool.register_forward_pre_hook(
        lambda _, args: kept.setdefault("pooled", []).append(args[0])
    )
    model.up_convolutions[0].register_forward_pre_hook(lambda _, args: kept.update(up=args[0]))
    model.expanding[0].register_forward_pre_hook(lambda _, args: kept.update(joined=args[0]))
    dropped = {}
    model.dropout.register_forward_hook(
        lambda _, args, out: dropped.setdefault("pairs", []).append((args[0], out))
    )
    torch.manual_seed(0)
    model(noise(1, 1, 100, 100))
    (last_in, last_out), (bottom_in, bottom_out) = dropped["pairs"]
    assert kept["pooled"][-1] is last_out  # pooled after dropout,
    side = kept["joined"].shape[-1]
    cut = (last_out.shape[-1] - side) // 2
    copied = last_out[:, :, cut : cut + side, cut : cut + side]
    assert torch.equal(kept["joined"][:, : copied.shape[1]], copied)  # and copied after it
    assert kept["up"] is bottom_out
    for before, after in ((last_in, last_out), (bottom_in, bottom_out)):
        active = before > 0
        assert (after[active] == 0).float().mean() == pytest.approx(0.5, abs=0.05)
        survived = active & (after > 0)
        torch.testing.assert_close(after[survived], 2 * before[survived])


def test_dropout_rests_in_evaluation_and_at_probability_0():
    image = noise(1, 1, 60, 60)
    model = seeded(dropout=0.5)
    assert torch.equal(model(image), model(image))
    assert not torch.equal(model.train()(image), model(image))
    still = seeded(dropout=0.0)
    assert torch.equal(still.train()(image), still.eval()(image))


# ------------------------------------------------------------------------------- weights


def test_weights_have_the_deviation_of_section_3():
    model = seeded(base_channels=32, depth=3, in_channels=3)
    checked = 0
    for module in model.modules():
        if not isinstance(module, CONVOLUTIONS):
            continue
        assert not module.bias.any()
        # An up-convolution's windows do not overlap: one output pixel sees one input pixel.
        taps = 9 if module.kernel_size == (3, 3) else 1
        expected = math.sqrt(2 / (taps * module.in_channels))
        count = module.weight.numel()
        if count > 2000:  # of fewer numbers the deviation is too uncertain
            assert module.weight.std().item() == pytest.approx(
                expected, rel=4 / math.sqrt(2 * count)
            )
            checked += 1
    assert checked == 18 - 2  # the first convolution and the 1x1 convolution are too small


def test_every_layer_makes_up_for_the_half_that_the_relu_before_it_removed():
    # What the initialisation is for (He et al. 2015, behind section 3): the mean square after a
    # layer is twice that before it. With N = 4 * in_channels for the up-convolutions theirs would
    # be half of that.
    gains = []
    model = seeded(base_channels=32, classes=32, depth=3)
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(
                lambda _, args, out: gains.append(out.square().mean() / args[0].square().mean())
            )
    with torch.no_grad():
        model(noise(1, 1, 100, 100))
    assert len(gains) == 18
    for gain in gains:
        assert gain.item() == pytest.approx(2, rel=0.4)


def test_same_seed_same_weights():
    first, again, other = seeded(1).state_dict(), seeded(1).state_dict(), seeded(2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# ------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("depth", range(1, 7))
def test_the_sizes_that_fit_are_those_the_layers_allow(depth):
    """Walk through the levels for every side; where all is even, the network must take it."""
    config = UNetConfig(depth=depth, base_channels=1)

    def walk(side):
        for _ in range(depth):
            side -= 4
            if side < 2 or side % 2:
                return None
            side //= 2
        side -= 4
        if side < 1:
            return None
        for _ in range(depth):
            side = 2 * side - 4
            if side < 1:
                return None
        return side

    for side in range(1, 3 * config.stride + 2 * config.halo):
        if (expected := walk(side)) is not None:
            assert config.output_size(side) == expected == side - 2 * config.halo
        else:
            with pytest.raises(InputError):
                config.output_size(side)


@pytest.mark.parametrize("depth", range(1, 7))
def test_geometry_fits_the_network(depth):
    config = UNetConfig(depth=depth)
    geometry = config.geometry
    for inner in (config.stride, 5 * config.stride):
        assert config.output_size(geometry.input_size(inner)) == inner + geometry.surplus
    assert geometry.halo == config.halo
    assert geometry.stride == config.stride == 2**depth


def test_the_paper_s_numbers():
    config = UNetConfig()
    assert config.output_size(572) == 388
    assert (config.halo, config.stride, config.geometry.surplus) == (92, 16, 4)


@pytest.mark.parametrize(
    ("side", "nearest"),
    [(573, "572 or 588"), (571, "556 or 572"), (187, "use 188"), (0, "use 188")],
)
def test_a_side_that_does_not_fit_names_the_nearest_that_do(side, nearest):
    with pytest.raises(InputError, match=nearest):
        UNetConfig().output_size(side)


@settings(max_examples=15, deadline=None)
@given(
    depth=st.integers(1, 4),
    steps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    in_channels=st.integers(1, 4),
    classes=st.integers(2, 5),
    batch_norm=st.booleans(),
)
def test_output_shape(depth, steps, in_channels, classes, batch_norm):
    with torch.device("meta"):
        model = UNet(in_channels, classes, 2, depth, batch_norm=batch_norm).eval()
        geometry = model.config.geometry
        inner = [n * geometry.stride for n in steps]
        shape = [geometry.input_size(n) for n in inner]
        answer = model(torch.empty(3, in_channels, *shape))
    assert answer.shape == (3, classes, *(n + geometry.surplus for n in inner))


def test_an_image_that_does_not_fit_is_refused():
    model = seeded()
    with pytest.raises(InputError, match=r"N, 1, H, W"):
        model(torch.zeros(1, 3, 60, 60))
    with pytest.raises(InputError, match=r"N, 1, H, W"):
        model(torch.zeros(1, 60, 60))
    with pytest.raises(InputError, match="60 or 64"):
        model(torch.zeros(1, 1, 60, 62))


# ------------------------------------------------------------------------------- locality


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_pixels_outside_the_receptive_field_change_nothing(depth, batch_norm):
    # In float64 nothing can pass for rounding.
    model = with_lived_in_statistics(seeded(depth=depth, batch_norm=batch_norm)).double()
    geometry = model.config.geometry
    stride = geometry.stride
    image = noise(1, 1, *2 * [geometry.input_size(4 * stride)]).double()
    block = slice(stride, 2 * stride)  # of the answer; its field reaches a halo further
    field = slice(stride, stride + geometry.input_size(stride))
    other = 1000 * noise(*image.shape, seed=1).double()
    other[:, :, field, field] = image[:, :, field, field]
    with torch.no_grad():
        answer, changed = model(image), model(other)
    torch.testing.assert_close(
        changed[:, :, block, block], answer[:, :, block, block], rtol=1e-12, atol=1e-12
    )
    assert not torch.allclose(changed, answer)
    inside = image.clone()
    inside[:, :, field, field] += 1
    assert not torch.allclose(model(inside)[:, :, block, block], answer[:, :, block, block])


def test_shifting_by_the_stride_shifts_the_answer():
    model = seeded(depth=3).double()
    geometry = model.config.geometry
    stride, side = geometry.stride, geometry.input_size(32)
    image = noise(1, 1, side + 2 * stride, side + 2 * stride).double()
    with torch.no_grad():
        here = model(image[:, :, :side, :side])
        there = model(image[:, :, 2 * stride :, stride : stride + side])
        elsewhere = model(image[:, :, 1 : side + 1, :side])
    kept = here.shape[-1]
    torch.testing.assert_close(
        there[:, :, : kept - 2 * stride, : kept - stride],
        here[:, :, 2 * stride :, stride:],
        rtol=1e-12,
        atol=1e-12,
    )
    # Off the pooling grid the answer is another one; tiles must therefore lie on it.
    assert not torch.allclose(elsewhere[:, :, :-1], here[:, :, 1:], atol=1e-3)


def test_images_of_a_batch_do_not_see_each_other():
    model = with_lived_in_statistics(seeded(batch_norm=True))
    images = noise(3, 1, 60, 60)
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_channels_last_stays_channels_last():
    model = seeded().to(memory_format=torch.channels_last)
    image = noise(1, 1, 60, 60).to(memory_format=torch.channels_last)
    seen = []
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(lambda _, __, out: seen.append(out))
    answer = model(image)
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in seen)
    torch.testing.assert_close(answer, seeded()(noise(1, 1, 60, 60)), rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------- BatchNorm


@pytest.mark.parametrize("depth", [1, 3])
def test_folding_batch_norm_keeps_the_answer(depth):
    model = with_lived_in_statistics(seeded(depth=depth, batch_norm=True))
    image = noise(2, 1, *2 * [model.config.geometry.input_size(16)])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_batch_norm(model.train())
    assert model.training  # the original is not touched
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not folded.training
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert folded.config == UNetConfig(base_channels=4, depth=depth, batch_norm=False)
    with torch.no_grad():
        expected = model.eval()(image)
        scale = expected.abs().max()
        torch.testing.assert_close(folded(image) / scale, expected / scale, rtol=0, atol=1e-5)


def test_folding_a_network_without_batch_norm_copies_it():
    model = seeded().train()
    state = torch.get_rng_state()
    folded = fold_batch_norm(model)
    assert torch.equal(torch.get_rng_state(), state)
    image = noise(1, 1, 60, 60)
    assert torch.equal(folded(image), model.eval()(image))
    with torch.no_grad():
        next(folded.parameters()).add_(1)
    assert not torch.equal(folded(image), model(image))


def test_convolutions_before_batch_norm_have_no_bias():
    model = seeded(batch_norm=True)
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            normalised = module.kernel_size == (3, 3)
            assert (module.bias is None) == normalised
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 10  # depth 2: 5 blocks


# ------------------------------------------------------------------------------- configuration


def test_configuration_survives_json():
    config = UNetConfig(3, 5, 24, 3, batch_norm=True, dropout=0.25)
    assert UNetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert UNet.from_config(config).config == config


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 0},
        {"depth": 7},
        {"depth": 10**9},
        {"depth": 4.0},
        {"depth": True},
        {"depth": "4"},
        {"base_channels": 0},
        {"base_channels": 10**12},
        {"in_channels": -1},
        {"in_channels": None},
        {"classes": 1},
        {"classes": 256},
        {"batch_norm": 1},
        {"batch_norm": "yes"},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": math.nan},
        {"dropout": "0.5"},
        {"dropout": True},
    ],
)
def test_impossible_configurations_are_refused_by_name(change):
    values = {**UNetConfig().to_dict(), **change}
    (name,) = change
    with pytest.raises(InputError, match=f"{name} = .* choose"):
        UNetConfig.from_dict(values)
    with pytest.raises(InputError, match=name):
        UNet(**values)


@pytest.mark.parametrize("values", [{}, {"depth": 4}, None, [1, 2], "depth", 7])
def test_incomplete_configurations_are_refused(values):
    with pytest.raises(InputError, match="configuration"):
        UNetConfig.from_dict(values)


def test_unknown_entries_are_named():
    with pytest.raises(InputError, match="attention"):
        UNetConfig.from_dict({**UNetConfig().to_dict(), "attention": True})


def test_blank_networks_of_one_shape_share_nothing_that_is_given_to_one():
    config = UNetConfig(base_channels=2, depth=1, batch_norm=True)
    filled, other = blank(config), blank(config)
    filled.load_state_dict(UNet.from_config(config).state_dict(), assign=True)
    filled.eval().output.register_forward_pre_hook(lambda *_: None)
    filled.max_pool = torch.nn.Identity()
    assert not any(parameter.is_meta for parameter in filled.parameters())
    for network in (other, blank(config)):
        assert all(parameter.is_meta for parameter in network.parameters())
        assert network.training
        assert not network.output._forward_pre_hooks
        assert isinstance(network.max_pool, torch.nn.MaxPool2d)


def test_folded_copies_do_not_follow_the_network_or_each_other():
    model = UNet(base_channels=2, depth=1, batch_norm=True).eval()
    x = torch.rand(1, 1, 28, 28)
    first, expected = fold_batch_norm(model), fold_batch_norm(model)(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
        for parameter in fold_batch_norm(model).parameters():
            parameter.zero_()
    torch.testing.assert_close(first(x), expected)
