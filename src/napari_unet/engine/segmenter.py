"""The facade: one image, its strokes, and the network that learns from them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import (
    JobEvent,
    ScoreMeasured,
    TrainingFinished,
)
from napari_unet.engine.finetune import FinetuneRequest, Mailbox, finetune
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest, assemble, check_channels, predict_tiles
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.engine.usage import Usage, load_usage
from napari_unet.model.checkpoint import load_model
from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.ops.annotations import check_annotations
from napari_unet.ops.errors import InputError

# A new network for strokes is narrower and flatter than the paper's and has BatchNorm: from random
# weights it gets further in the first minute on two cores. Figures: docs/architecture.md.
_NEW_BASE_CHANNELS = 16
_NEW_DEPTH = 3
# Labels are stored in 8 bits and shown in colours that can be told apart.
_MOST_CLASSES = 16


class Segmenter:
    """Learn to segment an image from strokes.

    ::

        segmenter = Segmenter(classes=2)
        segmenter.set_image(image)
        segmenter.annotate(strokes)  # 0 not annotated, 1 background, 2 the class
        segmenter.fine_tune(seconds=30)
        probability = segmenter.predict()

    Parameters
    ----------
    model
        A network, or the path of one that was saved; None starts a new one with random weights.
    classes
        How many labels are painted, background (label 1) among them. Ignored if `model` is given.
    seed
        Of the new network's weights and of everything random in training. Same seed, same steps,
        same weights, on one machine and in one precision.
    config
        How to learn.

    Attributes
    ----------
    usage
        How the network is meant to be used, as its file says.

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
        seed: int = 0,
        config: FinetuneConfig | None = None,
    ) -> None:
        if not 2 <= classes <= _MOST_CLASSES:
            raise InputError(f"classes must be 2 to {_MOST_CLASSES}, background included")
        self.config = config or FinetuneConfig(seed=seed)
        self.image: SourceImage | None = None
        self.annotations: NDArray[np.uint8] | None = None
        self._seed = seed
        self._classes = classes
        self._model: UNet | None = None
        self._trainer: Trainer | None = None
        self._loaded = False
        self.usage = Usage()
        if model is not None:
            self.use_model(model)

    @property
    def classes(self) -> int:
        """How many classes there are, background included."""
        return self._classes if self._model is None else self._model.config.classes

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
        return self._loaded or (self._trainer is not None and self._trainer.step > 0)

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
        self.usage = usage

    def start_anew(self, classes: int | None = None) -> None:
        """Forget the network; the next image or job gets a new one with random weights."""
        self._classes = self.classes if classes is None else classes
        self._model, self._trainer, self._loaded = None, None, False
        self.usage = Usage()
        if self.image is not None:
            self._ensure_model(self.image)

    def set_image(self, image: Any) -> None:
        """Choose the image.

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
        if self.image is None or self.image.shape != source.shape:
            self.annotations = None
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
            If the labels do not fit, or hold strokes of fewer than two classes.
        """
        image = self._need_image("annotate(labels)")
        self.annotations = check_annotations(labels, image.shape, self.classes).copy()

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
        request = FinetuneRequest(image, self.annotations, seconds, steps)
        score: ScoreMeasured | None = None
        for event in self.fine_tune_job(request):
            if isinstance(event, ScoreMeasured):
                score = event
            elif isinstance(event, TrainingFinished):
                finished = event
        return finished, score

    def predict(self) -> NDArray[np.float32]:
        """Predict the image.

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
        return assemble(
            self.predict_job(PredictRequest(image, device=self.config.device)),
            self.classes,
            image.shape,
        )

    def fine_tune_job(
        self,
        request: FinetuneRequest,
        inbox: Mailbox[NDArray[np.integer]] | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[JobEvent]:
        """Return the fine-tuning job on this network, see `napari_unet.engine.finetune`."""
        self._ensure_model(request.image)
        if self._trainer is None or self._trainer.config != self.config:
            self._trainer = Trainer(self.model, self.config)
        yield from finetune(self._trainer, request, inbox=inbox, stop=stop)

    def predict_job(
        self, request: PredictRequest, stop: threading.Event | None = None
    ) -> Iterator[JobEvent]:
        """Return the prediction job on this network, see `napari_unet.engine.predict`."""
        self._ensure_model(request.image)
        yield from predict_tiles(self.model, request, stop)

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
        self._trainer, self._loaded = None, False
