"""What mouse and keys do while objects are clicked on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, Final

from napari.components._viewer_mouse_bindings import double_click_to_zoom
from napari.layers import Labels
from qtpy.QtCore import QObject, Signal

from napari_unet.viewer.clicking.scene import Place
from napari_unet.viewer.clicking.session import ClickSession
from napari_unet.viewer.planes import Index

# Pixels of the screen that the mouse may move within a click.
_STILL: Final = 4
_LEFT, _RIGHT = 1, 2

_HELP: Final = MappingProxyType(
    {
        "Click": "outline the object; again: more of it",
        "Shift+click, right click": "not of the object",
        "Ctrl+drag": "a box around an object",
        "Enter or C": "finish the object",
        "Z": "take back the last click",
        "Esc": "drop the object",
        "N": "finish, and go to the next proposal",
        "D": "delete the object under the pointer",
        "Click on a finished object": "take it up again",
        "Shift+drag": "across an object: part it; from one into another: join them",
        "Ctrl+Z, Ctrl+Shift+Z": "undo, redo",
        "Drag, Space": "move the image",
    }
)


def click_key_table() -> str:
    """Return mouse, keys, and what they do as rich text."""
    rows = (f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{v}</td></tr>" for k, v in _HELP.items())
    return f"<table>{''.join(rows)}</table>"


class ClickTool(QObject):
    """Passes clicks and keys on the layer of objects to a session.

    It acts while that layer is the selected one and neither painted nor moved.

    Parameters
    ----------
    session
        What is clicked in.
    """

    #: It acts, or does so no longer.
    toggled = Signal(bool)

    def __init__(self, session: ClickSession) -> None:
        super().__init__(session)
        self._session = session
        self._layer: Labels | None = None
        self._wanted = False
        session.changed.connect(self._follow_layer)
        session.scene.viewer.layers.selection.events.active.connect(self._tell)

    @property
    def is_on(self) -> bool:
        """Whether clicks outline objects."""
        viewer = self._session.scene.viewer
        if not self._wanted or self._layer is None or viewer is None:
            return False
        return viewer.layers.selection.active is self._layer and self._layer.mode == "pan_zoom"

    def turn_on(self) -> None:
        """Select the layer of objects, a new one if there is none, and listen to clicks."""
        objects, viewer = self._session.scene.need_objects(), self._session.scene.viewer
        if objects is None or viewer is None:
            return
        self._wanted = True
        self._follow_layer()
        objects.layer.visible = True
        objects.layer.mode = "pan_zoom"
        objects.layer.cursor = "cross"
        scene = self._session.scene
        if scene.preview is not None and scene.index is not None:
            scene.preview.get_ready(scene.index)
        viewer.layers.selection.active = objects.layer
        self._tell()

    def turn_off(self) -> None:
        """Let the mouse do what napari does."""
        self._wanted = False
        self._session.hand.drop()
        if self._layer is not None:
            self._layer.cursor = "standard"
        self._tell()

    def _tell(self, _event: Any = None) -> None:
        # Keys and double clicks are napari's own while the tool is off.
        layer, viewer = self._layer, self._session.scene.viewer
        if layer is not None:
            for key, action in self._keys().items():
                layer.bind_key(key, None, overwrite=True)
                if self.is_on:
                    layer.bind_key(key, _press(self, action), overwrite=True)
        if viewer is not None:
            calls = viewer.mouse_double_click_callbacks
            if self.is_on and double_click_to_zoom in calls:
                calls.remove(double_click_to_zoom)
            elif not self.is_on and double_click_to_zoom not in calls:
                calls.append(double_click_to_zoom)
        self.toggled.emit(self.is_on)

    def _follow_layer(self) -> None:
        objects = self._session.scene.objects
        layer = None if objects is None else objects.layer
        if layer is self._layer:
            return
        if self._layer is not None:
            self._layer.mouse_move_callbacks.remove(self._on_moved)
            self._layer.mouse_drag_callbacks.remove(self._on_pressed)
            self._layer.mouse_double_click_callbacks.remove(self._on_pressed_again)
            self._layer.events.mode.disconnect(self._tell)
            for key in self._keys():
                self._layer.bind_key(key, None, overwrite=True)
        self._layer = layer
        if layer is not None:
            layer.mouse_move_callbacks.append(self._on_moved)
            layer.mouse_drag_callbacks.append(self._on_pressed)
            layer.mouse_double_click_callbacks.append(self._on_pressed_again)
            layer.events.mode.connect(self._tell)
        self._tell()

    def _keys(self) -> dict[str, Callable[[], object]]:
        session = self._session
        return {
            "Enter": session.hand.commit,
            "C": session.hand.commit,
            "Z": session.hand.take_back,
            "Escape": session.hand.drop,
            "N": session.go_on,
            "D": self._delete,
        }

    def _delete(self) -> None:
        viewer = self._session.scene.viewer
        found = None if viewer is None else self._session.scene.place(viewer.cursor.position)
        if found is not None:
            self._session.delete_at(*found)

    # ------------------------------------------------------------------ mouse

    def _on_moved(self, layer: Labels, event: Any) -> None:
        """Look at what is under the pointer when it rests."""
        under = self._session.scene.place(event.position) if self.is_on else None
        if under is None or self._session.proposing.outlines:
            self._session.ahead.give_up()
        else:
            self._session.ahead.point(*under)

    def _on_pressed_again(self, layer: Labels, event: Any) -> None:
        """Take the second press of a double click as a click."""
        begun = self._session.scene.place(event.position)
        if self.is_on and begun is not None and event.button in (_LEFT, _RIGHT):
            self._session.click(*begun, event.button == _LEFT and "Shift" not in event.modifiers)

    def _on_pressed(self, layer: Labels, event: Any) -> Iterator[None]:
        """Follow the mouse from press to release; napari drives this."""
        session, viewer = self._session, self._session.scene.viewer
        if viewer is None or not self.is_on or event.button not in (_LEFT, _RIGHT):
            return
        begun = session.scene.place(event.position)
        shift, control = "Shift" in event.modifiers, "Control" in event.modifiers
        pressed, path = tuple(event.pos), [event.position]
        moved, camera = False, viewer.scene.camera
        pans = camera.mouse_pan
        if shift or control:
            camera.mouse_pan = False
        if begun is not None and not control and not session.proposing.outlines:
            session.ahead.press(*begun, event.button == _LEFT and not shift)
        try:
            yield
            while event.type == "mouse_move":
                moved = moved or _distance(event.pos, pressed) > _STILL
                path.append(event.position)
                if moved:
                    session.ahead.give_up()
                if moved and control and begun is not None:
                    session.scene.show_box(*self._box_of(begun, event.position))
                elif moved and shift and begun is not None:
                    session.scene.show_path(begun[0], self._places(path))
                yield
        finally:
            camera.mouse_pan = pans
        if begun is None:
            return
        moved = moved or _distance(event.pos, pressed) > _STILL
        path.append(event.position)
        if not moved:
            session.click(*begun, event.button == _LEFT and not shift)
        elif control:
            session.draw_box(*self._box_of(begun, event.position))
        elif shift:
            session.part_or_join(begun[0], self._places(path))

    def _places(self, path: list[Any]) -> list[Place]:
        found = (self._session.scene.place(world) for world in path)
        return [each[1] for each in found if each is not None]

    def _box_of(self, begun: tuple[Index, Place], world: Any) -> tuple[Index, tuple[slice, slice]]:
        index, corner = begun
        other = self._session.scene.nearest(world)
        rows, columns = (
            slice(round(min(a, b)), round(max(a, b)) + 1)
            for a, b in zip(corner, other, strict=True)
        )
        return index, (rows, columns)


def _distance(first: Any, second: Any) -> float:
    """Return the larger of the distances along the two axes of the screen."""
    return max(abs(float(a) - float(b)) for a, b in zip(first, second, strict=True))


def _press(tool: ClickTool, action: Callable[[], object]) -> Callable[[Any], None]:
    """Return what napari calls for a key; the tool is held weakly."""
    reference = weakref.ref(tool)

    def press(_layer: Any) -> None:
        found = reference()
        if found is not None and found.is_on:
            action()

    return press
