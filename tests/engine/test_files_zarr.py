"""OME-Zarr: what is written is what ome-zarr's own reader finds, and the other way round."""

import json
import shutil

import numpy as np
import pytest

from napari_unet.engine.images.axes import Axis, Corrections, PixelSize
from napari_unet.engine.images.opening import open_image
from napari_unet.engine.images.zarr_writing import OmeZarrWriter
from napari_unet.ops.errors import InputError

zarr = pytest.importorskip("zarr")

AXES = (
    Axis("t", 2, 30.0, "s"),
    Axis("c", 2),
    Axis("z", 3, 1.5, "µm"),
    Axis("y", 300, 0.5, "µm"),
    Axis("x", 281, 0.25, "µm"),
)
VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


def error_of(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def image():
    shape = tuple(axis.length for axis in AXES)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.fixture(scope="module")
def objects(image):
    return (image[:, 0] * 1000).astype(np.uint32)


def write(path, image, objects, version):
    writer = OmeZarrWriter(
        path, AXES, np.float32, version=version, channels=["cells", "membranes"], labels=["cells"]
    )
    for t, c, z in np.ndindex(image.shape[:3]):
        writer.write((t, c, z), image[t, c, z])
    for t, z in np.ndindex(objects.shape[:2]):
        writer.write_labels("cells", (t, z), objects[t, z])
    return writer.finish()


@pytest.fixture(scope="module", params=["0.4", "0.5"])
def written(request, tmp_path_factory, image, objects):
    path = tmp_path_factory.mktemp("zarr") / "a.ome.zarr"
    return write(path, image, objects, request.param), request.param


def test_the_reader_of_ome_zarr_finds_image_labels_scales_and_channels(written, image, objects):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path, version = written
    location = parse_url(path)
    assert location.fmt.version == version
    nodes = list(Reader(location)())
    found, labels = nodes[0], nodes[-1]
    assert [axis["name"] for axis in found.metadata["axes"]] == ["t", "c", "z", "y", "x"]
    assert found.metadata["axes"][3]["unit"] == "micrometer"
    scales = [step[0]["scale"] for step in found.metadata["coordinateTransformations"]]
    assert scales == [[30.0, 1.0, 1.5, 0.5, 0.25], [30.0, 1.0, 1.5, 1.0, 0.5]]
    assert found.metadata["channel_names"] == ["cells", "membranes"]
    np.testing.assert_array_equal(np.asarray(found.data[0]), image)
    assert found.data[1].shape == (2, 2, 3, 150, 141)
    np.testing.assert_array_equal(np.asarray(labels.data[0]), objects)
    np.testing.assert_array_equal(np.asarray(labels.data[1]), objects[..., ::2, ::2])


def test_it_is_read_back(written, image, objects):
    path, version = written
    with open_image(path) as opened:
        info = opened.info
        assert info.kind == f"OME-Zarr {version}"
        assert info.axes == AXES
        assert info.channels == ("cells", "membranes")
        assert opened.stack_shape == (2, 3)
        np.testing.assert_array_equal(opened.read_plane((1, 2), [1, 0]), image[1, ::-1, 2])
    with open_image(path, Corrections(level=1)) as opened:
        assert opened.info.pixel_size == PixelSize(1.0, 0.5, "µm")
        means = image[0, 0, 0].reshape(150, 2, -1)[..., :280].reshape(150, 2, 140, 2).mean((1, 3))
        np.testing.assert_allclose(opened.read_plane((0, 0))[0, :, :140], means, atol=1e-6)
    with open_image(path / "labels" / "cells") as opened:
        np.testing.assert_array_equal(opened.read_plane((1, 2))[0], objects[1, 2])


def test_a_coarser_level_lies_where_the_finest_does(written):
    path, version = written
    group = zarr.open_group(str(path), mode="r")
    found = group.attrs["ome"] if version == "0.5" else group.attrs
    _, step = found["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    # Middle of the first 2 x 2 pixels, in µm from the middle of the first pixel.
    assert step == {"type": "translation", "translation": [0.0, 0.0, 0.0, 0.25, 0.125]}


@VERSIONS
def test_what_ome_zarr_writes_is_read(tmp_path, image, version):
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image

    scale = [[{"type": "scale", "scale": [30.0, 1.0, 1.5, 0.5, 0.25]}]]
    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    write_image(
        image,
        str(tmp_path / "a.zarr"),
        axes=axes,
        coordinate_transformations=scale,
        scale_factors=[],
        fmt=FormatV04() if version == "0.4" else FormatV05(),
    )
    with open_image(tmp_path / "a.zarr") as opened:
        assert opened.info.kind == f"OME-Zarr {version}"
        assert opened.info.axes == AXES
        np.testing.assert_array_equal(opened.read_plane((1, 0)), image[1, :, 0])


def test_a_plain_array_is_an_image(tmp_path):
    zarr.save_array(str(tmp_path / "a.zarr"), np.arange(30).reshape(2, 3, 5))
    with open_image(tmp_path / "a.zarr") as opened:
        assert opened.info.names == "zyx"
    with open_image(tmp_path / "a.zarr", Corrections(axes="cyx")) as opened:
        assert opened.read_plane().shape == (2, 3, 5)


def test_an_unfinished_one_leaves_nothing_behind(tmp_path, image, objects):
    writer = OmeZarrWriter(tmp_path / "a.ome.zarr", AXES, np.float32)
    writer.write((0, 0, 0), image[0, 0, 0])
    assert not (tmp_path / "a.ome.zarr").exists()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- bad ones


@pytest.fixture
def copied(written, tmp_path):
    path, version = written
    shutil.copytree(path, tmp_path / "a.ome.zarr")
    return tmp_path / "a.ome.zarr", version


def change_metadata(path, version, change):
    file = path / ("zarr.json" if version == "0.5" else ".zattrs")
    content = json.loads(file.read_text())
    change(content["attributes"]["ome"] if version == "0.5" else content)
    file.write_text(json.dumps(content))


def test_missing_metadata(copied):
    path, _ = copied
    for file in (".zgroup", ".zattrs", "zarr.json"):
        (path / file).unlink(missing_ok=True)
    assert "copy" in error_of(open_image, path)


def test_a_group_that_describes_no_image_names_those_in_it(copied):
    path, version = copied
    change_metadata(path, version, lambda values: values.pop("multiscales"))
    message = error_of(open_image, path)
    assert "multiscales" in message
    assert f"{path}/0" in message


def test_missing_chunks_are_told(copied):
    path, version = copied
    chunks = path / "0" / "c" / "0" if version == "0.5" else path / "0" / "0"
    shutil.rmtree(chunks)
    with open_image(path) as opened:
        assert "6 of 12 chunks are not there" in opened.info.notes[0]
    shutil.rmtree(chunks.with_name("1"))
    assert "none of its 12 chunks" in error_of(open_image, path)


def test_a_missing_level(copied):
    path, _ = copied
    shutil.rmtree(path / "0")
    assert "not there" in error_of(open_image, path)


@pytest.mark.parametrize("name", ["../other", "/etc", None, 5])
def test_a_level_outside_of_the_image_is_refused(copied, name):
    path, version = copied

    def lead_out(values):
        values["multiscales"][0]["datasets"][0]["path"] = name

    change_metadata(path, version, lead_out)
    assert "outside" in error_of(open_image, path)


@pytest.mark.parametrize(
    "axes", [[], [{"name": "y"}, {"name": "x"}], "tczyx", [1, 2, 3, 4, 5], None]
)
def test_axes_that_lie(copied, axes):
    path, version = copied
    change_metadata(path, version, lambda values: values["multiscales"][0].update(axes=axes))
    if axes is None:  # as before version 0.3
        open_image(path).close()
    else:
        assert "axes" in error_of(open_image, path)


def test_a_plate_is_not_one_image(copied):
    path, version = copied

    def make_plate(values):
        values.pop("multiscales")
        values["plate"] = {"wells": []}

    change_metadata(path, version, make_plate)
    assert "plate" in error_of(open_image, path)
