"""Objects of neighbouring planes, joined into objects of a stack."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.metrics.contingency import contingency

# Cross-sections of one object on two planes overlap at least so much (intersection over union).
LEAST_OVERLAP = 0.25


def continue_objects(
    before: NDArray[np.integer[Any]],
    now: NDArray[np.integer[Any]],
    first_new: int,
    least: float = LEAST_OVERLAP,
) -> NDArray[np.int32]:
    """Give the objects of a plane the numbers of those on the plane before that they continue.

    Pairs are made from the best overlap downwards; every object takes part in one pair at most, so
    that an object that parts goes on in its larger half.

    Parameters
    ----------
    before
        Shape (Y, X): the plane before, 0 is background.
    now
        Shape (Y, X): this plane, in numbers of its own, 0 is background.
    first_new
        The number of the first object that continues none; further ones count up from it.
    least
        Intersection over union of a pair, above 0 to 1.

    Returns
    -------
    NDArray
        Shape (Y, X), int32: `now` with other numbers.
    """
    table = contingency(before, now)
    union = table.predicted_sizes[table.rows] + table.true_sizes[table.columns] - table.pixels
    overlap = np.where((table.rows > 0) & (table.columns > 0), table.pixels / union, 0.0)
    names = np.unique(np.append(before, 0))  # renumbered 0, 1, 2, ... in their order
    number = np.zeros(table.true_count + 1, np.int32)
    taken: set[int] = set()
    for pair in np.argsort(-overlap, kind="stable"):
        row, column = int(table.rows[pair]), int(table.columns[pair])
        if overlap[pair] < least:
            break
        if row not in taken and not number[column]:
            number[column] = names[row]
            taken.add(row)
    new = np.flatnonzero(number[1:] == 0) + 1
    number[new] = np.arange(first_new, first_new + len(new))
    return number[table.truth]
