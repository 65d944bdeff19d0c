"""Training on dense labels: what it must keep, whatever the images are."""

import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.engine.dataset import LabelledImage, LabelledSet
from napari_unet.engine.events import (
    FileSaved,
    ModelMeasured,
    Noticed,
    StepCompleted,
    TrainingFinished,
    ValidationMeasured,
)
from napari_unet.engine.training.patches import DensePatches
from napari_unet.engine.training.recipe import DEFAULT, NUCLEI, PAPER, Recipe
from napari_unet.engine.training.run import check_output, state_path, train_to_file
from napari_unet.engine.training.train import Training, TrainRequest
from napari_unet.engine.usage import load_usage
from napari_unet.model.augment import AugmentConfig
from napari_unet.model.checkpoint import load_model
from napari_unet.ops.errors import InputError
from napari_unet.ops.synthetic import touching_cells

SMALL = DEFAULT.changed(
    base_channels=8, depth=1, patch_size=32, batch=2, learning_rate=1e-2, dropout=0.2
)


def cells(seed, shape=(64, 64), kind="instances"):
    image, labels = touching_cells(shape, seed=seed)
    if kind == "semantic":
        labels = (labels > 0).astype(np.uint8)
    return LabelledImage(f"cells {seed}", image, labels)


def cells_set(*seeds, kind="instances", shape=(64, 64)):
    images = tuple(cells(seed, shape, kind) for seed in seeds)
    return LabelledSet(images, kind, (0, 1))


def request(**changes):
    values = {
        "training": cells_set(1, 2),
        "validation": cells_set(3),
        "recipe": SMALL,
        "steps": 8,
        "validate_every": 4,
        "precision": "fp32",
        **changes,
    }
    return TrainRequest(**values)


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.state_dict().values()]).double()


def finished(events):
    return next(event for event in events if isinstance(event, TrainingFinished))


class TestTraining:
    def test_same_seed_same_weights(self):
        first, second = Training(request()), Training(request())
        list(first.run())
        list(second.run())
        torch.testing.assert_close(
            weights_of(first.model), weights_of(second.model), rtol=0, atol=0
        )
        third = Training(request(seed=1))
        list(third.run())
        assert not torch.equal(weights_of(first.model), weights_of(third.model))

    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_a_killed_training_goes_on_as_if_nothing_had_happened(self, tmp_path, optimizer):
        recipe = SMALL.changed(optimizer=optimizer, learning_rate=1e-3)
        whole = Training(request(recipe=recipe))
        list(whole.run())
        killed = Training(request(recipe=recipe))
        for event in killed.run():
            if isinstance(event, StepCompleted) and event.step == 5:
                killed.save(tmp_path / "state")
                break
        resumed = Training(request(recipe=recipe))
        resumed.resume(tmp_path / "state")
        events = list(resumed.run())
        assert [e.step for e in events if isinstance(e, StepCompleted)] == [6, 7, 8]
        torch.testing.assert_close(
            weights_of(resumed.model), weights_of(whole.model), rtol=0, atol=0
        )
        torch.testing.assert_close(
            weights_of(resumed.best_model()), weights_of(whole.best_model()), rtol=0, atol=0
        )
        assert resumed.history.scores == whole.history.scores
        assert [step for step, _ in resumed.history.losses] == list(range(1, 9))

    @pytest.mark.parametrize(
        "other",
        [
            {"seed": 5},
            {"recipe": SMALL.changed(w0=0.0)},
            {"training": cells_set(1, 4)},
        ],
    )
    def test_the_state_of_another_training_is_refused(self, tmp_path, other):
        training = Training(request(steps=1))
        list(training.run())
        training.save(tmp_path / "state")
        with pytest.raises(InputError, match="other images or with other settings"):
            Training(request(**other)).resume(tmp_path / "state")

    @pytest.mark.parametrize("contents", [b"", b"nonsense", b"\x08" + bytes(7) + b"{}      "])
    def test_a_damaged_state_is_refused(self, tmp_path, contents):
        (tmp_path / "state").write_bytes(contents)
        with pytest.raises(InputError, match="start anew"):
            Training(request()).resume(tmp_path / "state")

    def test_the_best_weights_are_kept_not_the_last(self, monkeypatch):
        training = Training(request(steps=6, validate_every=2))
        scores = iter([0.5, 0.9, 0.1])
        monkeypatch.setattr(
            training._validator, "measure", lambda model: (next(scores), (("a", 0.0),))
        )
        seen = {}
        for event in training.run():
            if isinstance(event, ValidationMeasured):
                seen[event.step] = weights_of(training.model).clone()
        assert training.best_step == 4
        assert torch.equal(weights_of(training.best_model()), seen[4])
        assert not torch.equal(seen[4], seen[6])

    @pytest.mark.parametrize(
        ("schedule", "last", "kept"),
        [("decay", 0.79, 12), ("decay", 0.6, 4), ("constant", 0.79, 4)],
    )
    def test_settled_weights_are_kept_unless_others_were_clearly_better(
        self, monkeypatch, schedule, last, kept
    ):
        """Of many scores that wander, the highest is partly luck."""
        recipe = SMALL.changed(schedule=schedule)
        training = Training(request(steps=12, validate_every=1, recipe=recipe, patience=100))
        wandering = [0.76, 0.78, 0.75, 0.81, 0.77, 0.8, 0.77, 0.78, 0.76, 0.8, 0.77, last]
        scores = iter(wandering)
        monkeypatch.setattr(training._validator, "measure", lambda model: (next(scores), ()))
        list(training.run())
        assert training.best_step == kept

    @pytest.mark.parametrize("schedule", ["constant", "decay"])
    def test_it_ends_when_the_measure_has_stopped_rising(self, monkeypatch, schedule):
        training = Training(
            request(
                steps=1000,
                validate_every=1,
                patience=3,
                recipe=SMALL.changed(schedule=schedule),
            )
        )
        scores = itertools.chain([0.1, 0.2, 0.9], itertools.repeat(0.5))
        monkeypatch.setattr(training._validator, "measure", lambda model: (next(scores), ()))
        rates = []
        for event in training.run():
            if isinstance(event, StepCompleted):
                rates.append(training._trainer._optimizer.param_groups[0]["lr"])
        assert training.ended == "early stopping"
        assert training.best_step == 3
        if schedule == "constant":
            assert len(rates) == 6
        else:
            # Then the learning rate falls to nothing, over 3 tenths of all steps.
            assert 7 <= len(rates) <= 10
            assert rates[-1] < 0.7 * max(rates)

    def test_the_learning_rate_rises_stays_and_falls(self):
        training = Training(request(steps=100, validation=None))
        rates = []
        for event in training.run():
            if isinstance(event, StepCompleted):
                rates.append(training._trainer._optimizer.param_groups[0]["lr"])
        assert rates[0] < 0.1 * SMALL.learning_rate
        np.testing.assert_allclose(rates[25:70], SMALL.learning_rate)
        assert np.all(np.diff(rates[71:]) < 0)
        assert rates[-1] < 0.05 * SMALL.learning_rate

    def test_stop_ends_it_within_a_step_and_keeps_what_was_learned(self):
        stop = threading.Event()
        training = Training(request(steps=1000))
        steps = 0
        for event in training.run(stop):
            if isinstance(event, StepCompleted):
                steps += 1
                if steps == 3:
                    stop.set()
        assert steps == 3
        assert training.ended == "stopped"
        assert training.best_step == 3

    @pytest.mark.parametrize("ending", ["stopped", "abandoned", "failed"])
    def test_however_it_ends_no_thread_is_left(self, monkeypatch, ending):
        before = set(threading.enumerate())
        stop, training = threading.Event(), Training(request(steps=1000, validation=None))
        job = training.run(stop)
        next(job)
        assert set(threading.enumerate()) > before  # one that draws ahead
        if ending == "stopped":
            stop.set()
            list(job)
        elif ending == "abandoned":
            job.close()
        else:
            monkeypatch.setattr(training._trainer, "learn", None)
            with pytest.raises(TypeError):
                list(job)
        assert set(threading.enumerate()) == before

    def test_waiting_is_not_training(self):
        """A dock may hold a training for minutes, while the session predicts."""
        training = Training(request(steps=3))
        started, waited = time.monotonic(), 0.0
        for _ in training.run():
            before = time.monotonic()
            time.sleep(0.4)
            waited += time.monotonic() - before
        assert waited > 1
        assert 0 < training.elapsed < time.monotonic() - started - waited + 0.05

    def test_time_left_counts_down(self):
        events = [e for e in Training(request(steps=10)).run() if isinstance(e, StepCompleted)]
        np.testing.assert_allclose([e.fraction for e in events], np.arange(1, 11) / 10)
        assert events[-1].remaining == pytest.approx(0)
        assert all(event.remaining > 0 for event in events[:-1])

    def test_a_full_disk_is_said_and_training_goes_on(self, tmp_path, monkeypatch):
        from napari_unet.engine.training import pace
        from napari_unet.engine.training import train as module

        def full(path, state):
            raise InputError("state cannot be written: no space left on device; free some")

        monkeypatch.setattr(module, "save_state", full)
        monkeypatch.setattr(pace, "SECONDS_BETWEEN_SAVES", 0.0)
        events = list(Training(request(state_path=tmp_path / "state")).run())
        assert any("no space left" in e.message for e in events if isinstance(e, Noticed))
        assert finished(events).step == 8

    def test_without_validation_and_budget_it_has_no_end(self):
        with pytest.raises(InputError, match="minutes"):
            request(validation=None, steps=None)

    def test_all_background_cannot_be_learned(self):
        nothing = LabelledImage("a", np.zeros((40, 40)), np.zeros((40, 40), int))
        with pytest.raises(InputError, match="nothing to tell apart"):
            Training(request(training=LabelledSet((nothing,), "instances", (0, 1))))

    def test_running_out_of_memory_halves_the_patches(self, monkeypatch):
        training = Training(request(steps=2))
        learn, calls = training._trainer.learn, []

        def short_of_memory(patch):
            calls.append(patch.image.shape[-1])
            if len(calls) == 1:
                raise MemoryError
            return learn(patch)

        monkeypatch.setattr(training._trainer, "learn", short_of_memory)
        events = list(training.run())
        assert calls[1] < calls[0]
        assert any("not enough memory" in e.message for e in events if isinstance(e, Noticed))

    @pytest.mark.parametrize("kind", ["instances", "semantic"])
    def test_it_learns(self, kind):
        training = Training(
            request(
                training=cells_set(1, 2, 3, kind=kind, shape=(96, 96)),
                validation=cells_set(4, kind=kind, shape=(96, 96)),
                steps=100,
                validate_every=50,
                recipe=SMALL.changed(depth=2, augment=AugmentConfig()),
            )
        )
        list(training.run())
        # Before the first step the mean AP is about 0 and the mean IoU below a half.
        assert training.best_score > (0.1 if kind == "instances" else 0.85)


class TestRecipe:
    def test_the_papers_numbers(self):
        network = PAPER.network(1, 2)
        assert (network.base_channels, network.depth, network.batch_norm) == (64, 4, False)
        assert network.output_size(572) == 388 == PAPER.patch_size
        assert (PAPER.optimizer, PAPER.momentum, PAPER.batch) == ("sgd", 0.99, 1)
        assert (PAPER.w0, PAPER.sigma) == (10, 5)
        assert (PAPER.augment.elastic_sigma, PAPER.augment.grid_points) == (10, 3)
        assert PAPER.augment.rotation
        assert PAPER.dropout == 0.5
        assert PAPER.averaging == "rotations"

    def test_patches_of_nuclei_are_bent_as_the_papers_tiles_are(self):
        bent = [each.augment.elastic_sigma / each.patch_size for each in (NUCLEI, PAPER)]
        assert bent[0] == pytest.approx(bent[1], rel=0.2)
        geometry = NUCLEI.network(1, 3).geometry
        inner = -(-NUCLEI.patch_size // geometry.stride) * geometry.stride
        seen = geometry.input_size(inner) ** 2 * NUCLEI.batch
        assert 0.5 < seen / 572**2 < 1  # a step costs no more than one of the paper's size

    def test_it_survives_json(self):
        import json

        changed = DEFAULT.changed(w0=3.0, augment=AugmentConfig.none())
        assert Recipe.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed

    @pytest.mark.parametrize(
        "wrong",
        [{"schedule": "cosine"}, {"averaging": "all"}, {"outline": "outer"}, {"batch": 0}],
    )
    def test_what_is_not_possible_is_refused(self, wrong):
        with pytest.raises(InputError):
            DEFAULT.changed(**wrong)

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(InputError, match="colour"):
            Recipe.from_dict({"colour": "red"})


class TestPatches:
    def patches(self, labelled, seed=0, **changes):
        recipe = SMALL.changed(augment=AugmentConfig.none(), **changes)
        geometry = recipe.network(1, 2).geometry
        return DensePatches(labelled, recipe, geometry, torch.Generator().manual_seed(seed))

    def test_a_rare_class_is_in_every_fourth_patch(self):
        labels = np.zeros((400, 400), int)
        labels[300:310, 50:60] = 1
        image = LabelledImage("a", np.random.default_rng(0).random((400, 400)), labels)
        patches = self.patches(LabelledSet((image,), "instances", (0, 1)), batch=4)
        drawn = [patches.draw(step).annotations for step in range(20)]
        share = np.mean([(part == 2).any() for step in drawn for part in step])
        # One patch in four is laid around a pixel of the class itself.
        assert 0.2 < share < 0.5

    def test_the_papers_patch_is_the_papers(self):
        labelled = cells_set(1, shape=(400, 300))
        geometry = PAPER.network(1, 2).geometry
        patch = DensePatches(labelled, PAPER, geometry, torch.Generator().manual_seed(0)).draw(0)
        assert patch.image.shape == (1, 1, 572, 572)
        assert patch.annotations.shape == patch.weights.shape == (1, 388, 388)

    def test_patches_are_not_larger_than_most_images(self):
        small = cells_set(1, 2, 3, shape=(64, 40)).images
        large = cells_set(4, shape=(300, 300)).images
        labelled = LabelledSet((*small, *large), "instances", (0, 1))
        patches = self.patches(labelled, patch_size=256)
        assert patches.draw(0).annotations.shape[1:] == (64, 64)

    def test_what_is_not_valid_is_not_learned(self):
        labels = np.zeros((64, 64), int)
        labels[10:20, 10:20] = 1
        valid = np.zeros((64, 64), bool)
        valid[:32] = True
        image = LabelledImage("a", np.zeros((64, 64)), labels, valid=valid)
        patches = self.patches(LabelledSet((image,), "semantic", (0, 1)), patch_size=64)
        patch = patches.draw(0)
        assert (patch.weights[patch.annotations == 0] == 0).all()
        assert (patch.annotations > 0).any()


class TestTrainToFile:
    def test_model_and_report_are_left_and_the_state_is_not(self, tmp_path):
        output = tmp_path / "cells.safetensors"
        job = train_to_file(request(state_path=state_path(output)), output)
        events = list(job)
        assert isinstance(events[-1], FileSaved)
        model, report = events[-1].paths
        assert model == output
        assert load_model(model).config.base_channels == 8
        assert "cells 3" in report.read_text("utf-8")
        assert not state_path(output).exists()
        usage = load_usage(model)
        measured = next(event for event in events if isinstance(event, ModelMeasured))
        assert usage.kind == "instances"
        assert usage.averaging == "symmetries"
        assert usage.instances.sentence() == measured.settings
        assert usage.training["score"] == pytest.approx(measured.value, abs=1e-4)

    def test_after_stop_the_same_call_goes_on(self, tmp_path):
        output = tmp_path / "cells.safetensors"
        asked = request(state_path=state_path(output))
        stop = threading.Event()
        for event in train_to_file(asked, output, stop=stop):
            if isinstance(event, StepCompleted) and event.step == 3:
                stop.set()
        assert output.exists()
        assert state_path(output).exists()
        check_output(output)
        events = list(train_to_file(asked, output))
        assert any("from step 3" in e.message for e in events if isinstance(e, Noticed))
        assert finished(events).step == 8
        whole = Training(replace(asked, state_path=None))
        list(whole.run())
        # The extra measurement at the stop may keep other weights, but they were learned alike.
        assert torch.isfinite(weights_of(load_model(output))).all()
        assert not state_path(output).exists()

    def test_an_output_that_exists_is_refused(self, tmp_path):
        output = tmp_path / "cells.safetensors"
        output.write_bytes(b"precious")
        with pytest.raises(InputError, match="exists"):
            check_output(output)
        check_output(output, overwrite=True)
        assert output.read_bytes() == b"precious"

    def test_a_folder_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="folder"):
            check_output(tmp_path)
