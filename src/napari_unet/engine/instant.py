"""The instant learner: an answer at the end of a stroke, before any network has learned.

A starter network's features of the image are computed once, tile by tile, and kept. A stroke then
costs no more than a small classifier of the features under all strokes, and its answer for what is
on screen. The classifier is linear, in closed form (`napari_unet.model.linear`); when many places
were painted on, hidden units (`napari_unet.model.head`) say what a linear function cannot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_unet.engine.ahead import thread_alone
from napari_unet.engine.device import threads_at_most
from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import PredictionFinished, TilePredicted
from napari_unet.engine.feature_tiles import FeatureTiles
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.stroke_samples import StrokeSamples, chosen_pixels
from napari_unet.model.head import Head, fit_hidden
from napari_unet.model.linear import solve_ridge
from napari_unet.model.starter import Starter
from napari_unet.ops.annotations import BACKGROUND
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box, visible_first

# How much filter responses vary, compared with the network's features: chosen with five strokes a
# class on the sets of docs/benchmarks.md.
_FILTERS = 0.3
# Hidden units count when more than so many places a class (`StrokeSamples.places`) were painted on,
# and fully from so many on. With few, they only learn the strokes by heart. Chosen with 5, 20 and
# 50 strokes a class on the sets of docs/benchmarks.md.
_FEW_PLACES = 50
_MANY_PLACES = 250
# So many times does a pixel count that was drawn between objects to part them.
_BORDER = 10.0
# The logit of a class without strokes: its probability is 0, and it is a finite weight in a file.
_NEVER = -1e4


class InstantLearner:
    """Learns from strokes at once.

    Parameters
    ----------
    starter
        The network whose features it looks at.
    device
        As for `napari_unet.engine.device.resolve_device`.
    """

    def __init__(self, starter: Starter, device: str = "auto") -> None:
        self._starter, self._device = starter, device
        self._image: SourceImage | None = None
        self._features: FeatureTiles | None = None
        self._samples: WeakKeyDictionary[SourceImage, StrokeSamples] = WeakKeyDictionary()
        self._head: Head | None = None
        self._beside = thread_alone("hidden units")

    def look_at(self, image: SourceImage) -> FeatureTiles:
        """Choose the image; what was learned on others is kept, their feature maps are not."""
        if self._features is None or image is not self._image:
            network = self._starter.network
            self._image, self._features = image, FeatureTiles(network, image, self._device)
            for each, samples in list(self._samples.items()):
                looked_at = each is image
                self._samples[each] = samples.taken_up() if looked_at else samples.put_away()
        return self._features

    @property
    def has_learned(self) -> bool:
        """Whether it can answer."""
        return self._head is not None

    @property
    def head(self) -> Head:
        """What was learned: a function of the feature maps.

        Raises
        ------
        NotReady
            If nothing was learned yet.
        """
        if self._head is None:
            raise NotReady("nothing was learned yet; call learn with strokes first")
        return self._head

    def forget(self) -> None:
        """Forget what was learned."""
        self._head = None
        self._samples.clear()

    def learn(self, lessons: Sequence[AnnotatedImage], classes: int, seed: int = 0) -> None:
        """Learn from all strokes of some images, the last of which is looked at.

        Parameters
        ----------
        lessons
            Images and their annotations, strokes of at least two classes among them.
        classes
            How many classes there are; those without strokes are never the answer.
        seed
            Of the choice among many pixels.

        Raises
        ------
        InputError
            If strokes of fewer than two classes are there.
        """
        self._head = self.fit(lessons, classes, seed)

    def fit(self, lessons: Sequence[AnnotatedImage], classes: int, seed: int = 0) -> Head:
        """Return the head that `learn` would answer with."""
        painted_on = [lesson for lesson in lessons if np.any(lesson.annotations)]
        if not painted_on:
            raise InputError("paint strokes of at least two classes first")
        samples = [self._sampled(lesson, seed) for lesson in painted_on]
        labels = np.concatenate([each.labels for each in samples])
        painted = torch.from_numpy(labels.astype(np.int64) - 1)
        counts = torch.bincount(painted, minlength=classes).float()
        present = counts > 0
        if int(present.sum()) < 2:
            raise InputError("paint strokes of at least two classes first")
        features = _one_after_the_other([each.read() for each in samples])
        # Between equal shares of the classes and the shares that were painted: with either, more
        # pixels are wrong on images that nothing was painted on.
        weights = counts.clamp(min=1).rsqrt()[painted]
        weights = weights * torch.cat([each.importance for each in samples])
        weights = weights / weights.sum()
        # On a thread of its own, while the linear function is fitted here by the others: a product
        # of two threads that have one core between them takes longer than one of one thread.
        hidden, threads = None, torch.get_num_threads()
        if (share := _share_of_hidden(samples, classes)) > 0:
            last = self._starter.network.config.base_channels + samples[-1].responses
            arguments = features[:, -last:], painted, weights, classes, seed
            hidden, threads = self._beside.submit(fit_hidden, *arguments), max(threads - 1, 1)
        targets = functional.one_hot(painted, classes).float() * 2 - 1
        penalty = torch.tensor(self._starter.penalty)
        sizes = _equal_sizes(features, weights, samples[-1].responses)
        with threads_at_most(threads):
            found = solve_ridge(features, targets, weights, penalty, sizes) * self._starter.scale
        # A class without strokes has the same low value everywhere, and keeps it.
        found[-1, ~present] = _NEVER
        found[:-1, ~present] = 0
        return Head(found, None if hidden is None else hidden.result().scaled(share))

    def classify(
        self,
        lessons: Sequence[AnnotatedImage],
        mask: NDArray[np.bool_],
        classes: int,
        seed: int = 0,
    ) -> NDArray[np.uint8]:
        """Learn from strokes and say the labels of some pixels of the last image.

        What `learn` learned is not touched.

        Parameters
        ----------
        lessons, classes, seed
            As for `learn`.
        mask
            Shape (Y, X), the pixels of the last image.

        Returns
        -------
        ndarray of uint8, shape (N,)
            Labels 1 to `classes`, in the order of the pixels.
        """
        found = self.fit(lessons, classes, seed)
        features = self._tiles_of(lessons[-1].image).under(*np.nonzero(mask))
        labels: NDArray[np.uint8] = found.at(features).argmax(dim=1).numpy()
        return (labels + 1).astype(np.uint8)

    def _tiles_of(self, image: SourceImage) -> FeatureTiles:
        """Return the feature maps of an image; those of the one that is looked at are kept."""
        if self._image is None or image is self._image:
            return self.look_at(image)
        return FeatureTiles(self._starter.network, image, self._device)

    def _sampled(self, lesson: AnnotatedImage, seed: int) -> StrokeSamples:
        """Features under the strokes of an image; those of other images are remembered."""
        rows, columns, labels = chosen_pixels(lesson.annotations, seed)
        importance = torch.ones(len(labels))
        if lesson.borders is not None:
            drawn = torch.from_numpy(lesson.borders[rows, columns] & (labels == BACKGROUND))
            importance[drawn] = _BORDER
        known = self._samples.get(lesson.image)
        if known is not None and known.is_of(rows, columns):
            return replace(known, labels=labels, importance=importance)
        tiles = self._tiles_of(lesson.image)
        features = (
            tiles.under(rows, columns) if known is None else known.grown(tiles, rows, columns)
        )
        found = StrokeSamples(rows, columns, labels, importance, features, tiles.responses)
        self._samples[lesson.image] = found if lesson.image is self._image else found.put_away()
        return found

    def count_tiles(self, image: SourceImage, region: Box | None) -> int:
        """Return how many tiles touch a region; None is all of the image."""
        return len(self.look_at(image).touching(region))

    def predict(
        self,
        image: SourceImage,
        visible: Box | None = None,
        region: Box | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[TilePredicted | PredictionFinished]:
        """Predict tile by tile, what is on screen first.

        Parameters
        ----------
        image
            The image.
        visible
            What is on screen; its tiles come first.
        region
            Only tiles that touch it; None is all of them.
        stop
            Checked before every tile.
        """
        started = time.monotonic()
        features, head = self.look_at(image), self.head
        tiles = features.touching(region)
        done = 0
        for tile in visible_first(tiles, visible):
            if stop is not None and stop.is_set():
                break
            logits = head.over(features.of(tile), features.side)
            probability = logits[0].softmax(dim=0)[(slice(None), *tile.crop)].numpy()
            done += 1
            yield TilePredicted(tile.inner, np.ascontiguousarray(probability), done, len(tiles))
        yield PredictionFinished(done, time.monotonic() - started, done < len(tiles))


def _share_of_hidden(samples: Sequence[StrokeSamples], classes: int) -> float:
    """Return how much hidden units count, 0 to 1: the more, the more places were painted on."""
    places = np.sum([each.places(classes) for each in samples], axis=0)
    # The geometric mean: a class of one place is not made up for by another of hundreds.
    usual = float(np.exp(np.log(places[places > 0]).mean()))
    return min(max((usual - _FEW_PLACES) / (_MANY_PLACES - _FEW_PLACES), 0.0), 1.0)


def _one_after_the_other(parts: Sequence[Tensor]) -> Tensor:
    """Put rows into one array, unless they are in one already: it may have millions of values."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _equal_sizes(features: Tensor, weights: Tensor, responses: int) -> Tensor:
    """By what to multiply the features, shape (D,): filter responses come in very different sizes.

    The penalty was learned for the network's features alone, which stay as they are.
    """
    sizes = torch.ones(features.shape[1])
    if responses:
        part = features[:, -responses:]
        mean = (weights[:, None] * part).sum(dim=0)
        spread = (weights[:, None] * (part - mean) ** 2).sum(dim=0).sqrt()
        sizes[-responses:] = _FILTERS / spread.clamp(min=1e-6)
    return sizes
