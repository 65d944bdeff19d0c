"""The tables and the picture of the clicks benchmark, from the rows that were run.

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
from report import machine, table

#: The most clicks on one object, and what counts for one that never gets there.
MOST_CLICKS: Final = 20
_FLOOD: Final = "flood fill"
#: Measured on objects beside known ones, so that they are compared with each other only.
_BESIDE_KNOWN: Final = ("unadapted", "adapted")
_FIRST: Final = "unet"
# Okabe and Ito's colours, which can be told apart by everyone; the network is black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "sD^vPX"
_COLUMNS = 4
_DRAWN_CLICKS = 10


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
            if not learner.startswith(_FLOOD):
                self._rows[name, learner] = row
            elif self._is_better(row, self._rows.get((name, _FLOOD))):
                self._rows[name, _FLOOD] = Row.of(found, _FLOOD)
                self.tolerances[name] = learner.removeprefix(_FLOOD).strip()

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
        names = {learner for _, learner in self._rows} - set(_BESIDE_KNOWN)
        return sorted(names, key=lambda name: (name != _FIRST, name))

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


# ------------------------------------------------------------------------------------ tables


def write_tables(folder: Path, output: Path | None) -> None:
    """Print the tables of all rows in a folder, and write them to a file if asked to."""
    rows = load_rows(folder)
    parts = [f"Tables made on {machine()}.\n", "### Clicks to 0.85, all learners\n"]
    parts += [compared_table(rows), ""]
    for learner in rows.learners:
        parts += [f"### {learner}\n", learner_table(rows, learner), ""]
    adapted = adapted_table(rows)
    if adapted is not None:
        parts += ["### Adapted to 10 objects of the same image\n", adapted, ""]
    text = "\n".join(parts)
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


def learner_table(rows: Rows, learner: str) -> str:
    """One line a set, one column a measure; below, the means over sets."""
    lines, values = [], []
    for name in rows.sets:
        row = rows.get(name, learner)
        if row is None:
            continue
        measured = _measures(row)
        values.append(measured)
        tolerance = [rows.tolerances[name]] if learner == _FLOOD else []
        lines.append([*_about(row), *_cells(measured), *tolerance])
    means = [float(np.mean(column)) for column in zip(*values, strict=True)]
    lines.append(["**mean**", "", "", "", *_cells(means), *([""] if learner == _FLOOD else [])])
    header = [
        *("set", "kind", "in training", "objects", "NoC@85", "NoC@90", "never 0.85"),
        *("IoU, 1 click", "2 clicks", "3 clicks", "5 clicks", "s a click", "95 % below, s"),
        "s to open an image",
        *(["tolerance"] if learner == _FLOOD else []),
    ]
    return table(header, lines)


def compared_table(rows: Rows) -> str:
    """NoC@85, one line a set, one column a learner; the best of each line is bold.

    What was not measured on all objects says on how many, and is never bold.
    """
    learners = rows.learners
    lines, complete = [], []
    for name in rows.sets:
        found = [rows.get(name, learner) for learner in learners]
        most = max((len(row.curves) for row in found if row), default=0)
        if not most:
            continue
        values = [mean_clicks(row.curves, 0.85) if row else None for row in found]
        counts = [len(row.curves) if row else 0 for row in found]
        whole = [v for v, n in zip(values, counts, strict=True) if v is not None and n == most]
        cells = [
            _compared_cell(value, count, most, min(whole))
            for value, count in zip(values, counts, strict=True)
        ]
        lines.append([*_about(rows.any_of(name))[:3], most, *cells])
        if len(whole) == len(learners):
            complete.append(whole)
    if complete:
        means = [float(np.mean(column)) for column in zip(*complete, strict=True)]
        cells = [_compared_cell(value, 1, 1, min(means)) for value in means]
        short = len(complete) < len(lines)
        word = f"**mean** of {len(complete)} of {len(lines)} sets" if short else "**mean**"
        lines.append([word, "", "", "", *cells])
    return table(["set", "kind", "in training", "objects", *learners], lines)


def adapted_table(rows: Rows) -> str | None:
    """Before and after adapting, on the same objects; None if there is nothing to compare."""
    lines, values = [], []
    for name in rows.sets:
        before, after = (rows.get(name, learner) for learner in _BESIDE_KNOWN)
        if before is None or after is None:
            continue
        common = [key for key in before.overlaps if key in after.overlaps]
        if not common:
            continue
        before, after = before.only(common), after.only(common)
        pair = [
            measure
            for goal in (0.85, 0.9)
            for measure in (mean_clicks(before.curves, goal), mean_clicks(after.curves, goal))
        ]
        pair += [overlap_after(row.curves, 1) for row in (before, after)]
        pair += [failures(row.curves) for row in (before, after)]
        pair += [float(np.median(after.opening))]
        values.append(pair)
        lines.append([*_about(before), *_adapted_cells(pair)])
    if not lines:
        return None
    means = [float(np.mean(column)) for column in zip(*values, strict=True)]
    lines.append(["**mean**", "", "", "", *_adapted_cells(means)])
    header = [
        *("set", "kind", "in training", "objects", "NoC@85", "adapted", "NoC@90", "adapted"),
        *("IoU, 1 click", "adapted", "never 0.85", "adapted", "s to adapt"),
    ]
    return table(header, lines)


def _about(row: Row) -> list[str]:
    return [row.set, row.kind, "yes" if row.trained else "no", str(len(row.curves))]


def _measures(row: Row) -> list[float]:
    curves = row.curves
    return [
        mean_clicks(curves, 0.85),
        mean_clicks(curves, 0.9),
        failures(curves),
        *(overlap_after(curves, clicks) for clicks in (1, 2, 3, 5)),
        float(np.median(row.seconds)),
        float(np.percentile(row.seconds, 95)),
        float(np.median(row.opening)),
    ]


def _cells(measures: Sequence[float]) -> list[str]:
    clicks, missed, rest = measures[:2], measures[2], measures[3:]
    return [
        *(f"{value:.2f}" for value in clicks),
        f"{missed:.0%}",
        *(f"{value:.3f}" for value in rest),
    ]


def _adapted_cells(measures: Sequence[float]) -> list[str]:
    clicks, overlaps, missed, seconds = (
        measures[:4],
        measures[4:6],
        measures[6:8],
        measures[8],
    )
    return [
        *(f"{value:.2f}" for value in clicks),
        *(f"{value:.3f}" for value in overlaps),
        *(f"{value:.0%}" for value in missed),
        f"{seconds:.1f}",
    ]


def _compared_cell(value: float | None, count: int, most: int, best: float) -> str:
    if value is None:
        return ""
    if count < most:
        return f"{value:.2f} ({count} of {most})"
    # Equal as far as it is shown is equal.
    return f"**{value:.2f}**" if f"{value:.2f}" == f"{best:.2f}" else f"{value:.2f}"


# ------------------------------------------------------------------------------------ picture


def draw(rows: Rows, path: Path) -> None:
    """Draw the mean overlap against the number of clicks, one panel a set, one line a learner.

    Parameters
    ----------
    rows
        What was run.
    path
        Where the picture goes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, learners = rows.sets, rows.learners
    lines = -(-(len(names) + 1) // _COLUMNS)
    figure = Figure(figsize=(3.2 * _COLUMNS, 2.6 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, _COLUMNS, squeeze=False, sharey=True).ravel()
    for name, panel in zip(names, panels, strict=False):
        for learner in learners:
            row = rows.get(name, learner)
            if row is not None:
                _line(panel, row, learners)
        _dress(panel, rows.any_of(name))
    for panel in panels[len(names) :]:
        panel.axis("off")
    panels[-1].legend(handles=_legend(learners), loc="center", frameon=False, fontsize=9)
    figure.supxlabel("clicks", fontsize=10)
    figure.supylabel("mean IoU", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _line(panel: Any, row: Row, learners: Sequence[str]) -> None:
    clicks = range(1, _DRAWN_CLICKS + 1)
    colour, marker = _look(learners, row.learner)
    values = [overlap_after(row.curves, number) for number in clicks]
    panel.plot(clicks, values, color=colour, marker=marker, markersize=3.5, linewidth=1.4)


def _dress(panel: Any, row: Row) -> None:
    panel.set_title(f"{row.set}\n{row.kind}{'' if row.trained else ', unseen'}", fontsize=9)
    panel.set_ylim(0, 1)
    panel.set_xticks(range(1, _DRAWN_CLICKS + 1))
    panel.grid(alpha=0.25)
    panel.tick_params(labelsize=8)


def _look(learners: Sequence[str], learner: str) -> tuple[str, str]:
    if learner == _FIRST:
        return "black", "o"
    number = [each for each in learners if each != _FIRST].index(learner)
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _legend(learners: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for learner in learners:
        colour, marker = _look(learners, learner)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, label=learner))
    return handles
