"""Learners from strokes compared: a robot paints, everyone learns from the same strokes.

A robot paints rounds of strokes inside the true regions: the first at random, each further one
where the forest, the reference, is most wrong. Each learner is given the same strokes and is scored
after so many seconds of learning, on the painted image (less what is painted) and on two others of
the same kind.

Seconds count learning, the features of the painted image among it. Prediction is not counted,
as it happens once for each question and is the same for each length of learning; its time is kept
beside. A learner that learns once, as the forest does, has one result for all lengths; the seconds
that it took are kept too. What is measured once for a machine (the fastest precision) is measured
before.

Every row is kept in a folder and not done again.

Usage:
    export NAPARI_UNET_DATA=folder
    python benchmarks/strokes.py run --short                    # 5 strokes, a seed, 2 and 30 s
    python benchmarks/strokes.py run --learners forest unet --model FILE --name starter-16
    python benchmarks/strokes.py run --sets isbi2012_em --strokes 2 5 --seconds 1 10 --seeds 1
    python benchmarks/strokes.py tables --output strokes.md     # of all rows so far
    python benchmarks/strokes.py plot --output FOLDER
    python benchmarks/strokes.py pictures --learners forest --output FOLDER   # what users drew
Options: --runs FOLDER (default: runs)
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from strokes_data import SETS, StrokeSet, data_folder, load
from strokes_learners import LEARNERS, Learner, Options, make
from strokes_robot import annotate, load_strokes, rounds, save_strokes
from strokes_scores import mean_score, score
from strokes_tables import load_rows, write_tables

from napari_unet.engine.files import write_atomically
from napari_unet.ops.annotations import Stroke
from napari_unet.ops.errors import InputError

STROKES = (2, 5, 10, 20, 50)
SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
#: Places the strokes of all rounds but the first.
REFERENCE = "forest"


@dataclass(frozen=True)
class Row:
    """One learner on one set with one number of strokes; all lengths of learning are one row."""

    set: str
    learner: str
    strokes: int
    seed: int
    seconds: tuple[float, ...]
    options: Options
    # What the row is called, where there are several from one learner.
    name: str

    @property
    def key(self) -> str:
        """The name of its file."""
        words = "".join(c if c.isalnum() else "-" for c in self.name.lower())
        return f"{words}_{self.set}_{self.strokes}strokes_seed{self.seed}"


def run(row: Row, runs: Path, data: Path) -> None:
    """Let a learner learn and score it, unless that was done."""
    path = runs / f"{row.key}.json"
    done = json.loads(path.read_text()) if path.exists() else None
    if done is not None:
        model = row.options.model
        if model and done["model"] and done["model"] != str(model):
            raise InputError(f"{path} is of {done['model']}; call the rows of {model} by a --name")
        known = {entry["seconds"] for entry in done["measured"]}
        if not done["anytime"] or set(row.seconds) <= known:
            print(f"done before: {row.key}")
            return
        row = replace(row, seconds=tuple(sorted({*row.seconds, *known})))
    chosen, strokes = _chosen(row.set, row.seed, data), _strokes(row, runs, data)
    annotations = annotate(strokes, row.strokes, chosen.painted.truth.shape)
    learner = make(row.learner, row.options)
    _warm_up(row.learner, row.options, chosen.painted.image.ndim, len(chosen.classes))
    learner.start(len(chosen.classes), row.seed)
    measured = list(measure(learner, chosen, annotations, row.seconds))
    result = {
        **{key: getattr(row, key) for key in ("set", "name", "learner", "strokes", "seed")},
        "kind": chosen.kind,
        "classes": chosen.classes,
        "painted": chosen.painted.name,
        "others": [other.name for other in chosen.others],
        "drawn": _drawn(strokes, row.strokes),
        "annotated": float((annotations > 0).mean()),
        "model": str(learner.model) if learner.model else None,
        "anytime": learner.anytime,
        "measured": measured,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    text = json.dumps(result, indent=1).encode()
    write_atomically(path, lambda file: file.write(text))
    last = measured[-1]
    print(
        f"{row.key}: {last['learning']:.1f} s, IoU {last['same']['IoU']:.3f} on the same image, "
        f"{last['other']['IoU']:.3f} on others",
        flush=True,
    )


def measure(
    learner: Learner,
    chosen: StrokeSet,
    annotations: NDArray[np.uint8],
    seconds: Sequence[float],
) -> Iterator[dict[str, Any]]:
    """Let a learner that was started learn, and score it after each length of learning.

    Parameters
    ----------
    learner
        Who learns.
    chosen
        The images.
    annotations
        Shape (Y, X), of the painted image.
    seconds
        Lengths, increasing; only the first is used if the learner learns once.

    Yields
    ------
    dict
        `seconds` as asked for, `learning` and `predicting` as measured, the scores `same` and
        `other`.
    """
    image, spent = chosen.painted.image, 0.0
    for length in seconds if learner.anytime else seconds[:1]:
        started = time.perf_counter()
        # A step that took too long is paid for from the next length.
        if length > spent:
            learner.learn(image, annotations, length - spent)
        learned = time.perf_counter()
        spent += learned - started
        probability = learner.predict(image)
        predicting = time.perf_counter() - learned
        others = [score(learner.predict(other.image), other.truth) for other in chosen.others]
        yield {
            "seconds": length,
            "learning": spent,
            "predicting": predicting,
            "same": score(probability, chosen.painted.truth, annotations),
            "other": mean_score(others),
        }


def _strokes(row: Row, runs: Path, data: Path) -> list[Stroke]:
    """Read the strokes of a set, or let the robot paint those that are missing, and keep them."""
    chosen = _chosen(row.set, row.seed, data)
    path = runs / f"strokes_{row.set}_seed{row.seed}.stroke.json"
    strokes = load_strokes(path, chosen.painted.name)
    totals = [total for total in STROKES if total < row.strokes] + [row.strokes]
    image = chosen.painted.image

    def reference(annotations: NDArray[np.uint8]) -> NDArray[np.integer[Any]]:
        learner = make(REFERENCE)
        learner.start(len(chosen.classes), row.seed)
        learner.learn(image, annotations, 1)
        labels: NDArray[np.integer[Any]] = 1 + learner.predict(image).argmax(axis=0)
        return labels

    painted = rounds(chosen.painted.truth, totals, reference, row.seed, strokes)
    if len(painted) > len(strokes):
        save_strokes(path, chosen.painted.name, painted)
    return painted


def _drawn(strokes: Sequence[Stroke], total: int) -> list[int]:
    """Return how many strokes each class got: fewer than `total` where there was no room."""
    counts = Counter(stroke.label for stroke in strokes)
    return [min(counts[label], total) for label in sorted(counts)]


@cache
def _chosen(name: str, seed: int, data: Path) -> StrokeSet:
    return load(name, data, seed)


@cache
def _warm_up(name: str, options: Options, dimensions: int, classes: int) -> None:
    """Have everything loaded and measured that is so once for a process."""
    shape = (64, 64) if dimensions == 2 else (64, 64, 3)
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    annotations = np.zeros((64, 64), np.uint8)
    for label in range(1, classes + 1):
        annotations[8 * label : 8 * label + 4, 8:48] = label
    learner = make(name, options)
    learner.start(classes, 0)
    learner.learn(image, annotations, 0.1)
    learner.predict(image)


def rows_of(arguments: argparse.Namespace) -> Iterator[Row]:
    """Return the rows that were asked for; seed by seed, so that all sets are seen early."""
    options = Options(arguments.model)
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        for strokes in arguments.strokes:
            for name in arguments.sets:
                for learner in arguments.learners:
                    called = arguments.name if learner == arguments.named else learner
                    seconds = tuple(sorted(arguments.seconds))
                    yield Row(name, learner, strokes, seed, seconds, options, called)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "tables", "plot", "pictures"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET")
    parser.add_argument("--learners", nargs="+", choices=tuple(LEARNERS))
    parser.add_argument("--model", type=Path, help="network that learners start from")
    parser.add_argument("--name", help="what the tables call the one learner beside the forest")
    parser.add_argument("--strokes", nargs="+", type=int)
    parser.add_argument("--seconds", nargs="+", type=float)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--short", action="store_true", help="5 strokes, one seed, 2 and 30 s")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(words)
    short = arguments.short
    network = "unet" if arguments.model else "unet-random"
    arguments.learners = arguments.learners or ["forest", network]
    beside = [learner for learner in arguments.learners if learner != REFERENCE]
    if arguments.name and len(beside) != 1:
        parser.error("--name is of one learner; name one beside the forest with --learners")
    arguments.named = beside[0] if arguments.name else None
    arguments.strokes = arguments.strokes or ([5] if short else list(STROKES))
    arguments.seconds = arguments.seconds or ([2.0, 30.0] if short else list(SECONDS))
    arguments.seeds = arguments.seeds or (1 if short else 3)
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    """Do what was asked for, or what is left of it."""
    arguments = _parse(words)
    arguments.runs.mkdir(exist_ok=True, parents=True)
    try:
        if arguments.command == "run":
            for row in rows_of(arguments):
                run(row, arguments.runs, data_folder())
        elif arguments.command == "tables":
            write_tables(arguments.runs, arguments.output)
        elif arguments.command == "plot":
            from strokes_plot import draw

            print(*draw(load_rows(arguments.runs), arguments.output or arguments.runs), sep="\n")
        else:
            from strokes_pictures import draw_scribbled

            learners = {name: make(name, Options(arguments.model)) for name in arguments.learners}
            seconds = max(arguments.seconds)
            output = arguments.output or arguments.runs
            print(*draw_scribbled(data_folder(), learners, seconds, output), sep="\n")
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
