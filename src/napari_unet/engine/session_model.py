"""The model of a session: the network that learns or a guest, and the jobs that run on it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.answer_request import AnswerRequest
from napari_unet.engine.beginning import MOST_CLASSES, Beginning
from napari_unet.engine.events import JobEvent, RoundUndone
from napari_unet.engine.exchange.foreign import check_fits
from napari_unet.engine.exchange.open import open_model
from napari_unet.engine.finetune import FinetuneRequest, Mailbox
from napari_unet.engine.image import AnnotatedImage, ImageKind, SourceImage
from napari_unet.engine.learning_network import LearningNetwork, Speaker
from napari_unet.engine.predict import PredictRequest, check_channels, predict_tiles
from napari_unet.engine.rounds import Accepted
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.engine.usage import Usage
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.ops.errors import InputError
from napari_unet.ops.tiling import Box


class SessionModel:
    """Whatever answers in a session, and the jobs on it.

    It knows no strokes: requests bring theirs along. It belongs to the thread that runs the jobs.

    Parameters
    ----------
    beginning
        What a new network begins from.
    model
        A network to go on with, or the path of one that was saved; None: a new one.
    config
        How to learn.

    Attributes
    ----------
    config
        How to learn.
    image
        The image that a model must fit; None for any.
    usage
        How the network is meant to be used, as its file says.
    guest
        A model of another program that predicts in place of the network; None usually.
    accepted
        Regions whose prediction was accepted.

    Raises
    ------
    InputError
        If the model cannot be loaded.
    """

    def __init__(
        self,
        beginning: Beginning,
        model: UNet | str | Path | None = None,
        config: FinetuneConfig | None = None,
    ) -> None:
        self.config = config or FinetuneConfig(seed=beginning.seed)
        self._beginning = beginning
        self._network = LearningNetwork(beginning)
        self.image: SourceImage | None = None
        self.accepted: tuple[Accepted, ...] = ()
        self.usage = Usage()
        self.guest: ForeignModel | None = None
        #: How often the answer became another one: a number to compare.
        self.changes = 0
        if model is not None:
            self.use_model(model)

    @property
    def classes(self) -> int:
        """How many classes there are, background included."""
        return self._network.classes

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
    def begins_from_starter(self) -> bool:
        """Whether a new network would begin from a starter."""
        return self._beginning.starter is not None

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
        self._network = LearningNetwork(self._beginning, network)
        self.guest = None
        self.changes += 1
        self.usage = usage

    def _invite(self, guest: ForeignModel, usage: Usage) -> None:
        """Let a model of another program predict, until something is learned again."""
        if self.image is not None:
            check_fits(guest, self.image.channels, self.image.ndim)
        if guest.classes > MOST_CLASSES:
            raise InputError(
                f"the package's model has {guest.classes} classes; {MOST_CLASSES} can be shown"
            )
        self._network = LearningNetwork(replace(self._beginning, classes=guest.classes))
        self.guest, self.usage = guest, usage
        self.changes += 1

    def start_anew(self, classes: int | None = None) -> None:
        """Forget the network and what was accepted; the next image gets a new one."""
        count = self.classes if classes is None else classes
        self._network = LearningNetwork(replace(self._beginning, classes=count))
        self.guest, self.usage = None, Usage()
        self.accepted = ()
        self.changes += 1
        if self.image is not None:
            self._prepare(self.image)

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
        self.guest = None
        self.changes += 1
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
        self.changes += 1
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

    def _prepare(self, image: SourceImage) -> None:
        self._network.prepare(image, self.config.device)
