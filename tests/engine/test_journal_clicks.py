"""The object in hand and the adapted network as values of a journal."""

import json
import shutil

import numpy as np
import pytest
import torch

from napari_unet.engine.journal import JournalError, ProjectState, SettingsChanged, compaction
from napari_unet.engine.journal.changes import Entry
from napari_unet.engine.journal.clicked import (
    HandState,
    PlaneInHand,
    Proposed,
    hand_values,
    load_adapted,
    network_values,
    proposed_values,
    read_hand,
    read_proposed,
    save_click_network,
)
from napari_unet.model.click import CHANNELS
from napari_unet.model.unet import UNet
from napari_unet.ops.clicks import Click, Outline
from napari_unet.ops.errors import InputError

SHAPE = (3, 20, 30)


def outline():
    mask = np.zeros((4, 5), bool)
    mask[1:, 2:] = True
    return Outline((slice(2, 6), slice(10, 15)), mask, 0.75)


def hand():
    planes = (
        PlaneInHand((1,), (Click(3, 12.5), Click(5, 11, False)), (None, outline(), None)),
        PlaneInHand((2,), (), (outline(),), (None, outline())),
    )
    return HandState(7, (slice(0, 9), slice(3, 30)), planes)


def values():
    return json.loads(json.dumps(hand_values(hand())))


def test_an_object_in_hand_comes_back():
    found = read_hand(values(), SHAPE)
    assert hand_values(found) == hand_values(hand())
    np.testing.assert_array_equal(found.planes[0].answers[1].mask, outline().mask)
    assert read_hand(hand_values(None), SHAPE) is None
    assert read_hand(json.loads(json.dumps(hand_values(HandState()))), SHAPE) == HandState()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v.update(planes=None),
        lambda v: v.update(label=0),
        lambda v: v.update(label=True),
        lambda v: v.update(box=[0, 9, 3, 31]),
        lambda v: v.update(box=[9, 0, 3, 30]),
        lambda v: v["planes"].append(v["planes"][0]),
        lambda v: v["planes"][0].update(index=[3]),
        lambda v: v["planes"][0].update(index=[]),
        lambda v: v["planes"][0]["clicks"].append([3, 3, True]),
        lambda v: v["planes"][0]["clicks"].__setitem__(0, [20, 3, True]),
        lambda v: v["planes"][0]["clicks"].__setitem__(0, [float("nan"), 3, True]),
        lambda v: v["planes"][0]["clicks"].__setitem__(0, [3, 3]),
        lambda v: v["planes"][0]["answers"].__setitem__(1, {"box": [0, 1, 0, 1]}),
        lambda v: v["planes"][0]["answers"][1].update(box=[0, 20, 0, 30]),
        lambda v: v["planes"][0]["answers"][1].update(overlap=float("inf")),
    ],
)
def test_an_object_in_hand_that_no_program_wrote_is_refused(spoil):
    spoiled = values()
    spoil(spoiled)
    with pytest.raises(JournalError):
        read_hand(spoiled, SHAPE)


def test_an_object_cannot_claim_more_than_a_machine_has(monkeypatch):
    monkeypatch.setattr("napari_unet.engine.journal.clicked.LARGEST_BOX", 59)
    with pytest.raises(JournalError, match="more pixels"):
        read_hand(values(), SHAPE)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models").mkdir()
    return tmp_path


def tiny_network():
    torch.manual_seed(0)
    return UNet(in_channels=CHANNELS, classes=2, base_channels=2, depth=1).eval()


def test_the_adapted_network_comes_back(folder):
    network = tiny_network()
    model = save_click_network(network, folder)
    found, again = load_adapted(folder, network_values(model))
    assert found == model
    for name, weights in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weights)
    assert load_adapted(folder, None) is None
    assert save_click_network(network, folder).name > model.name


def test_a_network_that_is_missing_damaged_or_no_such_one_is_refused(folder):
    from napari_unet.model.checkpoint import save_model

    said = network_values(save_click_network(tiny_network(), folder))
    path = folder / "models" / said["name"]
    shutil.copy(path, folder / "kept")
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_adapted(folder, said)
    path.write_bytes((folder / "kept").read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="damaged or was replaced"):
        load_adapted(folder, said)
    with pytest.raises(InputError, match="no proper name"):
        load_adapted(folder, {**said, "name": "../kept"})
    save_model(UNet(base_channels=2, depth=1), path)
    from napari_unet.engine.journal.folder import hash_file

    digest, size = hash_file(path)
    with pytest.raises(InputError, match="does not answer clicks"):
        load_adapted(folder, {**said, "sha256": digest, "size": size})


def test_the_adapted_network_is_kept_when_there_are_too_many(folder, monkeypatch):
    models = [save_click_network(tiny_network(), folder) for _ in range(3)]
    state = ProjectState()
    state.take(Entry(1, SettingsChanged({"clicks": {"network": network_values(models[0])}})))
    monkeypatch.setattr(compaction, "MOST_MODELS", 1)
    assert compaction.compact(folder, state)
    assert [path.name for path in (folder / "models").iterdir()] == [models[0].name]


# ---------------------------------------------------------------------------- proposals


def proposals():
    return json.loads(json.dumps(proposed_values(Proposed((1,), (outline(), outline())))))


def test_proposals_come_back_in_the_order_of_those_that_are_open():
    proposed, left = read_proposed(proposals(), [1, 0], SHAPE)
    assert proposed.index == (1,)
    assert left == (1, 0)
    for found in proposed.outlines:
        assert (found.box, found.overlap) == (outline().box, outline().overlap)
        np.testing.assert_array_equal(found.mask, outline().mask)
    assert read_proposed(proposals(), None, SHAPE)[1] == (0, 1)


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (lambda values: None, [2]),
        (lambda values: None, [0, 0]),
        (lambda values: None, "01"),
        (lambda values: values.update(index=[3]), [0]),
        (lambda values: values.update(outlines=[None]), [0]),
        (lambda values: values.update(outlines={}), []),
        (lambda values: values["outlines"][0].update(box=[0, 99, 0, 4]), [0]),
    ],
)
def test_proposals_that_no_program_wrote_are_refused(spoil, left):
    values = proposals()
    spoil(values)
    with pytest.raises(JournalError):
        read_proposed(values, left, SHAPE)
