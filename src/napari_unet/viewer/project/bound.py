"""An image layer with its project, as far as there is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari.layers import Image, Labels

from napari_unet.engine.journal import LayerAdded, Painted, Project
from napari_unet.engine.journal.changes import Role
from napari_unet.engine.journal.format import DTYPES
from napari_unet.viewer.project.background import Work
from napari_unet.viewer.project.places import Looked
from napari_unet.viewer.project.watch import LayerWatch


@dataclass(slots=True, eq=False)
class BoundProject:
    """An image layer with its project.

    Attributes
    ----------
    image
        The layer.
    looked
        What was found out about it; None while that goes on.
    project
        What is written to; None before there is something to write.
    offered
        A project that can be gone on with; None if there is none, or it was declined.
    is_busy
        Whether a project is being opened or made.
    problem
        Why nothing is saved; None if it is.
    watches
        Its layers that are painted on.
    removed
        Those that were painted on and then removed from the viewer; Undo brings them back.
    accepted
        Accepted predictions, as the engine has them, by the numbers of their changes.
    making
        The project that is being made; None if none is.
    """

    image: Image
    looked: Looked | None = None
    project: Project | None = None
    offered: Path | None = None
    is_busy: bool = False
    problem: str | None = None
    watches: list[LayerWatch] = field(default_factory=list)
    removed: list[LayerWatch] = field(default_factory=list)
    accepted: dict[int, Any] = field(default_factory=dict)
    making: Work | None = None

    @property
    def is_saved(self) -> bool:
        """Whether there is a project that is written to."""
        return self.project is not None and self.project.read_only is None

    def watch_of(self, layer: Labels) -> LayerWatch | None:
        """Return what watches a layer; None if nothing does."""
        return next((watch for watch in self.watches if watch.layer is layer), None)

    def take_away(self, layer: Labels) -> LayerWatch | None:
        """Watch a layer no more that was removed; what watched it, if it was painted on."""
        if (watch := self.watch_of(layer)) is None:
            return None
        watch.catch_up()
        watch.close()
        self.watches.remove(watch)
        if self.project is None or watch.name not in self.project.facts.layers:
            return None
        self.removed.append(watch)
        return watch

    def take_back(self, watch: LayerWatch) -> None:
        """Watch a layer again that was removed."""
        self.removed.remove(watch)
        self.watches.append(watch)
        watch.go_on()
        watch.compare("found")

    def watch_named(self, name: str) -> LayerWatch | None:
        """Return what watches the layer of an id; None if nothing does."""
        return next((watch for watch in self.watches if watch.name == name), None)

    def free_name(self, role: Role) -> str:
        """Return an id that no layer of the project has."""
        taken = {watch.name for watch in self.watches}
        if self.project is not None:
            taken |= set(self.project.facts.layers)
        name, number = str(role), 2
        while name in taken:
            name, number = f"{role}-{number}", number + 1
        return name

    def record(self, role: Role, change: Painted, undoes: int, redoes: int) -> int:
        """Write a change of a layer, which is added to the project if need be; 0 if not now."""
        project = self.project
        watch = self.watch_named(change.layer)
        if project is None or not project.can_append():
            return 0
        if change.layer not in project.facts.layers:
            layer = None if watch is None else watch.layer
            pixels = change.boxes[0].after if layer is None else layer.data
            if pixels.dtype.name not in DTYPES:
                return 0
            name = "" if layer is None else layer.name
            project.append(
                LayerAdded(change.layer, role, name, tuple(pixels.shape), pixels.dtype.name)
            )
        return project.append(change, undoes=undoes, redoes=redoes)

    def close(self) -> bool:
        """Let go of the layers and of the project; False if something could not be written."""
        for watch in self.watches:
            watch.catch_up()
            watch.close()
        self.watches.clear()
        self.removed.clear()
        went_well = self.project is None or self.project.close()
        self.project = None
        return went_well
