from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image

from napari_unet.engine.events import InstancesFound, TilePredicted, WeightsComputed
from napari_unet.viewer.layers import (
    describe_image,
    file_stem,
    image_file,
    present_labels,
    result_role,
)
from napari_unet.viewer.planes import ImagePlanes, planes_of, why_not_usable
from napari_unet.viewer.result_layers import ResultLayers
from napari_unet.viewer.weight_preview import WeightLayer


def tile(rows, columns, value, classes=2):
    shape = (classes, rows.stop - rows.start, columns.stop - columns.start)
    probability = np.full(shape, (1 - value) / max(classes - 1, 1), np.float32)
    probability[-1] = value
    return TilePredicted((rows, columns), probability, 1, 1)


def test_without_an_image_the_reason_says_how_to_open_one():
    assert "Open an image" in why_not_usable(None)


@pytest.mark.parametrize(
    "data", [np.zeros((9, 9), bool), np.zeros((9, 9, 3), np.uint8), da.zeros((9, 9))]
)
def test_grey_rgb_and_lazy_images_can_be_used(data):
    layer = Image(data, name="mine", rgb=data.ndim == 3)
    assert why_not_usable(layer) is None
    assert describe_image(layer).startswith("mine: 9 rows x 9 columns")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_present_labels_leave_out_what_is_not_annotated(dtype):
    data = np.zeros((5, 5), dtype)
    data[0, 0], data[1, 1] = 1, 4
    assert present_labels(data) == {1, 4}


@pytest.mark.parametrize(
    ("name", "stem"), [("my cell [1]", "my_cell_1"), ("../../etc", "etc"), ("...", "image")]
)
def test_file_names_made_of_layer_names_are_safe(name, stem):
    assert file_stem(Image(np.zeros((2, 2)), name=name)) == stem


def test_the_pixel_size_is_kept_only_if_it_is_known():
    assert image_file(Image(np.zeros((2, 2)))).pixel_size is None
    known = image_file(Image(np.zeros((2, 2)), scale=(0.5, 0.25), units=("um", "um")))
    assert known.pixel_size == (0.5, 0.25)
    assert known.unit == "µm"


@pytest.fixture
def results(model_viewer):
    return ResultLayers(model_viewer, model_viewer.add_image(np.zeros((6, 8)), name="im"))


@pytest.fixture
def show(results, qtbot):
    """Show a tile, and wait for the layers that are added later."""

    def tile_and_layers(event):
        results.show_tile(event)
        qtbot.waitUntil(lambda: len(results.layers()) == len(event.probability) + 1)

    return tile_and_layers


def test_tiles_are_written_where_they_belong(results, show, model_viewer):
    show(tile(slice(0, 6), slice(0, 4), 0.9))
    assert not results.is_complete
    show(tile(slice(0, 6), slice(4, 8), 0.2))
    assert results.is_complete
    shown = model_viewer.layers["im: probability of class 2"].data
    assert np.allclose(shown[:, :4], 0.9)
    assert np.allclose(shown[:, 4:], 0.2)
    classes = model_viewer.layers["im: classes"].data
    assert (classes[:, :4] == 2).all()
    assert (classes[:, 4:] == 1).all()


def test_the_answer_is_seen_before_the_layers_that_are_hidden(results, show, model_viewer):
    results.show_tile(tile(slice(0, 6), slice(0, 4), 0.9))
    assert [layer.name for layer in model_viewer.layers] == ["im", "im: probability of class 2"]
    show(tile(slice(0, 6), slice(4, 8), 0.2))
    assert [layer.name for layer in model_viewer.layers] == [
        "im",
        "im: classes",
        "im: probability of class 1",
        "im: probability of class 2",
    ]
    assert [layer.visible for layer in model_viewer.layers] == [True, False, False, True]
    np.testing.assert_array_equal(model_viewer.layers["im: classes"].data[0], [2] * 4 + [1] * 4)


def test_what_was_not_predicted_has_no_class(results, show, model_viewer):
    show(tile(slice(0, 6), slice(0, 4), 0.9))
    np.testing.assert_array_equal(model_viewer.layers["im: classes"].data[0], [2] * 4 + [0] * 4)


def test_hidden_layers_of_an_image_that_was_removed_are_not_added(results, qtbot, model_viewer):
    results.show_tile(tile(slice(0, 6), slice(0, 8), 0.9))
    model_viewer.layers.clear()
    qtbot.wait(50)
    assert list(model_viewer.layers) == []


def test_hidden_layers_of_a_network_that_was_replaced_are_not_added(results, show, model_viewer):
    results.show_tile(tile(slice(0, 6), slice(0, 8), 0.9, classes=4))
    show(tile(slice(0, 6), slice(0, 8), 0.9))
    names = {layer.name for layer in model_viewer.layers}
    assert names == {"im", "im: classes", *(f"im: probability of class {n}" for n in (1, 2))}


def test_writing_results_is_no_painting(results, show, model_viewer):
    painted = []
    show(tile(slice(0, 6), slice(0, 8), 0.9))
    model_viewer.layers["im: classes"].events.paint.connect(painted.append)
    show(tile(slice(0, 6), slice(0, 8), 0.1))
    assert painted == []


def test_the_active_layer_stays_active(results, show, model_viewer):
    strokes = model_viewer.add_labels(np.zeros((6, 8), int))
    show(tile(slice(0, 6), slice(0, 8), 0.9))
    assert model_viewer.layers.selection.active is strokes
    assert model_viewer.layers[-1] is strokes


def test_another_number_of_classes_begins_anew(results, show, model_viewer):
    show(tile(slice(0, 6), slice(0, 8), 0.9))
    show(tile(slice(0, 6), slice(0, 8), 0.9, classes=3))
    names = [layer.name for layer in model_viewer.layers]
    assert names.count("im: classes") == 1
    assert "im: probability of class 3" in names


def test_layers_have_the_names_of_the_classes(results, show, model_viewer):
    results.class_names = ("background", "nuclei")
    show(tile(slice(0, 6), slice(0, 8), 0.9))
    assert "im: probability of nuclei" in model_viewer.layers
    show(tile(slice(0, 6), slice(0, 8), 0.9, classes=3))  # of another network
    assert "im: probability of class 3" in model_viewer.layers


def test_a_renamed_layer_is_still_known(results, show, model_viewer):
    show(tile(slice(0, 6), slice(0, 8), 0.9))
    count = len(model_viewer.layers)
    model_viewer.layers["im: classes"].name = "mine"
    show(tile(slice(0, 6), slice(0, 8), 0.1))
    assert len(model_viewer.layers) == count
    assert (model_viewer.layers["mine"].data == 1).all()


def test_instances_replace_earlier_ones(results, model_viewer):
    for count in (3, 5):
        results.show_instances(InstancesFound(np.full((6, 8), count, np.int32), count))
    layer = model_viewer.layers["im: instances"]
    assert (layer.data == 5).all()
    assert result_role(layer) == "instances"


def test_the_weight_map_is_shown_in_its_window(model_viewer):
    weights = WeightLayer(model_viewer, model_viewer.add_labels(np.zeros((6, 8), int), name="im"))
    window = (slice(1, 3), slice(2, 5))
    weights.show(WeightsComputed(window, np.full((2, 3), 7.0, np.float32)))
    layer = model_viewer.layers["im: weight map"]
    assert layer.data[1, 2] == 7
    assert layer.data[0, 0] == 0
    assert layer.contrast_limits[1] == 7
    weights.remove()
    assert "im: weight map" not in model_viewer.layers


def test_a_stack_and_a_pyramid_can_be_used_and_say_what_is_shown():
    stack = Image(np.zeros((2, 4, 9, 8)), name="stack")
    assert why_not_usable(stack) is None
    text = describe_image(stack, planes_of(stack), (1, 2))
    assert text == "stack: 9 rows x 8 columns, grey, float64; plane 2 of 2 / 3 of 4"
    pyramid = Image([np.zeros((16, 8)), np.zeros((8, 4))], multiscale=True, name="pyramid")
    assert why_not_usable(pyramid) is None
    assert "level 1 of 2" in describe_image(pyramid, planes_of(pyramid))


def test_a_coarser_level_lies_where_the_finest_one_does():
    fine = np.arange(64.0).reshape(8, 8)
    levels = [fine, fine[::2, ::2]]
    layer = Image(levels, multiscale=True, scale=(0.5, 2), translate=(10, 20))
    planes = ImagePlanes(layer, level=1)
    assert planes.shape == (4, 4)
    place = Image(levels[1], **planes.placement())
    # the outer corners are the same in the world
    np.testing.assert_allclose(place.data_to_world((-0.5, -0.5)), layer.data_to_world((-0.5, -0.5)))
    np.testing.assert_allclose(place.data_to_world((3.5, 3.5)), layer.data_to_world((7.5, 7.5)))
    _, at = planes.place(place.data_to_world((3, 1)))
    np.testing.assert_allclose(at, (3, 1))
    np.testing.assert_allclose(planes.world((), (3, 1)), place.data_to_world((3, 1)))


def test_a_plane_is_the_same_image_for_as_long_as_it_is_in_use():
    planes = planes_of(Image(np.arange(2 * 9 * 9.0).reshape(2, 9, 9)))
    first = planes.source((1,))
    assert planes.source((1,)) is first
    assert planes.index_of(first) == (1,)
    np.testing.assert_array_equal(first.data, np.arange(81, 162).reshape(9, 9))


def test_a_lazy_plane_is_read_when_the_engine_needs_it():
    read = []

    def block(block_info):
        read.append(block_info[None]["array-location"][0][0])
        return np.full((1, 9, 9), read[-1], np.float32)

    lazy = da.map_blocks(block, chunks=((1,) * 5, (9,), (9,)), dtype=np.float32, meta=np.zeros(()))
    layer = Image(lazy, contrast_limits=(0, 1))
    read.clear()
    source = planes_of(layer).source((3,))
    assert source.shape == (9, 9)
    assert read == []
    assert source.normalized.shape == (1, 9, 9)
    assert set(read) == {3}


def test_tiles_of_planes_are_written_where_they_belong(model_viewer):
    results = ResultLayers(model_viewer, model_viewer.add_image(np.zeros((3, 6, 8)), name="im"))
    results.show_tile(replace(tile(slice(0, 6), slice(0, 8), 0.9), plane=(2,)))
    shown = model_viewer.layers["im: probability of class 2"].data
    assert (shown[2] > 0.8).all()
    assert (shown[:2] == 0).all()
    assert not results.is_complete  # plane 0 is at hand
    results.plane = (2,)
    assert results.is_complete
    assert results.probability.shape == (2, 6, 8)
    results.show_tile(tile(slice(0, 6), slice(0, 8), 0.9))  # of an image without planes
    assert (shown[:2] == 0).all()
