"""What is exported gives our own answer in other programs, or there is no file."""

import gc
import os
import socket
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
import yaml
from networks import make_unet

from napari_unet.engine.events import ExportAdvanced, FileSaved
from napari_unet.engine.exchange import export
from napari_unet.engine.exchange.card import ModelCard
from napari_unet.engine.exchange.export import ExportRequest, export_model, our_answer
from napari_unet.engine.exchange.foreign import predict_blocks, predict_foreign
from napari_unet.engine.exchange.open import open_model, usage_of
from napari_unet.engine.image import SourceImage
from napari_unet.engine.predict import PredictRequest, assemble, predict
from napari_unet.engine.usage import LearnedFrom, Usage
from napari_unet.model.checkpoint import save_model
from napari_unet.model.unet import UNet
from napari_unet.model.zoo.container import open_container
from napari_unet.model.zoo.description import read_description
from napari_unet.model.zoo.foreign import ForeignModel
from napari_unet.model.zoo.onnx_file import OnnxFile
from napari_unet.ops.errors import InputError

CARD = ModelCard(
    "test model", authors=("Ada",), licence="CC0-1.0", tags=("cells",), class_names=("bg", "cell")
)


def lively(seed=0, **config):
    """Return a network whose answer differs from pixel to pixel."""
    model = make_unet(seed, hypercolumns=config.get("ndim", 2) == 2, **config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        # Kernels of three dimensions have three times as many inputs; their sum varies as much.
        size = 0.2 if model.config.ndim == 2 else 0.2 / 3**0.5
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * size)
    return model


def image_of(*shape):
    return (np.random.default_rng(0).random(shape) * 60_000).astype(np.uint16)


def test_a_network_that_answers_clicks_is_not_run_over_images(tmp_path):
    file = save_model(
        UNet(1, base_channels=2, depth=2, padded=True), tmp_path / "click.safetensors"
    )
    with pytest.raises(InputError, match=r"answers clicks .* choose a model"):
        open_model(file)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network, and its package."""
    model = lively(batch_norm=True, hidden=4)
    path = tmp_path_factory.mktemp("export") / "package.zip"
    usage = Usage(learned_from=LearnedFrom((0.5, 0.25), "nm"))
    events = list(export_model(ExportRequest(model, path, card=CARD, usage=usage)))
    assert events[-1] == FileSaved((path,))
    return model, path, events


@pytest.fixture(scope="module")
def foreign(exported):
    """The package as if another program had made it."""
    return ForeignModel(open_container(exported[1]), isolated=False)


def test_the_export_tells_how_far_it_is(exported):
    steps = [event for event in exported[2] if isinstance(event, ExportAdvanced)]
    assert [step.done for step in steps] == list(range(1, steps[0].total + 1))


def test_the_package_holds_what_people_need(exported):
    with zipfile.ZipFile(exported[1]) as archive:
        assert set(archive.namelist()) == {
            "weights.onnx",
            "model.safetensors",
            "test_input.npy",
            "test_output.npy",
            "cover.png",
            "README.md",
            "bioimageio.yaml",
        }
        said = yaml.safe_load(archive.read("bioimageio.yaml"))
        assert not any(b"pickle" in archive.read(name) for name in archive.namelist())
    assert said["authors"] == [{"name": "Ada"}]
    assert said["license"] == "CC0-1.0"
    assert "cells" in said["tags"]
    assert said["cite"][0]["doi"] == "10.1007/978-3-319-24574-4_28"


def test_the_package_reproduces_its_own_test(foreign):
    assert foreign.test_error < 1e-5


@pytest.mark.parametrize(("shape", "tile"), [((90, 75), 64), ((20, 33), None), ((130, 70), 80)])
def test_tiles_of_any_size_give_our_own_answer(exported, foreign, shape, tile):
    image = image_of(*shape)
    request = PredictRequest(SourceImage(image), tile_size=tile)
    found = assemble(predict_foreign(foreign, request), 2, image.shape)
    expected = predict(exported[0], image, precision="fp32")
    assert expected.std() > 0.05  # an answer that could be missed
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_pixel_size_goes_along(tmp_path):
    learned = LearnedFrom((0.5, 0.25), "µm")
    request = ExportRequest(
        lively(depth=1), tmp_path / "a.b", "onnx", usage=Usage(learned_from=learned)
    )
    *_, saved = export_model(request)
    assert saved.paths == (tmp_path / "a.b.onnx",)  # a dot in a name stays
    assert usage_of(saved.paths[0]).learned_from == learned


STAINS, TISSUES = ("DAPI (405)", "GFP"), ("background", "nuclei", "border")


@pytest.mark.parametrize("kind", ["bioimageio", "onnx"])
def test_names_of_channels_and_classes_go_along_and_come_back(tmp_path, kind):
    model = lively(depth=1, in_channels=2, classes=3)
    usage = Usage(learned_from=LearnedFrom(channels=STAINS), class_names=TISSUES)
    *_, saved = export_model(ExportRequest(model, tmp_path / "first", kind, usage=usage))
    found = usage_of(saved.paths[0])
    assert found.learned_from.channels == STAINS
    assert found.class_names == TISSUES
    if kind == "bioimageio":
        opened = open_model(saved.paths[0])
        again = ExportRequest(opened.network, tmp_path / "again", usage=opened.usage)
        *_, saved = export_model(again)
        description = read_description(open_container(saved.paths[0]))
        assert description.input.channel_names == STAINS
        assert description.class_names == TISSUES


def test_names_on_the_card_go_before_those_that_were_learned(tmp_path):
    usage = Usage(class_names=("background", "nuclei"))
    request = ExportRequest(lively(depth=1), tmp_path / "p", card=CARD, usage=usage)
    *_, saved = export_model(request)
    assert open_model(saved.paths[0]).usage.class_names == CARD.class_names


def test_our_own_package_can_learn_on(exported):
    opened = open_model(exported[1])
    assert isinstance(opened.network, UNet)
    for name, value in exported[0].state_dict().items():
        assert torch.equal(opened.network.state_dict()[name], value)


def test_an_rgb_network_as_onnx_says_itself_how_it_is_used(tmp_path):
    model = lively(in_channels=3, classes=3, depth=1)
    path = tmp_path / "model.onnx"
    list(export_model(ExportRequest(model, path, "onnx", image_of(70, 60, 3))))
    file = OnnxFile(path)
    found = ForeignModel(file, file.description, isolated=False)
    image = image_of(41, 52, 3)
    answer = assemble(predict_foreign(found, PredictRequest(SourceImage(image))), 3, (41, 52))
    np.testing.assert_allclose(answer, predict(model, image, precision="fp32"), atol=1e-5)


def test_a_network_for_stacks_is_exported_and_tiled(tmp_path):
    model = lively(ndim=3, depth=1)
    path = tmp_path / "stacks.zip"
    list(export_model(ExportRequest(model, path)))
    found = ForeignModel(open_container(path), isolated=False)
    stack = image_of(1, 18, 30, 26).astype(np.float32)
    answer = np.zeros((2, *stack.shape[1:]), np.float32)
    for tile, probability, _ in predict_blocks(found, stack, side=32):
        if tile is not None:
            answer[(slice(None), *tile.inner)] = probability
    np.testing.assert_allclose(answer, our_answer(model, stack), atol=1e-5)


# ---------------------------------------------------------------- other programs


@pytest.fixture(autouse=True)
def _a_library_that_works(request):
    """Leave out what the format's own library cannot do to any package."""
    if "formats_own" not in request.node.name:
        return
    from importlib.metadata import version

    old = tuple(map(int, version("bioimageio.spec").split(".")[:3])) < (0, 5, 14)
    if old and tuple(map(int, version("pydantic").split(".")[:2])) >= (2, 14):
        pytest.skip("bioimageio.spec before 0.5.14 fails with pydantic 2.14 and later")


def test_the_formats_own_test_command_passes_without_a_network(exported, tmp_path):
    """In a process whose sockets cannot connect."""
    block = "import socket\ndef no(*a, **k): raise RuntimeError('the network was asked')\n"
    block += "socket.socket.connect = socket.create_connection = socket.getaddrinfo = no\n"
    (tmp_path / "sitecustomize.py").write_text(block)
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "BIOIMAGEIO_CACHE_PATH": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "bioimageio.core", "test", str(exported[1])],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "asked" not in done.stderr


# It leaves the files open that it has read.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_formats_own_runner_gives_our_answer_in_tiles(exported, monkeypatch, tmp_path):
    monkeypatch.setenv("BIOIMAGEIO_CACHE_PATH", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    core = pytest.importorskip("bioimageio.core")
    description = core.load_model_description(exported[1])
    image = image_of(120, 96)  # sides that fit the pooling, as the runner's last tiles need
    tensor = core.Tensor.from_numpy(
        image[None, None].astype(np.float32), dims=["batch", "channel", "y", "x"]
    )
    sample = core.Sample(members={description.inputs[0].id: tensor}, stat={}, id="image")
    with core.create_prediction_pipeline(description) as pipeline:
        found = pipeline.predict_sample_with_blocking(sample, ns=4)
    answer = found.members[description.outputs[0].id].data.to_numpy()[0]
    np.testing.assert_allclose(answer, predict(exported[0], image, precision="fp32"), atol=1e-5)
    del description, pipeline, found, sample
    gc.collect()


# ---------------------------------------------------------------- what goes wrong


def test_an_export_that_gives_another_answer_leaves_no_file(tmp_path, monkeypatch):
    true = export.our_answer
    monkeypatch.setattr(export, "our_answer", lambda *args: true(*args) * 0.999)
    (tmp_path / "m.onnx").write_bytes(b"earlier")
    with pytest.raises(InputError, match="misses the network's own answer"):
        list(export_model(ExportRequest(lively(depth=1), tmp_path / "m.onnx", "onnx")))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"earlier"


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_stopped_export_leaves_nothing(tmp_path, steps):
    stop = threading.Event()
    for number, _ in enumerate(
        export_model(ExportRequest(lively(depth=1), tmp_path / "m.onnx", "onnx"), stop), start=1
    ):
        if number == steps:
            stop.set()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        list(export_model(ExportRequest(lively(depth=1), tmp_path / "no" / "m.onnx", "onnx")))


@pytest.mark.parametrize(
    "values",
    [
        {"name": "a/b model"},
        {"name": "abc"},
        {"summary": "x" * 2000},
        {"authors": ("a/b",)},
        {"citations": ("no doi",)},
    ],
)
def test_a_card_that_the_format_would_refuse_is_refused(values):
    with pytest.raises(InputError):
        ModelCard(**values)


def test_a_test_image_of_another_kind_is_refused(tmp_path):
    request = ExportRequest(lively(depth=1), tmp_path / "m.onnx", "onnx", image_of(30, 30, 3))
    with pytest.raises(InputError, match="test image"):
        list(export_model(request))
