"""What is told of how good the answer is, and whose it is."""

from __future__ import annotations

from napari_unet.viewer.class_list import class_name
from napari_unet.viewer.status import JobStatus

_RELIABLE_WIDTH = 0.2


def describe_score(status: JobStatus) -> str:
    """Return the score on held-out strokes, how sure it is, and every class, as rich text."""
    lines = [line for line in (status.speaker, status.kept) if line]
    if status.score is None:
        return "<br>".join([*lines, *([status.score_reason] if status.score_reason else [])])
    value = f"Held-out Dice <b>{status.score:.2f}</b>"
    if status.score_interval is None:
        value += ", roughly: one stroke of a class tells little"
    else:
        low, high = status.score_interval
        value += f" (probably {low:.2f} to {high:.2f})"
        if high - low > _RELIABLE_WIDTH:
            value += ", too few strokes to know it better"
    if status.score_at_once is not None:
        value += f"<br>The same of the answer at once: {status.score_at_once:.2f}"
    classes = [
        f"{class_name(label)} {'?' if dice is None else f'{dice:.2f}'}"
        for label, dice in enumerate(status.scores, start=1)
    ]
    return "<br>".join([*lines, value, ", ".join(classes), status.score_reason])
