"""The geometry of the report's curves: axes with round numbers, and paths for SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.ops.errors import InputError

Points = Sequence[tuple[int, float]]
Floats = NDArray[np.float64]

WIDTH: Final = 460
HEIGHT: Final = 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 26, 42
# Twice as many as a curve of this width has pixels would not show more.
_MOST_BUCKETS: Final = 250
_MOST_READINGS: Final = 80
# The smoothed curve averages over about this share of all steps on each side.
_SMOOTHING: Final = 1 / 60
# One bad patch, such as the first, is not to flatten everything else.
_HIGHEST_PERCENTILE: Final = 99.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, in units of the drawing, and the number to write there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What is shown while the pointer is over a part of the curve.

    `left` and `width` bound that part, `x` and `y` are the point, all in units of the drawing.
    """

    left: float
    width: float
    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve ready to be drawn, in units of the drawing, y downwards.

    Attributes
    ----------
    label
        What the vertical axis shows.
    description
        One sentence for those who cannot see the curve.
    x_ticks, y_ticks
        Along the axes.
    line, faint
        Paths in SVG's language: the curve, and what it was smoothed from ("" if it was not).
    dots
        Where to mark single points.
    readings
        From left to right, without gaps.
    best
        The point to mark as best, if any.
    """

    label: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    line: str
    faint: str
    dots: tuple[tuple[float, float], ...]
    readings: tuple[Reading, ...]
    best: Reading | None = None

    width = WIDTH
    height = HEIGHT
    left = _LEFT
    right = WIDTH - _RIGHT
    top = _TOP
    bottom = HEIGHT - _BOTTOM


def loss_curve(losses: Points) -> Curve | None:
    """Lay out the loss: smoothed, and its spread around that.

    Parameters
    ----------
    losses
        Pairs of step and loss, steps rising. Losses that are not finite are left out.

    Returns
    -------
    Curve or None
        None if there is no finite loss. Thousands of steps are summed up in 250 buckets, of which
        the faint curve shows the lowest and the highest value.
    """
    steps, values = _finite(losses)
    if not len(steps):
        return None
    buckets = np.array_split(np.arange(len(steps)), min(len(steps), _MOST_BUCKETS))
    middle = np.array([steps[each].mean() for each in buckets])
    smooth = _smooth(np.array([np.median(values[each]) for each in buckets]))
    low = min(0.0, float(values.min()))
    scale = _Scale.of(steps, (low, float(np.percentile(values, _HIGHEST_PERCENTILE))))
    points = list(zip(middle.tolist(), smooth.tolist(), strict=True))
    texts = [f"step {step:,.0f} · loss {number(value)}" for step, value in points]
    return Curve(
        label="loss",
        description=(
            f"Loss over {len(losses):,} steps: smoothed, it goes from {number(points[0][1])} to "
            f"{number(points[-1][1])}."
        ),
        x_ticks=scale.x_ticks(),
        y_ticks=scale.y_ticks(),
        line=scale.path(points),
        faint=scale.path(_envelope(steps, values, buckets)) if len(steps) > 1 else "",
        dots=tuple(scale.place(*point) for point in points) if len(points) == 1 else (),
        readings=_readings(scale, points, texts),
    )


def score_curve(scores: Points, measure: str, best_step: int | None) -> Curve | None:
    """Lay out the validation score.

    Parameters
    ----------
    scores
        Pairs of step and score, steps rising. Scores that are not finite are left out.
    measure
        Its name.
    best_step
        The step to mark; None, or a step without a score, marks none.

    Returns
    -------
    Curve or None
        None if there is no finite score.
    """
    steps, values = _finite(scores)
    if not len(steps):
        return None
    scale = _Scale.of(steps, _roomy(float(values.min()), float(values.max())))
    points = list(zip(steps.tolist(), values.tolist(), strict=True))
    texts = [f"step {step:,.0f} · {measure} {number(value)}" for step, value in points]
    readings = _readings(scale, points, texts, most=len(points))
    best = next(
        (r for r, (step, _) in zip(readings, points, strict=True) if step == best_step), None
    )
    said = f" The best, at {best.text}, is marked." if best else ""
    return Curve(
        label=measure,
        description=(
            f"{measure} on the validation images, {len(points):,} times, from "
            f"{number(points[0][1])} to {number(points[-1][1])}.{said}"
        ),
        x_ticks=scale.x_ticks(),
        y_ticks=scale.y_ticks(),
        line=scale.path(points),
        faint="",
        dots=tuple(scale.place(*point) for point in points) if len(points) <= 60 else (),
        readings=readings,
        best=best,
    )


def number(value: float) -> str:
    """Write a number with three significant digits, thousands apart."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        decimals = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{min(decimals, 3)}f}"
    return f"{value:.2e}"


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Choose multiples of 1, 2 or 5 times a power of ten from `low` to `high`.

    Parameters
    ----------
    low, high
        The range, low < high.
    most
        How many at most, 2 or more.

    Returns
    -------
    list of float
        At least one, all within the range, in rising order.

    Raises
    ------
    InputError
        If the range is empty.
    """
    if not low < high:
        raise InputError(f"no ticks from {low} to {high}; give a range that is not empty")
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            break
    return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From steps and values to places in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def of(cls, steps: Floats, y: tuple[float, float]) -> _Scale:
        first, last = float(steps[0]), float(steps[-1])
        # From 0 if little is lost by it.
        first = 0.0 if first <= 0.1 * last else first
        x = (first, last) if first < last else (first - 1, last + 1)
        return cls(x, y if y[0] < y[1] else (y[0] - 0.5, y[1] + 0.5))

    def place(self, step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (step - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - _LEFT - _RIGHT)
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        # What is outside is drawn at the edge.
        y = HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - _BOTTOM - _TOP)
        return round(x, 1), round(y, 1)

    def path(self, points: Points | Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join("{:g} {:g}".format(*self.place(*point)) for point in points)

    def x_ticks(self) -> tuple[Tick, ...]:
        whole = [tick for tick in round_ticks(*self.x) if tick == round(tick)]
        return tuple(Tick(self.place(tick, 0)[0], f"{tick:,.0f}") for tick in whole)

    def y_ticks(self) -> tuple[Tick, ...]:
        ticks = round_ticks(*self.y, most=5)
        gap = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) or 1.0
        decimals = max(0, -math.floor(math.log10(gap) + 1e-9))
        form = "{:.0e}" if decimals > 4 or gap >= 1e6 else f"{{:,.{decimals}f}}"
        return tuple(Tick(self.place(self.x[0], tick)[1], form.format(tick)) for tick in ticks)


def _finite(points: Points) -> tuple[Floats, Floats]:
    pairs = np.array(points, np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    return pairs[:, 0], pairs[:, 1]


def _smooth(values: Floats) -> Floats:
    """Take the median of five, which drops single bad patches, and then a Gaussian mean."""
    if len(values) < 5:
        return values
    sigma = max(1.0, len(values) * _SMOOTHING)
    median = ndimage.median_filter(values, 5, mode="nearest")
    return np.asarray(ndimage.gaussian_filter1d(median, sigma, mode="nearest"))


def _envelope(
    steps: Floats, values: Floats, buckets: Sequence[NDArray[np.intp]]
) -> list[tuple[float, float]]:
    """Lowest and highest point of each bucket, in the order of their steps."""
    points: list[tuple[float, float]] = []
    for each in buckets:
        chosen = {int(each[values[each].argmin()]), int(each[values[each].argmax()])}
        points += [(float(steps[index]), float(values[index])) for index in sorted(chosen)]
    return points


def _readings(
    scale: _Scale,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    most: int = _MOST_READINGS,
) -> tuple[Reading, ...]:
    """Divide the width among some of the points, so that there is always one under the pointer."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(most, len(points))).round().astype(int))
    places = [scale.place(*points[index]) for index in chosen]
    between = [(a[0] + b[0]) / 2 for a, b in pairwise(places)]
    borders = [float(_LEFT), *between, float(WIDTH - _RIGHT)]
    return tuple(
        Reading(round(left, 1), round(right - left, 1), *place, texts[index])
        for (left, right), place, index in zip(pairwise(borders), places, chosen, strict=True)
    )


def _roomy(low: float, high: float) -> tuple[float, float]:
    """Add a tenth on each side, but not beyond 0 and 1 for what lies between them."""
    margin = 0.1 * (high - low) or 0.05
    if low >= 0 and high <= 1:
        return max(0.0, low - margin), min(1.0, high + margin)
    return low - margin, high + margin
