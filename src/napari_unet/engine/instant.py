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
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_unet.engine.ahead import thread_alone
from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import PredictionFinished, TilePredicted
from napari_unet.engine.feature_tiles import FeatureTiles
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.kept_tensors import KeptTensors
from napari_unet.model.head import Head, HiddenUnits, fit_hidden
from napari_unet.model.linear import solve_ridge
from napari_unet.model.starter import Starter
from napari_unet.ops.annotations import BACKGROUND, NOT_ANNOTATED
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box, visible_first

# Of each class, so many stroke pixels at most are looked at: more say little and cost time.
_PIXELS_OF_A_CLASS = 6000
# How much filter responses vary, compared with the network's features: chosen with five strokes a
# class on the sets of docs/benchmarks.md.
_FILTERS = 0.3
# Hidden units count when more than so many places a class were painted on, and fully from so many
# on; a place is a square of so many pixels. With few, they only learn the strokes by heart. Chosen
# with 5, 20 and 50 strokes a class on the sets of docs/benchmarks.md.
_FEW_PLACES = 50
_MANY_PLACES = 250
_PLACE = 8
# So many times does a pixel count that was drawn between objects to part them.
_BORDER = 10.0
# Bytes of features under the strokes of an image that is not looked at; more lie on the disk. An
# image that was painted all over has 24 MiB of them, which are read in 20 ms.
_IN_MEMORY = 4 * 2**20
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
        self._samples: WeakKeyDictionary[SourceImage, _Samples] = WeakKeyDictionary()
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
        features = torch.cat([each.read() for each in samples])
        # Between equal shares of the classes and the shares that were painted: with either, more
        # pixels are wrong on images that nothing was painted on.
        weights = counts.clamp(min=1).rsqrt()[painted]
        weights = weights * torch.cat([each.importance for each in samples])
        weights = weights / weights.sum()
        # On a thread of its own, while the linear function is fitted here.
        hidden = self._beside.submit(
            self._hidden, samples, features, painted, weights, classes, seed
        )
        targets = functional.one_hot(painted, classes).float() * 2 - 1
        penalty = torch.tensor(self._starter.penalty)
        sizes = _equal_sizes(features, weights, samples[-1].responses)
        found = solve_ridge(features * sizes, targets, weights, penalty) * self._starter.scale
        found[:-1] *= sizes[:, None]
        # A class without strokes has the same low value everywhere, and keeps it.
        found[-1, ~present] = _NEVER
        found[:-1, ~present] = 0
        return Head(found, hidden.result())

    def _hidden(
        self,
        samples: Sequence[_Samples],
        features: Tensor,
        painted: Tensor,
        weights: Tensor,
        classes: int,
        seed: int,
    ) -> HiddenUnits | None:
        """Fit hidden units, unless few places were painted on; the more, the more they count."""
        places = np.sum([each.places(classes) for each in samples], axis=0)
        # The geometric mean: a class of one place is not made up for by another of hundreds.
        usual = float(np.exp(np.log(places[places > 0]).mean()))
        share = (usual - _FEW_PLACES) / (_MANY_PLACES - _FEW_PLACES)
        if share <= 0:
            return None
        last = self._starter.network.config.base_channels + samples[-1].responses
        hidden = fit_hidden(features[:, -last:], painted, weights, classes, seed)
        return hidden.scaled(min(share, 1.0))

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

    def _sampled(self, lesson: AnnotatedImage, seed: int) -> _Samples:
        """Features under the strokes of an image; those of other images are remembered."""
        rows, columns, labels = _chosen_pixels(lesson.annotations, seed)
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
        found = _Samples(rows, columns, labels, importance, features, tiles.responses)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """Pixels under the strokes of an image, their labels and features."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    labels: NDArray[np.integer]
    importance: Tensor
    features: Tensor | KeptTensors
    responses: int

    def put_away(self) -> _Samples:
        """Return the same with many features on the disk."""
        features = self.features
        if isinstance(features, KeptTensors) or features.nbytes <= _IN_MEMORY:
            return self
        return replace(self, features=KeptTensors({"features": features.contiguous()}))

    def taken_up(self) -> _Samples:
        """Return the same with all features in memory."""
        return replace(self, features=self.read())

    def read(self) -> Tensor:
        """Return the features, shape (N, D)."""
        features = self.features
        return features.read()["features"] if isinstance(features, KeptTensors) else features

    def grown(
        self, tiles: FeatureTiles, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> Tensor:
        """Return the features of other pixels of the same image; those that are here are copied.

        A stroke more leaves most pixels as they were.
        """
        across = 1 + int(max(columns.max(), self.columns.max()))
        _, new, old = np.intersect1d(
            rows * across + columns,
            self.rows * across + self.columns,
            assume_unique=True,
            return_indices=True,
        )
        missing = np.ones(len(rows), np.bool_)
        missing[new] = False
        known = self.read()
        found = torch.empty(len(rows), known.shape[1])
        found[torch.from_numpy(new)] = known[torch.from_numpy(old)]
        if missing.any():
            found[torch.from_numpy(missing)] = tiles.under(rows[missing], columns[missing])
        return found

    def is_of(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> bool:
        """Say whether these are the pixels."""
        return np.array_equal(rows, self.rows) and np.array_equal(columns, self.columns)

    def places(self, classes: int) -> NDArray[np.intp]:
        """Return in how many places each class was painted, shape (classes,)."""
        columns = self.columns // _PLACE
        across = int(columns.max(initial=0)) + 1
        places = self.rows // _PLACE * across + columns
        found = np.unique(places * classes + (self.labels.astype(np.intp) - 1))
        return np.bincount(found % classes, minlength=classes)


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


def _chosen_pixels(
    annotations: NDArray[np.integer], seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.integer]]:
    """Rows, columns and labels of the annotated pixels, of each label not too many.

    Each pixel has its turn, whatever else is annotated, so that a stroke more replaces few of those
    that were chosen before: their features are known, and the answer elsewhere stays as it was.
    """
    flat = annotations.ravel()
    parts = []
    for label in np.unique(flat[flat != NOT_ANNOTATED]):
        pixels = np.flatnonzero(flat == label)
        if len(pixels) > _PIXELS_OF_A_CLASS:
            first = np.argpartition(_turns(pixels, seed), _PIXELS_OF_A_CLASS)
            pixels = np.sort(pixels[first[:_PIXELS_OF_A_CLASS]])
        parts.append(pixels)
    chosen = np.concatenate(parts) if parts else np.zeros(0, np.intp)
    rows, columns = np.divmod(chosen, annotations.shape[1])
    return rows, columns, flat[chosen]


def _turns(pixels: NDArray[np.intp], seed: int) -> NDArray[np.uint64]:
    """Return a number for each pixel that looks random (the mixer of splitmix64)."""
    mixed = pixels.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    found: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return found
