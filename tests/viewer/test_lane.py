import importlib
import pkgutil
import subprocess
import sys
import threading
import time

import pytest
from qtpy.QtCore import QObject, Signal

import napari_unet.viewer
from napari_unet.engine.errors import JobFailed
from napari_unet.engine.events import Noticed
from napari_unet.ops.errors import InputError
from napari_unet.viewer.lane import JobLane, Priority

# Seconds; real steps and tiles take longer.
STEP = 0.001


@pytest.fixture
def lane(qapp):
    lane = JobLane()
    yield lane
    assert lane.close(timeout=10)


@pytest.fixture
def heard(lane):
    """What reaches the main thread, in order."""
    heard = []
    lane.told.connect(lambda ticket, event: heard.append((ticket.name, event)))
    lane.finished.connect(lambda ticket: heard.append((ticket.name, "finished")))
    lane.failed.connect(lambda ticket, error: heard.append((ticket.name, error)))
    return heard


def counting(stop, end=10**9, threads=None):
    for number in range(end):
        if threads is not None:
            threads.add(threading.current_thread())
        if stop.is_set():
            return
        time.sleep(STEP)
        yield number


def test_events_arrive_in_order_and_then_the_end(lane, heard, qtbot):
    lane.submit(lambda stop: counting(stop, 5), name="a")
    qtbot.waitUntil(lambda: ("a", "finished") in heard)
    assert heard == [*(("a", n) for n in range(5)), ("a", "finished")]


def test_an_event_is_told_to_the_end_before_the_next_one(lane, qtbot):
    # napari's progress bars let Qt handle events while they are updated
    depth, deepest, told = [0], [0], []

    def slow(_ticket, event):
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        qtbot.wait(2)
        told.append(event)
        depth[0] -= 1

    lane.told.connect(slow)
    lane.finished.connect(lambda ticket: told.append("finished"))
    lane.submit(lambda stop: iter(range(50)), name="a")
    qtbot.waitUntil(lambda: "finished" in told)
    assert told == [*range(50), "finished"]
    assert deepest == [1]


def test_jobs_run_on_one_thread_that_is_not_ours(lane, heard, qtbot):
    threads = set()
    for name in "ab":
        lane.submit(lambda stop: counting(stop, 3, threads), name=name)
    qtbot.waitUntil(lambda: {("a", "finished"), ("b", "finished")} <= set(heard))
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_an_urgent_job_waits_for_one_event_at_most(lane, heard, qtbot):
    go_on, at_step, order = threading.Semaphore(0), [], []

    def training(stop):
        for step in range(100):
            at_step.append(step)
            go_on.acquire()
            order.append("step")
            yield step

    def preview(stop):
        order.append("preview")
        yield "tile"

    lane.submit(training, name="training", priority=Priority.TRAINING)
    qtbot.waitUntil(lambda: at_step == [0])
    ticket = lane.submit(preview, name="preview", priority=Priority.PREVIEW)
    go_on.release(3)
    qtbot.waitUntil(lambda: ("preview", "finished") in heard)
    assert order[:2] == ["step", "preview"]
    assert not lane.is_active(ticket)
    lane.stop()
    go_on.release(100)


@pytest.mark.parametrize(
    "error", [RuntimeError("out of memory"), ValueError("wrong"), MemoryError(), KeyError("x")]
)
def test_every_exception_arrives_with_its_cause(lane, heard, qtbot, error):
    def failing(stop):
        yield 1
        raise error

    lane.submit(failing, name="job")
    qtbot.waitUntil(lambda: len(heard) == 2)
    failure = heard[1][1]
    assert isinstance(failure, JobFailed)
    assert failure.__cause__ is error
    assert "job failed" in str(failure)


def test_an_error_of_the_user_keeps_its_words(lane, heard, qtbot):
    def failing(stop):
        raise InputError("paint more")
        yield

    lane.submit(failing, name="job")
    qtbot.waitUntil(lambda: bool(heard))
    assert isinstance(heard[0][1], InputError)
    assert str(heard[0][1]) == "paint more"


def test_the_lane_goes_on_after_a_failure(lane, heard, qtbot):
    lane.submit(lambda stop: iter(range(0, 1, 0)), name="bad")
    lane.submit(lambda stop: counting(stop, 1), name="good")
    qtbot.waitUntil(lambda: ("good", "finished") in heard)
    assert isinstance(heard[0][1], JobFailed)


def test_stop_lets_the_last_words_through(lane, heard, qtbot):
    def job(stop):
        while not stop.is_set():
            time.sleep(STEP)
            yield "step"
        yield "last words"

    ticket = lane.submit(job, name="job")
    qtbot.waitUntil(lambda: ("job", "step") in heard)
    lane.stop(ticket)
    qtbot.waitUntil(lambda: ("job", "finished") in heard)
    assert heard[-2:] == [("job", "last words"), ("job", "finished")]


def test_a_replaced_job_is_not_heard_any_more(lane, heard, qtbot):
    lane.submit(counting, name="old", replaces="preview")
    qtbot.waitUntil(lambda: len(heard) > 3)
    lane.submit(lambda stop: counting(stop, 3), name="new", replaces="preview")
    before = len(heard)
    qtbot.waitUntil(lambda: {("old", "finished"), ("new", "finished")} <= set(heard))
    later = [what for name, what in heard[before:] if name == "old"]
    assert later == ["finished"]


def test_of_many_rapid_requests_the_last_is_answered(lane, heard, qtbot):
    for number in range(200):
        lane.submit(lambda stop, n=number: iter([n]), name=str(number), replaces="preview")
    qtbot.waitUntil(lambda: ("199", "finished") in heard)
    assert ("199", 199) in heard
    qtbot.waitUntil(lambda: not lane.is_busy())


def test_it_is_busy_until_its_last_words_were_heard(lane, heard, qtbot):
    ticket = lane.submit(lambda stop: iter(["last words"]), name="job")
    while lane.is_active(ticket):  # without hearing anything meanwhile
        time.sleep(STEP)
    assert heard == []
    assert lane.is_busy()
    qtbot.waitUntil(lambda: not lane.is_busy())
    assert heard == [("job", "last words"), ("job", "finished")]


def test_nothing_is_left_to_be_heard_after_it_was_closed(lane, heard):
    ticket = lane.submit(lambda stop: iter(["last words"]), name="job")
    while lane.is_active(ticket):
        time.sleep(STEP)
    assert lane.close(timeout=10)
    assert not lane.is_busy()


def test_what_is_given_up_is_not_waited_for_and_ends_first(lane, heard, qtbot):
    order, gate = [], threading.Event()

    def step(stop):
        order.append("step")
        gate.wait(10)
        yield "of the first"
        order.append("stopped" if stop.is_set() else "goes on")
        yield "last words"
        order.append("end")

    def urgent(_stop):
        order.append("urgent")
        yield "of the second"

    lane.submit(step, name="first", priority=Priority.TRAINING)
    lane.submit(step, name="waiting", priority=Priority.TRAINING)
    qtbot.waitUntil(lambda: order == ["step"])
    lane.give_up()  # returns in the middle of the step
    lane.submit(urgent, name="second", priority=Priority.CLICK)
    qtbot.wait(20)
    assert order == ["step"]
    gate.set()
    qtbot.waitUntil(lambda: ("second", "finished") in heard)
    assert order == ["step", "stopped", "end", "urgent"]
    said = [what for name, what in heard if name != "second"]
    assert set(said) == {"finished"}
    assert ("second", "of the second") in heard


def test_a_paused_job_stands_still_until_it_is_resumed(lane, heard, qtbot):
    steps = []

    def job(stop):
        while not stop.is_set():
            time.sleep(STEP)
            steps.append(1)
            yield len(steps)

    ticket = lane.submit(job, name="job")
    qtbot.waitUntil(lambda: len(steps) > 2)
    lane.pause(ticket)
    qtbot.wait(30)
    count = len(steps)
    qtbot.wait(60)
    assert len(steps) == count
    lane.resume(ticket)
    qtbot.waitUntil(lambda: len(steps) > count)


def test_a_paused_job_can_be_stopped(lane, heard, qtbot):
    ticket = lane.submit(counting, name="job")
    lane.pause(ticket)
    lane.stop(ticket)
    qtbot.waitUntil(lambda: ("job", "finished") in heard)


def test_a_job_cleans_up_on_its_own_thread(lane, qtbot):
    cleaned = []

    def job(stop):
        try:
            while not stop.is_set():
                time.sleep(STEP)
                yield 1
        finally:
            cleaned.append(threading.current_thread().name)

    lane.submit(job, name="job")
    qtbot.wait(20)
    lane.stop()
    qtbot.waitUntil(lambda: bool(cleaned))
    assert cleaned == ["U-Net jobs"]


def test_close_in_the_middle_ends_the_thread_silently(qapp, qtbot):
    lane = JobLane()
    events = []
    lane.told.connect(lambda ticket, event: events.append(event))
    lane.submit(counting, name="job")
    qtbot.waitUntil(lambda: bool(events))
    assert lane.close(timeout=10)
    count = len(events)
    qtbot.wait(30)
    assert len(events) == count
    assert not any(thread.name == "U-Net jobs" for thread in threading.enumerate())


def test_a_closed_lane_can_be_used_again(lane, heard, qtbot):
    lane.submit(counting, name="old")
    assert lane.close(timeout=10)
    lane.submit(lambda stop: counting(stop, 1), name="new")
    qtbot.waitUntil(lambda: ("new", "finished") in heard)


def test_a_lane_that_has_ended_begins_nothing(lane, heard, qtbot):
    lane.submit(counting, name="old")
    assert lane.close(timeout=10, for_good=True)
    begun = []
    ticket = lane.submit(lambda stop: begun.append(stop) or counting(stop, 1), name="new")
    qtbot.wait(30)
    assert not begun
    assert not lane.is_active(ticket)
    assert not lane.is_busy()
    assert not any(thread.name == "U-Net jobs" for thread in threading.enumerate())


def test_nothing_is_heard_of_a_job_that_ended_before_the_lane_was_closed(lane, qtbot):
    heard = []
    lane.told.connect(lambda ticket, event: heard.append(event))
    ended = threading.Event()

    def job(_stop):
        yield Noticed("said and not yet heard")
        ended.set()

    lane.submit(job, name="job")
    assert ended.wait(5)
    lane.close()
    qtbot.wait(50)
    assert heard == []


LEFT_RUNNING = """
import time
from qtpy.QtCore import QCoreApplication
from napari_unet.viewer.lane import JobLane

def job(stop):
    while not stop.is_set():
        time.sleep(0.001)
        yield "step"
    print("stopped in time")

application = QCoreApplication([])
lane = JobLane()
ticket = lane.submit(job, name="job")
time.sleep(0.1)
"""


def test_a_program_that_ends_with_a_job_running_ends_the_job_first():
    ended = subprocess.run(
        [sys.executable, "-c", LEFT_RUNNING],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "stopped in time\n"


def test_no_signal_takes_the_name_of_what_qt_calls():
    """Qt would find it there instead, and never free an object that has children."""
    for module in pkgutil.walk_packages(napari_unet.viewer.__path__, "napari_unet.viewer."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = [QObject]
    for kind in ours:
        ours.extend(kind.__subclasses__())
    ours = [kind for kind in ours if kind.__module__.startswith("napari_unet.")]
    assert JobLane in ours
    for kind in ours:
        signals = [name for name, value in vars(kind).items() if isinstance(value, Signal)]
        assert [name for name in signals if hasattr(kind.__base__, name)] == []
