"""Pictures of the strokes benchmark: IoU against seconds and against strokes, one panel a set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from strokes_tables import BASIS, Column, Rows

# Okabe and Ito's colours, which can be told apart by everyone; the forest is black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"
_LINES: dict[str, Any] = {"same": "-", "other": ":"}
_COLUMNS = 4
_TICKS = (1, 2, 5, 10, 20, 50)

Curve = Callable[[str, str, str], list[tuple[float, float]]]


def draw(rows: Rows, folder: Path, strokes: int = 5, seconds: float = 30.0) -> list[Path]:
    """Draw both pictures.

    Parameters
    ----------
    rows
        What was run.
    folder
        Where the pictures go: `strokes-seconds.png` and `strokes-strokes.png`.
    strokes
        Of a class, in the picture against seconds; if there are no such rows, the fewest.
    seconds
        Of learning, in the picture against strokes.

    Returns
    -------
    list of Path
        The pictures.
    """
    if strokes not in rows.strokes:
        strokes = min(rows.strokes, default=strokes)

    longest = max((column.seconds or seconds for column in rows.columns()), default=seconds)

    def over_seconds(learner: str, name: str, where: str) -> list[tuple[float, float]]:
        points = []
        for column in rows.columns([learner]):
            value = rows.values(column, strokes, where).get(name)
            # A learner that learns once stands where it is done, and goes on as a level line.
            time = column.seconds or rows.seconds(column, strokes, "learning", name)
            if value is not None:
                points += [(time, value)]
                points += [(max(time, longest), value)] if column.seconds is None else []
        return points

    def over_strokes(learner: str, name: str, where: str) -> list[tuple[float, float]]:
        column = _nearest(rows, learner, seconds)
        values = [(float(n), rows.values(column, n, where).get(name)) for n in rows.strokes]
        return [(n, value) for n, value in values if value is not None]

    folder.mkdir(parents=True, exist_ok=True)
    first, second = folder / "strokes-seconds.png", folder / "strokes-strokes.png"
    _panels(rows, over_seconds, f"seconds of learning, {strokes} strokes a class", first, (0.2, 70))
    _panels(rows, over_strokes, f"strokes a class, {seconds:g} s of learning", second, (1.7, 60))
    return [first, second]


def _nearest(rows: Rows, learner: str, seconds: float) -> Column:
    columns = rows.columns([learner])
    return min(columns, key=lambda column: abs((column.seconds or seconds) - seconds))


def _panels(rows: Rows, curve: Curve, label: str, path: Path, limits: tuple[float, float]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = -(-(len(rows.sets) + 1) // _COLUMNS)
    figure = Figure(figsize=(3.2 * _COLUMNS, 2.6 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, _COLUMNS, squeeze=False, sharey=True).ravel()
    for name, panel in zip(rows.sets, panels, strict=False):
        _panel(panel, rows.learners, name, curve, limits)
        panel.set_title(f"{name}\n{rows.kind(name)}", fontsize=9)
    for panel in panels[len(rows.sets) :]:
        panel.axis("off")
    handles = _legend(rows.learners)
    panels[-1].legend(handles=handles, loc="center", frameon=False, fontsize=9)
    figure.supxlabel(label, fontsize=10)
    figure.supylabel("IoU", fontsize=10)
    figure.savefig(path, dpi=110)


def _panel(
    panel: Any, learners: Iterable[str], name: str, curve: Curve, limits: tuple[float, float]
) -> None:
    for learner in learners:
        colour, marker = _look(list(learners), learner)
        for where, line in _LINES.items():
            points = curve(learner, name, where)
            if points:
                x, y = zip(*points, strict=True)
                panel.plot(x, y, line, color=colour, marker=marker, markersize=3.5, linewidth=1.4)
    panel.set_xscale("log")
    panel.set_ylim(0, 1)
    panel.set_xticks(_TICKS, [str(tick) for tick in _TICKS])
    panel.set_xlim(*limits)
    panel.minorticks_off()
    panel.grid(alpha=0.25)
    panel.tick_params(labelsize=8)


def _look(learners: list[str], learner: str) -> tuple[str, str]:
    if learner == BASIS:
        return "black", "s"
    number = [each for each in learners if each != BASIS].index(learner)
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _legend(learners: list[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for learner in learners:
        colour, marker = _look(learners, learner)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=4, label=learner))
    for where, words in (("same", "same image"), ("other", "other images")):
        handles.append(Line2D([], [], color="grey", linestyle=_LINES[where], label=words))
    return handles
