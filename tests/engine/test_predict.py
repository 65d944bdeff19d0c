import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import make_unet

from napari_unet.engine import predict as module
from napari_unet.engine.events import Noticed, PredictionFinished, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.plan import ExecutionPlan
from napari_unet.engine.predict import (
    PredictRequest,
    assemble,
    predict,
    predict_regions,
    predict_tiles,
)
from napari_unet.ops.errors import InputError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def untiled(model, image):
    """The network on the whole image at once, with mirrored context; shares no tiling code."""
    geometry = model.config.geometry
    rows, columns = image.shape
    inner = [-(-n // geometry.stride) * geometry.stride for n in (rows, columns)]
    pads = [
        (geometry.halo, size - n + geometry.surplus + geometry.halo)
        for size, n in zip(inner, (rows, columns), strict=True)
    ]
    channels = SourceImage(image).normalized
    padded = np.pad(channels, [(0, 0), *pads], mode="reflect")
    with torch.inference_mode():
        probability = model(torch.from_numpy(padded[None])).softmax(1)[0].numpy()
    return probability[:, :rows, :columns]


@settings(max_examples=25, deadline=None)
@given(
    depth=st.integers(1, 3),
    rows=st.integers(2, 90),
    columns=st.integers(2, 90),
    cells=st.integers(1, 12),
    batch_norm=st.booleans(),
)
def test_tiled_equals_untiled_at_every_tile_size(depth, rows, columns, cells, batch_norm):
    model = make_unet(depth=depth, batch_norm=batch_norm)
    image = noise(rows, columns)
    geometry = model.config.geometry
    tile_size = geometry.input_size(cells * geometry.stride)
    tiled = predict(model, image, tile_size=tile_size, precision="fp32")
    np.testing.assert_allclose(tiled, untiled(model, image), atol=1e-5)


def test_the_paper_depth_tiles_without_a_seam():
    model = make_unet(depth=4)
    image = noise(70, 50)
    small = predict(model, image, tile_size=model.config.geometry.input_size(16), precision="fp32")
    np.testing.assert_allclose(small, untiled(model, image), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (33, 47)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_shape_gives_probabilities_of_that_shape(shape, channels):
    image = noise(*shape) if channels == 1 else noise(*shape, 3)
    probability = predict(make_unet(in_channels=channels, classes=3), image, precision="fp32")
    assert probability.shape == (3, *shape)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [bool, "int8", "uint8", ">u2", "int32", "uint64", "float16", ">f4", "float64"]
)
def test_every_real_dtype_is_predicted(tiny_unet, dtype):
    image = (noise(20, 24) * 100).astype(dtype)
    assert np.isfinite(predict(tiny_unet, image)).all()


def test_a_constant_image_is_predicted(tiny_unet):
    assert np.isfinite(predict(tiny_unet, np.full((20, 20), 7))).all()


@pytest.mark.parametrize(
    ("image", "cure"),
    [
        (np.full((8, 8), np.nan), "nan_to_num"),
        (np.where(np.eye(8) > 0, np.inf, 0.0), "nan_to_num"),
        (np.zeros((0, 8)), "empty|zero"),
        (np.zeros((8, 8, 5)), "channel"),
        (np.zeros(8), "2D|two|axes|dimension"),
    ],
)
def test_images_that_cannot_be_used_are_refused_with_the_cure(tiny_unet, image, cure):
    with pytest.raises(InputError, match=f"(?i){cure}"):
        predict(tiny_unet, image)


def test_rgb_for_a_grey_model_is_refused(tiny_unet):
    with pytest.raises(InputError, match="takes a grey image, but this is an RGB image"):
        predict(tiny_unet, noise(8, 8, 3))


def test_a_tile_size_too_small_is_refused(tiny_unet):
    with pytest.raises(InputError):
        predict(tiny_unet, noise(8, 8), tile_size=10)


def request_of(image, **options):
    return PredictRequest(SourceImage(image), precision="fp32", **options)


def test_visible_tiles_come_first(tiny_unet):
    visible = (slice(60, 70), slice(60, 70))
    request = request_of(noise(96, 96), visible=visible, tile_size=60)
    tiles = [e for e in predict_tiles(tiny_unet, request) if isinstance(e, TilePredicted)]
    first = tiles[0].inner
    assert first[0].start <= 65 < first[0].stop
    assert first[1].start <= 65 < first[1].stop
    assert [tile.done for tile in tiles] == list(range(1, tiles[0].total + 1))


def test_a_region_equals_the_same_pixels_of_the_whole(tiny_unet):
    image = noise(75, 61)
    whole = predict(tiny_unet, image, precision="fp32")
    region = (slice(21, 40), slice(33, 61))
    part = assemble(predict_tiles(tiny_unet, request_of(image, region=region)), 2, image.shape)
    np.testing.assert_allclose(
        part[(slice(None), *region)], whole[(slice(None), *region)], atol=1e-6
    )
    assert np.isnan(part[:, 0, 0]).all()


def test_stop_ends_before_the_next_tile(tiny_unet):
    stop = threading.Event()
    job = predict_tiles(tiny_unet, request_of(noise(64, 64), tile_size=60), stop)
    next(job)
    stop.set()
    rest = list(job)
    assert rest == [PredictionFinished(1, rest[0].seconds, stopped=True, exact=True)]


def test_out_of_memory_halves_the_tiles_and_says_so(tiny_unet, monkeypatch):
    image = noise(90, 90)
    expected = predict(tiny_unet, image, precision="fp32")
    honest = ExecutionPlan.for_prediction
    largest = tiny_unet.config.geometry.input_size(24)
    calls = []

    def short_of_memory(self, model):
        run = honest(self, model)

        def probabilities(batch):
            calls.append(batch.shape[-1])
            if batch.shape[-1] > largest and len(calls) > 1:
                raise torch.OutOfMemoryError("no memory left")
            return run(batch)

        return probabilities

    monkeypatch.setattr(ExecutionPlan, "for_prediction", short_of_memory)
    geometry = tiny_unet.config.geometry
    events = list(predict_tiles(tiny_unet, request_of(image, tile_size=geometry.input_size(48))))
    notices = [event.message for event in events if isinstance(event, Noticed)]
    assert notices == [f"not enough memory for the tiles; going on with tiles of {largest} pixels"]
    tiles = [event for event in events if isinstance(event, TilePredicted)]
    assert tiles[-1].done == tiles[-1].total
    np.testing.assert_allclose(assemble(events, 2, image.shape), expected, atol=1e-5)


def test_out_of_memory_at_the_smallest_tile_is_an_error(tiny_unet, monkeypatch):
    def no_memory(self, model):
        def probabilities(batch):
            raise torch.OutOfMemoryError("no memory left")

        return probabilities

    monkeypatch.setattr(ExecutionPlan, "for_prediction", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        list(predict_tiles(tiny_unet, request_of(noise(40, 40))))


def test_a_precision_that_changes_the_answer_is_given_up(tiny_unet, monkeypatch):
    image = noise(40, 40)
    expected = predict(tiny_unet, image, precision="fp32")
    honest = ExecutionPlan.for_prediction

    def coarse(self, model):
        run = honest(self, model)
        return (lambda batch: run(batch).round()) if self.dtype == torch.bfloat16 else run

    def always_bf16(config, purpose, precision="auto", device="auto"):
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        return ExecutionPlan(torch.device("cpu"), dtype)

    monkeypatch.setattr(ExecutionPlan, "for_prediction", coarse)
    monkeypatch.setattr(module, "choose_plan", always_bf16)
    events = list(predict_tiles(tiny_unet, PredictRequest(SourceImage(image))))
    assert any(isinstance(e, Noticed) and "float32" in e.message for e in events)
    np.testing.assert_allclose(assemble(events, 2, image.shape), expected, atol=1e-5)


def test_bf16_gives_the_same_answer_within_its_bounds(tiny_unet):
    image = noise(64, 64)
    exact = predict(tiny_unet, image, precision="fp32")
    fast = predict(tiny_unet, image)
    assert np.abs(exact - fast).max() <= 0.02
    assert (exact.argmax(0) != fast.argmax(0)).mean() <= 0.001


def test_training_mode_and_weights_of_the_model_are_left_alone(tiny_unet):
    tiny_unet.train()
    before = {name: value.clone() for name, value in tiny_unet.state_dict().items()}
    predict(tiny_unet, noise(20, 20))
    assert tiny_unet.training
    assert all(torch.equal(before[name], value) for name, value in tiny_unet.state_dict().items())


def test_no_torch_mode_leaks_out_of_a_suspended_job(tiny_unet):
    job = predict_tiles(tiny_unet, request_of(noise(64, 64), tile_size=60))
    next(job)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    job.close()


def test_regions_are_those_of_the_whole_image_with_one_copy_of_the_network(monkeypatch):
    model, source = make_unet(batch_norm=True), SourceImage(noise(60, 70))
    request = PredictRequest(source, precision="fp32")
    whole = assemble(predict_tiles(model, request), 2, source.shape)
    copies = []
    prepare = ExecutionPlan.for_prediction
    monkeypatch.setattr(ExecutionPlan, "for_prediction", lambda *a: copies.append(a) or prepare(*a))
    regions = [(slice(0, 9), slice(3, 20)), (slice(40, 60), slice(50, 70))]
    found = assemble(predict_regions(model, request, regions), 2, source.shape)
    assert len(copies) == 1
    for region in regions:
        np.testing.assert_allclose(
            found[(slice(None), *region)], whole[(slice(None), *region)], atol=1e-5
        )
    assert np.isnan(found[:, 25, 30]).all()


def test_channels_are_taken_from_the_axis_that_has_as_many():
    rng = np.random.default_rng(0)
    model = make_unet(in_channels=5, depth=1)
    last = rng.random((20, 24, 5)).astype(np.float32)
    first = np.ascontiguousarray(np.moveaxis(last, -1, 0))
    request = PredictRequest(SourceImage(last, colours=False), precision="fp32")
    expected = assemble(predict_tiles(model, request), 2, last.shape[:2])
    np.testing.assert_array_equal(predict(model, last, precision="fp32"), expected)
    np.testing.assert_array_equal(predict(model, first, precision="fp32"), expected)
    colours = make_unet(in_channels=3, depth=1)
    image = rng.random((20, 24, 3)).astype(np.float32)
    expected = predict(colours, image, precision="fp32")
    turned = predict(colours, np.moveaxis(image, -1, 0), precision="fp32")
    np.testing.assert_array_equal(turned, expected)
    with pytest.raises(InputError):
        predict(model, rng.random((20, 24, 4)))
