"""Who learns from strokes: a random forest, and networks from random or from trained weights.

A learner is made by name; `LEARNERS` says how. To add one, write a class with the four parts of
`Learner` and put a function that makes it into the table.

The forest needs scikit-learn, which nothing but the benchmarks uses: `pip install scikit-learn`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from skimage.feature import multiscale_basic_features

from napari_unet import Segmenter
from napari_unet.engine.answer_request import AnswerRequest
from napari_unet.engine.image import SourceImage
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.starter import USUAL
from napari_unet.ops.errors import InputError
from napari_unet.ops.images import to_channels_first
from napari_unet.ops.normalize import percentile_normalize

_CORES = 2


class Learner(Protocol):
    """Learns from strokes on one image and predicts any image.

    Attributes
    ----------
    name
        As in `LEARNERS`.
    anytime
        Whether more time makes a difference. False: it learns once, in the time that it takes.
    model
        The file of the network that it starts from, if that can be chosen.
    """

    name: str
    anytime: bool
    model: Path | None

    def start(self, classes: int, seed: int) -> None:
        """Forget everything; there will be so many classes, the background among them."""

    def learn(self, image: NDArray[Any], annotations: NDArray[np.uint8], seconds: float) -> None:
        """Learn for about so many seconds, from image (Y, X) or (Y, X, 3) and labels (Y, X).

        Labels are 0 where nothing is annotated, 1 background, 2 and up classes. Called again with
        the same strokes, it goes on.
        """

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Return probabilities, shape (classes, Y, X), of any image with as many channels."""


@dataclass(frozen=True, slots=True)
class Options:
    """What learners may need to be told.

    Attributes
    ----------
    model
        A starter, other than the usual one.
    """

    model: Path | None = None


class Forest:
    """A random forest on filter responses of every pixel, as ilastik, Labkit and APOC have it.

    Intensity, edges and texture of `skimage.feature.multiscale_basic_features` at widths of 1 to
    16 pixels, of every channel, scaled by its percentiles 1 and 99.8; 100 trees. Classes are not
    balanced: with 5 strokes a class, on 13 sets with two seeds, that gave an IoU of 0.596 on the
    same image and 0.502 on others, balanced subsamples 0.596 and 0.501.
    """

    name = "forest"
    anytime = False
    model: Path | None = None

    def __init__(self) -> None:
        self._classes, self._seed = 2, 0
        self._forest: Any = None
        self._seen: tuple[NDArray[Any], NDArray[np.float32]] | None = None

    def start(self, classes: int, seed: int) -> None:
        """See `Learner`."""
        self._classes, self._seed = classes, seed
        self._forest = self._seen = None

    def learn(self, image: NDArray[Any], annotations: NDArray[np.uint8], seconds: float) -> None:
        """See `Learner`; features are computed anew, as after opening an image, and kept."""
        from sklearn.ensemble import RandomForestClassifier

        painted = annotations > 0
        self._forest = RandomForestClassifier(100, n_jobs=_CORES, random_state=self._seed)
        self._seen = (image, _features(image))
        with _warnings_kept():
            self._forest.fit(self._seen[1][painted], annotations[painted])

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """See `Learner`."""
        if self._forest is None:
            raise InputError("the forest has not learned yet; call learn first")
        seen = self._seen
        features = seen[1] if seen and seen[0] is image else _features(image)
        with _warnings_kept():
            votes = self._forest.predict_proba(features.reshape(-1, features.shape[-1]))
        probability = np.zeros((self._classes, *image.shape[:2]), np.float32)
        for label, share in zip(self._forest.classes_, votes.T, strict=True):
            probability[label - 1] = share.reshape(image.shape[:2])
        return probability


@contextmanager
def _warnings_kept() -> Iterator[None]:
    """Put the warning filters back: scikit-learn's threads set them at the same time, and lose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _features(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the filter responses, shape (Y, X, F)."""
    scaled = percentile_normalize(to_channels_first(image))
    found: NDArray[np.float32] = multiscale_basic_features(
        np.moveaxis(scaled, 0, -1), sigma_min=1, sigma_max=16, channel_axis=-1
    )
    return found


class Network:
    """A U-Net that is fine-tuned on the strokes by `Segmenter`, with its defaults.

    Parameters
    ----------
    name
        As in `LEARNERS`.
    starter
        What to start from; None: random weights, RootPainter's way.
    """

    anytime = True

    def __init__(self, name: str, starter: str | Path | None) -> None:
        self.name, self._starter = name, starter
        self.model = starter if isinstance(starter, Path) else None
        self._classes, self._seed = 2, 0
        self._segmenter: Segmenter | None = None
        self._painted: tuple[NDArray[Any], SourceImage] | None = None

    def start(self, classes: int, seed: int) -> None:
        """See `Learner`."""
        self._classes, self._seed = classes, seed
        self._segmenter = self._painted = None

    def learn(self, image: NDArray[Any], annotations: NDArray[np.uint8], seconds: float) -> None:
        """See `Learner`."""
        source = self._source(image)
        self._segmenter = self._segmenter or self._new()
        self._segmenter.set_image(source)
        self._segmenter.annotate(annotations)
        self._segmenter.fine_tune(seconds=seconds)

    def predict(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """See `Learner`."""
        if self._segmenter is None:
            raise InputError("the network has not learned yet; call learn first")
        known = self._painted is not None and self._painted[0] is image
        self._segmenter.set_image(self._source(image) if known else SourceImage(image))
        return self._segmenter.predict()

    def _source(self, image: NDArray[Any]) -> SourceImage:
        """Give the same object for the same image, so that held-out strokes stay held out."""
        if self._painted is None or self._painted[0] is not image:
            self._painted = (image, SourceImage(image))
        return self._painted[1]

    def _new(self) -> Segmenter:
        return Segmenter(
            classes=self._classes,
            starter=self._starter,
            seed=self._seed,
            config=FinetuneConfig(seed=self._seed),
        )


class Instant(Network):
    """The answer at the end of a stroke: a linear classifier on a starter's features."""

    anytime = False

    def learn(self, image: NDArray[Any], annotations: NDArray[np.uint8], seconds: float) -> None:
        """See `Learner`."""
        source = self._source(image)
        self._segmenter = self._segmenter or self._new()
        self._segmenter.set_image(source)
        self._segmenter.annotate(annotations)
        for _ in self._segmenter.answer_job(AnswerRequest(source, annotations)):
            pass


#: How each learner is made.
LEARNERS: dict[str, Callable[[Options], Learner]] = {
    "forest": lambda _: Forest(),
    "unet-random": lambda _: Network("unet-random", None),
    "unet": lambda options: Network("unet", options.model or USUAL),
    "instant": lambda options: Instant("instant", options.model or USUAL),
}


def make(name: str, options: Options | None = None) -> Learner:
    """Make a learner.

    Raises
    ------
    InputError
        If there is none of that name, or it needs something that `options` do not have.
    """
    if name not in LEARNERS:
        raise InputError(f"there is no learner {name!r}; choose from {', '.join(LEARNERS)}")
    return LEARNERS[name](options or Options())
