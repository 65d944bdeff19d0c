"""An honest score: Dice on strokes that were held out from training."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import ScoreMeasured, TilePredicted
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest, predict_tiles
from napari_unet.engine.trainer import Trainer
from napari_unet.ops.annotations import stroke_boxes
from napari_unet.ops.instances import class_labels
from napari_unet.ops.metrics import dice_per_class

# Measuring the score may take this share of the time, and is done this often at most.
_SHARE_OF_SCORING = 0.2
_SECONDS_BETWEEN_SCORES = 2.0


class Scoring:
    """Measures Dice on the held-out strokes, seldom enough not to hold up learning.

    Parameters
    ----------
    trainer
        Whose weights are measured; it knows which strokes are held out.
    image
        The image.
    """

    def __init__(self, trainer: Trainer, image: SourceImage) -> None:
        self._trainer = trainer
        self._image = image
        self._next = time.monotonic() + _SECONDS_BETWEEN_SCORES

    def is_due(self) -> bool:
        """Say whether it is time for another score."""
        return time.monotonic() >= self._next

    def measure(self, annotations: NDArray[np.uint8]) -> ScoreMeasured:
        """Predict around the held-out strokes and compare.

        Parameters
        ----------
        annotations
            Shape (Y, X), the strokes as they are now.

        Returns
        -------
        ScoreMeasured
            Without a score, and with the reason, if there are too few strokes to know.
        """
        started = time.monotonic()
        score = self._measure(annotations)
        spent = time.monotonic() - started
        pause = max(_SECONDS_BETWEEN_SCORES, spent * (1 / _SHARE_OF_SCORING - 1))
        self._next = time.monotonic() + pause
        return score

    def _measure(self, annotations: NDArray[np.uint8]) -> ScoreMeasured:
        trainer = self._trainer
        held_out = trainer.held_out
        if held_out is None or not held_out.enough:
            reason = held_out.reason if held_out is not None else ""
            return ScoreMeasured(trainer.step, None, (), reason)
        prediction = np.zeros(self._image.shape, np.uint8)
        for region in stroke_boxes(held_out.mask):
            request = PredictRequest(
                self._image, region=region, precision="fast", device=trainer.config.device
            )
            for event in predict_tiles(trainer.model, request):
                if isinstance(event, TilePredicted):
                    prediction[event.inner] = class_labels(event.probability)
        dice = dice_per_class(
            prediction, annotations, trainer.model.config.classes, valid=held_out.mask
        )
        known = [value for value in dice if value is not None]
        return ScoreMeasured(trainer.step, float(np.mean(known)), dice, held_out.reason)
