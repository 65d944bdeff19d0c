"""Python looks for garbage among what a session made, not among all that was imported."""

from __future__ import annotations

import gc

from qtpy.QtWidgets import QWidget

# More objects than Python itself may have spared when it starts.
_OF_PYTHON = 10_000


def spare_what_is_there(window: QWidget) -> None:
    """Leave what is there out of the search for garbage, until a window is gone.

    napari has Python search whenever a layer is removed, and Python does so now and then by itself.
    With torch, napari and vispy loaded there is half a million objects, which takes a third of a
    second, in which the window is still. Nearly all of them are code and stay. What is not needed
    any more is freed as ever; only a ring of such objects waits for the end of the window.
    """
    if gc.get_freeze_count() > _OF_PYTHON:  # a window before, or the program around napari, did
        return
    gc.freeze()
    window.destroyed.connect(lambda: gc.unfreeze())
