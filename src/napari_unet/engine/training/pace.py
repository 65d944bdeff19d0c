"""When a training validates, saves, lets its learning rate fall, and ends."""

from __future__ import annotations

import time
from typing import Literal

ScheduleKind = Literal["constant", "decay"]

# The learning rate falls to 0 over this share of the training, at its end.
_DECAY_SHARE = 0.3
# What is left of the learning rate at the last step: with 0 it would change nothing.
_LOWEST_RATE = 0.001
# A first steps' learning rate rises, so that BatchNorm and AdamW's moments settle first.
_WARM_UP_STEPS = 20
# Validation may take this share of the time.
_SHARE_OF_VALIDATION = 0.1
SECONDS_BETWEEN_VALIDATIONS = 20.0
SECONDS_BETWEEN_SAVES = 60.0


class Schedule:
    """The learning rate over a training, and its end.

    Parameters
    ----------
    kind
        "constant", or "decay": constant after a short rise, and falling to 0 at the end.
    seconds, steps
        The budget; the training ends with whichever is used up first. The learning rate goes by
        steps where they are given. With neither, the training ends after `begin_to_end`.

    Attributes
    ----------
    decay
        When the fall was begun before its time, and when it ends, in steps or seconds; (None,
        None) if it was not.
    """

    def __init__(self, kind: ScheduleKind, seconds: float | None, steps: int | None) -> None:
        self._kind = kind
        self._seconds, self._steps = seconds, steps
        self.decay: tuple[float | None, float | None] = (None, None)

    @property
    def decays(self) -> bool:
        """Whether the learning rate falls at the end."""
        return self._kind == "decay"

    @property
    def ends_early(self) -> bool:
        """Whether the fall was begun before its time."""
        return self.decay[1] is not None

    def fraction(self, step: int, elapsed: float) -> float | None:
        """Return the share that is done, 0 to 1; None without a known end."""
        ends = (
            (elapsed, self._seconds),
            (step, self._steps),
            (self._spent(step, elapsed), self.decay[1]),
        )
        shares = [spent / end for spent, end in ends if end]
        return min(max(shares), 1.0) if shares else None

    def is_over(self, step: int, elapsed: float) -> bool:
        """Say whether the training is to end."""
        fraction = self.fraction(step, elapsed)
        return fraction is not None and fraction >= 1

    def rate(self, step: int, elapsed: float) -> float:
        """Return the share of the full learning rate for the next step."""
        if self._kind == "constant":
            return 1.0
        warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
        fall = self._fall()
        if fall is None:
            return warm_up
        start, end = fall
        left = (end - self._spent(step, elapsed)) / max(end - start, 1e-9)
        return warm_up * min(max(left, _LOWEST_RATE), 1.0)

    def begin_to_end(self, step: int, elapsed: float) -> None:
        """Let the learning rate fall from now on, unless the budget's own end comes first."""
        spent, budget = self._spent(step, elapsed), self._budget()
        length = spent * _DECAY_SHARE / (1 - _DECAY_SHARE) if self._kind == "decay" else 0.0
        if budget is None or spent + length < budget:
            self.decay = (spent, spent + length)

    def _fall(self) -> tuple[float, float] | None:
        """Return when the learning rate begins to fall and when it is 0; None if it does not."""
        if self._kind == "constant":
            return None
        start, end = self.decay
        if start is not None and end is not None:
            return start, end
        budget = self._budget()
        return None if budget is None else ((1 - _DECAY_SHARE) * budget, budget)

    def _spent(self, step: int, elapsed: float) -> float:
        return float(step) if self._steps is not None else elapsed

    def _budget(self) -> float | None:
        return self._seconds if self._steps is None else float(self._steps)


class Pace:
    """How long was worked, and when it is time to validate and to save.

    Parameters
    ----------
    elapsed_before
        Seconds that were worked before, in another run.
    """

    def __init__(self, elapsed_before: float) -> None:
        now = time.monotonic()
        self._began = now - elapsed_before
        self._held_since = now
        self._next_validation = now + SECONDS_BETWEEN_VALIDATIONS
        self._validation_began = now
        self._next_save = now  # a disk that is full or closed to us is known after the first step

    def hold(self) -> None:
        """Stop counting."""
        self._held_since = time.monotonic()

    def go_on(self) -> None:
        """Count again."""
        self._began += time.monotonic() - self._held_since

    def elapsed(self) -> float:
        """Return the seconds that were worked."""
        return time.monotonic() - self._began

    def validation_is_due(self, step: int, every: int | None) -> bool:
        """Say whether to validate now: every so many steps, or so that it takes a tenth."""
        self._validation_began = time.monotonic()
        if every is not None:
            return step % every == 0
        return self._validation_began >= self._next_validation

    def validated(self) -> float:
        """Note that a validation ended; return the seconds that were worked."""
        now = time.monotonic()
        pause = (now - self._validation_began) * (1 / _SHARE_OF_VALIDATION - 1)
        self._next_validation = now + max(pause, SECONDS_BETWEEN_VALIDATIONS)
        return self.elapsed()

    def save_is_due(self) -> bool:
        """Say whether to save the state now."""
        return time.monotonic() >= self._next_save

    def saved(self) -> None:
        """Note that the state was saved."""
        self._next_save = time.monotonic() + SECONDS_BETWEEN_SAVES
