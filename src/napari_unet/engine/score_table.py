"""The table of an evaluation: every measure of every image, and of all together."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

EvaluationKind = Literal["instances", "semantic", "boundary"]
KINDS: Final[tuple[EvaluationKind, ...]] = ("instances", "semantic", "boundary")

Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """The measures of every image and of all together.

    Attributes
    ----------
    kind
        What was compared.
    images
        Name and measures of each image.
    total
        The mean over the images; counts, and what is called "summed", over all of them.
    """

    kind: EvaluationKind
    images: tuple[tuple[str, Values], ...] = ()
    total: Values = field(default_factory=dict)

    def to_csv(self) -> str:
        """Return the table as CSV: a row per image, the last one for all."""
        text = io.StringIO()
        names = list(self.total)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", *names])
        for image, values in (*self.images, ("all", self.total)):
            row = [values.get(name) for name in names]
            writer.writerow([image, *("" if value is None else value for value in row)])
        return text.getvalue()
