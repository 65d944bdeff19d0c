"""Say whether the image fits the session's network, and if not, what the user can do about it."""

from __future__ import annotations

from napari_unet.engine.image import ImageKind
from napari_unet.viewer.channels import in_words
from napari_unet.viewer.planes import ImagePlanes


def why_unfitting(kind: ImageKind, planes: ImagePlanes, candidates: int) -> str | None:
    """Say why a network does not take an image, with the cure; None if it does.

    Parameters
    ----------
    kind
        What it takes.
    planes
        The image with the channels that were chosen.
    candidates
        How many channels there are to choose from.
    """
    name = planes.layer.name
    if kind.ndim > len(planes.shape):
        return (
            f"The model looks at stacks as a whole, and '{name}' is a single plane. Choose a stack "
            "(planes, rows, columns), or load a model of planes."
        )
    if kind.channels == planes.channel_count:
        return None
    held = f"'{name}' has {in_words(planes.channel_count)}"
    takes = f"The model takes {in_words(kind.channels)}, and {held}."
    if candidates >= kind.channels:
        which = "the channel" if kind.channels == 1 else "the channels in the model's order"
        return f"{takes} Choose {which} under Channels in the Predict dock, or start a new model."
    last = planes.shape[-1]
    if last == kind.channels and len(planes.shape) > kind.ndim:
        return (
            f"{takes} The last axis looks like its channels: choose it as the channel axis under "
            "Channels in the Predict dock."
        )
    return (
        f"{takes} Open the other channels as layers of the same shape and pixel size, say which "
        "axis holds channels under Channels, load another model, or start a new model."
    )


def why_no_learning(kind: ImageKind | None) -> str | None:
    """Say why a network cannot learn from strokes on planes, with the cure; None if it can."""
    if kind is None or kind.ndim == 2:
        return None
    return (
        "The model looks at stacks as a whole and learns from them: napari-unet train --ndim 3. To "
        "learn plane by plane from strokes here, press New."
    )
