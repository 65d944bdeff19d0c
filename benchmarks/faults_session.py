"""A session on an image that is the same whenever it is played: what `faults.py` interrupts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_unet.engine.finetune import FinetuneRequest
from napari_unet.engine.image import SourceImage
from napari_unet.engine.journal import (
    Accepted,
    BoxChange,
    Change,
    Header,
    LayerAdded,
    ModelChanged,
    ModelFile,
    Painted,
    Project,
    ViewChanged,
    fingerprint,
    writer,
)
from napari_unet.engine.journal.state import ProjectState
from napari_unet.engine.journal.weights import save_weights
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.trainer import FinetuneConfig
from napari_unet.model.unet import UNet

SHAPE = (128, 160)
LAYERS = ("annotations", "objects")
_KINDS = ("stroke", "object", "round", "accept", "view", "undo", "redo")
_OFTEN = (0.55, 0.15, 0.04, 0.05, 0.05, 0.1, 0.06)
# Steps of a round.
_STEPS = 2
# Small, so that snapshots are taken within seconds.
_ENTRIES_OF_A_PART = 40


def image() -> NDArray[np.float32]:
    """Return the image: a dark left and a bright right half."""
    pixels = np.random.default_rng(0).normal(0.2, 0.05, SHAPE)
    pixels[:, SHAPE[1] // 2 :] += 0.6
    return pixels.astype(np.float32)


def header() -> Header:
    """Return what its project belongs to."""
    return Header(fingerprint(image()), "halves", SHAPE, "float32")


class Failed(Exception):
    """Something came out otherwise than it should."""


@dataclass
class Session:
    """What a program would hold in memory: it makes one change after the other.

    Attributes
    ----------
    pixels
        Of the two layers.
    rounds
        How many steps the network made; 0 for none.
    done
        The changes so far that can be taken back, with their numbers.
    undone
        Those that were.
    count
        How many changes were made.
    """

    seed: int
    pixels: dict[str, NDArray[Any]] = field(
        default_factory=lambda: {
            "annotations": np.zeros(SHAPE, np.uint8),
            "objects": np.zeros(SHAPE, np.int32),
        }
    )
    rounds: int = 0
    accepted: tuple[int, ...] = ()
    done: list[tuple[int, str, Any]] = field(default_factory=list)
    undone: list[tuple[int, str, Any]] = field(default_factory=list)
    count: int = 0

    def next(self) -> tuple[str, Any, int, int]:
        """Make the next change; return its kind, what changed, and what it undoes or redoes."""
        self.count += 1
        if self.count <= len(LAYERS):
            return "layer", LAYERS[self.count - 1], 0, 0
        rng = np.random.default_rng((self.seed, self.count))
        kind = str(rng.choice(_KINDS, p=_OFTEN))
        if kind == "undo" and self.done:
            number, what, detail = self.done.pop()
            self.undone.append((number, what, detail))
            return what, self._back(what, detail), number, 0
        if kind == "redo" and self.undone:
            number, what, detail = self.undone.pop()
            self.done.append((number, what, detail))
            return what, self._again(what, detail, number), 0, number
        if kind == "view":
            return "view", int(rng.integers(1000)), 0, 0
        detail = self._do(kind, rng)
        kind = "paint" if isinstance(detail, tuple) else kind
        self.done.append((self.count, kind, detail))
        self.undone.clear()
        return kind, self._again(kind, detail, self.count, first=True), 0, 0

    def _do(self, kind: str, rng: np.random.Generator) -> Any:
        if kind == "round":
            return self.rounds, self.rounds + _STEPS, "round"
        if kind == "accept":
            row, column = (int(rng.integers(side - 20)) for side in SHAPE)
            return [row, column, rng.integers(0, 3, (20, 20)).astype(np.uint8)]
        name = "objects" if kind == "object" else "annotations"
        size = int(rng.integers(3, 40))
        row, column = (int(rng.integers(side - size)) for side in SHAPE)
        box = slice(row, row + size), slice(column, column + size)
        before = self.pixels[name][box].copy()
        after = before.copy()
        mask = rng.random(after.shape) < 0.7
        after[mask] = 0 if rng.random() < 0.1 else int(rng.integers(1, 3 if size else 9))
        return name, (row, column), before, after

    def _again(self, kind: str, detail: Any, number: int, first: bool = False) -> Any:
        if kind == "accept":
            before = self.accepted
            self.accepted = (*before, number)
            return ("first", detail) if first else (before, self.accepted)
        if len(detail) == 3:
            self.rounds = detail[1]
            return detail[0], detail[1]
        return self._write(*detail)

    def _back(self, kind: str, detail: Any) -> Any:
        if kind == "accept":
            before = self.accepted
            self.accepted = before[:-1]
            return before, self.accepted
        if len(detail) == 3:
            self.rounds = detail[0]
            return detail[1], detail[0]
        name, start, before, after = detail
        return self._write(name, start, after, before)

    def _write(self, name: str, start: tuple[int, int], before: Any, after: Any) -> Any:
        box = tuple(slice(at, at + side) for at, side in zip(start, after.shape, strict=True))
        self.pixels[name][box] = after
        return name, BoxChange(start, before, after)

    def differs_from(self, state: ProjectState) -> str | None:
        """Say in what a project differs from the session; None if it does not."""
        for name in LAYERS[: self.count]:
            if not np.array_equal(state.layers[name].pixels.full(), self.pixels[name]):
                return f"the pixels of {name}"
        if (0 if state.model is None else state.model.step) != self.rounds:
            return "the network"
        if state.accepted != self.accepted:
            return "what was accepted"
        if state.history.undo != [number for number, _, _ in self.done]:
            return "what can be taken back"
        return None


def played(seed: int, count: int) -> Session:
    """Return a session after so many changes."""
    session = Session(seed)
    while session.count < count:
        session.next()
    return session


class Player:
    """Plays a session into a project, with a small network that really learns.

    Parameters
    ----------
    session
        Where it is.
    folder
        Of its project; made if there is none.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        writer._SEGMENT_ENTRIES = _ENTRIES_OF_A_PART  # type: ignore[misc]
        self.session = session
        is_new = not folder.exists()
        self.project = Project.create(folder, header()) if is_new else Project.open(folder)
        self._files: dict[int, ModelFile] = {}
        if (model := self.project.facts.model) is not None:
            self._files[model.step] = model
        torch.manual_seed(0)
        config = FinetuneConfig(patch_size=20, precision="fp32")
        self._segmenter = Segmenter(UNet(base_channels=4, depth=2), config=config)
        self._source = SourceImage(image())
        self._lesson = np.zeros(SHAPE, np.uint8)
        self._lesson[5:15, 5:40], self._lesson[5:15, 100:140] = 1, 2

    def steps(self) -> Iterator[int]:
        """Make change after change; yield the number of each when it was handed to the journal."""
        while True:
            kind, detail, undoes, redoes = self.session.next()
            change = self._change(kind, detail)
            while not self.project.can_append():
                time.sleep(0.001)
            self.project.append(change, undoes=undoes, redoes=redoes)
            yield self.session.count

    def _change(self, kind: str, detail: Any) -> Change:
        if kind == "layer":
            dtype = self.session.pixels[detail].dtype.name
            return LayerAdded(detail, detail, detail, SHAPE, dtype)
        if kind == "view":
            return ViewChanged({"zoom": detail})
        if kind == "accept":
            return self._acceptance(*detail)
        name, what = detail
        if isinstance(name, str):
            return Painted(name, "stroke", (what,))
        return ModelChanged("round", self._file(name), self._file(what))

    def _acceptance(self, before: Any, after: Any) -> Change:
        from napari_unet.engine.journal import AcceptanceChanged

        if before == "first":
            row, column, labels = after
            return Accepted((row, column), labels)
        return AcceptanceChanged(before, after)

    def _file(self, step: int) -> ModelFile | None:
        """Return the file of the network after so many steps; it learns and is written."""
        if not step:
            return None
        if step not in self._files:
            request = FinetuneRequest(self._source, self._lesson, steps=_STEPS)
            list(self._segmenter.fine_tune_job(request))
            file = save_weights(self._segmenter, self.project.folder, self._source)
            self._files[step] = ModelFile(file.name, file.sha256, file.size, step, "network")
        return self._files[step]


def play_until_killed(seed: int, count: int, folder: Path, pipe: int, pace: float) -> None:
    """Go on with a session, and write the number of each change to a pipe; never returns.

    Parameters
    ----------
    seed, count
        Which session, and where it is.
    folder
        Of its project.
    pipe
        Gets a line for every change that was handed to the journal.
    pace
        Seconds that a stroke takes.
    """
    player = Player(played(seed, count), folder)
    for number in player.steps():
        os.write(pipe, b"%d\n" % number)
        time.sleep(pace)


def play_whole(session: Session, folder: Path, count: int) -> None:
    """Play the beginning of a session into a project, and close it."""
    player = Player(session, folder)
    for number in player.steps():
        player.project.flush()
        if number == count:
            break
    if not player.project.close():
        raise Failed("a project could not be closed")
