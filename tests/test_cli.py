"""The command line: what it writes, and one line with exit code 2 for every bad input."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

SHAPE = (60, 52)


@pytest.fixture
def refuses(run):
    """Run a command that has to end with exit code 2 and one line; return that line."""

    def invoke(*args):
        result = run(*args)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("Error: ")
        return lines[0]

    return invoke


@pytest.fixture(scope="module")
def picture():
    """Bright discs on a dark ground."""
    rows, columns = np.indices(SHAPE)
    image = np.full(SHAPE, 20, np.uint8)
    for row, column in [(15, 12), (15, 38), (44, 24)]:
        image[(rows - row) ** 2 + (columns - column) ** 2 < 64] = 200
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory, picture):
    """A folder with an image of known pixel size, its annotations and a small model."""
    from napari_unet import UNet, save_model

    path = tmp_path_factory.mktemp("cli")
    tifffile.imwrite(
        path / "discs.tif",
        picture,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "YX", "unit": "um"},
    )
    labels = np.zeros(SHAPE, np.uint8)
    labels[28:30, 2:50:6] = 1
    labels[(14, 15, 43), 10] = 2
    labels[14:16, 36:40] = 2
    tifffile.imwrite(path / "strokes.tif", labels)
    save_model(UNet(1, 2, base_channels=2, depth=1), path / "small.safetensors")
    return path


# ---------------------------------------------------------------------------- predict


def test_predict_keeps_axes_and_pixel_size(run, folder, tmp_path):
    result = run(
        "predict", folder / "discs.tif", "-m", folder / "small.safetensors", "-o", tmp_path
    )
    assert result.exit_code == 0, result.output
    with tifffile.TiffFile(tmp_path / "discs_probabilities.tif") as file:
        assert file.series[0].axes == "CYX"
        probabilities = file.asarray()
    assert probabilities.shape == (2, *SHAPE)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    for kind in ("probabilities", "classes", "instances"):
        path = tmp_path / f"discs_{kind}.tif"
        assert str(path) in result.stdout
        with tifffile.TiffFile(path) as file:
            assert file.pages.first.tags["XResolution"].value == (4, 1)
            assert file.pages.first.tags["YResolution"].value == (2, 1)
            assert file.imagej_metadata["unit"] == r"\u00B5m"
    classes = tifffile.imread(tmp_path / "discs_classes.tif")
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=0) + 1)


def test_tile_size_does_not_change_the_answer(run, folder, tmp_path):
    answers = []
    for size in (24, 64):
        output = tmp_path / str(size)
        options = ["-m", folder / "small.safetensors", "-o", output, "--precision", "fp32"]
        result = run("predict", folder / "discs.tif", *options, "--tile-size", size)
        assert result.exit_code == 0, result.output
        answers.append(tifffile.imread(output / "discs_probabilities.tif"))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_instances_follow_the_options(run, folder, tmp_path, method):
    options = ["-m", folder / "small.safetensors", "-o", tmp_path, "--method", method]
    result = run("predict", folder / "discs.tif", *options, "--min-size", 10**6, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["results"][0]["instances"] == 0
    assert not tifffile.imread(tmp_path / "discs_instances.tif").any()


def test_one_bad_image_does_not_stop_the_others(run, folder, tmp_path, picture):
    (tmp_path / "notes.tif").write_text("not an image")
    tifffile.imwrite(tmp_path / "second.tif", picture.astype(np.float32))
    images = [folder / "discs.tif", tmp_path / "notes.tif", tmp_path / "second.tif"]
    output = tmp_path / "out"
    result = run("predict", *images, "-m", folder / "small.safetensors", "-o", output, "--json")
    assert result.exit_code == 2
    summary = json.loads(result.stdout)
    assert [Path(done["image"]).name for done in summary["results"]] == ["discs.tif", "second.tif"]
    assert [Path(failed["image"]).name for failed in summary["failed"]] == ["notes.tif"]
    assert "1 of 3 images failed" in result.stderr
    assert "cannot be read as TIFF" in result.stderr
    assert (output / "second_instances.tif").exists()


def test_images_of_one_name_do_not_replace_each_other(run, folder, tmp_path, picture):
    tifffile.imwrite(tmp_path / "discs.tif", picture)
    images = [folder / "discs.tif", tmp_path / "discs.tif"]
    result = run("predict", *images, "-m", folder / "small.safetensors", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "another folder" in result.stdout


def bad_image(path, kind, picture):
    whole = path / "whole.tif"
    tifffile.imwrite(whole, picture)
    image = path / "image.tif"
    match kind:
        case "truncated":
            image.write_bytes(whole.read_bytes()[:-100])
        case "text":
            image.write_text("These are notes.")
        case "missing":
            pass
        case "nan":
            tifffile.imwrite(image, np.where(picture > 100, np.nan, 1).astype(np.float32))
        case "infinite":
            tifffile.imwrite(image, np.where(picture > 100, np.inf, 1).astype(np.float32))
        case "complex":
            tifffile.imwrite(image, picture.astype(np.complex64))
        case "rgb for a grey model":
            tifffile.imwrite(image, np.stack([picture] * 3, axis=-1), photometric="rgb")
        case "5 channels":
            tifffile.imwrite(image, np.stack([picture] * 5), imagej=True, metadata={"axes": "CYX"})
    return image


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "text",
        "missing",
        "nan",
        "infinite",
        "complex",
        "rgb for a grey model",
        "5 channels",
    ],
)
def test_predict_refuses_bad_images(refuses, folder, tmp_path, picture, kind):
    image = bad_image(tmp_path, kind, picture)
    line = refuses("predict", image, "-m", folder / "small.safetensors", "-o", tmp_path / "out")
    assert str(image) in line


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 2)])
def test_predict_takes_tiny_images(run, folder, tmp_path, shape):
    tifffile.imwrite(tmp_path / "tiny.tif", np.arange(np.prod(shape)).reshape(shape).astype("u2"))
    result = run(
        "predict", tmp_path / "tiny.tif", "-m", folder / "small.safetensors", "-o", tmp_path
    )
    assert result.exit_code == 0, result.output
    assert tifffile.imread(tmp_path / "tiny_classes.tif").shape == shape


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 4096, None])
def test_predict_refuses_what_is_no_model(refuses, folder, tmp_path, content):
    model = tmp_path / "model.safetensors"
    if content is not None:
        model.write_bytes(content)
    line = refuses("predict", folder / "discs.tif", "-m", model, "-o", tmp_path / "out")
    assert "model" in line


def test_predict_refuses_an_image_as_model(refuses, folder, tmp_path):
    refuses("predict", folder / "discs.tif", "-m", folder / "discs.tif", "-o", tmp_path / "out")


def test_folder_that_cannot_be_written(refuses, folder, tmp_path):
    (tmp_path / "file").touch()
    model = folder / "small.safetensors"
    line = refuses("predict", folder / "discs.tif", "-m", model, "-o", tmp_path / "file")
    assert "not a folder" in line
    refuses("predict", folder / "discs.tif", "-m", model, "-o", tmp_path / "file" / "out")
    refuses("weight-map", folder / "strokes.tif", "-o", tmp_path / "file" / "w.tif")
    refuses(
        "fine-tune",
        folder / "discs.tif",
        folder / "strokes.tif",
        *("-o", tmp_path / "file" / "m.safetensors", "--steps", 1),
    )
    refuses("demo", "--sample", "coins", "-o", tmp_path / "file")


# ---------------------------------------------------------------------------- fine-tune


@pytest.fixture
def fine_tune(folder, tmp_path):
    """Arguments of a short training."""
    output = tmp_path / "model.safetensors"
    return ["fine-tune", folder / "discs.tif", folder / "strokes.tif", "-o", output, "--steps", 2]


def test_fine_tune_writes_a_model_that_predicts(run, fine_tune, folder, tmp_path):
    result = run(*fine_tune, "-m", folder / "small.safetensors", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["steps"] == 2
    assert summary["loss"] > 0
    assert not summary["stopped"]
    result = run("predict", folder / "discs.tif", "-m", summary["model"], "-o", tmp_path)
    assert result.exit_code == 0, result.output


def test_a_new_model_has_as_many_classes_as_labels(run, fine_tune, folder, tmp_path):
    labels = tifffile.imread(folder / "strokes.tif")
    labels[43, 8:14] = 3
    tifffile.imwrite(tmp_path / "three.tif", labels)
    fine_tune[2] = tmp_path / "three.tif"
    result = run(*fine_tune, "--optimizer", "sgd", "--seed", 3, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["classes"] == 3


def test_a_new_model_may_begin_from_random_weights_of_a_width(run, fine_tune):
    from napari_unet.model.checkpoint import load_model

    result = run(*fine_tune, "--starter", "none", "--channels", 4, "--json")
    assert load_model(json.loads(result.stdout)["model"]).config.base_channels == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--channels", 4), "starter has"),
        (("--channels", "wide"), "wide"),
        (("--starter", "none", "--channels", 100_000), "channels"),
        (("--starter", "missing"), "missing"),
        (("--channels", "auto", "-m", "small.safetensors"), "--model"),
    ],
)
def test_fine_tune_refuses_another_width(refuses, fine_tune, options, said):
    assert said in refuses(*fine_tune, *options)


def test_strokes_may_be_json(run, fine_tune, folder, tmp_path):
    (tmp_path / "strokes.json").write_text(
        json.dumps(
            {
                "image": "discs",
                "strokes": [
                    {"label": 1, "radius": 1, "points": [[30, 3], [30, 48]]},
                    {"label": 2, "radius": 2, "points": [[15, 10], [15, 14]]},
                ],
            }
        )
    )
    fine_tune[2] = tmp_path / "strokes.json"
    assert run(*fine_tune, "-m", folder / "small.safetensors").exit_code == 0


def test_interrupted_training_keeps_the_model(run, folder, tmp_path, monkeypatch):
    from napari_unet.engine.segmenter import Segmenter

    whole = Segmenter.fine_tune_job

    def interrupted_after_two(self, *args, **kwargs):
        for number, event in enumerate(whole(self, *args, **kwargs)):
            if number == 2:
                signal.raise_signal(signal.SIGINT)
            yield event

    monkeypatch.setattr(Segmenter, "fine_tune_job", interrupted_after_two)
    model = tmp_path / "model.safetensors"
    arguments = [folder / "discs.tif", folder / "strokes.tif", "-o", model, "--seconds", 600]
    started = time.monotonic()
    result = run("fine-tune", *arguments, "-m", folder / "small.safetensors", "--json")
    assert time.monotonic() - started < 60
    assert result.exit_code == 130
    assert json.loads(result.stdout)["stopped"]
    assert "Stopped" in result.stderr
    output = run("predict", folder / "discs.tif", "-m", model, "-o", tmp_path)
    assert output.exit_code == 0


def bad_labels(kind, labels):
    match kind:
        case "other shape":
            return labels[:-1]
        case "float":
            return labels + np.float32(0.5)
        case "negative":
            return -labels.astype(np.int16)
        case "no strokes":
            return np.zeros_like(labels)
        case "one class":
            return np.minimum(labels, 1)
        case "colour":
            return np.stack([labels] * 3, axis=-1)


@pytest.mark.parametrize(
    "kind", ["other shape", "float", "negative", "no strokes", "one class", "colour"]
)
def test_fine_tune_refuses_bad_labels(refuses, fine_tune, folder, tmp_path, kind):
    labels = bad_labels(kind, tifffile.imread(folder / "strokes.tif"))
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    fine_tune[2] = tmp_path / "labels.tif"
    line = refuses(*fine_tune)
    assert len(line) > 30
    assert not Path(fine_tune[4]).exists()


def test_fine_tune_refuses_bad_files_and_options(refuses, fine_tune, folder, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for position, value in [(1, tmp_path / "missing.png"), (2, broken), (4, tmp_path)]:
        changed = [*fine_tune]
        changed[position] = value
        refuses(*changed)
    assert "--classes" in refuses(*fine_tune, "-m", folder / "small.safetensors", "--classes", 3)


# ---------------------------------------------------------------------------- weight map


def test_weight_map_equals_the_function(run, tmp_path):
    from napari_unet import weight_map

    labels = np.zeros((20, 24), np.uint16)
    labels[4:12, 3:9] = 1
    labels[4:12, 12:20] = 2
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    output = tmp_path / "weights.tif"
    options = ["--w0", 7, "--sigma", 3, "--balance", 0.5]
    result = run("weight-map", tmp_path / "labels.tif", "-o", output, *options, "--json")
    assert result.exit_code == 0, result.output
    written = tifffile.imread(output)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, weight_map(labels, 7, 3, balance=0.5))
    assert json.loads(result.stdout)["max"] == pytest.approx(written.max())


def test_weight_map_of_annotations_leaves_out_what_is_not_annotated(run, folder, tmp_path):
    output = tmp_path / "weights.tif"
    result = run("weight-map", folder / "strokes.tif", "-o", output, "--kind", "annotations")
    assert result.exit_code == 0, result.output
    labels, weights = tifffile.imread(folder / "strokes.tif"), tifffile.imread(output)
    assert (weights[labels == 0] == 0).all()
    assert (weights[labels > 0] > 0).all()


def test_weight_map_refuses_bad_input(refuses, folder, tmp_path):
    tifffile.imwrite(tmp_path / "negative.tif", np.full((4, 4), -1, np.int16))
    refuses("weight-map", tmp_path / "negative.tif", "-o", tmp_path / "w.tif")
    refuses("weight-map", folder / "strokes.tif", "-o", tmp_path / "w.tif", "--sigma", 0)
    refuses("weight-map", folder / "strokes.tif", "-o", tmp_path / "w.png")


# ---------------------------------------------------------------------------- demo and info


def test_demo_writes_everything(run, tmp_path):
    result = run("demo", "--sample", "coins", "-o", tmp_path, "--seconds", 0.5, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(Path(path).name for path in summary["files"])
    kinds = ["annotations.tif", "classes.tif", "figure.png", "instances.tif", "model.safetensors"]
    assert names == [f"coins_{kind}" for kind in [*kinds, "probabilities.tif"]]
    assert tifffile.imread(tmp_path / "coins_probabilities.tif").shape == (2, 303, 384)


def test_demo_without_matplotlib(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari_unet.cli.figure", None)
    result = run("demo", "--sample", "coins", "-o", tmp_path, "--seconds", 0.5)
    assert result.exit_code == 0, result.output
    assert "matplotlib" in result.stderr
    assert not list(tmp_path.glob("*.png"))


def test_demo_refuses_an_unknown_sample(refuses, tmp_path):
    assert "coins" in refuses("demo", "--sample", "moon", "-o", tmp_path)


def test_info(run):
    result = run("info", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["free_memory"] > 0
    assert facts["threads"] >= 1
    assert "cpu" in facts["predict"]["plan"] or "cuda" in facts["predict"]["plan"]
    assert "torch" in run("info").stdout


def test_info_shows_what_was_measured_and_measures_again(run, tmp_path, monkeypatch):
    from napari_unet.engine import patch_plan, plan

    monkeypatch.setenv("NAPARI_UNET_CACHE", str(tmp_path))
    times = iter(range(1, 100))
    for name in ("prediction_seconds", "training_seconds"):
        monkeypatch.setattr(plan, name, lambda _plan, _model: float(next(times)))
    monkeypatch.setattr(patch_plan, "training_seconds", lambda *_args, **_options: 0.25)
    plan._measured_plan.cache_clear()
    patch_plan.forget_patches()

    def told(*options):
        """What it says, as JSON; or why it said nothing."""
        result = run("info", "--json", *options)
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    first = told()
    assert {each["purpose"] for each in first["measurements"]} == {"predict", "train", "fine-tune"}
    assert first["fine-tune"]["plan"] == "2 patches of 128"
    assert all(each["current"] for each in first["measurements"]), first
    plan._measured_plan.cache_clear()  # as in another process
    assert told()["predict"] == first["predict"]
    (stored, *_) = (tmp_path / "plans").iterdir()
    stored.write_text(stored.read_text().replace('"torch": "', '"torch": "0.'))
    assert "not used" in run("info").stdout
    again = told("--measure")
    assert again["predict"]["seconds"] != first["predict"]["seconds"]
    monkeypatch.setenv("NAPARI_UNET_CACHE", "off")
    assert told()["cache"] is None
    plan._measured_plan.cache_clear()
    patch_plan.forget_patches()


# ---------------------------------------------------------------------------- the command itself


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", "a.tif"],
        ["fine-tune", "a.tif"],
        ["no-such-command"],
        ["--no-such-option"],
        ["demo", "--seconds", "soon"],
        ["demo", "--seconds", "0"],
        ["predict", "a.tif", "-m", "m", "-o", "o", "--threshold", "2"],
    ],
)
def test_wrong_usage_is_one_line(refuses, arguments):
    assert "--help" in refuses(*arguments)


def test_help_names_every_command(run):
    for arguments in ([], ["--help"], ["-h"]):
        result = run(*arguments)
        assert result.exit_code == 0
        for name in ("predict", "fine-tune", "weight-map", "demo", "info"):
            assert name in result.stdout


def test_help_is_quick():
    command = Path(sys.executable).with_name("napari-unet")
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([command, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    # It takes about 0.06 s; importing torch alone would take more than a second.
    assert min(times) < 0.3


def test_module_is_the_same_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "napari_unet", "weight-map", "nowhere.tif", "-o", "w.tif"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == "Error: nowhere.tif is not there; give the path of an image file\n"
