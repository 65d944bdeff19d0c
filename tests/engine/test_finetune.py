import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import make_unet

from napari_unet.engine.events import (
    LearningPlanned,
    Noticed,
    PieceDone,
    ScoreMeasured,
    StepCompleted,
    TrainingFinished,
)
from napari_unet.engine.finetune import FinetuneRequest, Mailbox, finetune
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.patch_plan import PatchPlan
from napari_unet.engine.predict import predict
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.stroke_patches import ErrorMap, StrokePatches
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.ops.errors import InputError

QUICK = FinetuneConfig(patch_size=20, precision="fp32")
# Gets there in a few dozen steps on an image that hardly needs a network.
EAGER = replace(QUICK, learning_rate=1e-2)


def job(trainer, image, annotations, **options):
    budget = {key: options.pop(key) for key in ("steps", "seconds") if key in options}
    source = image if isinstance(image, SourceImage) else SourceImage(image)
    request = FinetuneRequest(source, annotations, **budget)
    return finetune(trainer, request, **options)


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_it_learns_what_was_painted(two_halves):
    image, annotations = two_halves
    trainer = Trainer(make_unet(batch_norm=True, base_channels=8), EAGER)
    events = list(job(trainer, image, annotations, steps=60))
    losses = [event.loss for event in events if isinstance(event, StepCompleted)]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) / 2
    bright = predict(trainer.model, image)[1]
    assert bright[:, 45:].mean() > 0.9
    assert bright[:, :35].mean() < 0.1


def test_the_events_come_in_order(two_halves):
    events = list(job(Trainer(make_unet(), QUICK), *two_halves, steps=3))
    pieces = sum(isinstance(event, PieceDone) for event in events)
    assert pieces, "what is more urgent goes between the tiles of a score"
    assert [type(event) for event in events] == [
        *[StepCompleted] * 3,
        *[PieceDone] * pieces,
        ScoreMeasured,
        TrainingFinished,
    ]
    assert [event.step for event in events[:3]] == [1, 2, 3]
    assert events[2].fraction == 1
    assert not events[-1].stopped


def test_the_same_seed_gives_the_same_weights(two_halves):
    results = []
    for _ in range(2):
        trainer = Trainer(make_unet(), QUICK)
        list(job(trainer, *two_halves, steps=4))
        results.append(weights(trainer.model))
    assert torch.equal(*results)


def test_what_runs_between_two_steps_changes_no_weight(two_halves):
    results = []
    for disturb in (False, True):
        trainer = Trainer(make_unet(), QUICK)
        for _ in job(trainer, *two_halves, steps=4):
            if disturb:
                torch.rand(7)
                predict(trainer.model, two_halves[0])
        results.append(weights(trainer.model))
    assert torch.equal(*results)


def test_two_jobs_go_on_like_one(two_halves):
    image, annotations = two_halves
    whole, parts = (Trainer(make_unet(), QUICK) for _ in range(2))
    list(job(whole, image, annotations, steps=6))
    source = SourceImage(image)
    for steps in (2, 4):
        list(finetune(parts, FinetuneRequest(source, annotations, steps=steps)))
    assert parts.step == 6
    assert torch.equal(weights(whole.model), weights(parts.model))


def test_held_out_strokes_are_not_learned_from(two_halves):
    image, annotations = two_halves
    results = []
    trainer, source = Trainer(make_unet(), QUICK), SourceImage(image)
    list(job(trainer, source, annotations, steps=1))
    held_out = trainer.held_out[source].mask
    assert held_out.any()
    without = np.where(held_out, 0, annotations)
    for strokes in (annotations, without):
        trainer = Trainer(make_unet(), FinetuneConfig(patch_size=20, precision="fp32"))
        if strokes is without:
            trainer.config = FinetuneConfig(patch_size=20, precision="fp32", held_out=0)
        list(job(trainer, image, strokes, steps=3))
        results.append(weights(trainer.model))
    assert torch.equal(*results)


def test_the_score_is_of_the_held_out_strokes(two_halves):
    image, annotations = two_halves
    trainer = Trainer(make_unet(batch_norm=True, base_channels=8), EAGER)
    *_, score, _finished = job(trainer, image, annotations, steps=60)
    assert score.dice == pytest.approx(1, abs=0.05)
    assert len(score.dice_per_class) == 2


def test_too_few_strokes_to_know_is_said(two_halves):
    image, annotations = two_halves
    annotations[10:] = 0
    *_, score, _finished = job(Trainer(make_unet(), QUICK), image, annotations, steps=2)
    assert score.dice is None
    assert "too few strokes" in score.reason


def test_strokes_that_are_added_are_taken_in_at_the_next_step(two_halves):
    image, annotations = two_halves
    first = np.where(np.arange(64)[:, None] < 20, annotations, 0)
    trainer, inbox, source = Trainer(make_unet(), QUICK), Mailbox(), SourceImage(image)
    running = job(trainer, source, first, steps=4, inbox=inbox)
    next(running)
    np.testing.assert_array_equal(trainer.held_out[source].labels, first)
    inbox.put((AnnotatedImage(source, annotations),))
    next(running)
    assert inbox.take() is None
    np.testing.assert_array_equal(trainer.held_out[source].labels, annotations)
    assert trainer.held_out[source].enough
    list(running)
    assert trainer.step == 4


def test_strokes_on_another_plane_are_taken_in_and_those_on_the_first_one_kept(two_halves):
    image, annotations = two_halves
    first, second = SourceImage(image), SourceImage(image + 0.01)
    trainer, inbox = Trainer(make_unet(), QUICK), Mailbox()
    running = job(trainer, first, annotations, steps=4, inbox=inbox)
    next(running)
    inbox.put((AnnotatedImage(second, annotations), AnnotatedImage(first, annotations)))
    *_, score, finished = running
    assert finished.steps == 4
    assert set(trainer.held_out) == {first, second}
    assert score.dice is not None  # still of the image where it began


def test_strokes_on_an_image_of_other_channels_do_not_end_the_job(two_halves):
    image, annotations = two_halves
    grey, colour = SourceImage(image), SourceImage(np.stack([image] * 3, axis=-1))
    trainer, inbox = Trainer(make_unet(), QUICK), Mailbox()
    running = job(trainer, grey, annotations, steps=4, inbox=inbox)
    next(running)
    inbox.put((AnnotatedImage(colour, annotations), AnnotatedImage(grey, annotations)))
    next(running)
    inbox.put((AnnotatedImage(colour, annotations),))
    events = list(running)
    assert any(isinstance(e, Noticed) and "other channels" in e.message for e in events)
    assert trainer.step == 4
    assert set(trainer.held_out) == {grey}


def test_new_strokes_that_cannot_be_used_do_not_end_the_job(two_halves):
    image, annotations = two_halves
    trainer, inbox = Trainer(make_unet(), QUICK), Mailbox()
    running = job(trainer, image, annotations, steps=2, inbox=inbox)
    next(running)
    inbox.put((AnnotatedImage(SourceImage(image), np.zeros((3, 3), np.uint8)),))
    events = list(running)
    assert any(isinstance(e, Noticed) and "earlier strokes" in e.message for e in events)
    assert trainer.step == 2


def test_stop_does_not_wait_for_another_score(two_halves, monkeypatch):
    monkeypatch.setattr("napari_unet.engine.scoring._SECONDS_BETWEEN_SCORES", 0.0)
    monkeypatch.setattr("napari_unet.engine.scoring._SHARE_OF_SCORING", 1.0)
    stop = threading.Event()
    running = job(Trainer(make_unet(), QUICK), *two_halves, stop=stop)
    assert isinstance(next(running), StepCompleted)
    assert any(isinstance(event, ScoreMeasured) for event in running)
    stop.set()
    assert [type(event) for event in running] == [TrainingFinished]


def test_stop_ends_after_the_step_in_progress(two_halves, monkeypatch):
    monkeypatch.setattr("napari_unet.engine.scoring._SECONDS_BETWEEN_SCORES", 0.0)
    monkeypatch.setattr("napari_unet.engine.scoring.predict_regions", pytest.fail)
    stop = threading.Event()
    running = job(Trainer(make_unet(), QUICK), *two_halves, stop=stop)
    next(running)
    stop.set()
    (last,) = running  # no step, and no score: that takes several times as long
    assert last.stopped
    assert last.steps == 1


def test_a_budget_of_seconds_ends_the_job(two_halves):
    events = list(job(Trainer(make_unet(), QUICK), *two_halves, seconds=0.2))
    steps = [event for event in events if isinstance(event, StepCompleted)]
    assert steps[-1].fraction == 1
    assert steps[-1].remaining == 0
    assert not events[-1].stopped


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_kind_of_training_stays_finite(two_halves, optimizer, batch_norm):
    config = FinetuneConfig(optimizer=optimizer, patch_size=20)
    trainer = Trainer(make_unet(batch_norm=batch_norm), config)
    list(job(trainer, *two_halves, steps=5))
    assert torch.isfinite(weights(trainer.model)).all()
    assert not trainer.model.training


def test_an_rgb_image_is_learned_from(two_halves):
    image, annotations = two_halves
    rgb = np.stack([image, image, 1 - image], axis=-1)
    events = list(job(Trainer(make_unet(in_channels=3), QUICK), rgb, annotations, steps=2))
    assert isinstance(events[-1], TrainingFinished)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (5, 5)])
def test_thin_and_small_images_are_learned_from(shape):
    image = np.arange(np.prod(shape), dtype=float).reshape(shape)
    annotations = np.where(image < image.max() / 2, 1, 2)
    events = list(job(Trainer(make_unet(), QUICK), image, annotations, steps=2))
    assert np.isfinite(events[-1].loss)


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (lambda labels: np.zeros_like(labels), "paint"),
        (lambda labels: np.where(labels == 2, 0, labels), "only label 1 .* paint"),
        (lambda labels: labels[:10], "shape|size"),
        (lambda labels: labels.astype(int) - 5, "negative"),
        (lambda labels: labels + 0.5, "integer|whole"),
        (lambda labels: labels * 3, "class"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused(two_halves, change, cure):
    image, annotations = two_halves
    with pytest.raises(InputError, match=f"(?i){cure}"):
        next(job(Trainer(make_unet(), QUICK), image, change(annotations), steps=1))


def test_out_of_memory_halves_the_patches_and_says_so(two_halves, monkeypatch):
    honest = Trainer.learn

    def short_of_memory(self, patch):
        if patch.image.shape[-1] > 52:
            raise torch.OutOfMemoryError("no memory left")
        return honest(self, patch)

    monkeypatch.setattr(Trainer, "learn", short_of_memory)
    events = list(job(Trainer(make_unet(), QUICK), *two_halves, steps=2))
    assert any(isinstance(e, Noticed) and "not enough memory" in e.message for e in events)
    assert events[-1].steps == 2


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam"},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"held_out": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        FinetuneConfig(**options)


def test_the_mailbox_keeps_the_latest():
    box = Mailbox()
    box.put(1)
    box.put(2)
    assert (box.take(), box.take()) == (2, None)


def test_strokes_on_several_images_teach_one_network(two_halves):
    image, annotations = two_halves
    one, other = (np.where(annotations == label, label, 0) for label in (1, 2))
    trainer = Trainer(make_unet(), QUICK)
    request = FinetuneRequest(
        SourceImage(image), one, steps=3, others=(AnnotatedImage(SourceImage(image), other),)
    )
    assert len([e for e in finetune(trainer, request) if isinstance(e, StepCompleted)]) == 3


def test_one_class_on_all_images_is_refused(two_halves):
    image, annotations = two_halves
    one = np.where(annotations == 1, 1, 0)
    request = FinetuneRequest(
        SourceImage(image), one, steps=3, others=(AnnotatedImage(SourceImage(image), one),)
    )
    with pytest.raises(InputError, match="another class"):
        list(finetune(Trainer(make_unet(), QUICK), request))


def test_a_settled_network_keeps_its_statistics(two_halves):
    image, annotations = two_halves
    for settled in (True, False):
        trainer = Trainer(make_unet(batch_norm=True), QUICK, settled=settled)
        before = trainer.model.bottom[1].running_mean.clone()
        list(job(trainer, image, annotations, steps=2))
        assert torch.equal(trainer.model.bottom[1].running_mean, before) == settled


def test_the_score_says_how_good_another_answer_is(two_halves):
    image, annotations = two_halves
    trainer = Trainer(make_unet(), EAGER)

    def all_background(lesson, mask):
        assert not lesson.annotations[mask].any()  # it is not told what it is asked
        return np.ones(mask.sum(), np.uint8)

    *_, score, _finished = job(trainer, image, annotations, steps=2, rival=all_background)
    assert 0.2 < score.at_once < 0.5  # half is right, and the class is never found


def test_a_border_between_objects_weighs_as_much_as_between_touching_ones(two_halves):
    image, annotations = two_halves
    borders = np.zeros(annotations.shape, bool)
    borders[30:33, 5:25] = True  # a stroke of background
    request = FinetuneRequest(SourceImage(image), annotations, borders=borders)
    trainer = Trainer(make_unet(), replace(QUICK, held_out=0))
    with_border, without = (
        StrokePatches(trainer, each)._lessons[0].weights.numpy()
        for each in (request, replace(request, borders=None))
    )
    np.testing.assert_allclose((with_border - without)[borders], trainer.config.w0)
    np.testing.assert_array_equal(with_border[~borders], without[~borders])


def test_half_of_the_patches_lie_where_the_focus_is(two_halves):
    image, annotations = two_halves
    box = (slice(0, 20), slice(0, 40))
    request = FinetuneRequest(SourceImage(image), annotations, focus=box)
    source = StrokePatches(Trainer(make_unet(), replace(QUICK, held_out=0)), request)
    assert set(source._focus) == {1}  # of the other class nothing lies there
    assert (source._focus[1] < 40).all()
    source.draw()


def test_what_was_accepted_is_learned_from_but_for_held_out_strokes(two_halves):
    image, annotations = two_halves
    source = SourceImage(image)
    accepted = np.full(annotations.shape, 2, np.uint8)
    request = FinetuneRequest(source, annotations, accepted=(AnnotatedImage(source, accepted),))
    trainer = Trainer(make_unet(), QUICK)
    lesson = StrokePatches(trainer, request)._lessons[-1]
    held_out = trainer.held_out[source].mask
    assert held_out.any()
    np.testing.assert_array_equal(lesson.annotations.numpy(), np.where(held_out, 0, 2))


def shares_of_two_places(first, second):
    """How often pixels of two squares are drawn, after losses were told of; and which pixels."""
    pixels = np.array([(0, 0), (0, 1), (40, 40), (0, 2), (41, 40)])  # three and two
    errors = ErrorMap(pixels, np.full((4, 4), np.nan))
    for place, loss in enumerate((first, second)):
        if loss is not None:
            errors.remember(place, loss)
    drawn = [errors.draw(share) for share in np.linspace(0, 1, 3000, endpoint=False)]
    return np.bincount([pixel for pixel, _ in drawn], minlength=5) / len(drawn), drawn


def test_all_pixels_are_drawn_alike_as_long_as_nothing_is_known():
    shares, drawn = shares_of_two_places(None, None)
    np.testing.assert_allclose(shares, 1 / 5, atol=1e-3)
    assert {(pixel in (2, 4), place) for pixel, place in drawn} == {(False, 0), (True, 1)}


def test_pixels_of_a_place_that_is_answered_badly_are_drawn_more_often():
    shares, _ = shares_of_two_places(0.1, 0.9)  # relative losses 0.2 and 1.8
    expected = np.array([1.2, 1.2, 2.8, 1.2, 2.8])
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=1e-3)


def test_a_loss_of_nothing_forgets_no_place():
    shares, _ = shares_of_two_places(0.0, 1.0)
    assert shares.min() > 0.1
    shares, _ = shares_of_two_places(0.0, 0.0)
    np.testing.assert_allclose(shares, 1 / 5, atol=1e-3)


def test_learning_tells_where_it_is_wrong(two_halves):
    image, annotations = two_halves
    trainer = Trainer(make_unet(), replace(QUICK, held_out=0))
    source_image = SourceImage(image)
    source = StrokePatches(trainer, FinetuneRequest(source_image, annotations))
    trainer.learn(source.draw())
    source.remember(trainer.patch_losses)
    assert len(trainer.patch_losses) == trainer.patches.batch
    known = [~np.isnan(trainer.patch_losses_on(source_image, label)) for label in (1, 2)]
    assert 1 <= np.sum(known) <= trainer.patches.batch


def test_a_session_says_first_how_it_learns(two_halves):
    image, annotations = two_halves
    segmenter = Segmenter(make_unet(), config=QUICK).set_image(image)
    request = FinetuneRequest(segmenter.image, annotations, steps=1)
    planned, *events = segmenter.fine_tune_job(request)
    assert isinstance(planned, LearningPlanned)
    assert not any(isinstance(event, LearningPlanned) for event in events)
    patches = StrokePatches(Trainer(make_unet(), QUICK), request)
    assert patches.input_size == make_unet().config.geometry.input_size(planned.side)
    assert patches.draw().image.shape[0] == planned.patches
    assert (planned.precision, planned.threads) == ("float32", torch.get_num_threads())


def test_what_was_measured_is_told():
    trainer = Trainer(make_unet(), QUICK)
    trainer.patches = PatchPlan(48, 2, (("2 patches of 48", 0.1), ("2 patches of 64", 0.5)))
    trainer.plan = replace(trainer.plan, dtype=torch.bfloat16)
    assert trainer.planned.words.startswith("2 patches of 48 pixels a step, bfloat16")
    assert "most useful pixels a second" in trainer.planned.reason
    assert "2 patches of 64: 500 ms" in trainer.planned.reason
