"""The network of a session: it answers strokes at once, is fine-tuned, and speaks.

Two answers stand beside each other: a linear classifier on the starter's features, fitted at the
end of a stroke, and the fine-tuned network. Whichever is better on held-out strokes speaks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.answer_request import AnswerRequest
from napari_unet.engine.beginning import Beginning
from napari_unet.engine.errors import NotReady
from napari_unet.engine.events import (
    JobEvent,
    RoundChecked,
    RoundUndone,
    ScoreMeasured,
    StepCompleted,
    TilePredicted,
)
from napari_unet.engine.finetune import FinetuneRequest, Mailbox, finetune
from napari_unet.engine.image import AnnotatedImage, SourceImage, fitting
from napari_unet.engine.instant import InstantLearner
from napari_unet.engine.predict import check_channels
from napari_unet.engine.rounds import (
    Accepted,
    Rounds,
    as_annotations,
    check_accepted,
    is_too_much,
)
from napari_unet.engine.scoring import cross_validate
from napari_unet.engine.trainer import FinetuneConfig, Trainer
from napari_unet.model.head import set_head
from napari_unet.model.starter import adapted
from napari_unet.model.unet import UNet
from napari_unet.ops.annotations import check_annotations

# Held-out strokes of each class that tell which of two answers is better.
_FEWEST_TO_TELL = 3

Speaker = Literal["at once", "network"]


class LearningNetwork:
    """A network and everything that it learned in a session.

    It belongs to the thread that runs the jobs.

    Parameters
    ----------
    beginning
        What it begins from. With random weights there is no answer before it was fine-tuned.
    model
        A network that was trained before, to go on with in place of a new one.

    Attributes
    ----------
    classes
        How many classes it tells apart.
    speaker
        Whose answer is better, see the top of this file.
    """

    def __init__(self, beginning: Beginning, model: UNet | None = None) -> None:
        self.classes = beginning.classes if model is None else model.config.classes
        self.speaker: Speaker = "network"
        self._beginning = beginning
        self._starter = beginning.starter if model is None else None
        self._seed = beginning.seed
        self._model = model
        self._is_loaded = model is not None
        self._has_stepped = False
        self._instant: InstantLearner | None = None
        self._trainer: Trainer | None = None
        self._rounds = Rounds()

    # ------------------------------------------------------------------ what it is

    @property
    def model(self) -> UNet:
        """The network that is fine-tuned, as its last step left it.

        Raises
        ------
        NotReady
            If there is none yet: a new one is made for the channels of the first image.
        """
        if self._model is None:
            raise NotReady("there is no network yet; call set_image(image) first, or give a model")
        return self._model

    @property
    def is_fine_tuned(self) -> bool:
        """Whether it made a step, or was trained before."""
        return self._is_loaded or self._has_stepped

    @property
    def has_learned(self) -> bool:
        """Whether it knows anything of the classes."""
        answered = self._instant is not None and self._instant.has_learned
        return answered or self.is_fine_tuned

    @property
    def answers_at_once(self) -> bool:
        """Whether strokes are answered before anything was fine-tuned."""
        return self._starter is not None

    @property
    def rounds(self) -> int:
        """How many rounds of learning can be taken back."""
        return len(self._rounds)

    def prepare(self, image: SourceImage, device: str = "auto") -> None:
        """Make a network for an image's channels, unless there is one that was fine-tuned.

        Raises
        ------
        InputError
            If that one takes other channels.
        """
        model = self._model
        if model is not None:
            config = model.config
            is_alike = (config.in_channels, config.ndim) == (image.channels, image.ndim)
            if self.is_fine_tuned or is_alike:
                check_channels(model, image)
                return
        self._trainer = None
        self._instant = None
        self._model = self._beginning.network_for(image, device)
        if self._starter is not None and image.ndim == 2:
            self._instant = InstantLearner(self._starter, device)

    def speaking_model(self) -> UNet:
        """Return whoever speaks as one network.

        It is the one that is fine-tuned, or one with the starter's weights and the head that was
        fitted at once.
        """
        instant = self._instant
        if self.speaker == "network" or instant is None or not instant.has_learned:
            return self.model if self._trainer is None else self._trainer.shown_model()
        assert self._starter is not None
        network = adapted(self._starter.network, self.model.config.in_channels, self.classes)
        set_head(network, instant.head)
        return network

    # ------------------------------------------------------------------ at once

    def answer(
        self, request: AnswerRequest, stop: threading.Event | None = None
    ) -> Iterator[JobEvent]:
        """Answer strokes at once; see `napari_unet.engine.segmenter.Segmenter.answer_job`."""
        if self._instant is None:
            raise NotReady("only a network that begins from a starter answers at once; fine-tune")
        annotations = check_annotations(
            request.annotations, request.image.shape, self.classes, alone=not request.others
        )
        self._instant.look_at(request.image)
        here = AnnotatedImage(request.image, annotations, request.borders)
        self.learn_at_once((*request.others, here))
        tiles = self._instant.predict(request.image, request.visible, request.region, stop)
        if request.region is not None or not annotations.any():
            yield from tiles
            return
        on_screen = self._instant.count_tiles(request.image, request.visible)
        for event in tiles:
            yield event
            if isinstance(event, TilePredicted) and event.done == on_screen:
                rival = partial(self._classify, request.others)
                score = cross_validate(rival, here, self.classes, stop=stop)
                if score is not None:
                    yield score

    def _classify(
        self,
        others: Sequence[AnnotatedImage],
        lesson: AnnotatedImage,
        mask: NDArray[np.bool_],
    ) -> NDArray[np.integer]:
        assert self._instant is not None
        lessons = self._fitting([*others, lesson])
        return self._instant.classify(lessons, mask, self.classes, self._seed)

    def learn_at_once(self, lessons: Sequence[AnnotatedImage]) -> None:
        """Fit the classifier, and the last layer of a network that was not fine-tuned yet."""
        if self._instant is None:
            return
        self._instant.learn(self._fitting(lessons), self.classes, self._seed)
        if not self.is_fine_tuned:
            self.speaker = "at once"
            set_head(self.model, self._instant.head)
            if self._trainer is not None:
                self._trainer.begin_from_here()

    def _fitting(self, lessons: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
        return fitting(lessons, self.model.config.in_channels)

    # ------------------------------------------------------------------ fine-tuned

    def fine_tune(
        self,
        request: FinetuneRequest,
        config: FinetuneConfig,
        accepted: Sequence[Accepted] = (),
        inbox: Mailbox[tuple[AnnotatedImage, ...]] | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[JobEvent]:
        """Learn for a round, see `napari_unet.engine.finetune.finetune`.

        Yields
        ------
        JobEvent
            `LearningPlanned` first, then those of `finetune`, and `RoundChecked` last if anything
            is accepted.
        """
        trainer = self._trainer_with(config)
        # What was accepted on images of other channels cannot be asked of this network.
        channels = self.model.config.in_channels
        accepted = [each for each in accepted if each.image.channels == channels]
        request = replace(
            request,
            others=tuple(self._fitting(request.others)),
            accepted=tuple(AnnotatedImage(*each) for each in as_annotations(accepted).items()),
        )
        if self._instant is not None:
            self._prepare_to_speak(request, self._instant, trainer)
        self._rounds.begin(trainer, is_first=not self._has_stepped)
        rival = None if self._instant is None else partial(self._rival, request.others)
        yield trainer.planned
        for event in finetune(trainer, request, inbox=inbox, stop=stop, rival=rival):
            self._has_stepped = self._has_stepped or isinstance(event, StepCompleted)
            if isinstance(event, ScoreMeasured) and self._instant is not None:
                self.speaker = _better(event)
            yield event
        if accepted:
            yield self._check(accepted, config.device)

    def _trainer_with(self, config: FinetuneConfig) -> Trainer:
        """Return the trainer; with other settings a new one goes on from the same answer."""
        if self._trainer is not None and self._trainer.config == config:
            return self._trainer
        if self._trainer is not None:
            self.model.load_state_dict(self._trainer.shown_model().state_dict())
            self._rounds.clear()  # their optimiser is another one
        settled = self._instant is not None or self._is_loaded
        self._trainer = Trainer(self.model, config, settled=settled)
        return self._trainer

    def _prepare_to_speak(
        self, request: FinetuneRequest, instant: InstantLearner, trainer: Trainer
    ) -> None:
        """Answer at once as well; a network that was not fine-tuned yet begins with that answer.

        Held-out strokes are part of what is answered at once, as nothing is measured on it, but
        not of what the network begins with.
        """
        annotations = check_annotations(
            request.annotations, request.image.shape, self.classes, alone=not request.others
        )
        lessons = (*request.others, AnnotatedImage(request.image, annotations, request.borders))
        instant.learn(lessons, self.classes, self._seed)
        if not self.is_fine_tuned:
            kept = [_without_held_out(trainer, each) for each in lessons]
            set_head(self.model, instant.fit(kept, self.classes, self._seed))
            trainer.begin_from_here()

    def _rival(
        self,
        others: tuple[AnnotatedImage, ...],
        lesson: AnnotatedImage,
        mask: NDArray[np.bool_],
    ) -> NDArray[np.integer]:
        assert self._trainer is not None
        kept = [_without_held_out(self._trainer, each) for each in others]
        return self._classify(kept, lesson, mask)

    # ------------------------------------------------------------------ rounds

    @property
    def training(self) -> Trainer | None:
        """The training, if it made a step; it goes on where it was after `go_on`."""
        return self._trainer if self._has_stepped else None

    def go_on(
        self, tensors: dict[str, torch.Tensor], step: int, speaker: Speaker, config: FinetuneConfig
    ) -> Trainer:
        """Take up a training where `Trainer.state` left it; `prepare` the network before.

        Raises
        ------
        InputError
            If it is of another network or optimiser.
        """
        model = self.model
        seen = sum(name.startswith("model.side_outputs.") for name in tensors)
        if self._starter is not None and seen < len(model.side_outputs):
            # It was begun when networks did not look twice.
            size = (model.config.in_channels, self.classes)
            self._model = adapted(self._starter.network, *size, second_look=False)
        trainer = self._trainer_with(config)
        trainer.restore(tensors, step)
        self._has_stepped, self.speaker = True, speaker
        return trainer

    def undo_round(self) -> Iterator[RoundUndone]:
        """Take back the latest round of learning.

        Raises
        ------
        NotReady
            If there is none.
        """
        if not self._rounds or self._trainer is None:
            raise NotReady("there is no round of learning to take back")
        self._take_back()
        yield RoundUndone(self._trainer.step, len(self._rounds))

    def _take_back(self) -> None:
        assert self._trainer is not None
        self._has_stepped = not self._rounds.undo(self._trainer)
        if not self._has_stepped and self._instant is not None and self._instant.has_learned:
            self.speaker = "at once"

    def _check(self, accepted: Sequence[Accepted], device: str) -> RoundChecked:
        checked = check_accepted(self.speaking_model(), accepted, device)
        # What was answered at once does not come from the round.
        if self.speaker == "at once" or not is_too_much(checked):
            return checked
        self._take_back()
        return replace(checked, taken_back=True)


def _better(score: ScoreMeasured) -> Speaker:
    """Let the network speak when it is better on enough held-out strokes.

    With fewer, the answer at once speaks: it has learned from all strokes, and single strokes do
    not tell which one is better (figures: docs/benchmarks.md).
    """
    enough = score.dice is not None and score.strokes >= _FEWEST_TO_TELL
    better = enough and (score.dice or 0.0) > (score.at_once or 0.0)
    return "network" if better else "at once"


def _without_held_out(trainer: Trainer, lesson: AnnotatedImage) -> AnnotatedImage:
    painted = lesson.annotations.astype(np.uint8)
    learned = trainer.hold_out(lesson.image, painted)
    return AnnotatedImage(lesson.image, learned, lesson.borders)
