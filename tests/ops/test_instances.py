import numpy as np
import pytest

from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import (
    class_labels,
    connected_instances,
    fill_holes,
    seeded_instances,
    watershed_instances,
)


def disc(shape, centre, radius):
    rows, columns = np.indices(shape)
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def two_touching_discs():
    shape = (40, 70)
    return disc(shape, (20, 20), 15) | disc(shape, (20, 47), 15)


class TestClassLabels:
    def test_the_most_probable_channel_wins(self):
        probability = np.array([[[0.2, 0.1, 0.5]], [[0.7, 0.1, 0.5]], [[0.1, 0.8, 0.0]]])
        labels = class_labels(probability)
        assert labels.dtype == np.uint8
        np.testing.assert_array_equal(labels, [[2, 3, 1]])

    @pytest.mark.parametrize("shape", [(4, 4), (0, 4, 4), (256, 1, 1)])
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(InputError, match="no probability map"):
            class_labels(np.zeros(shape))

    def test_nan_is_refused(self):
        with pytest.raises(InputError, match="NaN"):
            class_labels(np.full((2, 3, 3), np.nan))


class TestConnectedInstances:
    def test_regions_are_numbered_without_gaps(self):
        mask = np.zeros((20, 20), bool)
        mask[0:5, 0:5] = mask[10, 10] = mask[12:17, 2:7] = True
        labels = connected_instances(mask, min_size=16)
        assert labels.dtype == np.int32
        expected = np.zeros((20, 20), int)
        expected[0:5, 0:5], expected[12:17, 2:7] = 1, 2
        np.testing.assert_array_equal(labels, expected)

    @pytest.mark.parametrize(("min_size", "objects"), [(0, 2), (1, 2), (4, 2), (5, 1), (26, 0)])
    def test_minimum_size_is_the_smallest_that_stays(self, min_size, objects):
        mask = np.zeros((10, 10), np.uint8)
        mask[:5, :5] = mask[7:9, 7:9] = 1
        assert connected_instances(mask, min_size).max() == objects

    def test_corners_connect(self):
        assert connected_instances(np.eye(20, dtype=bool)).max() == 1


class TestWatershedInstances:
    def test_touching_discs_come_apart_at_the_neck(self):
        mask = two_touching_discs()
        labels = watershed_instances(mask.astype(np.float32))
        assert labels.dtype == np.int32
        assert labels.max() == 2
        np.testing.assert_array_equal(labels > 0, mask)
        # The neck lies midway between the centres, at column 33 or 34.
        assert (labels[:, :33][mask[:, :33]] == labels[20, 20]).mean() > 0.98
        assert (labels[:, 35:][mask[:, 35:]] == labels[20, 47]).mean() > 0.98
        assert connected_instances(mask).max() == 1

    def test_a_sag_of_the_probability_separates(self):
        probability = np.zeros((30, 60), np.float32)
        probability[5:25, 5:55] = 0.95
        assert watershed_instances(probability, seed_distance=20).max() == 1
        probability[5:25, 29:31] = 0.55
        assert watershed_instances(probability).max() == 2

    @pytest.mark.parametrize("angle", [0, 0.3, 0.8])
    def test_a_rod_stays_whole(self, angle):
        rows, columns = np.indices((120, 120)) - 60
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        rod = (abs(along) < 50) & (abs(across) < 6.5)
        assert watershed_instances(rod.astype(float)).max() == 1

    def test_every_region_is_found_however_thin(self):
        probability = np.zeros((30, 30), np.float32)
        probability[2, 2:28] = probability[10:28, 5] = 0.6  # lines one pixel wide
        probability[10:28, 15:25] = 1
        labels = watershed_instances(probability)
        np.testing.assert_array_equal(labels > 0, probability > 0)
        assert len({labels[2, 10], labels[20, 5], labels[20, 20]}) == 3

    def test_a_tail_that_hangs_on_by_corners_belongs_to_its_disc(self):
        mask = disc((50, 50), (15, 15), 10)
        mask[range(20, 40), range(20, 40)] = True
        np.testing.assert_array_equal(watershed_instances(mask), mask)

    def test_a_region_of_low_probability_is_found(self):
        probability = np.zeros((20, 30))
        probability[5, 2:28] = probability[15, 2:28] = 0.3
        labels = watershed_instances(probability, threshold=0.2)
        np.testing.assert_array_equal(labels[5, 2:28], 1)
        np.testing.assert_array_equal(labels[15, 2:28], 2)

    def test_numbers_have_no_gaps_and_no_small_objects(self, rng):
        probability = np.zeros((100, 100), np.float32)
        for row, column in rng.integers(0, 100, (40, 2)):
            probability[disc((100, 100), (row, column), rng.uniform(1, 8))] = 0.9
        sizes = np.bincount(watershed_instances(probability, min_size=30).ravel())
        assert len(sizes) > 5
        assert sizes[1:].min() >= 30

    @pytest.mark.parametrize("shape", [(20, 20), (1, 40), (40, 1), (5, 5)])
    def test_empty_and_full_images(self, shape):
        assert not watershed_instances(np.zeros(shape)).any()
        full = watershed_instances(np.ones(shape))
        np.testing.assert_array_equal(full, 1)

    def test_an_image_smaller_than_the_minimum_size_is_empty(self):
        assert not watershed_instances(np.ones((1, 1))).any()

    def test_threshold(self):
        probability = np.full((20, 20), 0.4)
        probability[:10] = 0.7
        assert (watershed_instances(probability) > 0).sum() == 200
        assert (watershed_instances(probability, threshold=0.4) > 0).all()
        assert not watershed_instances(probability, threshold=0.8).any()


@pytest.mark.parametrize("function", [connected_instances, watershed_instances])
@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((3, 3), np.nan), "NaN"),
        (np.full((3, 3), np.inf), "infinity"),
        (np.zeros((0, 3)), "one plane"),
        (np.zeros((2, 3, 3)), "one plane"),
        (np.zeros((3, 3), complex), "one plane"),
    ],
)
def test_unusable_arrays_are_refused(function, array, says):
    with pytest.raises(InputError, match=says):
        function(array)


@pytest.mark.parametrize(
    "parameters",
    [
        {"threshold": 0},
        {"threshold": 1.5},
        {"threshold": np.nan},
        {"min_size": -1},
        {"seed_distance": 0},
        {"seed_distance": np.nan},
    ],
)
def test_impossible_parameters_are_refused(parameters):
    with pytest.raises(InputError, match="choose"):
        watershed_instances(np.ones((4, 4)), **parameters)
    if "min_size" in parameters:
        with pytest.raises(InputError, match="choose"):
            connected_instances(np.ones((4, 4)), **parameters)


def sagging_pair():
    """Two discs whose probability sags between them, as border weights make it."""
    rows, columns = np.indices((40, 70))
    middles = np.maximum(
        1 - np.hypot(rows - 20, columns - 20) / 32, 1 - np.hypot(rows - 20, columns - 47) / 32
    )
    return np.where(two_touching_discs(), middles, 0).astype(np.float32)


class TestSeededInstances:
    def test_touching_objects_come_apart_where_the_probability_sags(self):
        probability = sagging_pair()
        assert connected_instances(probability >= 0.5).max() == 1
        labels = seeded_instances(probability, threshold=0.5, seed_threshold=0.8)
        assert labels.dtype == np.int32
        assert labels.max() == 2
        assert labels[20, 20] != labels[20, 47]
        # All of the foreground belongs to one of them.
        np.testing.assert_array_equal(labels > 0, probability >= 0.5)

    def test_the_interior_map_alone_decides_what_is_a_middle(self):
        foreground = two_touching_discs().astype(np.float32)
        assert seeded_instances(foreground).max() == 1
        assert seeded_instances(foreground, sagging_pair()).max() == 2

    def test_a_region_without_a_seed_is_an_object_of_its_own(self):
        probability = np.zeros((30, 60), np.float32)
        probability[5:15, 5:15], probability[5:15, 40:50] = 0.95, 0.6
        labels = seeded_instances(probability, threshold=0.5, seed_threshold=0.9)
        assert labels.max() == 2
        np.testing.assert_array_equal(labels > 0, probability > 0)

    def test_a_low_seed_threshold_gives_the_connected_regions(self):
        probability = sagging_pair()
        labels = seeded_instances(probability, threshold=0.5, seed_threshold=0.5, smoothing=0)
        np.testing.assert_array_equal(labels, connected_instances(probability >= 0.5))

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_nothing_and_everything(self, value):
        labels = seeded_instances(np.full((20, 20), value, np.float32))
        assert labels.max() == value

    @pytest.mark.parametrize(
        "wrong",
        [{"threshold": 0}, {"threshold": 1.1}, {"seed_threshold": np.nan}, {"min_size": -1}],
    )
    def test_parameters_out_of_range_are_refused(self, wrong):
        with pytest.raises(InputError, match="out of range"):
            seeded_instances(sagging_pair(), **wrong)

    def test_maps_of_different_images_are_refused(self):
        with pytest.raises(InputError, match="different images"):
            seeded_instances(np.zeros((4, 4)), np.zeros((4, 5)))


def as_labels(*rows):
    return np.array([[int(c) for c in row] for row in rows], np.int32)


def test_a_hole_belongs_to_the_object_around_it():
    ring = as_labels("000000", "011110", "010010", "011110", "000000")
    filled = as_labels("000000", "011110", "011110", "011110", "000000")
    np.testing.assert_array_equal(fill_holes(ring), filled)


def test_background_between_two_objects_or_at_the_frame_stays():
    between = as_labels("11122", "10002", "11222")
    np.testing.assert_array_equal(fill_holes(between), between)
    open_to_the_frame = as_labels("11011", "10001", "11111")
    np.testing.assert_array_equal(fill_holes(open_to_the_frame), open_to_the_frame)


def test_a_hole_that_reaches_the_outside_by_a_corner_alone_is_filled():
    ring = as_labels("0000", "0110", "1010", "1110", "0000")
    assert fill_holes(ring)[2, 1] == 1


def test_an_object_within_a_hole_keeps_its_pixels():
    inside = as_labels("1111111", "1000001", "1002001", "1000001", "1111111")
    np.testing.assert_array_equal(fill_holes(inside), inside)  # the hole touches two objects


def test_images_without_holes_or_objects_stay():
    for labels in (np.zeros((3, 4), np.int32), np.ones((3, 4), np.int32)):
        np.testing.assert_array_equal(fill_holes(labels), labels)
