"""By what an outline is chosen among those of several scales, and whether that holds elsewhere.

The robot of `clicks_robot.py` makes three clicks on objects that are not in its benchmark: those of
another seed. At each, what is seen at every scale is looked at again, as `engine/click_choice.py`
does, and kept with what it is judged by and with its overlap with the truth. Then numbers are found
with which the choice is best on the mean of the sets, and tried on the set that was left out.

With `--sloppy` the robot clicks anywhere in the inner half of what is wrong, and not at its
innermost pixel.

Usage:
    export NAPARI_UNET_DATA=folder
    python benchmarks/click_choice.py collect FILE [--objects 24] [--seed 7] [--sloppy]
    python benchmarks/click_choice.py tune FILE [FILE ...]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from clicks_data import SETS, ClickSet, Target, data_folder, load, targets
from clicks_robot import overlap
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.engine.click import Clicker
from napari_unet.engine.click_choice import change_at, depth_at
from napari_unet.engine.click_looks import NEXT_SIDE, Look, read, window_around, with_clicks
from napari_unet.engine.files import write_atomically
from napari_unet.engine.image import SourceImage
from napari_unet.model.windows import DrawnMask
from napari_unet.ops.annotations import annotated_box
from napari_unet.ops.clicks import Click, Mask, Outline, largest_region, next_click

# What the benchmark is measured on, and how many clicks are looked at.
_BENCHMARK: Final = (100, 0)
_CLICKS: Final = 3
_ENOUGH: Final = 0.85
_LEAST: Final = 0.03

Candidate = dict[str, float]


class Watched(Clicker):
    """A `Clicker` that tells all that it might have answered."""

    def candidates(
        self, clicks: Sequence[Click], previous: Outline | None, truth: Mask
    ) -> tuple[list[Candidate], Outline]:
        """Return what answers are judged by, the one that was taken before first, and that one.

        Parameters
        ----------
        clicks
            All of the object.
        previous
            The answer before; None at the first click.
        truth
            Shape (Y, X).
        """
        shape, given = self.image.shape, tuple(clicks)
        before = None if previous is None else DrawnMask(previous.mask, previous.box)
        positive = [click for click in clicks if click.positive]
        looking = self._first_look(given, positive, None, False)
        try:
            while True:
                next(looking)
        except StopIteration as end:
            looks: list[Look] = end.value
        firsts = [read(look, clicks, shape) for look in looks if look.extent]
        if previous is not None:
            firsts.insert(0, previous)
        found, answer = [], firsts[0] if firsts else read(looks[0], clicks, shape)
        for number, first in enumerate(firsts):
            window = window_around(with_clicks(first.box, clicks), NEXT_SIDE)
            [look] = self._looks([window], clicks, DrawnMask(first.mask, first.box))
            outline = read(look, clicks, shape)
            answer = outline if number == 0 else answer
            deep, share = (1.0, 1.0) if before is None else change_at(look, before, clicks[-1])
            found.append(
                {
                    "overlap": look.overlap,
                    "seen": first.overlap,
                    "shared": outline.shares(first),
                    "middle": depth_at(look.mask, window, clicks[0]),
                    "deep": deep,
                    "share": share,
                    "truth": overlap(truth, outline.full(shape)),
                }
            )
        return found, answer


# ------------------------------------------------------------------------------------ collecting


def other_targets(chosen: ClickSet, count: int, seed: int) -> list[Target]:
    """Return objects that are not in the benchmark; fewer if there are no more."""
    measured = set(targets(chosen, *_BENCHMARK))
    return [each for each in targets(chosen, 10**9, seed) if each not in measured][:count]


def collect(arguments: argparse.Namespace) -> None:
    """Click on objects of all sets, and write what answers are judged by."""
    rng = np.random.default_rng(arguments.seed)
    kept: dict[str, list[list[list[Candidate]]]] = {}
    for name in arguments.sets:
        chosen = load(name, data_folder())
        found = other_targets(chosen, arguments.objects, arguments.seed)
        if len(found) < arguments.objects:
            print(f"left out: {name}, all of its objects are in the benchmark")
            continue
        clickers: dict[int, Watched] = {}
        kept[name] = []
        for target in sorted(found, key=lambda each: each.image):
            image = chosen.images[target.image]
            if target.image not in clickers:
                clickers = {target.image: Watched(SourceImage(image.image))}
            truth = image.mask(target.label)
            steps = clicked(clickers[target.image], truth, rng if arguments.sloppy else None)
            kept[name].append(list(steps))
        text = json.dumps(kept).encode()
        write_atomically(arguments.file, lambda file: file.write(text))  # noqa: B023
        print(f"{name}: {len(kept[name])} objects", flush=True)


def clicked(
    clicker: Watched, truth: Mask, sloppy: np.random.Generator | None
) -> Iterator[list[Candidate]]:
    """Click on one object; what might be answered to each click."""
    given, previous, clicks = np.zeros_like(truth), None, list[Click]()
    for _ in range(_CLICKS):
        click = robot_click(truth, given, sloppy)
        if click is None:
            return
        clicks.append(click)
        found, previous = clicker.candidates(clicks, previous, truth)
        if not found:
            return
        yield found
        given = previous.full(truth.shape)
        if found[0]["truth"] >= _ENOUGH:
            return


def robot_click(truth: Mask, given: Mask, sloppy: np.random.Generator | None) -> Click | None:
    """Click as `next_click` does, or anywhere in the inner half of the region that it clicks in."""
    box = annotated_box(truth | given)
    click = None if box is None else next_click(truth[box], given[box])
    if box is None or click is None:
        return None
    row, column = click.row, click.column
    if sloppy is not None:
        wrong = truth[box] & ~given[box] if click.positive else given[box] & ~truth[box]
        depth = ndimage.distance_transform_edt(np.pad(largest_region(wrong), 1))[1:-1, 1:-1]
        rows, columns = np.nonzero(depth >= 0.5 * depth.max())
        place = int(sloppy.integers(len(rows)))
        row, column = float(rows[place]), float(columns[place])
    return replace(click, row=row + box[0].start, column=column + box[1].start)


# ------------------------------------------------------------------------------------ tuning

Scorer = Callable[[Candidate, bool], float]
Rows = Mapping[str, Sequence[Sequence[Sequence[Candidate]]]]


def first_scorer(
    overlap_power: float,
    seen: float,
    shared: float,
    middle: float,
    deepest: float,
    credible: float,
) -> Scorer:
    """Return how outlines are judged at the first click."""

    def score(each: Candidate, is_credible: bool) -> float:
        depth = min(each["middle"], deepest) + _LEAST
        sharing = each["shared"] + _LEAST
        value = each["overlap"] ** overlap_power * each["seen"] ** seen * sharing**shared
        value *= depth**middle
        return float(value * (credible if is_credible else 1.0))

    return score


def later_scorer(deep: float, share: float, middle: float, goes_on: float) -> Scorer:
    """Return how outlines are judged at later clicks."""

    def score(each: Candidate, is_going_on: bool) -> float:
        inner, change = min(each["middle"], 0.8) + _LEAST, min(each["deep"], 0.8) + _LEAST
        value = change**deep * (each["share"] + _LEAST) ** share * inner**middle
        return float(value * each["overlap"] ** 2 * (goes_on if is_going_on else each["seen"]))

    return score


def chosen(rows: Rows, click: int, score: Scorer, enough: float = 2.0) -> NDArray[np.float64]:
    """Return the mean overlap of what is chosen at a click, for each set."""
    means = []
    for objects in rows.values():
        values = []
        for steps in objects:
            if len(steps) <= click:
                continue
            found = steps[click]
            if min(found[0]["deep"] * found[0]["share"] ** 0.5, found[0]["middle"]) > enough:
                best = 0
            else:
                best = int(np.argmax([score(each, n == 0) for n, each in enumerate(found)]))
            values.append(found[best]["truth"])
        means.append(float(np.mean(values)) if values else np.nan)
    return np.array(means)


def tune(arguments: argparse.Namespace) -> None:
    """Find numbers, and print what they bring on sets that they were not found with."""
    rows: dict[str, Any] = {}
    for number, file in enumerate(arguments.file):
        rows |= {f"{number} {name}": found for name, found in json.loads(file.read_text()).items()}
    print(" " * 34, *(f"{name[:8]:>8}" for name in rows), "    mean")
    powers, depths, bonuses = (0.5, 1, 2), (0.7, 0.8, 0.9, 1), (1, 2, 3)
    first = itertools.product(powers, (0, *powers), (0, *powers), (0, 1, 2, 4), depths, bonuses)
    report(rows, 0, [(values, first_scorer(*values), 2.0) for values in first])
    later = list(itertools.product((1, 2), (0, 0.5, 1), (0, 1, 2), (1, 1.25, 1.5, 2.5)))
    for click in range(1, _CLICKS):
        gates = itertools.product(later, (0.3, 0.5, 0.7))
        report(rows, click, [((*v, gate), later_scorer(*v), gate) for v, gate in gates])


def report(rows: Rows, click: int, tried: Sequence[tuple[Any, Scorer, float]]) -> None:
    """Print for one click: as before, the best in hindsight, the best numbers, sets left out."""
    show(f"click {click + 1}, no choice", chosen(rows, click, lambda _, goes_on: float(goes_on)))
    show("best in hindsight", chosen(rows, click, lambda each, _: each["truth"]))
    values = np.array([chosen(rows, click, score, enough) for _, score, enough in tried])
    for place in np.argsort(-np.nanmean(values, axis=1))[:3]:
        show(str(tried[place][0]), values[place])
    sets = np.array([name.split()[1] for name in rows])
    elsewhere = [
        values[int(np.argmax(np.nanmean(values[:, sets != name], axis=1))), number]
        for number, name in enumerate(sets)
    ]
    show("found without the set", np.array(elsewhere))
    bundled = (2, 0.5, 0, 0, 1, 1) if click == 0 else (1, 0.5, 0, 1.25, 0.7)
    [place] = [n for n, (numbers, *_) in enumerate(tried) if numbers == bundled]
    show("what is used", values[place])


def show(label: str, values: NDArray[np.float64]) -> None:
    """Print a line of a table."""
    print(f"{label:<34}", *(f"{value:8.3f}" for value in values), f"{np.nanmean(values):8.3f}")


def main(words: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="click, and write what answers are judged by")
    collecting.add_argument("file", type=Path)
    collecting.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET")
    collecting.add_argument("--objects", type=int, default=24, help="of each set")
    collecting.add_argument("--seed", type=int, default=7, help="which objects")
    collecting.add_argument("--sloppy", action="store_true", help="do not click exactly")
    tuning = commands.add_parser("tune", help="find numbers")
    tuning.add_argument("file", type=Path, nargs="+")
    arguments = parser.parse_args(words)
    collect(arguments) if arguments.command == "collect" else tune(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
