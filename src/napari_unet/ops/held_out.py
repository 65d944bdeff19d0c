"""Which strokes are kept apart from learning, so that a score on them means something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.ops.annotations import BACKGROUND, NOT_ANNOTATED
from napari_unet.ops.errors import InputError
from napari_unet.ops.labels import connected_regions

# With fewer strokes of a class, keeping one apart costs learning more than a score is worth.
_FEWEST_TO_SHARE = 3


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Which annotated pixels are kept apart from training.

    Attributes
    ----------
    mask
        Shape (Y, X), boolean: True where a stroke is held out. It must never be trained on.
    labels
        Shape (Y, X): the annotations that were split. What is annotated and not in `mask` is
        trained on.
    enough
        Whether a score can be told: at least two labels have held-out strokes.
    reason
        What a score rests on, or which strokes it takes to have one; a sentence for the user.
    """

    mask: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    enough: bool
    reason: str


def hold_out_strokes(
    labels: NDArray[np.integer[Any]],
    *,
    fraction: float = 0.2,
    previous: HeldOut | None = None,
    seed: int = 0,
) -> HeldOut:
    """Keep some whole strokes apart, so that a score on them means something.

    A label gives strokes away once it has three, and then the rounded `fraction` of them, one at
    least; its largest stroke only if there is no other. Given the `previous` split, no pixel
    changes sides while it is annotated the same: held-out strokes stay so and take along what they
    grow by, strokes that were trained on stay in training, and only new strokes are dealt out. One
    exception: a label whose only strokes left are held out gets them back, or it could not be
    learned.

    Parameters
    ----------
    labels
        Shape (Y, X), checked annotations.
    fraction
        Share of the strokes of each label, 0 <= fraction < 1; 0 deals out no new ones.
    previous
        The split of an earlier state of the same annotations.
    seed
        Of the choice; the same input gives the same split.

    Returns
    -------
    HeldOut
        With a `mask` that covers whole strokes (but for a new stroke that joins a held-out one to
        a trained one: its own pixels are trained on).

    Raises
    ------
    InputError
        If `fraction` is out of range.
    """
    if not 0 <= fraction < 1:
        raise InputError(
            f"a held-out share of {fraction} is out of range; choose 0 to below 1, 0.2 is usual"
        )
    current = np.array(labels, np.uint8)
    held, trained = _carried_over(current, previous)
    mask = np.zeros(current.shape, bool)
    shares: dict[int, tuple[int, int]] = {}
    for label in (int(value) for value in np.unique(current[current > 0])):
        strokes, count = connected_regions(current == label)
        painted = strokes > 0
        chosen = _choose(strokes, count, held, trained, fraction, seed + label)
        # Where a new stroke joined a held-out one to a trained one, each keeps its pixels.
        mask |= chosen[strokes] | (held & painted)
        if mask[painted].all():
            mask[painted] = False
        shares[label] = (len(np.unique(strokes[mask & painted])), count)
    enough = sum(kept > 0 for kept, _ in shares.values()) >= 2
    return HeldOut(mask, current, enough, _explain(shares, enough, fraction))


def _carried_over(
    labels: NDArray[np.uint8], previous: HeldOut | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels that were held out and that were trained on, and are annotated as they were."""
    if previous is None or previous.labels.shape != labels.shape:
        return np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    same = (labels == previous.labels) & (labels != NOT_ANNOTATED)
    return same & previous.mask, same & ~previous.mask


def _choose(
    strokes: NDArray[np.int32],
    count: int,
    held: NDArray[np.bool_],
    trained: NDArray[np.bool_],
    fraction: float,
    seed: int,
) -> NDArray[np.bool_]:
    """Tell for each stroke of one label whether it is held out; entry 0 stands for no stroke."""
    area = np.bincount(strokes.ravel(), minlength=count + 1)
    was_held = np.bincount(strokes[held], minlength=count + 1) > 0
    was_trained = np.bincount(strokes[trained], minlength=count + 1) > 0
    was_held[0] = was_trained[0] = False
    chosen = was_held & ~was_trained
    if count < _FEWEST_TO_SHARE or fraction == 0:
        return chosen
    wanted = min(max(1, round(fraction * count)), count - 1) - int(was_held.sum())
    new = np.flatnonzero(~was_held & ~was_trained)[1:]  # less entry 0
    order = np.random.default_rng(seed).permutation(len(new))
    candidates = sorted(new[order], key=lambda stroke: area[stroke] == area[1:].max())
    chosen[candidates[: max(0, wanted)]] = True
    return chosen


def _explain(shares: dict[int, tuple[int, int]], enough: bool, fraction: float) -> str:
    names = {label: "background" if label == BACKGROUND else f"label {label}" for label in shares}
    missing = [
        f"{max(1, _FEWEST_TO_SHARE - count)} more of {names[label]}"
        for label, (kept, count) in shares.items()
        if not kept
    ]
    if not enough and fraction == 0:
        return "no score: no strokes are held out"
    if not enough:
        return f"too few strokes to know: draw {' and '.join(missing)}"
    kept = sum(kept for kept, _ in shares.values())
    total = sum(count for _, count in shares.values())
    told = f"measured on {kept} of {total} strokes, which are kept from learning"
    return f"{told}; for all labels draw {' and '.join(missing)}" if missing else told
