"""Pictures of what learners make of strokes that real users drew; there is no truth to score by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from strokes_data import TrueImage, scribbled
from strokes_learners import Learner

from napari_unet.engine.pictures import coloured_labels, heat, png, stretched

_GAP = 8
_LONGEST_SIDE = 320


def draw_scribbled(
    data: Path, learners: Mapping[str, Learner], seconds: float, folder: Path
) -> Iterator[Path]:
    """Draw one picture an image: image, strokes, and the probabilities of each learner in turn.

    Parameters
    ----------
    data
        The folder that holds all data sets.
    learners
        Who learns, by name, from left to right.
    seconds
        How long each learns.
    folder
        Where the pictures go, `scribbles-NAME.png`.

    Yields
    ------
    Path
        The pictures; probabilities go from dark blue (0) over grey to yellow (1).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in scribbled(data):
        picture = stretched(drawn.image)
        parts = [picture, coloured_labels(drawn.truth, picture, 0.8)]
        for learner in learners.values():
            parts.append(heat(_probability(learner, drawn, seconds)))
        step = -(-max(drawn.truth.shape) // _LONGEST_SIDE)
        path = folder / f"scribbles-{drawn.name}.png"
        path.write_bytes(png(_row([part[::step, ::step] for part in parts])))
        yield path


def _probability(learner: Learner, drawn: TrueImage, seconds: float) -> NDArray[np.float32]:
    learner.start(int(drawn.truth.max()), seed=0)
    learner.learn(drawn.image, drawn.truth, seconds)
    probability: NDArray[np.float32] = learner.predict(drawn.image)[1]
    return probability


def _row(parts: list[NDArray[Any]]) -> NDArray[np.uint8]:
    """Put pictures of one size side by side."""
    gap = np.full((parts[0].shape[0], _GAP, 3), 255, np.uint8)
    joined = [each for part in parts for each in (part[..., :3], gap)]
    return np.concatenate(joined[:-1], axis=1)
