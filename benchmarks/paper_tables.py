"""The tables of docs/paper.md, from the rows that were run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from report import machine, table

Row = dict[str, Any]

# What the sources say, beside which ours is put.
PUBLISHED: dict[str, tuple[tuple[str, dict[str, float]], ...]] = {
    "em": (
        (
            "Ronneberger et al. 2015, table 1 (trained on 30 sections, hidden test)",
            {
                "pixel F error, best threshold": 0.0611,
                "Rand error, best threshold": 0.0382,
                "warping error, best threshold": 0.000353,
            },
        ),
    ),
    "nuclei": (
        ("StarDist, Schmidt et al. 2018 (its split)", {"AP@0.5": 0.864}),
        ("two-class U-Net, same source", {"AP@0.5": 0.674}),
    ),
    "hela": (("Ronneberger et al. 2015, table 2 (DIC-C2DH-HeLa)", {"SEG": 0.7756}),),
    "simplus": (),
}
_COLUMNS = {
    "em": (
        "pixel error, best threshold",
        "pixel F error, best threshold",
        "Rand error, best threshold",
        "Rand error, flooded",
        "warping error, best threshold",
        "warping error, all kinds, best threshold",
        "1 - V_rand, best threshold",
        "1 - V_info, best threshold",
    ),
    "nuclei": ("AP@0.5", "AP@0.6", "AP@0.7", "AP@0.8", "AP@0.9", "mean AP", "PQ", "SEG"),
    "hela": ("SEG", "AP@0.5", "mean AP", "PQ"),
    "simplus": ("SEG", "AP@0.5", "mean AP", "PQ"),
}
_TITLES = {
    "em": "EM membranes (isbi2012_em, sections 15-19; less is better)",
    "nuclei": "Nuclei in fluorescence (dsb2018, every fifth image; more is better)",
    "hela": "HeLa in phase contrast (one field left out; more is better)",
    "simplus": "Simulated nuclei (last three frames; more is better)",
}


def write_tables(runs: Path, output: Path | None) -> None:
    """Print the tables of all rows in a folder, and write them to a file if asked to."""
    rows = [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]
    parts = [f"Measured on {machine()}.\n"]
    for name, title in _TITLES.items():
        here = [row for row in rows if row["set"] == name]
        figures = [row for row in here if row["group"] in ("figure", "peer")]
        if figures:
            parts += [f"### {title}\n", figure_table(name, figures), ""]
            if name != "em":
                parts += ["Objects that are wrong, of all test images:\n", error_table(figures), ""]
        ablation = [row for row in here if row["group"] == "ablation"]
        if ablation:
            parts += [f"### Ablation: {title}\n", ablation_table(name, ablation), ""]
    text = "\n".join(parts)
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


def figure_table(name: str, rows: Sequence[Row]) -> str:
    """Put published figures, ours and the peers' below each other; seeds or folds as a mean."""
    columns = _COLUMNS[name]
    lines: list[list[str]] = []
    for source, values in PUBLISHED[name]:
        lines.append([source, "", *(_number(values.get(column)) for column in columns)])
    for label, group in _grouped(rows, ("group", "name", "minutes")):
        length = _length(group[0])
        cells = [
            _spread([row["scores"]["mean"].get(column) for row in group]) for column in columns
        ]
        lines.append([_named(label[1], label[0]), length, *cells])
    return table(
        ["method", "training", *(c.removesuffix(", best threshold") for c in columns)], lines
    )


def ablation_table(name: str, rows: Sequence[Row]) -> str:
    """One ingredient removed in turn: mean and spread over the seeds."""
    columns = _COLUMNS[name]
    lines = []
    for label, group in _grouped(rows, ("name",)):
        cells = [
            _spread([row["scores"]["mean"].get(column) for row in group]) for column in columns
        ]
        lines.append([label[0], str(len(group)), _length(group[0]), *cells])
    header = ["", "seeds", "training", *(c.removesuffix(", best threshold") for c in columns)]
    return table(header, lines)


def error_table(rows: Sequence[Row]) -> str:
    """List what is wrong with the objects of each row, counted over all test images."""
    counted = [row for row in rows if "errors" in row["scores"]]
    kinds = list(counted[0]["scores"]["errors"]) if counted else []
    lines = [
        [row["name"], *(str(row["scores"]["errors"][kind]) for kind in kinds)] for row in counted
    ]
    return table(["", *kinds], lines)


def _grouped(rows: Iterable[Row], names: Sequence[str]) -> list[tuple[tuple[Any, ...], list[Row]]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(name) for name in names)].append(row)
    return list(groups.items())


def _named(name: str, group: str) -> str:
    return f"{name} (peer)" if group == "peer" else f"**{name}**"


def _length(row: Row) -> str:
    if "about" in row:
        seconds = row["about"]["seconds of learning"]
        return "as published" if row["name"] == "bioimageio" else f"{seconds / 60:.1f} min"
    if row.get("minutes"):
        steps = f", {row['steps']} steps" if row.get("steps") else ""
        return f"{row['minutes']:g} min{steps}"
    return f"{row.get('steps')} steps"


def _number(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return ""
    return f"{value:.6f}" if 0 < value < 0.001 else f"{value:.4f}"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    text = _number(float(np.mean(known)))
    return f"{text} ± {np.std(known, ddof=1):.4f}" if len(known) > 1 else text
