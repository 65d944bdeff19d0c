"""``napari-unet predict --labels-into-image``: results within the user's own OME-Zarr."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_unet import UNet, save_model
from napari_unet.engine.images import predict as predicting
from napari_unet.engine.images.batch import BatchItem, BatchRequest, predict_batch
from napari_unet.engine.images.label_axes import nearest
from napari_unet.engine.images.labels_into import LabelsInImage
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.images.settings import FileSettings
from napari_unet.ops.errors import InputError

zarr = pytest.importorskip("zarr")
pytest.importorskip("ome_zarr")

SHAPE = (2, 3, 2, 40, 44)  # t, c, z, y, x
SCALE = [30.0, 1.0, 1.5, 0.5, 0.25]
VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pixels():
    data = np.random.default_rng(0).integers(0, 60, SHAPE, dtype=np.uint8)
    data[:, 1, :, 10:22, 10:24] += 150
    data[0, 1, 1, 28:36, 30:40] += 150
    return data


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network whose answer is the grey value: bright pixels are objects."""
    model = UNet(1, 2, base_channels=2, depth=1)
    state = {name: torch.zeros_like(values) for name, values in model.state_dict().items()}
    for name in ("contracting.0.0", "contracting.0.2", "expanding.0.0", "expanding.0.2"):
        state[f"{name}.weight"][0, ::2, 1, 1] = 1
    state["output.weight"][1, 0] = 20
    state["output.bias"][1] = -10
    model.load_state_dict(state)
    return save_model(model, tmp_path_factory.mktemp("model") / "bright.safetensors")


def write_image(path, pixels, version="0.5"):
    """Write a pyramid of two levels as other programs do, with ome-zarr's own writer."""
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_multiscale

    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    coarse = [*SCALE[:3], 2 * SCALE[3], 2 * SCALE[4]]
    steps = [[{"type": "scale", "scale": scale}] for scale in (SCALE, coarse)]
    fmt = FormatV04() if version == "0.4" else FormatV05()
    root = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    levels = [pixels, pixels[..., ::2, ::2]]
    write_multiscale(levels, root, axes=axes, coordinate_transformations=steps, fmt=fmt)
    return path


@pytest.fixture
def image(tmp_path, pixels):
    return write_image(tmp_path / "cells.ome.zarr", pixels)


def labels_of(path):
    """Read all label images with ome-zarr's own reader."""
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    nodes = list(Reader(parse_url(path))())
    return {node.metadata["name"]: node for node in nodes[1:] if node.data}, nodes[0]


def command(image, model, *options):
    return ("predict", image, "-m", model, "--channel", 2, "--labels-into-image", *options)


def everything_below(path):
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


@VERSIONS
def test_the_reader_of_ome_zarr_finds_them_with_axes_and_scales(
    run, tmp_path, pixels, model, version
):
    image = write_image(tmp_path / "cells.ome.zarr", pixels, version)
    before = everything_below(image)
    result = run(*command(image, model, "nuclei"))
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [
        str(image / "labels" / "nuclei"),
        str(image / "labels" / "nuclei_classes"),
    ]
    labels, found = labels_of(image)
    assert set(labels) == {"nuclei", "nuclei_classes"}
    bright = pixels[:, 1] > 100
    objects = labels["nuclei"]
    np.testing.assert_array_equal(np.asarray(objects.data[0]) > 0, bright)
    np.testing.assert_array_equal(np.asarray(labels["nuclei_classes"].data[0]), bright + 1)
    assert [axis["name"] for axis in objects.metadata["axes"]] == ["t", "z", "y", "x"]
    assert objects.metadata["axes"][2]["unit"] == "micrometer"
    steps = [step[0]["scale"] for step in objects.metadata["coordinateTransformations"]]
    assert steps == [[30.0, 1.5, 0.5, 0.25], [30.0, 1.5, 1.0, 0.5]]
    assert len(objects.data) == len(found.data)
    coarse = np.asarray(objects.data[0])[..., ::2, ::2]
    np.testing.assert_array_equal(np.asarray(objects.data[1]), coarse)
    # The image itself is as it was.
    after = everything_below(image)
    assert {name: after[name] for name in before} == before
    assert not any("partial" in name for name in after)


def test_they_are_what_goes_into_files(run, tmp_path, image, model):
    import tifffile

    run(*command(image, model, "nuclei"))
    run("predict", image, "-m", model, "--channel", 2, "-o", tmp_path / "out")
    for name, kind in (("nuclei", "instances"), ("nuclei_classes", "classes")):
        with open_image(image / "labels" / name) as opened:
            found = [opened.read_plane(index)[0] for index in opened.planes()]
        expected = tifffile.imread(tmp_path / "out" / f"cells_{kind}.tif")
        np.testing.assert_array_equal(np.reshape(found, expected.shape), expected)


def test_labels_of_that_name_are_kept_unless_it_is_said(run, image, model, pixels):
    assert run(*command(image, model, "nuclei")).exit_code == 0
    assert run(*command(image, model, "cells")).exit_code == 0
    group = zarr.open_group(str(image / "labels"), mode="r+")
    group["nuclei/0"][...] = 7  # corrected by hand
    before = everything_below(image)
    result = run(*command(image, model, "nuclei"))
    assert result.exit_code == 2
    assert "has labels 'nuclei' already" in result.stderr
    assert "--overwrite" in result.stderr
    assert everything_below(image) == before
    assert run(*command(image, model, "nuclei", "--overwrite")).exit_code == 0
    labels, _ = labels_of(image)
    assert set(labels) == {"nuclei", "nuclei_classes", "cells", "cells_classes"}
    np.testing.assert_array_equal(np.asarray(labels["nuclei"].data[0]) > 0, pixels[:, 1] > 100)
    assert set(everything_below(image)) == set(before)


def request_for(image, model, **options):
    settings = FileSettings(channels=("2",), labels_into_image="nuclei")
    item = BatchItem(image, Path(image.name))
    return BatchRequest((item,), model, None, settings, **options)


def test_what_was_begun_is_gone_on_with(image, model, pixels, tmp_path, monkeypatch):
    whole = write_image(tmp_path / "whole.zarr", pixels)
    list(predict_batch(request_for(whole, model)))
    predicted = []
    real = predicting.predict_tiles

    def counted(*args):
        predicted.append(1)
        if len(predicted) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(predicting, "predict_tiles", counted)
    with pytest.raises(KeyboardInterrupt):
        list(predict_batch(request_for(image, model)))
    assert not (image / "labels").exists()  # nobody sees a half
    list(predict_batch(request_for(image, model)))
    assert len(predicted) == 4 + 1  # four planes: the three that were done are not done again
    for name in ("nuclei", "nuclei_classes"):
        path = image / "labels" / name
        assert everything_below(path) == everything_below(whole / "labels" / name)


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_kill_while_names_are_given_is_mended_by_the_next_run(image, model, monkeypatch, moves):
    done = []
    real = LabelsInImage._move

    def killed(self, name):
        if len(done) == moves:
            raise KeyboardInterrupt
        real(self, name)
        done.append(name)

    def killed_before_the_list(*_args, **_values):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LabelsInImage, "_move", killed)
        patch.setattr(LabelsInImage, "_list", killed_before_the_list)
        with pytest.raises(KeyboardInterrupt):
            list(predict_batch(request_for(image, model)))
    assert not labels_of(image)[0]
    [*_, end] = predict_batch(request_for(image, model))
    assert end.rows[0].state == "done"
    assert set(labels_of(image)[0]) == {"nuclei", "nuclei_classes"}


def test_another_job_begins_anew(image, model, monkeypatch):
    def interrupted(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predicting._FileJob, "_hand_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(predict_batch(request_for(image, model)))
    other = request_for(image, model)
    settings = FileSettings(channels=("1",), labels_into_image="nuclei")
    [*_, end] = predict_batch(BatchRequest(other.items, model, None, settings))
    assert end.rows[0].state == "done"
    with open_image(image / "labels" / "nuclei") as opened:
        assert opened.stack_shape == (2, 2)


def test_a_list_of_all_that_is_inside_is_brought_up_to_date(run, image, model):
    with pytest.warns(UserWarning, match="onsolidated"):
        zarr.consolidate_metadata(str(image))
    assert run(*command(image, model, "nuclei")).exit_code == 0
    assert "nuclei" in zarr.open_group(str(image), mode="r")["labels"]


def test_a_coarser_level_fills_the_finer_ones(run, image, model, pixels):
    assert run(*command(image, model, "nuclei", "--level", 1)).exit_code == 0
    labels, _ = labels_of(image)
    coarse = pixels[:, 1, :, ::2, ::2] > 100
    np.testing.assert_array_equal(np.asarray(labels["nuclei"].data[1]) > 0, coarse)
    fine = coarse.repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_array_equal(np.asarray(labels["nuclei"].data[0]) > 0, fine)


@pytest.mark.parametrize(
    ("length", "used", "expected"),
    [(4, 4, [0, 1, 2, 3]), (2, 4, [0, 2]), (3, 5, [0, 2, 4]), (4, 2, [0, 0, 1, 1]), (1, 5, [2])],
)
def test_the_nearest_pixel(length, used, expected):
    assert nearest(length, used).tolist() == expected


def test_with_a_table_it_is_known_what_is_done(run, image, model, tmp_path):
    options = ("nuclei", "-o", tmp_path / "out", "--json")
    first = json.loads(run(*command(image, model, *options)).stdout)
    again = json.loads(run(*command(image, model, *options)).stdout)
    assert not first["results"][0]["skipped"]
    assert again["results"][0]["skipped"]
    assert again["results"][0]["files"] == first["results"][0]["files"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\\b", "ends.", "_x"])
def test_a_name_that_is_none_is_refused(run, image, model, name):
    before = everything_below(image)
    result = run(*command(image, model, name))
    assert result.exit_code == 2
    assert "cannot be called" in result.stderr
    assert everything_below(image) == before


def test_what_is_no_ome_zarr_is_left_alone(run, tmp_path, model):
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 44), np.uint8))
    zarr.save(str(tmp_path / "plain.zarr"), np.ones((40, 44), np.uint8))
    for name in ("a.tif", "plain.zarr"):
        options = ("-m", model, "--labels-into-image", "x")
        result = run("predict", tmp_path / name, *options)
        assert result.exit_code == 2
        assert "is no OME-Zarr image" in result.stderr


def test_a_folder_that_may_not_be_written(image, model, monkeypatch):
    def refused(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LabelsInImage, "_create", refused)
    [*_, end] = predict_batch(request_for(image, model))
    assert end.rows[0].reason.startswith(f"{image} cannot be written: permission denied")


def test_without_an_output_files_have_no_place(image, model):
    request = BatchRequest((), model, None)
    with pytest.raises(InputError, match="where the results go"):
        list(predict_batch(request))
