"""What the user can ask a session for, and why it cannot be done just now."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from napari_unet.viewer.model_fit import why_no_learning
from napari_unet.viewer.planes import why_not_usable

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController


class Action(StrEnum):
    """What the user can ask for."""

    LEARN = "learn"
    PAUSE = "pause"
    STOP = "stop"
    PREDICT = "predict"
    INSTANCES = "instances"
    SAVE_RESULT = "save result"
    SAVE_MODEL = "save model"
    LOAD_MODEL = "load model"
    NEW_MODEL = "new model"
    ACCEPT = "accept"
    WITHDRAW = "withdraw"
    UNDO_LEARNING = "undo learning"


def why_not(action: Action, session: SegmentationController) -> str | None:
    """Say why something cannot be done now, with the cure; None if it can."""
    if action is Action.STOP:
        return None if session.lane.is_busy() else "Nothing is running."
    if action is Action.PAUSE:
        return None if session.is_learning else "Nothing is learning; press Learn first."
    if action is Action.SAVE_MODEL and session.segmenter.guest is not None:
        return "The model is of another program; learn first to have one of your own."
    if action is Action.SAVE_MODEL:
        return None if session.segmenter.has_learned else "There is no model yet; learn first."
    if action in (Action.LOAD_MODEL, Action.NEW_MODEL) and session.is_learning:
        return "It is learning; press Stop first."
    if action is Action.LOAD_MODEL:
        return None
    if action is Action.NEW_MODEL:
        return None if session.segmenter.has_learned else "The model is new already."
    if action is Action.UNDO_LEARNING:
        if session.is_learning:
            return "It is learning; press Stop first."
        return None if session.segmenter.rounds else "Nothing was learned that could be undone."
    if (reason := why_not_usable(session.layers.image)) is not None:
        return reason
    if action is Action.WITHDRAW:
        source = session.layers.source
        accepted = any(each.image is source for each in session.segmenter.accepted)
        return None if accepted else "Nothing of this image is accepted."
    if action is Action.ACCEPT:
        results = session.layers.results
        if results is None or results.predicted is None or not results.predicted.any():
            return "Predict first."
        return None
    if action is Action.LEARN:
        if session.is_learning:
            return "It is learning already; new strokes are taken in as you paint."
        return _why_no_learning(session) or session.layers.why_no_strokes(session.network.classes)
    if action is Action.PREDICT:
        if not session.segmenter.has_learned:
            return "Learn from a few strokes first, or load a model."
        return session.layers.why_unfitting()
    complete = session.layers.results is not None and session.layers.results.is_complete
    return None if complete else "Predict the whole image first."


def _why_no_learning(session: SegmentationController) -> str | None:
    """Say why the network cannot learn from this image; one of another program makes room."""
    if session.segmenter.guest is not None:
        return None
    return why_no_learning(session.segmenter.takes) or session.layers.why_unfitting()
