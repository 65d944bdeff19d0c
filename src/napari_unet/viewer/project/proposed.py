"""Records proposals that nobody has answered, and brings them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_unet.engine.journal import ProjectState, SettingsChanged, ViewChanged
from napari_unet.engine.journal.changes import OPEN, PROPOSALS
from napari_unet.engine.journal.clicked import (
    MOST_PROPOSALS,
    Proposed,
    proposed_values,
    read_proposed,
)
from napari_unet.engine.journal.project import Project
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.clicking.session import ClickSession


class ProposalsRecorder:
    """Records proposals: what was proposed once, and after each answer which are still open.

    Hundreds of outlines are tens of kilobytes, and a list of numbers is not; so they stand with the
    settings, which seldom change, and the numbers with the view.
    """

    def __init__(self) -> None:
        # What the project has: its folder, the plane, the outlines, and which of them are open.
        self._known: tuple[Path, tuple[int, ...], tuple[Outline, ...]] | None = None
        self._open: list[int] = []

    def look(self, project: Project, clicks: ClickSession) -> None:
        """Record what is another one than the project knows; not while more are looked for."""
        proposing = clicks.proposing
        if proposing.is_busy:
            return
        shown = proposing.outlines[:MOST_PROPOSALS]
        numbers = self._numbers(project.folder, proposing.index, shown)
        if numbers is None:
            proposed = Proposed(proposing.index, shown)
            values = proposed_values(proposed)
            project.append(SettingsChanged({**project.facts.settings, PROPOSALS: values}))
            self._known = project.folder, proposing.index, shown
            numbers, self._open = list(range(len(shown))), []
        if numbers == self._open:
            return
        project.append(ViewChanged({**project.facts.view, OPEN: numbers}))
        self._open = numbers
        if not numbers:  # all are answered
            settings = {n: v for n, v in project.facts.settings.items() if n != PROPOSALS}
            project.append(SettingsChanged(settings))
            self._known = None

    def _numbers(
        self, folder: Path, index: tuple[int, ...], shown: tuple[Outline, ...]
    ) -> list[int] | None:
        """Return the numbers of outlines that the project has; None if it lacks one of them."""
        if not shown:
            return [] if self._known is None or self._known[0] == folder else self._open
        if self._known is None or self._known[:2] != (folder, index):
            return None
        places = {id(each): number for number, each in enumerate(self._known[2])}
        numbers = [places.get(id(each), -1) for each in shown]
        return None if -1 in numbers else numbers

    def restore(self, folder: Path, state: ProjectState, clicks: ClickSession) -> None:
        """Show the proposals that were open.

        Raises
        ------
        JournalError
            If the values are not those of proposals on this image.
        """
        values: Any = state.settings.get(PROPOSALS)
        planes = clicks.scene.planes
        if values is None or planes is None:
            return
        proposed, left = read_proposed(values, state.view.get(OPEN), planes.shape)
        self._known, self._open = (folder, proposed.index, proposed.outlines), list(left)
        outlines = tuple(proposed.outlines[number] for number in left)
        clicks.proposing.resume(proposed.index, outlines)
