"""How good a network is on images that it does not learn from, and how to cut objects best.

In training the measure decides which weights are kept, on predictions that are as quick as can be.
Afterwards the thresholds of the instances are chosen on the same images and stored in the model.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.averaging import Averaging
from napari_unet.engine.dataset import LabelledImage, LabelledSet
from napari_unet.engine.plan import Precision
from napari_unet.engine.predict import PredictRequest, assemble, predict_tiles
from napari_unet.engine.results import InstanceSettings, Method, find_instances
from napari_unet.engine.training.recipe import Recipe
from napari_unet.model.unet import UNet
from napari_unet.ops.instances import class_labels
from napari_unet.ops.metrics import average_precision, match_objects, mean_iou
from napari_unet.ops.targets import OUTLINE

# Overlaps at which an object counts as found; the mean over them is the measure.
IOU_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SEED_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# Threshold and seed threshold: what border weights do to the probability differs from set to set.
_QUICK_THRESHOLDS = ((0.3, 0.5), (0.5, 0.5), (0.5, 0.8))
# Of equals the first is taken: one that can part touching objects, of which the few validation
# images may have none.
_METHODS: tuple[Method, ...] = ("seeds", "watershed", "components")
# Of the validation images, at most so many pixels are looked at while the network learns.
_PIXELS_IN_TRAINING = 2_000_000

PerImage = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class SettingsChoice:
    """Which settings cut out objects best on the validation images.

    Attributes
    ----------
    settings
        The best ones.
    score
        Their measure, mean over the images.
    per_image
        Name and measure of every image.
    tried
        Every setting that was tried and its measure, best first.
    """

    settings: InstanceSettings
    score: float
    per_image: PerImage
    tried: tuple[tuple[InstanceSettings, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The best weights on the validation images, as they will be used.

    Attributes
    ----------
    measure
        Its name.
    choice
        The best settings and their scores.
    probabilities
        The prediction of each image, (classes, Y, X).
    """

    measure: str
    choice: SettingsChoice
    probabilities: list[NDArray[np.float32]]


class Validator:
    """Measures a network on images held out from training.

    Parameters
    ----------
    validation
        The images, at least one.
    recipe
        Targets and averaging.
    device
        As for `napari_unet.engine.device.resolve_device`.

    Attributes
    ----------
    measure_name
        "mean AP" (average precision over IoU 0.5 to 0.9) for instances, "mean IoU" for classes.
    """

    def __init__(self, validation: LabelledSet, recipe: Recipe, device: str = "auto") -> None:
        self.validation = validation
        self.recipe = recipe
        self._device = device
        self._is_instances = validation.kind == "instances"
        self.measure_name = "mean AP" if self._is_instances else "mean IoU"

    def measure(self, model: UNet) -> tuple[float, PerImage]:
        """Measure quickly: without averaging, in the fastest precision, on so many pixels.

        Returns
        -------
        float
            Mean over the images, 0 to 1, more is better.
        tuple of (str, float)
            Name and measure of every image that was looked at.
        """
        images = _first_pixels(self.validation.images, _PIXELS_IN_TRAINING)
        predicted = [self.predict(model, image, "fast", "none") for image in images]
        if not self._is_instances:
            scores = [self._class_score(p, i) for p, i in zip(predicted, images, strict=True)]
            return _mean(scores), _named(images, scores)
        best = max(
            (
                self._object_scores(
                    predicted, images, replace(self._basis(), threshold=low, seed_threshold=high)
                )
                for low, high in _QUICK_THRESHOLDS
            ),
            key=_mean,
        )
        return _mean(best), _named(images, best)

    def predict(
        self,
        model: UNet,
        image: LabelledImage,
        precision: Precision = "auto",
        averaging: Averaging | None = None,
        stop: threading.Event | None = None,
    ) -> NDArray[np.float32]:
        """Predict an image; shape (classes, *shape). `averaging` None is the recipe's."""
        request = PredictRequest(
            image.source(),
            precision=precision,
            device=self._device,
            averaging=self.recipe.averaging if averaging is None else averaging,
        )
        events = predict_tiles(model, request, stop)
        return assemble(events, model.config.classes, image.labels.shape)

    def choose_settings(self, probabilities: Sequence[NDArray[np.float32]]) -> SettingsChoice:
        """Find how objects are cut out best, one setting after the other.

        Parameters
        ----------
        probabilities
            The prediction of each validation image, (classes, Y, X).

        Returns
        -------
        SettingsChoice
            For classes the settings are the usual ones, and nothing is tried.
        """
        images = self.validation.images
        if not self._is_instances:
            scores = [self._class_score(p, i) for p, i in zip(probabilities, images, strict=True)]
            return SettingsChoice(InstanceSettings(), _mean(scores), _named(images, scores), ())
        tried: dict[InstanceSettings, list[float]] = {}

        def better(candidates: Sequence[InstanceSettings]) -> InstanceSettings:
            for settings in candidates:
                if settings not in tried:
                    tried[settings] = self._object_scores(probabilities, images, settings)
            # Of equals the first.
            return max(tried, key=lambda settings: _mean(tried[settings]))

        best = better([replace(self._basis(), method=method) for method in _METHODS])
        best = better([replace(best, fill_holes=not best.fill_holes)])
        for _ in range(2):
            best = better([replace(best, threshold=value) for value in _THRESHOLDS])
            best = better(
                [replace(best, method="seeds", seed_threshold=value) for value in _SEED_THRESHOLDS]
            )
            best = better([replace(best, min_size=value) for value in self._sizes()])
        ranked = sorted(tried, key=lambda settings: -_mean(tried[settings]))
        return SettingsChoice(
            best,
            _mean(tried[best]),
            _named(images, tried[best]),
            tuple((settings, _mean(tried[settings])) for settings in ranked),
        )

    def _basis(self) -> InstanceSettings:
        outline = OUTLINE if self.recipe.outline != "none" else None
        return InstanceSettings("seeds", outline_label=outline, fill_holes=True)

    def _sizes(self) -> tuple[int, ...]:
        """Least sizes worth trying: up to the smallest tenth of the true objects."""
        sizes = np.concatenate(
            [
                np.bincount(np.unique(i.labels, return_inverse=True)[1].ravel())[1:]
                for i in self.validation.images
            ]
        )
        if not len(sizes):
            return (16,)
        small = float(np.percentile(sizes, 10))
        return tuple(sorted({1, 16, int(small / 4), int(small / 2), int(small)} - {0}))

    def _object_scores(
        self,
        probabilities: Sequence[NDArray[np.float32]],
        images: Sequence[LabelledImage],
        settings: InstanceSettings,
    ) -> list[float]:
        scores = []
        for probability, image in zip(probabilities, images, strict=True):
            objects = find_instances(probability, settings, image.source().spacing)
            truth = image.labels
            if image.valid is not None:
                objects, truth = objects * image.valid, truth * image.valid
            precision = average_precision(match_objects(objects, truth), IOU_THRESHOLDS)
            scores.append(float(np.mean(precision)))
        return scores

    def _class_score(self, probability: NDArray[np.float32], image: LabelledImage) -> float:
        values = np.asarray(self.validation.class_values)
        truth = np.searchsorted(values, image.labels).astype(np.uint8) + 1
        if image.valid is not None:
            truth[~image.valid] = 0
        return mean_iou(class_labels(probability), truth, len(values))


def _first_pixels(images: Sequence[LabelledImage], limit: int) -> Sequence[LabelledImage]:
    """Take images, evenly over the whole set, until there are enough pixels; one at least."""
    total = sum(image.labels.size for image in images)
    count = max(1, int(len(images) * min(1.0, limit / max(total, 1))))
    chosen = np.linspace(0, len(images) - 1, count).round().astype(int)
    return [images[index] for index in chosen]


def _named(images: Sequence[LabelledImage], scores: Sequence[float]) -> PerImage:
    return tuple((image.name, score) for image, score in zip(images, scores, strict=True))


def _mean(scores: Sequence[float]) -> float:
    return float(np.mean(scores))
