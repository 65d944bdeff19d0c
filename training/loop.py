"""How long a training goes on, how fast it learns meanwhile, and what draws its samples ahead."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

# Steps in which the learning rate rises.
_RISE = 200
_SAVE_EVERY = 500


class Pace:
    """Says how much of a training is done: by steps, or by minutes if those are over first.

    Parameters
    ----------
    steps
        How many there are.
    minutes
        How long it may take, with the time before it was stopped; 0 for as long as it takes.
    spent
        Seconds that it took before it was stopped.
    """

    def __init__(self, steps: int, minutes: float = 0.0, spent: float = 0.0) -> None:
        self._steps = steps
        self._seconds = minutes * 60
        self._began = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds until now."""
        return time.monotonic() - self._began

    def done(self, step: int) -> float:
        """Return the share that is done before a step, from 0 to 1."""
        if step >= self._steps:
            return 1.0
        by_time = self.spent / self._seconds if self._seconds else 0.0
        return min(1.0, max(step / self._steps, by_time))


def rate(step: int, done: float, highest: float) -> float:
    """Return the learning rate of a step: a short rise, then half a cosine."""
    rise = min(1.0, (step + 1) / _RISE)
    return highest * rise * 0.5 * (1 + math.cos(math.pi * done)) + 1e-6


def descend(
    loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, step: float
) -> None:
    """Take a step down a loss, with gradients of a norm of 1 at most.

    Parameters
    ----------
    loss
        A scalar.
    network, optimizer
        Changed in place.
    step
        The learning rate.
    """
    for group in optimizer.param_groups:
        group["lr"] = step
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def keep(state: dict[str, Any], path: Path) -> None:
    """Write a state of which nothing is lost if the machine goes down meanwhile."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


class Training(Protocol):
    """A training that is going on.

    Attributes
    ----------
    first
        The step that comes next.
    pace
        How much is done.
    """

    first: int
    pace: Pace

    def step(self, number: int, samples: Any) -> tuple[Tensor, Tensor]:
        """Learn from the samples of a step; return what is to be watched."""

    def save(self, steps: int) -> None:
        """Keep everything after so many steps."""


def carry_out(training: Training, source: Iterator[Any], device: torch.device) -> None:
    """Make the steps that are left, and keep the state now and then and at the end.

    Parameters
    ----------
    training
        What is carried out.
    source
        The samples of each step.
    device
        Where they are brought.
    """
    recent: list[tuple[Tensor, Tensor]] = []
    began, step = training.pace.spent, training.first
    while training.pace.done(step) < 1:
        recent.append(training.step(step, next(source).to(device)))
        step += 1
        if step % _SAVE_EVERY == 0:
            means = [torch.stack(values).mean() for values in zip(*recent, strict=True)]
            watched = ", ".join(f"{float(value):.4f}" for value in means)
            speed = (training.pace.spent - began) / (step - training.first)
            print(f"{step}: {watched}; {speed:.3f} s a step", flush=True)
            recent.clear()
            training.save(step)
    training.save(step)


class Samples(Protocol):
    """What a training learns from; number n is the same whenever it is drawn."""

    def __getitem__(self, step: int) -> Any:
        """Draw what step n learns from."""


def drawn_ahead(samples: Samples, first: int, steps: int, workers: int) -> Iterator[Any]:
    """Draw what each step learns from, in other processes while the steps before are made.

    Parameters
    ----------
    samples
        What is drawn from.
    first, steps
        The first step, and the number after the last.
    workers
        How many processes draw; with 0 it is drawn when it is asked for.
    """
    loader: DataLoader[Any] = DataLoader(
        _Indexed(samples),
        batch_size=None,
        sampler=range(first, steps),
        num_workers=workers,
        pin_memory=workers > 0 and torch.cuda.is_available(),
    )
    return iter(loader)


class _Indexed(Dataset[Any]):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, step: int) -> Any:
        return self._samples[step]
