"""The tables of the strokes benchmark, from the rows that were run.

Means are over the seeds of a set, then over sets. Two learners are compared on the sets that both
have rows of, so that a table can be read while rows are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import machine, table

BASIS = "forest"
WHERE = {"same": "same image", "other": "other images"}
#: To reach: strokes, seconds, how far above the forest on the same image and on others, and on how
#: many sets at least as good.
FIGURES = (
    (5, 2.0, (0.08, 0.10), "9 of 10"),
    (5, 30.0, (0.13, 0.18), "all"),
    (20, 60.0, (0.15, 0.20), "all"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A learner after so many seconds; None if it learns once, in the time that it takes."""

    learner: str
    seconds: float | None

    @property
    def title(self) -> str:
        """What stands above the column."""
        return self.learner if self.seconds is None else f"{self.learner}, {self.seconds:g} s"


class Rows:
    """All rows of a folder."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._rows = list(rows)

    @property
    def sets(self) -> list[str]:
        """Names of the sets that there are rows of."""
        return sorted({row["set"] for row in self._rows})

    @property
    def strokes(self) -> list[int]:
        """Numbers of strokes that there are rows of."""
        return sorted({row["strokes"] for row in self._rows})

    @property
    def learners(self) -> list[str]:
        """Names of the learners, the forest first."""
        return sorted({row["name"] for row in self._rows}, key=lambda name: (name != BASIS, name))

    def kind(self, name: str) -> str:
        """Say what a set shows."""
        return str(next(row["kind"] for row in self._rows if row["set"] == name))

    def columns(self, learners: Sequence[str] | None = None) -> list[Column]:
        """Return every learner with every length of learning."""
        found = {
            Column(row["name"], entry["seconds"] if row["anytime"] else None)
            for row in self._rows
            for entry in row["measured"]
            if learners is None or row["name"] in learners
        }
        order = self.learners
        return sorted(found, key=lambda c: (order.index(c.learner), c.seconds or 0))

    def at(self, learner: str, seconds: float) -> Column:
        """Return a learner after so many seconds, or as it is if it learns once."""
        once = Column(learner, None)
        return once if once in self.columns([learner]) else Column(learner, seconds)

    def values(
        self, column: Column, strokes: int, where: str, measure: str = "IoU"
    ) -> dict[str, float]:
        """Return the mean over seeds for each set that has it."""
        found: dict[str, list[float]] = {}
        for row, entry in self._entries(column, strokes):
            found.setdefault(row["set"], []).append(entry[where][measure])
        return {name: float(np.nanmean(values)) for name, values in sorted(found.items())}

    def seconds(self, column: Column, strokes: int, part: str, name: str | None = None) -> float:
        """Return the median time of a part, "learning" or "predicting", of one set or of all."""
        found = self._entries(column, strokes)
        times = [entry[part] for row, entry in found if name in (None, row["set"])]
        return float(np.median(times)) if times else float("nan")

    def _entries(self, column: Column, strokes: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [
            (row, entry)
            for row in self._rows
            if row["name"] == column.learner and row["strokes"] == strokes
            for entry in row["measured"]
            if column.seconds in (None, entry["seconds"])
        ]


def load_rows(runs: Path) -> Rows:
    """Read all rows in a folder."""
    paths = (path for path in sorted(runs.glob("*strokes_seed*.json")))
    return Rows(json.loads(path.read_text()) for path in paths)


def write_tables(runs: Path, output: Path | None) -> None:
    """Print the tables of all rows in a folder, and write them to a file if asked to."""
    rows = load_rows(runs)
    parts = [f"Measured on {machine()}.\n", "### Against the forest\n", figure_table(rows), ""]
    for strokes in rows.strokes:
        for where, words in WHERE.items():
            for measure in ("IoU", "best IoU", "AUC"):
                title = f"### {measure}, {words}, {strokes} strokes a class\n"
                parts += [title, set_table(rows, strokes, where, measure), ""]
        parts += [f"### Seconds, {strokes} strokes a class\n", time_table(rows, strokes), ""]
    parts += ["### Strokes for the forest's IoU\n", need_table(rows), ""]
    text = "\n".join(parts)
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


def set_table(rows: Rows, strokes: int, where: str, measure: str = "IoU") -> str:
    """One line a set, one column a learner and length; below, how they compare with the forest."""
    columns = rows.columns()
    values = {column: rows.values(column, strokes, where, measure) for column in columns}
    columns = [column for column in columns if values[column]]
    lines = [
        [name, *(_number(values[column].get(name)) for column in columns)]
        for name in rows.sets
        if any(name in values[column] for column in columns)
    ]
    means = [_mean(list(values[column].values()), len(lines)) for column in columns]
    pairs = [
        None if column.learner == BASIS else _compared(rows, column, strokes, where, measure)
        for column in columns
    ]
    lines += [
        ["**mean**", *means],
        ["minus the forest", *(_difference(pair) for pair in pairs)],
        ["sets at or above the forest", *(_share(pair) for pair in pairs)],
    ]
    return table(["set", *(column.title for column in columns)], lines)


def figure_table(rows: Rows) -> str:
    """Every learner beside the figures to reach."""
    lines = []
    for strokes, seconds, goals, sets in FIGURES:
        lines.append(
            [f"{strokes} strokes, {seconds:g} s", "to reach"]
            + [cell for goal in goals for cell in (f"+{goal:.2f}", sets)]
        )
        for learner in rows.learners:
            column = rows.at(learner, seconds)
            pairs = [_compared(rows, column, strokes, where) for where in WHERE]
            if learner != BASIS and any(len(pair[0]) for pair in pairs):
                cells = [cell for pair in pairs for cell in (_difference(pair), _share(pair))]
                lines.append(["", f"**{learner}**", *cells])
    header = ["", ""]
    for words in WHERE.values():
        header += [f"above the forest, {words}", f"sets at or above it, {words}"]
    return table(header, lines)


def time_table(rows: Rows, strokes: int) -> str:
    """Medians over sets and seeds of what learning and predicting the painted image took."""
    lines = [
        [
            column.title,
            *(f"{rows.seconds(column, strokes, part):.2f}" for part in ("learning", "predicting")),
        ]
        for column in rows.columns()
        if rows.values(column, strokes, "same")
    ]
    return table(["learner", "learning", "predicting the painted image"], lines)


def need_table(rows: Rows) -> str:
    """How many strokes a learner needs for what the forest reaches with 5, 10, 20, 50."""
    numbers = rows.strokes
    lines = []
    for column in rows.columns():
        if column.learner == BASIS:
            continue
        for where, words in WHERE.items():
            cells = [_needed(rows, column, strokes, where) for strokes in numbers]
            lines.append([column.title, words, *cells])
    header = ["learner", "", *(f"forest with {strokes}" for strokes in numbers)]
    return table(header, lines)


def strokes_needed(curve: Sequence[tuple[int, float]], goal: float) -> float | None:
    """Return after how many strokes a curve first reaches a goal.

    Parameters
    ----------
    curve
        Strokes, increasing, and the IoU with them.
    goal
        The IoU to reach.

    Returns
    -------
    float or None
        Between two points interpolated over the logarithm of the strokes; the first point's
        strokes if it is reached there; None if it is not reached.
    """
    before: tuple[int, float] | None = None
    for strokes, value in curve:
        if value >= goal:
            if before is None:
                return float(strokes)
            part = (goal - before[1]) / (value - before[1])
            return float(before[0] * (strokes / before[0]) ** part)
        before = (strokes, value)
    return None


def _needed(rows: Rows, column: Column, strokes: int, where: str) -> str:
    """On the sets that both learners have with all numbers of strokes."""
    basis = Column(BASIS, None)
    every = [rows.values(c, n, where) for c in (basis, column) for n in rows.strokes]
    common = set.intersection(*(set(v) for v in every if v)) if any(every) else set()
    goals = rows.values(basis, strokes, where)
    if not common or not goals:
        return ""

    def mean(values: dict[str, float]) -> float:
        return float(np.mean([values[name] for name in common]))

    curve = [(n, mean(v)) for n in rows.strokes if (v := rows.values(column, n, where))]
    needed = strokes_needed(curve, mean(goals))
    if needed is None:
        return f"more than {curve[-1][0]}"
    return f"{needed:.3g} or fewer" if needed == curve[0][0] else f"{needed:.3g}"


def _compared(
    rows: Rows, column: Column, strokes: int, where: str, measure: str = "IoU"
) -> tuple[list[float], list[float]]:
    """Return the values of the learner and of the forest on the sets that both have."""
    ours = rows.values(column, strokes, where, measure)
    theirs = rows.values(Column(BASIS, None), strokes, where, measure)
    common = [name for name in ours if name in theirs]
    return [ours[name] for name in common], [theirs[name] for name in common]


def _difference(pair: tuple[list[float], list[float]] | None) -> str:
    if pair is None or not pair[0]:
        return ""
    return f"{float(np.mean(np.subtract(*pair))):+.3f}"


def _share(pair: tuple[list[float], list[float]] | None) -> str:
    if pair is None or not pair[0]:
        return ""
    return f"{sum(ours >= theirs for ours, theirs in zip(*pair, strict=True))} of {len(pair[0])}"


def _mean(values: Sequence[float], sets: int) -> str:
    """Return the mean, and of how many sets it is where some are missing."""
    found = _number(float(np.mean(values)))
    return found if len(values) == sets else f"{found} ({len(values)} of {sets} sets)"


def _number(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.3f}"
