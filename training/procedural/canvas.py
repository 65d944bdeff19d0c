"""The canvas on which a scene is drawn: its light, and what every pixel is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from procedural.noise import Field, Mask, Shape, log_uniform, smooth, texture

# Pixels of these regions belong to no object.
NO_OBJECT = frozenset({"background", "membrane", "debris", "matrix", "seam", "lumen"})


class Canvas:
    """Light, regions and objects of a scene while it is drawn.

    Attributes
    ----------
    light
        Shape (Y, X), float32; any range, scaled at the end.
    regions
        Shape (Y, X), uint8; 1 is whatever the scene began with.
    instances
        Shape (Y, X), int32; 0 where no object is.
    names
        Names of the regions 1, 2, ...
    """

    def __init__(self, side: int, rng: np.random.Generator, ground: str = "background") -> None:
        self.shape: Shape = (side, side)
        self.rng = rng
        self.light: Field = np.zeros(self.shape, np.float32)
        self.regions: NDArray[np.uint8] = np.ones(self.shape, np.uint8)
        self.instances: NDArray[np.int32] = np.zeros(self.shape, np.int32)
        self.names = [ground]

    def mark(self, name: str, mask: Mask, box: tuple[slice, slice] | None = None) -> None:
        """Make the pixels of a mask a region of that name, whatever they were."""
        if name not in self.names:
            self.names.append(name)
        part = self.regions if box is None else self.regions[box]
        part[mask] = self.names.index(name) + 1

    def where(self, *names: str) -> Mask:
        """Pixels that belong to any of the named regions."""
        numbers = [self.names.index(name) + 1 for name in names if name in self.names]
        return np.isin(self.regions, numbers)

    def add_instances(self, labels: NDArray[np.int32]) -> None:
        """Lay further objects over those that are there."""
        drawn = labels > 0
        self.instances[drawn] = labels[drawn] + self.instances.max()

    def finished(self) -> tuple[NDArray[np.uint8], tuple[str, ...], NDArray[np.int32]]:
        """Regions numbered 1..K without gaps, their names, and the objects within them."""
        present = np.unique(self.regions)
        table = np.zeros(256, np.uint8)
        table[present] = np.arange(1, len(present) + 1)
        names = tuple(self.names[number - 1] for number in present)
        outside = np.array([True] + [name in NO_OBJECT for name in names])
        regions = table[self.regions]
        instances = np.where(outside[regions], 0, self.instances).astype(np.int32)
        return regions, names, instances


def clouds(canvas: Canvas, strength: float) -> Field:
    """Uneven ground: slow changes of brightness, standard deviation about `strength`."""
    return strength * smooth(canvas.shape, log_uniform(canvas.rng, 40, 250), canvas.rng)


def grain(canvas: Canvas, strength: float, scale: float | None = None) -> Field:
    """Any texture, standard deviation `strength`."""
    if strength <= 0:
        return np.zeros(canvas.shape, np.float32)
    return np.float32(strength) * texture(canvas.shape, canvas.rng, scale)
