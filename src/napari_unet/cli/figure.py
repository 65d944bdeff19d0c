"""The figure of the demo: strokes, probability, objects and how the learning went."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.engine.files import write_atomically

if TYPE_CHECKING:
    from napari_unet.cli.jobs import Training
    from napari_unet.engine.samples import Sample

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
_CLASS_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#0072B2")
_LOSS_COLOUR, _SCORE_COLOUR = "#0072B2", "#D55E00"
_PANEL_HEIGHT = 5.0


def demo_figure(
    path: Path,
    image: NDArray[Any],
    annotations: NDArray[Any],
    probability: NDArray[np.float32],
    instances: NDArray[Any],
    sample: Sample,
    training: Training,
) -> Path:
    """Draw the four panels and write them as PNG; return the path."""
    # A tall image gets narrow panels, so that little of the page stays empty.
    aspect = float(np.clip(image.shape[1] / image.shape[0], 0.6, 1.8))
    width = 2 * _PANEL_HEIGHT * aspect + 1.5
    figure = Figure(figsize=(width, 2 * _PANEL_HEIGHT + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    ((strokes, chance), (objects, curve)) = figure.subplots(2, 2)
    figure.suptitle(f"{sample.title}: {training.sentence()}", fontsize=13)

    _show(strokes, image, "Image and strokes")
    _draw_strokes(strokes, annotations, sample.classes)
    shown = _show(chance, probability[-1], f"Probability of {sample.classes[-1]}", cmap="viridis")
    shown.set_clim(0, 1)
    figure.colorbar(shown, ax=chance, location="bottom", shrink=0.7, pad=0.02)
    _show(objects, image, f"Objects: {int(instances.max(initial=0))}")
    objects.imshow(_outlines(instances), interpolation="nearest")
    _draw_curve(curve, training)
    return write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _show(axes: Any, image: NDArray[Any], title: str, cmap: str = "gray") -> Any:
    axes.set_title(title, fontsize=12)
    axes.set_axis_off()
    return axes.imshow(image, cmap=cmap)


def _draw_strokes(axes: Any, annotations: NDArray[Any], classes: tuple[str, ...]) -> None:
    overlay = np.zeros((*annotations.shape, 4))
    painted = annotations > 0
    # A white rim keeps the strokes visible on any tissue.
    overlay[ndimage.binary_dilation(painted, iterations=2)] = (1, 1, 1, 1)
    for label in range(1, len(classes) + 1):
        overlay[annotations == label] = (*to_rgb(_colour(label)), 1)
    axes.imshow(overlay, interpolation="nearest")
    patches = [Patch(color=_colour(label), label=name) for label, name in enumerate(classes, 1)]
    axes.legend(
        handles=patches,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=min(len(classes), 4),
        frameon=False,
        fontsize=11,
    )


def _colour(label: int) -> str:
    return _CLASS_COLOURS[(label - 1) % len(_CLASS_COLOURS)]


def _outlines(instances: NDArray[Any]) -> NDArray[np.float64]:
    """Return an RGBA picture of the objects' outlines: black, with a yellow core."""
    lowest, highest = ndimage.minimum_filter(instances, 3), ndimage.maximum_filter(instances, 3)
    core = (instances > 0) & (lowest != highest)
    overlay = np.zeros((*instances.shape, 4))
    overlay[ndimage.binary_dilation(core)] = (0, 0, 0, 1)
    overlay[core] = (*to_rgb("#F0E442"), 1)
    return overlay


def _draw_curve(axes: Any, training: Training) -> None:
    axes.set_title("Learning", fontsize=12)
    steps, losses = np.array(training.losses).T
    axes.plot(steps, losses, color=_LOSS_COLOUR, alpha=0.25, linewidth=1)
    axes.plot(steps, _smooth(losses), color=_LOSS_COLOUR, linewidth=2)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (weighted cross-entropy)", color=_LOSS_COLOUR)
    # A single bad patch, such as the first, is not to flatten everything else.
    axes.set_ylim(0, 1.2 * float(np.percentile(losses, 99)) or 1)
    axes.spines[["top", "right"]].set_visible(False)
    score = axes.twinx()
    score.spines["top"].set_visible(False)
    score.set_ylim(0, 1.02)
    score.set_ylabel("Dice on held-out strokes", color=_SCORE_COLOUR)
    if training.scores:
        score.plot(*np.array(training.scores).T, "o-", color=_SCORE_COLOUR, markersize=4)
    elif training.score is not None:
        score.text(
            0.5, 0.5, training.score.reason, transform=axes.transAxes, ha="center", wrap=True
        )


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the median over a tenth of all steps: a mean would follow single bad patches."""
    width = max(1, len(values) // 10)
    return np.asarray(ndimage.median_filter(values, width, mode="nearest"))
