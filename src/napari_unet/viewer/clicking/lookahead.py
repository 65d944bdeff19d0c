"""What a click would outline is found out before it is made.

A pointer rests before a button is pressed, and a button is held before it is let go, which is when
a click counts. Both take about as long as the network takes to answer.
"""

from __future__ import annotations

from typing import Final

from qtpy.QtCore import QObject, QTimer

from napari_unet.engine.click_jobs import look_ahead_job
from napari_unet.ops.clicks import Click
from napari_unet.viewer.clicking.clickers import PlaneClickers
from napari_unet.viewer.clicking.hand import ObjectInHand
from napari_unet.viewer.clicking.scene import ClickScene, Place
from napari_unet.viewer.lane import JobLane, JobTicket, Priority
from napari_unet.viewer.planes import Index

# Milliseconds after which a pointer that does not move rests. While something else is computed,
# a training say, it has to rest for longer: each look costs that a tenth of a second.
_REST: Final = 60
_REST_IF_BUSY: Final = 150


class LookAhead(QObject):
    """Looks at what may be clicked on next.

    Parameters
    ----------
    scene
        What is clicked on.
    hand
        The object that is being clicked on.
    clickers
        What answers, in the lane.
    lane
        The thread that computes.
    """

    def __init__(
        self, scene: ClickScene, hand: ObjectInHand, clickers: PlaneClickers, lane: JobLane
    ) -> None:
        super().__init__()
        self._scene, self._hand, self._clickers, self._lane = scene, hand, clickers, lane
        self._ticket: JobTicket | None = None
        self._looked_at: Click | None = None
        self._under: tuple[Index, Place] | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self._on_rested)
        scene.image_leaving.connect(self.give_up)
        # The click goes on with what was seen, and tells of it.
        hand.asked.connect(self.give_up)

    def point(self, index: Index, at: Place) -> None:
        """Take it that the pointer moved there."""
        self.give_up()
        self._under = index, at
        # Of an object in hand there is an outline already: the next one takes a tenth of the time.
        if self._hand.current is None:
            self._rest.start(_REST_IF_BUSY if self._lane.is_busy() else _REST)

    def press(self, index: Index, at: Place, positive: bool = True) -> None:
        """Take it that a button is held there; what is looked at is clicked on, most likely."""
        self._rest.stop()
        click = Click(*at, positive)
        if click != self._looked_at:
            self._look(index, click)

    def give_up(self) -> None:
        """Look no further."""
        self._rest.stop()
        self._looked_at = None
        if self._ticket is not None:
            self._lane.stop(self._ticket, silence=True)
            self._ticket = None

    def _on_rested(self) -> None:
        if self._under is not None:
            index, at = self._under
            self._look(index, Click(*at))

    def _look(self, index: Index, click: Click) -> None:
        planes, clickers = self._scene.planes, self._clickers
        request = self._hand.expected(index, click)
        if planes is None or request is None or self._scene.why_not_click() is not None:
            return
        self._looked_at = click
        self._ticket = self._lane.submit(
            lambda stop: look_ahead_job(clickers.of(planes, index), request, stop),
            name="Looking ahead",
            priority=Priority.CLICK,
            replaces="ahead",
        )
