"""Packages in the docks: load one of another program, export one's own."""

import numpy as np
import pytest
from strange_packages import mean_filter, package_files, write_folder

from napari_unet.engine.exchange.card import ModelCard
from napari_unet.model.zoo.container import open_container
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.viewer.actions import Action
from napari_unet.viewer.exchange import ExportDialog, export_network
from napari_unet.viewer.model_words import guest_in_words
from napari_unet.viewer.status import Phase


def wait(session, qtbot):
    qtbot.waitUntil(lambda: not session.lane.is_busy(), timeout=60_000)
    qtbot.waitUntil(lambda: session.status.phase is Phase.IDLE, timeout=60_000)


def test_a_package_of_another_program_predicts_in_the_session(session, qtbot, tmp_path):
    package = write_folder(tmp_path, package_files())
    session.network.load(package / "bioimageio.yaml")
    wait(session, qtbot)
    assert "mean filter" in guest_in_words(session.segmenter)
    assert "another program" in session.why_not(Action.SAVE_MODEL)
    assert session.why_not(Action.PREDICT) is None
    session.predict()
    wait(session, qtbot)
    image = np.asarray(session.layers.image.data)
    found = session.layers.results.probability
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(found[1][inner], mean_filter(image)[inner].clip(0, 1), atol=1e-5)


def test_a_package_with_foreign_code_is_refused_and_the_session_goes_on(session, qtbot, tmp_path):
    weights = {"pytorch_state_dict": {"source": "w.pt", "architecture": {"source": "net.py"}}}
    package = write_folder(tmp_path, package_files(changes={"weights": weights}))
    before = session.segmenter.model.state_dict()
    session.network.load(package / "bioimageio.yaml")
    wait(session, qtbot)
    assert "foreign code" in session.status.last_error
    assert guest_in_words(session.segmenter) is None
    after = session.segmenter.model.state_dict()
    assert all((before[name] == after[name]).all() for name in before)


def test_the_network_of_the_session_is_exported(session, qtbot, tmp_path):
    path = tmp_path / "model.zip"
    export_network(session, path, "bioimageio", ModelCard("a session"))
    wait(session, qtbot)
    assert session.status.last_error == ""
    assert ForeignModel(open_container(path), isolated=False).test_error < 1e-4


def test_the_dialog_asks_until_the_card_can_be_used(qtbot):
    dialog = ExportDialog()
    qtbot.addWidget(dialog)
    dialog.name.setText("a/b")
    dialog._on_accepted()
    assert not dialog.result()
    assert "no name for a model" in dialog.problem.text()
    dialog.name.setText("nuclei of mice")
    dialog.authors.setText("Ada; Bob ;")
    dialog._on_accepted()
    assert dialog.result()
    assert dialog.card().authors == ("Ada", "Bob")
    assert dialog.card().licence == ""


@pytest.mark.parametrize("name", ["broken.zip", "broken.onnx", "bioimageio.yaml"])
def test_a_broken_file_is_named(session, qtbot, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\3\4 nothing")
    session.network.load(tmp_path / name)
    wait(session, qtbot)
    assert session.status.last_error
