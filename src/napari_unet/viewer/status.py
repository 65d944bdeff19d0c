"""What the session is doing: evented state that widgets observe, written on the main thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from psygnal import Signal, SignalGroupDescriptor

from napari_unet.engine.events.learning import LearningPlanned


class Phase(StrEnum):
    """What the session is doing."""

    IDLE = "idle"
    LEARNING = "learning"
    PAUSED = "paused"
    PREDICTING = "predicting"
    WORKING = "working"
    STOPPING = "stopping"


@dataclass
class JobStatus:
    """The state of the session's jobs; every field has a signal in `events`.

    Attributes
    ----------
    phase
        What is being done.
    message
        The same in a sentence, for the user.
    fraction
        How much of the job is done, 0 to 1; None if it has no known end.
    seconds_left
        Expected seconds to the end; None if that is not known.
    setup
        How the network learns on this machine; None before it did.
    step
        Training steps made on the present weights.
    loss
        Loss of the latest step.
    score
        Mean Dice on held-out strokes, 0 to 1; None if there are too few strokes to know.
    score_reason
        What the score rests on, or why there is none.
    score_interval
        Within which nine of ten scores are expected; None if there are too few strokes to know.
    scores
        The score of every class, background first; None for one without held-out strokes.
    score_at_once
        The same score of the answer at once, if `score` is the network's; None otherwise.
    speaker
        Whose answer is shown, in a sentence; empty before there is one.
    kept
        What the last round of learning changed of what was accepted; empty if nothing was.
    last_error
        The latest error, cleared when the next job begins.
    """

    phase: Phase = Phase.IDLE
    message: str = ""
    fraction: float | None = None
    seconds_left: float | None = None
    setup: LearningPlanned | None = None
    step: int = 0
    loss: float | None = None
    score: float | None = None
    score_reason: str = ""
    score_interval: tuple[float, float] | None = None
    scores: tuple[float | None, ...] = ()
    score_at_once: float | None = None
    speaker: str = ""
    kept: str = ""
    last_error: str = ""

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()


@dataclass
class TrainingHistory:
    """The curves of the present network: what was measured at which step.

    `extended` is emitted after a point was added, and when the history was cleared.
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)

    extended: ClassVar[Signal] = Signal()

    def add_loss(self, step: int, loss: float) -> None:
        """Add the loss of a step."""
        self.losses.append((step, loss))
        self.extended.emit()

    def add_score(self, step: int, score: float) -> None:
        """Add a score on held-out strokes, 0 to 1."""
        self.scores.append((step, score))
        self.extended.emit()

    def shorten(self, step: int) -> None:
        """Forget what came after a step: it was taken back."""
        self.losses = [point for point in self.losses if point[0] <= step]
        self.scores = [point for point in self.scores if point[0] <= step]
        self.extended.emit()

    def clear(self) -> None:
        """Forget the curves: another network begins."""
        self.losses.clear()
        self.scores.clear()
        self.extended.emit()
