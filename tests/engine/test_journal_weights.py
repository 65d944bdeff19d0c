"""The network in a project: learning goes on exactly where it was."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from networks import make_unet

from napari_unet.engine.finetune import FinetuneRequest
from napari_unet.engine.image import SourceImage
from napari_unet.engine.journal.folder import MODELS
from napari_unet.engine.journal.format import JournalError
from napari_unet.engine.journal.weights import (
    load_weights,
    network_mark,
    read_config,
    save_weights,
)
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.starter import Starter

CONFIG = FinetuneConfig(patch_size=20, precision="fp32")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / MODELS).mkdir()
    return tmp_path


def starter():
    network = make_unet(in_channels=3, batch_norm=True)
    return Starter("tiny", network, penalty=0.1, scale=10.0)


def learn(segmenter, source, strokes, steps):
    return list(segmenter.fine_tune_job(FinetuneRequest(source, strokes, steps=steps)))


def saved(segmenter, folder, source):
    return save_weights(segmenter, folder, source)


def loaded(segmenter, folder, model, source):
    return load_weights(segmenter, folder, model, source)


def weights(segmenter):
    return torch.cat([value.flatten().float() for value in segmenter.model.state_dict().values()])


def test_learning_goes_on_exactly_where_it_was(folder, two_halves):
    image, strokes = two_halves
    source = SourceImage(image)
    one = Segmenter(starter=starter(), config=CONFIG)
    learn(one, source, strokes, 4)
    model = saved(one, folder, source)
    two = Segmenter(starter=starter())
    assert loaded(two, folder, model, source)
    assert model.step == 4
    assert two.speaker == one.speaker
    assert two.config == CONFIG
    assert two.answers_at_once
    held = one._network.training.held_out[source], two._network.training.held_out[source]
    np.testing.assert_array_equal(held[0].mask, held[1].mask)
    learn(one, source, strokes, 3)
    learn(two, source, strokes, 3)
    torch.testing.assert_close(one._network.model.state_dict(), two._network.model.state_dict())
    assert two._network.training.step == 7


def test_a_network_without_a_starter_comes_back_by_its_weights(folder, two_halves):
    image, strokes = two_halves
    source = SourceImage(image)
    one = Segmenter(make_unet(), config=CONFIG)
    learn(one, source, strokes, 3)
    model = saved(one, folder, source)
    two = Segmenter(starter=None)
    assert not loaded(two, folder, model, source)
    torch.testing.assert_close(weights(two), weights(one))


def test_a_new_network_comes_back_as_none_and_what_was_accepted_stays(folder, two_halves):
    image, strokes = two_halves
    source = SourceImage(image)
    segmenter = Segmenter(starter=starter(), config=CONFIG)
    learn(segmenter, source, strokes, 2)
    segmenter.accept(source, (slice(0, 2), slice(0, 2)), np.ones((2, 2), np.uint8))
    loaded(segmenter, folder, None, source)
    assert not segmenter.is_fine_tuned
    assert len(segmenter.accepted) == 1


def test_the_mark_changes_with_every_round(two_halves):
    image, strokes = two_halves
    source = SourceImage(image)
    segmenter = Segmenter(starter=starter(), config=CONFIG)
    marks = [network_mark(segmenter)]
    learn(segmenter, source, strokes, 2)
    marks.append(network_mark(segmenter))
    learn(segmenter, source, strokes, 2)
    marks.append(network_mark(segmenter))
    list(segmenter.undo_round_job())
    assert network_mark(segmenter) == marks[1]
    assert len(set(marks)) == 3


def test_a_damaged_file_leaves_the_network_as_it_was(folder, two_halves):
    image, strokes = two_halves
    source = SourceImage(image)
    segmenter = Segmenter(starter=starter(), config=CONFIG)
    learn(segmenter, source, strokes, 2)
    model = saved(segmenter, folder, source)
    learn(segmenter, source, strokes, 2)
    before = network_mark(segmenter)
    path = folder / MODELS / model.name
    contents = bytearray(path.read_bytes())
    contents[-5] ^= 1
    path.write_bytes(contents)
    with pytest.raises(JournalError, match="damaged"):
        loaded(segmenter, folder, model, source)
    assert network_mark(segmenter) == before


def test_of_a_damaged_state_the_weights_are_left(folder, two_halves):
    image, strokes = two_halves
    source = SourceImage(image)
    segmenter = Segmenter(starter=starter(), config=CONFIG)
    learn(segmenter, source, strokes, 2)
    model = saved(segmenter, folder, source)
    expected = weights(segmenter)
    (state,) = (folder / MODELS).glob("*.state.safetensors")
    state.write_bytes(state.read_bytes()[:-100])
    assert not loaded(segmenter, folder, model, source)
    torch.testing.assert_close(weights(segmenter), expected)


def test_a_full_disk_is_told(folder, two_halves, monkeypatch):
    image, strokes = two_halves
    source = SourceImage(image)
    segmenter = Segmenter(starter=starter(), config=CONFIG)
    learn(segmenter, source, strokes, 1)

    def full(path, contents):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_unet.engine.journal.weights.write_file", full)
    with pytest.raises(ValueError, match="no space left"):
        saved(segmenter, folder, source)


def test_settings_of_a_stranger_are_looked_at_first():
    good = json.loads(json.dumps(asdict(FinetuneConfig(learning_rate=1e-3, batch=2))))
    assert read_config(good, CONFIG) == FinetuneConfig(learning_rate=1e-3, batch=2)
    bad = (
        None,
        {},
        {**good, "batch": 10**9},
        {**good, "patch_size": 10**9},
        {**good, "batch": "4"},
        {**good, "optimizer": 3},
        {**good, "unknown": 1},
        {**good, "augment": {**good["augment"], "flip": "yes"}},
    )
    for values in bad:
        with pytest.raises(JournalError, match="settings of learning"):
            read_config(values, CONFIG)


def test_a_state_with_a_flipped_bit_is_not_used(folder, two_halves):
    image, strokes = two_halves
    source = SourceImage(image)
    segmenter = Segmenter(starter=starter(), config=CONFIG)
    learn(segmenter, source, strokes, 2)
    model = saved(segmenter, folder, source)
    (state,) = (folder / MODELS).glob("*.state.safetensors")
    contents = bytearray(state.read_bytes())
    contents[-3] ^= 4
    state.write_bytes(contents)
    assert not loaded(segmenter, folder, model, source)
