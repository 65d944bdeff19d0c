"""The state of a training in a file, so that one that was killed goes on.

safetensors with JSON in its header, as the model file is: reading it runs no code. The file is
written beside its final place and renamed, so that there is always a whole one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from napari_unet.engine.files import write_atomically
from napari_unet.ops.errors import InputError

_FORMAT = "napari-unet training 1"


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """Everything that the next step of a training depends on, and what happened before.

    Attributes
    ----------
    fingerprint
        What has to be the same for the training to go on: recipe, seed, hashes of the data.
    step, elapsed
        Steps and seconds so far.
    best_step, best_score
        Of the best weights; None before the first validation.
    losses, scores
        Pairs of step and value.
    decay
        When the learning rate began to fall and when it reaches 0, if that was decided.
    trainer
        What `Trainer.state` returned.
    best
        The best weights, by name; empty before the first validation.
    """

    fingerprint: dict[str, Any]
    step: int
    elapsed: float
    best_step: int | None
    best_score: float | None
    losses: tuple[tuple[int, float], ...]
    scores: tuple[tuple[int, float], ...]
    decay: tuple[float | None, float | None]
    trainer: dict[str, Tensor]
    best: dict[str, Tensor]


_PLAIN = ("fingerprint", "step", "elapsed", "best_step", "best_score", "losses", "scores", "decay")


def save_state(path: Path, state: TrainingState) -> Path:
    """Write a state; the file is whole or not there at all.

    Raises
    ------
    InputError
        If the file cannot be written, as on a full disk.
    """
    tensors = {f"trainer.{name}": tensor for name, tensor in state.trainer.items()}
    # safetensors refuses tensors that share memory or are laid out channels last.
    plain = torch.contiguous_format
    tensors |= {f"best.{n}": tensor.clone(memory_format=plain) for n, tensor in state.best.items()}
    progress = json.dumps({name: getattr(state, name) for name in _PLAIN})
    contents = save(tensors, {"format": _FORMAT, "progress": progress})
    return write_atomically(path, lambda file: file.write(contents))


def load_state(path: Path) -> TrainingState:
    """Read a state.

    Raises
    ------
    InputError
        If the file cannot be read or is something else.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        if metadata.get("format") != _FORMAT:
            raise InputError(f"{path} is not the state of a training; delete it and start anew")
        progress = json.loads(metadata["progress"])
        progress["losses"] = tuple((int(s), float(v)) for s, v in progress["losses"])
        progress["scores"] = tuple((int(s), float(v)) for s, v in progress["scores"])
        progress["decay"] = tuple(progress["decay"])
        return TrainingState(
            **progress, trainer=_part(tensors, "trainer."), best=_part(tensors, "best.")
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged or cannot be read; delete it and start anew"
        ) from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
