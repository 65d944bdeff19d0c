"""Records what is no stroke: accepted predictions, settings, and from where one looks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from napari_unet.engine.journal import (
    AcceptanceChanged,
    Accepted,
    JournalError,
    SettingsChanged,
    ViewChanged,
)
from napari_unet.engine.journal.changes import CLICKS, HAND, OPEN, PROPOSALS
from napari_unet.viewer.project.bound import BoundProject

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController
    from napari_unet.viewer.project.session import ProjectSession

# Seconds between two records of the view: a journey through a stack is not one of each step.
_BETWEEN_VIEWS: Final = 5.0


class FactsRecorder:
    """Compares settings, view and accepted predictions with what the project knows.

    Parameters
    ----------
    projects, controller
        Whose.
    """

    def __init__(self, projects: ProjectSession, controller: SegmentationController) -> None:
        self._projects = projects
        self._viewed = 0.0
        self._seen: tuple[Any, ...] = ()
        controller.changed.connect(self._on_changed)

    def look(self, at_once: bool = False) -> None:
        """Record settings and view if they are other ones.

        Parameters
        ----------
        at_once
            Even if the view was recorded a moment ago.
        """
        controller, project = self._projects.controller, self._projects.project
        if controller is None or project is None or not project.can_append():
            return
        settings = _settings(controller, self._projects.bound)
        settings |= _kept(project.facts.settings, CLICKS, PROPOSALS)
        if settings != dict(project.facts.settings):
            project.append(SettingsChanged(settings))
        if at_once or time.monotonic() - self._viewed > _BETWEEN_VIEWS:
            view = view_of(controller.viewer) | _kept(project.facts.view, HAND, OPEN)
            if view != dict(project.facts.view):
                with suppress(JournalError):  # a camera may be where no number says
                    project.append(ViewChanged(view))
                self._viewed = time.monotonic()

    def forget(self) -> None:
        """Take accepted predictions as they are for recorded."""
        controller = self._projects.controller
        self._seen = () if controller is None else controller.segmenter.accepted

    def _on_changed(self) -> None:
        """Record what was accepted or withdrawn."""
        controller, bound = self._projects.controller, self._projects.bound
        if controller is None or controller.segmenter.accepted is self._seen:
            return
        self._seen = controller.segmenter.accepted
        project = self._projects.project
        if bound is None or project is None or not project.can_append():
            return
        plane = controller.layers.plane
        known = {id(each) for each in bound.accepted.values()}
        kept = {number for number, each in bound.accepted.items() if each in self._seen}
        gone = [number for number in project.facts.accepted if number not in kept]
        if gone:
            before = project.facts.accepted
            left = tuple(number for number in before if number in kept)
            project.append(AcceptanceChanged(before, left))
        for each in self._seen:
            if id(each) in known or each.image is not controller.layers.source:
                continue
            rows, columns = each.box
            labels = each.labels[(None,) * len(plane)].copy()
            start = (*plane, rows.start, columns.start)
            bound.accepted[project.append(Accepted(start, labels))] = each
        self._projects.changed.emit()


def _kept(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return what `ClicksRecorder` wrote beside them, to be written with them again."""
    return {name: values[name] for name in names if name in values}


def _settings(controller: SegmentationController, bound: BoundProject | None) -> dict[str, Any]:
    strokes = controller.layers.annotations
    watch = None if bound is None or strokes is None else bound.watch_of(strokes)
    config = asdict(controller.segmenter.config)
    del config["device"]  # this machine's own matter
    return {
        "classes": controller.network.classes,
        "learning": _plain(config),
        "annotations": None if watch is None else watch.name,
    }


def view_of(viewer: Any) -> dict[str, Any]:
    """Return from where one looks, as values for JSON."""
    camera, dims = viewer.scene.camera, viewer.dims
    return {
        "center": [float(value) for value in camera.center],
        "zoom": float(camera.zoom),
        "angles": [float(value) for value in camera.angles],
        "step": [int(value) for value in dims.current_step],
        "ndisplay": int(dims.ndisplay),
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back: lists for tuples."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
