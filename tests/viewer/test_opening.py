import numpy as np
import pytest
import tifffile
from napari.layers import Image

from napari_unet.ops.errors import InputError
from napari_unet.viewer.opening import fit_contrast, image_layers

STACK = np.arange(3 * 2 * 6 * 8, dtype=np.uint16).reshape(3, 2, 6, 8)  # z, c, y, x


@pytest.fixture
def hyperstack(tmp_path):
    path = tmp_path / "cells.tif"
    metadata = {"axes": "ZCYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4, 4), metadata=metadata)
    return path


def test_a_hyperstack_is_a_layer_for_each_channel(hyperstack):
    layers = [Image(data, **keywords) for data, keywords in image_layers(hyperstack)]
    assert [layer.name for layer in layers] == ["cells: channel 1", "cells: channel 2"]
    for channel, layer in enumerate(layers):
        np.testing.assert_array_equal(np.asarray(layer.data), STACK[:, channel])
        np.testing.assert_allclose(layer.scale, (2, 0.25, 0.25))
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
        assert layer.axis_labels == ("z", "y", "x")
    assert [layer.colormap.name for layer in layers] == ["magenta", "green"]


def test_a_stack_is_read_when_it_is_looked_at(hyperstack):
    data, _ = image_layers(hyperstack)[0]
    assert data.shape == (3, 6, 8)
    assert data.chunksize == (1, 6, 8)
    np.testing.assert_array_equal(np.asarray(data[1]), STACK[1, 0])


def test_an_rgb_picture_is_one_layer_in_memory(tmp_path):
    picture = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    tifffile.imwrite(tmp_path / "picture.tif", picture, photometric="rgb")
    [(data, keywords)] = image_layers(tmp_path / "picture.tif")
    assert isinstance(data, np.ndarray)
    layer = Image(data, **keywords)
    assert layer.rgb
    assert layer.name == "picture"
    np.testing.assert_array_equal(layer.data, picture)


def test_a_pyramid_keeps_its_levels(tmp_path):
    fine = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    with tifffile.TiffWriter(tmp_path / "slide.ome.tif") as tiff:
        tiff.write(fine, subifds=1, tile=(16, 16), metadata={"axes": "YX"})
        tiff.write(fine[::2, ::2], subfiletype=1, tile=(16, 16))
    [(data, keywords)] = image_layers(tmp_path / "slide.ome.tif")
    assert [level.shape for level in data] == [(64, 64), (32, 32)]
    layer = Image(data, **keywords)
    assert layer.multiscale
    np.testing.assert_array_equal(np.asarray(data[1]), fine[::2, ::2])


def test_what_is_no_image_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"notes\.txt"):
        image_layers(tmp_path / "notes.txt")


def dim():
    """Grey values of 10 to 59 in 8 bits, and one hot pixel."""
    image = np.tile(np.arange(10, 60, dtype=np.uint8), (50, 1))
    image[3, 4] = 255
    return image


@pytest.mark.parametrize("kind", ["plane", "stack", "pyramid", "float with gaps"])
def test_a_dim_image_is_shown_from_black_to_white(kind):
    data = {
        "plane": dim(),
        "stack": np.stack([np.zeros_like(dim()), dim(), 4 * dim()]),
        "pyramid": [np.repeat(np.repeat(dim(), 4, axis=0), 4, axis=1), dim()],
        "float with gaps": np.where(dim() == 30, np.nan, dim() / 100),
    }[kind]
    layer = Image(data, multiscale=kind == "pyramid")
    fit_contrast(layer)
    unit = 0.01 if kind == "float with gaps" else 1
    np.testing.assert_allclose(layer.contrast_limits, (10 * unit, 59 * unit), atol=unit)


def test_of_an_image_that_is_the_same_everywhere_or_in_colour_nothing_is_changed():
    for layer in (
        Image(np.full((20, 20), 7, np.uint8)),
        Image(np.full((20, 20), np.nan)),
        Image(np.arange(1200, dtype=np.uint8).reshape(20, 20, 3), rgb=True),
    ):
        before = list(layer.contrast_limits)
        fit_contrast(layer)
        assert list(layer.contrast_limits) == before


def test_objects_on_few_pixels_are_seen():
    """Where percentiles see the ground alone, what there is beside it is white."""
    image = np.zeros((300, 300), np.uint8)
    image[10:12, 10:12] = 9
    layer = Image(image)
    fit_contrast(layer)
    assert tuple(layer.contrast_limits) == (0, 9)
