"""How probable it is that pixels belong to objects like those that are finished.

A classifier of the starter's features is fitted to the objects and to the thin ring around them, as
to strokes. The click network is told of its answer, as of that of a fine-tuned network.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.events import PieceDone
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.instant import InstantLearner
from napari_unet.model.head import Head
from napari_unet.model.starter import load_starter
from napari_unet.ops.clicks import OBJECT, RING, Outline, known_outlines, objects_as_strokes
from napari_unet.ops.errors import InputError

#: Fewer objects do not tell what is like them.
FEWEST_ALIKE: Final = 2
# How much the logits count of a classifier that learned from a few objects: it is surer than it
# should be. Chosen on six sets, see docs/explanation/clicks.md.
_TRUST: Final = np.float32(0.5)
# Of so many parts of the objects each is judged by what was learned from the others.
_FOLDS: Final = 3


class PixelClassifier:
    """Tells objects of an image from what is around them, pixel by pixel.

    Parameters
    ----------
    image
        The image.
    device
        As for `napari_unet.engine.device.resolve_device`.
    """

    def __init__(self, image: SourceImage, device: str = "auto") -> None:
        self._image = image
        self._learner = InstantLearner(load_starter(), device)
        self._learner.look_at(image)

    def look_at(self, outlines: Iterable[Outline]) -> Iterator[PieceDone]:
        """Compute, tile by tile, what `fitted` needs of these objects: it takes most of the time.

        Yields
        ------
        PieceDone
            After each tile.
        """
        features = self._learner.look_at(self._image)
        for outline in outlines:
            rows, columns = (slice(max(0, s.start - RING), s.stop + RING) for s in outline.box)
            for tile in features.touching((rows, columns)):
                if not features.has(tile):
                    features.of(tile)
                    yield PieceDone()

    def fitted(self, labels: NDArray[np.integer]) -> Head:
        """Return what tells objects from the ring around them.

        Parameters
        ----------
        labels
            Shape (Y, X), that of the image; 0 is no object, or not known.

        Raises
        ------
        InputError
            If there is no object, or nothing beside it.
        """
        return self._learner.fit([AnnotatedImage(self._image, objects_as_strokes(labels))], OBJECT)

    def everywhere_job(
        self, heads: Sequence[Head], stop: threading.Event | None = None
    ) -> Generator[PieceDone, None, NDArray[np.float32] | None]:
        """Say of every pixel how probable it is that it belongs to such an object.

        Parameters
        ----------
        heads
            What was learned; several cost hardly more than one.
        stop
            Checked before every tile.

        Yields
        ------
        PieceDone
            After every tile.

        Returns
        -------
        ndarray of float32 or None
            Shape (len(heads), Y, X), in [0, 1]; None if it was stopped.
        """
        found = np.empty((len(heads), *self._image.shape), np.float32)
        features = self._learner.look_at(self._image)
        for tile in features.tiles:
            if stop is not None and stop.is_set():
                return None
            maps = features.of(tile)
            for head, into in zip(heads, found, strict=True):
                logits = head.over(maps, features.side)[0]
                into[tile.inner] = logits.softmax(dim=0)[OBJECT - 1][tile.crop].numpy()
            yield PieceDone()
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """What is like the finished objects of an image.

    Attributes
    ----------
    head
        What was learned; it holds for other images of the kind, too.
    probability
        Shape (Y, X), in [0, 1]: that a pixel belongs to such an object, with some doubt.
    held_out
        The same by what was learned without some of the objects: without the first, the one after
        `len(held_out)` others, and so on; without the second ...
    """

    head: Head
    probability: NDArray[np.float32]
    held_out: tuple[NDArray[np.float32], ...]


def likeness_job(
    image: SourceImage,
    objects: Sequence[Outline],
    stop: threading.Event | None = None,
    device: str = "auto",
) -> Generator[PieceDone, None, Likeness | None]:
    """Learn what is like some objects, and look for it everywhere.

    Parameters
    ----------
    image
        The image.
    objects
        Where they are.
    stop
        Checked before every tile.
    device
        As for `napari_unet.engine.device.resolve_device`.

    Yields
    ------
    PieceDone
        After every tile.

    Returns
    -------
    Likeness or None
        None if it was stopped, if there are fewer objects than `FEWEST_ALIKE`, or nothing is
        beside them.
    """
    if len(objects) < FEWEST_ALIKE:
        return None
    numbers = np.zeros(image.shape, np.int32)
    for number, each in enumerate(objects, start=1):
        numbers[each.box][each.mask] = number
    try:
        found = yield from classified_job(image, numbers, min(_FOLDS, len(objects)), stop, device)
    except InputError:  # nothing is beside them
        return None
    if found is None:
        return None
    head, probability = found
    told = _doubted(probability)
    return Likeness(head, told[0], tuple(told[1:]))


def classified_job(
    image: SourceImage,
    labels: NDArray[np.integer],
    folds: int = 0,
    stop: threading.Event | None = None,
    device: str = "auto",
) -> Generator[PieceDone, None, tuple[Head, NDArray[np.float32]] | None]:
    """Learn to tell objects from the ring around them, and say so of every pixel.

    Parameters
    ----------
    image
        The image.
    labels
        Shape (Y, X): the objects, from 1 on; 0 is no object, or not known.
    folds
        In how many parts to leave objects out: object n is in part (n - 1) modulo `folds`.
    stop
        Checked before every tile.
    device
        As for `napari_unet.engine.device.resolve_device`.

    Yields
    ------
    PieceDone
        After every tile.

    Returns
    -------
    head : Head
        What was learned from all objects.
    probability : ndarray of float32, shape (1 + folds, Y, X)
        In [0, 1], what it says; and what is said with each of the parts left out. None instead of
        both if it was stopped.

    Raises
    ------
    InputError
        If there is no object, or nothing beside the objects.
    """
    classifier, heads = PixelClassifier(image, device), []
    for piece in classifier.look_at(known_outlines(labels)):
        if stop is not None and stop.is_set():
            return None
        yield piece
    for left_out in (None, *range(folds)):
        kept = True if left_out is None else (labels - 1) % folds != left_out
        heads.append(classifier.fitted(np.where(kept, labels, 0)))
        yield PieceDone()
        if stop is not None and stop.is_set():
            return None
    found = yield from classifier.everywhere_job(heads, stop)
    return None if found is None else (heads[0], found)


def seen_in_job(
    image: SourceImage, head: Head, stop: threading.Event | None = None, device: str = "auto"
) -> Generator[PieceDone, None, NDArray[np.float32] | None]:
    """Look in another image for what is like objects that were learned from; None if stopped.

    Parameters
    ----------
    image
        Of the kind that `head` learned on.
    head
        From `likeness_job`.
    stop, device
        As for `likeness_job`.

    Yields
    ------
    PieceDone
        After every tile.
    """
    found = yield from PixelClassifier(image, device).everywhere_job([head], stop)
    return None if found is None else _doubted(found[0])


def _doubted(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities whose logits are `_TRUST` of those of others."""
    yes, no = probability**_TRUST, (1 - probability) ** _TRUST
    return np.asarray(yes / (yes + no), np.float32)
