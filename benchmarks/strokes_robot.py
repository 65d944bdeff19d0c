"""The robot that paints: rounds of strokes inside the true regions, the same for every learner.

The first strokes are random. Those of each further round are painted where a prediction is most
wrong, as a user corrects what is seen: for every class at the deepest place of the region of that
class that was missed most. It is the prediction of one reference learner, so that all learners get
the same strokes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.engine.files import write_atomically
from napari_unet.ops.annotations import (
    THINNEST_BRUSH,
    Stroke,
    draw_strokes,
    strokes_from_json,
    strokes_to_json,
)
from napari_unet.ops.synthetic import random_strokes

# Pixels: shortest and longest way, thinnest and thickest radius, of a brush 1 to 5 pixels wide.
LENGTH = (20.0, 60.0)
RADIUS = (0.5, 2.5)
# Of a class's pixels, no more are painted; the rest is for the score.
_MOST_PAINTED = 0.5
# Points lie up to 0.71 from the centre of the pixel whose room counts.
_SPARE = 0.8
# Strokes do not touch, and the next one of a round goes to another place.
_BETWEEN_STROKES = 2.0
_BETWEEN_PLACES = 10.0
# A stroke takes room this far around it; deeper places than that are few.
_AROUND = 48
_TURNS = 40

Reference = Callable[[NDArray[np.uint8]], NDArray[np.integer[Any]]]


def rounds(
    truth: NDArray[np.uint8],
    totals: Sequence[int],
    reference: Reference,
    seed: int,
    strokes: Sequence[Stroke] = (),
) -> list[Stroke]:
    """Paint round after round.

    Parameters
    ----------
    truth
        Shape (Y, X), labels 1 and up; nothing is painted where it is 0.
    totals
        Strokes of each class after each round, increasing. Fewer are painted where there is no
        room, or half of a class is painted already.
    reference
        Learns from annotations, shape (Y, X), and returns the label that it predicts for each
        pixel. Called between two rounds.
    seed
        The same seed, truth and reference give the same strokes.
    strokes
        Painted in earlier rounds: the first of `totals` that they reach are not painted again.

    Returns
    -------
    list of Stroke
        Round by round. The first n strokes of each label are those after the round for n.
    """
    painted = list(strokes)
    for number, (before, total) in enumerate(zip((0, *totals), totals, strict=False)):
        counts = Counter(stroke.label for stroke in painted)
        if max(counts.values(), default=0) >= total:
            continue
        if not painted:
            painted += random_strokes(truth, total, seed, LENGTH, RADIUS)
            continue
        annotations = annotate(painted, total, truth.shape)
        labels = reference(annotations)
        painted += corrections(truth, annotations, labels, total - before, seed + 1000 * number)
    return painted


def annotate(strokes: Iterable[Stroke], total: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw the first `total` strokes of each label; shape (Y, X), 0 where there are none."""
    drawn, counts = [], Counter[int]()
    for stroke in strokes:
        counts[stroke.label] += 1
        if counts[stroke.label] <= total:
            drawn.append(stroke)
    return draw_strokes(drawn, (shape[0], shape[1]))


def corrections(
    truth: NDArray[np.uint8],
    annotations: NDArray[np.uint8],
    predicted: NDArray[np.integer[Any]],
    per_class: int,
    seed: int,
) -> list[Stroke]:
    """Paint where a prediction is most wrong.

    Parameters
    ----------
    truth
        Shape (Y, X), labels 1 and up, 0 not known.
    annotations
        Shape (Y, X), what is painted already.
    predicted
        Shape (Y, X), the label predicted for each pixel.
    per_class
        Strokes of each label; fewer where there is no room.
    seed
        Of lengths, widths and turns.

    Returns
    -------
    list of Stroke
        Label by label. They touch neither each other nor what is painted, and every pixel that
        they paint has the right label. Where nothing is wrong they go anywhere in the class.
    """
    rng = np.random.default_rng(seed)
    taken = ndimage.distance_transform_edt(np.pad(annotations == 0, 1, constant_values=True))
    strokes: list[Stroke] = []
    for label in (int(value) for value in np.unique(truth[truth > 0])):
        inside = truth == label
        painted = int((annotations[inside] > 0).sum())
        place = _Place(inside, inside & (predicted != label))
        place.keep_away(taken[1:-1, 1:-1])
        while place.strokes < per_class and painted < _MOST_PAINTED * inside.sum():
            start = place.worst(rng)
            if start is None:
                break
            strokes.append(_walk(place.room, label, start, rng))
            painted += place.take(strokes[-1])
    return strokes


def load_strokes(path: Path, image: str) -> list[Stroke]:
    """Read the strokes painted on an image so far; none if there is no file of that image."""
    if not path.exists():
        return []
    of, strokes = strokes_from_json(path.read_text(encoding="utf-8"))
    return strokes if of == image else []


def save_strokes(path: Path, image: str, strokes: Iterable[Stroke]) -> None:
    """Keep the strokes painted on an image."""
    text = strokes_to_json(image, strokes).encode()
    write_atomically(path, lambda file: file.write(text))


class _Place:
    """Where the strokes of one class may go, and where they are wanted.

    Parameters
    ----------
    inside
        Shape (Y, X), where the class is.
    wrong
        Shape (Y, X), where it is and was not predicted.
    """

    def __init__(self, inside: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> None:
        # Distance to the class's border, the frame, and what is painted.
        self.room = _depth(inside)
        self.strokes = 0
        self._wrong = _depth(wrong)

    def keep_away(self, painted: NDArray[np.float64]) -> None:
        """Leave a gap to what is painted; shape (Y, X), the distance to it."""
        np.minimum(self.room, painted - _BETWEEN_STROKES, out=self.room)

    def take(self, stroke: Stroke) -> int:
        """Count a stroke as painted, and return how many pixels it paints."""
        drawn = draw_strokes([stroke], (self.room.shape[0], self.room.shape[1])) > 0
        rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
        box = tuple(
            slice(max(0, int(found[0]) - _AROUND), int(found[-1]) + 1 + _AROUND)
            for found in (rows, columns)
        )
        away = ndimage.distance_transform_edt(~drawn[box])
        for kept, gap in ((self.room, _BETWEEN_STROKES), (self._wrong, _BETWEEN_PLACES)):
            np.minimum(kept[box], np.maximum(away - gap, 0), out=kept[box])
        self.strokes += 1
        return int(drawn.sum())

    def worst(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Where to begin: the deepest place of what was missed most; None without room."""
        possible = self.room > THINNEST_BRUSH + _SPARE
        if not possible.any():
            return None
        regions, count = ndimage.label(self._wrong > 0)
        # Large and deep: the sum of the depths grows with the area and with the width.
        missed = ndimage.sum_labels(self._wrong, regions, np.arange(count + 1))
        candidates = np.unique(regions[possible & (regions > 0)])
        if len(candidates):
            region = candidates[missed[candidates].argmax()]
            found = int(np.where((regions == region) & possible, self._wrong, 0).argmax())
        else:
            found = int(rng.choice(np.flatnonzero(possible)))
        row, column = divmod(found, self.room.shape[1])
        return row, column


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the nearest pixel outside; the frame is outside."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])


def _walk(
    room: NDArray[np.float64], label: int, start: tuple[int, int], rng: np.random.Generator
) -> Stroke:
    """Walk at random from a place, within the room that the brush takes; cornered, end early."""
    length = int(rng.uniform(*LENGTH))
    radius = min(rng.uniform(*RADIUS), float(room[start]) - _SPARE - 1e-3)
    radius = max(radius, THINNEST_BRUSH)
    points, angle = [(float(start[0]), float(start[1]))], rng.uniform(0, 2 * np.pi)
    for _ in range(length):
        for attempt in range(_TURNS):
            turned = angle + rng.normal(0, 0.15 + 0.08 * attempt)
            row, column = points[-1][0] + np.sin(turned), points[-1][1] + np.cos(turned)
            i, j = round(row), round(column)
            inside = 0 <= i < room.shape[0] and 0 <= j < room.shape[1]
            if inside and room[i, j] > radius + _SPARE:
                angle = turned
                points.append((round(float(row), 2), round(float(column), 2)))
                break
        else:
            break
    return Stroke(label, round(radius, 2), tuple(points))
