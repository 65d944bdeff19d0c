"""Prediction of stacks: as exact as that of images, whatever the tiles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import make_unet

from napari_unet.engine import predict as module
from napari_unet.engine.events import Noticed, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import ExecutionPlan, choose_plan
from napari_unet.engine.predict import PredictRequest, assemble, predict, predict_tiles
from napari_unet.ops.errors import InputError

FLAT_FIRST = ((1, 2, 2), (2, 2, 2))
POOLINGS = st.sampled_from([(), FLAT_FIRST, ((1, 2, 2), (1, 2, 2))])


@pytest.fixture(autouse=True)
def _plan_without_measuring(monkeypatch):
    monkeypatch.setattr(
        module, "choose_plan", lambda config, *_: ExecutionPlan(torch.device("cpu"), ndim=3)
    )


def network(depth=2, pooling=FLAT_FIRST, **options):
    return make_unet(depth=depth, pooling=pooling, ndim=3, base_channels=2, **options)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def untiled(model, stack):
    """The network on the whole stack at once, with mirrored context; shares no tiling code."""
    pads = []
    for geometry, length in zip(model.config.geometries, stack.shape, strict=True):
        inner = -(-length // geometry.stride) * geometry.stride
        pads.append((geometry.halo, inner - length + geometry.surplus + geometry.halo))
    channels = SourceImage(stack, ndim=3).normalized
    # np.pad's reflection of an axis of length 1 is its repetition.
    padded = np.pad(channels, [(0, 0), *pads], mode="reflect")
    with torch.inference_mode():
        probability = model(torch.from_numpy(padded[None])).softmax(1)[0].numpy()
    return probability[(slice(None), *map(slice, stack.shape))]


@settings(max_examples=12, deadline=None)
@given(
    pooling=POOLINGS,
    shape=st.tuples(st.integers(1, 9), st.integers(2, 25), st.integers(2, 25)),
    cells=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    batch_norm=st.booleans(),
)
def test_tiled_equals_untiled_at_every_tile_size(pooling, shape, cells, batch_norm):
    model = network(pooling=pooling, batch_norm=batch_norm)
    stack = noise(*shape)
    geometries = model.config.geometries
    tile = tuple(g.input_size(n * g.stride) for g, n in zip(geometries, cells, strict=True))
    tiled = predict(model, stack, tile_size=tile, precision="fp32")
    np.testing.assert_allclose(tiled, untiled(model, stack), atol=1e-5)


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("pooling", [(), FLAT_FIRST])
def test_thin_stacks_are_predicted(planes, pooling):
    model, stack = network(pooling=pooling), noise(planes, 20, 30)
    found = predict(model, stack, precision="fp32")
    assert found.shape == (2, planes, 20, 30)
    np.testing.assert_allclose(found, untiled(model, stack), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_turning_the_stack_upside_down_shows_that_planes_matter():
    model, stack = network(), noise(9, 20, 20)
    found = predict(model, stack, precision="fp32")
    other = predict(model, stack[np.r_[0, 2, 1, 3:9]], precision="fp32")
    assert not np.allclose(found, other, atol=1e-3)


def test_colours_are_channels():
    model = network(in_channels=3)
    stack = noise(4, 12, 12, 3)
    assert predict(model, stack, precision="fp32").shape == (2, 4, 12, 12)


def test_what_is_on_screen_comes_first_and_a_region_is_part_of_the_whole():
    model, stack = network(), noise(8, 24, 24)
    visible = np.s_[6:7, 0:24, 0:24]
    source = SourceImage(stack, ndim=3, spacing=(3, 1, 1))
    request = PredictRequest(source, visible, tile_size=(18, 48, 48), precision="fp32")
    events = list(predict_tiles(model, request))
    planes = [event.inner[0] for event in events if isinstance(event, TilePredicted)]
    first = [span.start <= 6 < span.stop for span in planes]
    assert first == sorted(first, reverse=True)
    whole = assemble(events, 2, stack.shape)
    assert not np.isnan(whole).any()
    part = PredictRequest(source, region=np.s_[3:5, 5:9, 10:11], precision="fp32")
    found = assemble(predict_tiles(model, part), 2, stack.shape)
    predicted = ~np.isnan(found[0])
    assert predicted[3:5, 5:9, 10:11].all()
    assert not predicted.all()
    np.testing.assert_allclose(found[:, predicted], whole[:, predicted], atol=1e-5)


def test_symmetries_of_a_stack_leave_a_symmetric_answer():
    model, stack = network(), noise(4, 12, 12)
    found = predict(model, stack, precision="fp32", averaging="symmetries")
    for turned, back in (
        (stack[::-1], found[:, ::-1]),
        (np.rot90(stack, 1, (1, 2)), np.rot90(found, 1, (2, 3))),
    ):
        other = predict(model, turned, precision="fp32", averaging="symmetries")
        np.testing.assert_allclose(other, back, atol=1e-5)


def test_turned_planes_are_averaged():
    model, stack = network(), np.full((3, 12, 12), 0.5)
    found = predict(model, stack, precision="fp32", averaging="rotations")
    np.testing.assert_allclose(found, predict(model, stack, precision="fp32"), atol=1e-5)


def test_smaller_tiles_follow_when_memory_runs_out(monkeypatch):
    model, stack = network(), noise(6, 20, 20)
    expected = predict(model, stack, precision="fp32")
    real = ExecutionPlan.for_prediction

    def short_of_memory(plan, network):
        run = real(plan, network)

        def probabilities(batch):
            if batch[0, 0].numel() > 24 * 48 * 48:
                raise RuntimeError("not enough memory: you tried to allocate 7 bytes")
            return run(batch)

        return probabilities

    monkeypatch.setattr(ExecutionPlan, "for_prediction", short_of_memory)
    request = PredictRequest(SourceImage(stack, ndim=3), precision="fp32")
    events = list(predict_tiles(model, request))
    assert any(isinstance(event, Noticed) for event in events)
    np.testing.assert_allclose(assemble(events, 2, stack.shape), expected, atol=1e-5)


def test_images_and_stacks_are_not_mixed_up():
    flat, deep = make_unet(), network()
    with pytest.raises(InputError, match="dimensions"):
        list(predict_tiles(flat, PredictRequest(SourceImage(noise(4, 9, 9), ndim=3))))
    with pytest.raises(InputError, match="dimensions"):
        list(predict_tiles(deep, PredictRequest(SourceImage(noise(9, 9)))))
    with pytest.raises(InputError, match="a stack"):
        predict(deep, noise(9, 9))


def test_a_source_image_knows_its_axes():
    stack = SourceImage(np.zeros((4, 5, 6)), ndim=3, spacing=(0.9, 0.3, 0.3))
    assert (stack.shape, stack.channels, stack.normalized.shape) == ((4, 5, 6), 1, (1, 4, 5, 6))
    assert stack.spacing == pytest.approx((3, 1, 1))
    image = SourceImage(np.zeros((4, 5, 3)))
    assert (image.shape, image.channels, image.spacing) == ((4, 5), 3, (1, 1))
    with pytest.raises(InputError, match="spacing"):
        SourceImage(np.zeros((4, 5, 6)), ndim=3, spacing=(1, 1))
    with pytest.raises(InputError, match="2 or 3"):
        SourceImage(np.zeros((4, 5)), ndim=4)


def test_the_plan_of_a_stack_is_measured_in_three_dimensions():
    config = network(depth=1, pooling=()).config
    plan = choose_plan(config, "predict")
    assert plan.ndim == 3
    assert len(plan.seconds) >= 2
    if plan.channels_last:
        assert plan.memory_format == torch.channels_last_3d
