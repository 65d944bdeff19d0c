"""What is written is read back the same, and a bad file is a one-line error."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_unet.engine.files import (
    ImageFile,
    make_folder,
    read_image,
    read_labels,
    write_atomically,
    write_labels,
    write_probabilities,
)
from napari_unet.ops.errors import InputError


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)


@pytest.fixture
def measured(grey):
    """An image whose pixels are 0.5 µm high and 0.25 µm wide."""
    return ImageFile(grey, "YX", (0.5, 0.25), "µm", Path("measured.tif"))


def error_of(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------------- reading


@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int8", "int32", "float32", ">f8"])
def test_tiff_keeps_values_and_dtype(tmp_path, grey, dtype):
    image = (grey % 100).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=">" if ">" in dtype else "<")
    read = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.data, image)
    assert read.data.dtype.newbyteorder("=") == image.dtype.newbyteorder("=")
    assert (read.axes, read.pixel_size, read.unit) == ("YX", None, None)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_comes_channels_last(tmp_path, grey, planar):
    rgb = np.stack([grey, 255 - grey, grey // 2], axis=-1)
    stored = rgb if planar == "contig" else np.moveaxis(rgb, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    read = read_image(tmp_path / "a.tif")
    assert read.axes == "YXC"
    np.testing.assert_array_equal(read.data, rgb)


def test_axes_of_length_one_are_dropped(tmp_path, grey):
    stored = grey[None, None, None]
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, metadata={"axes": "TCZYX"})
    assert read_image(tmp_path / "a.ome.tif").data.shape == grey.shape


def test_an_image_one_pixel_wide_keeps_its_axes(tmp_path, grey):
    tifffile.imwrite(tmp_path / "a.tif", grey[:, :1])
    assert read_image(tmp_path / "a.tif").data.shape == (40, 1)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(tmp_path, grey, compression):
    iio.imwrite(tmp_path / "a.tif", grey, plugin="pillow", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, grey)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png(tmp_path, grey, channels):
    image = grey if channels == 1 else np.stack([grey] * channels, axis=-1)
    iio.imwrite(tmp_path / "a.png", image)
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read.data, image)
    assert read.axes == "YXC"[: image.ndim]


def test_jpeg_is_about_the_same(tmp_path):
    smooth = np.linspace(0, 255, 40 * 30).reshape(40, 30).astype(np.uint8)
    iio.imwrite(tmp_path / "a.jpg", smooth, quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").data.astype(int) - smooth).max() < 8


# ---------------------------------------------------------------------------- pixel size


@pytest.mark.parametrize(
    ("options", "size", "unit"),
    [
        ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um"}}, (0.5, 0.25), "µm"),
        ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "pixel"}}, None, None),
        ({"resolution": (200, 100), "resolutionunit": "CENTIMETER"}, (0.01, 0.005), "cm"),
        (
            {
                "ome": True,
                "metadata": {
                    "PhysicalSizeX": 0.25,
                    "PhysicalSizeY": 0.5,
                    "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeYUnit": "nm",
                },
            },
            (0.5, 0.25),
            "nm",
        ),
        ({}, None, None),
    ],
    ids=["imagej", "imagej in pixels", "baseline", "ome", "none"],
)
def test_pixel_size_is_read(tmp_path, grey, options, size, unit):
    tifffile.imwrite(tmp_path / "a.tif", grey, **options)
    read = read_image(tmp_path / "a.tif")
    assert read.pixel_size == (pytest.approx(size) if size else None)
    assert read.unit == unit


@pytest.mark.parametrize("highest", [1, 255, 256, 65536])
def test_labels_round_trip_with_pixel_size(tmp_path, measured, highest):
    labels = np.zeros((40, 30), np.int64)
    labels[3:5, 2:9] = highest
    write_labels(tmp_path / "labels.tif", labels, measured)
    read = read_image(tmp_path / "labels.tif")
    np.testing.assert_array_equal(read.data, labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif"), labels)
    assert read.pixel_size == pytest.approx(measured.pixel_size)
    assert read.unit == "µm"


def test_probabilities_are_stored_with_a_channel_axis(tmp_path, measured):
    probabilities = np.random.default_rng(1).random((3, 40, 30)).astype(np.float32)
    write_probabilities(tmp_path / "p.tif", probabilities, measured)
    with tifffile.TiffFile(tmp_path / "p.tif") as file:
        assert file.series[0].axes == "CYX"
        np.testing.assert_array_equal(file.asarray(), probabilities)
        assert file.pages.first.tags["XResolution"].value == (4, 1)
        assert file.pages.first.tags["YResolution"].value == (2, 1)
        assert file.imagej_metadata["unit"] == r"\u00B5m"


def test_labels_as_png(tmp_path):
    labels = np.array([[0, 1], [300, 2]])
    assert read_labels(write_labels(tmp_path / "a.png", labels)).tolist() == labels.tolist()


# ---------------------------------------------------------------------------- bad files


@pytest.mark.parametrize("kept", [4, 10, 200, 0.5, 0.99])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_tiff(tmp_path, grey, kept, compression):
    tifffile.imwrite(tmp_path / "whole.tif", grey, compression=compression, rowsperstrip=8)
    content = (tmp_path / "whole.tif").read_bytes()
    cut = int(kept * len(content)) if isinstance(kept, float) else kept
    (tmp_path / "cut.tif").write_bytes(content[:cut])
    message = error_of(read_image, tmp_path / "cut.tif")
    assert str(tmp_path / "cut.tif") in message


@pytest.mark.parametrize("name", ["notes.tif", "notes.png", "notes.jpg"])
def test_text_file_with_the_name_of_an_image(tmp_path, name):
    (tmp_path / name).write_text("These are notes.\n" * 50)
    assert "not an image" in error_of(read_image, tmp_path / name)


@pytest.mark.parametrize("name", ["empty.tif", "empty.png"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    error_of(read_image, tmp_path / name)


def test_missing_file_and_folder(tmp_path):
    assert "is not there" in error_of(read_image, tmp_path / "nowhere.tif")
    assert "is a folder" in error_of(read_image, tmp_path)


def test_stack_is_refused_with_its_axes(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((7, 40, 30), np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    message = error_of(read_image, tmp_path / "a.tif")
    assert "ZYX" in message
    assert "one plane" in message


def test_labels_in_colour_are_refused(tmp_path, grey):
    iio.imwrite(tmp_path / "a.png", np.stack([grey] * 3, axis=-1))
    assert "3 channels" in error_of(read_labels, tmp_path / "a.png")


# ---------------------------------------------------------------------------- bad writes


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (np.zeros((2, 2), np.float32), "integers"),
        (np.array([[0, -1]]), "negative"),
        (np.zeros((2, 2, 2), int), "2D"),
    ],
)
def test_labels_that_cannot_be_stored(tmp_path, labels, word):
    assert word in error_of(write_labels, tmp_path / "a.tif", labels)


def test_lossy_formats_are_refused(tmp_path, grey):
    assert ".tif" in error_of(write_labels, tmp_path / "a.jpg", grey)
    assert ".tif" in error_of(write_probabilities, tmp_path / "a.png", np.zeros((2, 3)))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path, grey):
    (tmp_path / "file").touch()
    assert "not a folder" in error_of(write_labels, tmp_path / "file" / "a.tif", grey)
    assert "not a folder" in error_of(make_folder, tmp_path / "file")
    error_of(make_folder, tmp_path / "file" / "deeper")


def test_interrupted_write_leaves_the_old_file(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"old")

    def write_half(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    assert "no space left" in error_of(write_atomically, tmp_path / "a.tif", write_half)
    assert (tmp_path / "a.tif").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
