"""Docks are there at once and are filled when what they need was imported."""

import importlib
import subprocess
import sys
import threading

import pytest
from qtpy.QtWidgets import QLabel

from napari_unet.viewer import docks
from napari_unet.viewer.activity import ActivityBar
from napari_unet.viewer.controller import controller_for
from napari_unet.viewer.form import Dock as Form
from napari_unet.viewer.status import Phase

ALL = docks.LateDock.__subclasses__()

MODULE = """
from qtpy.QtWidgets import QLabel

import gate

gate.asked.set()
gate.open.wait(20)
if gate.broken:
    raise OSError("libtorch.so is missing")

class Widget(QLabel):
    def __init__(self, viewer):
        super().__init__(f"of {viewer}")
"""


class Gate:
    """Holds an import up until it is opened."""

    def __init__(self):
        self.asked, self.open, self.broken = threading.Event(), threading.Event(), False


@pytest.fixture
def gate(monkeypatch, tmp_path):
    (tmp_path / "needs_long.py").write_text(MODULE)
    found = Gate()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "gate", found)
    yield found
    found.open.set()
    sys.modules.pop("needs_long", None)


class Dock(docks.LateDock):
    module, widget = "needs_long", "Widget"


@pytest.fixture
def dock(gate, qtbot):
    made = Dock("the viewer")
    qtbot.addWidget(made)
    made.show()
    yield made
    gate.open.set()
    if made._thread is not None and made._thread.ident is not None:
        made._thread.join(20)


def told(dock):
    return [label.text() for label in dock.findChildren(QLabel) if label.isVisible()]


def test_a_dock_says_what_it_waits_for_and_is_filled(dock, gate, qtbot):
    qtbot.waitUntil(gate.asked.is_set, timeout=20_000)
    assert dock.inner is None
    assert any("Loading PyTorch" in text for text in told(dock))
    with qtbot.waitSignal(dock.ready, timeout=20_000):
        gate.open.set()
    assert told(dock) == ["of the viewer"]


def test_what_was_imported_before_is_there_at_once(dock, gate, qtbot):
    with qtbot.waitSignal(dock.ready, timeout=20_000):
        gate.open.set()
    second = Dock("another viewer")
    qtbot.addWidget(second)
    assert second.inner.text() == "of another viewer"


def test_an_import_that_fails_is_told_with_its_cause(dock, gate, qtbot):
    gate.broken = True
    with qtbot.waitSignal(dock.ready, timeout=20_000):
        gate.open.set()
    assert dock.inner is None
    assert any("libtorch.so is missing" in text for text in told(dock))


def test_a_dock_may_be_closed_while_it_waits(gate, qtbot):
    dock = Dock("the viewer")
    dock.show()
    qtbot.waitUntil(gate.asked.is_set, timeout=20_000)
    heard = []
    dock.ready.connect(lambda: heard.append(True))
    dock.close()
    dock.deleteLater()
    qtbot.wait(20)
    gate.open.set()
    dock._thread.join(20)  # an error in the thread would fail the test
    qtbot.wait(50)
    assert not heard


@pytest.mark.parametrize("kind", ALL)
def test_every_dock_has_a_widget(kind):
    assert hasattr(importlib.import_module(kind.module), kind.widget)


def test_docks_can_be_opened_without_torch():
    code = (
        "import sys, napari_unet.viewer.docks as docks; "
        "found = {'torch', 'napari', 'scipy'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("chosen", [None, "64"])
def test_what_torch_compiles_for_many_sizes_is_bounded_unless_the_user_chose(chosen, monkeypatch):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.delenv(name, raising=False)
    if chosen is not None:
        monkeypatch.setenv(name, chosen)
    code = f"import os, napari_unet.viewer; print(os.environ['{name}'])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == (chosen or "512")


class Counted(Form):
    """A dock that counts how often it shows the session anew."""

    def __init__(self, viewer):
        self.count = 0
        super().__init__(viewer)

    def refresh(self):
        super().refresh()
        self.count += 1


def test_a_dock_behind_another_waits_until_it_is_seen(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    behind, front = (Counted(viewer) for _ in range(2))
    for dock, name in ((behind, "behind"), (front, "front")):
        viewer.window.add_dock_widget(dock, name=name, area="right", tabify=True)
    qtbot.waitUntil(lambda: front.isVisible() and not behind.isVisible())
    behind.count = front.count = 0
    session = controller_for(viewer)
    session.changed.emit()
    session.status.phase = Phase.WORKING
    assert (behind.count, front.count) == (0, 2)
    behind.parent().raise_()
    qtbot.waitUntil(behind.isVisible)
    assert behind.count == 1
    session.status.phase = Phase.IDLE


def test_a_job_that_is_done_at_once_has_no_bar(make_napari_viewer):
    make_napari_viewer()
    bar = ActivityBar()
    bar.show("one tile", 1.0)
    assert bar._bar is None
    bar.show("half", 0.5)
    bar.show("all", 1.0)
    assert bar._bar.n == 100
    bar.close()
