"""The facade: one image, its strokes, and the network that learns from them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.click import Clicker
from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import (
    JobEvent,
    RoundUndone,
    ScoreMeasured,
    TrainingFinished,
)
from napari_unet.engine.exchange.foreign import check_fits
from napari_unet.engine.exchange.open import open_model
from napari_unet.engine.finetune import FinetuneRequest, Mailbox
from napari_unet.engine.image import AnnotatedImage, ImageKind, SourceImage
from napari_unet.engine.learning_network import AnswerRequest, LearningNetwork, Speaker
from napari_unet.engine.predict import PredictRequest, assemble, check_channels, predict_tiles
from napari_unet.engine.rounds import (
    Accepted,
)
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.engine.usage import Usage
from napari_unet.model.starter import USUAL, Starter, load_starter
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.annotations import check_annotations
from napari_unet.ops.clicks import Outline
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box

# Labels are stored in 8 bits and shown in colours that can be told apart.
_MOST_CLASSES = 16


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
    guest
        A model of another program that predicts in place of the network; None usually.
    accepted
        Regions whose prediction was accepted.

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
        self._seed = seed
        self._network = LearningNetwork(classes, self._starter, seed=seed)
        self.image: SourceImage | None = None
        self._painted: dict[SourceImage, NDArray[np.uint8]] = {}
        self.accepted: tuple[Accepted, ...] = ()
        self.usage = Usage()
        self.guest: ForeignModel | None = None
        self._clicker: Clicker | None = None
        # Whether the clicker knows what the network says of the image by now.
        self._hint_is_new = False
        if model is not None:
            self.use_model(model)

    @property
    def classes(self) -> int:
        """How many classes there are, background included."""
        return self._network.classes

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
        """The network that `predict` asks, as it is now: a copy of the one that learns.

        Raises
        ------
        NotReady
            If there is none yet: a new one is made for the channels of the first image.
        """
        return self._network.speaking_model()

    @property
    def speaker(self) -> Speaker:
        """Whose answer is better on strokes that were held out, and is given by `predict`.

        "at once" is a small classifier on the starter's features, "network" is fine-tuned.
        """
        return self._network.speaker

    @property
    def has_learned(self) -> bool:
        """Whether it knows anything of the classes: loaded, fine-tuned, or answered at once."""
        return self.guest is not None or self._network.has_learned

    @property
    def is_fine_tuned(self) -> bool:
        """Whether the network made a step, or was loaded."""
        return self._network.is_fine_tuned

    @property
    def takes(self) -> ImageKind | None:
        """Which images it takes; None as long as a new network is made for whatever comes."""
        if self.guest is None and not self._network.is_fine_tuned:
            return None
        config = self._network.model.config if self.guest is None else self.guest.config
        names = self.usage.learned_from.channels
        fit = len(names) == config.in_channels
        return ImageKind(config.in_channels, config.ndim, names if fit else ())

    @property
    def answers_at_once(self) -> bool:
        """Whether strokes are answered before anything was fine-tuned."""
        return self.guest is None and self._network.answers_at_once

    @property
    def rounds(self) -> int:
        """How many rounds of learning can be taken back."""
        return self._network.rounds

    def use_model(self, model: UNet | str | Path) -> None:
        """Go on with another network; training starts anew from its weights.

        Raises
        ------
        InputError
            If it cannot be loaded, or takes other channels than the present image has.
        """
        if isinstance(model, UNet):
            network, usage = model, Usage()
        else:
            opened = open_model(model)
            if isinstance(opened.network, ForeignModel):
                self._invite(opened.network, opened.usage)
                return
            network, usage = opened.network, opened.usage
        if self.image is not None:
            check_channels(network, self.image)
        self._network = LearningNetwork(self.classes, model=network, seed=self._seed)
        self.guest = None
        self._hint_is_new = False
        self.usage = usage

    def _invite(self, guest: ForeignModel, usage: Usage) -> None:
        """Let a model of another program predict, until something is learned again."""
        if self.image is not None:
            check_fits(guest, self.image.channels, self.image.ndim)
        if guest.classes > _MOST_CLASSES:
            raise InputError(
                f"the package's model has {guest.classes} classes; {_MOST_CLASSES} can be shown"
            )
        self._network = LearningNetwork(guest.classes, self._starter, seed=self._seed)
        self.guest, self.usage = guest, usage
        self._hint_is_new = False

    def start_anew(self, classes: int | None = None) -> None:
        """Forget the network, strokes and what was accepted; the next image gets a new one."""
        count = self.classes if classes is None else classes
        self._network = LearningNetwork(count, self._starter, seed=self._seed)
        self.guest = None
        self._clicker = None
        self.usage = Usage()
        self._painted.clear()
        self.accepted = ()
        if self.image is not None:
            self._prepare(self.image)

    def set_image(self, image: Any) -> Self:
        """Choose the image. Strokes on earlier ones are kept, and learned from as well.

        Parameters
        ----------
        image
            Shape (Y, X) or (Y, X, C): grey, RGB or RGBA (alpha is ignored), any real dtype. It is
            held by reference and must not be changed afterwards.

        Returns
        -------
        Segmenter
            This one.

        Raises
        ------
        InputError
            If the image cannot be used, or has other channels than a network that has learned.
        """
        source = image if isinstance(image, SourceImage) else SourceImage(np.asarray(image))
        self._prepare(source)
        self.image, self._clicker = source, None
        return self

    @property
    def clicker(self) -> Clicker:
        """What outlines objects of the image under clicks, and can be adapted to them.

        Raises
        ------
        NotReady
            If there is no image yet.
        """
        image = self._need_image("click([((row, column), True)])")
        if self._clicker is None:
            self._clicker = Clicker(image, device=self.config.device)
            self._hint_is_new = False
        if not self._hint_is_new:
            self._clicker.set_hint(1 - self.predict()[0] if self.is_fine_tuned else None)
            self._hint_is_new = True
        return self._clicker

    def click(
        self,
        clicks: Iterable[tuple[Sequence[float], bool]],
        previous: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.bool_]:
        """Outline the object under clicks.

        What a fine-tuned network says of the image helps.

        Parameters
        ----------
        clicks
            Each ``((row, column), positive)``, in pixels: True is on the object, False is not. All
            clicks for this object, the earlier ones first.
        previous
            The answer to the earlier clicks, shape (Y, X).

        Returns
        -------
        NDArray
            Shape (Y, X), bool.

        Raises
        ------
        NotReady
            If there is no image yet.
        InputError
            If a click lies outside of the image, none is positive, or `previous` does not fit.
        """
        clicker = self.clicker
        shape = clicker.image.shape
        if previous is not None and np.shape(previous) != shape:
            raise InputError(
                f"previous has shape {np.shape(previous)}, the image {shape}; give the answer to "
                "the clicks before on the same image"
            )
        earlier = None if previous is None else Outline.of_mask(np.asarray(previous, bool))
        return clicker.outline(clicks, earlier).full(shape)

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
        if self._painted and self.guest is None:
            self._prepare(image)
            self._network.learn_at_once(self.annotated_images)
        return assemble(
            self.predict_job(PredictRequest(image, device=self.config.device)),
            self.classes,
            image.shape,
        )

    def fine_tune_job(
        self,
        request: FinetuneRequest,
        inbox: Mailbox[tuple[AnnotatedImage, ...]] | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[JobEvent]:
        """Return the fine-tuning job on this network.

        Yields
        ------
        JobEvent
            See `napari_unet.engine.finetune`; `RoundChecked` last if anything is accepted.
        """
        self._prepare(request.image)
        self._hint_is_new, self.guest = False, None
        yield from self._network.fine_tune(request, self.config, self.accepted, inbox, stop)

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

    def undo_round_job(self) -> Iterator[RoundUndone]:
        """Take back the latest round of learning.

        Raises
        ------
        NotReady
            If there is none.
        """
        self._hint_is_new = False
        yield from self._network.undo_round()

    def predict_job(
        self, request: PredictRequest, stop: threading.Event | None = None
    ) -> Iterator[JobEvent]:
        """Return the prediction job on this network, see `napari_unet.engine.predict`."""
        if self.guest is None:
            self._prepare(request.image)
        yield from predict_tiles(self.guest or self.model, request, stop)

    def answer_job(
        self, request: AnswerRequest, stop: threading.Event | None = None
    ) -> Iterator[JobEvent]:
        """Answer strokes at once.

        Yields
        ------
        TilePredicted
            What is on screen first.
        ScoreMeasured
            After what is on screen, if the image has strokes and no region was asked for: how
            well each stroke is answered by what the others teach.
        PredictionFinished
            Last.

        Raises
        ------
        NotReady
            If there is no starter, or another network was loaded.
        InputError
            If there are not strokes of at least two classes.
        """
        self._prepare(request.image)
        yield from self._network.answer(request, stop)

    def _need_image(self, call: str) -> SourceImage:
        if self.image is None:
            raise NotReady(f"there is no image yet; call set_image(image) before {call}")
        return self.image

    def _prepare(self, image: SourceImage) -> None:
        self._network.prepare(image, self.config.device)
