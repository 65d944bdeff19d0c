import threading

import numpy as np
import pytest
import torch
from networks import make_unet

from napari_unet.engine.averaging import average_over_symmetries, rotated_versions
from napari_unet.engine.events import PredictionFinished, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest, assemble, predict, predict_tiles
from napari_unet.ops.errors import InputError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def blobs(shape=(48, 64)):
    """A smooth image, which interpolation hardly changes."""
    rows, columns = np.indices(shape)
    return (np.sin(rows / 5) * np.cos(columns / 7) + 1).astype(np.float32) / 2


@pytest.mark.parametrize(("turns", "mirrored"), [(1, False), (2, False), (0, True), (3, True)])
def test_the_symmetric_average_turns_with_the_image(turns, mirrored):
    model = make_unet(depth=2)
    image = noise(40, 40)

    def turn(planes):
        planes = np.rot90(planes, turns, (-2, -1))
        return np.ascontiguousarray(planes[..., ::-1] if mirrored else planes)

    straight = predict(model, image, precision="fp32", averaging="symmetries")
    turned = predict(model, turn(image), precision="fp32", averaging="symmetries")
    np.testing.assert_allclose(turned, turn(straight), atol=1e-5)
    alone = predict(model, turn(image), precision="fp32")
    assert np.abs(alone - turn(predict(model, image, precision="fp32"))).max() > 1e-3


@pytest.mark.parametrize("shape", [(40, 56), (33, 7), (1, 30)])
def test_the_symmetric_average_does_not_depend_on_the_tiles(shape):
    model = make_unet(depth=2)
    image = noise(*shape)
    sizes = [model.config.geometry.input_size(inner) for inner in (4, 12, 64)]
    answers = [
        predict(model, image, tile_size=size, precision="fp32", averaging="symmetries")
        for size in sizes
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-5)


def test_averaging_what_is_symmetric_changes_nothing():
    batch = torch.rand(1, 1, 6, 8)
    averaged = average_over_symmetries(lambda x: torch.cat([x, 1 - x], dim=1), batch)
    torch.testing.assert_close(averaged, torch.cat([batch, 1 - batch], dim=1))


def test_a_turned_image_turned_back_is_the_image():
    image = blobs()[None]
    versions = list(rotated_versions(image))
    assert len(versions) == 7
    np.testing.assert_allclose(versions[0][0], image, atol=1e-6)
    for version, turn_back in versions:
        # The frame holds the whole image, and what is interpolated twice is blurred a little.
        assert version.shape[1] * version.shape[2] >= image[0].size
        inside = (0, slice(2, -2), slice(2, -2))
        np.testing.assert_allclose(turn_back(version)[inside], image[inside], atol=0.03)


def test_rotations_average_seven_versions_one_after_the_other():
    model = make_unet(depth=1)
    image = blobs()
    request = PredictRequest(SourceImage(image), precision="fp32", averaging="rotations")
    events = list(predict_tiles(model, request))
    parts = [event for event in events if isinstance(event, TilePredicted)]
    assert [(event.done, event.total) for event in parts] == [(n, 7) for n in range(1, 8)]
    plain = predict(model, image, precision="fp32")
    np.testing.assert_allclose(parts[0].probability, plain, atol=1e-5)
    last = assemble(events, 2, image.shape)
    np.testing.assert_allclose(last.sum(axis=0), 1, atol=1e-5)
    assert np.abs(last - plain).max() > 1e-4
    assert not events[-1].stopped


def test_stop_ends_rotations_with_the_mean_so_far():
    stop = threading.Event()
    request = PredictRequest(SourceImage(blobs()), precision="fp32", averaging="rotations")
    events = []
    for event in predict_tiles(make_unet(depth=1), request, stop):
        events.append(event)
        if isinstance(event, TilePredicted) and event.done == 3:
            stop.set()
    assert isinstance(events[-1], PredictionFinished)
    assert events[-1].stopped
    assert sum(isinstance(event, TilePredicted) for event in events) == 3


def test_an_unknown_averaging_is_refused():
    with pytest.raises(InputError, match="symmetries"):
        PredictRequest(SourceImage(blobs()), averaging="all")
