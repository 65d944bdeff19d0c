"""The tables of the clicks benchmark, from the rows that were run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from clicks_peers import FLOOD
from clicks_rows import (
    BESIDE_KNOWN,
    Row,
    Rows,
    failures,
    load_rows,
    mean_clicks,
    overlap_after,
)
from report import machine, table


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
        tolerance = [rows.tolerances[name]] if learner == FLOOD else []
        lines.append([*_about(row), *_cells(measured), *tolerance])
    means = [float(np.mean(column)) for column in zip(*values, strict=True)]
    lines.append(["**mean**", "", "", "", *_cells(means), *([""] if learner == FLOOD else [])])
    header = [
        *("set", "kind", "in training", "objects", "NoC@85", "NoC@90", "never 0.85"),
        *("IoU, 1 click", "2 clicks", "3 clicks", "5 clicks", "s a click", "95 % below, s"),
        "s to open an image",
        *(["tolerance"] if learner == FLOOD else []),
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
        before, after = (rows.get(name, learner) for learner in BESIDE_KNOWN)
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
