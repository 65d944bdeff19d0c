"""The facade: one image, its strokes, and the network that learns from them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import (
    JobEvent,
    RoundChecked,
    RoundUndone,
    ScoreMeasured,
    StepCompleted,
    TrainingFinished,
)
from napari_unet.engine.finetune import FinetuneRequest, Mailbox, finetune
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.instant import InstantLearner
from napari_unet.engine.predict import PredictRequest, assemble, check_channels, predict_tiles
from napari_unet.engine.rounds import (
    Accepted,
    Rounds,
    as_annotations,
    check_accepted,
    is_too_much,
)
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.engine.usage import Usage, load_usage
from napari_unet.model.checkpoint import load_model
from napari_unet.model.starter import USUAL, Starter, adapted, load_starter, set_head
from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.ops.annotations import check_annotations
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box

# A new network with random weights is narrower and flatter than the paper's and has BatchNorm: it
# gets further in the first minute on two cores. Figures: docs/architecture.md.
_NEW_BASE_CHANNELS = 16
_NEW_DEPTH = 3
# Labels are stored in 8 bits and shown in colours that can be told apart.
_MOST_CLASSES = 16


Speaker = Literal["at once", "network"]


@dataclass(frozen=True, slots=True, eq=False)
class AnswerRequest:
    """Which strokes to answer at once.

    Attributes
    ----------
    image
        The image.
    annotations
        Shape (Y, X), integers: 0 not annotated, 1 background, 2 and up classes.
    visible
        What is on screen; its tiles come first.
    region
        Answer only this part of the image; None is all of it.
    others
        Other images with strokes, which are learned from as well.
    borders
        Shape (Y, X): background on the image that was drawn to part objects.
    """

    image: SourceImage
    annotations: NDArray[np.integer]
    visible: Box | None = None
    region: Box | None = None
    others: tuple[AnnotatedImage, ...] = ()
    borders: NDArray[np.bool_] | None = None


class Segmenter:
    """Learn to segment an image from strokes.

    ::

        segmenter = Segmenter(classes=2)
        segmenter.set_image(image)
        segmenter.annotate(strokes)  # 0 not annotated, 1 background, 2 the class
        probability = segmenter.predict()  # at once
        segmenter.fine_tune(seconds=30)
        probability = segmenter.predict()  # better

    Parameters
    ----------
    model
        A network, or the path of one that was saved; None begins from the starter.
    classes
        How many labels are painted, background (label 1) among them. Ignored if `model` is given.
    starter
        What a new network begins from: the name of a bundled starter, the path of another one, or
        None for random weights. Only with a starter is there an answer before anything was
        fine-tuned.
    seed
        Of the new network's weights and of everything random in training. Same seed, same steps,
        same weights, on one machine and in one precision.
    config
        How to learn.

    Attributes
    ----------
    usage
        How the network is meant to be used, as its file says.
    accepted
        Regions whose prediction was accepted.
    speaker
        Whose answer is the better one on strokes that were held out, and is given by `predict`:
        "at once" (a linear classifier on the starter's features) or "network" (fine-tuned).

    Raises
    ------
    InputError
        If the model cannot be loaded or `classes` is not 2 to 16.
    """

    def __init__(
        self,
        model: UNet | str | Path | None = None,
        classes: int = 2,
        *,
        starter: Starter | str | Path | None = USUAL,
        seed: int = 0,
        config: FinetuneConfig | None = None,
    ) -> None:
        if not 2 <= classes <= _MOST_CLASSES:
            raise InputError(f"classes must be 2 to {_MOST_CLASSES}, background included")
        self.config = config or FinetuneConfig(seed=seed)
        self._starter = load_starter(starter) if isinstance(starter, (str, Path)) else starter
        self._instant: InstantLearner | None = None
        self.image: SourceImage | None = None
        self._painted: dict[SourceImage, NDArray[np.uint8]] = {}
        self.accepted: tuple[Accepted, ...] = ()
        self._rounds = Rounds()
        self._has_stepped = False
        self._seed = seed
        self._classes = classes
        self._model: UNet | None = None
        self._trainer: Trainer | None = None
        self._loaded = False
        self.usage = Usage()
        self.speaker: Speaker = "network"
        if model is not None:
            self.use_model(model)

    @property
    def classes(self) -> int:
        """How many classes there are, background included."""
        return self._classes if self._model is None else self._model.config.classes

    @property
    def annotations(self) -> NDArray[np.uint8] | None:
        """What is painted on the image, shape (Y, X); None if nothing is."""
        return None if self.image is None else self._painted.get(self.image)

    @property
    def annotated_images(self) -> tuple[AnnotatedImage, ...]:
        """All images with strokes, in the order in which they were first painted on."""
        return tuple(AnnotatedImage(*pair) for pair in self._painted.items())

    @property
    def model(self) -> UNet:
        """The network.

        Raises
        ------
        NotReady
            If there is none yet: a new one is made for the channels of the first image.
        """
        if self._model is None:
            raise NotReady("there is no network yet; call set_image(image) first, or give a model")
        return self._model

    @property
    def has_learned(self) -> bool:
        """Whether the weights are more than random numbers: loaded, or trained for a step."""
        if self._model is None:
            return False
        answered = self._instant is not None and self._instant.has_learned
        return answered or self.is_fine_tuned

    @property
    def is_fine_tuned(self) -> bool:
        """Whether the network made a step, or was loaded."""
        return self._loaded or self._has_stepped

    @property
    def answers_at_once(self) -> bool:
        """Whether strokes are answered before anything was fine-tuned."""
        return self._instant is not None or (self._model is None and self._starter is not None)

    def use_model(self, model: UNet | str | Path) -> None:
        """Go on with another network; training starts anew from its weights.

        Raises
        ------
        InputError
            If it cannot be loaded, or takes other channels than the present image has.
        """
        network = model if isinstance(model, UNet) else load_model(model)
        usage = Usage() if isinstance(model, UNet) else load_usage(model)
        if self.image is not None:
            check_channels(network, self.image)
        self._model, self._trainer, self._loaded = network, None, True
        self._rounds.clear()
        self._instant = None
        self.usage = usage

    def start_anew(self, classes: int | None = None) -> None:
        """Forget the network; the next image or job gets a new one."""
        self._classes = self.classes if classes is None else classes
        self._model, self._trainer, self._loaded = None, None, False
        self._instant = None
        self._painted.clear()
        self.accepted = ()
        self._rounds.clear()
        self._has_stepped = False
        self.usage = Usage()
        if self.image is not None:
            self._ensure_model(self.image)

    def set_image(self, image: Any) -> None:
        """Choose the image. Strokes on earlier ones are kept, and learned from as well.

        Parameters
        ----------
        image
            Shape (Y, X) or (Y, X, C): grey, RGB or RGBA (alpha is ignored), any real dtype. It is
            held by reference and must not be changed afterwards.

        Raises
        ------
        InputError
            If the image cannot be used, or has other channels than a network that has learned.
        """
        source = image if isinstance(image, SourceImage) else SourceImage(np.asarray(image))
        self._ensure_model(source)
        self.image = source

    def annotate(self, labels: Any) -> None:
        """Set the annotations of the image, in place of earlier ones.

        Parameters
        ----------
        labels
            Shape (Y, X), integers: 0 not annotated, 1 background, 2 to `classes` the classes.

        Raises
        ------
        NotReady
            If there is no image yet.
        InputError
            If the labels do not fit, or hold strokes of fewer than two classes and no other image
            has any.
        """
        image = self._need_image("annotate(labels)")
        alone = not self._others(image)
        self._painted[image] = check_annotations(labels, image.shape, self.classes, alone=alone)

    def forget_image(self, image: SourceImage) -> None:
        """Forget what is painted on an image."""
        self._painted.pop(image, None)

    def _others(self, image: SourceImage) -> tuple[AnnotatedImage, ...]:
        return tuple(each for each in self.annotated_images if each.image is not image)

    def fine_tune(
        self, seconds: float | None = None, steps: int | None = None
    ) -> tuple[TrainingFinished, ScoreMeasured | None]:
        """Learn from the annotations; a later call goes on where this one ends.

        Parameters
        ----------
        seconds, steps
            The budget; at least one of them.

        Returns
        -------
        TrainingFinished
            Steps, seconds and the last loss.
        ScoreMeasured or None
            The score on held-out strokes, or why there is none.

        Raises
        ------
        NotReady
            If there is no image or there are no annotations yet.
        InputError
            If no budget is given.
        """
        image = self._need_image("fine_tune(seconds=...)")
        if self.annotations is None:
            raise NotReady("nothing is annotated yet; call annotate(labels) before fine_tune")
        if seconds is None and steps is None:
            raise InputError("say how long to learn: fine_tune(seconds=30) or fine_tune(steps=100)")
        others = self._others(image)
        request = FinetuneRequest(image, self.annotations, seconds, steps, others)
        score: ScoreMeasured | None = None
        for event in self.fine_tune_job(request):
            if isinstance(event, ScoreMeasured):
                score = event
            elif isinstance(event, TrainingFinished):
                finished = event
        return finished, score

    def predict(self) -> NDArray[np.float32]:
        """Predict the image.

        Strokes that nothing was fine-tuned on yet are answered at once, if there is a starter.

        Returns
        -------
        NDArray
            Shape (classes, Y, X), float32 in [0, 1]; channel k is the class of label k + 1.

        Raises
        ------
        NotReady
            If there is no image yet.
        """
        image = self._need_image("predict()")
        if self._painted:
            self._ensure_model(image)
            self._answer(self.annotated_images)
        return assemble(
            self.predict_job(PredictRequest(image, device=self.config.device)),
            self.classes,
            image.shape,
        )

    def fine_tune_job(
        self,
        request: FinetuneRequest,
        inbox: Mailbox[AnnotatedImage] | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[JobEvent]:
        """Return the fine-tuning job on this network, see `napari_unet.engine.finetune`."""
        self._ensure_model(request.image)
        if self._trainer is None or self._trainer.config != self.config:
            settled = self._instant is not None or self._loaded
            self._trainer = Trainer(self.model, self.config, settled=settled)
        if not self.is_fine_tuned and self._instant is not None:
            here = AnnotatedImage(request.image, request.annotations, request.borders)
            lessons = (*request.others, here)
            self._set_head([self._without_held_out(each) for each in lessons])
        self._rounds.begin(self._trainer, is_first=not self._has_stepped)
        rival = None if self._instant is None else partial(self._rival, request.others)
        accepted = tuple(AnnotatedImage(*each) for each in as_annotations(self.accepted).items())
        request = replace(request, accepted=accepted)
        for event in finetune(self._trainer, request, inbox=inbox, stop=stop, rival=rival):
            self._has_stepped = self._has_stepped or isinstance(event, StepCompleted)
            if isinstance(event, ScoreMeasured):
                self._choose_speaker(event)
            yield event
        if self.accepted:
            yield self._check_round()

    def accept(self, image: SourceImage, box: Box, labels: NDArray[np.uint8]) -> None:
        """Accept the prediction of a region: later rounds learn from it and must not change it.

        Parameters
        ----------
        image
            The image.
        box
            Its rows and columns.
        labels
            Shape of `box`: classes 1, 2, ...; 0 is not accepted.
        """
        self.accepted = (*self.accepted, Accepted(image, box, labels.astype(np.uint8)))

    def withdraw(self, image: SourceImage) -> None:
        """Accept nothing of an image any more."""
        self.accepted = tuple(each for each in self.accepted if each.image is not image)

    @property
    def rounds(self) -> int:
        """How many rounds of learning can be taken back."""
        return len(self._rounds)

    def undo_round_job(self) -> Iterator[RoundUndone]:
        """Take back the latest round of learning.

        Raises
        ------
        NotReady
            If there is none.
        """
        if not self._rounds or self._trainer is None:
            raise NotReady("there is no round of learning to take back")
        self._take_back_round()
        yield RoundUndone(self._trainer.step, len(self._rounds))

    def _take_back_round(self) -> None:
        assert self._trainer is not None
        self._has_stepped = not self._rounds.undo(self._trainer)
        if not self._has_stepped and self._instant is not None and self._instant.has_learned:
            self.speaker = "at once"

    def _check_round(self) -> RoundChecked:
        checked = check_accepted(self.speaking_model(), self.accepted, self.config.device)
        if not is_too_much(checked):
            return checked
        self._take_back_round()
        return replace(checked, taken_back=True)

    def _rival(
        self,
        others: tuple[AnnotatedImage, ...],
        lesson: AnnotatedImage,
        mask: NDArray[np.bool_],
    ) -> NDArray[np.integer]:
        assert self._instant is not None
        lessons = [self._without_held_out(each) for each in others]
        return self._instant.classify([*lessons, lesson], mask, self.classes, self._seed)

    def _choose_speaker(self, score: ScoreMeasured) -> None:
        """Let the network speak unless the answer at once is better on held-out strokes."""
        if score.dice is None or score.at_once is None:
            self.speaker = "network"
        else:
            self.speaker = "network" if score.dice >= score.at_once else "at once"

    def predict_job(
        self, request: PredictRequest, stop: threading.Event | None = None
    ) -> Iterator[JobEvent]:
        """Return the prediction job on this network, see `napari_unet.engine.predict`."""
        self._ensure_model(request.image)
        yield from predict_tiles(self.speaking_model(), request, stop)

    def speaking_model(self) -> UNet:
        """Return the network that `predict` asks.

        It is the one that is fine-tuned, or one with the starter's weights and the head that was
        fitted at once.
        """
        instant = self._instant
        if self.speaker == "network" or instant is None or not instant.has_learned:
            return self.model
        assert self._starter is not None
        network = adapted(self._starter.network, self.model.config.in_channels, self.classes)
        set_head(network, instant.coefficients)
        return network

    def answer_job(
        self, request: AnswerRequest, stop: threading.Event | None = None
    ) -> Iterator[JobEvent]:
        """Answer strokes at once.

        Yields
        ------
        TilePredicted
            What is on screen first.
        PredictionFinished
            Last.

        Raises
        ------
        NotReady
            If there is no starter, or another network was loaded.
        InputError
            If there are not strokes of at least two classes.
        """
        self._ensure_model(request.image)
        if self._instant is None:
            raise NotReady("only a network that begins from a starter answers at once; fine-tune")
        annotations = check_annotations(
            request.annotations, request.image.shape, self.classes, alone=not request.others
        )
        self._instant.look_at(request.image)
        here = AnnotatedImage(request.image, annotations, request.borders)
        self._answer((*request.others, here))
        yield from self._instant.predict(request.image, request.visible, request.region, stop)

    def _answer(self, lessons: Sequence[AnnotatedImage]) -> None:
        """Learn at once, and fit the last layer of a network that was not fine-tuned yet."""
        if self._instant is None:
            return
        self._instant.learn(lessons, self.classes, self._seed)
        if not self.is_fine_tuned:
            self.speaker = "at once"
            set_head(self.model, self._instant.coefficients)

    def _without_held_out(self, lesson: AnnotatedImage) -> AnnotatedImage:
        assert self._trainer is not None
        painted = lesson.annotations.astype(np.uint8)
        learned = self._trainer.hold_out(lesson.image, painted)
        return AnnotatedImage(lesson.image, learned, lesson.borders)

    def _set_head(self, lessons: Sequence[AnnotatedImage]) -> None:
        assert self._instant is not None
        set_head(self.model, self._instant.fit(lessons, self.classes, self._seed))

    def _need_image(self, call: str) -> SourceImage:
        if self.image is None:
            raise NotReady(f"there is no image yet; call set_image(image) before {call}")
        return self.image

    def _ensure_model(self, image: SourceImage) -> None:
        """Make a new network for this image's channels, unless one that has learned is there."""
        if self._model is not None and (
            self.has_learned or self._model.config.in_channels == image.channels
        ):
            check_channels(self._model, image)
            return
        self._trainer, self._loaded = None, False
        if self._starter is not None:
            self._model = adapted(self._starter.network, image.channels, self._classes)
            self._instant = InstantLearner(self._starter, self.config.device)
            return
        config = UNetConfig(
            in_channels=image.channels,
            classes=self._classes,
            base_channels=_NEW_BASE_CHANNELS,
            depth=_NEW_DEPTH,
            batch_norm=True,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._model = UNet.from_config(config)
