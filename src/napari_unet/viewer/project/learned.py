"""Records the network: at the end of every round, while one goes on, and when the window closes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari.utils.notifications import show_warning

from napari_unet.engine.events import JobEvent, RoundUndone
from napari_unet.engine.image import SourceImage
from napari_unet.engine.journal import JournalError, ModelChanged, ModelFile
from napari_unet.engine.journal.changes import KEPT
from napari_unet.engine.journal.weights import (
    copy_weights,
    load_weights,
    network_mark,
    save_weights,
)
from napari_unet.engine.segmenter import Segmenter
from napari_unet.ops.errors import InputError
from napari_unet.viewer.lane import JobTicket
from napari_unet.viewer.project.bound import BoundProject

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController
    from napari_unet.viewer.project.session import ProjectSession

# Seconds of learning that a power cut may take.
_BETWEEN: Final = 60.0


class LearnedRecorder:
    """Writes the network whenever it is another one; the worker thread does it, between two steps.

    Parameters
    ----------
    projects, controller
        Whose.
    """

    def __init__(self, projects: ProjectSession, controller: SegmentationController) -> None:
        self._projects = projects
        self._mark = network_mark(controller.segmenter)
        self._written = time.monotonic()
        # What is being written, and for which project.
        self._saving: dict[JobTicket, tuple[BoundProject, list[_Saved], str]] = {}
        self._is_loading = False
        self._undone = False
        # The network before the round, to which undo leads back; None for a new one.
        self._before: _Kept | None = None
        controller.lane.told.connect(self._on_event)
        controller.lane.finished.connect(self._on_finished)
        controller.lane.failed.connect(self._on_failed)

    def _on_event(self, _ticket: JobTicket, event: JobEvent) -> None:
        if isinstance(event, RoundUndone):
            self._undone = True
        controller = self._projects.controller
        if controller is None or not controller.is_learning:
            return
        if time.monotonic() - self._written > _BETWEEN:
            self._save(KEPT)

    def _on_finished(self, ticket: JobTicket) -> None:
        if ticket in self._saving:
            self._on_saved(ticket)
        controller = self._projects.controller
        if controller is None or self._is_loading or controller.is_learning or self._saving:
            return
        mark = network_mark(controller.segmenter)
        if mark == self._mark:
            return
        if controller.segmenter.is_fine_tuned:
            self._save("undone" if self._undone else "round")
        elif self._mark[2]:  # there was one that had learned, and it is gone
            self._record_new("undone" if self._undone else "new")
        if self._projects.project is not None:
            self._mark = mark

    def _on_failed(self, ticket: JobTicket, error: Exception) -> None:
        if self._saving.pop(ticket, None) is not None:
            show_warning(f"What was learned is not saved: {error}")
        self._on_finished(ticket)

    def _save(self, why: str) -> None:
        """Have the network written."""
        controller, bound = self._projects.controller, self._projects.bound
        self._written = time.monotonic()
        if controller is None or bound is None or bound.project is None or not bound.is_saved:
            return
        found: list[_Saved] = []
        segmenter, folder = controller.segmenter, bound.project.folder
        source, before = controller.layers.source, None if why == KEPT else self._before

        def job(_stop: Any) -> Iterator[JobEvent]:
            found.append(_saved(segmenter, folder, source, before))
            yield from ()

        ticket = controller.lane.submit(job, name="Saving what was learned")
        self._saving[ticket] = bound, found, why

    def _on_saved(self, ticket: JobTicket) -> None:
        bound, found, why = self._saving.pop(ticket)
        if found:
            self._record(bound, found[0], why)

    def _record_new(self, why: str) -> None:
        """Record that there is a new network."""
        bound = self._projects.bound
        before = None if bound is None or bound.project is None else bound.project.facts.model
        self._before = None
        if bound is None or before is None:  # a project without a network has none to lose
            self._undone = False
        else:
            self._record(bound, _Saved(before, None), why)

    def _record(self, bound: BoundProject, saved: _Saved, why: str) -> None:
        project = bound.project
        self._undone = False
        if project is None or not project.can_append():
            return
        undoes = self._projects.steps.latest_round(project) if why == "undone" else 0
        before = project.facts.model if why == KEPT else saved.before
        if not undoes and why == "undone":
            why = "round"
        project.append(ModelChanged(why, before, saved.model), undoes=undoes)
        if why != KEPT:
            self._before = _kept(project.folder, saved.model)
        self._projects.changed.emit()

    # ------------------------------------------------------------------ the way back

    def load(self, bound: BoundProject, model: ModelFile | None, then: Any) -> None:
        """Go on with a network of a project.

        Parameters
        ----------
        bound
            Whose project.
        model
            Its file; None for a new network.
        then
            Called when it is there.
        """
        controller = self._projects.controller
        if controller is None or bound.project is None:
            return
        segmenter, folder = controller.segmenter, bound.project.folder
        source = controller.layers.source
        self._is_loading = True
        loaded: list[bool] = []

        def job(_stop: Any) -> Iterator[JobEvent]:
            loaded.append(_load(segmenter, folder, model, source))
            yield from ()

        def done() -> None:
            self._is_loading = False
            if not loaded:
                return
            self._mark, self._before = network_mark(segmenter), _kept(folder, model)
            controller.network.take_over()
            then()
            controller.show_answer()
            controller.changed.emit()

        controller.submit("Going back to what was learned", job, then=done)

    def take(self) -> None:
        """Take the network as it is for the one of a project that knows none."""
        if (controller := self._projects.controller) is not None:
            self._mark = network_mark(controller.segmenter)

    def keep_now(self) -> None:
        """Write the network at once, with the jobs ended; the window closes."""
        controller, bound = self._projects.controller, self._projects.bound
        if controller is None:
            return
        controller.suspend()
        segmenter = controller.segmenter
        missed = [bound for bound, found, _ in self._saving.values() if not found]
        self._saving.clear()
        if network_mark(segmenter) == self._mark and not missed:
            return
        if bound is None or bound.project is None or not segmenter.is_fine_tuned:
            return
        with suppress(InputError, OSError):
            folder, source = bound.project.folder, controller.layers.source
            self._record(bound, _saved(segmenter, folder, source, self._before), "round")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A network in a project's folder."""

    folder: Path
    model: ModelFile


@dataclass(frozen=True, slots=True)
class _Saved:
    """Two networks in a project's folder: before the round, and now; None for a new one."""

    before: ModelFile | None
    model: ModelFile | None


def _kept(folder: Path, model: ModelFile | None) -> _Kept | None:
    return None if model is None else _Kept(folder, model)


def _saved(
    segmenter: Segmenter, folder: Path, source: SourceImage | None, before: _Kept | None
) -> _Saved:
    """Write the network to a project's folder, and what was before, which another one may have."""
    earlier, missing = None if before is None else before.model, False
    if before is not None and before.folder != folder:
        try:
            earlier = copy_weights(before.model, before.folder, folder)
        except (InputError, OSError):
            missing = True
    model = save_weights(segmenter, folder, source)
    return _Saved(model if missing else earlier, model)  # the round leads back nowhere, but stays


def _load(segmenter: Segmenter, folder: Path, model: ModelFile | None, source: Any) -> bool:
    try:
        return load_weights(segmenter, folder, model, source)
    except OSError as error:
        raise JournalError(f"what was learned cannot be read: {error}") from error
