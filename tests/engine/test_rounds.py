"""Rounds of learning: taken back by the user, or because they changed what was accepted."""

import gc
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet import Segmenter, UNet
from napari_unet.engine import rounds
from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import RoundChecked, RoundUndone
from napari_unet.engine.finetune import FinetuneRequest
from napari_unet.engine.image import SourceImage
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.starter import Starter

CONFIG = FinetuneConfig(patch_size=20, precision="fp32", learning_rate=1e-2)
BOX = (slice(0, 64), slice(0, 80))


@pytest.fixture
def segmenter(two_halves):
    """A segmenter that answers at once, with strokes on its image."""
    torch.manual_seed(0)
    starter = Starter("test", UNet(3, 2, 4, 2, batch_norm=True).eval(), penalty=0.1, scale=10.0)
    segmenter = Segmenter(starter=starter, config=CONFIG)
    segmenter.set_image(two_halves[0])
    segmenter.annotate(two_halves[1])
    return segmenter


def learn(segmenter, annotations=None, steps=3):
    painted = segmenter.annotations if annotations is None else annotations
    return list(segmenter.fine_tune_job(FinetuneRequest(segmenter.image, painted, steps=steps)))


def weights(segmenter):
    tensors = segmenter._network.model.state_dict().values()
    return torch.cat([value.flatten() for value in tensors])


def test_rounds_are_taken_back_one_by_one(segmenter):
    segmenter.predict()
    learn(segmenter)
    first = weights(segmenter)
    learn(segmenter)
    assert segmenter.rounds == 2
    assert list(segmenter.undo_round_job()) == [RoundUndone(3, 1)]
    assert torch.equal(weights(segmenter), first)
    assert list(segmenter.undo_round_job()) == [RoundUndone(0, 0)]
    assert not segmenter.is_fine_tuned
    with pytest.raises(NotReady, match="no round"):
        list(segmenter.undo_round_job())


def test_before_the_first_round_is_what_was_answered_at_once(segmenter):
    before = segmenter.predict()
    learn(segmenter)
    list(segmenter.undo_round_job())
    assert segmenter.speaker == "at once"
    np.testing.assert_array_equal(segmenter.predict(), before)


def test_what_is_learned_after_a_round_was_taken_back_is_as_if_it_had_not_been(segmenter):
    learn(segmenter)
    learn(segmenter)
    expected = weights(segmenter)
    list(segmenter.undo_round_job())
    learn(segmenter)
    assert torch.equal(weights(segmenter), expected)


def tensors_alive():
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_what_rounds_keep_lies_on_the_disk_and_is_gone_with_them(segmenter, monkeypatch):
    files = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: files.append(make()) or files[-1])
    learn(segmenter)
    network = segmenter._network
    before = tensors_alive()
    for _ in range(20):
        network._rounds.begin(network._trainer, is_first=False)
    assert tensors_alive() == before
    assert sum(not file.closed for file in files) == segmenter.rounds < 20
    list(segmenter.undo_round_job())
    assert sum(not file.closed for file in files) == segmenter.rounds
    del network
    segmenter.start_anew()
    gc.collect()
    assert all(file.closed for file in files)


def test_where_no_file_can_be_written_rounds_are_taken_back_all_the_same(segmenter, monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    segmenter.predict()
    learn(segmenter)
    first = weights(segmenter)
    learn(segmenter)
    list(segmenter.undo_round_job())
    assert torch.equal(weights(segmenter), first)


def test_accepted_pixels_that_stay_keep_the_round(segmenter, two_halves):
    labels = np.where(np.indices((64, 80))[1] < 40, 1, 2).astype(np.uint8)
    labels[:, 36:44] = 0
    segmenter.accept(segmenter.image, BOX, labels)
    checked = learn(segmenter, steps=150)[-1]
    assert isinstance(checked, RoundChecked)
    assert checked.total == (labels > 0).sum()
    assert not checked.taken_back
    assert segmenter.rounds == 1


def test_a_round_that_changes_too_much_is_taken_back(two_halves, monkeypatch):
    torch.manual_seed(0)
    segmenter = Segmenter(UNet(1, 2, 4, 2, batch_norm=True), config=CONFIG)
    segmenter.set_image(two_halves[0])
    segmenter.annotate(two_halves[1])
    learn(segmenter, steps=60)
    before = weights(segmenter)
    accepted = (segmenter.predict().argmax(axis=0) + 1).astype(np.uint8)
    segmenter.accept(segmenter.image, BOX, accepted)
    # Accepted regions are learned from; without that, strokes that say the opposite change all.
    monkeypatch.setattr("napari_unet.engine.learning_network.as_annotations", lambda accepted: {})
    painted = two_halves[1]
    opposite = np.where(painted > 0, 3 - painted, 0).astype(np.uint8)
    checked = learn(segmenter, opposite, steps=150)[-1]
    assert checked.taken_back
    assert checked.changed > rounds.CHANGES_ALLOWED * checked.total
    (image, box, mask), *_ = checked.flips
    assert image is segmenter.image
    assert box == BOX
    assert mask.sum() == checked.changed
    assert torch.equal(weights(segmenter), before)


def test_what_is_withdrawn_is_not_checked(segmenter):
    segmenter.accept(segmenter.image, BOX, np.ones((64, 80), np.uint8))
    segmenter.withdraw(segmenter.image)
    assert not any(isinstance(event, RoundChecked) for event in learn(segmenter))


def test_what_was_accepted_on_an_image_of_other_channels_is_left_alone(segmenter, two_halves):
    colours = np.stack([two_halves[0]] * 3, axis=-1)
    segmenter.accept(SourceImage(colours), BOX, np.ones((64, 80), np.uint8))
    assert not any(isinstance(event, RoundChecked) for event in learn(segmenter))
    segmenter.accept(segmenter.image, BOX, np.ones((64, 80), np.uint8))
    checked = learn(segmenter)[-1]
    assert isinstance(checked, RoundChecked)
    assert checked.total == 64 * 80


def test_other_settings_go_on_from_what_is_shown(segmenter):
    learn(segmenter)
    before = segmenter._network._trainer.shown_model().output.weight
    segmenter.config = replace(CONFIG, learning_rate=1e-9)
    learn(segmenter, steps=1)
    after = segmenter._network._trainer.shown_model().output.weight
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
