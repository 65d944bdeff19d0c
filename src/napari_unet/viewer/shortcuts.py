"""Keys of a viewer that has a Fine-tune dock.

napari's own keys stay as they are: none of these is taken by the viewer or by a Labels or Image
layer, and while a Shapes layer is selected, its Shift+L and Shift+P come first. Classes are on Ctrl
and a digit: napari's brush tools are on the plain digits, and Shift and a digit is another
character on most keyboards.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

LEARN_KEY: Final = "Shift-L"
PREDICT_KEY: Final = "Shift-P"
NEXT_KEY: Final = "N"
ACCEPT_KEY: Final = "Shift-K"
UNDO_KEY: Final = "Shift-U"
BORDER_KEY: Final = "Shift-B"
_CLASS_LABELS = range(1, 10)

_HELP: Final = MappingProxyType(
    {
        "Shift+L": "learn, or stop",
        "Shift+P": "predict the whole image",
        "N": "go where strokes help most",
        "Shift+K": "accept what is on screen",
        "Shift+U": "undo the last learning",
        "Shift+B": "part objects, or paint again",
        "Ctrl+1 ... 9": "paint class 1 ... 9",
        "[ and ]": "smaller, larger brush",
        "E and P": "erase, paint",
        "Space": "hold to move the image",
    }
)


def key_table() -> str:
    """Return the keys and what they do as rich text."""
    rows = (f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{v}</td></tr>" for k, v in _HELP.items())
    return f"<table>{''.join(rows)}</table>"


def class_key(label: int) -> str:
    """Return the key that takes the brush of a class, as the user reads it."""
    return f"Ctrl+{label}"


def bind_keys(
    viewer: Any,
    learn_or_stop: Callable[[], None],
    predict: Callable[[], None],
    go_next: Callable[[], None],
    accept: Callable[[], None],
    undo: Callable[[], None],
    part: Callable[[], None],
    paint: Callable[[int], None],
) -> None:
    """Bind the keys of a viewer; of several docks the latest has them.

    Parameters
    ----------
    viewer
        The napari viewer.
    learn_or_stop, predict, go_next, accept, undo, part
        Bound methods, held weakly.
    paint
        Bound method, held weakly; called with the label.
    """
    _bind(viewer, LEARN_KEY, learn_or_stop)
    _bind(viewer, PREDICT_KEY, predict)
    _bind(viewer, NEXT_KEY, go_next)
    _bind(viewer, ACCEPT_KEY, accept)
    _bind(viewer, UNDO_KEY, undo)
    _bind(viewer, BORDER_KEY, part)
    for label in _CLASS_LABELS:
        _bind(viewer, f"Control-{label}", paint, label)


def unbind_keys(viewer: Any) -> None:
    """Give the keys back."""
    own = (LEARN_KEY, PREDICT_KEY, NEXT_KEY, ACCEPT_KEY, UNDO_KEY, BORDER_KEY)
    for key in (*own, *(f"Control-{label}" for label in _CLASS_LABELS)):
        viewer.bind_key(key, None, overwrite=True)


def _bind(viewer: Any, key: str, method: Callable[..., None], *arguments: Any) -> None:
    reference = weakref.WeakMethod(method)

    def press(_viewer: Any) -> None:
        if (bound := reference()) is not None:
            bound(*arguments)

    viewer.bind_key(key, press, overwrite=True)
