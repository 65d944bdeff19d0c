"""What tests of clicking share: drawn images, and an answer that needs no network."""

import threading
import time
import weakref
from itertools import pairwise

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_unet.engine.events import ClicksAdapted, PieceDone
from napari_unet.ops.clicks import Outline
from napari_unet.viewer.clicking import clickers

LEFT, RIGHT, NO_BUTTON = (
    Qt.MouseButton.LeftButton,
    Qt.MouseButton.RightButton,
    Qt.MouseButton.NoButton,
)
NO_KEY, SHIFT, CONTROL = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.ControlModifier,
)

#: Middles and radii of the drawn objects, well apart.
DISCS = (
    (32, 34, 16),
    (34, 98, 14),
    (30, 160, 18),
    (98, 40, 18),
    (100, 104, 15),
    (96, 164, 13),
)
SHAPE = (130, 196)
#: Of the network, on such an image; exact outlines are not asked for.
FAIR = 0.6
#: Milliseconds; the cores may be busy with something else.
LONG = 30_000


def truth(discs=DISCS, shape=SHAPE):
    """Discs 1, 2, ... on 0."""
    rows, columns = np.indices(shape)
    labels = np.zeros(shape, np.int32)
    for number, (row, column, radius) in enumerate(discs, start=1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    return labels


def drawn(labels=None, seed=0):
    """Bright objects on a dark ground, with a little noise."""
    labels = truth() if labels is None else labels
    noise = np.random.default_rng(seed).normal(0.0, 0.02, labels.shape)
    return (0.15 + 0.7 * (labels > 0) + noise).astype(np.float32)


def middle(number):
    """Row and column in the middle of a disc."""
    row, column, _ = DISCS[number - 1]
    return float(row), float(column)


def ball(shape=(11, 72, 80), place=(5, 36, 40), radius=16, flat=4.0):
    """A ball in a stack, flattened so that it is on few planes."""
    planes, rows, columns = np.indices(shape)
    far = ((planes - place[0]) * flat) ** 2
    far = far + (rows - place[1]) ** 2 + (columns - place[2]) ** 2
    return (far < radius**2).astype(np.int32)


def overlap(first, second):
    """Intersection over union."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    return (first & second).sum() / max((first | second).sum(), 1)


class Stub:
    """Answers like a network that is never wrong, on drawn images: with what is bright.

    A positive click gives the bright region that is nearest, a negative one takes away what is
    around it.
    """

    #: While it is not set, answers wait.
    gate = threading.Event()
    gate.set()
    #: How many answers were begun.
    begun = 0

    def __init__(self, image, network=None, *, adapted=None, threads=None):
        self.image, self.network, self.objects = image, adapted or network, ()
        self.hint = self.likeness = None
        data = np.asarray(image.data, float)
        self._regions, _ = ndimage.label(data > 0.5)

    def use_network(self, network):
        self.network = network

    def get_ready(self):
        pass

    def set_hint(self, probability):
        self.hint = probability

    def set_likeness(self, likeness, probability):
        self.likeness = likeness

    def outline(self, clicks, previous=None, box=None, usual=None):
        type(self).begun += 1
        self.gate.wait(LONG / 1000)
        mask = np.zeros(self._regions.shape, bool)
        near = ndimage.distance_transform_edt(
            self._regions == 0, return_distances=False, return_indices=True
        )
        if box is not None:
            mask[box] = self._regions[box] > 0
        elif previous is not None and not any(click.positive for click in clicks):
            there = np.unique(self._regions[previous.full(mask.shape)])
            mask |= np.isin(self._regions, there[there > 0])
        for click in clicks:
            at = round(click.row), round(click.column)
            if click.positive:
                mask |= self._regions == self._regions[near[0][at], near[1][at]]
            else:
                rows, columns = np.indices(mask.shape)
                mask &= (rows - at[0]) ** 2 + (columns - at[1]) ** 2 > 6**2
        found = Outline.of_mask(mask)
        return found or Outline((slice(0, 1), slice(0, 1)), np.zeros((1, 1), bool), 0.0)

    def outlines(self, clicks, previous=None, box=None, usual=None, *, piecewise=False):
        yield None
        return self.outline(clicks, previous, box, usual)

    def follow(self, previous):
        return self.outline((), previous)


def answer_with(monkeypatch, kind):
    """Let a stub answer clicks; it adapts in no time."""

    def adapt_job(clicker, _stop):
        yield ClicksAdapted(len(clicker.objects), None, None, True)

    def liken_job(_clicker, _stop):
        yield PieceDone()

    monkeypatch.setattr(clickers, "Clicker", kind)
    monkeypatch.setattr(clickers, "adapt_job", adapt_job)
    monkeypatch.setattr(clickers, "liken_job", liken_job)


class Hasty(Stub):
    """Sees the whole image at first."""

    def outlines(self, clicks, *rest, piecewise=False):
        whole = tuple(slice(0, side) for side in self.image.shape)
        yield Outline(whole, np.ones(self.image.shape, bool))
        return self.outline(clicks, *rest)


def answered(session):
    """Whether the last click of the object in hand, on every plane, has its answer."""
    current = session.hand.current
    return current is not None and all(
        state.answers[-1] is not None for state in current.planes.values()
    )


def numbers(session, index=...):
    """The numbers of the finished objects."""
    return set(np.unique(np.asarray(session.scene.objects.layer.data)[index]).tolist()) - {0}


def role(viewer, name):
    """The preview layer of that role, if it shows anything."""
    found = [each for each in viewer.layers if each.metadata.get("napari-unet") == name]
    return next((each for each in found if each.visible and np.any(each.data)), None)


def is_pale(layer):
    """Whether a preview layer says that what it shows is not final."""
    return layer.get_color(int(layer.data.max()))[3] < 1


def in_world(layer, index=()):
    """Where the object on a small preview layer is: the world position of its middle."""
    places = np.argwhere(np.asarray(layer.data) > 0)
    return np.asarray(layer.data_to_world(places.mean(axis=0)))


# ---------------------------------------------------------------- a hand with a mouse


class Hand:
    """Uses mouse and keys over the canvas of a window that is shown."""

    def __init__(self, viewer):
        self._viewer = weakref.ref(viewer)  # not to keep a window that is closed
        self._heard = heard = []

        def hear(_viewer, event):
            heard.append(event.type)
            yield
            while event.type == "mouse_move":
                heard.append(event.type)
                yield

        viewer.mouse_drag_callbacks.append(hear)
        viewer.mouse_move_callbacks.append(lambda _viewer, event: heard.append(event.type))

    @property
    def viewer(self):
        return self._viewer()

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    def pixel(self, world):
        """Where row and column of the world are on the canvas."""
        camera = self.viewer.window._qt_viewer.canvas.view.camera
        x, y, _, w = camera.transform.map([world[1], world[0], 0, 1])
        return QPoint(round(x / w), round(y / w))

    def click(self, world, button=LEFT, keys=NO_KEY):
        self.flick(world, world, button, keys)

    def flick(self, begun, ended, button=LEFT, keys=NO_KEY):
        """Press at a place and let go at another before any move between is heard of."""
        self._send(QEvent.Type.MouseButtonPress, self.pixel(begun), button, button, keys)
        self._send(QEvent.Type.MouseButtonRelease, self.pixel(ended), button, NO_BUTTON, keys)
        QApplication.processEvents()

    def click_in_haste(self, clicks):
        """Click at (place, button) each, so quickly that the window is seldom drawn between."""
        for count, (world, button) in enumerate(clicks):
            point = self.pixel(world)
            self._send(QEvent.Type.MouseButtonPress, point, button, button, NO_KEY)
            self._send(QEvent.Type.MouseButtonRelease, point, button, NO_BUTTON, NO_KEY)
            if count % 10 == 9:
                QApplication.processEvents()

    def press_twice(self, world):
        """Press and let go twice, so quickly that Qt takes it for a double click."""
        point = self.pixel(world)
        for kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick):
            self._send(kind, point, LEFT, LEFT, NO_KEY)
            self._send(QEvent.Type.MouseButtonRelease, point, LEFT, NO_BUTTON, NO_KEY)
        QApplication.processEvents()

    def drag(self, places, button=LEFT, keys=NO_KEY):
        """Press at the first place, move through the others, let go at the last."""
        points = [self.pixel(place) for place in places]
        self._send(QEvent.Type.MouseButtonPress, points[0], button, button, keys)
        for first, last in pairwise(points):
            for share in (0.25, 0.5, 0.75, 1.0):
                self._move(first + (last - first) * share, button, keys)
        self._send(QEvent.Type.MouseButtonRelease, points[-1], button, NO_BUTTON, keys)
        QApplication.processEvents()

    def point(self, world):
        """Move the mouse there without pressing it."""
        self._move(self.pixel(world), NO_BUTTON, NO_KEY)

    def key(self, key, keys=NO_KEY):
        QTest.keyClick(self.canvas, key, keys)

    def _move(self, point, buttons, keys):
        """Move, again and again until napari has heard of it: quick moves are passed over."""
        before, end = len(self._heard), time.monotonic() + LONG / 1000
        while len(self._heard) == before:
            if time.monotonic() > end:
                raise TimeoutError("napari heard of no move of the mouse")
            self._send(QEvent.Type.MouseMove, point, NO_BUTTON, buttons, keys)
            QApplication.processEvents()

    def _send(self, kind, point, button, buttons, keys):
        there = QPointF(self.canvas.mapToGlobal(point))
        event = QMouseEvent(kind, QPointF(point), there, button, buttons, keys)
        QApplication.sendEvent(self.canvas, event)
