"""Models of three dimensions, and of several channels, in the window's session."""

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
import yaml
from qtpy.QtWidgets import QComboBox
from strange_packages import HALO, mean_filter, mean_filter_onnx, package_files, write_folder
from test_controller import wait_idle

from napari_unet.engine.exchange.card import ModelCard
from napari_unet.engine.image import ImageKind, SourceImage
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.predict import predict
from napari_unet.engine.results import InstanceSettings
from napari_unet.engine.segmenter import Segmenter
from napari_unet.engine.usage import LearnedFrom, Usage
from napari_unet.model.checkpoint import save_model
from napari_unet.model.unet import UNet
from napari_unet.viewer import controller as sessions
from napari_unet.viewer.actions import Action
from napari_unet.viewer.channels import ChannelChoice
from napari_unet.viewer.controller import SegmentationController
from napari_unet.viewer.exchange import export_network
from napari_unet.viewer.predict_widget import PredictWidget
from napari_unet.viewer.results import find_objects, save_as_tiff

SCALE = (3.0, 0.5, 0.5)


def noise(*shape):
    return np.random.default_rng(0).random(shape).astype(np.float32)


@pytest.fixture
def session(qapp, model_viewer):
    controller = SegmentationController(model_viewer, Segmenter(classes=2))
    yield controller
    controller.close()


def wait(session, qtbot):
    qtbot.wait(50)
    wait_idle(session, qtbot, timeout=60_000)


def saved(tmp_path, usage=None, **options):
    """A small network with random weights in a file."""
    torch.manual_seed(0)
    model = UNet(base_channels=2, depth=2, **options).eval()
    path = tmp_path / "model.safetensors"
    save_model(model, path, None if usage is None else usage.to_dict())
    return model, path


def load(session, qtbot, path):
    session.network.load(path)
    wait(session, qtbot)
    assert session.status.last_error == ""


def run(session, qtbot, **options):
    session.predict(precision="fp32", **options)
    wait(session, qtbot)
    assert session.status.last_error == ""
    return session.layers.results.everything


def exact(model, image):
    return predict(model, image, precision="fp32")


def volume_model(tmp_path):
    return saved(tmp_path, ndim=3, pooling=((1, 2, 2), (2, 2, 2)))


# ---------------------------------------------------------------- stacks as a whole


def test_a_stack_is_predicted_as_a_whole_in_tiles(session, qtbot, tmp_path):
    model, path = volume_model(tmp_path)
    stack = noise(9, 40, 50)
    session.layers.set_image(session.viewer.add_image(stack, name="stack", scale=SCALE))
    load(session, qtbot, path)
    tiles = []
    session.lane.told.connect(lambda _ticket, event: tiles.append(type(event).__name__))
    everything = run(session, qtbot, tile_size=(20, 52, 52))
    assert tiles.count("TilePredicted") > 4
    np.testing.assert_allclose(everything.probability, exact(model, stack), atol=1e-5)
    assert everything.predicted.all()
    classes = session.viewer.layers["stack: classes"]
    np.testing.assert_array_equal(classes.data, everything.probability.argmax(0) + 1)
    np.testing.assert_array_equal(classes.scale, SCALE)


def test_a_network_of_stacks_is_exported_while_a_plane_is_shown(session, qtbot, tmp_path):
    _, path = volume_model(tmp_path)
    session.layers.set_image(session.viewer.add_image(noise(9, 40, 50), name="stack"))
    load(session, qtbot, path)
    export_network(session, tmp_path / "stacks.zip", "bioimageio", ModelCard("for stacks"))
    wait(session, qtbot)
    assert session.status.last_error == ""
    assert (tmp_path / "stacks.zip").exists()


def test_objects_of_a_stack_are_cut_out_and_saved_with_its_axes(session, qtbot, tmp_path):
    _, path = volume_model(tmp_path)
    session.layers.set_image(
        session.viewer.add_image(noise(5, 24, 30), name="stack", scale=SCALE, units=("um",) * 3)
    )
    load(session, qtbot, path)
    everything = run(session, qtbot)
    ball = np.zeros((5, 24, 30), np.float32)
    ball[0, 2:12, 2:12] = ball[4, 2:12, 2:12] = 1
    ball[2:4, 14:20, 20:28] = 1
    everything.probability[:] = 1 - ball, ball
    find_objects(session, InstanceSettings(min_size=20))
    wait(session, qtbot)
    objects = session.viewer.layers["stack: instances"].data
    assert objects.max() == 3  # nothing joins the planes 0 and 4, as planes alone would not either
    assert len(np.unique(objects[2:4, 14:20, 20:28])) == 1
    save_as_tiff(session, tmp_path)
    wait(session, qtbot)
    with open_image(tmp_path / "stack_instances.tif") as found:
        assert found.info.names == "zyx"
        assert [axis.size for axis in found.info.axes] == pytest.approx(SCALE)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "stack_instances.tif"), objects)


def test_a_lazy_series_of_stacks_is_predicted_stack_by_stack(session, qtbot, tmp_path):
    model, path = volume_model(tmp_path)
    series = noise(2, 4, 24, 30)
    lazy = da.from_array(series, chunks=(1, 1, 24, 30))
    session.layers.set_image(session.viewer.add_image(lazy, name="series"))
    session.viewer.dims.set_current_step(0, 1)
    load(session, qtbot, path)
    everything = run(session, qtbot)
    assert everything.pieces() == [(1,)]
    assert session.layers.results.is_complete
    everything = run(session, qtbot, all_planes=True)
    assert everything.pieces() == [(0,), (1,)]
    for time in (0, 1):
        wanted = exact(model, series[time])
        np.testing.assert_allclose(everything.probability[:, time], wanted, atol=1e-5)


def test_what_is_on_screen_is_a_plane_of_the_stack(session, qtbot, tmp_path, monkeypatch):
    _, path = volume_model(tmp_path)
    session.layers.set_image(session.viewer.add_image(noise(8, 40, 40), name="stack"))
    session.viewer.dims.set_current_step(0, 5)
    load(session, qtbot, path)
    monkeypatch.setattr(session.layers, "visible", lambda: (slice(0, 10), slice(0, 10)))
    everything = run(session, qtbot, visible_only=True)
    assert everything.predicted[5, :10, :10].all()
    assert not everything.predicted[0].any()
    assert not everything.predicted[5, 20:].any()


def test_stopping_keeps_the_tiles_that_are_there(session, qtbot, tmp_path):
    _, path = volume_model(tmp_path)
    session.layers.set_image(session.viewer.add_image(noise(16, 80, 80), name="stack"))
    load(session, qtbot, path)
    left = []
    session.status.events.seconds_left.connect(left.append)
    done = []

    def stop_after_two(_ticket, _event):
        done.append(1)
        if len(done) == 2:
            session.stop()

    session.lane.told.connect(stop_after_two)
    everything = run(session, qtbot, tile_size=(18, 44, 44))
    assert everything.predicted.any()
    assert not everything.predicted.all()
    assert "Stopped" in session.status.message
    assert any(value is not None and value > 0 for value in left)


def test_a_single_plane_is_refused_with_the_cure(session, qtbot, tmp_path):
    _, path = volume_model(tmp_path)
    session.layers.set_image(session.viewer.add_image(noise(30, 40), name="plane"))
    load(session, qtbot, path)
    assert "Choose a stack" in session.why_not(Action.PREDICT)


def test_learning_from_strokes_says_how_stacks_are_learned(session, qtbot, tmp_path):
    _, path = volume_model(tmp_path)
    session.layers.set_image(session.viewer.add_image(noise(4, 30, 40), name="stack"))
    load(session, qtbot, path)
    assert "--ndim 3" in session.why_not(Action.LEARN)
    assert "press New" in session.why_not(Action.LEARN)
    session.network.begin_anew()
    wait(session, qtbot)
    assert "annotation layer" in session.why_not(Action.LEARN)


def test_a_stack_that_does_not_fit_into_the_memory_is_refused(
    session, qtbot, tmp_path, monkeypatch
):
    _, path = volume_model(tmp_path)
    session.layers.set_image(session.viewer.add_image(noise(4, 30, 40), name="stack"))
    load(session, qtbot, path)
    monkeypatch.setattr("napari_unet.engine.planes.free_memory", lambda _device: 1000)
    session.predict()
    wait(session, qtbot)
    assert "predict-array" in session.status.last_error


def test_turning_to_another_plane_does_not_predict_the_stack_again(session, qtbot, tmp_path):
    _, path = volume_model(tmp_path)
    session.layers.set_image(session.viewer.add_image(noise(4, 30, 40), name="stack"))
    load(session, qtbot, path)
    session.viewer.dims.set_current_step(0, 3)
    qtbot.wait(300)
    wait(session, qtbot)
    assert session.layers.results.everything is None


# ---------------------------------------------------------------- several channels


def four_channels(tmp_path):
    usage = Usage(learned_from=LearnedFrom(channels=("a", "b", "c", "d")))
    return saved(tmp_path, usage, in_channels=4)


def answer(model, channels):
    """What the engine says of (C, ...), each channel normalised by itself."""
    image = SourceImage(np.moveaxis(channels, 0, -1), channels.ndim - 1, colours=False)
    return predict_normalized(model, image)


def predict_normalized(model, image):
    from napari_unet.engine.predict import PredictRequest, assemble, predict_tiles

    events = predict_tiles(model, PredictRequest(image, precision="fp32"))
    return assemble(events, model.config.classes, image.shape)


def test_an_axis_of_as_many_channels_is_taken_for_them(session, qtbot, tmp_path):
    model, path = four_channels(tmp_path)
    image = noise(4, 40, 50) * np.array([1, 5, 0.2, 3], np.float32)[:, None, None]
    image[1] = image[1] ** 3
    session.layers.set_image(session.viewer.add_image(image, name="cells", scale=(1, 0.5, 0.5)))
    load(session, qtbot, path)
    assert session.why_not(Action.PREDICT) is None
    assert "cells, channel 1, cells, channel 2" in session.layers.describe()
    everything = run(session, qtbot)
    np.testing.assert_allclose(everything.probability, answer(model, image), atol=1e-5)
    assert not np.allclose(everything.probability, answer(model, image[::-1]), atol=1e-3)
    shown = session.viewer.layers["cells: classes"]
    assert shown.data.shape == (40, 50)
    np.testing.assert_array_equal(shown.scale, (0.5, 0.5))


def test_layers_are_taken_in_the_order_of_the_models_names(session, qtbot, tmp_path):
    model, path = four_channels(tmp_path)
    image = noise(4, 40, 50)
    for number, name in ((2, "cells: c"), (0, "cells: a"), (3, "cells: d"), (1, "cells: b")):
        session.viewer.add_image(image[number] ** (number + 1), name=name)
    session.layers.set_image(session.viewer.layers["cells: a"])
    load(session, qtbot, path)
    chosen = [channel.name for channel in session.layers.planes.channels]
    assert chosen == ["cells: a", "cells: b", "cells: c", "cells: d"]
    everything = run(session, qtbot)
    powers = np.stack([image[n] ** (n + 1) for n in range(4)])
    np.testing.assert_allclose(everything.probability, answer(model, powers), atol=1e-5)


def test_a_channel_that_is_removed_is_missed_and_one_that_comes_back_is_found(
    session, qtbot, tmp_path
):
    _, path = saved(tmp_path, in_channels=2)
    first, second = noise(2, 30, 40)
    session.layers.set_image(session.viewer.add_image(first, name="nuclei"))
    load(session, qtbot, path)
    assert "Open the other channels" in session.why_not(Action.PREDICT)
    session.viewer.add_image(second, name="membrane")
    qtbot.waitUntil(lambda: session.why_not(Action.PREDICT) is None)
    run(session, qtbot)
    # A third one does not change what was chosen.
    session.viewer.add_image(second, name="third")
    qtbot.wait(50)
    assert [c.name for c in session.layers.planes.channels] == ["nuclei", "membrane"]
    session.viewer.layers.remove("membrane")
    qtbot.waitUntil(lambda: "third" in str([c.name for c in session.layers.planes.channels]))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_stack_of_channels_goes_through_a_network_of_stacks(session, qtbot, tmp_path, axis):
    model, path = saved(tmp_path, ndim=3, in_channels=2, pooling=((1, 2, 2), (2, 2, 2)))
    channels = noise(2, 6, 24, 30)
    channels[1] **= 4
    image = np.moveaxis(channels, 0, axis)
    scale = (1, 2, 1, 1) if axis == 0 else (2, 1, 1, 1)
    layer = session.viewer.add_image(image, name="cells", scale=scale)
    session.layers.set_image(layer)
    load(session, qtbot, path)
    everything = run(session, qtbot)
    assert everything.probability.shape == (2, 6, 24, 30)
    np.testing.assert_allclose(everything.probability, answer(model, channels), atol=1e-5)
    # Every channel and plane of the viewer shows the answer for that plane.
    shown = session.viewer.layers["cells: classes"]
    for channel in (0, 1):
        for plane in (0, 4):
            steps = (channel, plane) if axis == 0 else (plane, channel)
            session.viewer.dims.set_current_step((0, 1), steps)
            assert session.layers.plane == (plane,)
            at = shown.world_to_data((*session.viewer.dims.point[:2], 3, 7))
            value = shown.data[tuple(np.round(at).astype(int))]
            assert value == everything.probability[:, plane, 3, 7].argmax() + 1
    save_as_tiff(session, tmp_path)
    wait(session, qtbot)
    with open_image(tmp_path / "cells_classes.tif") as found:
        assert found.info.names == "zyx"


def test_channels_between_planes_refuse_strokes_and_channels_before_them_do_not(
    session, qtbot, tmp_path
):
    _, path = saved(tmp_path, in_channels=2)
    first = session.viewer.add_image(noise(2, 3, 20, 30), name="before")
    second = session.viewer.add_image(noise(3, 2, 20, 30), name="between")
    load(session, qtbot, path)
    session.layers.set_image(first)
    assert session.layers.add_annotations().data.shape == (3, 20, 30)
    session.layers.set_image(second)
    with pytest.raises(Exception, match="channels first"):
        session.layers.add_annotations()


def test_a_model_of_one_channel_takes_a_colour(session, qtbot, tmp_path):
    model, path = saved(tmp_path)
    image = (noise(30, 40, 3) * 255).astype(np.uint8)
    layer = session.viewer.add_image(image, name="stain", rgb=True)
    session.layers.set_image(layer)
    load(session, qtbot, path)
    assert "Choose the channel under Channels" in session.why_not(Action.PREDICT)
    red, green, _ = session.layers.channels.candidates(session.layers.planes)
    assert (red.name, green.name) == ("stain, red", "stain, green")
    session.layers.choose_channels(ChannelChoice(None, (green,)))
    everything = run(session, qtbot)
    np.testing.assert_allclose(everything.probability, exact(model, image[..., 1]), atol=1e-5)


def test_a_network_of_several_channels_learns_on_from_strokes(session, qtbot, tmp_path):
    _, path = saved(tmp_path, in_channels=2, batch_norm=True)
    image = noise(2, 60, 60)
    image[:, :, 30:] += 1
    session.layers.set_image(session.viewer.add_image(image, name="cells"))
    load(session, qtbot, path)
    layer = session.layers.add_annotations()
    layer.data[10:20, 5:15], layer.data[10:20, 40:50] = 1, 2
    session.layers.look_at_strokes()
    session.learn(seconds=0.3)
    wait(session, qtbot)
    assert session.status.last_error == ""
    assert session.segmenter.takes == ImageKind(2)


def test_a_package_for_stacks_of_two_channels_predicts(session, qtbot, tmp_path):
    weights = mean_filter_onnx(ndim=3, channels=2)
    files = package_files(weights=weights)
    values = yaml.safe_load(files["bioimageio.yaml"])
    given, answered = values["inputs"][0], values["outputs"][0]
    given["axes"].insert(2, {"type": "space", "id": "z", "size": 8})
    given["axes"][1]["channel_names"] = ["nuclei", "membrane"]
    depth = {"tensor_id": "raw", "axis_id": "z"}
    answered["axes"].insert(2, {"type": "space", "id": "z", "halo": HALO, "size": depth})
    for tensor in (given, answered):
        del tensor["test_tensor"]
    files["bioimageio.yaml"] = yaml.safe_dump(values).encode()
    folder = write_folder(tmp_path / "package", files)
    stack = noise(2, 9, 20, 17)
    session.layers.set_image(session.viewer.add_image(stack, name="stack"))
    load(session, qtbot, folder / "bioimageio.yaml")
    assert session.why_not(Action.PREDICT) is None
    found = run(session, qtbot, tile_size=12).probability
    inner = (slice(1, -1),) * 3
    wanted = mean_filter(stack.mean(axis=0))
    np.testing.assert_allclose(found[1][inner], wanted[inner], atol=1e-5)


# ---------------------------------------------------------------- the dock


@pytest.fixture
def dock(make_napari_viewer, monkeypatch):
    viewer = make_napari_viewer()
    session = SegmentationController(viewer, Segmenter(classes=2))
    monkeypatch.setitem(sessions._sessions, viewer, session)
    dock = PredictWidget(viewer)
    viewer.window.add_dock_widget(dock, area="right")
    yield dock
    session.close()


def choose(field: QComboBox, text):
    number = field.findText(text)
    assert number >= 0, [field.itemText(n) for n in range(field.count())]
    field.setCurrentIndex(number)
    field.activated.emit(number)


def test_channels_are_chosen_in_the_dock(dock, qtbot, tmp_path):
    session, viewer = dock.controller, dock.controller.viewer
    model, path = saved(tmp_path, in_channels=2)
    images = noise(3, 40, 50)
    for name, image in zip(("one", "two", "three"), images, strict=True):
        viewer.add_image(image**2, name=name)
    session.layers.set_image(viewer.layers["one"])
    load(session, qtbot, path)
    panel = dock.channels
    assert not panel.isHidden()
    assert not dock.predict.isEnabled()
    assert "under Channels" in dock.predict.reason_line.text()
    assert "2 channels" in dock.model.text()
    choose(panel.fields[0], "three")
    assert not dock.predict.isEnabled()
    choose(panel.fields[1], "one")
    assert dock.predict.isEnabled()
    assert "channels three, one" in dock.description.text()
    dock.precision.setCurrentIndex(1)
    dock.predict.click()
    wait(session, qtbot)
    wanted = answer(model, images[[2, 0]] ** 2)
    np.testing.assert_allclose(session.layers.results.everything.probability, wanted, atol=1e-5)
    session.network.begin_anew()
    wait(session, qtbot)
    assert panel.isHidden()


def test_the_axis_of_channels_is_chosen_in_the_dock(dock, qtbot, tmp_path):
    session, viewer = dock.controller, dock.controller.viewer
    _, path = saved(tmp_path, in_channels=2)
    session.layers.set_image(viewer.add_image(noise(2, 2, 30, 40), name="both"))
    load(session, qtbot, path)
    panel = dock.channels
    assert not dock.predict.isEnabled()  # either axis may be meant
    choose(panel.axis, "axis 2, 2 long")
    assert dock.predict.isEnabled()
    assert session.layers.planes.shape == (2, 30, 40)
    assert [field.currentText() for field in panel.fields] == [
        "both, channel 1",
        "both, channel 2",
    ]
    choose(panel.fields[0], "both, channel 2")
    choose(panel.fields[1], "both, channel 1")
    assert [channel.number for channel in session.layers.planes.channels] == [1, 0]


def test_a_stack_is_predicted_by_the_buttons(dock, qtbot, tmp_path):
    session, viewer = dock.controller, dock.controller.viewer
    model, path = volume_model(tmp_path)
    stack = noise(6, 30, 40)
    viewer.add_image(stack, name="stack")
    load(session, qtbot, path)
    assert "stacks as a whole" in dock.model.text()
    assert dock.all_planes.isHidden()
    dock.precision.setCurrentIndex(1)
    dock.predict.click()
    wait(session, qtbot)
    assert session.status.last_error == ""
    found = session.layers.results.everything.probability
    np.testing.assert_allclose(found, exact(model, stack), atol=1e-5)
    assert dock.objects.isEnabled()
    dock.objects.click()
    wait(session, qtbot)
    assert viewer.layers["stack: instances"].data.shape == stack.shape
