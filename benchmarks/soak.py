"""A robot works in a real window for a long time: what breaks, leaks, or makes it wait.

Usage: xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/soak.py [--minutes 60] [--seed 0]
[--output FILE]

The window has three images: the coloured sample, a drawn image of cells and a drawn stack. The
robot paints, learns, stops, predicts, clicks on objects, finishes and deletes them, switches planes
and images, accepts views, takes steps back and makes them again, at random, with the mouse where a
person would use it. Counted are what it did, exceptions (of any thread, and those that napari
shows), threads that are left at the end, memory after the first ten minutes (or half of a
shorter run) and at the end, and how late the beats of the window came. Memory is counted in two
ways: as it is, half of which comes and goes with what is computed at the moment, so the medians of
some minutes are compared; and what is in use when nothing is computed and the same image is looked
at, since features of the large one alone take 72 MiB more than those of a small one. One value of
the second differs from the next by 50 MiB and more, up and down, so the robot rests again and again
and the medians of the first and the last of them are compared. Everything is saved to projects
meanwhile, which are compared with the window's layers at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from report import publish, table

from napari_unet.engine.journal import Project
from napari_unet.ops.synthetic import touching_cells
from napari_unet.viewer.actions import Action
from napari_unet.viewer.app import open_window
from napari_unet.viewer.clicking.session import click_session_for
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.project import project_for

# Last, so that nothing there hides a module of this folder.
sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
Robot = importlib.import_module("robot").Robot
heartbeat = importlib.import_module("heartbeat")

_SIDE = 256
_PLANES = 6
# Minutes after which memory is to grow no more.
_WARM_UP = 10.0
_MOST_GROWTH = 0.05
# Minutes that a median of memory is of, of an hour's run; and between two looks at it.
_SPAN = 5.0
_BETWEEN = 0.1
# Times that the robot rests after the first minutes; how many of them a median is of.
_RESTS = 21
_OF_RESTS = 5


class Soak:
    """A window, its robot, and what is counted."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.counted: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._listen()
        self.viewer: Any = open_window(None)
        self.robot: Any = Robot(self.viewer)
        self.robot.window.resize(1400, 900)
        self.controller = controller_for(self.viewer)
        self.projects = project_for(self.controller)
        self.clicks = click_session_for(self.controller)
        planes = [touching_cells((_SIDE, _SIDE), seed=n) for n in range(_PLANES + 1)]
        self.images: list[Any] = [self.controller.layers.image]
        self.images.append(self.viewer.add_image(planes[0][0], name="cells"))
        stack = np.stack([image for image, _ in planes[1:]])
        self.images.append(self.viewer.add_image(stack, name="stack"))
        self.robot.wait(2)

    def _listen(self) -> None:
        """Note every exception, wherever it comes from."""

        def note(kind: Any, error: Any, trace: Any) -> None:
            self.wrong.append("".join(traceback.format_exception(kind, error, trace))[-1500:])

        sys.excepthook = note
        threading.excepthook = lambda args: note(args.exc_type, args.exc_value, args.exc_traceback)
        notification_manager.notification_ready.connect(self._on_notified)

    def _on_notified(self, notification: Any) -> None:
        if str(notification.severity) in ("error", "NotificationSeverity.ERROR"):
            self.wrong.append(f"napari showed: {notification.message}")

    # ------------------------------------------------------------------ what is done

    def act(self) -> None:
        """Do something at random."""
        actions: list[tuple[int, Callable[[], None]]] = [
            (30, self.stroke),
            (6, self.learn),
            (4, self.stop),
            (6, self.predict),
            (12, self.click),
            (5, self.delete),
            (6, self.switch_plane),
            (3, self.switch_image),
            (3, self.accept),
            (6, self.undo),
            (4, self.redo),
            (4, self.napari_undo),
            (3, self.zoom),
        ]
        weights = [weight for weight, _ in actions]
        action = self.rng.choices([action for _, action in actions], weights)[0]
        action()
        self.counted[action.__name__] += 1
        self.robot.wait(self.rng.uniform(0.05, 0.6))

    def _place(self) -> tuple[float, ...]:
        """Return a place on the image at hand, in the world's rows and columns."""
        image = self.controller.layers.image or self.images[0]
        rows, columns = (int(n) for n in image.data.shape[image.ndim - 2 : image.ndim])
        at = self.rng.uniform(15, rows - 15), self.rng.uniform(15, columns - 15)
        leading = [0.0] * (image.ndim - 2)
        return tuple(float(x) for x in image.data_to_world((*leading, *at))[-2:])

    def stroke(self) -> None:
        """Paint a short line of a class."""
        layers = self.controller.layers
        if layers.image is None:
            return
        layer = layers.annotations if layers.strokes_fit() else layers.add_annotations()
        self.viewer.layers.selection.active = layer
        layer.visible = True
        layer.mode, layer.selected_label = "paint", self.rng.randint(1, 2)
        row, column = self._place()
        self.robot.stroke([(row, column - 8), (row + self.rng.uniform(-8, 8), column + 8)])
        layer.mode = "pan_zoom"

    def learn(self) -> None:
        """Learn for some seconds, if it can."""
        if self.controller.why_not(Action.LEARN) is None:
            self.controller.learn(self.rng.choice((1.0, 5.0)))

    def stop(self) -> None:
        """Stop what runs."""
        self.controller.stop()

    def predict(self) -> None:
        """Predict the plane, or what is on screen of it."""
        if self.controller.why_not(Action.PREDICT) is None and not self.controller.is_learning:
            self.controller.predict(visible_only=self.rng.random() < 0.5)

    def click(self) -> None:
        """Outline an object and finish it, or drop it."""
        if self.clicks.scene.image is not self.controller.layers.image:
            self.clicks.scene.set_image(self.controller.layers.image)
        index = self.clicks.scene.index
        if index is None or self.clicks.scene.image is None:
            return
        planes = self.clicks.scene.planes
        row, column = planes.place(self._world())[1]
        self.clicks.click(index, (row, column), self.rng.random() < 0.8)
        self.robot.wait(self.rng.uniform(0.1, 1.0))
        if self.rng.random() < 0.7:
            self.clicks.hand.commit()
        else:
            self.clicks.hand.drop()

    def delete(self) -> None:
        """Delete the object at a place."""
        index = self.clicks.scene.index
        if index is not None and self.clicks.scene.objects is not None:
            row, column = self.clicks.scene.planes.place(self._world())[1]
            self.clicks.delete_at(index, (row, column))

    def _world(self) -> tuple[float, ...]:
        point = list(self.viewer.dims.point)
        point[-2:] = self._place()
        return tuple(point)

    def switch_plane(self) -> None:
        """Go to another plane of what is shown."""
        if self.viewer.dims.ndim > 2:
            self.viewer.dims.set_current_step(0, self.rng.randrange(_PLANES))

    def switch_image(self) -> None:
        """Go to another image."""
        self.controller.layers.go_to(self.rng.choice(self.images))

    def accept(self) -> None:
        """Accept what is on screen, or nothing any more."""
        if self.controller.why_not(Action.ACCEPT) is None and self.rng.random() < 0.5:
            self.controller.corrections.accept_view()
        elif self.controller.why_not(Action.WITHDRAW) is None:
            self.controller.corrections.withdraw()

    def undo(self) -> None:
        """Take the latest step of the project back."""
        self.projects.steps.undo()

    def redo(self) -> None:
        """Make it again."""
        self.projects.steps.redo()

    def napari_undo(self) -> None:
        """Press Ctrl+Z or Ctrl+Shift+Z over the canvas."""
        keys = Qt.KeyboardModifier.ControlModifier
        if self.rng.random() < 0.4:
            keys |= Qt.KeyboardModifier.ShiftModifier
        QTest.keyClick(self.robot.canvas, Qt.Key.Key_Z, keys)

    def zoom(self) -> None:
        """Look at another part of the image."""
        self.viewer.reset_view()
        self.viewer.scene.camera.zoom *= self.rng.uniform(0.7, 1.6)

    # ------------------------------------------------------------------ the end

    def settle(self) -> None:
        """Stop what runs, and wait until nothing does."""
        self.controller.stop()
        self._wait_for_jobs()

    def rest(self) -> None:
        """Come to rest at the first image, all of it on screen."""
        self.settle()
        self.controller.layers.go_to(self.images[0])
        self.viewer.reset_view()
        self.robot.wait(1)
        self._wait_for_jobs()

    def _wait_for_jobs(self) -> None:
        self.robot.wait_until(lambda: not self.controller.lane.is_busy(), 120)
        self.robot.wait(2)

    def differences(self) -> list[str]:
        """Compare every project with the layers in the window."""
        found = []
        for bound in self.projects.all_bound():
            if bound.project is None or not bound.project.flush(30):
                continue
            state = Project.open(bound.project.folder, read_only=True).state
            for watch in bound.watches:
                kept = state.layers.get(watch.name)
                saved = 0 if kept is None else kept.pixels.full()
                if not np.array_equal(
                    np.broadcast_to(saved, watch.layer.data.shape), watch.layer.data
                ):
                    found.append(f"{watch.layer.name} is saved otherwise than it is")
        return found


def main() -> None:
    """Let the robot work and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    before = set(threading.enumerate())
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_UNET_PROJECTS"] = home
        soak = Soak(options.seed)
        sizes, held, beats = _work(soak, options.minutes)
        differences = soak.differences()
        soak.viewer.close()
        soak.robot.wait(1)
    left = [t.name for t in set(threading.enumerate()) - before if t.name.startswith("U-Net")]
    warm, span = _warm_up(options.minutes), min(_SPAN, options.minutes / 12)
    first = statistics.median(size for at, size in sizes if warm <= at <= warm + span)
    last = statistics.median(size for at, size in sizes if at >= options.minutes - span)
    held_first, held_last = (
        statistics.median(part) for part in (held[:_OF_RESTS], held[-_OF_RESTS:])
    )
    growth, held_growth = last / first - 1, held_last / held_first - 1
    rows = [
        ["done", ", ".join(f"{n} {what}" for what, n in soak.counted.most_common())],
        ["exceptions", str(len(soak.wrong))],
        ["threads left", ", ".join(left) or "none"],
        [
            "memory",
            f"{first:.0f} MiB after {warm:.0f} min, {last:.0f} MiB at the end (medians of "
            f"{span:.1f} min)",
        ],
        ["growth", f"{growth:+.1%}"],
        [
            "memory at rest",
            f"{held_first:.0f} MiB after {warm:.0f} min, {held_last:.0f} MiB at the end (medians "
            f"of {_OF_RESTS} rests)",
        ],
        ["growth of it", f"{held_growth:+.1%}"],
        ["every rest, MiB", ", ".join(f"{size:.0f}" for size in held)],
        ["projects", "; ".join(differences) or "as the layers are"],
    ]
    text = table(["what", "found"], rows) + "\n\n" + table(heartbeat.HEAD, [beats])
    publish(f"{options.minutes:g} minutes in a window", text, options.output)
    for error in dict.fromkeys(soak.wrong):
        print(error)
    is_wrong = soak.wrong or left or differences or max(growth, held_growth) > _MOST_GROWTH
    sys.stdout.flush()
    os._exit(1 if is_wrong else 0)


def _held() -> float:
    """Return MiB in use: less what the allocator keeps for later, where it is that of glibc."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
    return float(psutil.Process().memory_info().rss / 2**20)


def _warm_up(minutes: float) -> float:
    return min(_WARM_UP, minutes / 2)


def _work(soak: Soak, minutes: float) -> tuple[list[tuple[float, float]], list[float], list[str]]:
    """Let the robot work.

    Returns
    -------
    tuple
        Minutes and MiB, again and again; MiB at each rest; and the beats.
    """
    heart = heartbeat.Heartbeat()
    process = psutil.Process()
    start = time.monotonic()
    sizes, held = [(0.0, process.memory_info().rss / 2**20)], []
    rests = list(np.linspace(_warm_up(minutes), minutes, _RESTS))
    heart.start()
    while rests:
        soak.act()
        now = (time.monotonic() - start) / 60
        if now - sizes[-1][0] > min(_BETWEEN, minutes / 120):
            sizes.append((now, process.memory_info().rss / 2**20))
        if now >= rests[0]:
            rests.pop(0)
            heart.stop()
            soak.rest()
            held.append(_held())
            heart.go_on()
    heart.stop()
    row: list[str] = heart.row()
    return sizes, held, row


if __name__ == "__main__":
    main()
