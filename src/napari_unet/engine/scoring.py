"""An honest score: Dice on strokes that were held out from training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import PieceDone, ScoreMeasured, TilePredicted
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.predict import PredictRequest, predict_regions
from napari_unet.engine.trainer import Trainer
from napari_unet.ops.annotations import stroke_boxes
from napari_unet.ops.instances import class_labels
from napari_unet.ops.stroke_score import StrokeScore, deal_strokes, score_strokes

#: Learns from an image's strokes and says the label of each pixel of a mask, shape (N,).
Rival = Callable[[AnnotatedImage, NDArray[np.bool_]], NDArray[np.integer]]

# Measuring the score may take this share of the time, and is done this often at most.
_SHARE_OF_SCORING = 0.2
_SECONDS_BETWEEN_SCORES = 2.0
# So many times at most is the answer at once learned anew to be measured.
_PARTS = 5


class Scoring:
    """Measures Dice on the held-out strokes, seldom enough not to hold up learning.

    Parameters
    ----------
    trainer
        Whose weights are measured; it knows which strokes are held out.
    image
        The image.
    rival
        Answers the same strokes in another way, which is measured as well.
    stop
        When it is set, a measurement in progress is given up.

    """

    def __init__(
        self,
        trainer: Trainer,
        image: SourceImage,
        rival: Rival | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._trainer = trainer
        self._stop = stop
        self._image = image
        self._rival = rival
        self._next = time.monotonic() + _SECONDS_BETWEEN_SCORES

    def is_due(self) -> bool:
        """Say whether it is time for another score; not for who wants to stop."""
        return time.monotonic() >= self._next and not self._is_stopped()

    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def measure(self, annotations: NDArray[np.uint8]) -> Iterator[PieceDone | ScoreMeasured]:
        """Predict around the held-out strokes and compare.

        Parameters
        ----------
        annotations
            Shape (Y, X), the strokes as they are now.

        Yields
        ------
        PieceDone
            After each tile: a click need not wait for all of them.
        ScoreMeasured
            Last. Without a score, and with the reason, if there are too few strokes to know. None
            if it was stopped meanwhile.
        """
        started = time.monotonic()
        yield from self._measure(annotations)
        spent = time.monotonic() - started
        pause = max(_SECONDS_BETWEEN_SCORES, spent * (1 / _SHARE_OF_SCORING - 1))
        self._next = time.monotonic() + pause

    def _measure(self, annotations: NDArray[np.uint8]) -> Iterator[PieceDone | ScoreMeasured]:
        trainer = self._trainer
        held_out = trainer.held_out.get(self._image)
        if held_out is None or not held_out.enough:
            reason = held_out.reason if held_out is not None else ""
            yield ScoreMeasured(trainer.step, None, (), reason)
            return
        prediction = np.zeros(self._image.shape, np.uint8)
        request = PredictRequest(self._image, precision="fast", device=trainer.config.device)
        regions = stroke_boxes(held_out.mask)
        for event in predict_regions(trainer.shown_model(), request, regions, self._stop):
            if isinstance(event, TilePredicted):
                prediction[event.inner] = class_labels(event.probability)
                yield PieceDone()
        mask, classes = held_out.mask, trainer.model.config.classes
        if self._is_stopped():
            return
        score = score_strokes(prediction[mask], annotations, mask, classes)
        yield ScoreMeasured(
            trainer.step,
            score.dice,
            score.per_class,
            held_out.reason,
            score.interval,
            score.strokes,
            self._rivals_dice(annotations, mask, classes),
        )

    def _rivals_dice(
        self, annotations: NDArray[np.uint8], mask: NDArray[np.bool_], classes: int
    ) -> float | None:
        if self._rival is None:
            return None
        learned = np.where(mask, 0, annotations).astype(np.uint8)
        answer = self._rival(AnnotatedImage(self._image, learned), mask)
        return score_strokes(answer, annotations, mask, classes).dice


def cross_validate(
    learner: Rival,
    lesson: AnnotatedImage,
    classes: int,
    step: int = 0,
    stop: threading.Event | None = None,
) -> ScoreMeasured | None:
    """Score what learns in a moment on all strokes: each is answered by what the others teach.

    Parameters
    ----------
    learner
        Learns from a lesson and says the labels of a mask.
    lesson
        The image and its strokes; lines that part objects are strokes like others.
    classes
        How many classes there are.
    step
        For the event.
    stop
        Checked before each time it learns.

    Returns
    -------
    ScoreMeasured or None
        Without a score, and with the reason, if a class has one stroke alone. None if stopped.
    """
    annotations = lesson.annotations.astype(np.uint8)
    parts = deal_strokes(annotations, _PARTS)
    if len(np.unique(annotations[annotations > 0])) < 2 or parts.max() < 2:
        return ScoreMeasured(step, None, (), "paint two strokes of each class to have a score")
    answer = np.zeros(annotations.shape, np.uint8)
    for part in range(1, int(parts.max()) + 1):
        if stop is not None and stop.is_set():
            return None
        asked = parts == part
        learned = np.where(asked, 0, annotations).astype(np.uint8)
        answer[asked] = learner(AnnotatedImage(lesson.image, learned, lesson.borders), asked)
    mask = annotations > 0
    score: StrokeScore = score_strokes(answer[mask], annotations, mask, classes)
    reason = "each stroke was answered by what the others teach"
    return ScoreMeasured(
        step, score.dice, score.per_class, reason, score.interval, score.strokes, score.dice
    )
