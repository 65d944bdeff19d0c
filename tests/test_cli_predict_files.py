"""``napari-unet predict`` and ``info`` on stacks, channels and folders, as in a shell."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import tifffile
import torch

from napari_unet import UNet, save_model

SHAPE = (3, 2, 40, 44)  # z, c, y, x


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: starting threads costs more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stack():
    rng = np.random.default_rng(0)
    data = rng.integers(0, 60, SHAPE, dtype=np.uint8)
    data[:, 0, 10:22, 10:24] += 150
    data[:, 1, 24:36, 20:36] += 150
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory, stack):
    """A stack of two channels in ImageJ's form, the same as OME-TIFF with names, and models."""
    path = tmp_path_factory.mktemp("stacks")
    tifffile.imwrite(
        path / "stack.tif",
        stack,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZCYX", "unit": "um", "spacing": 1.5},
    )
    names = {"Channel": {"Name": ["DAPI", "GFP"]}}
    metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, **names}
    tifffile.imwrite(path / "named.ome.tif", stack, ome=True, metadata=metadata)
    torch.manual_seed(0)
    save_model(UNet(1, 2, base_channels=8, depth=1), path / "grey.safetensors")
    save_model(UNet(2, 3, base_channels=8, depth=1), path / "two.safetensors")
    save_model(UNet(3, 2, base_channels=2, depth=1), path / "rgb.safetensors")
    notes = {"learned_from": {"pixel_size": [0.5, 0.5], "unit": "µm", "channels": ["GFP", "DAPI"]}}
    save_model(UNet(2, 2, base_channels=8, depth=1), path / "sized.safetensors", notes)
    notes = {"learned_from": {"pixel_size": [0.5, 0.5], "unit": "µm"}}
    save_model(bright_is_object(), path / "half.safetensors", notes)
    save_model(bright_is_object(), path / "bright.safetensors")
    return path


def bright_is_object():
    """A network whose answer is the grey value: bright pixels are objects."""
    model = UNet(1, 2, base_channels=2, depth=1)
    state = {name: torch.zeros_like(values) for name, values in model.state_dict().items()}
    for name in ("contracting.0.0", "contracting.0.2", "expanding.0.0", "expanding.0.2"):
        state[f"{name}.weight"][0, ::2, 1, 1] = 1  # passes the first map on, past the bottom
    state["output.weight"][1, 0] = 20
    state["output.bias"][1] = -10
    model.load_state_dict(state)
    return model


@pytest.fixture
def predict(run, tmp_path):
    """Predict with --json, and return what was reported."""

    def invoke(image, model, *options, code=0):
        result = run("predict", image, "-m", model, "-o", tmp_path / "out", "--json", *options)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    return invoke


def refuses(run, *args):
    result = run(*args)
    assert result.exit_code == 2, result.output
    [line] = result.stderr.splitlines()
    return line


# ---------------------------------------------------------------------------- stacks and channels


def test_a_stack_keeps_its_axes_and_pixel_sizes(predict, folder, tmp_path, stack):
    from napari_unet import load_model
    from napari_unet import predict as predict_plane

    options = ("--channel", 2, "--precision", "fp32")
    [found] = predict(folder / "stack.tif", folder / "grey.safetensors", *options)["results"]
    assert found["axes"] == "zcyx 3 x 2 x 40 x 44"
    with tifffile.TiffFile(tmp_path / "out" / "stack_probabilities.tif") as file:
        assert file.series[0].axes == "ZCYX"
        probability = file.asarray()
        assert file.imagej_metadata["spacing"] == 1.5
        assert file.imagej_metadata["unit"] == r"\u00B5m"
        assert file.pages.first.tags["XResolution"].value == (4, 1)
        assert file.pages.first.tags["YResolution"].value == (2, 1)
    model = load_model(folder / "grey.safetensors")
    for z in range(3):
        expected = predict_plane(model, stack[z, 1], precision="fp32")
        np.testing.assert_allclose(probability[z], expected, atol=1e-5)
    with tifffile.TiffFile(tmp_path / "out" / "stack_classes.tif") as file:
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), probability.argmax(axis=1) + 1)
    instances = tifffile.imread(tmp_path / "out" / "stack_instances.tif")
    assert instances.shape == (3, 40, 44)
    assert found["instances"] == instances.max()


def test_objects_that_go_on_along_z_keep_their_number(predict, folder, tmp_path):
    """Two discs through three planes are two objects; over time every plane has its own."""
    rows, columns = np.indices((60, 60))
    discs = np.zeros((3, 60, 60), np.uint8)
    for z, shift in enumerate((0, 1, 2)):
        for row, column in ((15, 15 + shift), (42, 40 - shift)):
            discs[z][(rows - row) ** 2 + (columns - column) ** 2 < 60] = 200
    for axes, count in (("zyx", 2), ("tyx", 6)):
        np.save(tmp_path / f"{axes}.npy", discs)
        report = predict(
            tmp_path / f"{axes}.npy",
            folder / "bright.safetensors",
            "--axes",
            axes,
            "--threshold",
            0.5,
        )
        assert report["results"][0]["instances"] == count
    instances = tifffile.imread(tmp_path / "out" / "zyx_instances.tif")
    assert [sorted(np.unique(plane)) for plane in instances] == [[0, 1, 2]] * 3
    assert len({plane[15, 16] for plane in instances}) == 1


def test_every_channel_by_itself(predict, folder, tmp_path):
    each = predict(folder / "named.ome.tif", folder / "grey.safetensors", "--channel", "each")
    assert len(each["results"][0]["files"]) == 6
    both = [
        tifffile.imread(tmp_path / "out" / f"named_{n}_classes.tif") for n in ("1-DAPI", "2-GFP")
    ]
    shutil.rmtree(tmp_path / "out")
    predict(folder / "named.ome.tif", folder / "grey.safetensors", "--channel", "GFP")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "named_classes.tif"), both[1])


def test_channels_are_given_in_the_order_of_the_model(predict, folder, tmp_path, stack):
    def answer(image, model, *options):
        predict(image, folder / f"{model}.safetensors", "--overwrite", *options)
        return tifffile.imread(tmp_path / "out" / "named_probabilities.tif")

    image = folder / "named.ome.tif"
    as_stored = answer(image, "two")
    turned = answer(image, "two", "--channel", "GFP", "--channel", "1")
    assert not np.allclose(as_stored, turned)
    swapped = answer(image, "sized")  # learned on GFP, then DAPI
    chosen = answer(image, "sized", "--channel", "GFP", "--channel", "DAPI")
    np.testing.assert_array_equal(swapped, chosen)
    other = answer(image, "sized", "--channel", "DAPI", "--channel", "GFP")
    assert not np.allclose(swapped, other)


def test_other_axes_may_be_said(predict, folder, tmp_path, stack):
    np.save(tmp_path / "a.npy", stack.transpose(3, 1, 0, 2))
    predict(tmp_path / "a.npy", folder / "two.safetensors", "--axes", "xczy")
    from_numpy = tifffile.imread(tmp_path / "out" / "a_probabilities.tif")
    predict(folder / "stack.tif", folder / "two.safetensors")
    from_tiff = tifffile.imread(tmp_path / "out" / "stack_probabilities.tif")
    np.testing.assert_allclose(from_numpy, from_tiff, atol=1e-6)


def test_all_planes_may_be_scaled_alike(predict, folder, tmp_path):
    """A plane of noise behind one of objects is stretched by itself, and not with the others."""
    data = np.random.default_rng(0).normal(10, 1, (2, 40, 44)).astype(np.float32)
    data[0, 10:30, 10:30] += 100
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZYX"})
    answers = []
    for scaling in ("plane", "image"):
        predict(tmp_path / "a.tif", folder / "bright.safetensors", "--scale-grey", scaling)
        answers.append(tifffile.imread(tmp_path / "out" / "a_probabilities.tif"))
    noise = [float(answer[1, 1].max()) for answer in answers]
    assert noise[0] > 0.9
    assert noise[1] < 0.1


def test_results_as_ome_zarr(predict, folder, tmp_path):
    pytest.importorskip("zarr")
    from napari_unet.engine.images.opening import open_image

    predict(folder / "stack.tif", folder / "two.safetensors")
    for version in ("0.4", "0.5"):
        options = ("--format", "ome-zarr", "--zarr-version", version)
        predict(folder / "stack.tif", folder / "two.safetensors", *options)
        path = tmp_path / "out" / "stack_prediction.ome.zarr"
        with open_image(path) as image:
            assert image.info.kind == f"OME-Zarr {version}"
            assert image.info.names == "czyx"
            assert image.info.axis("z").size == 1.5
            planes = np.stack([image.read_plane((z,)) for z in range(3)])
        expected = tifffile.imread(tmp_path / "out" / "stack_probabilities.tif")
        np.testing.assert_array_equal(planes, expected)
        for kind in ("classes", "instances"):
            with open_image(path / "labels" / kind) as image:
                planes = np.stack([image.read_plane((z,))[0] for z in range(3)])
            expected = tifffile.imread(tmp_path / "out" / f"stack_{kind}.tif")
            np.testing.assert_array_equal(planes, expected)


# ---------------------------------------------------------------------------- pixel size


def test_another_pixel_size_is_a_warning_and_rescaling_mends_it(predict, folder, tmp_path, stack):
    fine = stack[0, 0].repeat(2, axis=0).repeat(2, axis=1)
    for name, data, size in (("fine", fine, 0.25), ("coarse", stack[0, 0], 0.5)):
        options = {"imagej": True, "metadata": {"unit": "um"}}
        tifffile.imwrite(tmp_path / f"{name}.tif", data, resolution=(1 / size, 1 / size), **options)
    model = folder / "half.safetensors"
    assert predict(tmp_path / "coarse.tif", model)["results"][0]["notes"] == []
    [note] = predict(tmp_path / "fine.tif", model)["results"][0]["notes"]
    assert "0.25 µm" in note
    assert "0.5 µm" in note
    assert "--rescale" in note
    assert predict(tmp_path / "fine.tif", model, "--rescale")["results"][0]["notes"] == []
    rescaled = tifffile.imread(tmp_path / "out" / "fine_probabilities.tif")
    coarse = tifffile.imread(tmp_path / "out" / "coarse_probabilities.tif")
    assert rescaled.shape == (2, 80, 88)
    np.testing.assert_allclose(rescaled.sum(axis=0), 1, atol=1e-4)
    back = rescaled.reshape(2, 40, 2, 44, 2).mean((2, 4))
    assert ((back[1] > 0.5) == (coarse[1] > 0.5)).mean() > 0.97
    assert 0.05 < (coarse[1] > 0.5).mean() < 0.5


def test_what_rescaling_needs(run, folder, tmp_path, stack):
    tifffile.imwrite(tmp_path / "bare.tif", stack[0, 0])
    rest = ("-o", tmp_path / "out", "--rescale")
    bare = ("predict", tmp_path / "bare.tif", "-m")
    assert "--pixel-size" in refuses(run, *bare, folder / "half.safetensors", *rest)
    assert "--model-pixel-size" in refuses(run, *bare, folder / "grey.safetensors", *rest)
    wrong = (*bare, folder / "half.safetensors", *rest, "--pixel-size", "5mm")
    assert "cannot be compared" in refuses(run, *wrong)
    sizes = ("--pixel-size", "1um", "--model-pixel-size", "2um")
    assert run(*bare, folder / "grey.safetensors", *rest, *sizes).exit_code == 0


def test_fine_tuning_keeps_the_pixel_size(run, folder, tmp_path, stack):
    from napari_unet.engine.usage import load_usage

    options = {"imagej": True, "metadata": {"unit": "um"}}
    tifffile.imwrite(tmp_path / "a.tif", stack[0, 0], resolution=(4, 2), **options)
    strokes = np.zeros(stack.shape[2:], np.uint8)
    strokes[2, 2:40:4], strokes[14:18, 14:20] = 1, 2
    tifffile.imwrite(tmp_path / "strokes.tif", strokes)
    model = tmp_path / "m.safetensors"
    arguments = (tmp_path / "a.tif", tmp_path / "strokes.tif", "-m", folder / "grey.safetensors")
    result = run("fine-tune", *arguments, "-o", model, "--steps", 1)
    assert result.exit_code == 0, result.output
    learned = load_usage(model).learned_from
    assert learned.pixel_size == pytest.approx((0.5, 0.25))
    assert learned.unit == "µm"


# ---------------------------------------------------------------------------- folders


@pytest.fixture
def images(tmp_path, stack):
    """A folder with a picture, one below, a hidden one, and a file that is no image."""
    path = tmp_path / "images"
    (path / "below").mkdir(parents=True)
    tifffile.imwrite(path / "a.tif", stack[0, 0])
    tifffile.imwrite(path / "below" / "a.tif", stack[1, 0])
    tifffile.imwrite(path / ".hidden.tif", stack[1, 0])
    (path / "broken.png").write_text("notes")
    (path / "readme.txt").write_text("notes")
    return path


def states(report):
    done = {row["image"]: "skipped" if row["skipped"] else "done" for row in report["results"]}
    return {**done, **{row["image"]: "failed" for row in report["failed"]}}


def named(images, **expected):
    names = {"a": "a.tif", "below": "below/a.tif", "broken": "broken.png"}
    return {str(images / names[name]): state for name, state in expected.items()}


def test_a_folder_with_a_table_that_says_what_failed_and_why(run, folder, images, tmp_path):
    arguments = ("predict", images, "-m", folder / "grey.safetensors", "-o", tmp_path / "out")
    result = run(*arguments)
    assert result.exit_code == 2
    table = result.stdout.splitlines()
    assert [line.split()[0] for line in table[:4]] == ["state", "done", "done", "failed"]
    assert "cannot be read as image" in table[3]
    assert (tmp_path / "out" / "below" / "a_classes.tif").exists()
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "done", "failed"]
    assert "cannot be read" in rows[2]["reason"]


def test_what_is_done_is_not_done_again(predict, folder, images, stack):
    model = folder / "grey.safetensors"
    predict(images, model, code=2)
    again = predict(images, model, code=2)
    assert states(again) == named(images, a="skipped", below="skipped", broken="failed")
    tifffile.imwrite(images / "broken.png", stack[0, 0])  # the ending does not make the format
    (images / "broken.png").rename(images / "mended.tif")
    tifffile.imwrite(images / "a.tif", stack[2, 0, :30])
    mended = states(predict(images, model))
    expected = named(images, a="done", below="skipped") | {str(images / "mended.tif"): "done"}
    assert mended == expected
    assert set(states(predict(images, model, "--overwrite")).values()) == {"done"}


def test_another_model_or_option_does_it_again(predict, folder, images):
    options = ("--pattern", "*.tif")
    assert set(states(predict(images, folder / "grey.safetensors", *options)).values()) == {"done"}
    other = predict(images, folder / "grey.safetensors", *options, "--threshold", 0.7)
    assert set(states(other).values()) == {"done"}
    other = predict(images, folder / "half.safetensors", *options, "--threshold", 0.7)
    assert set(states(other).values()) == {"done"}


def test_results_that_were_deleted_are_made_again(predict, folder, images, tmp_path):
    options = ("--pattern", "*.tif")
    predict(images, folder / "grey.safetensors", *options)
    (tmp_path / "out" / "a_classes.tif").unlink()
    again = states(predict(images, folder / "grey.safetensors", *options))
    assert again == named(images, a="done", below="skipped")


def test_patterns_and_folders_below(predict, folder, images):
    model = folder / "grey.safetensors"
    assert states(predict(images, model, "--pattern", "below/*")) == named(images, below="done")
    flat = predict(images, model, "--pattern", "*.tif", "--flat", "--overwrite")
    assert states(flat) == named(images, a="done")


@pytest.mark.parametrize("output", ["results", "."])
def test_results_within_the_folder_are_no_images(run, folder, images, output):
    arguments = ("predict", images, "-m", folder / "grey.safetensors", "-o", images / output)
    first = json.loads(run(*arguments, "--json").stdout)
    second = json.loads(run(*arguments, "--json").stdout)
    assert len(first["results"]) == len(second["results"]) == 2
    assert len(first["failed"]) == len(second["failed"]) == 1


def test_stop_and_going_on(run, folder, images, tmp_path, monkeypatch):
    import signal

    from napari_unet.engine.images import batch

    whole = batch.predict_file

    def interrupted(predictor, path, *args):
        if path.parent.name == "below":
            signal.raise_signal(signal.SIGINT)
        yield from whole(predictor, path, *args)

    arguments = ("predict", images, "-m", folder / "grey.safetensors", "-o", tmp_path / "out")
    options = ("--pattern", "*.tif", "--json")
    monkeypatch.setattr(batch, "predict_file", interrupted)
    result = run(*arguments, *options)
    assert result.exit_code == 130
    assert "1 of 2 images are done" in result.stderr
    assert json.loads(result.stdout)["stopped"]
    assert not (tmp_path / "out" / "below").exists() or not list((tmp_path / "out/below").iterdir())
    monkeypatch.undo()
    result = run(*arguments, *options)
    assert states(json.loads(result.stdout)) == named(images, a="skipped", below="done")


def test_a_fault_of_the_program_does_not_stop_the_rest(predict, folder, images, monkeypatch):
    from napari_unet.engine import planes as predicting

    whole = predicting.find_instances
    calls = []

    def faulty(*args):
        calls.append(args)
        if len(calls) == 1:
            raise ZeroDivisionError("division by zero")
        return whole(*args)

    monkeypatch.setattr(predicting, "find_instances", faulty)
    report = predict(images, folder / "grey.safetensors", "--pattern", "*.tif", code=2)
    assert states(report) == named(images, a="failed", below="done")
    assert "ZeroDivisionError" in report["failed"][0]["error"]


# ---------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((), "--channel"),
        (("--channel", "CFP"), "1 (DAPI), 2 (GFP)"),
        (("--channel", 3), "1 (DAPI), 2 (GFP)"),
        (("--channel", 1, "--channel", 2), "one channel"),
        (("--axes", "zyx", "--channel", 1), "4"),
        (("--level", 4, "--channel", 1), "--level"),
        (("--pixel-size", "tiny", "--channel", 1), "pixel size"),
    ],
)
def test_options_that_do_not_fit(run, folder, tmp_path, options, word):
    image, model = folder / "named.ome.tif", folder / "grey.safetensors"
    assert word in refuses(run, "predict", image, "-m", model, "-o", tmp_path / "out", *options)


def test_five_channels_and_a_model_of_three(run, folder, tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (5, 30, 32), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "CYX"})
    arguments = ("predict", tmp_path / "a.tif", "-m", folder / "rgb.safetensors")
    line = refuses(run, *arguments, "-o", tmp_path / "out")
    assert "5 channels" in line
    assert "3 times" in line
    channels = [part for number in (5, 1, 3) for part in ("--channel", number)]
    assert run(*arguments, "-o", tmp_path / "out", *channels).exit_code == 0


def test_nan_in_one_plane_is_named(run, folder, tmp_path):
    data = np.ones((3, 30, 32), np.float32)
    data[1, 5, 5] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZYX"})
    arguments = ("predict", tmp_path / "a.tif", "-m", folder / "grey.safetensors")
    line = refuses(run, *arguments, "-o", tmp_path / "out")
    assert "plane 2" in line
    assert "nan_to_num" in line
    assert not list((tmp_path / "out").glob("a_*"))


def test_an_empty_folder_and_one_that_is_not_there(run, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    rest = ("-m", folder / "grey.safetensors", "-o", tmp_path / "out")
    assert "holds no image" in refuses(run, "predict", tmp_path / "empty", *rest)
    assert "is not there" in refuses(run, "predict", tmp_path / "nowhere", *rest)


def test_a_folder_that_may_not_be_read(run, folder, images, tmp_path, monkeypatch):
    def refusing(path="."):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refusing)  # for root all folders are readable
    rest = ("-m", folder / "grey.safetensors", "-o", tmp_path / "out")
    line = refuses(run, "predict", images, *rest)
    assert "may not be read" in line
    assert "ask for the right" in line


# ---------------------------------------------------------------------------- info


def test_info_shows_what_predict_would_take(run, folder):
    shown = run("info", folder / "named.ome.tif").stdout
    for words in ("OME-TIFF", "zcyx (3 x 2 x 40 x 44), uint8", "1 DAPI, 2 GFP", "x 0.25 µm"):
        assert words in shown
    report = json.loads(run("info", folder / "stack.tif", "--axes", "tcyx", "--json").stdout)
    assert report["axes"] == "tcyx"
    assert report["pixel_size"]["x"] == pytest.approx(0.25)
    assert "is not there" in refuses(run, "info", folder / "nowhere.tif")
