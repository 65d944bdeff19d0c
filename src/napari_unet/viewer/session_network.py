"""The network of a session, as a whole: begun anew, read from a file, written to one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_unet.engine.events import JobEvent, Noticed
from napari_unet.engine.results import save_model_job
from napari_unet.viewer.actions import Action
from napari_unet.viewer.layers import image_file
from napari_unet.viewer.reports import JobReports

if TYPE_CHECKING:
    from napari_unet.viewer.controller import SegmentationController


class SessionNetwork(QObject):
    """Puts another network in place of a session's, or writes the one there is to a file.

    Parameters
    ----------
    session
        Its layers, its engine and its jobs.
    reports
        What was told of a network goes with it.
    """

    def __init__(self, session: SegmentationController, reports: JobReports) -> None:
        super().__init__(session)
        self._session = session
        self._reports = reports
        self._classes = session.segmenter.classes

    @property
    def classes(self) -> int:
        """How many classes are painted, background (label 1) included."""
        return self._classes

    def set_class_count(self, classes: int) -> None:
        """Paint this many classes; a network with another number of classes starts anew."""
        if classes == self._classes:
            return
        self._classes = classes
        self._replace()

    def begin_anew(self) -> None:
        """Forget what was learned and begin with random weights."""
        if not self._session.refuse(Action.NEW_MODEL):
            self._replace()

    def load(self, path: str | Path) -> None:
        """Go on with a network from a file."""
        if not self._session.refuse(Action.LOAD_MODEL):
            self._session.submit(
                "Loading the model", lambda stop: self._use(Path(path)), then=self.take_over
            )

    def take_over(self) -> None:
        """Let the session follow a network that the engine was given."""
        self._classes = self._session.segmenter.classes
        self._reports.forget()
        self._session.layers.refit()

    def save(self, path: str | Path) -> None:
        """Write the network to a file, between two training steps."""
        session = self._session
        if session.refuse(Action.SAVE_MODEL):
            return
        segmenter, target = session.segmenter, Path(path).with_suffix(".safetensors")
        has_learned = bool(session.status.step or session.status.speaker)
        image = session.layers.image if has_learned else None
        # The file says how large the pixels were of what was learned from.
        size = None if image is None else image_file(image).size
        session.submit(
            "Saving the model",
            lambda stop: save_model_job(
                segmenter.model, target, segmenter.usage.learned_at(size).to_dict()
            ),
        )

    def _replace(self) -> None:
        session, classes = self._session, self._classes
        session.lane.stop(silence=True)
        self._reports.forget()
        session.submit(
            "Starting a new network",
            lambda stop: self._start_anew(classes),
            then=session.layers.refit,
        )

    def _start_anew(self, classes: int) -> Iterator[JobEvent]:
        self._session.segmenter.start_anew(classes)
        yield from ()

    def _use(self, path: Path) -> Iterator[JobEvent]:
        segmenter = self._session.segmenter
        segmenter.use_model(path)
        yield Noticed(f"loaded {path.name}: {segmenter.classes} classes")
