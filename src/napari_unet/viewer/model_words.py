"""What is told of the network that a session has, and of what networks take."""

from __future__ import annotations

from collections.abc import Sequence

from napari_unet.engine.image import ImageKind
from napari_unet.engine.segmenter import Segmenter
from napari_unet.viewer.actions import Action
from napari_unet.viewer.channels import in_words
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.reports import SPEAKERS


def model_in_words(session: SegmentationController) -> str:
    """Say which network predicts, where it comes from and what it takes."""
    segmenter, status = session.segmenter, session.status
    classes = classes_in_words(session.network.classes, segmenter.usage.class_names)
    if (guest := guest_in_words(segmenter)) is not None:
        text = guest
    elif session.why_not(Action.SAVE_MODEL) is not None:
        text = "Model: none yet. Learn in the Fine-tune dock, or load one."
    elif status.speaker == SPEAKERS["at once"]:
        text = f"Model: {classes}, strokes answered at once"
    elif status.step:
        text = f"Model: {classes}, {status.step} steps learned"
    else:
        text = f"Model: {classes}, from a file"
    kind = segmenter.takes
    if kind is not None and (kind.ndim > 2 or kind.channels > 1):
        text += f". It {kind_in_words(kind)}."
    return text


def guest_in_words(segmenter: Segmenter) -> str | None:
    """Say which model of another program is used; None if the network is our own."""
    if segmenter.guest is None:
        return None
    name = segmenter.guest.description.name or "without a name"
    names = segmenter.guest.description.class_names
    answers = f" and answers with {', '.join(names)}" if names else ""
    return f"Model: {name}, of another program. It predicts{answers}, and cannot learn."


def kind_in_words(kind: ImageKind) -> str:
    """Say what a network takes: "takes stacks as a whole, of 2 channels: nuclei, membrane"."""
    what = "stacks as a whole" if kind.ndim > 2 else "planes"
    names = f": {', '.join(kind.names)}" if len(kind.names) == kind.channels > 1 else ""
    return f"takes {what}, of {in_words(kind.channels)}{names}"


def classes_in_words(count: int, names: Sequence[str]) -> str:
    """Say how many classes there are, and what they are called if that is known."""
    return f"{count} classes" + (f" ({', '.join(names)})" if len(names) == count else "")
