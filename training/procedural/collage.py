"""Two scenes in one picture, as where one tissue ends and another begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from procedural.camera import scaled
from procedural.canvas import Canvas
from procedural.noise import fractal, log_uniform
from procedural.shapes import grow

Draw = Callable[[Canvas], None]


def collage_of(scenes: Mapping[str, Draw]) -> Draw:
    """Return what draws one of the scenes and, over a part of it, another.

    The first keeps its regions and objects. The other is one region, whatever is in it: to be told
    apart by how it looks as a whole.
    """

    def collage(canvas: Canvas) -> None:
        """Draw two scenes side by side."""
        rng = canvas.rng
        first, second = rng.choice(sorted(scenes), 2, replace=False)
        scenes[str(first)](canvas)
        other = Canvas(canvas.shape[0], rng)
        scenes[str(second)](other)
        if rng.random() < 0.6:
            field = fractal(canvas.shape, log_uniform(rng, 50, 250), rng, 4, rng.uniform(0.2, 0.5))
            part = field > rng.normal(0, 0.4)
        else:
            size = canvas.shape[0] * rng.uniform(0.12, 0.35)
            part = grow(canvas.shape, rng, size, rng.uniform(0.2, 0.5), 0.9).inside
        levels = scaled(other.light) * log_uniform(rng, 0.5, 1.5) + rng.normal(0, 0.25)
        canvas.light = np.where(part, levels, scaled(canvas.light)).astype(np.float32)
        canvas.instances[part] = 0
        canvas.mark("other tissue", part)

    return collage
