"""The training script of the starter, on a few small scenes."""

import dataclasses

import loop
import numpy as np
import pytest
import torch
from pool import Pool
from starter import Episodes, Settings, Sources, Starter, Training, losses, train

from napari_unet.model.checkpoint import load_model, load_notes

CPU = torch.device("cpu")
SETTINGS = Settings(channels=4, depth=2, steps=2, batch=2, side=64)


@pytest.fixture
def sources(scenes):
    return Sources(SETTINGS, Pool(scenes), None)


def parts(episodes):
    """Each episode by itself."""
    found = []
    for number in range(len(episodes.classes)):
        spans = {
            name: slice(2 * number, 2 * number + 2)
            if name in ("images", "labels", "auxiliary")
            else slice(number, number + 1)
            for name in Episodes.__slots__
        }
        found.append(Episodes(*(getattr(episodes, name)[spans[name]] for name in spans)))
    return found


def test_a_step_has_the_same_episodes_whenever_they_are_drawn(scenes, sources):
    first, again = sources[2], Sources(SETTINGS, Pool(scenes), None)[2]
    for name in Episodes.__slots__:
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.images, sources[3].images)


def test_strokes_are_right_and_all_classes_weigh_the_same(sources):
    for step in range(10):
        for episode in parts(sources[step]):
            painted = episode.weights[0] > 0
            rows, columns = episode.rows[0][painted], episode.columns[0][painted]
            classes = episode.targets[0][painted].argmax(dim=1)
            assert torch.equal(episode.labels[0][rows, columns], classes)
            for number in range(int(episode.classes)):
                share = episode.weights[0][painted][classes == number].sum()
                assert float(share) == pytest.approx(1 / int(episode.classes), abs=1e-5)


def test_episodes_of_a_step_do_not_know_of_each_other(sources):
    torch.manual_seed(0)
    starter = Starter(SETTINGS).eval()
    together = sources[1]
    with torch.no_grad():
        whole = torch.stack(losses(starter, together))
        alone = torch.stack([torch.stack(losses(starter, each)) for each in parts(together)])
    assert whole.numpy() == pytest.approx(alone.mean(dim=0).numpy(), abs=1e-2)


def test_a_class_that_an_episode_lacks_is_never_the_answer(sources):
    torch.manual_seed(0)
    starter = Starter(SETTINGS).eval()
    two = next(e for n in range(20) for e in parts(sources[n]) if int(e.classes) == 2)
    with torch.no_grad():
        right = losses(starter, two)[0]
        impossible = dataclasses.replace(two, labels=torch.full_like(two.labels, 2))
        assert losses(starter, impossible)[0] > 100 * right


def test_what_is_learned_again_and_again_is_known(sources, tmp_path):
    training = Training(
        dataclasses.replace(SETTINGS, steps=40, rate=1e-2), tmp_path / "known.safetensors", CPU
    )
    episodes = sources[0]
    found = [float(training.step(number, episodes)[0]) for number in range(40)]
    assert np.mean(found[-5:]) < 0.8 * np.mean(found[:5])


def test_no_step_leaves_random_weights(sources, tmp_path):
    train(dataclasses.replace(SETTINGS, steps=0), sources, tmp_path / "random.safetensors", CPU)
    torch.manual_seed(SETTINGS.seed)
    weights = Starter(SETTINGS).network.state_dict()
    found = load_model(tmp_path / "random.safetensors").state_dict()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_training_that_was_stopped_goes_on_where_it_was(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_SAVE_EVERY", 1)

    class Interrupted(Sources):
        def __getitem__(self, step):
            if step == 1:
                raise OSError("the machine went down")
            return super().__getitem__(step)

    unbroken, broken = tmp_path / "unbroken.safetensors", tmp_path / "broken.safetensors"
    train(SETTINGS, sources, unbroken, CPU)
    interrupted = Interrupted(SETTINGS, sources._pool, None)
    with pytest.raises(OSError, match="went down"):
        train(SETTINGS, interrupted, broken, CPU)
    train(SETTINGS, sources, broken, CPU)
    assert "going on at step 1" in capsys.readouterr().out
    first, second = (load_model(path).state_dict() for path in (unbroken, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load_notes(broken)["training"]["made"] == 2
    assert load_notes(broken)["ridge"] > 0
