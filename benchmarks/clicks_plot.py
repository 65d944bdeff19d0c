"""The picture of the clicks benchmark, from the rows that were run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clicks_rows import FIRST, Row, Rows, overlap_after

# Okabe and Ito's colours, which can be told apart by everyone; the network is black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "sD^vPX"
_COLUMNS = 4
_DRAWN_CLICKS = 10


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
    if learner == FIRST:
        return "black", "o"
    number = [each for each in learners if each != FIRST].index(learner)
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _legend(learners: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for learner in learners:
        colour, marker = _look(learners, learner)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, label=learner))
    return handles
