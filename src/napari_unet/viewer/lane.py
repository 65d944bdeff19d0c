"""The background thread: drives jobs one event at a time, the most urgent first.

Jobs are generators. All of a session's jobs share the network's weights, so they never run at the
same time; but since the lane takes one event from a job and then looks again which is the most
urgent, a preview that is submitted during a training waits for one training step at the most.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from qtpy.QtCore import QObject, Qt, Signal

from napari_unet.engine.errors import JobFailed, UNetError
from napari_unet.engine.events import JobEvent
from napari_unet.engine.memory import give_back
from napari_unet.ops.errors import InputError
from napari_unet.viewer.in_turn import InTurn

MakeJob = Callable[[threading.Event], Iterator[JobEvent]]


# Seconds that the program's end waits for a job to stop.
_LAST_WAIT = 10.0


class Priority(IntEnum):
    """Which job goes first; smaller is more urgent."""

    CLICK = -1
    PREVIEW = 0
    WORK = 1
    TRAINING = 2


@dataclass(frozen=True, slots=True)
class JobTicket:
    """Names one submitted job; every event of the job carries it.

    Attributes
    ----------
    generation
        Counts the jobs of a lane.
    name
        For the user.
    key
        A job replaces an earlier one of the same key; None replaces nothing.
    """

    generation: int
    name: str
    key: str | None = None


@dataclass(slots=True, eq=False)
class _Job:
    """A job with what the worker thread needs to drive it."""

    ticket: JobTicket
    priority: Priority
    make: MakeJob
    stop: threading.Event = field(default_factory=threading.Event)
    events: Iterator[JobEvent] | None = None
    paused: bool = False
    # Nobody wants to hear of it any more, its end excepted.
    silenced: bool = False
    # It ends before anything else goes on.
    given_up: bool = False


def _turn(job: _Job) -> tuple[bool, Priority, int]:
    """Say when it is a job's turn; the smallest goes first."""
    return not job.given_up, job.priority, job.ticket.generation


class JobLane(QObject):
    """One worker thread for all jobs of a session.

    Submit, stop, pause and resume are called on the main thread; the signals arrive there. A job
    is created, advanced and ended on the worker thread alone.
    """

    #: (JobTicket, JobEvent): a job of that ticket reported something. Not called `event`: that is a
    #: method of QObject, and one that has children is never freed where a signal takes its name.
    told = Signal(object, object)
    #: (JobTicket): a job ended by itself or because it was stopped.
    finished = Signal(object)
    #: (JobTicket, Exception): a job ended by an error; an InputError, UNetError or JobFailed.
    failed = Signal(object, object)

    # From the worker thread, queued to the main thread, where stale events are dropped.
    _reported = Signal(object, object)
    _ended = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._changed = threading.Condition()
        _open_lanes.add(self)
        self._jobs: list[_Job] = []
        # Jobs whose end the worker has told of, and the main thread has not heard of yet.
        self._unheard: list[_Job] = []
        self._generation = 0
        # Of jobs up to this one nothing is heard any more, even if they ended before they could
        # be silenced and their events are still queued.
        self._closed_up_to = 0
        self._thread: threading.Thread | None = None
        self._closing = False
        self._has_ended = False
        self._telling = InTurn(self)
        queued = Qt.ConnectionType.QueuedConnection
        self._reported.connect(self._on_reported, queued)
        self._ended.connect(self._on_ended, queued)

    # ------------------------------------------------------------------ main thread

    def submit(
        self,
        make_job: MakeJob,
        *,
        name: str,
        priority: Priority = Priority.WORK,
        replaces: str | None = None,
    ) -> JobTicket:
        """Queue a job.

        Parameters
        ----------
        make_job
            Called on the worker thread with the event that asks the job to stop; returns the
            generator to drive.
        name
            For the user.
        priority
            The more urgent job is always advanced first; among equals the older one.
        replaces
            A key: earlier jobs submitted with it are stopped, and nothing more is heard of them.

        Returns
        -------
        JobTicket
            What the job's events will carry. A lane that is closed for good never begins the job.
        """
        self._generation += 1
        ticket = JobTicket(self._generation, name, replaces)
        with self._changed:
            for job in self._jobs:
                if replaces is not None and job.ticket.key == replaces:
                    self._ask_to_stop(job, silence=True)
            if self._has_ended:
                return ticket
            self._jobs.append(_Job(ticket, priority, make_job))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="U-Net jobs", daemon=True)
                self._thread.start()
            self._changed.notify()
        return ticket

    def stop(self, ticket: JobTicket | None = None, *, silence: bool = False) -> None:
        """Ask a job (None: all) to stop; it ends after the step or tile in progress.

        Parameters
        ----------
        ticket
            The job.
        silence
            Drop what it still reports. Otherwise its last words, a score say, are heard.
        """
        with self._changed:
            for job in self._jobs:
                if ticket is None or job.ticket == ticket:
                    self._ask_to_stop(job, silence)
            self._changed.notify()

    def pause(self, ticket: JobTicket) -> None:
        """Hold a job after the step in progress."""
        self._set_paused(ticket, True)

    def resume(self, ticket: JobTicket) -> None:
        """Go on with a job that was paused."""
        self._set_paused(ticket, False)

    def is_active(self, ticket: JobTicket | None) -> bool:
        """Say whether a job has not ended yet."""
        with self._changed:
            return any(job.ticket == ticket for job in self._jobs)

    def is_busy(self) -> bool:
        """Say whether any job has not ended yet, or its last events are still on their way."""
        with self._changed:
            return bool(self._jobs or self._unheard)

    def give_up(self) -> None:
        """Stop all jobs and hear nothing more of them, without waiting for the step in progress.

        Jobs that are submitted later begin when these have ended, however urgent they are.
        """
        self._closed_up_to = self._generation
        with self._changed:
            for job in self._jobs:
                job.given_up = True
                self._ask_to_stop(job, silence=True)
            self._changed.notify()

    def close(self, timeout: float | None = 30.0, *, for_good: bool = False) -> bool:
        """Stop all jobs, hear nothing more of them, and wait for the thread to end.

        A job that is submitted later starts a new thread, unless the lane is closed for good.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None for as long as it takes.
        for_good
            No job that is submitted later begins, so no thread is left.

        Returns
        -------
        bool
            False if a job did not end in time.
        """
        self._closed_up_to = self._generation
        self._has_ended = self._has_ended or for_good
        with self._changed:
            self._closing = True
            for job in self._jobs:
                self._ask_to_stop(job, silence=True)
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        self._thread, self._closing = None, False
        self._unheard.clear()
        return True

    def _set_paused(self, ticket: JobTicket, paused: bool) -> None:
        with self._changed:
            for job in self._jobs:
                if job.ticket == ticket:
                    job.paused = paused
            self._changed.notify()

    @staticmethod
    def _ask_to_stop(job: _Job, silence: bool) -> None:
        job.silenced = job.silenced or silence
        job.paused = False
        job.stop.set()

    def _on_reported(self, job: _Job, event: JobEvent) -> None:
        self._telling.call(lambda: self._tell_event(job, event))

    def _on_ended(self, job: _Job, error: Exception | None) -> None:
        self._telling.call(lambda: self._tell_end(job, error))

    def _tell_event(self, job: _Job, event: JobEvent) -> None:
        # Queued signals outlive the wish to hear them, so it is asked here, not in the thread.
        if not job.silenced and job.ticket.generation > self._closed_up_to:
            self.told.emit(job.ticket, event)

    def _tell_end(self, job: _Job, error: Exception | None) -> None:
        with self._changed:
            self._unheard = [each for each in self._unheard if each is not job]
        if error is None or job.silenced:
            self.finished.emit(job.ticket)
        else:
            self.failed.emit(job.ticket, error)

    # ------------------------------------------------------------------ worker thread

    def _work(self) -> None:
        while (job := self._most_urgent()) is not None:
            self._advance(job)

    def _most_urgent(self) -> _Job | None:
        """Wait for a job that can go on; None when the lane is closed and empty."""
        with self._changed:
            while True:
                ready = [job for job in self._jobs if not job.paused]
                if ready:
                    return min(ready, key=_turn)
                if self._closing:
                    return None
                self._changed.wait()

    def _advance(self, job: _Job) -> None:
        """Take one event from a job and pass it on; at the job's end pass that on."""
        try:
            if job.events is None:
                if job.stop.is_set():  # it never began
                    return self._end(job, None)
                job.events = iter(job.make(job.stop))
            event = next(job.events)
        except StopIteration:
            self._end(job, None)
        except (InputError, UNetError) as error:
            self._end(job, error)
        except Exception as error:  # noqa: BLE001 - a job may fail in any way; the user is told
            failure = JobFailed(f"{job.ticket.name} failed: {error or type(error).__name__}")
            failure.__cause__ = error
            self._end(job, failure)
        else:
            self._emit(self._reported, job, event)
        return None

    def _end(self, job: _Job, error: Exception | None) -> None:
        with self._changed:
            self._jobs.remove(job)
            if not self._closing:
                self._unheard.append(job)
        self._emit(self._ended, job, error)
        if job.priority >= Priority.WORK and not self._closing:
            give_back()

    def _emit(self, signal: Signal, job: _Job, what: object) -> None:
        if self._closing:  # nobody listens, and Qt's side may be gone already
            return
        signal.emit(job, what)


_open_lanes: weakref.WeakSet[JobLane] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Let no thread compute while the interpreter goes down: that crashes now and then."""
    for lane in list(_open_lanes):
        lane.close(_LAST_WAIT, for_good=True)
