"""The rows of the clicks benchmark that were run, and what is measured of them.

All measures are computed from the overlap (intersection over union) after each click. The robot
ends where the overlap is enough; what would come later counts as the last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from clicks_peers import FLOOD

#: The most clicks on one object, and what counts for one that never gets there.
MOST_CLICKS: Final = 20
#: Measured on objects beside known ones, so that they are compared with each other only.
BESIDE_KNOWN: Final = ("unadapted", "adapted")
#: The learner that is compared with the others.
FIRST: Final = "unet"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A learner on a set.

    Attributes
    ----------
    set, kind
        Name of the set, and what it shows.
    trained
        Whether other images of the set were trained with.
    learner
        Its name.
    overlaps
        For each object, by image and number: the overlap after each click.
    seconds
        What each of all answers took.
    opening
        What each opening of an image took.
    """

    set: str
    kind: str
    trained: bool
    learner: str
    overlaps: dict[tuple[str, int], list[float]]
    seconds: list[float]
    opening: list[float]

    @classmethod
    def of(cls, kept: Sequence[dict[str, Any]], learner: str | None = None) -> Row:
        """Make a row of files: of one, or of several seeds.

        Parameters
        ----------
        kept
            As the benchmark has written them, all of one learner on one set.
        learner
            What it is called; None for what it was called.
        """
        first = kept[0]
        found = [(file["seed"], each) for file in kept for each in file["objects"]]
        several = len(kept) > 1
        return cls(
            first["set"],
            first["kind"],
            first["trained"],
            learner or first["learner"],
            {
                (f"{seed} {each['image']}" if several else each["image"], each["label"]): each[
                    "overlaps"
                ]
                for seed, each in found
            },
            [value for _, each in found for value in each["seconds"]],
            [value for file in kept for value in file["opening"]],
        )

    @property
    def curves(self) -> list[list[float]]:
        """The overlaps of all objects."""
        return list(self.overlaps.values())

    def only(self, objects: Iterable[tuple[str, int]]) -> Row:
        """Return the row of some of its objects."""
        chosen = {key: self.overlaps[key] for key in objects}
        return Row(
            self.set, self.kind, self.trained, self.learner, chosen, self.seconds, self.opening
        )


# ------------------------------------------------------------------------------------ measures


def clicks_needed(overlaps: Sequence[float], goal: float) -> int | None:
    """Return after how many clicks an overlap is reached; None if it never is."""
    return next((n for n, value in enumerate(overlaps, start=1) if value >= goal), None)


def mean_clicks(curves: Sequence[Sequence[float]], goal: float) -> float:
    """Return the number-of-clicks measure (NoC).

    Parameters
    ----------
    curves
        For each object, the overlap after each click.
    goal
        The overlap to reach; an object that does not counts as 20 clicks.
    """
    return float(np.mean([clicks_needed(each, goal) or MOST_CLICKS for each in curves]))


def failures(curves: Sequence[Sequence[float]], goal: float = 0.85) -> float:
    """Return the share of objects that never reach an overlap."""
    return float(np.mean([clicks_needed(each, goal) is None for each in curves]))


def overlap_after(curves: Sequence[Sequence[float]], clicks: int) -> float:
    """Return the mean overlap after so many clicks; where there were fewer, after the last."""
    return float(np.mean([each[min(clicks, len(each)) - 1] for each in curves]))


# ------------------------------------------------------------------------------------ rows


class Rows:
    """All rows of a folder.

    Parameters
    ----------
    kept
        As the benchmark has written them. Of flood fill, the tolerance that is best for a set is
        taken: the one with the fewest clicks to 0.85, and among equals the larger first overlap.
    """

    def __init__(self, kept: Iterable[dict[str, Any]]) -> None:
        files: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for each in kept:
            files.setdefault((each["set"], each["learner"]), []).append(each)
        self._rows: dict[tuple[str, str], Row] = {}
        #: For each set, the tolerance of flood fill that was taken.
        self.tolerances: dict[str, str] = {}
        for (name, learner), found in files.items():
            row = Row.of(found)
            if not learner.startswith(FLOOD):
                self._rows[name, learner] = row
            elif self._is_better(row, self._rows.get((name, FLOOD))):
                self._rows[name, FLOOD] = Row.of(found, FLOOD)
                self.tolerances[name] = learner.removeprefix(FLOOD).strip()

    @staticmethod
    def _is_better(row: Row, other: Row | None) -> bool:
        if other is None or len(row.curves) != len(other.curves):
            return other is None or len(row.curves) > len(other.curves)
        ours, theirs = (
            (-mean_clicks(each.curves, 0.85), overlap_after(each.curves, 1))
            for each in (row, other)
        )
        return ours > theirs

    @property
    def sets(self) -> list[str]:
        """Names of the sets that there are rows of; those that were trained with come first."""
        trained = {row.set: row.trained for row in self._rows.values()}
        return sorted(trained, key=lambda name: (not trained[name], name))

    @property
    def learners(self) -> list[str]:
        """Names of the learners that can be compared with each other, the network first."""
        names = {learner for _, learner in self._rows} - set(BESIDE_KNOWN)
        return sorted(names, key=lambda name: (name != FIRST, name))

    def get(self, name: str, learner: str) -> Row | None:
        """Return the row of a learner on a set, if there is one."""
        return self._rows.get((name, learner))

    def any_of(self, name: str) -> Row:
        """Return some row of a set, for what is the same in all."""
        return next(row for row in self._rows.values() if row.set == name)


def load_rows(folder: Path) -> Rows:
    """Read all rows in a folder."""
    paths = sorted(folder.glob("*_seed*.json"))
    return Rows(json.loads(path.read_text()) for path in paths)
