"""The answer at once is scored on all strokes, each answered by what the others teach."""

import threading

import numpy as np
import pytest

from napari_unet import Segmenter
from napari_unet.engine.answer_request import AnswerRequest
from napari_unet.engine.events import ScoreMeasured, TilePredicted
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.scoring import cross_validate


@pytest.fixture
def lesson(two_halves):
    image, annotations = two_halves
    return AnnotatedImage(SourceImage(image), annotations)


class Recorder:
    """Says the label that is asked for, but for a share of it; notes what it was taught."""

    def __init__(self, truth, wrong=None):
        self.truth, self.wrong, self.taught = truth, wrong, []

    def __call__(self, lesson, mask):
        assert not lesson.annotations[mask].any()
        self.taught.append(lesson.annotations.copy())
        answer = self.truth[mask]
        if self.wrong is not None:
            answer[self.wrong[mask]] = 1
        return answer


def test_every_stroke_is_asked_once_and_taught_otherwise(lesson):
    learner = Recorder(lesson.annotations)
    score = cross_validate(learner, lesson, 2)
    assert score.dice == 1
    assert score.strokes == 3
    assert len(learner.taught) == 3
    times = sum((taught > 0).astype(int) for taught in learner.taught)
    np.testing.assert_array_equal(times, np.where(lesson.annotations > 0, 2, 0))


def test_what_is_answered_wrongly_lowers_the_score(lesson):
    wrong = np.zeros(lesson.annotations.shape, bool)
    wrong[:, :60] = True  # half of each stroke of the class is called background
    score = cross_validate(Recorder(lesson.annotations, wrong), lesson, 2)
    assert score.dice_per_class[0] == pytest.approx(0.8)
    assert score.dice_per_class[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize("kept", [1, 2])
def test_one_stroke_of_a_class_is_too_few_to_know(lesson, kept):
    annotations = lesson.annotations.copy()
    if kept == 1:
        annotations[10:, 45:] = 0  # one stroke of the class is left
    else:
        annotations[:, 45:] = 0  # none is
    score = cross_validate(pytest.fail, AnnotatedImage(lesson.image, annotations), 2)
    assert score.dice is None
    assert "two strokes of each class" in score.reason


def test_stop_ends_it(lesson):
    stop = threading.Event()
    stop.set()
    assert cross_validate(pytest.fail, lesson, 2, stop=stop) is None


def test_the_score_comes_after_what_is_on_screen(two_halves):
    image, annotations = two_halves
    segmenter = Segmenter()
    segmenter.set_image(np.tile(image, (5, 5)))
    painted = np.zeros(segmenter.image.shape, np.uint8)
    painted[:64, :80] = annotations
    visible = (slice(0, 60), slice(0, 60))
    events = list(segmenter.answer_job(AnswerRequest(segmenter.image, painted, visible)))
    kinds = [type(event) for event in events]
    assert kinds.index(ScoreMeasured) == 1  # after the one tile that is on screen
    assert kinds.count(TilePredicted) == 4
    [score] = [event for event in events if isinstance(event, ScoreMeasured)]
    assert score.dice > 0.95
    assert score.interval[0] > 0.9


def test_a_part_of_the_image_is_answered_without_a_score(two_halves):
    image, annotations = two_halves
    segmenter = Segmenter()
    segmenter.set_image(image)
    region = (slice(0, 60), slice(0, 60))
    job = segmenter.answer_job(AnswerRequest(segmenter.image, annotations, region, region))
    assert not any(isinstance(event, ScoreMeasured) for event in job)
