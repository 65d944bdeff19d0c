"""Images of any axes: what a file says is read, shown, corrected; planes are read one by one."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.engine.images.axes import (
    Axis,
    Corrections,
    ImageInfo,
    PixelSize,
    parse_pixel_size,
    parse_size_of_plane,
    spacing_of,
)
from napari_unet.engine.images.opening import image_name, open_image
from napari_unet.ops.errors import InputError

HYPERSTACK = (3, 4, 2, 20, 24)


@pytest.fixture
def hyperstack():
    return np.random.default_rng(0).integers(0, 256, HYPERSTACK, dtype=np.uint8)


def error_of(call, *args):
    with pytest.raises(InputError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_imagej(path, data):
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 1.5, "finterval": 30.0},
    )


def write_ome(path, data, **options):
    metadata = {
        "axes": "TZCYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeY": 0.5,
        "PhysicalSizeZ": 1.5,
        "TimeIncrement": 30.0,
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, data, ome=True, metadata=metadata, **options)


# ---------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("kind", ["imagej", "ome", "ome compressed", "ome tiled"])
def test_axes_sizes_and_planes_of_a_hyperstack(tmp_path, hyperstack, kind):
    path = tmp_path / "a.ome.tif"
    if kind == "imagej":
        path = tmp_path / "a.tif"
        write_imagej(path, hyperstack)
    else:
        options = {"ome compressed": {"compression": "zlib"}, "ome tiled": {"tile": (16, 16)}}
        write_ome(path, hyperstack, **options.get(kind, {}))
    with open_image(path) as image:
        info = image.info
        assert info.names == "tzcyx"
        assert info.shape == HYPERSTACK
        sizes = {axis.name: (axis.size, axis.unit) for axis in info.axes if axis.size}
        assert sizes == {
            "t": (30, "s"),
            "z": (1.5, "µm"),
            "y": (pytest.approx(0.5), "µm"),
            "x": (pytest.approx(0.25), "µm"),
        }
        assert info.channels == (() if kind == "imagej" else ("DAPI", "GFP"))
        assert image.stack_shape == (3, 4)
        assert len(list(image.planes())) == 12
        for index in image.planes():
            np.testing.assert_array_equal(image.read_plane(index), hyperstack[index])
        np.testing.assert_array_equal(image.read_plane((2, 1), [1, 0]), hyperstack[2, 1, ::-1])
        np.testing.assert_array_equal(image.read_plane((2, 1), [1])[0], hyperstack[2, 1, 1])


@given(order=st.permutations("tzcyx"), dtype=st.sampled_from(["uint8", ">u2", "float32"]))
@settings(max_examples=15, deadline=None)
def test_any_order_of_axes_gives_the_same_planes(tmp_path_factory, order, dtype):
    data = np.random.default_rng(0).integers(0, 200, (2, 3, 2, 4, 5)).astype(dtype)
    stored = data.transpose(["tzcyx".index(name) for name in order])
    path = tmp_path_factory.mktemp("order") / "a.npy"
    np.save(path, stored)
    with open_image(path, Corrections(axes="".join(order))) as image:
        assert [axis.name for axis in image.info.leading] == ["t", "z"]
        np.testing.assert_array_equal(image.read_plane((1, 2)), data[1, 2])


def test_a_stack_is_read_page_by_page(tmp_path, hyperstack, monkeypatch):
    write_ome(tmp_path / "a.ome.tif", hyperstack, compression="zlib")
    decoded = []
    whole = tifffile.TiffFrame.asarray

    def counting(page, *args, **kwargs):
        decoded.append(page.index)
        return whole(page, *args, **kwargs)

    monkeypatch.setattr(tifffile.TiffFrame, "asarray", counting)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", None)  # nobody reads it whole
    with open_image(tmp_path / "a.ome.tif") as image:
        assert decoded == []
        image.read_plane((1, 2), [1])
    assert decoded == [(1 * 4 + 2) * 2 + 1]


def test_pixels_in_one_piece_are_mapped_and_not_read(tmp_path, hyperstack):
    write_imagej(tmp_path / "a.tif", hyperstack)
    np.save(tmp_path / "a.npy", hyperstack[0, 0])
    for name in ("a.tif", "a.npy"):
        with open_image(tmp_path / name) as image:
            assert isinstance(image.stored, np.memmap)


def test_pages_that_say_nothing_are_a_stack_and_that_is_told(tmp_path, hyperstack):
    tifffile.imwrite(tmp_path / "a.tif", hyperstack[0, :, 0], photometric="minisblack")
    with open_image(tmp_path / "a.tif") as image:
        assert image.info.names == "zyx"
        assert "--axes" in image.info.notes[0]
    with open_image(tmp_path / "a.tif", Corrections(axes="tyx")) as image:
        assert image.info.names == "tyx"
        assert image.info.notes == ()


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_stack_of_colours(tmp_path, planar):
    data = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    stored = data if planar == "contig" else np.moveaxis(data, -1, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    with open_image(tmp_path / "a.tif") as image:
        assert image.info.rgb
        assert image.stack_shape == (4,)
        np.testing.assert_array_equal(image.read_plane((2,)), np.moveaxis(data[2], -1, 0))


def write_pyramid(path, data):
    with tifffile.TiffWriter(path, ome=True) as writer:
        sizes = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
        writer.write(data, subifds=1, metadata=sizes, tile=(16, 16))
        writer.write(data[:, ::2, ::2], subfiletype=1, tile=(16, 16))


def test_a_level_of_a_pyramid_is_chosen_and_named(tmp_path, hyperstack):
    data = hyperstack[0, :, 0]
    write_pyramid(tmp_path / "a.ome.tif", data)
    with open_image(tmp_path / "a.ome.tif", Corrections(level=1)) as image:
        assert image.info.levels == ((4, 20, 24), (4, 10, 12))
        assert any("1 (used)" in line for line in image.info.lines())
        assert image.info.pixel_size == PixelSize(1.0, 1.0, "µm")
        assert image.info.axis("z").size == 2.0
        np.testing.assert_array_equal(image.read_plane((3,))[0], data[3, ::2, ::2])
    assert "0 to 1" in error_of(open_image, tmp_path / "a.ome.tif", Corrections(level=2))
    np.save(tmp_path / "a.npy", data)
    assert "--level" in error_of(open_image, tmp_path / "a.npy", Corrections(level=1))


# ---------------------------------------------------------------------------- other files


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((5, 6), "yx"),
        ((5, 6, 3), "yxc"),
        ((7, 5, 6), "zyx"),
        ((2, 7, 5, 6), "tzyx"),
        ((40, 50, 5), "yxc"),
        ((2, 40, 50, 5), "zyxc"),
        ((20, 30, 5), "zyx"),  # may be either
    ],
)
def test_axes_of_numpy_files_are_guessed_and_that_is_told(tmp_path, shape, names):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with open_image(tmp_path / "a.npy") as image:
        assert image.info.names == names
        assert bool(image.info.notes) == (len(shape) > 2)


@pytest.mark.parametrize("kind", ["npy", "tif", "zarr"])
def test_channels_that_are_last_are_channels(tmp_path, kind):
    data = np.random.default_rng(0).random((40, 50, 5), dtype=np.float32)
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, data)
    elif kind == "tif":
        tifffile.imwrite(path, data)  # tifffile writes 40 pages of 50 x 5
    else:
        pytest.importorskip("zarr").save(str(path), data)
    with open_image(path) as image:
        assert (image.info.names, image.info.rgb, image.info.channel_count) == ("yxc", False, 5)
        assert "channels last" in image.info.notes[0]
        np.testing.assert_array_equal(image.read_plane(), np.moveaxis(data, -1, 0))
    with open_image(path, Corrections(axes="zyx")) as image:
        assert image.stack_shape == (40,)


def test_what_nobody_can_guess_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2, 2, 5)))
    assert "--axes" in error_of(open_image, tmp_path / "a.npy")


def test_a_pickle_is_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "cannot be read" in error_of(open_image, tmp_path / "a.npy")


@given(place=st.integers(6, 90), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_a_damaged_header_is_an_image_or_one_line(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("damaged") / "a.npy"
    np.save(path, np.zeros((4, 5), np.uint8))
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)
    try:
        open_image(path).close()
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017 - most of them are read


def test_booleans_are_an_image(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(6, dtype=bool))
    with open_image(tmp_path / "a.npy") as image:
        np.testing.assert_array_equal(image.read_plane()[0], np.eye(6, dtype=bool))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.ome.tif", "a"),
        ("a.v2.tif", "a.v2"),
        ("a.ome.zarr", "a"),
        ("b.PNG", "b"),
        ("c.zarr", "c"),
    ],
)
def test_names_of_results(name, expected):
    assert image_name(Path(name)) == expected


# ---------------------------------------------------------------------------- corrections


@pytest.mark.parametrize(
    ("text", "sizes", "unit"),
    [
        ("0.5", {"y": 0.5, "x": 0.5}, None),
        ("0.5um", {"y": 0.5, "x": 0.5}, "µm"),
        ("0.5,0.25 µm", {"y": 0.5, "x": 0.25}, "µm"),
        ("2, 0.5, 0.25 nm", {"z": 2, "y": 0.5, "x": 0.25}, "nm"),
        ("1e-3mm", {"y": 1e-3, "x": 1e-3}, "mm"),
    ],
)
def test_pixel_sizes_as_people_type_them(text, sizes, unit):
    read = parse_pixel_size(text)
    assert dict(read.sizes) == sizes
    assert read.unit == unit


@pytest.mark.parametrize("text", ["", "um", "0", "-1um", "nan", "1,2,3,4", "1 um 2", "inf um"])
def test_what_is_no_pixel_size(text):
    assert "0.5um" in error_of(parse_pixel_size, text)


def test_a_pixel_size_replaces_that_of_the_file(tmp_path, hyperstack):
    write_imagej(tmp_path / "a.tif", hyperstack)
    with open_image(tmp_path / "a.tif", parse_pixel_size("3,2,1nm")) as image:
        assert image.info.pixel_size == parse_size_of_plane("2,1nm")
        assert image.info.axis("z").size == 3


@pytest.mark.parametrize("axes", ["zyx", "zzyxc", "tzcy", "abcde", "tzcyxq"])
def test_axes_that_do_not_fit(tmp_path, hyperstack, axes):
    write_imagej(tmp_path / "a.tif", hyperstack)
    with pytest.raises(InputError, match="axes"):
        open_image(tmp_path / "a.tif", Corrections(axes=axes))


# ---------------------------------------------------------------------------- bad files


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
def test_a_stack_that_is_cut_off(tmp_path, hyperstack, compression, kept):
    write_ome(tmp_path / "whole.ome.tif", hyperstack, compression=compression)
    content = (tmp_path / "whole.ome.tif").read_bytes()
    path = tmp_path / "cut.ome.tif"
    path.write_bytes(content[: int(kept * len(content))])

    def read_all():
        with open_image(path) as image:
            return [image.read_plane(index) for index in image.planes()]

    assert str(path) in error_of(read_all)


def test_ome_xml_that_promises_more_planes_than_there_are(tmp_path, hyperstack):
    path = tmp_path / "a.ome.tif"
    write_ome(path, hyperstack, compression="zlib")
    xml = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, xml.replace('SizeZ="4"', 'SizeZ="9"').encode())
    message = error_of(open_image, path)
    assert "54 planes but holds 24" in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('PhysicalSizeX="0.25"', 'PhysicalSizeX="-1"'),
        ('PhysicalSizeX="0.25"', 'PhysicalSizeX="NaN"'),
        ('PhysicalSizeX="0.25"', 'PhysicalSizeX="wide"'),
    ],
)
def test_ome_xml_with_impossible_sizes_is_not_believed(tmp_path, hyperstack, old, new):
    path = tmp_path / "a.ome.tif"
    write_ome(path, hyperstack)
    xml = tifffile.tiffcomment(path)
    assert old in xml
    tifffile.tiffcomment(path, xml.replace(old, new).encode())
    with open_image(path) as image:
        assert image.info.pixel_size is None
        assert "not known" not in " ".join(image.info.lines())  # the time between frames is


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (np.zeros((0, 5)), "without pixels"),
        (np.zeros((5, 5), complex), "real numbers"),
        (np.array([["a", "b"]]), "real numbers"),
    ],
)
def test_what_is_no_image(tmp_path, data, word):
    np.save(tmp_path / "a.npy", data)
    assert word in error_of(open_image, tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("plane_distance", "unit", "expected"),
    [(500.0, "nm", (0.5, 0.25, 0.25)), (None, None, (1.0, 1.0, 1.0)), (2.0, "s", (1.0, 1.0, 1.0))],
)
def test_voxels_are_measured_in_one_unit(plane_distance, unit, expected):
    axes = (Axis("z", 3, plane_distance, unit), Axis("y", 4, 0.25, "µm"), Axis("x", 5, 0.25, "µm"))
    found = spacing_of(ImageInfo(Path("cells.tif"), "TIFF", axes, "uint8"))
    assert found == pytest.approx(expected)
