import time

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.ops.annotations import draw_strokes
from napari_unet.ops.errors import InputError
from napari_unet.ops.instances import connected_instances
from napari_unet.ops.synthetic import random_strokes, touching_cells


class TestTouchingCells:
    def test_image_and_truth(self):
        image, instances = touching_cells((256, 300), cells=30)
        assert (image.dtype, instances.dtype) == (np.uint8, np.int32)
        assert image.shape == instances.shape == (256, 300)
        np.testing.assert_array_equal(np.unique(instances), np.arange(instances.max() + 1))
        assert 20 <= instances.max() <= 30

    def test_each_cell_is_one_piece(self):
        _, instances = touching_cells(seed=3)
        for number in range(1, instances.max() + 1):
            assert ndimage.label(instances == number)[1] == 1

    def test_cells_touch(self):
        _, instances = touching_cells()
        assert connected_instances(instances > 0, 0).max() < 0.5 * instances.max()

    def test_cells_are_brighter_than_background_but_not_saturated(self):
        image, instances = touching_cells()
        assert np.median(image[instances > 0]) > 2 * np.median(image[instances == 0])
        assert (image == 255).mean() < 0.01

    def test_seams_are_darker_than_cells(self):
        image, instances = touching_cells()
        highest = ndimage.maximum_filter(instances, 3)
        lowest = ndimage.minimum_filter(instances, 3)
        seam = (highest != lowest) & (lowest > 0)
        assert np.median(image[seam]) < 0.85 * np.median(image[instances > 0])

    def test_the_same_seed_gives_the_same_image(self):
        first, again, other = (touching_cells((90, 80), 9, seed=seed) for seed in (4, 4, 5))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert (first[0] != other[0]).any()

    def test_fast_enough_to_open_as_a_sample(self):
        start = time.perf_counter()
        touching_cells((512, 512), 60)
        assert time.perf_counter() - start < 5  # about 0.3 s on one core

    @pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (7, 300), (33, 20)])
    @pytest.mark.parametrize("cells", [0, 1, 5, 200])
    def test_any_shape_and_number(self, shape, cells):
        image, instances = touching_cells(shape, cells)
        assert image.shape == shape
        assert instances.max() <= cells

    @pytest.mark.parametrize(("shape", "cells"), [((0, 5), 1), ((5, 5), -1), ((5, 5, 5), 1)])
    def test_impossible_requests_are_refused(self, shape, cells):
        with pytest.raises(InputError, match="cannot draw"):
            touching_cells(shape, cells)


class TestRandomStrokes:
    @pytest.mark.parametrize("seed", range(3))
    def test_every_painted_pixel_has_the_right_label(self, seed):
        truth = (touching_cells((200, 200), 10, seed)[1] > 0).astype(np.uint8) + 1
        drawn = draw_strokes(random_strokes(truth, seed=seed), truth.shape)
        np.testing.assert_array_equal(drawn[drawn > 0], truth[drawn > 0])

    def test_as_many_strokes_as_asked_for_and_apart(self):
        truth = np.ones((200, 300), np.uint8)
        truth[:, 100:], truth[:, 200:] = 2, 3
        strokes = random_strokes(truth, per_class=4)
        assert [stroke.label for stroke in strokes] == [1] * 4 + [2] * 4 + [3] * 4
        drawn = draw_strokes(strokes, truth.shape)
        for label in (1, 2, 3):
            assert connected_instances(drawn == label, 0).max() == 4

    def test_length_and_radius(self):
        strokes = random_strokes(np.ones((300, 300), int), 20, length=(10, 12), radius=(1, 2))
        for stroke in strokes:
            assert 1 <= stroke.radius <= 2
            ways = np.hypot(*np.diff(stroke.points, axis=0).T)
            np.testing.assert_allclose(ways, 1, atol=0.02)
            assert len(ways) <= 12
        assert np.median([len(stroke.points) for stroke in strokes]) >= 10

    def test_strokes_stay_within_the_image(self):
        for stroke in random_strokes(np.ones((20, 20), int), 5):
            # The next pixels, at -1 and 20, would not be painted.
            assert np.min(stroke.points) - stroke.radius > -1
            assert np.max(stroke.points) + stroke.radius < 20

    def test_seeded(self):
        truth = np.ones((100, 100), int)
        assert random_strokes(truth, seed=1) == random_strokes(truth, seed=1)
        assert random_strokes(truth, seed=1) != random_strokes(truth, seed=2)

    def test_a_region_without_room_has_fewer_strokes(self):
        truth = np.zeros((40, 40), int)
        truth[5, 5] = 2
        truth[10:30, 10:14] = 1
        strokes = random_strokes(truth, per_class=30)
        assert {stroke.label for stroke in strokes} == {1}
        assert len(strokes) < 30
        assert random_strokes(np.zeros((4, 4), int)) == []
