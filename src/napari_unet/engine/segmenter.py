"""The facade: one image, its strokes, and the network that learns from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_unet.engine.beginning import Beginning, Channels
from napari_unet.engine.click import Clicker
from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import (
    ScoreMeasured,
    TrainingFinished,
)
from napari_unet.engine.finetune import FinetuneRequest
from napari_unet.engine.image import AnnotatedImage, SourceImage
from napari_unet.engine.predict import PredictRequest, assemble
from napari_unet.engine.session_model import SessionModel
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.starter import USUAL, Starter
from napari_unet.model.unet import UNet
from napari_unet.ops.annotations import check_annotations
from napari_unet.ops.clicks import Outline, checked_clicks
from napari_unet.ops.errors import InputError


class Segmenter(SessionModel):
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
    channels
        Width of the first level of a network with random weights: a number, 64 in the paper; None
        is 16; "auto" measures once which width this machine makes quick steps with. A starter has
        its own width, and "auto" is that one.
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
        If the model or starter cannot be loaded, `classes` is not 2 to 16, or `channels` is not
        possible or named beside a starter.
    """

    def __init__(
        self,
        model: UNet | str | Path | None = None,
        classes: int = 2,
        *,
        starter: Starter | str | Path | None = USUAL,
        channels: Channels = None,
        seed: int = 0,
        config: FinetuneConfig | None = None,
    ) -> None:
        self._painted: dict[SourceImage, NDArray[np.uint8]] = {}
        self._clicker: Clicker | None = None
        # After which change of the model the clicker was told what it says of the image.
        self._hinted_after = -1
        super().__init__(Beginning.chosen(classes, starter, channels, seed), model, config)

    @property
    def annotations(self) -> NDArray[np.uint8] | None:
        """What is painted on the image, shape (Y, X); None if nothing is."""
        return None if self.image is None else self._painted.get(self.image)

    @property
    def annotated_images(self) -> tuple[AnnotatedImage, ...]:
        """All images with strokes, in the order in which they were first painted on."""
        return tuple(AnnotatedImage(*pair) for pair in self._painted.items())

    def start_anew(self, classes: int | None = None) -> None:
        """Forget the network, strokes and what was accepted; the next image gets a new one."""
        self._clicker = None
        self._painted.clear()
        super().start_anew(classes)

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
            self._hinted_after = -1
        if self._hinted_after != self.changes:
            self._clicker.set_hint(1 - self.predict()[0] if self.is_fine_tuned else None)
            self._hinted_after = self.changes
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
        made = checked_clicks(clicks, shape)
        earlier = None if previous is None else Outline.of_mask(np.asarray(previous, bool))
        if earlier is not None and len(made) > 1:  # it answered the others
            earlier = replace(earlier, begun=made[0])
        return clicker.outline(made, earlier).full(shape)

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

    def _need_image(self, call: str) -> SourceImage:
        if self.image is None:
            raise NotReady(f"there is no image yet; call set_image(image) before {call}")
        return self.image
