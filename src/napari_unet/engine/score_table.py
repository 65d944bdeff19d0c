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

#: At the end of a measure's name: computed from what was counted in all images together.
SUMMED: Final = ", counts summed"

# By the beginning of a measure's name; overlaps and classes stand at the end, "AP@0.5", "Dice 2".
_EXPLANATIONS: Final[Mapping[str, str]] = {
    "AP": "Found objects among found, spurious and missed ones, at this overlap. High is good.",
    "mean AP": "Average precision, mean over the overlaps 0.5 to 0.9. High is good.",
    "SEG": "Overlap of each true object with what covers more than half of it. High is good.",
    "PQ": "Panoptic quality: how well objects are found times how well they fit. High is good.",
    "SQ": "Mean overlap of the objects that were found. High is good.",
    "RQ": "Recognition quality: how well objects are found; the same as F1. High is good.",
    "F1": "Harmonic mean of precision and recall at an overlap of 0.5. High is good.",
    "precision": "Share of the predicted objects that are true, at an overlap of 0.5. High is "
    "good.",
    "recall": "Share of the true objects that were found, at an overlap of 0.5. High is good.",
    "true objects": "How many objects the truth has.",
    "predicted objects": "How many objects the prediction has; as many as the truth is good.",
    "missed objects": "True objects that nothing was found for. Low is good.",
    "spurious objects": "Predicted objects that are not there. Low is good.",
    "split objects": "True objects that were cut into several. Low is good.",
    "merged objects": "Predicted objects that join several true ones. Low is good.",
    "V_rand": "Agreement of all pairs of pixels on being in one object. High is good.",
    "V_info": "Information that prediction and truth share, of all there is. High is good.",
    "Rand error": "Pairs of pixels that are wrongly together or apart: 1 - F-score. Low is good.",
    "warping error": "Share of the pixels that split or merge cells, if borders may be moved. Low "
    "is good.",
    "warping error, all kinds": "Share of the pixels that are topologically wrong in any way. Low "
    "is good.",
    "pixel error": "Share of the pixels that differ. Low is good.",
    "pixel F error": "1 - F-score of the pixels inside cells. Low is good.",
    "Dice": "Twice the common pixels over the sum of both areas. High is good.",
    "IoU": "Common pixels over the pixels of either. High is good.",
    "mean Dice": "Dice, mean over the classes, background among them. High is good.",
    "mean IoU": "IoU, mean over the classes, background among them. High is good.",
    "threshold": "Probability from which a pixel was taken as inside; neither high nor low is "
    "good.",
}


def explain(measure: str) -> str:
    """Say in a sentence or two what a measure means, and whether high or low is good.

    Parameters
    ----------
    measure
        A name from a `ScoreTable`.
    """
    fitting = [key for key in _EXPLANATIONS if measure.startswith(key)]
    text = _EXPLANATIONS[max(fitting, key=len)] if fitting else ""
    return f"{text} Counted in all images together." if measure.endswith(SUMMED) else text


def show_score(measure: str, value: float | None) -> str:
    """Write a score for a person: counts whole, small errors in full, "-" for none."""
    if value is None:
        return "-"
    if measure.endswith("objects"):
        return str(int(value))
    return f"{value:.6f}" if 0 < abs(value) < 0.001 else f"{value:.4f}"


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
        The mean over the images; numbers of objects, and measures that end with `SUMMED`, over all
        images together.
    """

    kind: EvaluationKind
    images: tuple[tuple[str, Values], ...] = ()
    total: Values = field(default_factory=dict)

    def measures(self) -> list[str]:
        """Return what to show a person: of a single image nothing twice."""
        names = list(self.total)
        several = len(self.images) > 1
        return names if several else [name for name in names if not name.endswith(SUMMED)]

    def to_csv(self) -> str:
        """Return the table as CSV: a row per image, the last one, "all", for all."""
        text = io.StringIO()
        names = list(self.total)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", *names])
        for image, values in (*self.images, ("all", self.total)):
            row = [values.get(name) for name in names]
            writer.writerow([image, *("" if value is None else value for value in row)])
        return text.getvalue()
